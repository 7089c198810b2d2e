"""Pieces that the families share: masked pooling, convolutions, recurrence that padding cannot touch, the dense head.

Shapes: B rows in a batch, L tokens in its longest row, E embedding size, F feature size, C classes.
Masks are bool [B, L], true at real tokens. No output of a model depends on the padding of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from automl.models.embedding import drop_mask
from automl.space.families.shared import Activation, Pooling

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def token_mask(lengths: Tensor, longest: int) -> Tensor:
    """Bool [B, L], true at the first `lengths` [B] positions of each row."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


def without_padding(features: Tensor, mask: Tensor) -> Tensor:
    """Features [B, L, F] with zeros where `mask` [B, L] is false."""
    return features * mask.unsqueeze(-1)


def halve(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum around every second position: [B, L, F] and [B] to [B, ceil(L / 2), F] and [B], zero at padding.

    Windows of three, two apart, as DPCNN has them (Johnson and Zhang 2017, section 2).
    """
    mask = token_mask(lengths, features.shape[1]).unsqueeze(-1)
    masked = features.masked_fill(~mask, float("-inf")).transpose(1, 2)
    # In two dimensions, as the one-dimensional kernel for inference cannot be exported with lengths that vary.
    pooled = nn.functional.max_pool2d(masked.unsqueeze(2), (1, 3), stride=(1, 2), padding=(0, 1)).squeeze(2)
    pooled = pooled.transpose(1, 2)
    lengths = (lengths + 1) // 2
    return pooled.masked_fill(~token_mask(lengths, pooled.shape[1]).unsqueeze(-1), 0.0), lengths


def _is_autocast(inputs: Tensor) -> bool:
    """Whether operations on such inputs compute in fewer bits; what has no memory has no such mode."""
    return inputs.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(inputs.device.type)


class LockedDropout(nn.Module):
    """Dropout [B, L, F] of the same elements at every position of a row (Gal and Ghahramani 2016, section 4)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return features
        rows, _, size = features.shape
        return features * drop_mask((rows, 1, size), self.dropout, features)


class TokenConvolution(nn.Conv2d):
    """A convolution over positions, [B, L, E] to [B, L, C], zero beyond both ends; `causal` looks back only.

    Computed as a two-dimensional convolution of height 1, whose channels-last layout is just [B, L, E]: no
    transposed copies, 15 to 50 % less time for a step on a CPU than `Conv1d`.
    """

    def __init__(self, size: int, channels: int, kernel: int, *, dilation: int = 1, causal: bool = False) -> None:
        super().__init__(size, channels, (1, kernel), dilation=(1, dilation))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        around = (kernel - 1) * dilation
        self.before = around if causal else around // 2
        self.after = around - self.before

    def forward(self, vectors: Tensor) -> Tensor:
        padded = nn.functional.pad(vectors, (0, 0, self.before, self.after))
        return super().forward(padded.unsqueeze(1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).squeeze(1)


class TextConvolutions(nn.Module):
    """Convolutions of several widths side by side: [B, L, E] to [B, L, channels * widths]."""

    def __init__(self, size: int, channels: int, kernel_sizes: Sequence[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(TokenConvolution(size, channels, kernel) for kernel in kernel_sizes)
        self.features = channels * len(kernel_sizes)

    def forward(self, vectors: Tensor) -> Tensor:
        if _is_autocast(vectors):
            vectors = vectors.to(torch.get_autocast_dtype(vectors.device.type))  # once, not once for each width
        return torch.cat([convolution(vectors) for convolution in self.convolutions], dim=-1)


class MaskedPooling(nn.Module):
    """Features [B, L, F] and mask [B, L] to one vector a row [B, `width` * F]."""

    def __init__(self, kind: Pooling, features: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = 2 if kind == "max_mean" else 1
        self.score = nn.Linear(features, 1) if kind == "attention" else None

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        if self.score is not None:
            scores = self.score(features).squeeze(-1).masked_fill(~mask, float("-inf"))
            return _weighted_sum(scores.softmax(dim=1), features)
        pooled = []
        if self.kind != "mean":
            pooled.append(features.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1))
        if self.kind != "max":
            pooled.append(_weighted_sum(mask / mask.sum(dim=1, keepdim=True), features))
        return torch.cat(pooled, dim=1)


def _weighted_sum(weights: Tensor, features: Tensor) -> Tensor:
    """[B, L] and [B, L, F] to [B, F]; a padded position has weight 0 and finite features."""
    return torch.bmm(weights.unsqueeze(1).to(features.dtype), features).squeeze(1)


class Recurrence(nn.Module):
    """LSTM or GRU layers over [B, L, F] that give [B, L, hidden * directions], of the last layer's `hidden`.

    `hidden` is the units in each direction, of all layers or one number for each.

    Dropout between layers is the same at every position, and `recurrent_dropout` drops weights between states, the
    same in a whole step (Gal and Ghahramani 2016, section 4; Merity et al. 2018, section 2): the recurrence stays one
    fused operation. `layer_norm` normalises the states of each layer.

    The backward direction runs over rows reversed within their own length. So rows need no packing, which costs
    a quarter more time on a CPU and forbids compiling, and padding still never reaches an output.
    """

    def __init__(
        self,
        cell: Literal["lstm", "gru"],
        features: int,
        hidden: int | Sequence[int],
        layers: int,
        bidirectional: bool,
        dropout: float,
        *,
        recurrent_dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        make = nn.LSTM if cell == "lstm" else nn.GRU
        directions = 2 if bidirectional else 1
        units = [hidden] * layers if isinstance(hidden, int) else list(hidden)
        sizes = list(zip([features, *(unit * directions for unit in units)], units, strict=False))
        self.features = units[-1] * directions
        self.forwards = nn.ModuleList(make(width, unit, batch_first=True) for width, unit in sizes)
        self.backwards = nn.ModuleList(
            make(width, unit, batch_first=True) for width, unit in (sizes if bidirectional else [])
        )
        self.norms = nn.ModuleList(nn.LayerNorm(unit * directions) for unit in (units if layer_norm else []))
        self.dropout = LockedDropout(dropout)
        self.recurrent_dropout = recurrent_dropout

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        reverse = None
        if len(self.backwards):
            positions = torch.arange(inputs.shape[1], device=inputs.device)
            reverse = (lengths[:, None] - 1 - positions[None, :]).clamp(min=0).unsqueeze(-1)
        for layer, forwards in enumerate(self.forwards):
            if layer:
                inputs = self.dropout(inputs)
            outputs = self._run(forwards, inputs)
            if reverse is not None:
                backwards = self._run(self.backwards[layer], _reorder(inputs, reverse))
                outputs = torch.cat([outputs, _reorder(backwards, reverse)], dim=-1)
            inputs = self.norms[layer](outputs) if len(self.norms) else outputs
        return inputs

    def _run(self, recurrence: nn.Module, inputs: Tensor) -> Tensor:
        kind = inputs.device.type
        if _is_autocast(inputs) and _stays_in_float32(recurrence, kind):
            with torch.autocast(kind, enabled=False):
                return self._recur(recurrence, inputs.float())
        return self._recur(recurrence, inputs)

    def _recur(self, recurrence: nn.Module, inputs: Tensor) -> Tensor:
        outputs: Tensor
        if self.training and self.recurrent_dropout > 0:
            weight = recurrence.get_parameter("weight_hh_l0")
            kept = weight * drop_mask(tuple(weight.shape), self.recurrent_dropout, weight)
            outputs = torch.func.functional_call(recurrence, {"weight_hh_l0": kept}, (inputs,))[0]
        else:
            outputs = recurrence(inputs)[0]
        return outputs


def _stays_in_float32(recurrence: nn.Module, kind: str) -> bool:
    """Whether it gains nothing by bfloat16.

    On a CPU the steps of a GRU are too small for it. On a GPU PyTorch would use float16 whatever is asked for
    (aten/src/ATen/cudnn/AutocastRNN.cpp), in which small gradients vanish.
    """
    return kind == "cuda" or isinstance(recurrence, nn.GRU)


def _reorder(features: Tensor, order: Tensor) -> Tensor:
    return features.gather(1, order.expand(-1, -1, features.shape[-1]))


def last_states(outputs: Tensor, lengths: Tensor, bidirectional: bool) -> Tensor:
    """The state after a row's last token, and for the backward direction after its first: [B, F] from [B, L, F]."""
    rows = torch.arange(outputs.shape[0], device=outputs.device)
    last = outputs[rows, lengths - 1]
    if not bidirectional:
        return last
    hidden = outputs.shape[-1] // 2
    return torch.cat([last[:, :hidden], outputs[:, 0, hidden:]], dim=-1)


def dense_head(features: int, hidden: int, classes: int, activation: Activation, dropout: float) -> nn.Module:
    """[B, features] to logits [B, C], through one hidden layer where `hidden` is more than 0."""
    if hidden == 0:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes))
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features, hidden),
        ACTIVATIONS[activation](),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )
