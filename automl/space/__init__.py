"""The language of search-space files: parsed, validated, explained, and turned into Optuna parameters."""

from typing import TYPE_CHECKING, Any

from automl.space.constraints import Constraints, constraints_of
from automl.space.data_section import TASKS
from automl.space.describe import describe_range, space_json, space_tree
from automl.space.errors import Problem, SpaceError, UserError, nearest
from automl.space.extends import resolved_text
from automl.space.parameters import Parameter, parameters
from automl.space.ranges import Choice, Each, FloatRange, IntRange, extremes
from automl.space.reading import load, parse
from automl.space.searchable import Searchable, SearchableList, SearchableLists
from automl.space.sections import Alternatives, Section
from automl.space.spec import SearchSpec, json_schema

if TYPE_CHECKING:
    from automl.space.configurations import sample_configs, suggest

__all__ = [
    "TASKS",
    "Alternatives",
    "Choice",
    "Constraints",
    "Each",
    "FloatRange",
    "IntRange",
    "Parameter",
    "Problem",
    "SearchSpec",
    "Searchable",
    "SearchableList",
    "SearchableLists",
    "Section",
    "SpaceError",
    "UserError",
    "constraints_of",
    "describe_range",
    "extremes",
    "json_schema",
    "load",
    "nearest",
    "parameters",
    "parse",
    "resolved_text",
    "sample_configs",
    "space_json",
    "space_tree",
    "suggest",
]


def __getattr__(name: str) -> Any:
    """What needs Optuna, once it is asked for: a mistake in a file is said without waiting for it."""
    if name in ("sample_configs", "suggest"):
        from automl.space import configurations

        return getattr(configurations, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
