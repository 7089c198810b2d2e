"""What the preparation cuts, drops or replaces is counted and shown with its setting."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from automl.data import prepare
from automl.data.counted import facts
from automl.profiling import profile_data
from automl.results.report_data import data_profile
from automl.space import parse
from automl.space.families import FAMILIES
from automl.training.run_files import Profile
from tests.data.settings import IMAGES, SERIES, TEXTS, settings_for

Found = dict[tuple[str, str], tuple[int, int, int | None]]
LABELS = ["no", "yes"]


def picture(seed: int, side: int, colour: bool = False) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(values).convert("RGB" if colour else "L").save(sink, format="PNG")
    return sink.getvalue()


def series(row: int, steps: int) -> list[float]:
    return [float(row + step) for step in range(steps)]


def write(path: Path, name: str, inputs: list[Any]) -> Path:
    pq.write_table(pa.table({name: inputs, "label": [LABELS[row % 2] for row in range(len(inputs))]}), path)
    return path


def wide(path: Path, inputs: list[list[float]]) -> Path:
    most = max(map(len, inputs))
    columns = {f"x{step}": [each[step] if step < len(each) else None for each in inputs] for step in range(most)}
    pq.write_table(pa.table({**columns, "label": [LABELS[row % 2] for row in range(len(inputs))]}), path)
    return path


def profile_of(tmp_path: Path, kind: dict[str, Any], train: list[Any], validation: list[Any]) -> dict[str, Any]:
    name = next(iter(kind))
    across = kind[name] == "x*"
    paths = [tmp_path / "train.parquet", tmp_path / "validation.parquet"]
    for path, inputs in zip(paths, (train, validation), strict=True):
        _ = wide(path, inputs) if across else write(path, name, inputs)
    data = settings_for(paths[0], kind, validation=[str(paths[1])])
    return prepare(data, seed=0, cache=tmp_path / "cache").profile


def found(profile: dict[str, Any]) -> Found:
    """Count, of how many, and the first row, by the setting and the words."""
    Profile.model_validate(profile)
    return {(each["setting"], each["what"]): (each["count"], each["of"], each["row"]) for each in profile["counted"]}


def said(profile: dict[str, Any]) -> list[str]:
    """All sentences, warnings first; each is shown once, by the report too."""
    sentences = [*profile["warnings"], *facts(profile)]
    of_report = dict(data_profile(profile).facts).get("Cut, dropped, replaced", "")
    assert all(fact in of_report for fact in facts(profile)) and len(set(sentences)) == len(sentences)
    return sentences


def texts(count: int, words: str = "one two three") -> list[str]:
    return [f"{words} w{row % 5}" for row in range(count)]


CUT: dict[str, tuple[dict[str, Any], list[Any], list[Any], Found]] = {
    "text": (
        {**TEXTS, "max_length": 4, "tokenizer": {"word": {"vocabulary": 9, "min_count": 2}}},
        [*texts(19), "one two three w1 w2 w3", "<b></b>", *texts(5)],
        ["one new words w1", *texts(8)],
        {
            ("max_length", "train texts are cut to 4 tokens"): (1, 26, 20),
            ("max_length", "tokens of train texts are dropped by that cut"): (2, 103, None),
            ("clean", "train texts have nothing left after the cleaning and are one unknown token"): (1, 26, 21),
        },
    ),
    "image": (
        {**IMAGES, "size": 8, "colour": "grey"},
        [*(picture(row, 8) for row in range(10)), picture(10, 9), picture(11, 8, colour=True)],
        [picture(row, 16) for row in range(20, 24)],
        {
            ("size", "train images are resized to 8 x 8"): (1, 12, 11),
            ("colour", "train images lose their colours"): (1, 12, 12),
            ("size", "validation images are resized to 8 x 8"): (4, 4, 1),
        },
    ),
    "series": (
        {**SERIES, "missing": "zero"},
        [*(series(row, 5000) for row in range(3)), series(3, 20_000), [1.0, float("nan"), 2.0], series(4, 4096)],
        [series(row, 4096) for row in range(6, 10)],
        {
            ("max_length", "train series are cut to 4,096 steps"): (4, 6, 1),
            ("max_length", "steps of train series are dropped by that cut"): (18_616, 39_099, None),
            ("missing", "numbers of train series are missing and replaced"): (1, 20_483, 5),
        },
    ),
    "wide series": (
        {"series": "x*", "max_length": 4},
        [series(row, 4 + (row == 7)) for row in range(12)],
        [series(row, 4) for row in range(20, 24)],
        {
            ("max_length", "train series are cut to 4 steps"): (1, 12, 8),
            ("max_length", "steps of train series are dropped by that cut"): (1, 49, None),
        },
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_dropped_or_replaced_is_counted_with_its_setting(name: str, tmp_path: Path) -> None:
    kind, train, validation, expected = CUT[name]
    profile = profile_of(tmp_path, kind, train, validation)
    there = found(profile)
    if name == "text":
        unknown = "tokens of validation texts are not in the vocabulary"
        expected = {**expected, ("tokenizer", unknown): (there["tokenizer", unknown][0], 36, None)}
        train_unknown = there.pop(("tokenizer", "tokens of train texts are not in the vocabulary"), None)
        assert there["tokenizer", unknown][0] >= 2 and (train_unknown is None or train_unknown[1] == 101)
    assert there == expected
    sentences = said(profile)
    for (setting, what), (count, of, _) in expected.items():
        assert sentences.count(f"{count:,} of {of:,} {what} ({setting})") == 1


NOTHING: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "text": (TEXTS, texts(25), texts(8, "two one")),
    "image": (IMAGES, [picture(row, 8) for row in range(12)], [picture(row, 8) for row in range(20, 24)]),
    "colour image": ({**IMAGES}, [picture(row, 8, colour=True) for row in range(12)], [picture(20, 8), picture(21, 8)]),
    "series": ({**SERIES, "missing": "mask"}, [series(row, 9) for row in range(12)], [series(20, 8), series(21, 9)]),
    "wide series": ({**SERIES, "series": "x*"}, [series(row, 6) for row in range(12)], [series(20, 6), series(21, 6)]),
}


@pytest.mark.parametrize("name", NOTHING)
def test_where_nothing_is_cut_nothing_is_said(name: str, tmp_path: Path) -> None:
    profile = profile_of(tmp_path, *NOTHING[name])
    assert profile["counted"] == [] and list(facts(profile)) == []
    assert not any("(" in each for each in profile["warnings"])
    assert "Cut, dropped, replaced" not in dict(data_profile(profile).facts)


def test_the_longest_hundredth_of_texts_is_a_fact_and_more_is_a_warning(tmp_path: Path) -> None:
    long = "one two three " * 10
    for count, warned in ((1, False), (5, True)):
        folder = tmp_path / str(count)
        folder.mkdir()
        profile = profile_of(folder, {**TEXTS, "max_length": 8}, [*texts(100 - count), *[long] * count], texts(8))
        sentence = f"{count} of 100 train texts are cut to 8 tokens (max_length)"
        assert (sentence in profile["warnings"]) is warned and (sentence in facts(profile)) is not warned


def test_rows_left_out_and_repeats_removed_name_their_settings(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "text,label\n" + "".join(f"word {row % 15},{LABELS[row % 15 % 2]}\n" for row in range(20)) + ",no\n"
    )
    data = settings_for(path, on_bad_rows="report", duplicates="remove", bad_rows_limit=0.5)
    profile = prepare(data, seed=0, cache=tmp_path / "cache").profile
    there = found(profile)
    assert there["on_bad_rows", f"rows of {path} are left out"] == (1, 21, 21)
    assert there["duplicates", "train rows are removed as repeats"] == (5, 20, None)


def test_automl_data_shows_each_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "t.parquet", "series", [series(row, 20_000 if row == 3 else 50) for row in range(24)])
    data = f"data: {{train: {path}, series: series}}"
    spec = parse(f"name: x\ntask: sequence_classification\n{data}\nmodel: {{sequence_cnn: {{}}}}\n", FAMILIES)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(profile_data(spec).as_text())
    shown = console.export_text()
    split = "train" if "train series are cut" in shown else "validation"
    assert shown.count(f"{split} series are cut to") == 1 and "(max_length)" in shown
