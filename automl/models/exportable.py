"""Networks in a form that can be exported with batches of any number of rows, texts and series of any length.

`torch.export` unrolls LSTM and GRU to the length of the example, so their steps are written here as a scan. Several
networks, and a linear model, are one graph that gives the calibrated mean of their probabilities.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from automl.models.embedding import TokenEmbedding

LEAST = 1e-30  # a probability of 0 has no logarithm
ANY = torch.export.Dim.DYNAMIC


@dataclass(frozen=True)
class Port:
    """What one preparation of raw inputs gives: arrays that come into the graph together.

    text: tokens int64 [B, L] (0 is padding) and lengths int64 [B]. series: numbers float32 [B, L, *shape] (NaN is
    padding) and lengths. image: pixels uint8 [B, *shape]. terms: numbers int64 [B, K] of terms and their weights
    float32 [B, K], 0 where a row has fewer.
    """

    kind: Literal["text", "image", "series", "terms"]
    shape: tuple[int, ...] = ()

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Arrays of three rows."""
        if self.kind == "image":
            return (torch.zeros(3, *self.shape, dtype=torch.uint8),)
        if self.kind == "terms":
            return torch.zeros(3, 5, dtype=torch.int64), torch.ones(3, 5)
        lengths = torch.tensor([11, 5, 2])
        if self.kind == "series":
            return torch.ones(3, 11, *self.shape), lengths
        return torch.ones(3, 11, dtype=torch.int64), lengths

    @property
    def varying(self) -> tuple[dict[int, Any], ...]:
        """The dimensions of each array that may have any size."""
        both = {0: ANY, 1: ANY}
        return {"image": ({0: ANY},), "terms": (both, both)}.get(self.kind, (both, {0: ANY}))


@dataclass(frozen=True)
class Parts:
    """What a graph is made of: networks, each with the number of its port, and a linear model as a module, if any.

    The module takes the arrays of its port to probabilities float32 [B, C].
    """

    ports: tuple[Port, ...]
    networks: tuple[tuple[nn.Module, int], ...]
    linear: tuple[nn.Module, int] | None = None
    temperature: float = 1.0


class Exportable(nn.Module):
    """The arrays of all ports, one after another, to probabilities float32 [B, C] at a temperature.

    `padding` positions are added to each text or series, for networks that cannot be exported for rows as short as one.
    """

    def __init__(self, parts: Parts, padding: int = 0) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            _scanned(copy.deepcopy(network).cpu().float().eval()) for network, _ in parts.networks
        )
        self.linear = None if parts.linear is None else parts.linear[0]
        self.requires_grad_(False)
        self.parts = parts
        self.padding = padding

    def forward(self, *arrays: Tensor) -> Tensor:
        rows, start = [], 0
        for port in self.parts.ports:
            count = len(port.varying)
            rows.append(arrays[start : start + count])
            start += count
        given = [self._padded(port, some) for port, some in zip(self.parts.ports, rows, strict=True)]
        logits = [
            network(*given[place]) for network, (_, place) in zip(self.networks, self.parts.networks, strict=True)
        ]
        if len(logits) == 1 and self.linear is None:
            alone: Tensor = (logits[0] / self.parts.temperature).softmax(dim=1)
            return alone
        mean = torch.stack([each.softmax(dim=1) for each in logits]).mean(dim=0)
        if self.linear is not None and self.parts.linear is not None:
            mean = (mean + self.linear(*rows[self.parts.linear[1]])) / 2
        if self.parts.temperature == 1.0:
            return mean
        calibrated: Tensor = (mean.clamp(min=LEAST).log() / self.parts.temperature).softmax(dim=1)
        return calibrated

    def _padded(self, port: Port, arrays: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if port.kind == "image":
            (pixels,) = arrays
            return pixels, torch.full_like(pixels[:, 0, 0, 0], 1, dtype=torch.int64)  # which networks do not look at
        if port.kind == "terms" or not self.padding:
            return arrays
        values, lengths = arrays
        if port.kind == "text":
            return nn.functional.pad(values, (0, self.padding)), lengths
        return nn.functional.pad(values, (0, 0, 0, self.padding), value=float("nan")), lengths


class _OfTokens(Exportable):
    """The same of one port of texts, whose arrays have names."""

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(tokens, lengths)


class _Scan(nn.Module):
    """A layer of an LSTM or a GRU in one direction, from a state of zeros: [B, L, F] to [B, L, H]."""

    def __init__(self, cell: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        if cell.num_layers > 1 or cell.bidirectional or not cell.batch_first:
            raise ValueError("only single layers in one direction, with the batch first, can be exported")
        self.cell = cell
        self.lstm = isinstance(cell, nn.LSTM)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        cell = self.cell
        read = (inputs @ cell.weight_ih_l0.T + cell.bias_ih_l0).transpose(0, 1)  # type: ignore[operator]
        start = inputs.new_zeros(inputs.shape[0], cell.hidden_size)
        if self.lstm:
            _, states = scan(self._lstm, (start, start.clone()), read, dim=0)
        else:
            _, states = scan(self._gru, start, read, dim=0)
        return states.transpose(0, 1), None

    def _recur(self, state: Tensor) -> Tensor:
        found: Tensor = state @ self.cell.weight_hh_l0.T + self.cell.bias_hh_l0  # type: ignore[operator]
        return found

    def _lstm(self, carry: tuple[Tensor, Tensor], read: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        state, memory = carry
        enter, forget, new, leave = (read + self._recur(state)).chunk(4, 1)
        memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
        state = leave.sigmoid() * memory.tanh()
        return (state, memory), state.clone()

    def _gru(self, state: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        (reset, keep, new), (reset_state, keep_state, new_state) = read.chunk(3, 1), self._recur(state).chunk(3, 1)
        keep = (keep + keep_state).sigmoid()
        new = (new + (reset + reset_state).sigmoid() * new_state).tanh()
        state = (1 - keep) * new + keep * state
        return state, state.clone()


def _scanned(module: nn.Module) -> nn.Module:
    """The module, whose recurrent layers are scans, and whose numbers of n-grams are int64, as ONNX wants them."""
    if isinstance(module, TokenEmbedding) and module.ngrams is not None:
        module.subword_numbers = module.subword_numbers.long()  # type: ignore[operator]
    for name, child in module.named_children():
        if isinstance(child, nn.LSTM | nn.GRU):
            setattr(module, name, _Scan(child))
        else:
            _scanned(child)
    return module


def export_program(parts: Parts) -> torch.export.ExportedProgram:
    """The graph as a program of `torch.export`, for any number of rows of any length from 1.

    Raises ValueError where a forward cannot be traced with lengths that vary.
    """
    arrays = tuple(array for port in parts.ports for array in port.example)
    shapes: Any = tuple(sizes for port in parts.ports for sizes in port.varying)
    plain = [port.kind for port in parts.ports] == ["text"]
    least = tuple(_shortest(array, sizes) for array, sizes in zip(arrays, shapes, strict=True))
    reason = ""
    for padding in (0, 8, 64, 1024):
        try:
            module = (_OfTokens if plain else Exportable)(parts, padding)
            program = torch.export.export(module, arrays, dynamic_shapes=shapes if plain else (shapes,), strict=False)
            program.module()(*least)
            return program
        except Exception as error:  # torch.export raises many kinds; a program refuses rows by an AssertionError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise ValueError(reason)


def _shortest(array: Tensor, varying: dict[int, Any]) -> Tensor:
    """One row of length one."""
    shape = [1 if dimension in varying else size for dimension, size in enumerate(array.shape)]
    return torch.ones(shape, dtype=array.dtype)
