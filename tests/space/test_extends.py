"""Files over files: what is laid over what, and that a mistake is placed in the file that it stands in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from automl.models import FAMILIES
from automl.space import SpaceError, UserError, load, resolved_text

BASE = """\
name: base
data: {train: t.csv, tokenizer: {word: {vocabulary: 5000}}}
model:
  cnn: {channels: {int: [8, 64], log: true}, pooling: max}
  rnn: {hidden: {choice: [32, 64]}}
training: {batch_size: {choice: [32, 64, 128]}}
search:
  trials: 40
  early_stopping: {asha: {max_epochs: 9}}
  constraints: [model.rnn.hidden <= 64]
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def test_sections_are_merged_and_ranges_replaced(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        mine="extends: middle.yaml\nmodel: {cnn: {channels: {int: [16, 32]}}}\ntraining: {batch_size: 8}\n",
        middle="extends: base.yaml\nname: middle\nsearch: {trials: 3}\nmodel: {rnn: }\n",
        base=BASE,
    )
    for spec in (load(path, FAMILIES), load(write(tmp_path, alone=resolved_text(path)), FAMILIES)):
        cnn, rnn = spec.model.named()["cnn"], spec.model.named()["rnn"]
        assert spec.name == "middle" and spec.search.trials == 3 and spec.search.max_epochs == 9
        assert cnn.channels.ends == (16, 32) and not cnn.channels.log and cnn.pooling == "max"  # type: ignore[attr-defined]
        assert rnn.hidden.choice == [32, 64]  # type: ignore[attr-defined]
        assert spec.training.batch_size == 8
        assert spec.data.tokenizer.word is not None and spec.data.tokenizer.word.vocabulary == 5000


def test_what_is_not_wanted_is_left_out(tmp_path: Path) -> None:
    text = "extends: {file: base.yaml, without: [model.rnn, search.early_stopping]}\n"
    path = write(tmp_path, mine=text + "search: {early_stopping: {none: {}}}\n", base=BASE)
    spec = load(path, FAMILIES, overrides=["model.cnn.channels={int: [4, 5]}"])
    assert list(spec.model.named()) == ["cnn"]
    assert spec.search.early_stopping.asha is None
    assert spec.model.named()["cnn"].channels.ends == (4, 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mine", "base", "expected"),
    [
        ("extends: base.yaml\ntraining: {batch_siz: 3}\n", BASE, ["mine.yaml:2:12: unknown key 'batch_siz'"]),
        (
            "extends: base.yaml\nname: x\n",
            BASE.replace("trials: 40", "trials: none"),
            ["base.yaml:8:11: search.trials"],
        ),
        (
            "extends: base.yaml\nname: x\nsearch: {trials: 0}\n",
            BASE.replace("pooling: max", "pooling: maxx"),
            [
                "mine.yaml:3:18: search.trials: expected at least 1",
                "base.yaml:4:55: model.cnn.pooling: unknown value 'maxx'",
            ],
        ),
        ("extends: base.yaml\nsearch: {trials: 2}\n", BASE.replace("trials: 40", "trials: none"), []),
        ("extends: base.yaml\nsearch: {trials: 2}\n", "a: [", ["base.yaml:1:5: not valid YAML"]),
        ("extends: bsae.yaml\n", BASE, ["mine.yaml:1:10: there is no search-space file", "did you mean", "base.yaml?"]),
        ("extends: [base.yaml]\n", BASE, ["mine.yaml:1:10: expected extends: base.yaml, or"]),
        ("extends: mine.yaml\n", BASE, ["mine.yaml:1:10: mine.yaml extends itself"]),
        (
            "extends: {file: base.yaml, without: [model.rnm]}\n",
            BASE,
            ["mine.yaml:1:38:", "base.yaml has no model.rnm; did you mean 'rnn'?"],
        ),
        (
            "extends: base.yaml\nmodel: {rnn: {hidden: [3, 4]}}\n",
            BASE,
            ["mine.yaml:2:23: model.rnn.hidden: a list of 2 does not fit"],
        ),
        ("extends: base.yaml\nname: y\nname: z\n", BASE, ["mine.yaml:3:1: 'name' is given twice"]),
    ],
)
def test_a_mistake_is_placed_in_its_own_file(mine: str, base: str, expected: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, mine=mine, base=base)
    if not expected:
        load(path, FAMILIES)
        return
    with pytest.raises(SpaceError) as caught:
        load(path, FAMILIES)
    for words in expected:
        assert words in str(caught.value)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"root:{SECRET}:0:0\nbin:x:1:1\n",
        f"-----BEGIN KEY-----\n{SECRET}\n",
        f"password: {SECRET}\n",
        f"{SECRET}: 1\n",
        f"{SECRET}: 1\n{SECRET}: 2\n",
        f"name: app\nservices: {{db: {SECRET}}}\n",
        f"kind: Secret\ndata: {{password: {SECRET}}}\n",
        f"token: *{SECRET}\n",
        f"token: !{SECRET} x\n",
        f"token: [{SECRET}\n",
        f"token: '{SECRET}\n",
        f"{SECRET}\n",
        f"- {SECRET}\n",
        f"? [{SECRET}]\n: 1\n",
        f"a: \t{SECRET}: x: y\n",
        f"%YAML 1.1\n---\n{SECRET}: 1\n",
        f"a: 1\n--- {SECRET}\n",
        f"{{{SECRET}: [1, 2\n",
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_no_search_space_is_never_shown(text: str, linked: bool, tmp_path: Path) -> None:
    path = write(tmp_path, mine="extends: base.yaml\nname: x\n", base=text)
    if linked:
        (tmp_path / "base.yaml").rename(tmp_path / "secret")
        (tmp_path / "base.yaml").symlink_to("secret")
    for read in (lambda: load(path, FAMILIES), lambda: resolved_text(path)):
        with pytest.raises(SpaceError) as caught:
            read()
        assert SECRET not in str(caught.value) and "search-space file" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../.ssh/id_rsa", "/dev/zero", "base.json", "base", ".", "a\x00.yaml", "loop.yaml"]
)
def test_only_search_space_files_are_extended(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, mine=f"extends: {json.dumps(name)}\nname: x\n")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(SpaceError) as caught:
        load(path, FAMILIES)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "binary"])
def test_only_regular_files_of_bounded_size_are_read(kind: str, extended: bool, tmp_path: Path) -> None:
    odd = tmp_path / "odd.yaml"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    elif kind == "folder":
        odd.mkdir()
    elif kind == "large":
        with odd.open("wb") as file:
            file.truncate(10 * 2**30)
    else:
        odd.write_bytes(bytes(range(256)))
    with pytest.raises(UserError):
        load(write(tmp_path, mine="extends: odd.yaml\nname: x\n") if extended else odd, FAMILIES)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{depth}: &a{depth}\n  <<: [{', '.join([f'*a{depth - 1}'] * 9)}]\n  k{depth}: 1\n" for depth in range(1, 60)
)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        LAUGHS.replace("a0:", "name:", 1),
        MERGES,
        LAUGHS + "? [*a9, *a9]\n: 1\n",
        "data: &d {train: *d}\n",
        "data: " + "[" * 5000,
        "data: " + "{a: " * 5000,
        "\n".join(f"data{n}: &a{n} x" for n in range(12_000)),
    ],
    ids=["laughs", "laughs in a name", "merges", "laughs as a key", "recursion", "lists", "mappings", "many"],
)
def test_aliases_and_depth_are_bounded(text: str, extended: bool, tmp_path: Path) -> None:
    path = write(tmp_path, mine="extends: base.yaml\nname: x\n", base=text)
    with pytest.raises(SpaceError) as caught:
        load(path if extended else tmp_path / "base.yaml", FAMILIES)
    assert len(str(caught.value)) < 20_000
