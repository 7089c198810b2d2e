"""From files to prepared rows: what is read, what is refused and how it is said, and that it is done once."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl.data import prepare
from automl.data.examples import write_tweets
from automl.space import UserError
from tests.data.settings import rows, settings_for


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(content)
    match path.name.split(".", 1)[1]:
        case "parquet":
            pq.write_table(table, path)
        case "arrow":
            pa.feather.write_feather(table, path)
        case "csv" | "csv.gz":
            text = "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in content)
            path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz", "t.jsonl", "t.arrow"])
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    prepared = prepare(settings_for(write(tmp_path / name, rows())), seed=0, cache=tmp_path / "cache")
    assert prepared.classes == ("no", "yes")
    assert prepared.profile["rows"] == {"train": 30, "validation": 10}
    texts = (prepared.texts("train") or []) + (prepared.texts("validation") or [])
    assert sorted(texts) == sorted(row["text"] for row in rows())


def test_a_cache_that_is_made_is_its_users_alone(tmp_path: Path) -> None:
    data = settings_for(write(tmp_path / "t.csv", rows()))
    (tmp_path / "for all").mkdir()
    (tmp_path / "for all").chmod(0o775)
    modes = {}
    for name in ("own", "for all"):
        prepare(data, seed=0, cache=tmp_path / name)
        modes[name] = stat.S_IMODE((tmp_path / name).stat().st_mode)
    assert modes == {"own": 0o700, "for all": 0o775}


def test_a_fraction_is_split_by_class_without_overlap(tmp_path: Path) -> None:
    data = settings_for(write(tmp_path / "t.csv", rows(80)))
    first, other = (prepare(data, seed=seed, cache=tmp_path / "cache") for seed in (0, 1))
    assert first.profile["classes"] == {"train": {"no": 45, "yes": 15}, "validation": {"no": 15, "yes": 5}}
    train, validation = first.texts("train"), first.texts("validation")
    assert train is not None and validation is not None and not set(train) & set(validation)
    assert first.texts("validation") != other.texts("validation")
    for split in ("train", "validation"):
        labels = [first.classes[number] for number in first.labels(split)]
        by_text = {row["text"]: row["label"] for row in rows(80)}
        assert labels == [by_text[text] for text in first.texts(split) or []]


def test_the_vocabulary_is_fitted_on_train_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows())
    write(tmp_path / "other.csv", [{"text": "unheard words here", "label": "no"}])
    data = settings_for(tmp_path / "train.csv", validation=[str(tmp_path / "other.csv")])
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    validation = prepared.rows("validation")
    assert validation is not None and validation.tokens.tolist() == [1, 1, 1]
    assert "unheard" not in prepared.encoder().tokenizer.get_vocab()
    train = prepared.rows("train")
    assert train is not None and train.tokens.min() >= 2 and train.tokens.max() < prepared.vocabulary


def test_an_encoder_that_was_saved_encodes_alike(tmp_path: Path) -> None:
    for tokenizer in (
        {"word": {"vocabulary": 100, "min_count": 1}},
        {"char": {"vocabulary": 50}},
        {"bpe": {"vocabulary": 400}},
        {"unigram": {"vocabulary": 100}},
    ):
        prepared = prepare(
            settings_for(write(tmp_path / "t.csv", rows()), tokenizer=tokenizer), seed=0, cache=tmp_path / "cache"
        )
        train = prepared.rows("train")
        again = prepared.encoder().encode(prepared.texts("train") or [])
        assert train is not None
        assert np.array_equal(again.tokens, train.tokens) and np.array_equal(again.offsets, train.offsets)
        assert prepared.encoder().encode(["", "   "]).tokens.tolist() == [1, 1]


def test_numeric_labels_keep_their_order(tmp_path: Path) -> None:
    content = [{"text": f"a{number}", "label": (2, 10, 1)[number % 3]} for number in range(30)]
    prepared = prepare(settings_for(write(tmp_path / "t.parquet", content)), seed=0, cache=tmp_path / "cache")
    assert prepared.classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ("text,label\n", {}, "has no rows"),
        ("", {}, "has no rows"),
        ("txt,label\na,b\n", {}, "has no column 'text'; did you mean 'txt'?"),
        ("text,label\na,x\nb,x\n", {}, "one class only: 'x'"),
        (
            "text,label\na,x\n,y\nc,\n",
            {},
            "1 with no text in column 'text' (line 3); 1 with no label in column 'label' (line 4)",
        ),
        ("text,label\n,\n,\n", {"on_bad_rows": "report"}, "no usable row"),
        ("text,label\na,x\nb,y,z\n", {}, "cannot read"),
        ('text,label\n"a,x\n', {}, "cannot read"),
        (b"text,label\ncaf\xe9,x\nb,y\n", {}, "line 2 is not UTF-8 text (byte 0xe9)"),
    ],
)
def test_a_csv_that_cannot_be_learned_from(content: str | bytes, changes: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        prepare(settings_for(tmp_path / "t.csv", **changes), seed=0, cache=tmp_path / "cache")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").glob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"text": [1, 2], "label": ["a", "b"]}, "column 'text' holds int64, expected text"),
        ({"text": ["a", "b"], "label": [0.5, 1.5]}, "holds fractions, expected labels"),
        ({"text": ["a", "b"], "label": [[1], [2]]}, "expected labels: text or whole numbers"),
        ({"text": ["a", "b", "c"], "label": [1.0, float("nan"), 2.0]}, "1 with no label"),
        ({"text": ["a", None, "c"], "label": [1, 2, None]}, "1 with no text"),
        ({"text": [None, None], "label": [1, 2]}, "2 with no text"),
    ],
)
def test_columns_of_the_wrong_kind(table: dict[str, Any], words: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=words):
        prepare(settings_for(tmp_path / "t.parquet"), seed=0, cache=tmp_path / "cache")


def test_bad_rows_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    content = [*rows(), {"text": None, "label": "yes"}, {"text": " ", "label": "no"}, {"text": "a", "label": None}]
    path = write(tmp_path / "t.parquet", content)
    prepared = prepare(settings_for(path, on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    noted = prepared.profile["bad_rows"][str(path)]
    assert noted["counts"] == {"no text": 2, "no label": 1}
    assert noted["first_rows"] == {"no text": [41, 42], "no label": [43]}
    assert prepared.profile["warnings"] == [f"rows of {path} were left out: 2 with no text; 1 with no label"]
    assert sum(prepared.profile["rows"].values()) + sum(noted["counts"].values()) == len(content)


def test_a_label_that_train_does_not_have(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows())
    test = write(tmp_path / "test.csv", [{"text": "a", "label": "maybe"}, {"text": "word1 and 1", "label": "no"}])
    data = settings_for(tmp_path / "train.csv", test=[str(test)])
    with pytest.raises(UserError, match=r"1 with a label that the training data does not have .* \(line 2: 'maybe'\)"):
        prepare(data, seed=0, cache=tmp_path / "cache")
    prepared = prepare({**data, "on_bad_rows": "report"}, seed=0, cache=tmp_path / "cache")
    assert prepared.profile["bad_rows"][str(test)]["unknown_labels"] == ["maybe"]
    assert prepared.profile["rows"]["test"] == 1
    assert prepared.profile["duplicates"]["test"] == 1
    assert "1 of 1 test texts is also in the training data" in prepared.profile["warnings"]


def test_missing_files_are_named_with_their_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "reviews.csv", rows())
    for name, words in (
        ("review.csv", "did you mean .*reviews.csv"),
        ("x/t.csv", "nor a folder"),
        ("*.parquet", "no file matches"),
    ):
        with pytest.raises(UserError, match=words):
            prepare(settings_for(tmp_path / name), seed=0, cache=tmp_path / "cache")
    (tmp_path / "t.txt").write_text("x")
    with pytest.raises(UserError, match="unknown kind of file"):
        prepare(settings_for(tmp_path / "t.txt"), seed=0, cache=tmp_path / "cache")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"cannot read .*t\.parquet"):
        prepare(settings_for(tmp_path / "t.parquet"), seed=0, cache=tmp_path / "cache")


def test_text_and_label_are_two_columns(tmp_path: Path) -> None:
    data = settings_for(write(tmp_path / "t.csv", rows()), label="text")
    with pytest.raises(UserError, match="text and label name the same column, 'text'"):
        prepare(data, seed=0, cache=tmp_path / "cache")


def test_a_fraction_that_leaves_no_validation_row(tmp_path: Path) -> None:
    content = [{"text": "a", "label": "no"}, {"text": "b", "label": "yes"}]
    with pytest.raises(UserError, match="the validation data has no usable row: every class has one row only"):
        prepare(settings_for(write(tmp_path / "t.csv", content)), seed=0, cache=tmp_path / "cache")


def test_what_is_odd_about_the_data_is_said(tmp_path: Path) -> None:
    content = [*rows(), {"text": "rare", "label": "maybe"}, {"text": "c", "label": "No"}, {"text": "d", "label": "No"}]
    prepared = prepare(settings_for(write(tmp_path / "t.csv", content)), seed=0, cache=tmp_path / "cache")
    assert prepared.profile["warnings"] == [
        "classes with fewer than 5 train rows: 'No', 'maybe'",
        "classes that look alike: 'No', 'no'",
        "the validation data has no row of 1 of 4 classes: 'maybe'",
    ]


def test_folders_and_globs_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "a.csv", rows()[:20])
    write(tmp_path / "parts" / "b.csv", rows()[20:])
    for named in (tmp_path / "parts", tmp_path / "parts" / "*.csv"):
        assert sum(prepare(settings_for(named), seed=0, cache=tmp_path / "cache").profile["rows"].values()) == 40


def test_a_changed_file_is_prepared_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows())
    first = prepare(settings_for(path), seed=0, cache=tmp_path / "cache").fingerprint
    assert prepare(settings_for(path), seed=0, cache=tmp_path / "cache").fingerprint == first
    write(path, rows(44))
    assert prepare(settings_for(path), seed=0, cache=tmp_path / "cache").fingerprint != first


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), name=st.sampled_from(["t.csv", "t.jsonl", "t.parquet", "t.arrow", "t.csv.gz"]))
def test_any_bytes_are_rows_or_a_user_error(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(b"text,label\n" + content if name == "t.csv" else content)
    try:
        prepare(settings_for(folder / name, on_bad_rows="report"), seed=0, cache=folder / "cache")
    except UserError as error:
        assert str(error)


def test_the_tweets(tmp_path: Path) -> None:
    counts = write_tweets(tmp_path)
    assert sum(counts.values()) > 37_000
    tables = {split: pq.read_table(tmp_path / f"{split}.parquet") for split in counts}
    keys = {
        split: {" ".join(text.split()).lower() for text in table["text"].to_pylist()} for split, table in tables.items()
    }
    assert (
        not keys["train"] & keys["test"]
        and not keys["train"] & keys["validation"]
        and not keys["validation"] & keys["test"]
    )
    assert all(len(keys[split]) == counts[split] for split in counts)
    shares = [np.mean([label == "positive" for label in table["label"].to_pylist()]) for table in tables.values()]
    assert max(shares) - min(shares) < 0.001
    assert any("&amp;" in text for text in tables["train"]["text"].to_pylist())
