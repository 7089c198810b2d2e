"""Data: read, checked, cleaned, tokenised, split, prepared once, and handed out in batches.

Names are imported when they are first asked for: reading a table needs no tokenizer, and preparing data no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl.data.batching import Batch, batches
    from automl.data.clean import clean_texts
    from automl.data.dense import DenseRows
    from automl.data.encode import Encoder, Rows, join_rows, load_encoder
    from automl.data.prepared import Prepared, prepare
    from automl.data.streaming import Streaming, choose_streaming

__all__ = [
    "Batch",
    "DenseRows",
    "Encoder",
    "Prepared",
    "Rows",
    "Streaming",
    "batches",
    "choose_streaming",
    "clean_texts",
    "join_rows",
    "load_encoder",
    "prepare",
]

_HOMES = {
    "Batch": "batching",
    "DenseRows": "dense",
    "Encoder": "encode",
    "Prepared": "prepared",
    "Rows": "encode",
    "Streaming": "streaming",
    "batches": "batching",
    "choose_streaming": "streaming",
    "clean_texts": "clean",
    "join_rows": "encode",
    "load_encoder": "encode",
    "prepare": "prepared",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
