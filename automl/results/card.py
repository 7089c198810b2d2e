"""The model card that goes with the best model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from automl.data.modalities import modality_of
from automl.results.intervals import wilson_interval
from automl.results.story import tested_text
from automl.results.study import RunRecord, TrialRecord
from automl.results.verdict import asked_verdict, choice_text, verdict
from automl.space.markdown import markdown_code, markdown_text
from automl.space.objectives import METRICS
from automl.space.urls import redacted_values

# What differs between models for texts, images and series.
SAID = {
    "text": {
        "table": "automl predict . your.csv{named}          # a column {column!r} with the texts",
        "call": 'model.predict(["a text of yours"])',
        "more": "`automl serve .` answers over HTTP; `automl export . --data your.csv` writes ONNX.\n\n",
        "served": "`automl serve .` answers over HTTP.\n\n",
        "kept": "Texts are cut after {max_length} tokens.",
        "any": "any text in any language.\n- Words that the training texts do not have are unknown to it.",
        "preparation": "`tokenizer.json` (Hugging Face format) and `encoder.json` the whole preparation of raw texts",
    },
    "image": {
        "table": "automl predict . your.parquet{named}    # a column {column!r} with images (bytes) or their paths",
        "call": 'model.predict([open("yours.png", "rb").read()])',
        "more": "`automl serve .` answers over HTTP; `automl export . --data your.parquet` writes ONNX.\n\n",
        "served": "`automl serve .` answers over HTTP.\n\n",
        "kept": "Images are resized to {shape[0]} by {shape[1]} pixels with {shape[2]} channels.",
        "any": "any image, whatever it shows.",
        "preparation": "`encoder.json` the size and channels to which images are brought",
    },
    "series": {
        "table": "automl predict . your.parquet{named}      # a column {column!r} with the series, lists of numbers",
        "call": "model.predict([[0.1, 0.4, 0.2]])  # or lists of lists, where a series has several channels",
        "more": "`automl serve .` answers over HTTP; `automl export . --data your.parquet` writes ONNX.\n\n",
        "served": "`automl serve .` answers over HTTP.\n\n",
        "kept": "Series are cut after {shape[0]} steps; channels: {shape[1]}.",
        "any": "any series, whatever it measures.",
        "preparation": "`encoder.json` the length and channels of series",
    },
}


def model_card(
    record: RunRecord,
    members: Sequence[TrialRecord],
    config: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    asked: bool = False,
) -> str:
    """README.md of a model: what it is, how good, on what, how it was found, how to use it.

    `members` are the best trial alone, all of an ensemble, or none where the linear floor is the best model; or, where
    it was `asked` for, any one trial. `config` and `figures` are the contents of its config.json and metrics.json.
    """
    best, floor = members[0] if asked else record.best_trial, record.floor or {"name": "", "settings": {}}
    kinds = f"{len(members)} networks" if len(members) > 1 else f"a network ({best.family})"
    kinds += " and a linear model" if config["linear"] else ""
    averaged = len(members) + bool(config["linear"]) > 1
    title = f"average of {kinds}" if averaged else best.family if members else floor["name"]
    chosen = f"chose {kinds}, whose probabilities are averaged," if averaged else "chose this model"
    if not members:
        chosen = "chose the penalty of this linear model, and chose it before everything that was searched,"
    if asked:
        chosen = "chose the epoch of this model and ranked it"
    profile = record.manifest["data"]["profile"]
    kind = modality_of(best.config["data"])
    said, own = SAID[kind.name], own_families(members)
    columns = [split for split in ("validation", "test") if figures.get(split)]
    table = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    measured = [name for name in METRICS if all(name in figures[split] for split in columns)]
    for name in measured if columns else []:
        table.append(f"| {name} | {' | '.join(f'{figures[split][name]:.4f}' for split in columns)} |")
    rows = profile["rows"]
    intervals = [
        f"{split.capitalize()} accuracy has a 95 % interval of {low:.3f} to {high:.3f} ({rows[split]:,} rows, Wilson)."
        for split in columns
        if rows.get(split) and "accuracy" in figures[split]
        for low, high in [wilson_interval(figures[split]["accuracy"], rows[split])]
    ]
    refitted = ""
    if members and not asked and record.refitted(best.number) and record.refit:
        refitted = (
            f"After the search the model was trained anew on the train and validation rows together, for "
            f"{record.refit['epochs']} epochs. Its test figures are of these weights; its validation figures, and what "
            "is said of the search's model above, are of the ones before.\n\n"
        )
    counts = profile["classes"]["train"]
    used, hardware = record.manifest["used"], record.manifest["hardware"]
    ended = [trial for trial in record.trials if trial.status != "running"]
    stopped = sum(trial.status == "stopped" for trial in ended)
    classes = "\n".join(f"- {markdown_code(name)}: {count:,} of the training rows" for name, count in counts.items())
    return f"""# {record.manifest["name"]}: {title}

{config["task"].replace("_", " ").capitalize()} into {len(config["classes"])} classes from the {kind.name} alone.

{classes}

## How good it is

{chr(10).join(table)}

{chr(10).join(intervals)}
{markdown_text(asked_verdict(record, best) if asked else verdict(record))}

{_calibrated(config["temperature"], figures)}

{refitted}The validation rows {chosen} among {len(ended)} trials.
{markdown_text(choice_text(record))} {tested_text(record, figures, asked=asked)}

## Use

```
{said["table"].format(column=config["column"], named="".join(f" --family {family}" for family in own))}
```

```python
import automl
model = automl.load_model("."{f", families={json.dumps(own)}" if own else ""})
{said["call"]}
```

{said["more"] if members else said["served"]}{_files(len(members), config["linear"], said["preparation"])}

## Data

Rows: {", ".join(f"{split} {count:,}" for split, count in rows.items())}; fingerprint
 `{record.manifest["data"]["fingerprint"]}`. {said["kept"].format(**profile) if members or kind.name != "text" else ""}

## Limits

- It knows the classes above and no others, and gives one of them to {said["any"]}
- Its probabilities are calibrated for rows like the validation rows; for others they may be too sure.
{_needs(members)}- Rows that are not like the training rows may be classified worse than the figures above say.

## How it was found

{_found(members, floor)}
Run {markdown_code(record.directory.name)}: {len(ended)} trials, {stopped} of them stopped early, in
{used["seconds"] / 60:.1f} minutes on {hardware["cpus"]:g} CPUs and {hardware["gpus"]:g} GPUs with automl
{record.manifest["automl_version"]}, seed {record.manifest["seed"]}.

{chr(10).join(_settings(one) for one in members) if members else _json(floor["settings"])}
"""


def _found(members: Sequence[TrialRecord], floor: Mapping[str, Any]) -> str:
    """Which trials the model is made of; of a linear model, what it is."""
    if not members:
        return f"{floor['name']}, fitted on the training rows; the validation rows chose its penalty."
    lines = (f"Trial {one.number} ({one.family}), best epoch {one.best_epoch} of {one.epochs}." for one in members)
    return "\n".join(lines)


def _calibrated(temperature: float, figures: Mapping[str, Any]) -> str:
    """What calibration has changed."""
    before = figures.get("before_calibration")
    if not before:
        return "Its probabilities are not calibrated."
    changes = [
        f"{figures[split]['calibration_error']:.4f} on {split} ({before[split]['calibration_error']:.4f} before)"
        for split in before
    ]
    folds = ""
    if own := figures.get("calibrated_in_sample"):
        folds = f"""
On validation it and the loss are out of fold, each fifth of the rows at the temperature of the others; at the packed
temperature, which was chosen on these rows, the error is {own["calibration_error"]:.4f}."""
    return f"""Its probabilities are calibrated: logits are divided by a temperature of {temperature:.3f}, at which the
log loss on validation is least (Guo et al. 2017). The expected calibration error is
{" and ".join(changes)}.{folds}
Which class is the most probable stays the same; figures in the table are those after calibration."""


def _files(members: int, linear: str | None, preparation: str) -> str:
    if not members:
        return "`config.json` holds the classes, `linear/` the linear model with the whole preparation."
    where = "" if members == 1 else " Each folder in `members/` holds one network."
    other = "" if linear is None else " `linear/` holds the linear model, half of the average."
    return f"""`config.json` holds the architecture and the classes.{where} `model.safetensors` holds
the weights, {preparation}.{other}"""


def _settings(trial: TrialRecord) -> str:
    return _json({name: redacted_values(trial.config[name]) for name in ("model", "training")})


def _json(settings: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(settings, indent=2)}\n```"


def _needs(members: Sequence[TrialRecord]) -> str:
    """What the package does not hold: the code of families that the user wrote."""
    return "".join(
        f"- It needs the module of `{family}`, whose folder `PYTHONPATH` names; who loads it has to name the family.\n"
        for family in own_families(members)
    )


def own_families(members: Sequence[TrialRecord]) -> list[str]:
    """The families of the user's own that a model is made of."""
    return sorted({trial.family for trial in members if ":" in trial.family})
