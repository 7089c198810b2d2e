"""Rows trained a second: the training loop of automl against hand-written PyTorch, same networks, rows and batches.

    python benchmarks/throughput.py --data DIR          DIR holds train.parquet with columns text and label

`plain` is the loop of most tutorials: a DataLoader with shuffled rows, padded to the longest of their batch, AdamW as
it comes. `lightning` is the same with Lightning's Trainer, without its logging and checkpoints. `tight` is what one
writes who knows what is fast: batches of rows of like length, made before the clock starts, fused AdamW, nothing but
the steps. `float32` is automl kept from computing in bfloat16. All clip gradients, as automl does by default. All words
of the train texts are in the vocabulary, up to 20,000; for `--network ImageCNN` DIR holds images instead.
The arms take turns in rounds, in an order that changes; a ratio is the
median over the rounds. On a CPU the seconds are those of the process's threads, whatever else the machine does.
"""

from __future__ import annotations

import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from measure import use_cores, wide_console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from automl.data import DenseRows, Prepared, Rows, batches, prepare
from automl.models import FAMILIES, build
from automl.space import parse, sample_configs
from automl.training.fit import train_rows
from automl.training.lexicon import make_lexicon
from automl.training.start import start

SETTINGS = "token_dropout: 0, dropout: 0.5, embedding: 128"
NETWORKS = {
    "TextCNN": f"{{cnn: {{{SETTINGS}, kernel_sizes: [3, 4, 5], channels: 100, activation: relu, pooling: max}}}}",
    "LSTM": f"{{rnn: {{{SETTINGS}, cell: lstm, hidden: 128, bidirectional: false, pooling: last}}}}",
    "GRU": f"{{rnn: {{{SETTINGS}, cell: gru, hidden: 128, bidirectional: false, pooling: last}}}}",
    "ImageCNN": (
        "{image_cnn: {stages: 3, depth: 1, width: 32, normalisation: batch, activation: relu, residual: true, "
        "squeeze_excitation: false, dropout: 0.1}}"
    ),
}
RATE, CLIP = 1e-3, 1.0

Work = Callable[[], None]


def configuration(folder: Path, network: str, batch_size: int) -> dict[str, Any]:
    task, more = ("image", "") if network == "ImageCNN" else ("text", ", tokenizer: {word: {min_count: 1}}")
    text = f"""
name: throughput
task: {task}_classification
data: {{train: {folder}/train.parquet, validation: 0.05{more}}}
model: {NETWORKS[network]}
training: {{optimizer: {{adamw: {{learning_rate: {RATE}}}}}, schedule: {{constant: {{}}}}, batch_size: {batch_size}}}
"""
    return sample_configs(parse(text, FAMILIES), 1, seed=0)[0]


def ours(config: dict[str, Any], prepared: Prepared, device: torch.device) -> Work:
    training = start(config, prepared, max_epochs=100, seed=0, device=device)

    def epoch() -> None:
        train_rows(training, training.rows + len(training.train), lambda: None)
        wait(device)

    return epoch


def ours_float32(config: dict[str, Any], prepared: Prepared, device: torch.device) -> Work:
    return ours({**config, "training": {**config["training"], "precision": "float32"}}, prepared, device)


def tight(config: dict[str, Any], prepared: Prepared, device: torch.device) -> Work:
    module = network_of(config, prepared, device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=True)
    size, rows = config["training"]["batch_size"], rows_of(prepared)
    loss = nn.CrossEntropyLoss()
    made = list(batches(rows, size, shuffle=np.random.default_rng(0)))

    def epoch() -> None:
        module.train()
        for batch in made:
            optimizer.zero_grad()
            loss(module(batch.tokens.to(device), batch.lengths.to(device)), batch.labels.to(device)).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
        wait(device)

    return epoch


def plain(config: dict[str, Any], prepared: Prepared, device: torch.device) -> Work:
    module = network_of(config, prepared, device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    loss = nn.CrossEntropyLoss()
    loader = padded_loader(config, prepared)

    def epoch() -> None:
        module.train()
        for tokens, lengths, labels in loader:
            optimizer.zero_grad()
            loss(module(tokens.to(device), lengths.to(device)), labels.to(device)).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
        wait(device)

    return epoch


def with_lightning(config: dict[str, Any], prepared: Prepared, device: torch.device) -> Work:
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network_of(config, prepared, device)

        def training_step(self, batch: tuple[Tensor, Tensor, Tensor], number: int) -> Tensor:
            tokens, lengths, labels = batch
            return nn.functional.cross_entropy(self.network(tokens, lengths), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    classifier, loader = Classifier(), padded_loader(config, prepared)

    def epoch() -> None:
        lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            gradient_clip_val=CLIP,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(classifier, loader)
        wait(device)

    return epoch


def padded_loader(config: dict[str, Any], prepared: Prepared) -> DataLoader[Any]:
    rows = rows_of(prepared)
    if isinstance(rows, Rows):
        inputs = [torch.tensor(rows.tokens[first:last]) for first, last in pairwise(rows.offsets)]
    else:
        inputs = list(torch.tensor(rows.values))
    examples = list(zip(inputs, rows.labels.tolist(), strict=True))
    return DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=config["training"]["batch_size"],
        shuffle=True,
        collate_fn=collate,
    )


def collate(examples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    tokens = [tokens if tokens.dtype == torch.uint8 else tokens.long() for tokens, _ in examples]
    lengths = torch.tensor([len(each) for each in tokens])
    return pad_sequence(tokens, batch_first=True), lengths, torch.tensor([label for _, label in examples])


def network_of(config: dict[str, Any], prepared: Prepared, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    lexicon, _ = make_lexicon(config["model"], prepared)
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    return build(config["model"], **sizes, lexicon=lexicon).to(device)


def rows_of(prepared: Prepared) -> Rows | DenseRows:
    rows = prepared.rows("train")
    assert rows is not None
    return rows


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


ARMS = {"automl": ours, "float32": ours_float32, "tight": tight, "lightning": with_lightning, "plain": plain}
OTHERS = ("tight", "lightning", "plain")


def measure(work: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of an epoch of each arm in each round, after one to warm up."""
    seconds: dict[str, list[float]] = {arm: [] for arm in work}
    read = time.perf_counter if device.type == "cuda" else time.process_time
    for arm in work:
        work[arm]()
    for number in range(rounds):
        shift = number % len(work)
        for arm in [*work][shift:] + [*work][:shift]:
            clock = read()
            work[arm]()
            seconds[arm].append(read() - clock)
    return seconds


def main(
    data: Annotated[Path, typer.Option(help="A folder with train.parquet: columns text and label.")],
    rounds: Annotated[int, typer.Option(help="Epochs of each arm.", min=1)] = 5,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    network: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(NETWORKS)}; several; those for texts without.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table."""
    use_cores(threads)
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} threads, {platform.machine()}",
        "torch": torch.__version__,
        "batch_size": batch_size,
        "networks": {},
    }
    table = Table("network", "rows/s: automl", *[*ARMS][1:], *(f"automl : {arm}" for arm in OTHERS))
    with tempfile.TemporaryDirectory() as cache:
        for name in network or ("TextCNN", "LSTM", "GRU"):
            config = configuration(data, name, batch_size)
            prepared = prepare(config["data"], seed=0, cache=Path(cache))
            work = {arm: make(config, prepared, device) for arm, make in ARMS.items()}
            seconds = measure(work, rounds, device)
            rows = len(rows_of(prepared))
            rates = {arm: rows / float(np.median(seconds[arm])) for arm in ARMS}
            ratios = {
                arm: float(np.median(np.array(seconds[arm]) / np.array(seconds["automl"])))
                for arm in (*OTHERS, "float32")
            }
            figures["networks"][name] = {
                "rows": rows,
                "vocabulary": prepared.vocabulary,
                "seconds": seconds,
                "rows_per_second": rates,
                "automl_faster_than": ratios,
            }
            table.add_row(name, *(f"{rates[arm]:,.0f}" for arm in ARMS), *(f"{ratios[arm]:.2f}" for arm in OTHERS))
    wide_console().print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
