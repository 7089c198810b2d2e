"""Pretrained vectors and n-grams: read from every kind of file, used as asked, and kept in the model that is saved."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automl.data import Prepared, prepare
from automl.data.subwords import MOST, subword_numbers
from automl.data.vectors import look_up_vectors, vector_dimension
from automl.models import FAMILIES, build, count_parameters
from automl.models.cost import estimate_cost
from automl.space import SpaceError, UserError, load, parse, sample_configs
from automl.training.beforehand import check_files, vectors_of
from automl.training.checkpoint import save_weights
from automl.training.fit import train_epoch
from automl.training.inference import load_weights, predict_probabilities
from automl.training.start import start

CPU = torch.device("cpu")
WORDS = ["the", "good", "bad", "flight", "Was", "monday"]
VALUES = np.arange(len(WORDS) * 5, dtype=np.float32).reshape(-1, 5) / 10


def text(path: Path, header: str = "") -> Path:
    lines = [f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, VALUES, strict=True)]
    content = (header + "".join(lines[:3]) + ". . 1 2 3 4 5\n" + "".join(lines[3:])).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def array(path: Path, ending: str) -> Path:
    np.save(path, VALUES)
    index = path.with_suffix(ending)
    if ending == ".parquet":
        pyarrow.parquet.write_table(pa.table({"row": range(len(WORDS)), "word": WORDS}), index)
    elif ending == ".json":
        index.write_text(json.dumps({word: row for row, word in enumerate(WORDS)}))
    else:
        index.write_text("".join(f"{word}\n" for word in WORDS))
    return path


MAKE: dict[str, Callable[[Path], Path]] = {
    "glove": lambda folder: text(folder / "v.txt"),
    "word2vec": lambda folder: text(folder / "v.vec", "6 5\n"),
    "gzip": lambda folder: text(folder / "v.txt.gz"),
    "parquet": lambda folder: array(folder / "v.npy", ".parquet"),
    "json": lambda folder: array(folder / "v.npy", ".json"),
    "lines": lambda folder: array(folder / "v.npy", ".txt"),
    "folder": lambda folder: array(folder / "v.npy", ".txt").parent,
}


@pytest.mark.parametrize("kind", sorted(MAKE))
def test_every_kind_of_file_gives_the_same_vectors(kind: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "cache").mkdir()
    source = {"source": str(MAKE[kind](tmp_path / "files"))}
    assert vector_dimension(source) == 5
    for _ in range(2):  # the second time from the cache
        values, found = look_up_vectors(source, ["", "bad", "absent", "GOOD", "was", "Was"], tmp_path / "cache")
        assert found.tolist() == [False, True, False, True, False, True]
        assert np.allclose(values, [0 * VALUES[0], VALUES[2], 0 * VALUES[0], VALUES[1], 0 * VALUES[0], VALUES[4]])
    other, _ = look_up_vectors(source, ["monday"], tmp_path / "cache")
    assert np.allclose(other, VALUES[5:])


def test_an_installed_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "some_vectors_5d"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('nobody imports me')")
    array(folder / "data" / "v.npy", ".json")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert vector_dimension({"source": "some-vectors-5d"}) == 5
    with pytest.raises(UserError, match="no file or folder no-such-thing, and no package no_such_thing is installed"):
        vector_dimension({"source": "no-such-thing"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"", "is no file of vectors"),
        ("v.txt", b"some words of text\nand others\n", "is no file of vectors"),
        ("v.txt", b"the 1 2\ngood 1 x\n", "v.txt:2: expected a word and its numbers"),
        ("v.npy", b"not an array", "cannot read"),
        ("v.bin", b"", "is of no known kind"),
        ("v.txt.gz", b"not packed", "cannot read"),
    ],
)
def test_files_that_are_none_are_said_to_be(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "v.json").write_text("[]")
    with pytest.raises(UserError, match=message):
        look_up_vectors({"source": str(tmp_path / name)}, ["the", "good"], tmp_path)


@pytest.fixture
def config(small_space: Path) -> dict[str, Any]:
    return sample_configs(load(small_space, FAMILIES), 1, seed=0)[0]


@pytest.fixture
def prepared(config: dict[str, Any], tmp_path: Path) -> Prepared:
    return prepare(config["data"], seed=0, cache=tmp_path / "cache")


def of_family(config: dict[str, Any], settings: str) -> dict[str, Any]:
    model = sample_configs(parse(f"name: x\ndata: {{train: t}}\nmodel: {settings}", FAMILIES), 1, seed=0)[0]["model"]
    return {**config, "model": model}


@pytest.mark.parametrize("use", ["frozen", "tuned", "two_channels"])
@pytest.mark.parametrize("learned", [0, 3])
def test_a_trial_uses_them_as_asked_and_its_model_needs_no_file(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path, use: str, learned: int
) -> None:
    source = text(tmp_path / "v.txt")
    subwords = ", subwords: {buckets: 50}" if learned else ""
    config = of_family(
        config,
        f"{{cnn: {{channels: 4, embedding: {learned}, vectors: {{source: {source}, use: {use}}}{subwords}}}}}",
    )
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    training = start(config, prepared, max_epochs=2, seed=0, device=CPU)
    cost = estimate_cost(config, **sizes, length=8, dimension=vectors_of(config["model"]))
    assert count_parameters(training.module) == cost.parameters
    words = prepared.words()
    place = words.index("good")
    embedding = training.module.embedding
    before = {
        part: getattr(embedding, part) and getattr(embedding, part).weight.clone() for part in ("frozen", "tuned")
    }
    for part, weight in before.items():
        assert (weight is not None) == (use in (part, "two_channels"))
        if weight is not None:
            assert torch.allclose(weight[place], torch.from_numpy(VALUES[1])) and not weight[0].any()
            assert weight[words.index("dreadful")].any()  # not in the file: random, but something
    line = train_epoch(training)
    assert line is not None
    assert line["vectors"]["found"] == sum(word in WORDS for word in words)
    assert line["vectors"]["words"] == prepared.vocabulary - 2 and 0 < line["vectors"]["token_share"] < 1
    second = train_epoch(training)
    assert second is not None and "vectors" not in second
    if before["frozen"] is not None:
        assert torch.equal(embedding.frozen.weight, before["frozen"])
    if before["tuned"] is not None:
        assert not torch.equal(embedding.tuned.weight[place], before["tuned"][place])
        assert not embedding.tuned.weight[0].any()
    save_weights(training, tmp_path / "model.safetensors")
    source.unlink()
    module = load_weights(config, **sizes, path=tmp_path / "model.safetensors")
    mine = predict_probabilities(training.module, training.validation, device=CPU)
    assert np.array_equal(predict_probabilities(module, training.validation, device=CPU), mine)


def test_vectors_are_no_reason_to_search_a_size_and_some_vector_there_must_be() -> None:
    def spec(settings: str) -> Any:
        return parse(f"name: x\ndata: {{train: t}}\nmodel: {{rnn: {settings}}}", FAMILIES).model.named()["rnn"]

    assert spec("{vectors: {source: v.txt}}").embedding == 0
    assert spec("{vectors: {source: v.txt}, embedding: 8}").embedding == 8
    for wrong, message in {
        "{embedding: 0}": "embedding is at least 1",
        "{embedding: {int: [0, 4]}}": "embedding is at least 1",
        "{vectors: {source: v.txt}, subwords: {}}": "subwords need an embedding",
        "{subwords: {shortest: {int: [2, 4]}, longest: 3}}": "the longest n-grams",
    }.items():
        with pytest.raises(SpaceError, match=message):
            spec(wrong)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 3))
def test_words_that_share_letters_share_ngrams(words: list[str], shortest: int, more: int) -> None:
    numbers = subword_numbers(words, shortest=shortest, longest=shortest + more, buckets=97)
    assert numbers.shape[0] == len(words) and 1 <= numbers.shape[1] <= MOST
    assert numbers.min() >= 0 and numbers.max() <= 97
    for word, row in zip(words, numbers, strict=True):
        alone = subword_numbers([word], shortest=shortest, longest=shortest + more, buckets=97)[0]
        assert row[: len(alone)].tolist() == alone.tolist() and not row[len(alone) :].any()


def test_the_ngrams_of_a_word_are_those_of_the_paper() -> None:
    """Its example is `where` with n = 3: <wh, whe, her, ere, re>."""
    where, other = subword_numbers(["where", "here"], shortest=3, longest=3, buckets=10**9)
    assert (where > 0).sum() == 5 and (other > 0).sum() == 4  # <he, her, ere, re>
    assert set(where[2:5]) == set(other[other > 0][1:4])
    assert not subword_numbers([""], shortest=1, longest=2, buckets=9).any()


def test_a_subword_vector_is_the_mean_of_the_word_and_its_ngrams(config: dict[str, Any], prepared: Prepared) -> None:
    config = of_family(config, "{rnn: {embedding: 6, hidden: 4, subwords: {buckets: 300}}}")
    training = start(config, prepared, max_epochs=3, seed=0, device=CPU)
    embedding = training.module.embedding
    place = prepared.words().index("wonderful")
    numbers = embedding.subword_numbers[place]
    numbers = numbers[numbers > 0].long()
    rows = torch.cat([embedding.embedding.weight[place][None], embedding.ngrams.weight[numbers]])
    training.module.eval()
    tokens = torch.tensor([[place, 0]])
    torch.testing.assert_close(embedding(tokens)[0, 0], rows.mean(dim=0))
    assert not embedding(tokens)[0, 1].any()
    lines = [train_epoch(training) for _ in range(3)]
    assert lines[0] and lines[2] and lines[2]["train_loss"] < lines[0]["train_loss"]


def test_settings_that_need_a_lexicon_say_so() -> None:
    model = sample_configs(
        parse("name: x\ndata: {train: t}\nmodel: {cnn: {vectors: {source: v.txt}}}", FAMILIES), 1, seed=0
    )[0]["model"]
    with pytest.raises(ValueError, match="ask for vectors"):
        build(model, vocabulary=4, classes=2)


def test_files_are_asked_for_before_anything_is_trained(tmp_path: Path) -> None:
    there, absent = text(tmp_path / "v.txt"), tmp_path / "w.txt"

    def spec(more: str) -> Any:
        return parse(f"name: x\ndata: {{train: t}}\n{more}", FAMILIES)

    check_files(spec(f"model: {{cnn: {{vectors: {{source: {there}}}}}, rnn: {{}}}}"))
    with pytest.raises(UserError, match="no file or folder"):
        check_files(spec(f"model: {{cnn: {{vectors: {{source: {{choice: [{there}, {absent}]}}}}}}, rnn: {{}}}}"))
    with pytest.raises(UserError, match="there is no model"):
        check_files(spec(f"model: {{cnn: {{}}}}\ntraining: {{init_from: {{model: {absent}}}}}"))
