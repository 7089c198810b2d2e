"""Networks whose weights get no first values, as they will be replaced or are not there at all."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Unfilled(TorchFunctionMode):
    """Within it tensors keep whatever is in them where they would be filled with first values.

    On the `meta` device there is nothing to fill; to find that out PyTorch imports its compiler, which takes seconds.
    """

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if function in _FILLS:
            return arguments[0] if arguments else named["tensor"]
        return function(*arguments, **(named or {}))


_FILLS = frozenset(
    [
        *(fill for name, fill in vars(nn.init).items() if name.endswith("_") and callable(fill)),
        *(getattr(Tensor, name) for name in ("bernoulli_", "exponential_", "fill_", "normal_", "uniform_", "zero_")),
    ]
)
