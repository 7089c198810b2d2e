"""What is done fast gives what the plain way gives: pieces, counts, cleaning, work by several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from automl.data import pieces, prepare, workers
from automl.data.clean import clean_texts, fix_encoding, normalise_space
from automl.data.pieces import PieceEncoder
from automl.data.vocabulary import COUNTED, WORDS, Counts, add_counts, fit_tokenizer
from tests.data.settings import CLEAN, settings_for

TOKENIZERS: list[dict[str, Any]] = [
    {"word": {"vocabulary": 60, "min_count": 1}},
    {"char": {"vocabulary": 60}},
    {"bpe": {"vocabulary": 300}},
    {"unigram": {"vocabulary": 100}},
]
WORDS_OF_ALL_KINDS = st.sampled_from(
    [
        "isn't",
        "#tag",
        "<url>",
        "a<url>b",
        "##",
        "好吃不好吃",
        "हिन्दी",
        "e\u0301té",
        ":)",
        "x\u180ey",
        "[PAD]",
        "İ",
        "'s",
        "1,5%",
    ]
)
TEXTS = st.lists(st.one_of(st.text(max_size=30), st.lists(WORDS_OF_ALL_KINDS, max_size=6).map(" ".join)), max_size=8)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(seen=TEXTS, texts=TEXTS, longest=st.one_of(st.none(), st.integers(1, 9)))
def test_pieces_give_the_tokens_of_whole_texts(
    tokenizer: dict[str, Any], seen: list[str], texts: list[str], longest: int | None
) -> None:
    seen, texts = ([normalise_space(text) for text in those] for those in (seen, texts))
    fitted = fit_tokenizer(tokenizer, [*seen, "isn't 好"], len(seen) + 1)
    encoder = PieceEncoder(fitted)
    for some in (texts, texts[::-1]):  # the second time all pieces are known
        tokens, lengths = encoder.encode(some, longest)
        expected = [each.ids[:longest] or [1] for each in fitted.encode_batch(some)]
        assert tokens.tolist() == [token for row in expected for token in row]
        assert lengths.tolist() == [len(row) for row in expected]


def test_pieces_are_forgotten_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MOST_KNOWN", 5)
    fitted = fit_tokenizer(TOKENIZERS[0], ["a b c d e f g h"], 1)
    encoder = PieceEncoder(fitted)
    for text in ("a b c d", "e f d", "a b c d e f g h", "h a"):
        assert encoder.encode([text], None)[0].tolist() == fitted.encode(text).ids


@given(st.lists(TEXTS, max_size=3), st.integers(3, 40), st.integers(1, 3))
def test_counts_give_the_vocabulary_that_hugging_face_trains(
    parts: list[list[str]], vocabulary: int, least: int
) -> None:
    texts = [normalise_space(text) for part in parts for text in part]
    plain = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary, min_frequency=least, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    plain.train_from_iterator(texts, trainer)
    ours = fit_tokenizer({"word": {"vocabulary": vocabulary, "min_count": least}}, texts, len(texts))
    assert ours.get_vocab() == plain.get_vocab()


def test_rare_counts_are_dropped_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.data.vocabulary.MOST_COUNTED", 50)
    parts = [Counts(f"often{number}" for number in range(20)) + Counts([f"once{part}"]) for part in range(200)]
    counts = add_counts(parts)
    assert len(counts) <= 50
    assert all(190 < counts[f"often{number}"] <= 200 for number in range(20))


@given(st.one_of(st.text(st.characters(max_codepoint=127)), st.text()))
def test_plain_text_needs_no_mending(text: str) -> None:
    assert fix_encoding(text) == ftfy.fix_text(text, unescape_html=False)


def test_counting_knows_every_tokenizer_that_needs_no_training() -> None:
    assert set(COUNTED) == {"word", "char"}
    assert COUNTED["word"](["a b", "b"]) == {"a": 1, "b": 2}


@pytest.mark.parametrize("tokenizer", [TOKENIZERS[0], TOKENIZERS[2]])
def test_processes_prepare_the_same_as_one(
    tokenizer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"<p>Word{number % 13} and {number}</p>" if number % 5 else f"é{number} 好" for number in range(60)] * 2
    table = pa.table({"text": texts, "label": [number % 3 for number in range(120)]})
    pq.write_table(table, tmp_path / "t.parquet")
    monkeypatch.setattr("automl.data.staging.PART_ROWS", 16)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    data = settings_for(tmp_path / "t.parquet", tokenizer=tokenizer)
    alone = prepare(data, seed=0, cache=tmp_path / "alone")
    monkeypatch.setattr(workers, "MANY_ROWS", 1)
    together = prepare(data, seed=0, cache=tmp_path / "together")
    assert together.profile == alone.profile and together.profile["duplicates"]["train"] > 10
    assert together.encoder().tokenizer.to_str() == alone.encoder().tokenizer.to_str()  # type: ignore[union-attr]
    for split in ("train", "validation"):
        one, other = together.rows(split), alone.rows(split)
        for field in ("tokens", "offsets", "labels"):
            assert np.array_equal(getattr(one, field), getattr(other, field))
        assert together.texts(split) == alone.texts(split)


def test_cleaning_the_whole_is_cleaning_each() -> None:
    texts = ["WWW.a.com and HTTP://b.c", "mail @Me", "none of them", "<b>bold</b> &amp; done"]
    assert list(clean_texts(texts, CLEAN)) == ["<url> and <url>", "mail <user>", "none of them", "bold & done"]
