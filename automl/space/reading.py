"""From the text of a search-space file to a validated SearchSpec, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from automl.space.constraints import constraint_faults
from automl.space.data_section import TASKS
from automl.space.document import Document, apply_overrides, read_text
from automl.space.errors import DataFaultsError, Problem, SpaceError, UserError
from automl.space.extends import read_document, recognised
from automl.space.findings import problems_of
from automl.space.ranges import extremes
from automl.space.samplers import sampler_fault
from automl.space.sections import Section
from automl.space.spec import TEXT, Families, FindFamily, SearchSpec, searched_sections, spec_type
from automl.space.starting_points import start_faults
from automl.space.training_section import AUGMENTS


class Unknown(Section):
    """Takes any settings, of a family that is not looked for, or reported as not found already."""

    model_config = ConfigDict(extra="allow")


def load(
    path: Path, families: Families, overrides: Sequence[str] = (), *, find_family: FindFamily | None = None
) -> SearchSpec:
    """Read the search-space file at `path`, with `overrides` (`key.path=value`) in place of what it says.

    `families` are the model families that `model` may name, each with the section of its settings; `find_family`
    gives the section of a user's own, `module:function`, or raises UserError. Raises UserError where the file cannot
    be read and SpaceError, with all problems at once, where it is wrong.
    """
    return parse(read_text(path), families, file=str(path), overrides=overrides, find_family=find_family)


def load_alone(path: Path, families: Families, overrides: Sequence[str] = ()) -> SearchSpec:
    """The same of the file of a run, which may come from someone else: nothing that it names is read or imported.

    A run's file is whole, so one with `extends` is refused. Of one that is no search space, such as a link to a file of
    the reader's, no line is shown.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a regular file")
    text = read_text(path)
    if "extends" in recognised(text, str(path)).data:
        raise UserError(f"{path} is damaged: the file of a run extends no other")
    return parse(text, families, file=str(path), overrides=overrides, find_family=lambda name: Unknown)


def parse(
    text: str,
    families: Families,
    *,
    file: str = "<string>",
    overrides: Sequence[str] = (),
    find_family: FindFamily | None = None,
) -> SearchSpec:
    """The same from the text of a file; `file` names it in errors, and what it extends is looked for beside it."""
    document = read_document(text, file)
    apply_overrides(document, overrides)
    problems = list(document.problems)
    own = _own_families(document, find_family, problems) if find_family else {}
    task = document.data.get("task", TEXT)
    kind = spec_type((*families.items(), *own.items()), task if task in TASKS else TEXT)
    try:
        spec = kind.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(document, kind, error.errors(include_url=False))
    else:
        problems += _faults(document, spec)
    if problems:
        raise SpaceError(list(dict.fromkeys(problems)))
    return spec


@contextmanager
def located(path: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Faults of the data that the block finds are raised as SpaceError: where the file at `path` names what is wrong.

    Those of the same sentence stand once.
    """
    try:
        yield
    except DataFaultsError as error:
        document = read_document(read_text(path), str(path))
        apply_overrides(document, overrides)
        problems = []
        for place, message in error.faults:
            name = ".".join(str(part) for part in place if isinstance(part, str))
            problem = document.problem(place, f"{name}: {message}")
            unsaid = not document.stands(place[:2])  # a default: no line of the file says it
            problems.append(replace(problem, source="") if unsaid else problem)
        raise SpaceError(list(dict.fromkeys(problems))) from error


def _faults(document: Document, spec: SearchSpec) -> Iterator[Problem]:
    """What is wrong between sections that are right on their own."""
    for position, column, message in constraint_faults(spec.search.constraints, searched_sections(spec)):
        path = ("search", "constraints", position)
        yield document.problem(path, f"search.constraints: {message}", offset=column)
    for setting in spec.training.augment.model_fields_set if spec.training.augment else ():
        if setting not in AUGMENTS[spec.task]:
            message = f"training.augment.{setting}: not for {spec.task}, which has {', '.join(AUGMENTS[spec.task])}"
            yield document.problem(("training", "augment", setting), message, at_key=True)
    if spec.task == TEXT and spec.training.augment and max(extremes(spec.training.augment.mixup)) > 0:
        for name in spec.model.named():
            if ":" in name:
                message = f"training.augment.mixup: not for {name}, whose vectors of words are not known"
                yield document.problem(("training", "augment", "mixup"), message, at_key=True)
    if spec.task != TEXT:
        for name, family in spec.model.named().items():
            for setting in ("vectors", "subwords"):
                if getattr(family, setting, None) is not None:
                    message = f"model.{name}.{setting}: only texts have words; leave it out"
                    yield document.problem(("model", name, setting), message, at_key=True)
    for place, message in start_faults(spec):
        yield document.problem(place, f"search.start_with: {message}", at_key=message.startswith("unknown"))
    if fault := sampler_fault(spec):
        yield document.problem(("search", "sampler"), f"search.sampler: {fault}")


def _own_families(document: Document, find_family: FindFamily, problems: list[Problem]) -> dict[str, type[Section]]:
    """The families `module:function` that a file names; those that are not found are added to `problems`."""
    model = document.data.get("model")
    found: dict[str, type[Section]] = {}
    for name in model if isinstance(model, dict) else ():
        if ":" in name:
            try:
                found[name] = find_family(name)
            except UserError as error:
                problems.append(document.problem(("model", name), str(error), at_key=True))
                found[name] = Unknown
    return found
