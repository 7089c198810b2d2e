from __future__ import annotations

import json
import math

import pytest

from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.training.run_directory import RunDirectory, read_json, write_json
from automl.verbs import load_space
from tests.conftest import copy_run

HTML = "<b>bold</b><img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
LONG = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.34 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.02 GiB is free; see [/usr/lib/torch] and [bold]the documentation[/bold] | or make the batch smaller"
)


def record_trials(run: RunDirectory, *, trials: int, epochs: int, reasons: dict[int, str], unfinished: int = 0) -> None:
    """Give a run a new journal, written by the ledger as a search writes it: curves that rise, trials that fail."""
    for path in (run.journal, run.finalists, run.report):
        path.unlink(missing_ok=True)
    manifest = read_json(run.manifest)
    asha = f"{{asha: {{max_epochs: {epochs}, grace_period: 1, reduction_factor: 3}}}}"
    overrides = [f"search.trials={trials}", f"search.early_stopping={asha}"]
    spec = load_space(run.space, overrides)
    ledger = Ledger(open_journal(run.journal, mode="max"), spec)
    while (proposal := ledger.next()) is not None and proposal.number < trials - unfinished:
        number = proposal.number
        quality = 0.9 * (number * 7919 % 24) / 24
        for epoch in range(1, epochs + 1):
            if number in reasons:
                ledger.fail(number, reasons[number])
                break
            score = round(0.5 + 0.45 * quality * (1 - math.exp(-epoch / 2)), 6)
            costs = {"parameters": 4_000 * (number + 1), "bytes": 16_000 * (number + 1)}
            line = {"epoch": epoch, "accuracy": score, "train_seconds": 9.5 * epoch, **costs}
            if not ledger.record(number, line):
                break
    used = {"trials": ledger.progress.finished, "seconds": 305.2}
    changes = {"rungs": list(spec.search.early_stopping.rungs()), "max_epochs": epochs, "used": used}
    write_json(run.manifest, {**manifest, **changes, "budget": {"trials": trials, "time_budget_seconds": 300.0}})


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, finished: RunDirectory) -> RunDirectory:
    """A run of 24 trials, some failed for reasons that are long or look like HTML, classes and run name like HTML."""
    run = copy_run(finished, tmp_path_factory.mktemp("hostile") / "<i>run&amp;")
    reasons = {3: LONG, 11: f"RuntimeError: {HTML}", 12: LONG, 17: "the loss was not finite in epoch 3", 20: LONG}
    record_trials(run, trials=24, epochs=9, reasons=reasons, unfinished=1)
    finalists = read_json(finished.finalists)
    manifest = json.loads(run.manifest.read_text().replace('"negative"', json.dumps(HTML)))
    manifest["data"]["profile"]["warnings"] = [f"12 of 120 test texts are also in the training data {HTML}"]
    write_json(run.manifest, manifest)
    write_json(run.finalists, {**finalists, "trials": {}})
    examination = json.loads(run.examination.read_text().replace('"negative"', json.dumps(HTML)))
    examination["hardest"][0]["text"] = HTML
    write_json(run.examination, examination)
    return run
