"""An arm of `prepare.py`: our preparation by processes, by none beside this one, or by Ray Data on a Ray of its own."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path

from automl.data import prepare
from automl.data.workers import workers
from automl.search.preparation import map_by_ray_data
from automl.search.ray_session import ray_session

CLEAN = {
    "fix_encoding": True,
    "strip_html": True,
    "urls": "replace",
    "user_names": "replace",
    "numbers": "keep",
    "lowercase": True,
}
WAYS = {
    "processes": (workers, nullcontext()),
    "alone": (lambda rows: nullcontext(map), nullcontext()),
    "ray": (lambda rows: nullcontext(map_by_ray_data), ray_session(None)),
}


def main(train: str, validation: str, output: str, figures: str, cores: str, way: str) -> None:
    """Prepare into `output` and write rows and vocabulary to `figures`."""
    data = {
        "train": [train],
        "validation": [validation],
        "test": None,
        "text": "text",
        "label": "label",
        "on_bad_rows": "report",
        "clean": CLEAN,
        "tokenizer": {"word": {"vocabulary": 20_000, "min_count": 2}},
        "max_length": "auto",
    }
    who, meanwhile = WAYS[way]
    with meanwhile:
        found = prepare(data, seed=0, cache=Path(output), workers=who)
    said = {"vocabulary": found.vocabulary, "rows": sum(found.profile["rows"].values())}
    Path(figures).write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
