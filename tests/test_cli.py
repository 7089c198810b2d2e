"""The command as its user sees it: what it says, where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

import automl
from automl.cli import app, main
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run

pytestmark = pytest.mark.ray

SENTENCES = [
    "a wonderful flight, thank you",
    "terrible: we waited at the gate",
    'they said "good"',
    "an awful bag",
    "it was a great monday",
]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Command:
    """`automl ...` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str | Path) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["automl", *map(str, arguments)])
        self.capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self.capsys.readouterr()
        return Said(code, out, err)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """In a folder of its own, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Command(capsys, monkeypatch)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(said: Said, *words: str, code: int = 2) -> None:
    """One sentence on stderr that has all `words`, and nothing on stdout."""
    assert said.code == code and said.out == ""
    named = r"(run         (.+)\nnothing was written to \2\n)?"  # where a run was to lie
    assert re.fullmatch(named + r"automl: .+\n", said.err), said.err
    assert all(word in said.err for word in words), said.err


def write_data(folder: Path, rows: Sequence[tuple[str, str]], header: str = "text,label") -> Path:
    path = folder / "data.csv"
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)
    return path


# -- check and schema


def test_check_shows_the_space_at_eighty_columns(command: Command, small_space: Path) -> None:
    said = command("check", small_space)
    assert said.code == 0 and said.err == ""
    assert max(map(len, said.out.splitlines())) <= 80 and "…" not in said.out
    assert "learning_rate  0.001 to 0.05, log" in said.out and "model  one of 2" in said.out
    assert "13 searched parameters; 90 combinations, times 5 continuous; samples:" in " ".join(said.out.split())
    assert "model cnn, token_dropout " in said.out and "vectors null" not in said.out
    assert "memory to train" in said.out and "warning: tpe draws its first 10 trials at random" in said.out


def test_check_for_programs_is_json_that_holds_valid_samples(command: Command, small_space: Path) -> None:
    content = json.loads(command("check", small_space, "--format", "json").out)
    assert content["name"] == "small" and len(content["samples"]) == 5
    assert {next(iter(sample["model"])) for sample in content["samples"]} <= {"cnn", "rnn"}
    ranges = {parameter["name"]: parameter for parameter in content["parameters"]}
    assert ranges["training.optimizer.adamw.learning_rate"]["range"] == {"float": [0.001, 0.05], "log": True}
    assert content["discrete"]["configurations"] == 90 and content["feasible"] == 1
    assert content["spread"]["parameters"]["least"] <= content["costs"][0]["parameters"]
    assert ranges["model.rnn.hidden"]["when"] == [{"parameter": "model", "is": "rnn"}]


def test_check_says_that_this_machine_is_too_small_without_starting_ray(command: Command, small_space: Path) -> None:
    said = command("check", small_space, "--set", "resources.per_trial={cpus: 4096}")
    assert said.code == 0
    assert "warning: on this machine no trial can start: resources.per_trial.cpus asks for 4096" in " ".join(
        said.out.split()
    )


def test_the_schema_is_json(command: Command) -> None:
    schema = json.loads(command("schema").out)
    assert {"name", "data", "model", "training", "search", "resources"} <= set(schema["properties"])


# -- what a user can get wrong before a search


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.train=nope.csv", ["there is no file nope.csv"]),
        ("data.text=texd", ["train.jsonl has no column 'texd'", "did you mean 'text'?"]),
        ("data.label=lable", ["no column 'lable'", "did you mean 'label'?"]),
        ("search.trails=3", ["unknown key 'trails'", "did you mean 'trials'?"]),
        ("search.trials=many", ["search.trials", "expected a whole number"]),
        ("data.text=label", ["text and label name the same column"]),
        ("resources.per_trial.cpus=512", ["resources.per_trial.cpus asks for 512, but there"]),
        ("resources.per_trial.gpus=64", ["resources.per_trial.gpus asks for 64, but there"]),
        ("nonsense", ["nonsense", "key.path=value"]),
    ],
)
def test_a_wrong_value_ends_a_run_before_it_begins(
    command: Command, small_space: Path, tmp_path: Path, change: str, words: list[str]
) -> None:
    before = files(tmp_path)
    refused(command("run", small_space, "--output", "runs/new", "--set", change), *words)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("text,label", [], ["data.csv has no rows"]),
        ("text,label", [("good", "a"), ("bad", "a")], ["one class only: 'a'"]),
        ("text,label", [("good", "a"), ("", "b"), ("bad", "b")], ["1 with no text in column 'text' (line 3)"]),
        ("text,label", [("good", "a"), ("fine", "b"), ("bad", "")], ["1 with no label in column 'label' (line 4)"]),
        ("text,lable", [("good", "a")], ["no column 'label'", "did you mean 'lable'?"]),
    ],
)
def test_data_that_cannot_be_learned_from(
    command: Command, small_space: Path, tmp_path: Path, header: str, rows: list[tuple[str, str]], words: list[str]
) -> None:
    data = write_data(tmp_path, rows, header)
    before = files(tmp_path)
    refused(command("run", small_space, "--output", "new", "--set", f"data.train={data}"), *words)
    assert files(tmp_path) == before


def test_a_column_of_the_wrong_type(command: Command, small_space: Path, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": 1, "label": "a"}\n{"text": 2, "label": "b"}\n')
    said = command("run", small_space, "--output", "new", "--set", "data.train=data.jsonl")
    refused(said, "data.jsonl: column 'text' holds int64, expected text")


def test_output_folders(command: Command, small_space: Path, finished: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    said = command("run", small_space, "--output", "there")
    refused(said, "there exists already; name another --output")
    assert "resume" not in said.err
    refused(command("run", small_space, "--output", finished.path), f"automl resume {finished.path}")
    (tmp_path / "file").touch()
    refused(command("run", small_space, "--output", "file/run"), "cannot make the folder file/run")
    assert files(tmp_path / "there") == set()


def test_an_address_where_nobody_listens(command: Command, small_space: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = files(tmp_path)
    for address in (f"127.0.0.1:{port}", f"ray://localhost:{port}"):
        said = command("run", small_space, "--output", "a/b", "--address", address)
        refused(said, f"no Ray cluster answers at {address}")
    said = command("run", small_space, "--output", "a/b", "--address", "mycluster")
    refused(said, "--address mycluster: expected HOST:PORT, ray://HOST:PORT or auto")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run"],
        ["run", "space.yaml", "--trials", "0"],
        ["predict", "a"],
        ["leaderboard", "r", "--top", "x"],
    ],
)
def test_wrong_options_show_the_usage(command: Command, arguments: list[str]) -> None:
    said = command(*arguments)
    assert said.code == 2 and said.out == "" and said.err.startswith("Usage: automl") and "Traceback" not in said.err


def test_without_arguments_it_says_what_it_can_do(command: Command) -> None:
    said = command()
    text = said.out + said.err
    verbs = ("check", "schema", "run", "resume", "leaderboard", "report", "predict", "evaluate")
    for verb in (*verbs, "compress", "export", "serve", "dashboard"):
        assert f"  {verb} " in text


# -- runs and models that are none


@pytest.mark.parametrize("verb", ["leaderboard", "report", "resume"])
def test_folders_that_are_no_runs(command: Command, finished: RunDirectory, tmp_path: Path, verb: str) -> None:
    refused(command(verb, "nowhere"), "there is no run directory nowhere")
    refused(command(verb, tmp_path), "is no run directory")
    refused(command(verb, finished.best_model), "is no run directory")
    run = copy_run(finished, tmp_path / "run")
    run.manifest.write_text(run.manifest.read_text()[:100])
    refused(command(verb, run.path), "manifest.json is damaged")
    write_json(run.manifest, {**read_json(finished.manifest), "schema_version": 99})
    refused(command(verb, run.path), "later version of automl")


def test_folders_that_are_no_models(command: Command, finished: RunDirectory, tmp_path: Path) -> None:
    data = write_data(tmp_path, [("good", "positive")])
    for verb in ("predict", "evaluate"):
        refused(command(verb, "nowhere", data), "there is no model or run directory nowhere")
        refused(command(verb, tmp_path, data), "neither a run directory nor a model directory")
        refused(command(verb, finished.path / "trials" / "0", data), "neither a run directory nor a model directory")


# -- the leaderboard


def test_the_leaderboard_for_people(command: Command, finished: RunDirectory) -> None:
    said = command("leaderboard", finished.path)
    assert said.code == 0 and said.err == ""
    assert max(map(len, said.out.splitlines())) <= 80 and "…" not in said.out
    table = [line.replace(" = ", " ").split() for line in said.out.splitlines()[1:11]]
    rows = read_json(finished.leaderboard("json"))["trials"]
    assert [line[:4] for line in table] == [
        [str(row["rank"]), str(row["trial"]), row["family"], f"{row['score']:.4f}"] for row in rows
    ]
    assert "linear" in said.out and "the linear floor on validation" in said.out
    assert "7 more: automl leaderboard" in " ".join(command("leaderboard", finished.path, "--top", "3").out.split())


def test_the_leaderboard_for_programs_has_every_trial(command: Command, finished: RunDirectory) -> None:
    said = command("leaderboard", finished.path, "--format", "json")
    assert said.out == finished.leaderboard("json").read_text()
    said = command("leaderboard", finished.path, "--format", "csv")
    assert [row["status"] for row in csv.DictReader(io.StringIO(said.out))][-1] == "floor"
    assert said.out == finished.leaderboard("csv").read_text()
    assert command("leaderboard", finished.path, "--format", "md").out == finished.leaderboard("md").read_text()
    assert len(json.loads(command("leaderboard", finished.path, "--format", "json", "--top", "2").out)["trials"]) == 2


def test_report_prints_where_it_is(command: Command, finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    run.report.unlink()
    said = command("report", "run")
    assert (said.code, said.out, said.err) == (0, f"{run.report}\n", "")
    assert run.report.stat().st_size > 1_000_000


# -- predictions


def test_five_new_sentences(command: Command, finished: RunDirectory, tmp_path: Path) -> None:
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([f"0{number}", text] for number, text in enumerate(SENTENCES))])
    said = command("predict", finished.path, "new.csv")
    assert said.code == 0 and said.err == ""
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["text"] for row in rows] == SENTENCES and [row["id"] for row in rows] == ["00", "01", "02", "03", "04"]
    for row, prediction in zip(rows, automl.load_model(finished.path).predict(SENTENCES), strict=True):
        assert row["predicted_label"] == prediction.label
        assert float(row["probability_negative"]) == pytest.approx(prediction.probabilities["negative"], abs=2e-6)
        assert float(row["probability_negative"]) + float(row["probability_positive"]) == pytest.approx(1, abs=1e-5)
    assert command("predict", finished.best_model, "new.csv", "--output", "out.csv").out == ""
    assert (tmp_path / "out.csv").read_text() == said.out
    assert files(tmp_path) == {"new.csv", "out.csv"}


def test_rows_without_text_are_counted_on_stderr(command: Command, finished: RunDirectory, tmp_path: Path) -> None:
    data = write_data(tmp_path, [("good", "x"), ("", "x"), (" ", "x")])
    said = command("predict", finished.path, data)
    assert said.err == "automl: 2 rows got no label; prediction_error says why\n" and len(said.out.splitlines()) == 4
    write_data(tmp_path, [("good", "x"), ("", "x")])
    assert command("predict", finished.path, data).err == "automl: 1 row got no label; prediction_error says why\n"


def test_what_cannot_be_predicted(command: Command, finished: RunDirectory, tmp_path: Path) -> None:
    data = write_data(tmp_path, [("good", "positive")])
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "none.csv").write_text("text,label\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "again.csv").write_text("text,predicted_label\ngood,x\n")
    (tmp_path / "picture.png").touch()
    before, content = files(tmp_path), data.read_bytes()
    run = finished.path
    refused(command("predict", run, "dat.csv"), "there is no file dat.csv; did you mean data.csv?")
    refused(command("predict", run, data, "--text", "txt"), "no column 'txt'; did you mean 'text'?")
    refused(command("predict", run, data, "--output", "nowhere/out.csv"), "there is no folder nowhere")
    refused(command("predict", run, data, "--output", "folder.csv"), "folder.csv is a folder")
    refused(command("predict", run, data, "--output", "out.parquet"), "give it the ending .csv")
    refused(command("predict", run, data, "--output", "data.csv"), "is the input itself")
    refused(command("predict", run, "none.csv"), "none.csv has no rows")
    refused(command("predict", run, "empty.csv"), "empty.csv has no rows")
    refused(command("predict", run, "again.csv"), "has a column 'predicted_label' already")
    refused(command("predict", run, "picture.png"), "unknown kind of file")
    assert files(tmp_path) == before and data.read_bytes() == content


def test_evaluate(command: Command, finished: RunDirectory, small_data: Path, tmp_path: Path) -> None:
    said = command("evaluate", finished.path, small_data / "test.jsonl", "--format", "json")
    content = json.loads(said.out)
    assert content["rows"] == 120 and sum(map(sum, content["confusion"])) == 120
    text = command("evaluate", finished.path, small_data / "test.jsonl").out
    assert f"accuracy           {content['metrics']['accuracy']:.4f}" in text
    assert max(map(len, text.splitlines())) <= 80
    data = write_data(tmp_path, [("good", "positive"), ("bad", "awful")])
    refused(command("evaluate", finished.path, data), "label 'awful' is none of the model's classes")
    refused(command("evaluate", finished.path, data, "--label", "lab"), "no column 'lab'; did you mean 'label'?")
    refused(
        command("evaluate", finished.path, write_data(tmp_path, [("", "positive")])), "no row with a text and a label"
    )


# -- as a process of its own


def test_a_run_as_a_process(finished: RunDirectory) -> None:
    """Results on stdout, progress on stderr, words at eighty columns, in a folder with a space in its name."""
    out = (finished.path.parent / "stdout.txt").read_text()
    err = (finished.path.parent / "stderr.txt").read_text()
    assert out.startswith("rank  trial  family") and max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()[1:11]) == 10 and "linear" in out and "trials |" not in out
    assert "10/10 trials" in err and "Traceback" not in err
    told = "report      run/report.html\nbest model  run/best_model\ntry it      automl predict run your.csv\n"
    assert err.endswith(told)


@pytest.mark.slow
def test_a_header_without_rows_ends_in_words(tmp_path: Path) -> None:
    """A thread of Arrow that held a Python file at exit ended about every third such process by SIGABRT."""
    data = write_data(tmp_path, [])
    code = f"""
import torch, pathlib
from automl.data.tables import require_columns
require_columns([pathlib.Path({str(data)!r})], ["text"])
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=120)[1].strip().endswith(f"UserError: {data} has no rows")
        assert process.returncode == 1


def test_a_reader_that_stops_early_gets_no_traceback(finished: RunDirectory, tmp_path: Path) -> None:
    data = write_data(tmp_path, [("a good flight", "x")] * 8_000)
    arguments = [sys.executable, "-m", "automl", "predict", finished.path, data]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("text,label,predicted_label")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=120) == 1 and err == ""


def test_a_full_disk_is_said_in_one_line(finished: RunDirectory, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    data = write_data(tmp_path, [("a good flight", "x")] * 2)
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "automl", "predict", finished.path, data],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert process.returncode == 1 and process.stderr == "automl: No space left on device\n"


def test_the_command_is_installed() -> None:
    assert shutil.which("automl", path=str(Path(sys.executable).parent)) is not None


def test_help_is_not_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(names) > 20
    for arguments in ([], *[[name] for name in names]):
        with suppress(SystemExit):
            main([*arguments, "--help"])
        shown = capsys.readouterr().out
        assert "Usage: automl" in shown
        assert max(map(len, shown.splitlines())) <= 80, arguments
        assert arguments or not [line for line in shown.splitlines()[1:] if line.endswith("...")], shown


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"automl {version('automl')}\n"
