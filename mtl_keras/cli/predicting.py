"""Predictions from the shell: of an entry of the zoo, or of a model of one's own, printed or as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import zoo
from mtl_keras.runtime import decoding

__all__ = ["predict"]


def predict(name: str, inputs: Sequence[str], as_json: bool = False) -> list[dict[str, Any]]:
    """Predict with a model and print, for every input, each task's decoded answer.

    Args:
        name: of an entry of the zoo, or path of a `.keras` or `.tflite` file.
        inputs: picture files; sentences; one CSV file with a row of column names; or one `.npz` file with the network's
            inputs by name (a `.npy` file where it has one input).
        as_json: bool. Print JSON instead of a table.

    Raises:
        ValueError: input that the model does not take.
        OSError: a file that is not there.
    """
    model, columns = _load(name)
    labels, x = read(model, inputs, columns)
    decoded = _answers(model, x)
    rows = [
        {"input": label, **{task: readable(values[i]) for task, values in decoded.items()}}
        for i, label in enumerate(labels)
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


# ------------------------------------------------------------------ models
def _load(name: str) -> tuple[Any, Callable[[Mapping[str, Any]], Mapping[str, Any]] | None]:
    """A model, and what makes its encoder's columns from raw rows."""
    path = Path(name)
    if path.suffix not in (".keras", ".tflite") and not path.exists():
        return zoo.load(name), zoo.recipe(name).columns
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {name}.")
    if path.suffix == ".tflite":
        from mtl_keras.runtime.tflite_model import TFLiteModel

        return TFLiteModel(path), None
    if path.suffix == ".keras":
        import keras

        return keras.saving.load_model(path), None
    raise ValueError(
        f"A model is an entry of the zoo, a .keras or a .tflite file. Received: {name}."
    )


def _inputs_of(model: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the network's inputs by name, without rows."""
    if isinstance(model.inputs, Mapping):
        return {name: tuple(detail["shape"][1:]) for name, detail in model.inputs.items()}
    return {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}


def _answers(model: Any, x: Any) -> dict[str, list[Any]]:
    """Decoded answers by task, a row each; raw rows of a model that knows no tasks."""
    names = list(_inputs_of(model))
    if not hasattr(model, "count_params"):  # a file
        return model.predict(x if isinstance(x, Mapping) else {names[0]: x})
    if isinstance(x, Mapping) and len(names) == 1:
        x = x[names[0]]
    elif isinstance(x, Mapping) and not isinstance(model.input, Mapping):
        x = [x[name] for name in names]
    outputs = model.predict(x, verbose=0)
    if hasattr(model, "decode"):
        return model.decode(outputs)
    if not isinstance(outputs, Mapping):
        several = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        outputs = dict(zip(model.output_names, several, strict=True))
    return {name: decoding.decode({}, np.asarray(value)) for name, value in outputs.items()}


# ------------------------------------------------------------------ inputs
def read(
    model: Any,
    inputs: Sequence[str],
    columns: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> tuple[list[str], Any]:
    """A label for every row, and what the network takes."""
    encoder = getattr(model, "encoder", None)
    if len(inputs) == 1 and Path(inputs[0]).suffix in (".npz", ".npy"):
        return _arrays(inputs[0], _inputs_of(model))
    if encoder is None:
        takes = ", ".join(_inputs_of(model))
        raise ValueError(
            f"This model has no encoder for raw inputs: give one .npz file with arrays named {takes}."
        )
    if encoder.kind == "table":
        return _table(inputs, encoder, columns)
    if encoder.kind == "image":
        for file in inputs:
            if not Path(file).is_file():
                raise FileNotFoundError(f"There is no file {file}.")
        return [Path(file).name for file in inputs], encoder.encode(inputs)
    return list(inputs), encoder.encode(inputs)


def _table(inputs, encoder, columns):
    if len(inputs) != 1:
        raise ValueError("This model takes one CSV file with a row of column names.")
    # Spreadsheets put a mark in front of the first name.
    with open(inputs[0], newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{inputs[0]} has no row below its column names.")
    table: Mapping[str, Any] = {
        name: [row[name] or None for row in rows] for name in rows[0] if name is not None
    }
    if columns is not None:
        table = columns(table)
    ready = dict(table)
    for name in set(encoder.numeric) & set(table):
        try:
            ready[name] = [float("nan") if v is None else float(v) for v in table[name]]
        except ValueError as error:
            raise ValueError(
                f"Column '{name}' of {inputs[0]} must hold numbers: {error}."
            ) from None
    return [f"row {i}" for i in range(1, len(rows) + 1)], encoder.encode(ready)


def _arrays(file, shapes):
    """The network's inputs from a file of arrays, each of the shape that the network takes."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    try:
        content = np.load(file)
        arrays = dict(content) if hasattr(content, "files") else {next(iter(shapes)): content}
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{file} holds no arrays: {error}.") from None
    lacking = [name for name in shapes if name not in arrays]
    if lacking or (not hasattr(content, "files") and len(shapes) > 1):
        raise ValueError(f"{file} should hold {', '.join(shapes)}. Received: {', '.join(arrays)}.")
    for name, shape in shapes.items():
        value = arrays[name]
        if value.ndim != len(shape) + 1 or any(
            n not in (None, m) for n, m in zip(shape, value.shape[1:], strict=True)
        ):
            raise ValueError(
                f"'{name}' in {file} should have shape {('rows', *shape)}. Received: {value.shape}."
            )
    sizes = {name: len(arrays[name]) for name in shapes}
    if len(set(sizes.values())) != 1 or not next(iter(sizes.values())):
        raise ValueError(
            f"All inputs in {file} should have the same number of rows, at least one. Received: {sizes}."
        )
    rows = next(iter(sizes.values()))
    return [f"row {i}" for i in range(1, rows + 1)], {name: arrays[name] for name in shapes}


# ------------------------------------------------------------------ answers
def readable(value: Any) -> Any:
    """A decoded answer as JSON: a mask becomes its share of the picture and its rows of 0 and 1, other arrays lists."""
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "iub":
        mask = value.astype(int)
        return {
            "share": round(float((mask > 0).mean()), 4),
            "rows": ["".join(map(str, row)) for row in mask],
        }
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: readable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(part) for part in value]
    return value


def short(value: Any) -> str:
    if isinstance(value, dict):
        if "rows" in value:
            return f"{value['share']:.1%} of the picture"
        if "probability" in value:
            return f"{value['label']} ({value['probability']:.2f})"
        return ", ".join(f"{k} {short(v)}" for k, v in value.items())
    if isinstance(value, list):
        shown = ", ".join(short(part) for part in value[:8])
        return shown if len(value) <= 8 else f"{shown}, ... ({len(value)})"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)
