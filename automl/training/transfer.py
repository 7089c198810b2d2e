"""Training that begins with what an earlier model has learned: its weights, and which of them may change when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl.data import Encoder, load_encoder
from automl.data.vocabulary import token_texts
from automl.space import UserError, nearest
from automl.space.safe_files import first_line, read_json_file
from automl.training.packed_weights import unpack
from automl.training.run_directory import RunDirectory
from automl.training.tensor_files import read_tensors
from automl.training.torch_files import read_torch

# Weights with a row for each word of a vocabulary, which is another one in another model.
WORD_ROWS = ("embedding.embedding.weight", "embedding.tuned.weight", "embedding.frozen.weight")
OF_THE_WORDS = "embedding.subword_numbers"  # follows from the words and is never taken over


@dataclass(frozen=True)
class Earlier:
    """The weights of an earlier model by name, its words and its classes by number (None where they are not known)."""

    weights: Mapping[str, Tensor]
    words: Sequence[str] | None = None
    classes: Sequence[str] | None = None


def read_earlier(source: str) -> Earlier:
    """Read a run directory, a best_model directory, or a file with a state dict (.safetensors, or .pt of tensors).

    Of an ensemble it is the member that ranks first.
    Raises UserError where it is none of them or cannot be read. Nothing but tensors is unpickled.
    """
    path = Path(source)
    if RunDirectory(path).manifest.is_file():
        path = RunDirectory(path).best_model
    described = _config(path if path.is_dir() else path.parent)
    if path.is_dir():
        path = _first_member(path, described) / "model.safetensors"
    if not path.is_file():
        raise UserError(
            f"init_from: there is no model {source}; expected a run, a best_model directory or a state dict"
        )
    weights = read_state_dict(path, "init_from")
    try:
        encoder = load_encoder(path.parent) if (path.parent / "tokenizer.json").is_file() else None
        words = token_texts(encoder.tokenizer) if isinstance(encoder, Encoder) else None
    except Exception as error:  # the libraries raise many kinds, and bare Exceptions
        raise UserError(f"init_from: cannot read {path.parent}: {type(error).__name__}: {error}") from error
    return Earlier(weights, words, _classes_of(described))


def read_state_dict(path: Path, setting: str) -> Mapping[str, Tensor]:
    """The tensors by name in a .safetensors file, or in one of PyTorch's, of which nothing else is unpickled.

    Raises UserError, which begins with the `setting` that names the file, where it cannot be read.
    """
    try:
        weights = unpack(read_tensors(path)) if path.suffix == ".safetensors" else read_torch(path)
    except UserError as error:
        raise UserError(f"{setting}: cannot read {path}: {error}") from error
    except Exception as error:  # the libraries raise many kinds, and bare Exceptions
        raise UserError(f"{setting}: cannot read {path}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{setting}: {path} holds no state dict, a mapping of names to tensors")
    return weights


def _config(folder: Path) -> Mapping[str, Any]:
    """What `config.json` says of the model in a folder; nothing where it is not there or is none."""
    try:
        config = read_json_file(folder / "config.json")
    except (OSError, UserError):
        return {}
    return config if isinstance(config, Mapping) else {}


def _classes_of(config: Mapping[str, Any]) -> Sequence[str] | None:
    classes = config.get("classes")
    return [str(name) for name in classes] if isinstance(classes, list) else None


def _first_member(folder: Path, config: Mapping[str, Any]) -> Path:
    """Where the weights of a best_model directory lie: of an ensemble those of the network that ranks first."""
    try:
        members = [(folder / member["folder"]).resolve() for member in config["members"]]
    except (LookupError, TypeError, ValueError, OSError, RuntimeError):  # no list of folders, or no name of one
        return folder
    inside = [member for member in members if member.is_relative_to(folder.resolve())]
    return next((member for member in inside if (member / "model.safetensors").is_file()), folder)


@torch.no_grad()
def take_over(module: nn.Module, earlier: Earlier, words: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Give `module`, with the vocabulary `words` and `classes`, the weights of an earlier model that match by name and
    shape.

    Words have their vectors wherever both models know them, and classes their rows of the last layer; without the
    earlier one's words or classes they are taken for the same if there are as many. Gives loaded, other_shape, new
    (names of this network's weights: taken over; there in another shape; not there, or for other classes), unused
    (names of the earlier ones) and, where they were taken over one by one, words_known and classes_known. Raises
    UserError where nothing matches.
    """
    loaded, other_shape, new = [], [], []
    report: dict[str, Any] = {}
    last = _last_layer(module, len(classes))
    for name, value in module.state_dict().items():
        there = earlier.weights.get(name)
        if name == OF_THE_WORDS:
            continue
        if there is None:
            new.append(name)
        elif name in WORD_ROWS and earlier.words is not None and there.shape[1:] == value.shape[1:]:
            report["words_known"] = _take_words(value, words, there, earlier.words)
            loaded.append(name)
        elif name in last and earlier.classes is not None and there.shape[1:] == value.shape[1:]:
            report["classes_known"] = _take_rows(value, classes, there, earlier.classes)
            (loaded if report["classes_known"] else new).append(name)
        elif there.shape == value.shape:
            value.copy_(there)
            loaded.append(name)
        else:
            other_shape.append(name)
    if not loaded:
        raise UserError("init_from: no layer of the earlier model has a name and a shape of this network's")
    unused = [name for name in earlier.weights if name not in {*loaded, *other_shape, OF_THE_WORDS}]
    return {"loaded": loaded, "other_shape": other_shape, "new": new, "unused": unused, **report}


def _last_layer(module: nn.Module, classes: int) -> tuple[str, str]:
    """The names of the weights and biases with a row for each class: those of the last linear layer of that size."""
    parts = module.named_modules()
    layers = [name for name, part in parts if isinstance(part, nn.Linear) and part.out_features == classes]
    return (f"{layers[-1]}.weight", f"{layers[-1]}.bias") if layers else ("", "")


def _take_words(rows: Tensor, words: Sequence[str], earlier_rows: Tensor, earlier_words: Sequence[str]) -> int:
    rows[1] = earlier_rows[1].to(rows.dtype)  # unknown
    return _take_rows(rows, words, earlier_rows, earlier_words)


def _take_rows(rows: Tensor, names: Sequence[str], earlier_rows: Tensor, earlier_names: Sequence[str]) -> int:
    """Give `rows` those of the same (not empty) name; gives how many there are."""
    places = {name: place for place, name in enumerate(earlier_names) if name}
    pairs = [(number, places[name]) for number, name in enumerate(names) if name in places]
    if pairs:
        ours, theirs = (torch.tensor(side) for side in zip(*pairs, strict=True))
        rows[ours] = earlier_rows[theirs].to(rows.dtype)
    return len(pairs)


@dataclass(frozen=True)
class Layer:
    """A part of a network with those of its parameters that are trainable."""

    module: nn.Module
    parameters: Sequence[nn.Parameter]


def layers_of(module: nn.Module) -> dict[str, Layer]:
    """The layers with trainable parameters, from first to last: a network's parts, lists of them taken apart."""
    layers: dict[str, Layer] = {}
    for name, part in module.named_children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            layers |= {f"{name}.{inner}": layer for inner, layer in layers_of(part).items()}
        elif parameters := [parameter for parameter in part.parameters() if parameter.requires_grad]:
            layers[name] = Layer(part, parameters)
    return layers


def rate_shares(module: nn.Module, decay: float) -> dict[int, float]:
    """The share of the learning rate of each parameter (by id): 1 in the last layer, times `decay` in each before.

    Discriminative fine-tuning (Howard and Ruder 2018, section 3.2, where `decay` is 1 / 2.6).
    """
    layers = list(layers_of(module).values())
    return {
        id(parameter): decay**depth for depth, layer in enumerate(reversed(layers)) for parameter in layer.parameters
    }


@dataclass(frozen=True)
class Freezing:
    """Which layers are not trained when: `until` their last frozen epoch, by layer (-1: for ever)."""

    layers: Mapping[str, Layer]
    until: Mapping[str, int]

    def apply(self, epoch: int) -> bool:
        """Freeze and free the layers for `epoch` (from 1); whether anything has changed."""
        changed = False
        for name, layer in self.layers.items():
            trained = self._trained(name, epoch)
            for parameter in layer.parameters:
                changed |= parameter.requires_grad != trained
                parameter.requires_grad_(trained)
        return changed

    def keep_statistics(self, epoch: int) -> None:
        """Let batch normalisation in layers that are frozen in `epoch` learn nothing from its batches."""
        for name, layer in self.layers.items():
            if not self._trained(name, epoch):
                for part in layer.module.modules():
                    if getattr(part, "running_mean", None) is not None:
                        part.eval()

    def _trained(self, name: str, epoch: int) -> bool:
        return 0 <= self.until[name] < epoch


def plan_freezing(module: nn.Module, settings: Mapping[str, Any], loaded: Sequence[str], section: str) -> Freezing:
    """When the layers with weights in `loaded` are frozen, after the settings of this section.

    All but the last layer stay frozen for `frozen_epochs`; `gradual` frees them one an epoch after that, from the last
    to the first (Howard and Ruder 2018, section 3.3). Those that `freeze` names are never trained. Raises UserError
    where it names none, or all.
    """
    layers = layers_of(module)
    unknown = next((name for name in settings["freeze"] if name not in layers), None)
    if unknown is not None:
        raise UserError(f"{section}: there is no layer {unknown!r} to freeze{nearest(unknown, layers)}")
    if set(settings["freeze"]) == set(layers):
        raise UserError(f"{section}: all layers are frozen, so there is nothing to train")
    until = {}
    for depth, name in enumerate(reversed(layers)):
        taken = depth > 0 and any(weight == name or weight.startswith(f"{name}.") for weight in loaded)
        until[name] = settings["frozen_epochs"] + (depth if settings["gradual"] else 0) if taken else 0
        if name in settings["freeze"]:
            until[name] = -1
    return Freezing(layers, until)
