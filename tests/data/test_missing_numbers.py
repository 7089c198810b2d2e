"""Numbers that a series lacks, and series of another number of channels: counted, or made good of as asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from automl.data import DenseRows, load_encoder, prepare
from automl.data.modalities import modality_of
from automl.data.sequences import MISSING, NO_NUMBERS, OTHER_CHANNELS, SequenceEncoder, filled_in
from automl.models import FAMILIES, build
from automl.results.input_rows import open_rows
from automl.results.package import load_model
from automl.results.predict import predict_file
from automl.space import UserError, parse, sample_configs
from automl.space.spec import tasks_of
from automl.training.lexicon import make_lexicon
from tests.data.settings import SERIES, settings_for
from tests.results.packages import config_of, write_package

NAN = float("nan")
FILLED = {
    "interpolate": [[1, 5], [2, 5], [3, 6], [3, 7]],
    "zero": [[1, 0], [0, 5], [3, 0], [0, 7]],
    "mask": [[1, NAN, 1, 0], [NAN, 5, 0, 1], [3, NAN, 1, 0], [NAN, 7, 0, 1]],
}


def gapped(rows: int = 24) -> list[Any]:
    made = np.random.default_rng(0).normal(3, 2, (rows, 9, 2))
    made[::3, 4, 0] = made[::4, :2, 1] = made[1, :, 1] = NAN
    return made.tolist()


def write(path: Path, series: list[Any]) -> Path:
    labels = ["a", "b"] * (len(series) // 2)
    if path.suffix == ".jsonl":
        rows = ({"series": each, "label": label} for each, label in zip(series, labels, strict=True))
        path.write_text("".join(json.dumps(row).replace("NaN", "null") + "\n" for row in rows))
    else:
        pq.write_table(pa.table({"series": series, "label": labels}), path)
    return path


@pytest.mark.parametrize("missing", list(FILLED))
def test_what_is_filled_in(missing: str) -> None:
    lacking = np.array([[1, NAN], [NAN, 5], [3, NAN], [NAN, 7]], np.float32)
    np.testing.assert_array_equal(filled_in(lacking, missing), np.array(FILLED[missing], np.float32))


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("missing", MISSING)
def test_missing_numbers_are_done_about_in_training_and_prediction_alike(
    missing: str, ending: str, tmp_path: Path
) -> None:
    train = write(tmp_path / f"t.{ending}", gapped())
    settings = settings_for(train, SERIES, on_bad_rows="report", missing=missing)
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    (file,) = prepared.profile["files"].values()
    lacking = sum(np.isnan(each).any() for each in gapped())
    assert file["counts"] == ({NO_NUMBERS: lacking} if missing == "drop" else {})
    encoder = load_encoder(prepared.path)
    assert isinstance(encoder, SequenceEncoder) and encoder.missing == missing
    rows, inputs = prepared.rows("train"), prepared.inputs("train")
    assert isinstance(rows, DenseRows) and inputs is not None and np.isfinite(prepared.profile["deviation"]).all()
    np.testing.assert_array_equal(encoder.encode(inputs).values, rows.values)
    _, windows = open_rows(train, "series", modality_of(settings))
    errors = [error for window in windows for error in window.errors]
    assert sum(error is not None for error in errors) == (lacking if missing == "drop" else 0)


@pytest.mark.parametrize("missing", ["interpolate", "zero", "mask"])
@pytest.mark.parametrize(
    "name", sorted(each for each in FAMILIES if "sequence_classification" in tasks_of(FAMILIES[each]))
)
def test_no_network_takes_a_missing_number_for_padding(name: str, missing: str, tmp_path: Path) -> None:
    prepared = prepare(
        settings_for(write(tmp_path / "t.parquet", gapped()), SERIES, missing=missing), seed=0, cache=tmp_path
    )
    rows = prepared.rows("train")
    assert isinstance(rows, DenseRows)
    text = f"name: x\ntask: sequence_classification\ndata: {{train: t}}\nmodel: {{{name}: {{}}}}\n"
    model = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]["model"]
    torch.manual_seed(0)
    module = build(model, vocabulary=0, classes=2, lexicon=make_lexicon(model, prepared)[0]).eval()
    values, lengths = torch.from_numpy(rows.values.copy()), torch.from_numpy(rows.lengths)
    with torch.no_grad():
        said = module(values, lengths)
        assert said.isfinite().all()
        mean = torch.tensor(prepared.profile["mean"])
        torch.testing.assert_close(
            module(torch.where(values.isnan(), mean, values), lengths), said, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("missing", ["drop", "interpolate", "zero", "mask"])
def test_a_packed_model_fills_in_too(missing: str, tmp_path: Path) -> None:
    train = write(tmp_path / "t.parquet", gapped())
    model = "{sequence_cnn: {channels: 4, kernel_sizes: [3], blocks: 1, normalisation: none}}"
    data = f"{{train: {train}, on_bad_rows: report, missing: {missing}}}"
    text = f"name: x\ntask: sequence_classification\ndata: {data}\nmodel: {model}\n"
    package = write_package(tmp_path / "package", [config_of(text, tmp_path)], linear=True)
    write(tmp_path / "rows.jsonl", gapped())
    lacking = sum(np.isnan(each).any() for each in gapped())
    skipped = predict_file(load_model(package), tmp_path / "rows.jsonl", tmp_path / "said.jsonl")
    assert skipped == (lacking if missing == "drop" else 0)


def test_gaps_in_a_wide_table_are_filled_in_and_words_are_not(tmp_path: Path) -> None:
    lines = "label,x0,x1,x2\n" + "a,1,2,3\nb,1,2,4\n" * 4 + "a,1,,3\na,1,NA,3\nb,1,two,3\nb,,,\nb,inf,1,2\n"
    (tmp_path / "t.csv").write_text(lines)
    settings = settings_for(tmp_path / "t.csv", {**SERIES, "series": "x*"}, on_bad_rows="report", missing="interpolate")
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    (file,) = prepared.profile["files"].values()
    assert file["counts"] == {"no series": 1, NO_NUMBERS: 2}
    _, windows = open_rows(tmp_path / "t.csv", "x*", modality_of(settings), ["label"])
    assert [error for window in windows for error in window.errors if error] == [NO_NUMBERS, "no series", NO_NUMBERS]


@pytest.mark.parametrize("odd", [0, 5])
def test_a_series_of_another_number_of_channels_is_a_bad_row(odd: int, tmp_path: Path) -> None:
    series: list[Any] = [[[float(row), 1.0]] * 4 for row in range(12)]
    series[odd] = [[1.0, 2.0, 3.0]] * 4
    train, test = write(tmp_path / "t.jsonl", series), write(tmp_path / "test.jsonl", series[:2] + [[1.0, 2.0]] * 2)
    with pytest.raises(UserError, match=f"1 with {OTHER_CHANNELS} in column 'series' \\(line {odd + 1}\\)"):
        prepare(settings_for(train, SERIES), seed=0, cache=tmp_path / "cache")
    settings = settings_for(train, SERIES, on_bad_rows="report", test=[str(test)])
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    assert prepared.profile["shape"] == [4, 2]
    counts = [file["counts"] for file in prepared.profile["files"].values()]
    assert counts == [{OTHER_CHANNELS: 1}, {OTHER_CHANNELS: 2 + (odd < 2)}]


def test_what_missing_may_be() -> None:
    text = "name: a\ntask: sequence_classification\ndata: {train: t.csv, missing: guess}\nmodel: {tcn: {}}\n"
    with pytest.raises(UserError, match="missing"):
        parse(text, FAMILIES)
