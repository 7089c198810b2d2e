"""What a search would do, known before it runs: sample configurations, what they cost, and advice from experience."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from automl.data.class_counts import count_classes
from automl.data.csv_rows import look_at_csv, sentences
from automl.data.found import describe_folders, folder_sentences
from automl.data.images import choose_image_encoder
from automl.data.modalities import IMAGE, Modality, modality_of
from automl.data.sequences import choose_sequence_encoder
from automl.data.splits import no_inputs
from automl.data.tables import column_names, find_files, read_batches, require_columns
from automl.data.vocabulary import WORDS
from automl.data.wide import input_column, input_columns, is_wide
from automl.models.cost import Cost
from automl.search.feasibility import GUESSED_LENGTH, Costs, judge_of
from automl.search.foresight import foresee
from automl.search.resources import check_request, local_capacity
from automl.space import SearchSpec, UserError, parameters, sample_configs, space_json, space_tree
from automl.space.advice import advice
from automl.space.data_section import TextData
from automl.space.describe import searched_values
from automl.space.grid import continuous, grid_size
from automl.space.objectives import mode
from automl.space.printable import Text
from automl.space.spec import searched_sections
from automl.space.urls import redacted_values
from automl.training.beforehand import check_files

DRAWN = 60  # configurations whose cost is looked at
SHOWN_FAULTS = 5  # of a file
LOOKED_AT_DENSE = 256  # the same for the size of images and the length of series
LOOKED_AT = 2000  # rows of the train data, for the length of its texts
SPREAD = ("parameters", "training_memory", "flops")


@dataclass(frozen=True)
class Checked:
    """A valid search space, the data it names found in order, and what configurations drawn from it cost."""

    spec: SearchSpec
    samples: list[dict[str, Any]]
    costs: list[Cost]
    """Of each sample; at most, as the size of the vocabulary is known only once the data has been prepared."""
    spread: dict[str, tuple[float, float, float]]
    """Least, median and greatest of parameters, training_memory and flops, among configurations drawn at random."""
    feasible: float
    """The share of configurations drawn at random that meet the constraints."""
    warnings: list[str]
    here: str = ""
    """What of it runs at once on this machine; nothing where no trial can."""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        content = {
            **space_json(self.spec),
            "objectives": [{"name": name, "mode": mode(name)} for name in self.spec.search.sought],
            "samples": self.samples,
            "costs": [asdict(cost) for cost in self.costs],
            "spread": {
                name: {"least": least, "median": median, "most": most}
                for name, (least, median, most) in self.spread.items()
            },
            "feasible": self.feasible,
            "discrete": {"configurations": grid_size(self.spec), "continuous": continuous(self.spec)},
            "here": self.here,
            "warnings": self.warnings,
        }
        return {name: redacted_values(value) for name, value in content.items()}

    def as_text(self) -> Group:
        """The tree of settings, the samples and the rest for a terminal; reads well at 80 columns."""
        parts: list[Any] = [space_tree(self.spec), Text("\n" + self._size(), style="bold")]
        sought = self.spec.search.sought
        if len(sought) > 1:
            what = ", ".join(f"{name} ({'more' if mode(name) == 'max' else 'less'} is better)" for name in sought)
            parts.insert(1, Text(f"\nobjectives: {what}; {sought[0]} decides which trials are stopped early"))
        conditions = [*self.spec.search.constraints]
        conditions += [f"{name} <= {_short(limit)}" for name, limit in self.spec.search.limits.given().items()]
        if conditions:
            meet = f"\n{self.feasible:.0%} of random configurations meet {', '.join(conditions)}"
            parts.insert(len(parts) - 1, Text(meet))
        for number, (sample, cost) in enumerate(zip(self.samples, self.costs, strict=True), start=1):
            price = f"{_short(cost.parameters)} parameters, {_short(cost.training_memory)}B to train"
            parts += [Text(f"{number}. {price}"), Padding(Text(self._chosen(sample)), (0, 0, 0, 3), expand=False)]
        if self.here:
            parts.append(Text(f"\non this machine {self.here}"))
        if self.spread:
            parts += [Text("\ncost, at most", style="bold"), self._spread_table()]
        parts += [Text(f"warning: {warning}", style="yellow") for warning in self.warnings]
        return Group(*parts)

    def _chosen(self, sample: Mapping[str, Any]) -> str:
        """What is searched of a sample: `model rnn, hidden 64, cell gru`; the rest is the same in all."""
        values = [
            f"{path.rpartition('.')[2]} {_brief(value)}"
            for name, section in searched_sections(self.spec).items()
            for path, value in searched_values(section, sample[name], name)
        ]
        return ", ".join(values) or "as in the file"

    def _size(self) -> str:
        count, unbounded = len(parameters(self.spec)), len(continuous(self.spec))
        size = grid_size(self.spec)
        combinations = f"{size:,}" if size < 10**9 else f"about 10^{len(str(size)) - 1}"
        rest = f", times {unbounded} continuous" if unbounded else ""
        return f"{count} searched parameters; {combinations} combinations{rest}; samples:"

    def _spread_table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("", "least", "median", "most"):
            table.add_column(name, justify="right" if name else "left")
        rows = {
            "parameters": ("parameters", ""),
            "training_memory": ("memory to train", "B"),
            "flops": (f"operations to label {_one(self.spec)}", ""),
        }
        for name, (words, unit) in rows.items():
            table.add_row(words, *(_short(value) + unit for value in self.spread[name]))
        return table


def check_space(spec: SearchSpec, samples: int) -> Checked:
    """Look at the files and columns that a valid space names, and draw configurations from it.

    Raises UserError where data, or a file that model or training name, is missing. Nothing is written.
    """
    faults: list[str] = []
    kind, others = modality_of(type(spec.data).model_fields), no_inputs(spec.data.model_dump())
    for files in (spec.data.train, spec.data.validation, spec.data.test):
        if isinstance(files, list):
            name, damaged = getattr(spec.data, kind.name), spec.data.on_bad_rows == "report"
            columns = [spec.data.label] if is_wide(kind, name) else [name, spec.data.label]
            paths = find_files(files)
            for path in paths:
                faults.extend(sentences(path, look_at_csv(path, spec.data.label))[:SHOWN_FAULTS])
            require_columns(paths, columns, damaged=damaged)
            for path in paths if is_wide(kind, name) else []:
                if there := column_names(path, damaged=damaged):
                    input_columns(path, kind, name, there, others)
    check_files(spec)
    lengths = _text_lengths(spec.data) if isinstance(spec.data, TextData) else []
    longest = _percentile(lengths, 0.99) if lengths else GUESSED_LENGTH
    shape = None if isinstance(spec.data, TextData) else _dense_shape(spec)
    costs = Costs(length=longest, shape=shape)
    judge = judge_of(spec, costs)
    drawn = sample_configs(spec, DRAWN, seed=spec.search.seed, feasible=False)
    met = [config for config in drawn if not any(judge(config).values())]
    shown = (met + [config for config in _more(spec, judge) if config not in met])[:samples]
    priced = [costs.of(config) for config in (met or shown)]
    spread = {
        name: (min(values), statistics.median(values), max(values))
        for name in SPREAD
        if (values := [float(getattr(cost, name)) for cost in priced])
    }
    feasible = len(met) / len(drawn)
    warnings = faults + list(advice(spec, longest=longest if lengths else None, feasible=feasible))
    train, validation = (
        count_classes(find_files(files), spec.data.label) if isinstance(files, list) else None
        for files in (spec.data.train, spec.data.validation)
    )
    warnings += folder_sentences(describe_folders(spec.data.model_dump()))
    warnings += foresee(spec, priced, train, validation, local_capacity())
    here = ""
    try:
        here = check_request(spec, local_capacity()).described()
    except UserError as error:  # a cluster may have more
        warnings.append(f"on this machine no trial can start: {error}")
    return Checked(spec, shown, [costs.of(config) for config in shown], spread, feasible, warnings, here)


def _more(spec: SearchSpec, judge: Any) -> list[dict[str, Any]]:
    """Feasible configurations of a space that has few."""
    found = sample_configs(spec, 20, seed=spec.search.seed + 1)
    return [config for config in found if not any(judge(config).values())]


def _dense_shape(spec: SearchSpec) -> list[int] | None:
    """The shape of the first images or series of train as they will be prepared, where the file does not say it."""
    data = spec.data.model_dump()
    kind, found = modality_of(data), []
    auto = {"size": "auto", "colour": data.get("colour"), "max_length": "auto", "missing": data.get("missing", "drop")}
    try:
        for column in _input_columns(spec, kind):
            inputs, unusable = kind.read(column.slice(0, LOOKED_AT_DENSE), data[kind.name])
            found += inputs.filter(pa.array(~np.logical_or.reduce(list(unusable.values())))).to_pylist()
            if len(found) >= LOOKED_AT_DENSE:
                break
    except UserError:
        return None  # preparing the data says what is wrong with its rows
    if not found:
        return None
    encoder = choose_image_encoder(auto, found) if kind is IMAGE else choose_sequence_encoder(auto, found)
    return encoder.shape


def _input_columns(spec: SearchSpec, kind: Modality) -> Iterator[pa.Array]:
    name, others = getattr(spec.data, kind.name), no_inputs(spec.data.model_dump())
    for path in find_files(spec.data.train):
        columns = input_columns(path, kind, name, column_names(path), others)
        for batch in read_batches(path, columns):
            yield input_column(batch, kind, name, others)


def _batches(paths: Sequence[Any], column: str) -> Iterator[pa.RecordBatch]:
    for path in paths:
        yield from read_batches(path, [column])


def _text_lengths(data: TextData) -> list[int]:
    """Tokens of the first texts of the train data, roughly; nothing where they cannot be read."""
    pattern = re.compile(WORDS)
    characters = set(data.tokenizer.named()) == {"char"}
    try:
        texts = list(islice(_texts(find_files(data.train), data.text), LOOKED_AT))
    except UserError:
        return []  # preparing the data says what is wrong with its rows
    return [len(text) if characters else len(pattern.findall(text)) for text in texts]


def _texts(paths: Sequence[Any], column: str) -> Iterator[str]:
    for batch in _batches(paths, column):
        yield from (str(text) for text in batch.column(0).to_pylist() if text)


def _percentile(lengths: Sequence[int], share: float) -> int:
    return max(1, sorted(lengths)[min(len(lengths) - 1, int(share * len(lengths)))])


def _short(value: float) -> str:
    """`512`, `48.2k`, `2.1M`, `3.4G`."""
    for unit in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}T"


def _brief(value: Any) -> str:
    """A value with numbers as short as a person wants them."""
    if isinstance(value, list):
        return f"[{', '.join(_brief(entry) for entry in value)}]"
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _one(spec: SearchSpec) -> str:
    return {"text": "a text", "image": "an image", "series": "a series"}[modality_of(type(spec.data).model_fields).name]
