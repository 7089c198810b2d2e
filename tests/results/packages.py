"""Model packages of each kind, made without a search: small networks that have learned nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from automl.data import Prepared, prepare
from automl.models import FAMILIES, build
from automl.results.package_config import columns_of
from automl.space import parse, sample_configs
from automl.training.floor import fit_floor
from automl.training.lexicon import make_lexicon
from automl.training.packed_weights import pack
from tests.conftest import make_texts, write_jsonl

CNN = "{cnn: {embedding: 6, channels: 4, kernel_sizes: [1, 2], head: 0}}"
RNN = "{rnn: {embedding: 6, hidden: 4, layers: 1, subwords: {buckets: 50}}}"
TOKENIZERS = {"word": "{word: {min_count: 1}}", "char": "{char: {}}", "bpe": "{bpe: {vocabulary: 320}}"}
TOKENIZERS["unigram"] = "{unigram: {vocabulary: 100}}"


def config_of(text: str, folder: Path) -> tuple[dict[str, Any], Prepared]:
    config = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]
    return config, prepare(config["data"], seed=0, cache=folder / "cache")


def of_texts(folder: Path, model: str = CNN, tokenizer: str = "word") -> tuple[dict[str, Any], Prepared]:
    train = write_jsonl(folder / "train.jsonl", make_texts(120, 0))
    return config_of(f"name: x\ndata: {{train: {train}, tokenizer: {TOKENIZERS[tokenizer]}}}\nmodel: {model}\n", folder)


def a_picture(seed: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(sink, format="PNG")
    return sink.getvalue()


def of_images(folder: Path) -> tuple[dict[str, Any], Prepared]:
    rows = {"image": [a_picture(seed) for seed in range(40)], "label": ["a", "b"] * 20}
    pq.write_table(pa.table(rows), folder / "images.parquet")
    model = "{image_cnn: {width: 4, depth: 1, stages: 2, normalisation: batch}}"
    text = f"name: x\ntask: image_classification\ndata: {{train: {folder}/images.parquet}}\nmodel: {model}\n"
    return config_of(text, folder)


def of_series(folder: Path) -> tuple[dict[str, Any], Prepared]:
    values = np.random.default_rng(0).normal(size=(40, 12)).tolist()
    pq.write_table(pa.table({"series": values, "label": ["a", "b"] * 20}), folder / "series.parquet")
    model = "{sequence_cnn: {channels: 4, kernel_sizes: [3], blocks: 1, normalisation: batch}}"
    text = f"name: x\ntask: sequence_classification\ndata: {{train: {folder}/series.parquet}}\nmodel: {model}\n"
    return config_of(text, folder)


def write_package(
    folder: Path,
    parts: Sequence[tuple[Mapping[str, Any], Prepared]],
    *,
    packed: bool = False,
    sparse: bool = False,
    linear: bool = False,
) -> Path:
    """A package of these networks, in folders of their own where there are several."""
    data, prepared = parts[0][0]["data"], parts[0][1]
    kind = next(name for name in ("text", "image", "series") if name in data)
    members = []
    for number, (config, each) in enumerate(parts):
        name = f"members/{number}" if len(parts) > 1 else "."
        (folder / name).mkdir(parents=True)
        lexicon, _ = make_lexicon(config["model"], each)
        module = build(config["model"], vocabulary=each.vocabulary, classes=len(each.classes), lexicon=lexicon)
        weights = {key: value.contiguous() for key, value in module.state_dict().items()}
        if sparse:
            weights = {
                key: value * (value > value.median()) if value.ndim > 1 and value.is_floating_point() else value
                for key, value in weights.items()
            }
        save_file(pack(weights) if packed else weights, folder / name / "model.safetensors")
        each.encoder().save(folder / name)
        members.append({"folder": name, "trial": number, "vocabulary": each.vocabulary, "config": dict(config)})
    if linear:
        fitted, _ = fit_floor(prepared, data.get("clean"), metric="accuracy", maximize=True)
        fitted.save(folder / "linear")
    described = {
        "format_version": 1,
        "task": f"{kind.replace('series', 'sequence')}_classification",
        "classes": list(prepared.classes),
        **columns_of(data, prepared),
        "run": "run",
        "members": members,
        "linear": "linear" if linear else None,
        "temperature": 1.25,
    }
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def make_packages(folder: Path) -> dict[str, Path]:
    """One of each kind by name, all in `folder`."""
    torch.manual_seed(0)
    text, recurrent = of_texts(folder), of_texts(folder, RNN)
    image, series = of_images(folder), of_series(folder)
    return {
        "text": write_package(folder / "text", [text]),
        "unigram": write_package(folder / "unigram", [of_texts(folder, tokenizer="unigram")]),
        "bpe": write_package(folder / "bpe", [of_texts(folder, tokenizer="bpe")]),
        "char": write_package(folder / "char", [of_texts(folder, tokenizer="char")]),
        "packed": write_package(folder / "packed", [recurrent], packed=True, sparse=True),
        "ensemble": write_package(folder / "ensemble", [text, recurrent], linear=True),
        "image": write_package(folder / "image", [image], linear=True),
        "series": write_package(folder / "series", [series], linear=True),
    }


def inputs_of(name: str) -> list[Any]:
    if name == "image":
        return [a_picture(1), a_picture(2)]
    if name == "series":
        return [[0.5] * 12, [[1.0]] * 5]
    return ["a lovely flight", "an awful bag at the gate"]
