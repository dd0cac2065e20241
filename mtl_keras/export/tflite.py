"""TFLite: what phones load."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.data import encoders
from mtl_keras.export import archive, flatbuffer, gate
from mtl_keras.export.files import ExportError, beside
from mtl_keras.export.report import ExportReport, compare
from mtl_keras.export.runner import TFLiteModel
from mtl_keras.export.saved_model import FLOAT_TOLERANCE
from mtl_keras.quiet import quiet
from mtl_keras.version import __version__

__all__ = ["QUANTIZATIONS", "run_tflite", "tflite"]

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")
_CALIBRATION_ROWS = 256


def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    io: str = "float32",
    evaluate: Any = None,
    max_drop: float | None = None,
) -> ExportReport:
    """Write a `.tflite` file, load it again, and compare every head with Keras before anything is replaced.

    The file has a static batch of 1, builtin operators only, and the heads under their tasks' names, as signature keys
    and as tensor names, in the tasks' order. Inputs and outputs are float32 unless `io` says otherwise.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A mixed-precision model is exported
            in float32.
        path: file to write, `.tflite`.
        quantization: None (float32); "float16" (weights; computes in float32 on a CPU); "dynamic" (int8 weights, float
            activations, no calibration needed); "int8" (weights and activations); "int16x8" (int8 weights, int16
            activations: finer, and slower where a delegate lacks it); or "auto": the first of "int8", "int16x8", "dynamic" and
            "float16" that loses at most `max_drop` on every head (the report's `refused` says why the others did not pass).
        calibration: typical inputs, for "int8" and "int16x8": arrays, or a data set with or without labels. 256 rows are used.
        samples: rows to compare on. None uses the calibration data, or random inputs.
        tasks: names of the tasks to export; layers and inputs that only others use are left out. None exports all.
        io: "float32", or, for "int8", "int8" or "uint8": what real-valued inputs and outputs are in the file. Their scales and
            zero points are in the file; `run_tflite` applies them.
        evaluate: held-out data with labels, `(x, y)` or a data set: the report then has each task's first metric in Keras and
            in the file.
        max_drop: float. A head whose metric is worse by more, in its own unit, stops the export; needs `evaluate`.

    Returns:
        `ExportReport` with each head's error, the file's size and its operators.

    Raises:
        ExportError: a layer that can't be converted (named by the converter), a path that can't be written, a head that
            is missing, dead, not finite, differs from Keras in a float file, or loses more than `max_drop`. What was at
            `path` before stays.
        ValueError: an unknown quantization or task, or data that don't fit the model.

    Example:
        >>> mtl.export.tflite(model, "out/model.tflite", quantization="int8", calibration=train).show()
    """
    if quantization == "auto":
        return _first_that_passes(model, path, calibration, samples, tasks, io, evaluate, max_drop)
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"Unknown quantization {quantization!r}. Known: {', '.join(map(repr, QUANTIZATIONS))}, 'auto'.")
    if Path(path).suffix != ".tflite":
        raise ValueError(f"The file's name must end in .tflite, got {os.fspath(path)!r}.")
    if quantization in CALIBRATED and calibration is None:
        raise ValueError(
            f"{quantization} needs typical inputs to measure ranges on: give `calibration`, a data set or arrays."
        )
    if io not in ("float32", "int8", "uint8") or (io != "float32" and quantization != "int8"):
        raise ValueError(f"io is 'float32', or 'int8' or 'uint8' with quantization='int8'; got {io!r} with {quantization!r}.")
    if max_drop is not None and evaluate is None:
        raise ValueError("`max_drop` needs held-out data with labels: give `evaluate`.")
    model = archive.subset(model, tasks)
    if quantization in CALIBRATED:
        _refuse_loops(model)
    data = None if evaluate is None else gate.held_out(model, evaluate)
    if calibration is not None:
        calibration = archive.sample_inputs(model, calibration, _CALIBRATION_ROWS)
    if samples is not None:
        inputs = archive.sample_inputs(model, samples, 16)
    elif calibration is not None:
        inputs = {name: value[:16] for name, value in calibration.items()}
    else:
        inputs = archive.sample_inputs(model, None, 4)
    plain = archive.as_float32(model)
    with beside(path) as fresh:
        content = _convert(plain, quantization, calibration, io)
        content = flatbuffer.name_and_order(content, list(plain.output))
        content = flatbuffer.describe(content, _facts(model, quantization, io, calibration))
        operators = flatbuffer.ops(content)
        fresh.write_bytes(content)
        what = f"TFLite file ({quantization or 'float32'})"
        report = compare(plain, inputs, run_tflite(fresh, inputs), FLOAT_TOLERANCE if quantization is None else None, what)
        report.path, report.size, report.ops = Path(path), len(content), operators
        if data is not None:
            gate.judge(plain, report, lambda x: run_tflite(fresh, x), data, max_drop)
    return report


def _first_that_passes(model, path, calibration, samples, tasks, io, evaluate, max_drop) -> ExportReport:
    """Down the ladder of quantizations, from the smallest and fastest file to the finest."""
    lacking = [n for n, v in (("calibration", calibration), ("evaluate", evaluate), ("max_drop", max_drop)) if v is None]
    if lacking:
        raise ValueError(f"quantization='auto' judges files by held-out data: give {', '.join(f'`{n}`' for n in lacking)}.")
    if io != "float32":
        raise ValueError(f"quantization='auto' also tries files whose inputs can't be {io}: leave `io` at 'float32'.")
    refused: list[tuple[str, str]] = []
    for step in ("int8", "int16x8", "dynamic", "float16"):
        try:
            report = tflite(model, path, step, calibration, samples, tasks=tasks, evaluate=evaluate, max_drop=max_drop)
        except ExportError as error:
            refused.append((step, str(error)))
            continue
        report.refused = refused
        return report
    reasons = "; ".join(f"{step}: {reason}" for step, reason in refused)
    raise ExportError(f"No quantization loses at most {max_drop} on every head. {reasons}")


def _convert(
    model: keras.Model, quantization: str | None, calibration: dict[str, np.ndarray] | None, io: str = "float32"
) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        archive.write_archive(model, Path(folder), batch=1)
        with quiet():
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if quantization is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantization == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if quantization == "int16x8":
                fine = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                converter.target_spec.supported_ops = [fine, tf.lite.OpsSet.TFLITE_BUILTINS]
            if io != "float32":
                converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
            if quantization in CALIBRATED:
                rows = len(next(iter(calibration.values())))

                def batches():
                    for row in range(rows):
                        yield {name: value[row : row + 1] for name, value in calibration.items()}

                converter.representative_dataset = batches
            try:
                content = converter.convert()
            except Exception as error:
                raise ExportError(_why(error)) from error
    return content


def _refuse_loops(model: keras.Model) -> None:
    """Recurrent layers become a loop, on which the converter's int8 calibration crashes the whole process."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.RNN) and not layer.unroll:
            raise ExportError(
                f"Layer '{layer.name}' is recurrent, and TensorFlow's converter has no full-int8 form of its loop. Use "
                "quantization='dynamic' (int8 weights), or build the layer with unroll=True."
            )


def _why(error: Exception) -> str:
    """The converter's own words, without its pages of stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "not supported" in line.lower() or "custom op" in line.lower()]
    return "The model can't be converted to TFLite with builtin operators: " + " ".join((telling or lines)[:3])[:800]


def run_tflite(path: str | os.PathLike[str], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a `.tflite` file row by row on inputs by name; raw outputs by name, as `TFLiteModel.run`.

    Inputs that the file does not take are passed over.
    """
    model = TFLiteModel(path)
    return model.run({name: value for name, value in inputs.items() if name in model.inputs})


def _facts(model: keras.Model, quantization: str | None, io: str, calibration: dict[str, np.ndarray] | None) -> dict[str, Any]:
    """What the file tells of itself."""
    inputs = []
    for name, spec in archive.input_specs(model, 1).items():
        entry: dict[str, Any] = {"name": name, "shape": list(spec.shape), "dtype": spec.dtype}
        if calibration is not None and "float" in spec.dtype:
            entry["range"] = [float(calibration[name].min()), float(calibration[name].max())]
        inputs.append(entry)
    encoder = getattr(model, "encoder", None)
    made_by = {"class": type(encoder).__name__, "config": encoder.get_config()} if encoder is not None else None
    return {
        "mtl_keras": __version__,
        "model": model.name,
        "quantization": quantization or "float32",
        "io": io,
        "inputs": inputs,
        "tasks": [task.facts() for task in getattr(model, "tasks", ())],
        "encoder": made_by if made_by is not None and made_by["class"] in encoders.__all__ else None,
    }
