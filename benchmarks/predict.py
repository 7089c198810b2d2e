"""Rows a second and peak memory of `automl predict`, in a process of its own for each number of rows.

    python benchmarks/predict.py MODEL --data DIR          DIR holds test.parquet with the model's text column

The input is the test rows again and again, as CSV. Memory is the largest resident set of the process, which holds the
libraries and the model as well; seconds are those of the prediction alone, of the whole machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from automl.data.tables import write_table

CHILD = """
import json, resource, sys, time
import automl
from pathlib import Path
from automl.results.predict import predict_file
model = automl.load_model(sys.argv[1])
clock = time.perf_counter()
predict_file(model, Path(sys.argv[2]), Path(sys.argv[3]), text=sys.argv[4])
seconds = time.perf_counter() - clock
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "peak_bytes": peak}))
"""


def main(
    model: Annotated[Path, typer.Argument(help="A run directory or a best_model directory.")],
    data: Annotated[Path, typer.Option(help="A folder with test.parquet.")],
    text: Annotated[str, typer.Option(help="The text column.")] = "text",
    rows: Annotated[list[int] | None, typer.Option(help="Repeatable [10000 and 100000].")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table."""
    texts = pq.read_table(data / "test.parquet", columns=[text])
    table = Table("rows", "seconds", "rows/s", "peak memory, MB")
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in rows or [10_000, 100_000]:
            source, target = Path(scratch, f"in-{count}.csv"), Path(scratch, f"out-{count}.csv")
            repeated = pa.concat_tables([texts] * (-(-count // texts.num_rows))).slice(0, count)
            write_table(repeated, source)
            command = [sys.executable, "-c", CHILD, str(model), str(source), str(target), text]
            measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            figures.append({"rows": count, **measured, "rows_per_second": count / measured["seconds"]})
            table.add_row(
                f"{count:,}",
                f"{measured['seconds']:.1f}",
                f"{count / measured['seconds']:,.0f}",
                f"{measured['peak_bytes'] / 1e6:,.0f}",
            )
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
