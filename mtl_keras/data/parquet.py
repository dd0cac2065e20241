"""Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtl_keras.data.sources import DataError

__all__ = ["read_parquet"]


def read_parquet(path: Path) -> dict[str, Any]:
    """Columns of a Parquet file, by name: pyarrow's, with `to_numpy()` and `to_pylist()`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: pyarrow is not installed, or a file that can't be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError('Parquet files need pyarrow: pip install "mtl_keras[data]".') from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path.name} can't be read as Parquet: {error}.") from None
    return {name: table.column(name) for name in table.column_names}
