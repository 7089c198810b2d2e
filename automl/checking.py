"""What a search would do, known before it runs: sample configurations, what they cost, and advice from experience."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from automl.data import Prepared
from automl.data.modalities import modality_of
from automl.models.cost import Cost
from automl.refusals import first_config, prepare_section, require_all
from automl.search.feasibility import Costs, judge_of
from automl.search.foresight import foresee
from automl.search.plan import Plan, plan
from automl.search.resources import check_request, local_capacity
from automl.search.warm_start import look_back
from automl.space import SearchSpec, UserError, parameters, sample_configs, space_json, space_tree
from automl.space.advice import advice
from automl.space.configurations import data_section
from automl.space.describe import searched_values
from automl.space.grid import continuous, data_size, grid_size
from automl.space.objectives import mode
from automl.space.printable import Text, cell
from automl.space.spec import searched_sections
from automl.space.urls import redacted_values

DRAWN = 60  # configurations whose cost is looked at
FEW_PREPARATIONS, FEW_ROWS = 6, 50_000  # so many are made, of data with so many rows, to know what they cost
SPREAD = ("parameters", "training_memory", "flops")


@dataclass(frozen=True)
class Checked:
    """A valid search space, the data it names found in order, and what configurations drawn from it cost."""

    spec: SearchSpec
    samples: list[dict[str, Any]]
    costs: list[Cost]
    """Of each sample."""
    spread: dict[str, tuple[float, float, float]]
    """Least, median and greatest of parameters, training_memory and flops, among configurations drawn at random."""
    exact: bool
    """Whether costs are those of trials; else they are the most that there can be, as not all preparations are made."""
    feasible: float
    """The share of configurations drawn at random that meet the constraints."""
    warnings: list[str]
    plan: Plan

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
            "here": self.plan.resources,
            "exact": self.exact,
            "plan": self.plan.as_json(),
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
        if self.spread:
            words = "cost" if self.exact else "cost, at most"
            parts += [Text(f"\n{words}", style="bold"), self._spread_table()]
        parts += [Text("\nplan", style="bold"), self._plan_table()]
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

    def _plan_table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for word, sentence in self.plan.lines():
            table.add_row(word, cell(sentence))
        return table

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
    """Look at everything that a valid space names, prepare its data, and draw configurations from it.

    Raises UserError for whatever a search would be refused for before its first trial, but for this machine's size:
    a cluster may have more. The data is kept in the cache, where a search finds it.
    """
    require_all(spec)
    first = first_config(spec)
    prepared = prepare_section(spec, first["data"])
    drawn = sample_configs(spec, DRAWN, seed=spec.search.seed, feasible=False)
    costs = Costs(prepared, first["data"], _further(spec, first["data"], prepared))
    judge = judge_of(spec, costs)
    met = [config for config in drawn if not any(judge(config).values())]
    shown = (met + [config for config in _more(spec, judge) if config not in met])[:samples]
    priced = [costs.of(config) for config in (met or shown)]
    spread = {
        name: (min(values), statistics.median(values), max(values))
        for name in SPREAD
        if (values := [float(getattr(cost, name)) for cost in priced])
    }
    profile, feasible, capacity = prepared.profile, len(met) / len(drawn), local_capacity()
    longest = math.ceil(profile["lengths"]["p99"]) if "lengths" in profile else None
    warnings = [*profile["warnings"], *advice(spec, longest=longest, feasible=feasible)]
    warnings += foresee(spec, met or drawn, priced, profile, capacity)
    here = ""
    try:
        here = check_request(spec, capacity).described()
    except UserError as error:  # a cluster may have more
        warnings.append(f"on this machine no trial can start: {error}")
    earlier = look_back(spec, prepared.fingerprint)
    if earlier.useless:
        warnings.append("search.warm_start: nothing of the earlier runs fits this search, which begins without them")
    planned = plan(spec, prepared, met or drawn, resources=here, preparations=data_size(spec), warm_start=earlier.notes)
    exact = all(costs.exact(config["data"]) for config in (met or shown))
    return Checked(spec, shown, [costs.of(config) for config in shown], spread, exact, feasible, warnings, planned)


def _further(
    spec: SearchSpec, first: Mapping[str, Any], prepared: Prepared
) -> list[tuple[Mapping[str, Any], Prepared]]:
    """Further preparations of the data, where they are few and it is small: a search would make them as it goes."""
    if data_size(spec) > FEW_PREPARATIONS or sum(prepared.profile["rows"].values()) > FEW_ROWS:
        return []
    sections = [data_section(spec, index) for index in range(data_size(spec))]
    return [(data, prepare_section(spec, data)) for data in sections if data != first]


def _more(spec: SearchSpec, judge: Any) -> list[dict[str, Any]]:
    """Feasible configurations of a space that has few."""
    found = sample_configs(spec, 20, seed=spec.search.seed + 1)
    return [config for config in found if not any(judge(config).values())]


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
