"""The language of search-space files: parsed, validated, explained, and turned into Optuna parameters."""

from automl.space.describe import describe_range, space_json, space_tree
from automl.space.errors import Problem, SpaceError, UserError, nearest
from automl.space.ranges import Choice, FloatRange, IntRange, Searchable
from automl.space.sections import Alternatives, Section
from automl.space.spec import SearchSpec, json_schema, load, parse
from automl.space.suggest import Parameter, parameters, sample_configs, suggest

__all__ = [
    "Alternatives",
    "Choice",
    "FloatRange",
    "IntRange",
    "Parameter",
    "Problem",
    "SearchSpec",
    "Searchable",
    "Section",
    "SpaceError",
    "UserError",
    "describe_range",
    "json_schema",
    "load",
    "nearest",
    "parameters",
    "parse",
    "sample_configs",
    "space_json",
    "space_tree",
    "suggest",
]
