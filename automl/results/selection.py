"""Some of a leaderboard's rows in some order: conditions and sorting by its columns and by the trials' settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.results.leaderboard import COLUMNS
from automl.space import UserError
from automl.space.errors import nearest_path
from automl.space.evaluation import ANY, LIST, NUMBER, TEXT, TRUTH, Names, check_kinds, evaluate
from automl.space.expressions import ExpressionError, Node, parse_expression

STATUSES = ("completed", "stopped", "paused", "failed")
SCORES = ("score", "confirmed_mean", "test_score", "test_low", "test_high")  # the best of them come first
_KINDS = {"int64": NUMBER, "float64": NUMBER, "bool": TRUTH, "string": TEXT}
_TREES = ("config", "objectives")  # whose parts have names of their own

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which rows of trials: those for which `where` holds, by the column `sort` (`-` before it: turned round).

    Of them the first `top`. Each is None where nothing is asked.
    """

    where: str | None = None
    sort: str | None = None
    top: int | None = None


WHOLE = Selection()


def select(rows: Sequence[dict[str, Any]], asked: Selection, *, maximize: bool) -> list[dict[str, Any]]:
    """All rows that meet `where`, sorted; they are not cut at `top`. Raises UserError for a name that there is not.

    Names are columns, settings by their path (`model.rnn.hidden`, `model == "rnn"` for the chosen alternative) and
    other objectives (`latency_ms`). A condition on what a row does not have does not hold; in sorting it comes last.
    """
    names = _RowNames(rows)
    found = list(rows)
    if asked.where is not None:
        condition = _condition(asked.where, names)
        found = [row for row in found if _holds(condition, row)]
    if asked.sort is not None:
        column = asked.sort.removeprefix("-")
        if column not in names.kinds:
            raise UserError(f"--sort: {names.unknown(column)}")
        turned = asked.sort.startswith("-")
        found = _sorted(found, column, downward=(maximize and column in SCORES) != turned)
    return found


def _condition(text: str, names: Names) -> Node:
    try:
        node = parse_expression(text)
        if (kind := check_kinds(node, names)) not in (TRUTH, ANY):
            raise ExpressionError(node.column, f"expected true or false; {node.what} is {kind}")
    except ExpressionError as error:
        raise UserError(f"--where: {error}\n    {text}\n    {' ' * error.column}^") from error
    return node


def _holds(node: Node, row: Row) -> bool:
    """Whether a condition holds for a row; each part that the row cannot answer does not."""
    if node.kind in ("or", "and"):
        return (any if node.kind == "or" else all)(_holds(part, row) for part in node.parts)
    try:
        return bool(evaluate(node, lambda name: value_of(row, name)))
    except (ArithmeticError, TypeError, ValueError):
        return False


def _sorted(rows: Iterable[dict[str, Any]], column: str, *, downward: bool) -> list[dict[str, Any]]:
    """Stable, what has no value last; numbers before words where a setting has both."""
    valued = [(value_of(row, column), row) for row in rows]
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
    value: Any = row["config"]
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    if isinstance(value, Mapping):
        return next(iter(value)) if len(value) == 1 else None
    if not index:
        return value
    position = int(index.rstrip("]"))
    return value[position] if isinstance(value, list) and position < len(value) else None


class _RowNames(Names):
    """The columns, and the settings and objectives that any of the rows has."""

    def __init__(self, rows: Sequence[Row]) -> None:
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
        path, _, index = str(node.what).partition("[")
        if path not in self.kinds:
            raise ExpressionError(node.column, self.unknown(path))
        return ANY if index else self.kinds[path]

    def unknown(self, name: str) -> str:
        """That there is no such name, and which one is near."""
        near = nearest_path(name, self.kinds)
        hint = f"did you mean {near!r}?" if near else f"columns are {', '.join(name for name in COLUMNS)}"
        return f"there is no column or setting {name!r}; {hint}"

    def texts(self, node: Node) -> list[str] | None:
        texts = self._texts.get(str(node.what))
        return sorted(texts) if texts else None


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
