"""Tokenizers: what becomes a token, and on real tweets what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.data import Encoder, prepare
from automl.data.examples import write_tweets
from automl.data.vocabulary import UNKNOWN_ID, fit_tokenizer
from tests.data.settings import CLEAN, settings_for

TOKENIZERS: list[Mapping[str, Any]] = [
    {"word": {"vocabulary": 60, "min_count": 1}},
    {"char": {"vocabulary": 60}},
    {"bpe": {"vocabulary": 300}},
    {"unigram": {"vocabulary": 100}},
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("isn't :) !!! <url> #late", ["isn't", ":)", "!!!", "<url>", "#late"]),
        ("so-so, 3.5 stars…", ["so", "-", "so", ",", "3", ".", "5", "stars", "…"]),
        ("naïve 好吃", ["naïve", "好吃"]),
        ("[PAD] [UNK]", ["[", "PAD", "]", "[", "UNK", "]"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    tokenizer = fit_tokenizer({"word": {"vocabulary": 100, "min_count": 1}}, [text], 1)
    assert tokenizer.encode(text).tokens == words


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_padding_and_unknown_come_of_no_text(tokenizer: Mapping[str, Any]) -> None:
    fitted = fit_tokenizer(tokenizer, ["a [pad] b [unk]", "[PAD] [UNK]"], 2)
    tokens = Encoder(fitted, {**CLEAN, "lowercase": False}, 50).encode(["a [PAD] b [UNK]"]).tokens
    assert tokens.min() > UNKNOWN_ID
    assert (fitted.token_to_id("[PAD]"), fitted.token_to_id("[UNK]")) == (0, 1)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_odd_texts_are_encoded(tokenizer: Mapping[str, Any]) -> None:
    clean = dict.fromkeys(CLEAN, False) | {"urls": "keep", "user_names": "keep", "numbers": "keep"}
    encoder = Encoder(fit_tokenizer(tokenizer, ["a b"], 1), clean, 5)
    rows = encoder.encode(["", " \n", "cut \ud83d", "a" * 10_000, "\0", "a b " * 50])
    lengths = np.diff(rows.offsets)
    assert rows.tokens.dtype == np.int32 and rows.offsets.dtype == np.int64 and rows.labels.tolist() == [-1] * 6
    assert lengths.min() == 1 and lengths.max() <= 5 and rows.tokens.min() > 0
    empty = encoder.encode([])
    assert len(empty) == 0 and empty.offsets.tolist() == [0]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_fitting_again_gives_the_same(tokenizer: Mapping[str, Any]) -> None:
    texts = [f"word{number % 9} and {number}" for number in range(200)]
    assert fit_tokenizer(tokenizer, texts, 200).to_str() == fit_tokenizer(tokenizer, texts, 200).to_str()


def test_unigram_finds_the_words_of_chinese(tmp_path: Path) -> None:
    words = ["牛肉面", "宫保鸡丁", "小笼包", "麻婆豆腐", "太好吃了", "送餐很慢", "味道一般", "还会再来"]
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(words, size=generator.integers(1, 5))) for _ in range(300)]
    tokenizer = fit_tokenizer({"unigram": {"vocabulary": 100}}, texts, len(texts))
    assert set(words) <= set(tokenizer.get_vocab())
    assert tokenizer.encode("小笼包龘").tokens == ["▁小笼包", "龘"]
    assert tokenizer.encode("小笼包龘").ids[-1] == UNKNOWN_ID
    labels = ["慢" in text for text in texts]
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "t.parquet")
    data = settings_for(tmp_path / "t.parquet", tokenizer={"unigram": {"vocabulary": 100}})
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    rows, found = prepared.rows("train"), prepared.words()
    assert rows is not None and rows.tokens.max() < prepared.vocabulary == len(found) and set(words) <= set(found)


def test_unigram_knows_the_frequent_characters_where_there_are_more_than_it_may_have() -> None:
    texts = [chr(0x4E00 + number) * (400 - number) for number in range(300)]
    tokenizer = fit_tokenizer({"unigram": {"vocabulary": 100}}, texts, len(texts))
    assert tokenizer.get_vocab_size() <= 100
    assert tokenizer.token_to_id(texts[0][0]) is not None and tokenizer.token_to_id(texts[-1][0]) is None


def test_tweets_from_end_to_end(tmp_path: Path) -> None:
    write_tweets(tmp_path)
    data = settings_for(
        tmp_path / "validation.parquet",
        test=[str(tmp_path / "test.parquet")],
        tokenizer={"word": {"vocabulary": 2000, "min_count": 2}},
    )
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    assert prepared.vocabulary == 2000 and prepared.classes == ("negative", "neutral", "positive")
    assert prepared.profile["duplicates"]["test"] == 0
    for split in ("train", "validation", "test"):
        rows, texts = prepared.rows(split), prepared.texts(split)
        assert rows is not None and texts is not None
        assert len(rows) == len(texts) == prepared.profile["rows"][split] == len(prepared.labels(split))
        assert np.array_equal(rows.labels, prepared.labels(split))
        assert np.array_equal(prepared.encoder().encode(texts).tokens, rows.tokens)
        assert np.diff(rows.offsets).max() <= prepared.profile["max_length"]
        unknown = (rows.tokens == UNKNOWN_ID).mean()
        assert rows.tokens.min() > 0 and unknown < 0.2
    words = prepared.encoder().tokenizer.get_vocab()
    assert {"<url>", "<user>", "can't", "!!"} <= words.keys() and "amp" not in words
