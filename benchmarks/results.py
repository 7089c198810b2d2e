"""What the files of search_spaces/ reach on real data: runs them and writes docs/results.md.

    python benchmarks/results.py --data DIR      DIR has a folder for each data set: train, validation and test.parquet

Each file is searched once under each seed, from the command line, with the file's own budget and nothing set but where
the data lies. Runs are kept in `--runs`: those that have ended are not repeated, those that were broken off go on. What
installs with the project (`automl examples`) needs no folder. `--only NAME` runs one file; the page shows all that
have been run.
"""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer
from scipy.stats import t as student

from automl.results.intervals import wilson_interval
from automl.training.run_directory import RunDirectory, read_json

PROJECT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "automl")
YAO = "Yao et al. 2019, table 2"
KIM = "Kim 2014, table 2"
GREYDANUS = "Greydanus 2020"
SPRINGENBERG = "Springenberg et al. 2015"

REFERENCES = {
    YAO: "Yao et al. 2019: Graph Convolutional Networks for Text Classification, AAAI, table 2 (the same test rows).",
    KIM: "Kim 2014: Convolutional Neural Networks for Sentence Classification, EMNLP, table 2 (CNN-rand, CNN-static or "
    "-non-static; trained on our train and validation rows together).",
    GREYDANUS: "Greydanus 2020: Scaling down Deep Learning, arXiv 2011.14439.",
    SPRINGENBERG: "Springenberg et al. 2015: Striving for Simplicity: The All Convolutional Net, ICLR workshop (images "
    "before JPEG, hundreds of epochs).",
}

INTRODUCTION = """\
Written by `python benchmarks/results.py --data DIR` ({machine}, two cores). Each file of `search_spaces/` is searched
by `automl run` under several seeds, with its own budget. The test set is measured once at the end; ± is Student's 95 %
half-width over the seeds, `rows` Wilson's 95 % interval for so many test rows at the mean. `best model` is what a run
packs, an average of several networks and the linear model where the file asks for one; `best network` is the first of
the leaderboard alone. The floor is TF-IDF (or pixels, or series) with logistic regression, fitted on train only.
Published figures are those of single networks.
"""


@dataclass(frozen=True)
class Study:
    """A file of search_spaces/, the data it is run on, and what to compare its test accuracy with."""

    space: str
    title: str
    folder: str | None  # of DIR; None for what `automl examples` writes under the file's name
    published: tuple[tuple[str, float, str], ...] = ()  # model, accuracy, source
    target: float | None = None


STUDIES = (
    Study(
        "movie_reviews",
        "Movie reviews, learned vectors",
        "mr",
        (("CNN", 0.7498, YAO), ("LSTM", 0.7506, YAO)),
        0.765,
    ),
    Study(
        "movie_reviews_vectors",
        "Movie reviews, GloVe 50-d",
        "mr",
        (("CNN, 300-d", 0.7775, YAO), ("Bi-LSTM, 300-d", 0.7768, YAO)),
        0.785,
    ),
    Study("questions", "TREC questions, learned vectors", "trec", (("CNN", 0.912, KIM),), 0.91),
    Study("questions_vectors", "TREC questions, GloVe 50-d", "trec", (("CNN, 300-d", 0.936, KIM),), 0.93),
    Study(
        "topics",
        "Reuters R8",
        "reuters_r8",
        (("CNN", 0.9402, YAO), ("CNN, 300-d", 0.9571, YAO), ("Bi-LSTM, 300-d", 0.9631, YAO)),
        0.97,
    ),
    Study("chinese_text", "Chinese deliveries", "waimai_zh", (), 0.905),
    Study("spam", "Spam with HTML", "spam_html", (), 0.985),
    Study("digits", "Digits, 8 by 8 pixels", None, (), 0.985),
    Study("mnist1d", "MNIST-1D", None, (("GRU", 0.91, GREYDANUS), ("CNN", 0.94, GREYDANUS)), 0.95),
    Study("cifar10", "CIFAR-10, as JPEG", "cifar10", (("All-CNN", 0.928, SPRINGENBERG),)),
)


def data_of(study: Study, data: Path) -> list[str]:
    """The overrides that name the data's files; example data is written where it is missing."""
    folder = PROJECT / "data" / study.space if study.folder is None else data / study.folder
    if study.folder is None and not (folder / "train.parquet").exists():
        subprocess.run([*COMMAND, "examples", study.space, "--output", str(folder)], check=True)
    splits = [split for split in ("train", "validation", "test") if (folder / f"{split}.parquet").exists()]
    return [word for split in splits for word in ("--set", f"data.{split}={folder / split}.parquet")]


def run(study: Study, seed: int, data: Path, path: Path) -> None:
    """Search the file under a seed; a run that has ended is left alone, one that was broken off goes on."""
    run = RunDirectory(path)
    if run.finalists.exists() and run.best_model.exists():
        return
    if run.manifest.exists():
        command = [*COMMAND, "resume", str(path)]
    else:
        space = PROJECT / "search_spaces" / f"{study.space}.yaml"
        command = [*COMMAND, "run", str(space), "--seed", str(seed), "--output", str(path), *data_of(study, data)]
    subprocess.run(command, check=True, cwd=PROJECT)


@dataclass(frozen=True)
class Outcome:
    """What one search reached: accuracies on the test rows, and what it used."""

    best: float
    alone: float
    floor: float
    families: Mapping[str, float]
    rows: int
    trials: int
    minutes: float


def outcome(path: Path) -> Outcome:
    """Read a run: the best model as packed, the best network alone, the floor, the best network of each family."""
    run = RunDirectory(path)
    manifest, finalists = read_json(run.manifest), read_json(run.finalists)
    trials = [row for row in read_json(run.leaderboard("json"))["trials"] if str(row["trial"]) in finalists["trials"]]
    on_test = [(row["family"], finalists["trials"][str(row["trial"])]["test"]["accuracy"]) for row in trials]
    return Outcome(
        best=read_json(run.best_model / "metrics.json")["test"]["accuracy"],
        alone=on_test[0][1],
        floor=read_json(run.floor)["test"]["accuracy"],
        families=dict(reversed(on_test)),
        rows=manifest["data"]["profile"]["rows"]["test"],
        trials=manifest["used"]["trials"],
        minutes=manifest["used"]["seconds"] / 60,
    )


def over_seeds(values: Sequence[float]) -> str:
    """Their mean; of several with the half-width of Student's 95 % interval of the mean."""
    if len(values) < 2:
        return f"{fmean(values):.4f}"
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.4f} ± {half:.4f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers to the right of the first column."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def accuracies(study: Study, found: Sequence[Outcome]) -> list[str]:
    """A study's row of the first table."""
    best = fmean(each.best for each in found)
    low, high = wilson_interval(best, found[0].rows)
    return [
        f"[{study.title}](../search_spaces/{study.space}.yaml)",
        f"{fmean(each.trials for each in found):.0f}, {fmean(each.minutes for each in found):.1f} min",
        str(len(found)),
        f"**{over_seeds([each.best for each in found])}**",
        f"{low:.3f} to {high:.3f}",
        over_seeds([each.alone for each in found]),
        f"{found[0].floor:.4f}",
        "; ".join(f"{model} {value:.4f}" for model, value, _ in study.published),
        "" if study.target is None else f"{study.target} ({'reached' if best >= study.target else 'not reached'})",
    ]


def families(study: Study, found: Sequence[Outcome]) -> list[str]:
    """A study's row of the second table: the best network of each family, over the searches."""
    names = sorted({name for each in found for name in each.families})
    reached = [(name, [each.families[name] for each in found if name in each.families]) for name in names]
    return [study.title, "; ".join(f"{name} {over_seeds(values)}" for name, values in reached)]


def page(outcomes: Mapping[Study, Sequence[Outcome]]) -> str:
    """The page docs/results.md."""
    sources = sorted({source for study in outcomes for *_, source in study.published})
    return "\n".join(
        [
            "# Results",
            "",
            INTRODUCTION.format(machine=platform.machine()),
            *table(
                ["file", "trials, time", "seeds", "best model", "rows", "best network", "floor", "published", "target"],
                [accuracies(study, found) for study, found in outcomes.items()],
            ),
            "",
            "Test accuracy of the best network of each family, chosen on validation:",
            "",
            *table(["file", "families"], [families(study, found) for study, found in outcomes.items()]),
            "",
            *(f"- {REFERENCES[source]}" for source in sources),
            "",
        ]
    )


def main(
    data: Annotated[Path, typer.Option(help="The folder with a folder for each data set.")],
    seeds: Annotated[int, typer.Option(help="Searches of each file.")] = 3,
    only: Annotated[list[str], typer.Option(help="Files to run, without .yaml; all if none is named.")] = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = PROJECT / "runs" / "results",
    output: Annotated[Path, typer.Option(help="The page.")] = PROJECT / "docs" / "results.md",
) -> None:
    for seed in range(seeds):  # all files once before any is run again: what is broken off has something of each
        for study in STUDIES:
            if not only or study.space in only:
                run(study, seed, data.resolve(), runs.resolve() / f"{study.space}-{seed}")
    outcomes: dict[Study, list[Outcome]] = {}
    for study in STUDIES:
        paths = sorted(path for path in runs.glob(f"{study.space}-[0-9]*") if RunDirectory(path).best_model.exists())
        if paths:
            outcomes[study] = [outcome(path) for path in paths]
    output.write_text(page(outcomes), encoding="utf-8")
    print(output)


if __name__ == "__main__":
    typer.run(main)
