"""Rows trained a second: the training loop of automl against hand-written PyTorch, same networks, rows and batches.

    python benchmarks/throughput.py --data DIR          DIR holds train.parquet with columns text and label

`plain` is the loop of most tutorials: a DataLoader with shuffled rows, padded to the longest of their batch, AdamW as
it comes. `tight` is what one writes who knows what is fast: batches of rows of like length, made before the clock
starts, fused AdamW, nothing but the steps. Both clip gradients, as automl does by default. All words of the train
texts are in the vocabulary, up to 20,000. The arms take turns in rounds, in an order that changes; a ratio is the
median over the rounds. On a CPU the seconds are those of the process's threads, whatever else the machine does.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
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

from automl.data import Prepared, Rows, batches, prepare
from automl.models import FAMILIES, build
from automl.space import parse, sample_configs
from automl.training.fit import start, train_rows

SETTINGS = "token_dropout: 0, dropout: 0.5, embedding: 128"
NETWORKS = {
    "TextCNN": f"{{cnn: {{{SETTINGS}, kernel_sizes: [3, 4, 5], channels: 100, activation: relu, pooling: max}}}}",
    "LSTM": f"{{rnn: {{{SETTINGS}, cell: lstm, hidden: 128, bidirectional: false, pooling: last}}}}",
    "GRU": f"{{rnn: {{{SETTINGS}, cell: gru, hidden: 128, bidirectional: false, pooling: last}}}}",
}
RATE, CLIP = 1e-3, 1.0
ARMS = ("automl", "tight", "plain")

Work = Callable[[], None]


def configuration(folder: Path, network: str, batch_size: int) -> dict[str, Any]:
    text = f"""
name: throughput
data: {{train: {folder}/train.parquet, validation: 0.05, tokenizer: {{word: {{min_count: 1}}}}}}
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
    rows = rows_of(prepared)
    examples = [
        (torch.tensor(rows.tokens[first:last]), int(label))
        for first, last, label in zip(rows.offsets[:-1], rows.offsets[1:], rows.labels, strict=True)
    ]
    loader = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=config["training"]["batch_size"],
        shuffle=True,
        collate_fn=collate,
    )

    def epoch() -> None:
        module.train()
        for tokens, lengths, labels in loader:
            optimizer.zero_grad()
            loss(module(tokens.to(device), lengths.to(device)), labels.to(device)).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
        wait(device)

    return epoch


def collate(examples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    tokens = [tokens.long() for tokens, _ in examples]
    lengths = torch.tensor([len(each) for each in tokens])
    return pad_sequence(tokens, batch_first=True), lengths, torch.tensor([label for _, label in examples])


def network_of(config: dict[str, Any], prepared: Prepared, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return build(config["model"], vocabulary=prepared.vocabulary, classes=len(prepared.classes)).to(device)


def rows_of(prepared: Prepared) -> Rows:
    rows = prepared.rows("train")
    assert rows is not None
    return rows


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


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
    network: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(NETWORKS)}; several; all without.")] = None,
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
    table = Table("network", "rows/s: automl", "tight", "plain", "automl : tight", "automl : plain")
    with tempfile.TemporaryDirectory() as cache:
        for name in network or NETWORKS:
            config = configuration(data, name, batch_size)
            prepared = prepare(config["data"], seed=0, cache=Path(cache))
            work = {"automl": ours, "tight": tight, "plain": plain}
            seconds = measure({arm: work[arm](config, prepared, device) for arm in ARMS}, rounds, device)
            rows = len(rows_of(prepared))
            rates = {arm: rows / float(np.median(seconds[arm])) for arm in ARMS}
            ratios = {arm: float(np.median(np.array(seconds[arm]) / np.array(seconds["automl"]))) for arm in ARMS[1:]}
            figures["networks"][name] = {
                "rows": rows,
                "vocabulary": prepared.vocabulary,
                "seconds": seconds,
                "rows_per_second": rates,
                "automl_faster_than": ratios,
            }
            table.add_row(
                name, *(f"{rates[arm]:,.0f}" for arm in ARMS), *(f"{ratios[arm]:.2f}" for arm in ("tight", "plain"))
            )
    wide_console().print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
