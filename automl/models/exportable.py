"""Networks in a form that can be exported with batches and texts of any length.

`torch.export` unrolls LSTM and GRU to the length of the example, so their steps are written here as a scan.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan


class Exportable(nn.Module):
    """Tokens int64 [B, L] (0 is padding) and lengths int64 [B] to probabilities float32 [B, C] at a temperature.

    `padding` positions are added to each row, for networks that cannot be exported for rows as short as one token.
    """

    def __init__(self, network: nn.Module, temperature: float, padding: int = 0) -> None:
        super().__init__()
        self.network = _scanned(copy.deepcopy(network).cpu().float().eval())
        self.requires_grad_(False)
        self.temperature = temperature
        self.padding = padding

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.padding:
            tokens = nn.functional.pad(tokens, (0, self.padding))
        logits: Tensor = self.network(tokens, lengths)
        return (logits / self.temperature).softmax(dim=1)


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
    for name, child in module.named_children():
        if isinstance(child, nn.LSTM | nn.GRU):
            setattr(module, name, _Scan(child))
        else:
            _scanned(child)
    return module


def export_program(network: nn.Module, temperature: float) -> torch.export.ExportedProgram:
    """The network as a program of `torch.export`, for any number of rows of any length from 1.

    Raises ValueError where its forward cannot be traced with lengths that vary.
    """
    tokens, lengths = torch.ones(3, 11, dtype=torch.int64), torch.tensor([11, 5, 2])
    shapes = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})
    reason = ""
    for padding in (0, 8, 64, 1024):
        try:
            module = Exportable(network, temperature, padding)
            program = torch.export.export(module, (tokens, lengths), dynamic_shapes=shapes, strict=False)
            program.module()(torch.ones(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64))
            return program
        except Exception as error:  # torch.export raises many kinds; a program refuses rows by an AssertionError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise ValueError(reason)
