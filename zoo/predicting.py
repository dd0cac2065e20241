"""Predictions of a pretrained entry on a user's own input, printed or as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import zoo

__all__ = ["predict"]


def predict(name: str, inputs: Sequence[str], as_json: bool = False) -> list[dict[str, Any]]:
    """Predict with the entry `name` and print, for every input, each task's decoded answer.

    Args:
        name: of the entry.
        inputs: picture files; sentences; or one CSV file with a row of column names.
        as_json: bool. Print JSON instead of a table.

    Raises:
        ValueError: input that the entry does not take.
        OSError: a file that is not there.
    """
    model = zoo.load(name)
    labels, x = read(model.encoder, inputs)
    decoded = model.decode(model.predict(x, verbose=0))
    rows = [
        {"input": label, **{task: readable(values[i]) for task, values in decoded.items()}} for i, label in enumerate(labels)
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return rows
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(short(value) for value in row.values()))
    Console().print(table)
    return rows


def read(encoder: Any, inputs: Sequence[str]) -> tuple[list[str], Any]:
    """A label for every row, and what the network takes."""
    if encoder.kind == "table":
        if len(inputs) != 1:
            raise ValueError("This entry takes one CSV file with a row of column names.")
        with open(inputs[0], newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError(f"{inputs[0]} has no row below its column names.")
        table: dict[str, Any] = {name: [row[name] or None for row in rows] for name in rows[0]}
        for name in set(encoder.numeric) & set(table):
            try:
                table[name] = [float("nan") if v is None else float(v) for v in table[name]]
            except ValueError as error:
                raise ValueError(f"Column '{name}' of {inputs[0]} must hold numbers: {error}.") from None
        return [f"row {i}" for i in range(1, len(rows) + 1)], encoder.encode(table)
    if encoder.kind == "image":
        for file in inputs:
            if not Path(file).is_file():
                raise FileNotFoundError(f"There is no file {file}.")
        return [Path(file).name for file in inputs], encoder.encode(inputs)
    return list(inputs), encoder.encode(inputs)


def readable(value: Any) -> Any:
    """A decoded answer as JSON: a mask becomes its share of the picture and its rows of 0 and 1."""
    if isinstance(value, np.ndarray):
        mask = value.astype(int)
        return {"share": round(float((mask > 0).mean()), 4), "rows": ["".join(map(str, row)) for row in mask]}
    return value


def short(value: Any) -> str:
    if isinstance(value, dict):
        if "rows" in value:
            return f"{value['share']:.1%} of the picture"
        if "probability" in value:
            return f"{value['label']} ({value['probability']:.2f})"
        return ", ".join(f"{k} {v:.2f}" for k, v in value.items())
    return f"{value:.1f}" if isinstance(value, float) else str(value)
