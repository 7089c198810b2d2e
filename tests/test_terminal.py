"""Every command on a run and on data that a stranger has filled with control characters, markup and formulas."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import automl.cli
from automl.cluster import reading, service
from automl.cluster.status import RunStatus
from automl.results import summarise
from automl.space import UserError
from automl.space.markdown import markdown_code, markdown_text
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run, make_texts, write_jsonl, write_space
from tests.results.conftest import record_trials
from tests.space.test_printable import hidden
from tests.test_cli import Command, command

__all__ = ["command"]

pytestmark = pytest.mark.ray

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\u200b\u2028\x7f"
LABEL = f"[red]x[/red]{ESCAPES}negative"
FORMULA = "=HYPERLINK(1)|`x`<b>[a](http://h)\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, finished: RunDirectory) -> RunDirectory:
    """A run whose name, classes, families' errors and warnings are hostile."""
    copied = copy_run(finished, tmp_path_factory.mktemp("hostile") / f"run {ESCAPES}")
    record_trials(copied, trials=6, epochs=4, reasons={1: FORMULA + ESCAPES, 3: f"Error: {ESCAPES} [blink]"})
    write_json(copied.finalists, {**read_json(finished.finalists), "trials": {}})
    for path in (copied.manifest, copied.path / "best_model/config.json"):
        write_json(path, with_label(read_json(path)))
    manifest = read_json(copied.manifest)
    manifest["data"]["profile"]["warnings"] = [ESCAPES]
    write_json(copied.manifest, manifest | {"reason": ESCAPES, "floor_error": ESCAPES})
    summarise(copied)
    return copied


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search space over data with hostile labels and texts, some of them repeated, some of no use."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"text": f"{row['text']} {ESCAPES}", "label": LABEL if row["label"] == "negative" else row["label"]}
            for row in make_texts(80, 0)]  # fmt: skip
    twice = [{**rows[0], "label": "positive"}, {**rows[0], "label": LABEL}, {"text": "", "label": LABEL}]
    for split in ("train", "validation", "test"):
        write_jsonl(folder / f"{split}.jsonl", rows + twice)
    return write_space(folder / "space.yaml", folder)


def with_label(content: Any) -> Any:
    """JSON with `negative`, as a name or as a value, replaced by the hostile label."""
    return json.loads(json.dumps(content).replace('"negative"', json.dumps(LABEL)))


def clean(said: Any, code: int = 0) -> str:
    """What a command has printed, once it is certain that a terminal only shows it."""
    assert said.code == code, said.err
    assert hidden(said.out) == set() and hidden(said.err) == set(), (said.out, said.err)
    return str(said.out + said.err)


def test_the_leaderboard_is_printable_in_every_format(command: Command, run: RunDirectory) -> None:
    for arguments in ([], ["--top", "1"], ["--format", "csv"], ["--format", "md"], ["--format", "json"]):
        words = clean(command("leaderboard", run.path, *arguments))
        assert "owned" in words or arguments == ["--top", "1"]
    table = command("leaderboard", run.path).out
    assert max(map(cell_len, table.splitlines())) <= 80 and "[blink]" in table
    assert {line.index("failed") for line in table.splitlines() if "failed:" in line} == {
        table.splitlines()[0].index("status")
    }
    content = json.loads(command("leaderboard", run.path, "--format", "json").out)
    assert f"Error: {ESCAPES} [blink]" in [row["error"] for row in content["trials"]]
    clean(command("leaderboard", "--compare", run.path, run.path))
    clean(command("leaderboard", "--compare", run.path, run.path, "--format", "json"))


def test_the_leaderboards_files_run_nothing(run: RunDirectory) -> None:
    text = (run.path / "leaderboard.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert "'=HYPERLINK" in [row["error"][:11] for row in rows] and hidden(text) == set()
    assert all(float(row["score"]) for row in rows if row["score"])
    for row in rows:
        json.loads(row["config"] or "{}")
    markdown = (run.path / "leaderboard.md").read_text(encoding="utf-8")
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert len(bars) == 1 and len(lines) == 2 + len(rows) and hidden(markdown) == set()
    assert "<b>" not in markdown and "http://" not in markdown and "](" not in markdown.replace("\\](", "")


@pytest.mark.parametrize(
    ("text", "shown", "code"),
    [
        ("plain cnn_rnn 0.5", "plain cnn_rnn 0.5", "`plain cnn_rnn 0.5`"),
        ("a|b`c`", "a\\|b\\`c\\`", "``\u0020a|b`c`\u0020``"),
        ("<b>![x](y)", "&lt;b&gt;!\\[x\\](y)", "`<b>![x](y)`"),
        ("a\nb\x1b", "a b\\\\x1b", "`a\\nb\\x1b`"),
        ("http://h www.h a@b", "http&#58;//h www&#46;h a&#64;b", "`http://h www.h a@b`"),
        ("my_module:my_net", "my_module:my_net", "`my_module:my_net`"),
    ],
)
def test_words_stay_words_in_markdown(text: str, shown: str, code: str) -> None:
    assert (markdown_text(text), markdown_code(text)) == (shown, code)


def test_commands_about_data_are_printable(command: Command, space: Path, tmp_path: Path) -> None:
    for name in ("check", "data", "prepare"):
        for arguments in ([], ["--format", "json"]):
            words = clean(command(name, space, "--set", "data.on_bad_rows=report", *arguments))
            assert name != "data" or "[red]x[/red]" in words
    table = command("data", space, "--set", "data.on_bad_rows=report").out
    assert max(cell_len(line) for line in table.splitlines()) <= 80
    clean(command("check", space, "--set", f"name={ESCAPES}"), 2)
    clean(command("check", space, "--set", f'data.text="{LABEL[12:]}"'), 2)
    clean(command("check", tmp_path / f"{ESCAPES}.yaml"), 2)
    said = command("check", space, ESCAPES)
    assert clean(said, 2).startswith("Usage: automl check") and said.out == "" and "owned" in said.err
    (tmp_path / "odd.yaml").write_text(f"name: x\n'{chr(0x202E)}{chr(0x200B)}': 1\n", encoding="utf-8")
    clean(command("check", tmp_path / "odd.yaml"), 2)


def test_commands_about_models_are_printable(command: Command, run: RunDirectory, space: Path, tmp_path: Path) -> None:
    data = space.parent / "test.jsonl"
    words = clean(command("evaluate", run.path / "best_model", data))
    assert "[red]x[/red]" in words and max(map(cell_len, words.splitlines())) <= 80
    found = json.loads(command("evaluate", run.path / "best_model", data, "--format", "json").out)
    assert LABEL in found["classes"]
    write_jsonl(tmp_path / "other.jsonl", [{"text": "x", "label": f"unknown {ESCAPES}"}])
    assert "unknown" in clean(command("evaluate", run.path / "best_model", tmp_path / "other.jsonl"), 2)
    (tmp_path / f"in{ESCAPES}.csv").write_text("text\ngood\n", encoding="utf-8")
    clean(command("predict", run.path / "best_model", tmp_path / f"in{ESCAPES}.csv", "--text", ESCAPES), 2)
    clean(command("report", copy_run(run, tmp_path / f"again {ESCAPES}").path))  # it may pack the best model anew


def test_predictions_are_exact_unless_they_are_for_a_spreadsheet(
    command: Command, run: RunDirectory, tmp_path: Path
) -> None:
    cells = ["=1+1", "-0.5", "@x\ty", LABEL]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "=head"], *([f"good {each}", each] for each in cells)])

    def written(*arguments: str) -> list[dict[str, str]]:
        said = command("predict", run.path / "best_model", "in.csv", "--output", "out.csv", *arguments)
        assert said.code == 0, said.err
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    exact, marked = written(), written("--excel")
    assert [row["=head"] for row in exact] == cells
    assert [row["'=head"] for row in marked] == ["'=1+1", "-0.5", "'@x\ty", LABEL]
    assert {row["predicted_label"] for row in exact} <= {LABEL, "positive"}
    assert [row[f"probability_{LABEL}"] for row in exact] == [row[f"probability_{LABEL}"] for row in marked]
    write_jsonl(tmp_path / "in.jsonl", [{"text": "good"}])
    assert "--excel is for CSV" in clean(command("predict", run.path / "best_model", "in.jsonl", "--excel"), 2)


def test_what_a_cluster_relays_is_printable(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    there = RunStatus(
        LABEL, ESCAPES, {"k": ESCAPES}, "2026-01-01T00:00:00+00:00", ESCAPES, "failed", ESCAPES,
        {"budget": 3, "completed": 1}, {"metric": "accuracy", "score": 0.5, "trial": 1, "family": LABEL},
    )  # fmt: skip
    monkeypatch.setattr(reading, "jobs", lambda cluster: [there])
    monkeypatch.setattr(reading, "status", lambda cluster, run: there)
    monkeypatch.setattr(reading, "resources", lambda cluster: {})
    monkeypatch.setattr(reading, "fetch", lambda cluster, run, output: (Path(ESCAPES), ESCAPES))
    monkeypatch.setattr(service, "logs", lambda cluster, run, follow: iter([f"\x1b[31m{ESCAPES}\r\x1b[0m\t", "done\n"]))
    monkeypatch.setattr(service, "stop", lambda cluster, run, wait: False)
    monkeypatch.setattr(service, "submit", lambda *arguments, **options: LABEL)
    monkeypatch.setattr(service, "wait", lambda cluster, run: there)
    monkeypatch.setenv("AUTOML_ADDRESS", "http://127.0.0.1:1")
    for arguments in (["jobs"], ["status", "x"], ["logs", "x"], ["stop", ESCAPES], ["fetch", "x"], ["jobs", "--json"]):
        words = clean(command(*arguments))
        assert "owned" in words
    assert max(map(cell_len, command("jobs").out.splitlines())) <= 80
    clean(command("submit", "x.yaml", "--follow"), 1)


def test_stop_says_what_happens_and_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "stop", lambda cluster, run, wait: True)
    monkeypatch.setenv("AUTOML_ADDRESS", "http://127.0.0.1:1")
    asked, ended = command("stop", "x"), command("stop", "x", "--wait")
    assert asked.out == ended.out == ""
    assert "automl status x" in asked.err and "automl resume x" in asked.err
    assert "ended" in ended.err and "automl resume x" in ended.err


@pytest.mark.parametrize(
    "error", [UserError(ESCAPES), OSError(2, ESCAPES, ESCAPES), OSError(ESCAPES), RuntimeError(ESCAPES)]
)
def test_every_way_to_end_is_printable(command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(automl.cli.verbs, "check", fail)
    said = command("check", "x.yaml")
    assert "owned" in clean(said, 2 if isinstance(error, UserError) else 1)
