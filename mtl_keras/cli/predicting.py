"""Predictions from the shell: of an entry of the zoo, or of a model of one's own, printed or as
JSON."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import zoo
from mtl_keras.runtime import decoding
from mtl_keras.runtime.cells import to_numbers
from mtl_keras.runtime.files import atomic_write
from mtl_keras.runtime.table_files import TableError, TableFile, read_csv
from mtl_keras.runtime.tables import print_table

__all__ = ["predict"]


def predict(
    name: str, inputs: Sequence[str], as_json: bool = False, out: Path | None = None
) -> list[dict[str, Any]]:
    """Predict with a model and print, for every input, each task's decoded answer.

    Args:
        name: of an entry of the zoo, or path of a `.keras` or `.tflite` file, or of the folder of
            a run (`mtl-keras train`).
        inputs: picture or sound files; sentences; one CSV file with a row of column names; or one
            `.npz`
            file with the network's inputs by name (a `.npy` file where it has one input).
        as_json: bool. Print JSON instead of a table.
        out: CSV file to write the answers to, instead of the table; or None.

    Raises:
        ValueError: input that the model does not take.
        OSError: a file that is not there.
    """
    model, columns = _load(name)
    labels, x = read(model, inputs, columns, _text_column(name))
    decoded = _answers(model, x)
    rows = [
        {"input": label, **{task: readable(values[i]) for task, values in decoded.items()}}
        for i, label in enumerate(labels)
    ]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    if out is not None:
        _write_csv(out, rows)
        print(f"{len(rows)} rows: {out}", file=sys.stderr)
    if as_json or out is not None:
        return rows
    print_table(list(rows[0]), [[short(value) for value in row.values()] for row in rows])
    return rows


# === Models ===


def _load(name: str) -> tuple[Any, Callable[[Mapping[str, Any]], Mapping[str, Any]] | None]:
    """A model, and what makes its encoder's columns from raw rows."""
    path = Path(name)
    if path.is_dir():
        path = path / "model.keras"
        name = str(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path.parent} is no folder of a finished run: it has no {path.name}."
            )
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
    text_column: str | None = None,
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
    is_file = len(inputs) == 1 and Path(inputs[0]).suffix.lower() in (".csv", ".tsv")
    if is_file and Path(inputs[0]).is_file():
        table = _read_rows(inputs[0])
        names = list(table.columns)
        column = text_column or (names[0] if len(names) == 1 else None)
        if column not in names:
            raise ValueError(
                f"{table.name} should have the column '{column}', which holds the texts."
                if column
                else f"{table.name} should have one column, of texts. Received: {', '.join(names)}."
            )
        return table.row_names, encoder.encode([cell or "" for cell in table.columns[column]])
    return list(inputs), encoder.encode(inputs)


def _text_column(name: str) -> str | None:
    """The column of texts that a run was trained on, where there was one."""
    path = Path(name) / "settings.json"
    if not path.is_file():
        return None
    columns = json.loads(path.read_text(encoding="utf-8")).get("columns", [])
    texts = [column for column, role in columns if role == "text"]
    return texts[0] if len(texts) == 1 else None


def _read_rows(path: str) -> TableFile:
    """A CSV file with at least one row."""
    try:
        file = read_csv(path)
    except TableError as error:
        raise ValueError(str(error)) from None
    if not len(file.lines):
        raise ValueError(f"{file.name} has no row below its column names.")
    return file


def _table(
    inputs: Sequence[str],
    encoder: Any,
    columns: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None,
) -> tuple[list[str], Any]:
    """Rows of the one CSV file, encoded."""
    if len(inputs) != 1:
        raise ValueError("This model takes one CSV file with a row of column names.")
    file = _read_rows(inputs[0])
    table: Mapping[str, Any] = {name: list(cells) for name, cells in file.columns.items()}
    if columns is not None:
        table = columns(table)
    numbers = {
        name: _to_numbers(file, name, table[name]) for name in encoder.numeric if name in table
    }
    return file.row_names, encoder.encode({**table, **numbers})


def _to_numbers(file: TableFile, column: str, values: Sequence[Any]) -> np.ndarray:
    """The cells of a column of numbers, in the file's own decimal mark."""
    numbers, others = to_numbers(values, file.decimal)
    if others.any():
        row = int(np.argmax(others))
        raise ValueError(
            f"{file.row_names[row]}: column '{column}' should hold numbers. Received: "
            f"{values[row]!r}."
        )
    return numbers


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


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Answers as columns: `sold` and `sold_probability`, or `box_left`, `box_top`, ..."""
    flat = [_flatten(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    with atomic_write(path) as fresh:
        fresh.write_text(text.getvalue(), encoding="utf-8")


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, dict):
            cells[name] = json.dumps(value) if isinstance(value, list) else value
            continue
        for key, part in value.items():
            column = name if key == "label" else f"{name}_{key}"
            cells[column] = json.dumps(part) if isinstance(part, (list, dict)) else part
    return cells
