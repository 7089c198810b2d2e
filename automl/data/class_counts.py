"""How many rows each class has, looked up before any data is prepared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from automl.data.columns import label_column
from automl.data.image_folder import survey
from automl.data.tables import read_batches
from automl.space import UserError

MOST_ROWS = 1_000_000


def count_classes(paths: Sequence[Path], label: str) -> Counter[str] | None:
    """Rows of each class in tables with the column `label`, or in folders of images; rows without a class are none.

    None where there are more than a million rows, or the labels cannot be read: preparing the data says what is wrong.
    """
    counts: Counter[str] = Counter()
    try:
        for path in paths:
            if path.is_dir():
                counts.update(survey(path).classes)
                continue
            for batch in read_batches(path, [label]):
                labels = label_column(batch.column(0), str(path))
                found = {each["values"]: each["counts"] for each in pc.value_counts(labels).to_pylist()}
                counts.update({name: count for name, count in found.items() if name is not None})
                if counts.total() > MOST_ROWS:
                    return None
    except UserError:
        return None
    return Counter({name: count for name, count in counts.items() if name.strip()})
