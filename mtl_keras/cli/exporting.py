"""Export from the shell: entries of the zoo and saved models, with data from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras import export, zoo
from mtl_keras.export import archive, rows
from mtl_keras.runtime.codegen.snippets import LANGUAGES

__all__ = ["FORMATS", "limits", "run"]

FORMATS = ("tflite", "saved_model", "split", "onnx", "openvino")


def run(
    name: str,
    to: str = "tflite",
    out: Path | None = None,
    quantization: str | None = None,
    calibration: Path | None = None,
    evaluate: Path | None = None,
    **options: Any,
) -> Any:
    """Export an entry of the zoo, or a `.keras` file, and print the report.

    Args:
        name: of the entry, or path of a `.keras` file.
        to: "tflite", "saved_model", "split" (a backbone and a file per head), "onnx" or "openvino".
        out: file or folder. None takes the model's name.
        quantization: as in `mtl.export.tflite`.
        calibration, evaluate: `.npz` files with inputs by name, and, for `evaluate`, labels by task; for `calibration` also a
            `.npy` file of the one input's rows. An entry of the zoo takes
            its recipe's data where none are given: training data to calibrate, test data to evaluate.
        **options: of `mtl.export.tflite`; `snippets`, a list of languages; `web`, whether to write a web page;
            `raw`, "HEIGHTxWIDTH" of the pictures of bytes that the file takes; `layer_errors`, whether to print which layer
            of a quantized file loses the accuracy.

    Returns:
        The report, or a dict of them.

    Raises:
        ValueError: unfit options or data.
        OSError: a file that is not there.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {to!r}.")
    given = {key: value for key, value in options.items() if value is not None and value != []}
    unknown = [name for name in given.get("snippets", ()) if name not in LANGUAGES]
    if unknown:
        raise ValueError(f"--snippets knows {','.join(LANGUAGES)}, got {','.join(unknown)}.")
    others = {"onnx": {"tasks", "batch"}, "openvino": {"tasks", "batch"}}.get(
        to, {"tasks", "signatures"}
    )
    if to != "tflite" and set(given) - others:
        raise ValueError(
            f"--to {to} has no {', '.join(_option(k) for k in given if k not in others)}."
        )
    languages, web, raw = (
        given.pop("snippets", None),
        given.pop("web", False),
        given.pop("raw", None),
    )
    if (languages or web) and given.get("batch", 1) != 1:
        raise ValueError("--snippets and --web are for files with one row: leave out --batch.")
    if web and given.get("io", "float32") == "int8":
        raise ValueError("LiteRT.js refuses int8 inputs and outputs: --web goes without --io int8.")
    if to in ("saved_model", "onnx", "openvino") and quantization is not None:
        raise ValueError(f"--to {to} writes float32: leave out --quantization, or use --to tflite.")
    shows_layers = given.pop("layer_errors", False)
    if shows_layers and quantization in (None, "auto"):
        raise ValueError(
            "--layer-errors compares the layers of one quantized file: name one with --quantization."
        )
    saved = Path(name)
    if saved.suffix == ".keras" or saved.exists():
        if not saved.is_file():
            raise FileNotFoundError(f"{name} is not there.")
        model, prepared = keras.saving.load_model(saved), None
    else:
        model = zoo.load(name)
        calibrates = quantization in ("int8", "int16x8", "auto") and calibration is None
        judges = (given.get("max_drop") is not None or quantization == "auto") and evaluate is None
        prepared = zoo.recipe(name).prepare() if calibrates or judges else None
    if raw is not None:
        if prepared:
            raise ValueError(
                "The zoo's data are no raw pictures: with --raw, give --calibration and --evaluate of your own."
            )
        model = export.with_raw_images(model, _size(raw))
    typical = (
        _rows(calibration, model)[0]
        if calibration is not None
        else prepared.train(0)
        if prepared
        else None
    )
    held_out = _rows(evaluate, model) if evaluate is not None else None
    if (
        held_out is None
        and prepared
        and (given.get("max_drop") is not None or quantization == "auto")
    ):
        held_out = prepared.test
    stem = model.name if out is None else None
    if to == "saved_model":
        found = export.saved_model(model, out or Path(stem), typical, **given)
        found.show()
    elif to in ("onnx", "openvino"):
        suffix = {"onnx": ".onnx", "openvino": ".xml"}[to]
        found = getattr(export, to)(model, out or Path(f"{stem}{suffix}"), typical, **given)
        found.show()
    elif to == "split":
        found = export.split(model, out or Path(stem), quantization, typical, **given)
        for report in found.values():
            report.show()
    else:
        path = out or Path(f"{stem}{'' if quantization is None else '_' + quantization}.tflite")
        found = export.tflite(model, path, quantization, typical, evaluate=held_out, **given)
        found.show()
        if not found.passed:
            return found
        if shows_layers:
            rows = held_out[0] if isinstance(held_out, tuple) else None
            export.layer_errors(model, quantization, typical, rows).show()
        made = export.snippets(path, languages) if languages else {}
        for written in [*made.values(), *([export.web_page(path)] if web else ())]:
            print(written)
    return found


def _option(name: str) -> str:
    """How the command line calls an option of `run`."""
    spelled = {"budget": "--max-bytes, --max-ms", "tasks": "--task"}
    return spelled.get(name, "--" + name.replace("_", "-"))


def _size(given: str) -> tuple[int, int]:
    """ "480x640" as height and width.

    Raises:
        ValueError: no such form.
    """
    height, _, width = given.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ValueError(f"--raw is HEIGHTxWIDTH, such as 480x640; got {given}.")
    return int(height), int(width)


def limits(given: Sequence[str]) -> float | dict[str, float] | None:
    """`["0.01"]` or `["digit=0.01", "box=0.02"]` as `max_drop`.

    Raises:
        ValueError: neither form.
    """
    if not given:
        return None
    try:
        if len(given) == 1 and "=" not in given[0]:
            return float(given[0])
        return {name: float(value) for name, _, value in (text.partition("=") for text in given)}
    except ValueError:
        raise ValueError(
            f"--max-drop is a number, or TASK=NUMBER for each task, got {' '.join(given)}."
        ) from None


def _rows(
    path: Path, model: keras.Model
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Inputs by name and labels by task of a `.npz` file, or the one input's rows of a `.npy` file."""
    arrays = rows.load_arrays(path)
    if not isinstance(arrays, dict):
        return archive.by_name(model, arrays), {}
    inputs = [tensor.name for tensor in model.inputs]
    labels = {key: value for key, value in arrays.items() if key not in inputs}
    return archive.by_name(
        model, {key: value for key, value in arrays.items() if key in inputs}
    ), labels
