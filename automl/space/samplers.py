"""Which samplers can search which spaces."""

from __future__ import annotations

from automl.space.grid import continuous
from automl.space.parameters import parameters
from automl.space.ranges import Choice
from automl.space.spec import SearchSpec


def sampler_fault(spec: SearchSpec) -> str:
    """Why the sampler of the file cannot search its space; nothing where it can."""
    if spec.search.sampler == "grid" and (names := continuous(spec)):
        return f"grid tries every combination; give a step or a choice to {_some(names)}"
    if spec.search.sampler == "cmaes":
        if len(spec.search.sought) > 1:
            return "cmaes follows one objective; take tpe, gp or nsga2 for several"
        searched = parameters(spec)
        chosen = [parameter.name for parameter in searched if isinstance(parameter.range, Choice)]
        if chosen:
            return f"cmaes knows only numbers in order; take tpe, gp or nsga2, or fix the choice of {_some(chosen)}"
        if len(searched) < 2:
            return "cmaes follows how parameters depend on each other, and there are fewer than two; take tpe or gp"
    return ""


def _some(names: list[str]) -> str:
    more = f" (and {len(names) - 8} more)" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
