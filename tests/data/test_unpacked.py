"""Parquet and Arrow files that are small and whose rows are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from automl.data.tables import read_batches
from automl.data.unpacked import bounded, expanded_bytes
from automl.space import UserError

LONG = "x" * 1_000_000
READ = """
import sys
from pathlib import Path
from automl.data.tables import read_batches
from automl.space import UserError
try:
    print(sum(batch.num_rows for batch in read_batches(Path(sys.argv[1]))))
except UserError as error:
    print(error)
from tests.memory import peak_bytes
print(peak_bytes() // 2**20)
"""


def dictionary_of(rows: int) -> pa.Table:
    indices = pa.array(np.zeros(rows, np.int32))
    return pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array([LONG])), "label": ["a"] * rows})


def bomb(path: Path) -> Path:
    """A file of less than 1 MB whose texts are 20 GB."""
    table = dictionary_of(20_000)
    if path.suffix == ".parquet":
        pq.write_table(table.cast(table.schema), path, compression="zstd", store_schema=False)
    elif path.name.startswith("packed"):
        zeros = pa.record_batch({"text": [LONG] * 600, "label": ["a"] * 600})
        with pa.ipc.new_file(path, zeros.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(zeros)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    assert path.stat().st_size < 2_000_000
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "packed.arrow"])
def test_a_small_file_of_large_rows_is_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ, bomb(tmp_path / name)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    said, memory = done.stdout.strip().splitlines()
    assert "AUTOML_MAX_UNPACKED_RATIO" in said and int(memory) < 2500, done.stdout


def test_limits_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = dictionary_of(300)
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False)
    with pytest.raises(UserError, match="AUTOML_MAX_UNPACKED_RATIO"):
        list(read_batches(tmp_path / "t.parquet"))
    monkeypatch.setenv("AUTOML_MAX_UNPACKED_RATIO", "1000")
    assert sum(batch.num_rows for batch in read_batches(tmp_path / "t.parquet")) == 300
    monkeypatch.setenv("AUTOML_MAX_UNPACKED", "100M")
    with pytest.raises(UserError, match="set AUTOML_MAX_UNPACKED to allow more"):
        list(read_batches(tmp_path / "t.parquet"))


@pytest.mark.parametrize("compression", ["zstd", "lz4", "uncompressed"])
@pytest.mark.parametrize("rows", [0, 1, 40_000])
def test_ordinary_files_are_read_as_before(compression: str, rows: int, tmp_path: Path) -> None:
    table = pa.table({"text": [f"a text {row}" for row in range(rows)], "label": ["yes"] * rows})
    pa.feather.write_feather(table, tmp_path / "t.arrow", compression=compression)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=15_000)
    for name in ("t.arrow", "t.parquet"):
        batches = list(read_batches(tmp_path / name))
        assert [text for batch in batches for text in batch.column("text").to_pylist()] == table["text"].to_pylist()
        assert len(batches) <= 6


def test_pieces_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_MAX_UNPACKED_RATIO", "10000")
    monkeypatch.setattr("automl.data.unpacked.PIECE_BYTES", 5_000_000)
    (batch,) = dictionary_of(50).to_batches()
    pieces = list(bounded(Path(__file__), iter([batch])))
    assert sum(piece.num_rows for piece in pieces) == 50
    assert max(map(expanded_bytes, pieces)) < 6_000_000
