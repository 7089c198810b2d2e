"""What a model takes in Python: lists, arrays, columns and tables of several libraries; a lone input never."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from automl.results.package import Model, load_model
from automl.results.predict import predict_file
from automl.space import UserError
from tests.results.packages import a_picture, config_of, of_images, of_series, of_texts, write_package

TEXTS = ["a lovely flight", "an awful bag at the gate", "good"]
SERIES = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("given")
    parts = {"text": of_texts(folder), "image": of_images(folder), "series": of_series(folder)}
    return {name: load_model(write_package(folder / name, [part])) for name, part in parts.items()}


class Polars:
    """A column as polars has it: no array, `to_list` and a length."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def to_list(self) -> list[Any]:
        return self.values


FORMS: dict[str, Callable[[list[str]], Any]] = {
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "objects": lambda texts: np.array(texts, dtype=object),
    "one column": lambda texts: np.array(texts, dtype=object)[:, None],
    "series": pd.Series,
    "strings": lambda texts: pd.Series(texts, dtype="string", index=[5, 7, 9]),
    "category": lambda texts: pd.Series(texts, dtype="category"),
    "index": pd.Index,
    "frame": lambda texts: pd.DataFrame({"number": [1, 2, 3], "text": texts}),
    "one-column frame": lambda texts: pd.DataFrame({"whatever": texts}),
    "mapping": lambda texts: {"text": texts},
    "arrow": pa.array,
    "chunks": lambda texts: pa.chunked_array([texts[:1], texts[1:]]),
    "table": lambda texts: pa.table({"label": ["a", "b", "a"], "text": texts}),
    "batch": lambda texts: pa.record_batch({"text": texts, "label": ["a", "b", "a"]}),
    "polars": Polars,
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_come_in_many_forms(models: dict[str, Model], form: str) -> None:
    model = models["text"]
    wanted = model.predict_probabilities(TEXTS)
    np.testing.assert_allclose(model.predict_probabilities(FORMS[form](TEXTS)), wanted, atol=1e-6)
    assert [each.label for each in model.predict(FORMS[form](TEXTS))] == [each.label for each in model.predict(TEXTS)]


def test_images_come_in_many_forms(models: dict[str, Model], tmp_path: Path) -> None:
    model, files = models["image"], [a_picture(seed) for seed in range(3)]
    wanted = model.predict_probabilities(files)
    opened = [Image.open(io.BytesIO(each)) for each in files]
    pixels = [np.asarray(each) for each in opened]
    paths = [tmp_path / f"#1 [{number}]?.png" for number in range(3)]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    forms: list[Any] = [paths, map(str, paths), opened, [bytearray(each) for each in files], pa.array(files)]
    forms += [pixels, np.stack(pixels), torch.from_numpy(np.stack(pixels)), [each.tolist() for each in pixels]]
    forms += [pd.Series(files), pd.DataFrame({"image": files, "id": 1}), pd.DataFrame({"x": opened})]
    forms += [[{"bytes": each, "path": "nowhere"} for each in files], [{"path": str(each)} for each in paths]]
    for form in forms:
        np.testing.assert_allclose(model.predict_probabilities(form), wanted, atol=1e-6)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F", "LAB"):
        assert model.predict_probabilities([Image.new(mode, (9, 7))]).shape == (1, 2)


def test_series_come_in_many_forms(models: dict[str, Model], tmp_path: Path) -> None:
    model = models["series"]
    wanted = model.predict_probabilities(list(SERIES))
    forms: list[Any] = [SERIES, SERIES[:, :, None], SERIES.tolist(), list(map(tuple, SERIES.tolist()))]
    forms += [torch.from_numpy(SERIES), map(pd.Series, SERIES), pa.array(SERIES.tolist()), list(map(pa.array, SERIES))]
    forms += [pd.DataFrame({"series": list(SERIES), "label": "a"})]
    for form in forms:
        np.testing.assert_allclose(model.predict_probabilities(form), wanted, atol=1e-6)
    columns = {f"x{step}": SERIES[:, step] for step in range(12)}
    pq.write_table(pa.table({**columns, "label": ["a", "b", "a"]}), tmp_path / "t.parquet")
    text = f"name: x\ntask: sequence_classification\ndata: {{train: {tmp_path}/t.parquet, validation: "
    text += f'{tmp_path}/t.parquet, series: "x*"}}\nmodel: {{rnn: {{hidden: 4, layers: 1}}}}\n'
    wide = load_model(write_package(tmp_path / "wide", [config_of(text, tmp_path)]))
    wanted = wide.predict_probabilities(list(SERIES))
    mixed = pd.DataFrame({"label": "a", "other": 1.0, **dict(reversed(columns.items()))})
    np.testing.assert_allclose(wide.predict_probabilities(mixed), wanted, atol=1e-6)
    with pytest.raises(UserError, match="the table has no column that fits 'x"):
        wide.predict(pd.DataFrame({"y": [1.0]}))


LONE: list[tuple[str, Any]] = [
    ("text", "worth every penny"),
    ("text", np.array("worth every penny")),
    ("text", np.str_("worth")),
    ("text", b"worth"),
    ("text", 3),
    ("text", None),
    ("text", Path("x.csv")),
    ("image", a_picture(0)),
    ("image", "cat.png"),
    ("image", Path("cat.png")),
    ("image", Image.new("RGB", (4, 4))),
    ("image", np.zeros((8, 8))),
    ("image", np.zeros((8, 8, 3))),
    ("image", np.zeros((8, 8, 3)).tolist()[0]),
    ("series", [0.5, 1.0]),
    ("series", np.zeros(5)),
    ("series", np.zeros((5, 1))),
    ("series", pd.Series([0.5, 1.0])),
    ("series", "1,2"),
]


@pytest.mark.parametrize(("kind", "given"), LONE, ids=lambda value: type(value).__name__)
def test_a_lone_input_is_refused_in_a_sentence(models: dict[str, Model], kind: str, given: Any) -> None:
    with pytest.raises(UserError, match=f"^expected a list of {models[kind].modality.plural}, found "):
        models[kind].predict(given)


WRONG: list[tuple[str, Any, str]] = [
    ("text", ["good", None], r"input 1 is missing \(None\)"),
    ("text", pd.Series(["good", float("nan")]), r"input 1 is missing \(nan\)"),
    ("text", pd.Series(["good", pd.NA], dtype="string"), "input 1 is missing"),
    ("text", ["good", 3], "input 1 is int '3', expected text"),
    ("text", ["good", b"bad"], "input 1 is bytes, expected text"),
    ("text", [["good"]], "input 0 is list, expected text"),
    ("text", np.array([["a", "b"]]), r"expected one column of texts, found an array \[1, 2\]"),
    ("text", np.zeros(3), "input 0 is float64 '0.0', expected text"),
    ("text", {"good"}, "has no order"),
    ("text", pd.DataFrame({"txt": ["a"], "b": 1}), "the table has no column 'text'; did you mean 'txt'"),
    ("image", [a_picture(0), a_picture(1)[:60]], "input 1 cannot be used"),
    ("image", [a_picture(0), "no.png"], "input 1 cannot be used: no.png: No such file"),
    ("image", [a_picture(0), 3], "input 1 is int '3', expected an image"),
    ("image", [a_picture(0), np.zeros((3, 8, 8))], "input 1 cannot be used: it has 8 channels"),
    ("image", [None], "input 0 is missing"),
    ("series", [[1.0], [1.0, None]], "input 1 cannot be used: step 2 is None"),
    ("series", [SERIES[0], [float("nan"), 1.0]], "input 1 cannot be used: step 1 is nan"),
    ("series", [[10**400]], "input 0 cannot be used: step 1 is 1000"),
    ("series", [np.zeros((4, 2))], "input 0 cannot be used: it has 2 channels, expected 1"),
    ("series", [[[1.0, 2.0]]], "input 0 cannot be used: it has 2 channels, expected 1"),
    ("series", [[[[1.0]]]], "input 0 cannot be used"),
    ("series", ["[1, 2]"], "input 0 is str .*, expected a series"),
    ("series", [[]], "input 0 cannot be used"),
    ("series", [["a"]], "input 0 cannot be used: step 1 is a"),
]


@pytest.mark.parametrize(("kind", "given", "reason"), WRONG, ids=[f"{kind} {reason}" for kind, _, reason in WRONG])
def test_what_is_no_input_is_named(models: dict[str, Model], kind: str, given: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        models[kind].predict(given)


@pytest.mark.parametrize("missing", ["interpolate", "zero", "mask"])
@pytest.mark.parametrize("linear", [False, True])
def test_numbers_that_are_missing_are_filled_in_as_in_training(tmp_path: Path, missing: str, linear: bool) -> None:
    values = np.random.default_rng(0).normal(size=(40, 12)).tolist()
    pq.write_table(pa.table({"series": values, "label": ["a", "b"] * 20}), tmp_path / "t.parquet")
    text = f"name: x\ntask: sequence_classification\ndata: {{train: {tmp_path}/t.parquet, missing: {missing}}}\n"
    part = config_of(f"{text}model: {{rnn: {{hidden: 4, layers: 1}}}}\n", tmp_path)
    folder = write_package(tmp_path / "model", [part], linear=linear)
    if linear:  # alone, as where nothing that was searched is ahead of it
        config = (folder / "config.json").read_text().replace('"members": [', '"members": [], "was": [')
        (folder / "config.json").write_text(config)
    model = load_model(folder)
    assert model.modality.missing == missing and bool(model.members) is not linear
    gaps = [[1.0, None, 2.0], [1.0, float("nan"), 2.0], np.array([1.0, np.nan, 2.0]), pd.Series([1.0, None, 2.0])]
    found = model.predict_probabilities(gaps)
    np.testing.assert_allclose(found, found[:1].repeat(4, axis=0), atol=1e-6)
    pq.write_table(pa.table({"series": [[1.0, None, 2.0], [1.0, 2.0]]}), tmp_path / "in.parquet")
    assert predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    with pytest.raises(UserError, match="input 0 cannot be used"):
        model.predict([[10**400, None]])


@pytest.mark.parametrize(
    ("name", "lone"),
    [
        ("text", {"text": "worth every penny"}),
        ("text", {"whatever": np.array("worth every penny")}),
        ("text", {"text": None}),
        ("text", {"text": 5}),
        ("text", {"text": {"a": 1}}),
        ("image", {"image": b"bytes"}),
        ("image", {"image": "a.png"}),
    ],
)
def test_a_column_of_one_value_is_no_list(models: dict[str, Model], name: str, lone: dict[str, Any]) -> None:
    (column,) = lone
    with pytest.raises(UserError, match=f"^expected a list of {name}s in the column '{column}', found "):
        models[name].predict(lone)
