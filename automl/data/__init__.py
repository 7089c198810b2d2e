"""Data: read, checked, cleaned, tokenised, split, prepared once, and handed out in batches."""

from automl.data.batches import Batch, batches
from automl.data.clean import clean_texts
from automl.data.encode import Encoder, Rows, load_encoder
from automl.data.prepared import Prepared, prepare

__all__ = ["Batch", "Encoder", "Prepared", "Rows", "batches", "clean_texts", "load_encoder", "prepare"]
