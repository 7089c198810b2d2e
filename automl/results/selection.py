"""Some of a leaderboard's rows in some order: conditions and sorting by its columns and by the trials' settings.

A column is called by its name or by what stands over it in a table, a setting by its path or by the end of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from automl.results.leaderboard import COLUMNS
from automl.space import UserError
from automl.space.errors import nearest_path
from automl.space.evaluation import ANY, LIST, NUMBER, TEXT, TRUTH, Names, check_kinds, evaluate
from automl.space.expressions import ExpressionError, Node, parse_expression
from automl.space.objectives import mode

STATUSES = ("completed", "stopped", "paused", "failed")
SCORES = ("score", "confirmed_mean", "test_score", "test_low", "test_high")  # the best of them come first
_KINDS = {"int64": NUMBER, "float64": NUMBER, "bool": TRUTH, "string": TEXT}
_TREES = ("config", "objectives")  # whose parts have names of their own
_INDEX = re.compile(r"[0-9]{1,9}\]")  # of a list, after its bracket
# What stands over a column in a terminal, in Markdown and in the report, where that is not its name.
HEADINGS = {
    "validation": "score",
    "other_seeds": "confirmed_mean",
    "test": "test_score",
    "test,_95_%": "test_low",
    "95_%_interval": "test_low",
    "time": "train_seconds",
    "cpu_time": "cpu_hours",
    "gpu_time": "gpu_hours",
    "ms_for_1,_p50_and_p95": "latency_p50_ms",
    "ms_for_one": "latency_p50_ms",
    "ms_for_32": "latency32_p50_ms",
    "settings": "config",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which rows of trials: those for which `where` holds, by the column `sort` (`-` before it: turned round).

    Of them the first `top`. `columns` are what is shown of each; `wide` shows all there is room for in lines of any
    length. Each is None where nothing is asked.
    """

    where: str | None = None
    sort: str | None = None
    top: int | None = None
    columns: tuple[str, ...] | None = None
    wide: bool = False


WHOLE = Selection()


def select(
    rows: Sequence[dict[str, Any]], asked: Selection, *, maximize: bool, metric: str | None = None
) -> list[dict[str, Any]]:
    """All rows that meet `where`, sorted; they are not cut at `top`. Raises UserError for a name that there is not.

    Names are columns, settings by their path (`model.rnn.hidden`, `model == "rnn"` for the chosen alternative) and
    other objectives (`latency_ms`); for sorting also the end of a setting's path. The heading of a column in a table is
    a name of it, too, and `metric` another one of the score. A condition on what a row does not have does not hold; in
    sorting such a row comes last.
    """
    names = RowNames(rows, metric)
    found = list(rows)
    if asked.where is not None:
        condition = _condition(asked.where, names)
        found = [row for row in found if _holds(condition, row, names)]
    if asked.sort is not None:
        found = _sorted(found, names.resolve(sort_name(asked.sort), "--sort"), asked.sort.startswith("-"), maximize)
    return found


def sort_name(sort: str) -> str:
    """What `--sort` names, without the sign that turns the order round."""
    return sort.removeprefix("-").strip()


def _condition(text: str, names: Names) -> Node:
    try:
        node = parse_expression(text)
        if (kind := check_kinds(node, names)) not in (TRUTH, ANY):
            raise ExpressionError(node.column, f"expected true or false; {node.what} is {kind}")
    except ExpressionError as error:
        raise UserError(f"--where: {error}\n    {text}\n    {' ' * error.column}^") from error
    return node


def _holds(node: Node, row: Row, names: RowNames) -> bool:
    """Whether a condition holds for a row; each part that the row cannot answer does not."""
    if node.kind in ("or", "and"):
        return (any if node.kind == "or" else all)(_holds(part, row, names) for part in node.parts)
    try:
        return bool(evaluate(node, lambda name: value_of(row, names.column(name))))
    except (ArithmeticError, TypeError, ValueError):
        return False


def _sorted(
    rows: Iterable[dict[str, Any]], column: tuple[str, ...], turned: bool, maximize: bool
) -> list[dict[str, Any]]:
    """Stable, what has no value last; numbers before words where a setting has both. Scores have the best first."""
    if column[0] in _TREES:
        raise UserError("--sort: these are many settings; sort by one of them, such as training.batch_size")
    valued = [(value_of_any(row, column), row) for row in rows]
    objective = any(column[0] in (row["objectives"] or {}) for _, row in valued) and mode(column[0]) == "max"
    downward = (objective or (maximize and column[0] in SCORES)) != turned
    there = [(value, row) for value, row in valued if value is not None]
    there.sort(key=lambda each: _sort_key(each[0]), reverse=downward)
    return [row for _, row in there] + [row for value, row in valued if value is None]


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (False, value) if isinstance(value, bool | int | float) else (True, str(value))


def value_of(row: Row, name: str) -> Any:
    """What stands in a column, at a setting's path or at an objective; None where the row has no such thing."""
    if name in COLUMNS and name not in _TREES:
        return row[name]
    path, _, index = name.partition("[")
    if path in (row["objectives"] or {}):
        return row["objectives"][path]
    value = _at(row["config"], path)
    if isinstance(value, Mapping):
        return next(iter(value)) if len(value) == 1 else None
    if not index:
        return value
    position = int(index.rstrip("]"))
    return value[position] if isinstance(value, list) and position < len(value) else None


def value_of_any(row: Row, names: Iterable[str]) -> Any:
    """The first of these values that the row has: settings of the same name of several families are one."""
    return next((value for value in map(partial(value_of, row), names) if value is not None), None)


def _at(tree: Any, path: str) -> Any:
    """What lies at a path of a configuration, in which names may have dots (`my.module:net`); None where nothing."""
    for name in tree if isinstance(tree, Mapping) else ():
        if path == name:
            return tree[name]
        if path.startswith(f"{name}.") and (found := _at(tree[name], path[len(name) + 1 :])) is not None:
            return found
    return None


class RowNames(Names):
    """The columns, and the settings and objectives that any of the rows has; `metric` is another name of the score."""

    def __init__(self, rows: Sequence[Row], metric: str | None = None) -> None:
        self._headings = HEADINGS | ({plain(metric): "score", plain(f"validation {metric}"): "score"} if metric else {})
        self.kinds = {name: _KINDS[kind] for name, kind in COLUMNS.items() if name not in _TREES}
        self._texts = {"status": {*STATUSES}, "family": {row["family"] for row in rows}}
        for row in rows:
            for path, value in _settings(row["config"], ""):
                self._add(path, value)
            for name in row["objectives"] or {}:
                self.kinds.setdefault(name, NUMBER)

    def _add(self, path: str, value: Any) -> None:
        if value is not None:
            kind = _kind_of(value)
            self.kinds[path] = kind if self.kinds.get(path, kind) == kind else ANY
            if kind == TEXT:
                self._texts.setdefault(path, set()).add(value)
        else:
            self.kinds[path] = ANY

    def kind(self, node: Node) -> str:
        """The kind of values that a name of an expression has; raises ExpressionError for an unknown name."""
        path, _, index = self.column(str(node.what)).partition("[")
        if path not in self.kinds:
            raise ExpressionError(node.column, self.unknown(path))
        return ANY if index else self.kinds[path]

    def has(self, name: str) -> bool:
        """Whether `resolve` knows a name."""
        try:
            return bool(self.resolve(name, ""))
        except UserError:
            return False

    def column(self, name: str) -> str:
        """The column that has `name` over it in a table; else the name itself."""
        return name if name in self.kinds else self._headings.get(plain(name), name)

    def resolve(self, name: str, where: str) -> tuple[str, ...]:
        """The column, the objective or the settings that a name means; raises UserError that begins with `where`."""
        path, bracket, index = name.partition("[")
        known = path and any(each == path or each.endswith(f".{path}") for each in self.kinds)
        if known and bracket and not _INDEX.fullmatch(index):
            raise UserError(f"{where}: {name!r} has no such place; write a number from 0, such as {path}[0]")
        if path in self.kinds or name in _TREES:
            return (name,)
        if (column := self._headings.get(plain(name), plain(name))) in COLUMNS:
            return (column,)
        if found := tuple(each for each in self.kinds if path and each.endswith(f".{path}")):
            return tuple(each + name[len(path) :] for each in found)
        raise UserError(f"{where}: {self.unknown(name)}")

    def unknown(self, name: str) -> str:
        """That there is no such name, and which one is near."""
        headings = [heading for heading in self._headings if heading.isidentifier()]
        ends = [path.rpartition(".")[2] for path in self.kinds]
        near = nearest_path(name, [*self.kinds, *headings, *ends])
        titles = {column: heading for heading, column in reversed(self._headings.items()) if heading in headings}
        known = ", ".join(titles.get(name, name) for name in COLUMNS if name not in _TREES)
        hint = f"did you mean {near!r}?" if near else f"there are {known}, and settings by their path or its end"
        return f"there is no column or setting {name!r}; {hint}"

    def texts(self, node: Node) -> list[str] | None:
        """The texts that a column can have, or None where they are not known."""
        texts = self._texts.get(self.column(str(node.what)))
        return sorted(texts) if texts else None


def plain(heading: str) -> str:
    """A heading in lower case, with underscores for spaces: `cpu_hours` of `CPU hours`."""
    return "_".join(heading.lower().split())


def _settings(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """Every path of a configuration with its value; of alternatives also the name that was chosen."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    if path and len(value) == 1:
        yield path, next(iter(value))
    for name, inner in value.items():
        yield from _settings(inner, f"{path}.{name}" if path else name)


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int | float):
        return NUMBER
    return TEXT if isinstance(value, str) else LIST if isinstance(value, list) else ANY
