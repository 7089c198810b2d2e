"""Vocabularies: tokenizers fitted on the texts of the train rows."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PADDING, UNKNOWN = "[PAD]", "[UNK]"
PADDING_ID, UNKNOWN_ID = 0, 1

# Marks of cleaning, words with their apostrophes, tags and names; then runs of anything else, such as :-) and !!!
WORDS = r"<(?:url|user|number)>|[#@]?\w+(?:['’]\w+)*|[^\w\s]+"  # noqa: RUF001
SPECIAL_INSIDE = r"\[(?=(?:PAD|UNK)\])"  # where a text is cut that would hold one of the special tokens
MOST_COUNTED = 1_000_000

# What unigram is fitted on, at most: memory and time grow with it, the vocabulary hardly changes.
UNIGRAM_TEXTS, UNIGRAM_CHARACTERS = 200_000, 25_000_000
NOT_TAKEN = {"\0", "\u2585"}  # characters with which SentencePiece leaves a whole text out

# Trainers of pieces take work that grows as the square of a word's length, or fail; no word of a language is so long.
LONGEST_WORD = 256
LONGEST_LINE = 1024  # SentencePiece looks through what is repeated to the line's end
_LONG_WORD = re.compile(rf"(\S{{{LONGEST_WORD}}})(?=\S)")

Counts = Counter[str]


def count_pieces(texts: Sequence[str]) -> Counts:
    """How often each piece between blanks stands in cleaned texts."""
    return Counter(" ".join(texts).split(" "))


def count_characters(texts: Sequence[str]) -> Counts:
    """How often each character stands in texts."""
    return Counter("".join(texts))


# Tokenizers that need no more than counts, which can be taken of parts of the data and added.
COUNTED: dict[str, Callable[[Sequence[str]], Counts]] = {"word": count_pieces, "char": count_characters}


def add_counts(parts: Iterable[Counts]) -> Counts:
    """The sum of counts, in bounded memory: where there are too many to keep, the rarest are dropped.

    A count is then too small by at most the number of times that happened (lossy counting, Manku and Motwani 2002).
    """
    total: Counts = Counter()
    rare = 0
    for part in parts:
        total.update(part)
        while len(total) > MOST_COUNTED:
            rare += 1
            total = Counter({unit: count for unit, count in total.items() if count > rare})
    return total


def fit_tokenizer(tokenizer: Mapping[str, Any], texts: Iterable[str], rows: int) -> Tokenizer:
    """Fit the tokenizer of `{name: settings}` on `rows` cleaned texts; number 0 is padding, 1 is unknown.

    The same texts give the same tokenizer.
    """
    ((name, settings),) = tokenizer.items()
    if name in COUNTED:
        return tokenizer_of_counts(tokenizer, COUNTED[name](list(texts)))
    fitted = {"bpe": _fit_bpe, "unigram": _fit_unigram}[name](settings["vocabulary"], texts, rows)
    fitted.encode_special_tokens = True  # a text that says [PAD] says so in plain words
    return fitted


def _fit_bpe(vocabulary: int, texts: Iterable[str], rows: int) -> Tokenizer:
    fitted = Tokenizer(models.BPE(unk_token=UNKNOWN))
    fitted.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    fitted.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PADDING, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fitted.train_from_iterator(map(_in_words, texts), trainer, length=rows)
    return fitted


def _in_words(text: str) -> str:
    """A text to train on, in which longer words than `LONGEST_WORD` are cut."""
    return _LONG_WORD.sub(r"\1 ", text) if len(text) > LONGEST_WORD else text


def _fit_unigram(vocabulary: int, texts: Iterable[str], rows: int) -> Tokenizer:
    """The pieces that SentencePiece finds, in a tokenizer of Hugging Face, whose own trainer finds others each time."""
    every = -(-rows // UNIGRAM_TEXTS)
    longest = UNIGRAM_CHARACTERS // -(-rows // every)
    sample = [re.sub(SPECIAL_INSIDE, "[ ", _in_words(text[:longest])) for text in islice(texts, 0, None, every)]
    characters = count_characters(sample)
    # Single characters take half of the vocabulary at most: rarer ones are unknown.
    known = {character for character, _ in characters.most_common(vocabulary // 2)} - NOT_TAKEN
    blanks = str.maketrans(dict.fromkeys(characters.keys() - known, " "))
    pieces = [(PADDING, 0.0), (UNKNOWN, 0.0)]
    if known - {" "}:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for text in sample for line in _lines(text.translate(blanks))),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=2**30,
            num_threads=2,  # whatever the machine has: what is added up depends on it
            pad_id=PADDING_ID,
            unk_id=UNKNOWN_ID,
            bos_id=-1,
            eos_id=-1,
            pad_piece=PADDING,
            unk_piece=UNKNOWN,
            minloglevel=2,
        )
        found = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        pieces = [(found.id_to_piece(number), found.get_score(number)) for number in range(found.get_piece_size())]
    fitted = Tokenizer(models.Unigram(pieces, UNKNOWN_ID))
    inside = pre_tokenizers.Split(Regex(SPECIAL_INSIDE), behavior="isolated")  # the model would know [PAD] for its own
    fitted.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), inside])
    fitted.decoder = decoders.Metaspace()
    fitted.add_special_tokens([PADDING, UNKNOWN])
    return fitted


def _lines(text: str) -> Iterator[str]:
    """A text in parts of about `LONGEST_LINE` characters, cut at blanks."""
    start = 0
    while len(text) - start > LONGEST_LINE and (blank := text.find(" ", start + LONGEST_LINE - LONGEST_WORD)) >= 0:
        yield text[start:blank]
        start = blank + 1
    yield text[start:]


def tokenizer_of_counts(tokenizer: Mapping[str, Any], counts: Counts) -> Tokenizer:
    """The tokenizer of `{name: settings}`, one of `COUNTED`, for texts with these counts: the most frequent tokens.

    Of equally frequent ones the first by the alphabet, as Hugging Face's WordLevelTrainer has them.
    """
    ((name, settings),) = tokenizer.items()
    split = (
        pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
        if name == "word"
        else pre_tokenizers.Split(Regex("."), behavior="isolated")
    )
    tokens: Counts = Counter()
    for unit, count in counts.items():
        for token, _ in split.pre_tokenize_str(unit):
            tokens[token] += count
    least = settings.get("min_count", 1)
    frequent = sorted((-count, token) for token, count in tokens.items() if count >= least)
    special = [PADDING, UNKNOWN]
    kept = [*special, *(token for _, token in frequent)][: settings["vocabulary"]]
    fitted = Tokenizer(models.WordLevel({token: number for number, token in enumerate(kept)}, unk_token=UNKNOWN))
    fitted.pre_tokenizer = split
    fitted.add_special_tokens(special)
    fitted.encode_special_tokens = True  # a text that says [PAD] says so in plain words
    return fitted


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """What each token number stands for; padding and unknown, and pieces of a character, for nothing."""
    texts = [""] * tokenizer.get_vocab_size()
    by_bytes = tokenizer.decoder is not None
    for token, number in tokenizer.get_vocab().items():
        if number not in (PADDING_ID, UNKNOWN_ID):
            texts[number] = tokenizer.decode([number]).strip().replace("\ufffd", "") if by_bytes else token
    return texts
