"""Predictions from the shell: of an entry of the zoo, or of a model of one's own, printed or as
JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import zoo
from mtl_keras.runtime import decoding
from mtl_keras.runtime.tables import print_table

__all__ = ["predict"]


def predict(name: str, inputs: Sequence[str], as_json: bool = False) -> list[dict[str, Any]]:
    """Predict with a model and print, for every input, each task's decoded answer.

    Args:
        name: of an entry of the zoo, or path of a `.keras` or `.tflite` file.
        inputs: picture or sound files; sentences; one CSV file with a row of column names; or one `.npz`
            file with the network's inputs by name (a `.npy` file where it has one input).
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
    print_table(list(rows[0]), [[short(value) for value in row.values()] for row in rows])
    return rows


# === Models ===


def _load(name: str) -> tuple[Any, Callable[[Mapping[str, Any]], Mapping[str, Any]] | None]:
    """A model, and what makes its encoder's columns from raw rows."""
    path = Path(name)
    if path.suffix not in (".keras", ".tflite") and not path.exists():
        return zoo.load(name), zoo.recipe(name).columns
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {name}.")
    if path.suffix == ".tflite":
        from mtl_keras.runtime import TFLiteModel

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


# === Inputs ===


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
            f"This model has no encoder for raw inputs: give one .npz file with arrays named "
            f"{takes}."
        )
    if encoder.kind == "table":
        return _table(inputs, encoder, columns)
    if encoder.kind in ("image", "sound"):
        for file in inputs:
            if not Path(file).is_file():
                raise FileNotFoundError(f"There is no file {file}.")
        return [Path(file).name for file in inputs], encoder.encode(inputs)
    return list(inputs), encoder.encode(inputs)


def _table(
    inputs: Sequence[str],
    encoder: Any,
    columns: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None,
) -> tuple[list[str], Any]:
    """Rows of the one CSV file, encoded."""
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
    numbers = {
        name: _to_numbers(inputs[0], name, table[name]) for name in encoder.numeric if name in table
    }
    return _row_labels(len(rows)), encoder.encode({**table, **numbers})


def _to_numbers(file: str, column: str, values: Sequence[Any]) -> list[float]:
    try:
        return [float("nan") if value is None else float(value) for value in values]
    except ValueError as error:
        raise ValueError(f"Column '{column}' of {file} must hold numbers: {error}.") from None


def _arrays(
    file: str, shapes: Mapping[str, tuple[int | None, ...]]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The network's inputs from a file of arrays, each of the shape that the network takes."""
    arrays = _load_arrays(file, list(shapes))
    for name, shape in shapes.items():
        _check_shape(file, name, arrays[name], shape)
    sizes = {name: len(arrays[name]) for name in shapes}
    rows = next(iter(sizes.values()))
    if len(set(sizes.values())) != 1 or not rows:
        raise ValueError(
            f"All inputs in {file} should have the same number of rows, at least one. Received: "
            f"{sizes}."
        )
    return _row_labels(rows), {name: arrays[name] for name in shapes}


def _load_arrays(file: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    if not Path(file).is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    try:
        content = np.load(file)
        has_names = hasattr(content, "files")
        arrays = dict(content) if has_names else {names[0]: content}
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{file} holds no arrays: {error}.") from None
    if any(name not in arrays for name in names):
        raise ValueError(f"{file} should hold {', '.join(names)}. Received: {', '.join(arrays)}.")
    return arrays


def _check_shape(file: str, name: str, value: np.ndarray, shape: tuple[int | None, ...]) -> None:
    fits = value.ndim == len(shape) + 1 and all(
        size in (None, actual) for size, actual in zip(shape, value.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"'{name}' in {file} should have shape {('rows', *shape)}. Received: {value.shape}."
        )


def _row_labels(rows: int) -> list[str]:
    return [f"row {i}" for i in range(1, rows + 1)]


# === Answers ===


def readable(value: Any) -> Any:
    """A decoded answer as JSON. A mask becomes its share of the picture and its rows of 0 and 1;
    other arrays lists."""
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
    """A readable answer as a few words, for a cell of a table."""
    if isinstance(value, dict):
        return _short_dict(value)
    if isinstance(value, list):
        shown = ", ".join(short(part) for part in value[:8])
        return shown if len(value) <= 8 else f"{shown}, ... ({len(value)})"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)


def _short_dict(value: Mapping[str, Any]) -> str:
    if "rows" in value:
        return f"{value['share']:.1%} of the picture"
    if "probability" in value:
        return f"{value['label']} ({value['probability']:.2f})"
    return ", ".join(f"{key} {short(part)}" for key, part in value.items())
