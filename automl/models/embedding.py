"""From tokens to vectors: learned, read from a file of pretrained vectors, or put together from a word's n-grams.

Shapes: B rows in a batch, L tokens in its longest row, V tokens in the vocabulary, E features of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Lexicon:
    """What is known of the inputs before training; `lexicon_of` finds it again in a network's weights.

    vectors float32 [V, D], where a family's settings ask for `vectors`. subwords int32 [V, N], where they ask for
    `subwords`: the numbers of a word's n-grams from 1 to the buckets, and 0 where it has no more. mean and deviation
    float32 [channels], of images and series: those of the train rows, of images in parts of 255.
    """

    vectors: Tensor | None = None
    subwords: Tensor | None = None
    mean: Tensor | None = None
    deviation: Tensor | None = None


NOTHING_KNOWN = Lexicon()


def lexicon_of(weights: Mapping[str, Tensor]) -> Lexicon:
    """The lexicon that a network with these weights (its `state_dict`) was built with, as far as shapes matter."""
    vectors = weights.get("embedding.frozen.weight", weights.get("embedding.tuned.weight"))
    place = "standardise" if "standardise.mean" in weights else "embedding.standardise"
    mean, deviation = weights.get(f"{place}.mean"), weights.get(f"{place}.deviation")
    return Lexicon(vectors, weights.get("embedding.subword_numbers"), mean, deviation)


class TokenEmbedding(nn.Module):
    """Token ids [B, L] to vectors [B, L, `features`]; padding is zero.

    Pretrained vectors, frozen, tuned or both (the two channels of Kim 2014, section 3.1, here with filters of their
    own), stand beside the learned ones. Learned ones with subwords are the mean of the word's own vector and those of
    its n-grams (Bojanowski et al. 2017, section 3.2, who take the sum).

    In training a share of the tokens is dropped whole (each occurrence on its own), and of a row's vectors the same
    share of elements at every position (Gal and Ghahramani 2016, section 4, who drop word types), which also costs
    less than a mask for every element.
    """

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, lexicon: Lexicon) -> None:
        super().__init__()
        size = settings["embedding"]
        self.embedding = _learned(vocabulary, size) if size else None
        self.frozen: nn.Embedding | None = None
        self.tuned: nn.Embedding | None = None
        self.ngrams: nn.Embedding | None = None
        self.features: int = size
        vectors, subwords = settings.get("vectors"), settings.get("subwords")
        if vectors is not None:
            if lexicon.vectors is None:
                raise ValueError("the settings ask for vectors and the lexicon has none")
            if vectors["use"] != "tuned":
                self.frozen = _pretrained(lexicon.vectors, freeze=True)
            if vectors["use"] != "frozen":
                self.tuned = _pretrained(lexicon.vectors, freeze=False)
            self.features += lexicon.vectors.shape[1] * (2 if vectors["use"] == "two_channels" else 1)
        if subwords is not None and size:
            if lexicon.subwords is None:
                raise ValueError("the settings ask for subwords and the lexicon has none")
            self.ngrams = _learned(subwords["buckets"] + 1, size)
            self.register_buffer("subword_numbers", lexicon.subwords.clone())
        self.token_dropout: float = settings["token_dropout"]
        self.dropout: float = settings["dropout"]

    def forward(self, tokens: Tensor) -> Tensor:
        parts = [part(tokens) for part in (self.frozen, self.tuned) if part is not None]
        if self.embedding is not None:
            learned: Tensor = self.embedding(tokens)
            parts.append(learned if self.ngrams is None else self._with_ngrams(learned, tokens, self.ngrams))
        vectors = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if not self.training:
            return vectors
        rows, longest, size = vectors.shape
        keep_tokens = drop_mask((rows, longest, 1), self.token_dropout, vectors)
        keep_elements = drop_mask((rows, 1, size), self.dropout, vectors)
        return vectors * (keep_tokens * keep_elements)

    def _with_ngrams(self, words: Tensor, tokens: Tensor, ngrams: nn.Embedding) -> Tensor:
        numbers = self.subword_numbers[tokens]  # type: ignore[index]
        total = nn.functional.embedding_bag(numbers.flatten(0, 1), ngrams.weight, mode="sum", padding_idx=0).view_as(
            words
        )
        count = (numbers > 0).sum(dim=-1, keepdim=True)
        return (words + total) / (1 + count)


class Standardise(nn.Module):
    """Values [..., C] to float32 with the train rows' mean 0 and deviation 1; 0 at padding, which is NaN.

    `scale` divides whole numbers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, lexicon: Lexicon, scale: float = 1.0) -> None:
        super().__init__()
        if lexicon.mean is None or lexicon.deviation is None:
            raise ValueError("the mean and deviation of each channel are needed")
        self.channels: int = lexicon.mean.shape[0]
        self.scale = scale
        self.register_buffer("mean", lexicon.mean.clone())
        self.register_buffer("deviation", lexicon.deviation.clone())

    def forward(self, values: Tensor) -> Tensor:
        standard = (values.float() / self.scale - self.mean) / self.deviation
        return standard.nan_to_num(0.0) if values.is_floating_point() else standard


class SeriesProjection(nn.Module):
    """Series [B, L, C], NaN at padding, to vectors [B, L, `features`], zero there: what an embedding is to tokens.

    In training, steps and elements are dropped as `TokenEmbedding` drops tokens and elements.
    """

    def __init__(self, settings: Mapping[str, Any], lexicon: Lexicon) -> None:
        super().__init__()
        self.standardise = Standardise(lexicon)
        self.features: int = settings["embedding"]
        self.projection = nn.Linear(self.standardise.channels, self.features)
        self.token_dropout: float = settings["token_dropout"]
        self.dropout: float = settings["dropout"]

    def forward(self, series: Tensor) -> Tensor:
        there = ~series.isnan().all(dim=-1, keepdim=True)
        vectors: Tensor = self.projection(self.standardise(series)) * there
        if not self.training:
            return vectors
        rows, longest, size = vectors.shape
        keep_steps = drop_mask((rows, longest, 1), self.token_dropout, vectors)
        return vectors * (keep_steps * drop_mask((rows, 1, size), self.dropout, vectors))


def input_layer(settings: Mapping[str, Any], vocabulary: int, lexicon: Lexicon) -> TokenEmbedding | SeriesProjection:
    """What turns rows into vectors: of series where the lexicon has statistics, else of tokens."""
    return (
        TokenEmbedding(settings, vocabulary, lexicon) if lexicon.mean is None else SeriesProjection(settings, lexicon)
    )


def _learned(vocabulary: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(vocabulary, size, padding_idx=0)
    nn.init.normal_(embedding.weight, std=size**-0.5)
    with torch.no_grad():
        embedding.weight[0].zero_()
    return embedding


def _pretrained(vectors: Tensor, *, freeze: bool) -> nn.Embedding:
    words, size = vectors.shape
    embedding = nn.Embedding(words, size, padding_idx=0, _weight=vectors.clone())
    embedding.weight.requires_grad_(not freeze)
    return embedding


def drop_mask(shape: tuple[int, ...], dropout: float, like: Tensor) -> Tensor:
    """A mask of zeros, a share `dropout` of it, and else 1 / (1 - dropout)."""
    return (torch.rand(shape, device=like.device) >= dropout).to(like.dtype) / (1.0 - dropout)
