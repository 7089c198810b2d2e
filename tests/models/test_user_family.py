"""Families of the user's own: found beside the file, checked like those of this package, trained on a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import automl
from automl.models import FAMILIES, build, family_folder
from automl.models.cost import estimate_cost
from automl.space import SpaceError, UserError, json_schema, sample_configs
from automl.verbs import load_space
from tests.conftest import write_space

NET = '''
from typing import Annotated
import torch
from torch import nn
from {helper} import halved

def bag(
    vocabulary: int,
    classes: int,
    *,
    size: Annotated[int, {{"int": [4, 8]}}] = 6,
    dropout: float = 0.1,
    pooling: Annotated[str, {{"choice": ["mean", "max"]}}] = "mean",
) -> nn.Module:
    """A bag of words."""
    return Bag(vocabulary, classes, size, dropout, pooling)

class Bag(nn.Module):
    def __init__(self, vocabulary, classes, size, dropout, pooling):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.pooling = pooling
        self.head = nn.Linear(size, classes)

    def forward(self, tokens, lengths):
        vectors = self.embedding(tokens)
        real = (tokens > 0).unsqueeze(-1)
        if self.pooling == "max":
            return self.head(self.dropout(vectors.masked_fill(~real, float("-inf")).amax(1)))
        return self.head(self.dropout(halved(2 * vectors.sum(1)) / lengths[:, None]))

def greedy(vocabulary: int, classes: int, **settings): ...
def blind(classes: int): ...
def odd(vocabulary: int, classes: int, size: int = "large"): ...
def text(vocabulary: int, classes: int): return "no module"
number = 3
'''


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    """The name of a module beside the file, one that no other test has loaded; it imports another beside it."""
    names = [f"{name}_{tmp_path.name.replace('-', '_')}" for name in ("nets", "helper")]
    (tmp_path / f"{names[0]}.py").write_text(NET.format(helper=names[1]))
    (tmp_path / f"{names[1]}.py").write_text("def halved(value):\n    return value / 2\n")
    path = list(sys.path)
    yield names[0]
    sys.path[:] = path
    for name in names:
        sys.modules.pop(name, None)


def space_of(folder: Path, data: Path, model: str) -> Path:
    path = write_space(folder / "own.yaml", data, trials=3, epochs=2)
    before, _, after = path.read_text().partition("model:")
    path.write_text(f"{before}model: {model}\ntraining:{after.partition('training:')[2]}")
    return path


def test_its_signature_is_its_space(module: str, tmp_path: Path, small_data: Path) -> None:
    spec = load_space(space_of(tmp_path, small_data, f"{{'{module}:bag': {{dropout: {{float: [0, 0.5]}}}}}}"))
    models = [config["model"][f"{module}:bag"] for config in sample_configs(spec, 30, seed=0)]
    assert {settings["size"] for settings in models} == {4, 5, 6, 7, 8}
    assert {settings["pooling"] for settings in models} == {"mean", "max"}
    assert len({settings["dropout"] for settings in models}) == 30
    name = f"{module}:bag"
    assert family_folder(name) == str(tmp_path)
    net = build({name: models[0]}, vocabulary=9, classes=2)
    assert net(torch.tensor([[3, 4]]), torch.tensor([2])).shape == (1, 2)
    size = models[0]["size"]
    config = {"model": {name: models[0]}, "training": {"optimizer": {"adamw": {}}, "ema": None}}
    assert estimate_cost(config, vocabulary=9, classes=2, length=4).parameters == 9 * size + 2 * size + 2


@pytest.mark.parametrize(
    ("model", "place", "message"),
    [
        ("{'MODULE:bag': {size: many}}", "size", "expected a whole number"),
        ("{'MODULE:bag': {size: 3, sise: 4}}", "sise", "unknown key 'sise'; did you mean 'size'?"),
        ("{'MODULE:bagg': {}}", "'MODULE", "MODULE has no function 'bagg'; did you mean 'bag'?"),
        ("{'nowhere_at_all:bag': {size: 3}}", "'nowhere", "there is no module 'nowhere_at_all' in FOLDER"),
        ("{'MODULE:greedy': {}}", "'MODULE", "takes **settings; a family names each of its settings"),
        ("{'MODULE:blind': {}}", "'MODULE", "takes no vocabulary"),
        ("{'MODULE:odd': {}}", "'MODULE", "the default of 'size' will not do"),
        ("{'MODULE:number': {}}", "'MODULE", "is no function"),
        ("{'MODULE:not a name': {}}", "'MODULE", "is no family"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(
    module: str, tmp_path: Path, small_data: Path, model: str, place: str, message: str
) -> None:
    path = space_of(tmp_path, small_data, model.replace("MODULE", module))
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    (problem,) = caught.value.problems
    assert message.replace("MODULE", module).replace("FOLDER", str(tmp_path)) in problem.message
    assert problem.source[problem.column - 1 :].startswith(place.replace("MODULE", module)) or place == "size"


def test_a_module_that_fails_or_is_another_is_said_so(module: str, tmp_path: Path, small_data: Path) -> None:
    (tmp_path / f"{module}_broken.py").write_text("import no_such_thing_here")
    with pytest.raises(SpaceError, match=r"imports 'no_such_thing_here', which is not there"):
        load_space(space_of(tmp_path, small_data, f"{{'{module}_broken:net': {{}}}}"))
    (tmp_path / f"{module}_raises.py").write_text("1 / 0")
    with pytest.raises(SpaceError, match=r"importing .* fails: ZeroDivisionError: division by zero"):
        load_space(space_of(tmp_path, small_data, f"{{'{module}_raises:net': {{}}}}"))
    (tmp_path / "json.py").write_text(NET)
    with pytest.raises(SpaceError, match=r"json is another module, .*; rename the one in"):
        load_space(space_of(tmp_path, small_data, "{'json:bag': {}}"))


def test_the_current_directory_is_looked_in_too(
    module: str, tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    space = space_of(tmp_path / "elsewhere", small_data, f"{{'{module}:bag': {{}}}}")
    with pytest.raises(SpaceError, match="there is no module"):
        load_space(space)
    monkeypatch.chdir(tmp_path)
    assert load_space(space).name == "small"


def test_a_function_that_gives_no_network_fails_the_trial_in_plain_words(module: str, tmp_path: Path) -> None:
    sys.path.append(str(tmp_path))
    with pytest.raises(UserError, match=f"{module}:text gives a str, not a torch.nn.Module"):
        build({f"{module}:text": {}}, vocabulary=3, classes=2)


def test_the_schema_of_the_file_knows_such_names() -> None:
    schema = json_schema(FAMILIES)
    content: dict[str, Any] = {"name": "x", "data": {"train": "t"}, "model": {"my_module:my_net": {"hidden": 3}}}
    jsonschema.validate(content, schema)
    content["model"] = {"my_module": {}}
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(content))


def test_a_worker_process_finds_it_and_the_model_needs_its_folder(
    module: str, tmp_path: Path, small_data: Path
) -> None:
    from automl.search.trial import Assignment

    config = sample_configs(load_space(space_of(tmp_path, small_data, f"{{'{module}:bag': {{}}}}")), 1, seed=0)[0]
    assignment = Assignment(
        number=0,
        config=config,
        epochs_known=0,
        max_epochs=1,
        seed=0,
        training_seed=0,
        metric="accuracy",
        maximize=True,
        folder=str(tmp_path / "trial"),
        run_folder=str(tmp_path),
        cache=str(tmp_path / "cache"),
        working_directory=str(tmp_path),
        threads=1,
        family_folder=family_folder(f"{module}:bag"),
    )
    code = (
        "import json, sys, torch; from automl.search.trial import Assignment, begin; "
        "print(begin(Assignment(**json.loads(sys.argv[1])), device=torch.device('cpu')).next_epoch())"
    )
    elsewhere = str(tmp_path / "other")
    Path(elsewhere).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(automl.__file__).parents[1])}

    def worker(**changes: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, json.dumps(asdict(assignment) | changes)]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)

    done = worker()
    assert "'epoch': 1" in done.stdout, done.stderr
    assert "name its folder in PYTHONPATH" in worker(family_folder=None, working_directory=elsewhere).stderr


@pytest.mark.slow
@pytest.mark.ray
def test_a_whole_search_of_it(module: str, tmp_path: Path, small_data: Path) -> None:
    (tmp_path / "other").mkdir()
    space_of(tmp_path, small_data, f"{{'{module}:bag': {{}}, cnn: {{embedding: 8, channels: 4}}}}")
    environment = {**os.environ, "PYTHONPATH": str(Path(automl.__file__).parents[1])}

    def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "automl", *words],
            cwd=tmp_path / "other",
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    done = command("run", "../own.yaml", "--output", "run", "--set", f"model.{module}:bag.size=8")
    assert done.returncode == 0, done.stderr
    rows = json.loads(command("leaderboard", "run", "--format", "json").stdout)["trials"]
    assert {row["status"] for row in rows} <= {"completed", "stopped"}
    assert f"{module}:bag" in {row["family"] for row in rows}
    more = command("resume", "run", "--trials", "5")
    assert more.returncode == 0, more.stderr
    assert len(json.loads(command("leaderboard", "run", "--format", "json").stdout)["trials"]) == 5
    (tmp_path / "in.csv").write_text("text\na good flight\n")
    packed = json.loads((tmp_path / "other/run/best_model/config.json").read_text())
    if any(f"{module}:bag" in member["config"]["model"] for member in packed["members"]):
        without = command("predict", "run", "../in.csv")
        assert without.returncode == 2 and f"--family {module}:bag" in without.stderr
        nowhere = command("predict", "run", "../in.csv", "--family", f"{module}:bag")
        assert nowhere.returncode == 2 and "PYTHONPATH" in nowhere.stderr
        assert f'families=["{module}:bag"]' in (tmp_path / "other/run/best_model/README.md").read_text()
    named = ("--family", f"{module}:bag")
    found = command(
        "predict", "run", "../in.csv", *named, PYTHONPATH=f"{environment['PYTHONPATH']}{os.pathsep}{tmp_path}"
    )
    assert found.returncode == 0 and "a good flight" in found.stdout
