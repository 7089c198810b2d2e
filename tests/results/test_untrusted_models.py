"""A model that a stranger made: nothing of it is imported, and nothing is allocated that its files do not hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import automl
from automl import verbs
from automl.cli import main
from automl.data.encode import Encoder
from automl.data.tokenizer_file import no_panic
from automl.results.package import load_model
from automl.space import UserError
from automl.training.packed_weights import unpack
from automl.training.torch_files import read_torch
from automl.training.transfer import read_earlier
from tests.results.packages import inputs_of, make_packages, of_texts, write_package

MOST_MB = 1000
NET = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran").touch()

class Bag(nn.Module):
    def __init__(self, vocabulary, classes, size):
        super().__init__()
        self.table = nn.Embedding(vocabulary, size)
        self.head = nn.Linear(size, classes)
        assert float(self.head.bias[0].item()) < 99  # which a network without numbers cannot say

    def forward(self, tokens, lengths):
        return self.head(self.table(tokens).mean(1))

def bag(vocabulary: int, classes: int, size: int = 4) -> nn.Module:
    return Bag(vocabulary, classes, size)
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def copied(packages: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(packages[name], tmp_path / name))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["text", "unigram", "bpe", "char", "packed", "ensemble", "image", "series"])
def test_what_this_package_writes_is_taken(packages: dict[str, Path], name: str) -> None:
    model = load_model(packages[name])
    assert model.predict_probabilities(inputs_of(name)).sum(axis=1) == pytest.approx(1.0)


def test_a_module_is_imported_only_where_its_name_is_said(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "strange_nets.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    config, prepared = of_texts(tmp_path)
    folder = write_package(tmp_path / "model", [(config, prepared)])
    family = "strange_nets:bag"
    change(folder / "config.json", lambda content: content["members"][0]["config"].update(model={family: {"size": 3}}))
    size = {"table.weight": (prepared.vocabulary, 3), "head.weight": (2, 3), "head.bias": (2,)}
    save_file({name: torch.randn(shape) for name, shape in size.items()}, folder / "model.safetensors")
    rows = tmp_path / "train.jsonl"
    run = tmp_path / "run"  # which has this model, and is loaded as the model alone is
    for arguments in (["predict", str(folder), str(rows)], ["evaluate", str(folder), str(rows)]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        assert ended.value.code == 2 and f"--family {family}" in said.err and "families=" in said.err
    for call in (load_model, automl.load_model, lambda path: automl.export(path, data=rows), verbs.serve):
        with pytest.raises(UserError, match=f"--family {family}"):
            call(folder)
    with pytest.raises(UserError, match=f"--family {family}"):
        automl.load_model(folder, families=["strange_nets:other"])
    assert not (tmp_path / "ran").exists() and "strange_nets" not in sys.modules and not run.exists()
    assert len(automl.load_model(folder, families=[family]).predict(["a flight"])) == 1
    assert (tmp_path / "ran").exists()
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(folder), str(rows), "--output", str(tmp_path / "said.jsonl"), "--family", family])
    assert ended.value.code == 0 and len((tmp_path / "said.jsonl").read_text().splitlines()) == 120
    # What its settings say is checked as in a search-space file, and so are its weights.
    change(
        folder / "config.json", lambda content: content["members"][0]["config"].update(model={family: {"size": "x"}})
    )
    with pytest.raises(UserError, match="size"):
        automl.load_model(folder, families=[family])
    change(folder / "config.json", lambda content: content["members"][0]["config"].update(model={family: {"size": 4}}))
    with pytest.raises(UserError, match="of another network"):
        automl.load_model(folder, families=[family])


def test_members_that_share_an_encoder_encode_once(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = of_texts(tmp_path)
    folder = write_package(tmp_path / "six", [text] * 6)
    tokenized: list[int] = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, texts: (tokenized.append(len(texts)), encode(self, texts))[1])
    model = load_model(folder)
    assert len(model.members) == 6 and len({id(encoder) for encoder, _ in model.members}) == 1
    model.predict(["a flight", "a bag"])
    assert tokenized == [2]
    assert len(model.predict_probabilities([])) == 0


CONFIGS: list[tuple[str, Callable[[Any], Any]]] = [
    ("members", lambda config: config.update(members=[])),
    ("members", lambda config: config.update(members=None)),
    ("members.0", lambda config: config.update(members=[None])),
    ("members", lambda config: config["members"].append(config["members"][0])),
    ("folder", lambda config: config["members"][0].update(folder=3)),
    ("vocabulary", lambda config: config["members"][0].update(vocabulary=10**12)),
    ("vocabulary", lambda config: config["members"][0].update(vocabulary="12")),
    ("another network", lambda config: config["members"][0].update(vocabulary=100_000_000)),
    ("more tokens", lambda config: config["members"][0].update(vocabulary=3)),
    ("config", lambda config: config["members"][0].update(config=[])),
    ("data", lambda config: config["members"][0]["config"].update(data={})),
    ("not one of images", lambda config: config["members"][0]["config"].update(data={"image": "image"})),
    ("no family 'lstm'", lambda config: config["members"][0]["config"].update(model={"lstm": {}})),
    ("takes no texts|another network", lambda c: c["members"][0]["config"].update(model={"sequence_cnn": SERIES})),
    ("model", lambda config: config["members"][0]["config"].update(model={})),
    ("channels has no value", lambda config: config["members"][0]["config"]["model"]["cnn"].pop("channels")),
    ("embedding", lambda config: config["members"][0]["config"]["model"]["cnn"].update(embedding=-3)),
    ("head", lambda config: config["members"][0]["config"]["model"]["cnn"].update(head=10**13)),
    ("channels has no value", lambda c: c["members"][0]["config"]["model"]["cnn"].update(channels={"int": [1, 9]})),
    ("kernel_sizes", lambda config: config["members"][0]["config"]["model"]["cnn"].update(kernel_sizes=[10**9])),
    ("kernel_sizes", lambda config: config["members"][0]["config"]["model"]["cnn"].update(kernel_sizes=[1] * 10**6)),
    ("classes", lambda config: config.update(classes=["a", "a"])),
    ("classes", lambda config: config.update(classes=["a", ""])),
    ("classes", lambda config: config.update(classes=[])),
    ("classes", lambda config: config.update(classes=[1, 2])),
    ("another network", lambda config: config.update(classes=["a", "b", "c"])),
    ("another network", lambda config: config.update(classes=[str(number) for number in range(1_000_000)])),
    ("temperature", lambda config: config.update(temperature=0)),
    ("temperature", lambda config: config.update(temperature=-1.0)),
    ("is not a finite number", lambda config: config.update(temperature=float("nan"))),
    ("is not a finite number", lambda config: config.update(temperature=float("inf"))),
    ("temperature", lambda config: config.update(temperature="1")),
    ("column", lambda config: config.update(column=3)),
    ("label_column", lambda config: config.update(label_column=["a"])),
    ("linear", lambda config: config.update(linear=True)),
    ("lies outside", lambda config: config.update(linear="../linear")),
    ("lies outside", lambda config: config["members"][0].update(folder="/etc")),
    ("lies outside", lambda config: config["members"][0].update(folder="a\0b")),
    ("format_version", lambda config: config.update(format_version="1")),
    ("later version", lambda config: config.update(format_version=99)),
    ("model directory", lambda config: config.clear()),
]
SERIES = {
    "channels": 4, "kernel_sizes": [3], "blocks": 1, "halving": True, "normalisation": "batch", "residual": True,
    "activation": "relu", "pooling": "mean", "dropout": 0.1, "head": 0,
}  # fmt: skip


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_what_a_config_may_not_say(copied: Callable[[str], Path], number: int) -> None:
    match, edit = CONFIGS[number]
    folder = copied("text")
    change(folder / "config.json", edit)
    refused(folder, match)


TOKENIZERS: list[Callable[[Any], Any]] = [
    lambda content: content["pre_tokenizer"]["pattern"].update(Regex="(a*)*b"),
    lambda content: content.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}),
    lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    lambda content: content.update(pre_tokenizer={"type": "Sequence", "pretokenizers": []}),
    lambda content: content.update(pre_tokenizer=None),
    lambda content: content.update(post_processor={"type": "TemplateProcessing", "single": [], "pair": []}),
    lambda content: content.update(decoder={"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}),
    lambda content: content.update(truncation={"max_length": 1, "strategy": "OnlyFirst", "stride": 0}),
    lambda content: content.update(padding={"strategy": {"Fixed": 10**12}, "direction": "Right"}),
    lambda content: content["added_tokens"].append({**content["added_tokens"][0], "id": 2, "content": "a"}),
    lambda content: content["added_tokens"][0].update(normalized=True),
    lambda content: content["model"]["vocab"].update(other=10**9),
    lambda content: content["model"]["vocab"].update(other=-1),
    lambda content: content["model"].update(vocab={}),
    lambda content: content["model"].update(vocab=[["a" * 100_000, 0.0]], type="Unigram", unk_id=0),
    lambda content: content.update(model=None),
    lambda content: content.update(version=None),
    lambda content: content.clear(),
]


@pytest.mark.parametrize("number", range(len(TOKENIZERS)))
def test_only_tokenizers_that_are_fitted_here_are_taken(copied: Callable[[str], Path], number: int) -> None:
    folder = copied("text")
    change(folder / "tokenizer.json", TOKENIZERS[number])
    refused(folder, "tokenizer.json is damaged")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", {"clean": {}, "max_length": 10**12}),
        ("text", {"clean": {"lowercase": "yes"}, "max_length": 12}),
        ("text", {"clean": {"urls": "run"}, "max_length": 12}),
        ("text", {"clean": {}, "max_length": True}),
        ("text", {"image": {"size": 8, "channels": 3}}),
        ("image", {"image": {"size": 100_000, "channels": 3}}),
        ("image", {"image": {"size": 8, "channels": 1}}),
        ("image", {"image": {"size": 8, "channels": 3, "other": 1}}),
        ("image", {"image": 8}),
        ("series", {"series": {"max_length": 10**9, "channels": 10**9}}),
        ("series", {"series": {"max_length": 12, "channels": 2}}),
        ("series", {"series": {"max_length": 0, "channels": 1}}),
        ("series", []),
        ("series", None),
    ],
)
def test_what_an_encoder_may_not_say(copied: Callable[[str], Path], name: str, content: Any) -> None:
    folder = copied(name)
    (folder / "encoder.json").write_text(json.dumps(content))
    refused(folder, "damaged|channels")


def test_packed_weights_claim_no_more_than_they_hold() -> None:
    good = {
        "int8:w": torch.ones(2, dtype=torch.int8),
        "mask:w": torch.tensor([0b11000000], dtype=torch.uint8),
        "shape:w": torch.tensor([2, 2]),
        "scale:w": torch.ones(2),
    }
    assert unpack(good)["w"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    wrong = [
        {"shape:w": torch.tensor([30_000, 50_000])},
        {"shape:w": torch.tensor([-2, -2])},
        {"shape:w": torch.tensor([2.0, 2.0])},
        {"shape:w": torch.ones(20, dtype=torch.int64)},
        {"shape:w": torch.tensor(4)},
        {"mask:w": torch.zeros(10**6, dtype=torch.uint8)},
        {"mask:w": torch.tensor([0b11100000], dtype=torch.uint8)},
        {"mask:w": torch.ones(1)},
        {"scale:w": torch.ones(3)},
        {"scale:w": torch.ones(2, dtype=torch.int64)},
        {"int8:w": torch.ones(2)},
        {"scale:other": torch.ones(2)},
    ]
    for change_ in wrong:
        with pytest.raises(ValueError, match=r"packed weight|is no shape|does not fit"):
            unpack({**good, **change_})
    for name in good:
        with pytest.raises(ValueError, match="packed weight"):
            unpack({key: value for key, value in good.items() if key != name})


def test_numbers_that_no_network_computes_with(copied: Callable[[str], Path]) -> None:
    folder = copied("image")
    weights = load_file(folder / "model.safetensors")
    for name, value in (("mean", float("nan")), ("deviation", 0.0), ("deviation", float("inf")), ("deviation", -1.0)):
        wrong = {**weights, f"standardise.{name}": torch.full((3,), value)}
        save_file(wrong, folder / "model.safetensors")
        refused(folder, f"standardise.{name} is not finite")
    folder = copied("packed")
    weights = load_file(folder / "model.safetensors")
    for number in (-1, 51, 2**31 - 1):
        weights["embedding.subword_numbers"][2, 0] = number
        save_file(weights, folder / "model.safetensors")
        refused(folder, "subword_numbers")


@pytest.mark.parametrize("name", ["config.json", "encoder.json", "tokenizer.json", "model.safetensors"])
def test_only_regular_files_inside_the_package_are_read(
    copied: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = copied("text")
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir, lambda path: path.symlink_to(path)):
        (folder / name).rename(tmp_path / "kept")
        make(folder / name)
        refused(folder, ".")
        if (folder / name).is_dir():
            (folder / name).rmdir()
        else:
            (folder / name).unlink()
        (tmp_path / "kept").rename(folder / name)
    if name != "config.json":
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / name)
        refused(folder, "lies outside")


def test_a_snapshot_in_a_hugging_face_cache_is_loaded(copied: Callable[[str], Path], tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--me--mine" / "snapshots" / "1f0c", tmp_path / "models--me--mine" / "blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    copied("text").rename(snapshot)
    for number, file in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        file.rename(blobs / str(number))
        file.symlink_to(os.path.relpath(blobs / str(number), file.parent))
    assert load_model(snapshot).predict(["a fine text"])
    (snapshot / "encoder.json").unlink()
    (tmp_path / "encoder.json").write_text("{}")
    (snapshot / "encoder.json").symlink_to(tmp_path / "encoder.json")
    refused(snapshot, "lies outside")


def test_a_panic_of_the_tokenizer_is_an_error_in_words() -> None:
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(UserError, match="the tokenizer cannot: it broke"), no_panic("the tokenizer cannot"):
        raise panic("it broke\nat length")
    with pytest.raises(KeyboardInterrupt), no_panic("the tokenizer cannot"):
        raise KeyboardInterrupt


def test_an_earlier_model_is_read_within_its_size(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("packed")
    before = read_earlier(str(folder)).weights
    assert before.keys() == read_earlier(str(folder / "model.safetensors")).weights.keys()
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.startswith("shape:"))
    save_file({**weights, name: torch.tensor([30_000, 50_000])}, folder / "model.safetensors")
    with pytest.raises(UserError, match="init_from"):
        read_earlier(str(folder))
    for zipped in (True, False):
        torch.save({"a": torch.arange(6.0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert read_torch(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2, 3, 4, 5]
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(content.replace(b"K\x06", b"J\xff\xff\xff\x7f"))
    with pytest.raises(UserError, match="more than it does"):
        read_torch(tmp_path / "b.pt")
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "c.pt")
    with (
        zipfile.ZipFile(tmp_path / "c.pt") as archive,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for part in archive.namelist():
            bomb.writestr(part, archive.read(part))
    with pytest.raises(UserError, match="compressed inside"):
        read_torch(tmp_path / "bomb.pt")


@pytest.mark.slow
def test_damaged_packages_are_refused_in_a_sentence(packages: dict[str, Path], tmp_path: Path) -> None:
    folder = next(iter(packages.values())).parent
    arguments = [str(folder), ",".join(packages), str(tmp_path), "24", "7"]
    command = [sys.executable, "-m", "tests.results.damage_models", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    *faults, peak = done.stdout.splitlines()
    assert not faults, "\n".join(faults)
    assert int(peak) < MOST_MB


def test_loading_leaves_nothing_in_the_shared_temporary_folder(packages: dict[str, Path], tmp_path: Path) -> None:
    """PyTorch's compiler, which reads pickles from /tmp/torchinductor_<user>, is not even imported."""
    (tmp_path / "shared").mkdir()
    said = """
import os, sys
from automl.results.package import load_model
for path in sys.argv[1:]:
    load_model(path)
print("torch._dynamo" in sys.modules)
import torch._dynamo
print(os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""
    words = [sys.executable, "-c", said, *map(str, packages.values())]
    places = {"TMPDIR": str(tmp_path / "shared"), "XDG_CACHE_HOME": str(tmp_path / "mine")}
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"} | places
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False", str(tmp_path / "mine/torchinductor")]
    assert not list((tmp_path / "shared").iterdir())
