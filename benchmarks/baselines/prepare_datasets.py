"""The same preparation as a competent user writes it with Hugging Face `datasets` and `tokenizers`.

    python prepare_datasets.py TRAIN VALIDATION OUTPUT FIGURES PROCESSES CLEANING

CLEANING is `own`, the five lines below, or `ours`, automl's cleaning inside their pipeline.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import datasets
import ftfy
import numpy as np
from selectolax.lexbor import LexborHTMLParser
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

WORDS = r"<(?:url|user|number)>|[#@]?\w+(?:['’]\w+)*|[^\w\s]+"  # noqa: RUF001
VOCABULARY, MIN_COUNT, BATCH_ROWS = 20_000, 2, 1000
CLEAN = {
    "fix_encoding": True,
    "strip_html": True,
    "urls": "replace",
    "user_names": "replace",
    "numbers": "keep",
    "lowercase": True,
}

URL, USER, SPACE = re.compile(r"https?://\S+|www\.\S+", re.I), re.compile(r"(?<![\w@])@\w+"), re.compile(r"\s+")


def clean(text: str) -> str:
    text = ftfy.fix_text(text, unescape_html=False)
    if re.search(r"<[/!]?[a-zA-Z]", text):
        text = LexborHTMLParser(text).body.text(separator=" ")
    text = USER.sub(" <user> ", URL.sub(" <url> ", html.unescape(text))).lower()
    return SPACE.sub(" ", text).strip()


def clean_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"text": [clean(text) for text in batch["text"]]}


def clean_batch_as_ours(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    from automl.data.clean import clean_texts

    return {"text": list(clean_texts(batch["text"], CLEAN))}


def main(train: str, validation: str, output: str, figures: str, processes: str, cleaning: str) -> None:
    rows = datasets.load_dataset(
        "parquet", data_files={"train": train, "validation": validation}, cache_dir=f"{output}/cache"
    )
    rows = rows.filter(lambda batch: [bool(text and text.strip()) for text in batch["text"]], batched=True)
    names = sorted(set(rows["train"].unique("label")))
    number = {name: index for index, name in enumerate(names)}
    of_words = clean_batch if cleaning == "own" else clean_batch_as_ours
    rows = rows.map(of_words, batched=True, batch_size=BATCH_ROWS, num_proc=int(processes))
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=VOCABULARY, min_frequency=MIN_COUNT, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    texts = (batch["text"] for batch in rows["train"].iter(BATCH_ROWS))
    tokenizer.train_from_iterator(texts, trainer, length=len(rows["train"]))
    lengths = [len(found.ids) for found in tokenizer.encode_batch(rows["train"][:50_000]["text"])]
    longest = int(np.ceil(np.percentile(lengths, 99)))

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = tokenizer.encode_batch(batch["text"])
        return {
            "tokens": [each.ids[:longest] for each in found],
            "label": [number[name] for name in batch["label"]],
        }

    features = datasets.Features({"tokens": datasets.List(datasets.Value("int32")), "label": datasets.Value("int32")})
    encoded = rows.map(
        encode,
        batched=True,
        batch_size=BATCH_ROWS,
        num_proc=int(processes),
        remove_columns=rows["train"].column_names,
        features=features,
    )
    encoded.save_to_disk(f"{output}/encoded")
    tokenizer.save(f"{output}/tokenizer.json")
    said = {"vocabulary": tokenizer.get_vocab_size(), "rows": sum(encoded.num_rows.values())}
    Path(figures).write_text(json.dumps(said))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    main(*sys.argv[1:])
