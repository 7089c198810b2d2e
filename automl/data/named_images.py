"""The image files that a table names in its column of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from automl.data.columns import as_text, is_text
from automl.data.damaged import read_undamaged
from automl.data.image_paths import path_and_content
from automl.data.tables import column_names, read_batches


def named_images(table: Path, column: str, *, damaged: bool) -> Iterator[str]:
    """The paths in a column of images, as they stand there; none where it has the images themselves.

    Raises UserError where the table cannot be read; where it may be `damaged`, its other rows are read.
    """
    if column not in column_names(table, damaged=damaged):
        return
    batches = read_batches(table, [column])
    if damaged:
        batches = (batch for _, batch in read_undamaged(table, [column], lambda *_: None))
    for batch in batches:
        cells = as_text(batch.column(column))
        if pa.types.is_struct(cells.type) and {"bytes", "path"} <= {field.name for field in cells.type}:
            cells = pc.if_else(pc.is_null(cells.field("bytes")), cells.field("path"), None)
        if not is_text(cells.type):
            return
        for cell in cells.to_pylist():
            path, content = path_and_content(cell)
            if path is not None and content is None:
                yield path
