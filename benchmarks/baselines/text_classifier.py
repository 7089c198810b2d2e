"""What both hand-written scripts share: data, networks and training, in plain PyTorch as most would write them."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]+")
PADDING, UNKNOWN = 0, 1
EPOCHS = 9
Example = tuple[Tensor, int]


@dataclass
class TextData:
    """Examples of (word numbers, class) and the sizes that a network needs."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    vocabulary: int
    classes: int


def load_data(folder: Path, most_words: int = 20_000, least_count: int = 2) -> TextData:
    """Read train, validation and test.parquet; the vocabulary is that of the train texts."""
    texts, labels = {}, {}
    for split in ("train", "validation", "test"):
        table = pq.read_table(folder / f"{split}.parquet")
        texts[split] = [WORD.findall(text.lower()) for text in table["text"].to_pylist()]
        labels[split] = table["label"].to_pylist()
    counts = Counter(word for words in texts["train"] for word in words)
    frequent = [word for word, count in counts.most_common(most_words) if count >= least_count]
    number = {word: index for index, word in enumerate(frequent, start=2)}
    classes = {label: index for index, label in enumerate(sorted(set(labels["train"])))}
    encoded = {
        split: [
            (torch.tensor([number.get(word, UNKNOWN) for word in words] or [UNKNOWN]), classes[label])
            for words, label in zip(texts[split], labels[split], strict=True)
        ]
        for split in texts
    }
    return TextData(**encoded, vocabulary=len(number) + 2, classes=len(classes))


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The search space; that of `../time_to_accuracy.yaml`."""
    family = trial.suggest_categorical("family", ["cnn", "rnn", "cnn_rnn"])
    config: dict[str, Any] = {
        "family": family,
        "embedding": trial.suggest_int("embedding", 64, 256, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
    }
    if family != "rnn":
        kernels = ["3", "1 2 3", "2 3 4", "3 4 5"] if family == "cnn" else ["2", "3", "2 3"]
        config["kernels"] = trial.suggest_categorical(f"{family}_kernels", kernels)
        config["channels"] = trial.suggest_int(f"{family}_channels", 64, 256 if family == "cnn" else 192, log=True)
    if family != "cnn":
        config["cell"] = trial.suggest_categorical(f"{family}_cell", ["lstm", "gru"])
        config["hidden"] = trial.suggest_int(f"{family}_hidden", 32, 128, log=True)
        config["bidirectional"] = trial.suggest_categorical(f"{family}_bidirectional", [True, False])
    if family == "cnn_rnn":
        config["stride"] = trial.suggest_categorical("stride", [1, 2])
    return config


class Classifier(nn.Module):
    """An embedding, convolutions or a recurrence or both, the maximum over the text, a linear layer."""

    def __init__(self, config: dict[str, Any], vocabulary: int, classes: int) -> None:
        super().__init__()
        size = config["embedding"]
        self.embedding = nn.Embedding(vocabulary, size, padding_idx=PADDING)
        self.dropout = nn.Dropout(config["dropout"])
        self.stride = config.get("stride", 1)
        self.convolutions = nn.ModuleList()
        if "kernels" in config:
            kernels = [int(kernel) for kernel in config["kernels"].split()]
            self.convolutions.extend(
                nn.Conv1d(size, config["channels"], kernel, padding=kernel // 2) for kernel in kernels
            )
            size = config["channels"] * len(kernels)
        self.recurrence = None
        if "cell" in config:
            make = nn.LSTM if config["cell"] == "lstm" else nn.GRU
            both = config["bidirectional"]
            self.recurrence = make(size, config["hidden"], batch_first=True, bidirectional=both)
            size = config["hidden"] * (2 if both else 1)
        self.output = nn.Linear(size, classes)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        features = self.dropout(self.embedding(words))
        if len(self.convolutions):
            channels_first = features.transpose(1, 2)
            longest = words.shape[1]  # an even kernel gives one more
            convolved = torch.cat([each(channels_first)[:, :, :longest] for each in self.convolutions], dim=1).relu()
            if self.stride > 1:
                convolved = nn.functional.max_pool1d(convolved, self.stride, ceil_mode=True)
                lengths = (lengths + self.stride - 1) // self.stride
            features = convolved.transpose(1, 2)
        if self.recurrence is not None:
            packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
            features, _ = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True)
        padding = torch.arange(features.shape[1])[None, :] >= lengths[:, None]
        pooled = features.masked_fill(padding.unsqueeze(-1), float("-inf")).amax(dim=1)
        return self.output(self.dropout(pooled))


def collate(examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad to the longest of the batch: words [B, L], lengths [B], labels [B]."""
    words = [words for words, _ in examples]
    lengths = torch.tensor([len(each) for each in words])
    return pad_sequence(words, batch_first=True), lengths, torch.tensor([label for _, label in examples])


@torch.no_grad()
def accuracy(model: nn.Module, examples: list[Example]) -> float:
    """The share of examples that the model labels rightly."""
    model.eval()
    right = 0
    for words, lengths, labels in DataLoader(examples, batch_size=256, collate_fn=collate):
        right += int((model(words, lengths).argmax(dim=1) == labels).sum())
    return right / len(examples)


def train(
    config: dict[str, Any], data: TextData, seed: int, weights: Path, after_epoch: Callable[[int, float], bool]
) -> float:
    """Train up to EPOCHS, as long as `after_epoch(epoch, accuracy)` says so; keep the best epoch's weights.

    Gives the best validation accuracy.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = Classifier(config, data.vocabulary, data.classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["learning_rate"])
    loss = nn.CrossEntropyLoss()
    loader = DataLoader(data.train, batch_size=config["batch_size"], shuffle=True, collate_fn=collate)
    best = 0.0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for words, lengths, labels in loader:
            optimizer.zero_grad()
            loss(model(words, lengths), labels).backward()
            optimizer.step()
        score = accuracy(model, data.validation)
        if score > best:
            best = score
            torch.save(model.state_dict(), weights)
        if not after_epoch(epoch, score):
            break
    return best


def note(out: Path, trial: int | str, epoch: int, score: float) -> None:
    """Write down when an epoch ended, for the benchmark."""
    with (out / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "trial": trial, "epoch": epoch, "validation": score}) + "\n")


def write_result(out: Path, config: dict[str, Any], data: TextData, weights: Path, best: float) -> None:
    """Measure the best model on the test set."""
    model = Classifier(config, data.vocabulary, data.classes)
    model.load_state_dict(torch.load(weights, weights_only=True))
    (out / "result.json").write_text(json.dumps({"validation": best, "test": accuracy(model, data.test)}))
