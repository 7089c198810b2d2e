"""Train batches changed at random before each step, on the device, whole batches at a time.

All that is random comes from torch's generator, so it depends on the trial's seed and the epoch only. Shapes: B rows,
L steps or tokens, H by W pixels, C channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import TokenEmbedding
from automl.training.augment_images import change_images, paste_boxes
from automl.training.augment_series import Channels, cropped, filled, noisy, scaled, warped


@dataclass(frozen=True)
class Mix:
    """With mixup or cutmix, a row is a share `share` of itself and else of the row `partner` int64 [B] says.

    Words cannot be mixed but their vectors can: `of_vectors` says that the network has to do it (`mixing_vectors`).
    """

    partner: Tensor
    share: float
    of_vectors: bool = False

    def loss(self, with_own: Tensor, with_partners: Tensor) -> Tensor:
        """The mean loss of mixed rows from that with their own labels and that with their partners'."""
        return self.share * with_own + (1 - self.share) * with_partners


def augment(
    inputs: Tensor, lengths: Tensor, settings: Mapping[str, Any], channels: Channels | None = None
) -> tuple[Tensor, Tensor, Mix | None]:
    """Inputs and lengths as the section `augment` changes them, and what was mixed.

    Inputs are tokens int64 [B, L], images uint8 [B, H, W, C] (which become float32 where they are more than moved) or
    series float32 [B, L, C], NaN at padding and where a number is missing, whose `channels` are known of train.
    Settings that are not for such inputs have no effect; the file's reader refuses them.
    """
    strength = defaultdict(float, settings)
    if inputs.ndim == 2:
        return _mixed_texts(_swapped(inputs, lengths, strength["swap"]), lengths, strength["mixup"])
    if inputs.ndim == 4:
        inputs = change_images(inputs, strength)
        inputs = _noisy(_scaled(inputs, strength["scale"]), strength["noise"])
    else:
        channels = channels or Channels.of_batch(inputs)
        if any(strength.values()):
            inputs = filled(inputs, lengths, channels)
        inputs = warped(inputs, lengths, strength["warp"])
        inputs, lengths = cropped(inputs, lengths, strength["crop"])
        inputs = noisy(scaled(inputs, strength["scale"], channels), strength["noise"], channels)
    paste = strength["cutmix"] > 0 and inputs.ndim == 4
    if paste and (strength["mixup"] == 0 or torch.rand(()) < 0.5):  # of both, each batch has one
        partner = torch.randperm(len(inputs), device=inputs.device)
        inputs, share = paste_boxes(inputs, partner, _drawn_share(strength["cutmix"]))
        return inputs, lengths, Mix(partner, share)
    return _mixed(inputs, lengths, strength["mixup"])


@contextmanager
def mixing_vectors(module: nn.Module, mix: Mix | None) -> Iterator[None]:
    """Let the network mix the vectors of tokens in here, where `mix` asks for it (wordMixup, Guo et al. 2019)."""
    if mix is None or not mix.of_vectors:
        yield
        return
    partner, share = mix.partner, mix.share
    layers = [part for part in module.modules() if isinstance(part, TokenEmbedding)]
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, vectors: vectors[partner].lerp(vectors, share))
        for layer in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _swapped(tokens: Tensor, lengths: Tensor, share: float) -> Tensor:
    """A share of the tokens trades places with the next one (EDA's random swap, Wei and Zou 2019, of neighbours)."""
    if share == 0:
        return tokens
    places = torch.arange(tokens.shape[1], device=tokens.device)
    offset = int(torch.randint(2, ()))
    first = (places % 2 == offset) & (places[None, :] + 1 < lengths[:, None])  # the second of it is there too
    chosen = first & (torch.rand(tokens.shape, device=tokens.device) < share)
    second = torch.zeros_like(chosen)
    second[:, 1:] = chosen[:, :-1]
    return tokens.gather(1, places[None, :] + chosen.long() - second.long())


def _mixed_texts(tokens: Tensor, lengths: Tensor, alpha: float) -> tuple[Tensor, Tensor, Mix | None]:
    """What is to be mixed of texts; each is as long as the longer of the two, for padding has vectors of zeros."""
    if alpha == 0:
        return tokens, lengths, None
    partner = torch.randperm(len(tokens), device=tokens.device)
    return tokens, torch.maximum(lengths, lengths[partner]), Mix(partner, _drawn_share(alpha), of_vectors=True)


def _scaled(values: Tensor, share: float) -> Tensor:
    """The pixels of each image times one from 1 - share to 1 + share: its contrast."""
    if share == 0:
        return values
    factor = 1 + share * (2 * torch.rand(len(values), device=values.device) - 1)
    return values.float() * factor.reshape(-1, *[1] * (values.ndim - 1))


def _noisy(values: Tensor, share: float) -> Tensor:
    """Normal noise on every pixel, its deviation a share of that of the batch's pixels."""
    if share == 0:
        return values
    values = values.float()
    return values + share * values.std(correction=0) * torch.randn_like(values)


def _mixed(values: Tensor, lengths: Tensor, alpha: float) -> tuple[Tensor, Tensor, Mix | None]:
    """Each row mixed with another of the batch (mixup, Zhang et al. 2018); a series is as long as the shorter one."""
    if alpha == 0:
        return values, lengths, None
    share = _drawn_share(alpha)
    partner = torch.randperm(len(values), device=values.device)
    values = values.float()
    mixed = share * values + (1 - share) * values[partner]
    return mixed, torch.minimum(lengths, lengths[partner]), Mix(partner, share)


def _drawn_share(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
