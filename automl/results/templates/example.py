"""Asks the exported model beside this file: `python example.py "a text" ...`, of images their files, of series JSON.

Needs numpy and onnxruntime (or torch, for model.pt2); for texts tokenizers; for images Pillow. Where texts were cleaned
in more ways than by case and white space (encoder.json says how), it needs automl, too.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "config.json").read_text(encoding="utf-8"))


def cleaned(texts: Sequence[str], clean: dict[str, Any]) -> list[str]:
    """Texts as those of the training data were cleaned."""
    if any(value is True or value not in ("keep", False) for name, value in clean.items() if name != "lowercase"):
        from automl.data.clean import clean_texts

        return list(clean_texts(texts, clean))
    return [" ".join((text.lower() if clean["lowercase"] else text).split()) for text in texts]


def prepare_text(texts: Sequence[str], folder: Path) -> list[np.ndarray]:
    """Tokens int64 [rows, length], 0 is padding, and lengths int64 [rows]."""
    from tokenizers import Tokenizer

    settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [tokenizer.encode(text).ids[: settings["max_length"]] for text in cleaned(texts, settings["clean"])]
    rows = [row or [1] for row in rows]  # 1 is the unknown token
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    return [tokens, lengths]


def prepare_terms(texts: Sequence[str], folder: Path) -> list[np.ndarray]:
    """Numbers int64 [rows, terms] of the terms (words and pairs, or characters) that count, and their TF-IDF."""
    from safetensors.numpy import load_file

    settings = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
    numbers = {term: number for number, term in enumerate(settings["terms"])}
    idf = load_file(folder / "linear.safetensors")["idf"]
    rows = []
    for text in cleaned(texts, settings["clean"]):
        if settings["analyzer"] == "word":
            units, join, longest = re.findall(r"\b\w+\b|[^\w\s]+", text), " ", 2
        else:
            units, join, longest = list(text), "", 3
        grams = (
            join.join(units[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(units) - size + 1)
        )
        counts = Counter(numbers[gram] for gram in grams if gram in numbers)
        weights = {term: (1 + math.log(count)) * idf[term] for term, count in counts.items()}
        norm = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        rows.append({term: weight / norm for term, weight in weights.items()})
    width = max([1, *map(len, rows)])
    terms, found = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), dtype=np.float32)
    for number, row in enumerate(rows):
        terms[number, : len(row)], found[number, : len(row)] = list(row), list(row.values())
    return [terms, found]


def prepare_image(files: Sequence[str], folder: Path) -> list[np.ndarray]:
    """Pixels uint8 [rows, size, size, channels] of files with 8 bits a channel."""
    from PIL import Image, ImageOps

    settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["image"]
    size, channels = settings["size"], settings["channels"]
    rows = []
    for file in files:
        image = ImageOps.exif_transpose(Image.open(file))
        if image.mode == "F" or image.mode.startswith("I"):
            raise SystemExit(f"{file} has more than 8 bits a channel; automl knows how to read it")
        if image.has_transparency_data:  # what is transparent shows white
            ground = Image.new("RGBA", image.size, "white")
            ground.alpha_composite(image.convert("RGBA"))
            image = ground.convert("RGB")
        image = image.convert("L" if image.mode in ("1", "L") else "RGB").convert("L" if channels == 1 else "RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        rows.append(np.asarray(image).reshape(size, size, channels))
    return [np.stack(rows)]


def prepare_series(series: Sequence[Any], folder: Path) -> list[np.ndarray]:
    """Numbers float32 [rows, length, channels], NaN is padding, and lengths int64 [rows]."""
    settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["series"]
    missing, rows = settings.get("missing", "drop"), []
    for each in series:
        steps = np.array(each, dtype=np.float32).reshape(-1, settings["channels"])  # None becomes NaN
        there = ~np.isnan(steps)
        if missing == "mask":
            steps = np.concatenate([steps, there.astype(np.float32)], axis=1)
        elif missing == "zero":
            steps = np.nan_to_num(steps)
        elif missing == "interpolate":
            for channel in np.flatnonzero(there.any(axis=0)):
                known = np.flatnonzero(there[:, channel])
                steps[:, channel] = np.interp(np.arange(len(steps)), known, steps[known, channel])
            steps = np.nan_to_num(steps) if np.isnan(steps).all(axis=1).any() else steps
        rows.append(steps[: settings["max_length"]])
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    values = np.full((len(rows), lengths.max(), rows[0].shape[1]), np.nan, dtype=np.float32)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
    return [values, lengths]


PREPARE = {"text": prepare_text, "terms": prepare_terms, "image": prepare_image, "series": prepare_series}


def predict(inputs: Sequence[Any]) -> np.ndarray:
    """Calibrated probabilities float32 [inputs, classes]."""
    arrays: dict[str, np.ndarray] = {}
    for each in CONFIG["preparations"]:
        arrays |= zip(each["inputs"], PREPARE[each["kind"]](inputs, HERE / each["folder"]), strict=True)
    if (HERE / "model.onnx").is_file():
        import onnxruntime

        return np.asarray(onnxruntime.InferenceSession(str(HERE / "model.onnx")).run(None, arrays)[0])
    import torch

    program = torch.export.load(HERE / "model.pt2").module()
    return np.asarray(program(*map(torch.from_numpy, arrays.values())).detach())


if __name__ == "__main__":
    given: list[Any] = sys.argv[1:]
    if not given:
        raise SystemExit(__doc__)
    if CONFIG["preparations"][0]["kind"] == "series":
        given = [json.loads(each) for each in given]
    for row in predict(given):
        label = CONFIG["classes"][int(row.argmax())]
        shares = dict(zip(CONFIG["classes"], (round(float(share), 6) for share in row), strict=True))
        print(json.dumps({"label": label, "probabilities": shares}, ensure_ascii=False))
