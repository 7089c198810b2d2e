"""A row at which anything is raised gets its error; the rows beside it get labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from automl.data.encode import Encoder
from automl.data.modalities import LONG_TEXT, MODALITIES, MOST_TEXT_BYTES
from automl.results.package import Model
from automl.results.predict import evaluate_file, predict_file
from automl.results.row_errors import isolate_failures
from automl.space import UserError
from automl.space.data_section import Clean


class PanicException(BaseException):
    """Named as PyO3 calls a panic in Rust, which is no Exception."""


RAISED = [PanicException("\x1b[31mindex out\nof range"), MemoryError(), ValueError("x" * 1000), RecursionError("deep")]


class Failing(Model):
    """Says `a` of everything, and raises at what holds `bad`."""

    def probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """See above."""
        for each in inputs:
            if (b"bad" if isinstance(each, bytes) else "bad") in each:
                raise RAISED[len(each) % len(RAISED)]
        return np.tile(np.array([0.75, 0.25], dtype=np.float32), (len(inputs), 1))


def failing(modality: str) -> Model:
    return Failing(("a", "b"), modality, "label", (), modality=MODALITIES[modality])


TEXTS = ["fine", "bad", "fine too", "bad.", "bad..", "x" * (MOST_TEXT_BYTES + 1), "bad...", None, "last"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_predict_labels_the_rows_beside_one_that_fails(tmp_path: Path, ending: str) -> None:
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    if ending == "jsonl":
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    elif ending == "csv":
        source.write_text("text,n\n" + "".join(f"{text or ''},1\n" for text in TEXTS), encoding="utf-8")
    else:
        pq.write_table(pa.table({"text": TEXTS}), source)
    assert predict_file(failing("text"), source, target) == 6
    if ending == "jsonl":
        found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    elif ending == "csv":
        lines = [line.rsplit(",", 4) for line in target.read_text(encoding="utf-8").splitlines()[1:]]
        found = [{"predicted_label": line[1] or None, "prediction_error": line[4] or None} for line in lines]
    else:
        found = pq.read_table(target).to_pylist()
    labels = [row["predicted_label"] for row in found]
    assert labels == ["a", None, "a", None, None, None, None, None, "a"]
    errors = [row["prediction_error"] for row in found]
    assert errors[0] is None and errors[5] == LONG_TEXT and errors[7] == "no text"
    for error in (errors[1], errors[3], errors[4], errors[6]):
        assert error.startswith("failed: ") and error.isprintable() and len(error) < 300
    assert {error.split()[1].rstrip(":") for error in errors if error and error.startswith("failed")} == {
        type(each).__name__ for each in RAISED
    }


def test_evaluate_skips_what_fails(tmp_path: Path) -> None:
    rows = [("fine", "a"), ("bad", "a"), ("fine", "b"), (None, "a"), ("bad.", "b"), ("fine", None)]
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), source)
    found = evaluate_file(failing("text"), str(source))
    assert (found["rows"], found["skipped"]) == (2, 4)
    assert found["metrics"]["accuracy"] == 0.5


@pytest.mark.parametrize("modality", ["image", "series"])
def test_what_reading_raises_concerns_one_row(modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = MODALITIES[modality]

    def read(column: pa.Array, place: str) -> Any:
        if "bad" in column.to_pylist():
            raise PanicException("no such thing")
        return column.cast(pa.large_string()), {}

    changed = type(kind)(**{**vars(kind), "read": read})
    monkeypatch.setitem(MODALITIES, modality, changed)
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({modality: ["one", "bad", "three"]}), source)
    model = Failing(("a", "b"), modality, "label", (), modality=changed)
    assert predict_file(model, source, target) == 1
    assert pq.read_table(target).column("prediction_error").to_pylist() == [
        None,
        "failed: PanicException: no such thing",
        None,
    ]


def test_users_mistakes_and_interrupts_go_through() -> None:
    for raised in (UserError("a mistake"), KeyboardInterrupt(), SystemExit()):

        def work(start: int, end: int, raised: BaseException = raised) -> int:
            raise raised

        with pytest.raises(type(raised)):
            list(isolate_failures(work, 3))


def test_a_text_that_the_tokenizer_cannot_take_has_the_error_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, _: object) -> None:
            pass

        def encode(self, texts: Sequence[str], most: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
            if "bad" in texts:
                raise PanicException("no such token")
            return np.ones(len(texts), np.int32), np.ones(len(texts), np.int64)

    monkeypatch.setattr("automl.data.encode.PieceEncoder", Broken)
    encoder = Encoder(Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1}, "<unk>")), Clean().model_dump(), 10)
    texts = ["one", "bad", "three"]
    found = list(isolate_failures(lambda start, end: encoder.encode(texts[start:end]), len(texts)))
    assert [(start, end, rows is None) for start, end, rows, _ in found] == [(0, 1, False), (1, 2, True), (2, 3, False)]
    assert "no such token" in str(found[1][3])


def test_parts_come_in_order_and_few_are_tried() -> None:
    tried = []

    def work(start: int, end: int) -> list[int]:
        tried.append((start, end))
        if start <= 700 < end:
            raise MemoryError
        return list(range(start, end))

    found = list(isolate_failures(work, 1024))
    assert [row for *_, rows, _ in found for row in rows or [700]] == list(range(1024))
    assert len(tried) == 21
    assert list(isolate_failures(work, 0)) == []
