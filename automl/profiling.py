"""What the data of a search-space file is like: rows, classes, lengths, repeats, leakage, rows that cannot be used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from automl.data.column_faults import require_columns
from automl.data.counted import facts
from automl.data.modalities import modality_of
from automl.data.prepared import Prepared, encoding_settings
from automl.refusals import prepare_section
from automl.space import SearchSpec
from automl.space.configurations import data_section
from automl.space.grid import data_size
from automl.space.printable import Text, cell

SHOWN_CLASSES = 20
RANKS = (5, 50, 95, 99)
UNEVEN = 1.5  # times as many rows, which is worth a word
WHITE = {"integers": "files of more than 8 bits", "floats": "files of floats", "arrays": "lists"}
UNITS = {"text": "tokens", "series": "steps"}


@dataclass(frozen=True)
class DataProfile:
    """A profile of the data, ready for JSON."""

    content: dict[str, Any]

    def as_text(self) -> Group:
        """The same for a terminal; reads well at 80 columns."""
        parts: list[Any] = [_splits(self.content), Text(""), _classes(self.content)]
        if self.content["imbalance"] >= UNEVEN:
            times = f"{self.content['imbalance']:,.1f} times"
            parts.append(Text(f"the largest class has {times} the train rows of the smallest"))
        if self.content["lengths"]:
            parts += [Text(""), _lengths(self.content)]
        parts += [Text(line) for line in _found(self.content)]
        parts += [Text(line) for line in _bad_rows(self.content["bad_rows"])]
        parts += [Text(line) for line in _conflicts(self.content["conflicts"]["examples"])]
        parts += [Text(fact) for fact in facts(self.content)]
        parts += [Text(f"warning: {warning}", style="yellow") for warning in self.content["warnings"]]
        return Group(*parts)


@dataclass(frozen=True)
class Preparation:
    """One preparation of the data: its settings that the file searches, where it is, and the seconds it took."""

    settings: dict[str, Any]
    prepared: Prepared
    seconds: float
    variants: int
    """How many combinations of such settings there are."""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        rows, path = self.prepared.profile["rows"], str(self.prepared.path)
        return {"path": path, "rows": rows, "seconds": self.seconds, "settings": self.settings}


def profile_data(spec: SearchSpec) -> DataProfile:
    """Look at all the data that a space names, as it comes: nothing that the file wants left out is, bad rows aside.

    It is kept in the cache like data that is prepared for a search. Raises UserError where it cannot be learned from.
    """
    data = data_section(spec, 0)
    require_columns(spec.data.model_dump())
    as_it_comes = {"on_bad_rows": "report", "bad_rows_limit": 1.0, "duplicates": "keep"}
    prepared = prepare_section(spec, {**data, **as_it_comes})
    profile = prepared.profile
    names = (
        "rows",
        "classes",
        "files",
        "bad_rows",
        "duplicates",
        "repeated",
        "conflicts",
        "warnings",
        "folders",
        "counted",
    )
    return DataProfile(
        {
            "name": spec.name,
            "input": modality_of(data).name,
            **{name: profile[name] for name in names},
            "imbalance": _imbalance(profile["classes"]["train"]),
            "lengths": profile.get("lengths") or _series_lengths(prepared),
            "max_length": profile.get("max_length"),
            "cut": profile.get("cut"),
            "vocabulary": prepared.vocabulary,
            "shape": profile.get("shape"),
            "white": profile.get("white"),
            "fingerprint": prepared.fingerprint,
        }
    )


def prepare_data(spec: SearchSpec, most: int) -> Iterator[Preparation]:
    """Prepare the data of a space with each combination of its searched preparation settings, at most `most`."""
    require_columns(spec.data.model_dump())
    variants = data_size(spec)
    for index in range(min(variants, most)):
        data = data_section(spec, index)
        clock = time.perf_counter()
        prepared = prepare_section(spec, data)
        settings = encoding_settings(data)
        yield Preparation(settings, prepared, time.perf_counter() - clock, variants)


def _imbalance(rows: Mapping[str, int]) -> float:
    """How many times as many train rows the largest class has as the smallest that has any."""
    return max(rows.values()) / min(count for count in rows.values() if count)


def _series_lengths(prepared: Prepared) -> dict[str, float] | None:
    """Steps of the prepared train series, of images nothing."""
    path = prepared.path / "train.lengths.npy"
    if not path.exists():
        return None
    lengths = np.load(path, allow_pickle=False)
    found = {f"p{rank}": float(np.percentile(lengths, rank)) for rank in RANKS}
    return {**found, "mean": float(lengths.mean()), "max": int(lengths.max())}


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _splits(content: Mapping[str, Any]) -> Table:
    table = _table("", "rows", "classes", "repeated within", "also in train", "left out")
    left_out: dict[str, int] = {}
    for file in content["files"].values():
        left_out[file["split"]] = left_out.get(file["split"], 0) + sum(file["counts"].values())
    for split, rows in content["rows"].items():
        classes = sum(count > 0 for count in content["classes"][split].values())
        shared = "" if split == "train" else f"{content['duplicates'][split]:,}"
        bad = f"{left_out[split]:,}" if split in left_out else ""
        table.add_row(split, f"{rows:,}", f"{classes:,}", f"{content['repeated'][split]:,}", shared, bad)
    return table


def _classes(content: Mapping[str, Any]) -> Table:
    splits = list(content["rows"])
    table = _table("class", *splits)
    of_train = content["classes"]["train"]
    for name in sorted(of_train, key=lambda each: -of_train[each])[:SHOWN_CLASSES]:
        shares = [content["classes"][split][name] / content["rows"][split] for split in splits]
        table.add_row(cell(name), *(f"{share:.1%}" for share in shares))
    if len(of_train) > SHOWN_CLASSES:
        table.add_row(Text(f"{len(of_train) - SHOWN_CLASSES:,} more"))
    return table


def _lengths(content: Mapping[str, Any]) -> Table:
    unit = UNITS[content["input"]]
    table = _table("", "mean", *(f"{rank} %" for rank in RANKS), "longest")
    found = content["lengths"]
    table.add_row(
        f"{unit} of train rows",
        f"{found['mean']:.1f}",
        *(f"{found[f'p{rank}']:,.0f}" for rank in RANKS),
        f"{found['max']:,}",
    )
    return table


def _found(content: Mapping[str, Any]) -> Iterator[str]:
    """What folders of images have, and by which scale pixels are read that are none of 8 bits."""
    for folder, found in content["folders"].items():
        if "images" in found:
            yield f"\n{folder}: {found['images']:,} images in the folders of {found['classes']:,} classes"
    for kind, white in (content["white"] or {}).items():
        if white is not None:
            yield f"pixels of {WHITE[kind]} go from 0 to {white:g}"


def _bad_rows(files: Mapping[str, Any]) -> Iterator[str]:
    for file, noted in files.items():
        for reason, count in noted["counts"].items():
            yield f"\n{Path(file)}: {count:,} with {reason}"
            rows = [f"row {row:,}" for row in noted["first_rows"][reason]]  # data prepared before lines were noted
            places = noted.get("places", {}).get(reason, rows)
            for place, example in zip(places, noted["examples"][reason], strict=True):
                yield f"  {place}: {example}"


def _conflicts(examples: list[dict[str, Any]]) -> Iterator[str]:
    if examples:
        yield "\nlabelled in more than one way:"
    for example in examples:
        places = example.get("places", [])  # data prepared before origins were kept has none
        labels = [f"{label} ({place})" for label, place in zip(example["labels"], places, strict=False)]
        yield f"  {example['input']}: {' and '.join(labels or example['labels'])}"
