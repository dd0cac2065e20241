"""TFLite: what phones load."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import archive, flatbuffer
from mtl_keras.export.files import ExportError, beside
from mtl_keras.export.report import ExportReport, compare
from mtl_keras.export.saved_model import FLOAT_TOLERANCE
from mtl_keras.quiet import quiet

__all__ = ["QUANTIZATIONS", "run_tflite", "tflite"]

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
_CALIBRATION_ROWS = 256


def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
) -> ExportReport:
    """Write a `.tflite` file, load it again, and compare every head with Keras before anything is replaced.

    The file has a static batch of 1, builtin operators only, and the heads under their tasks' names, as signature keys
    and as tensor names, in the tasks' order. Inputs and outputs are float32 in every kind of file.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A mixed-precision model is exported
            in float32.
        path: file to write, `.tflite`.
        quantization: None (float32); "float16" (weights; computes in float32 on a CPU); "dynamic" (int8 weights, float
            activations, no calibration needed); "int8" (weights and activations).
        calibration: typical inputs, for "int8": arrays, or a data set with or without labels. 256 rows are used.
        samples: rows to compare on. None uses the calibration data, or random inputs.

    Returns:
        `ExportReport` with each head's error, the file's size and its operators.

    Raises:
        ExportError: a layer that can't be converted (named by the converter), a path that can't be written, a head that
            is missing, dead, not finite, or, in a float file, differs from Keras.
        ValueError: an unknown quantization, or calibration data that don't fit the model.

    Example:
        >>> mtl.export.tflite(model, "out/model.tflite", quantization="int8", calibration=train).show()
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"Unknown quantization {quantization!r}. Known: {', '.join(map(repr, QUANTIZATIONS))}.")
    if Path(path).suffix != ".tflite":
        raise ValueError(f"The file's name must end in .tflite, got {os.fspath(path)!r}.")
    if quantization == "int8" and calibration is None:
        raise ValueError("int8 needs typical inputs to measure ranges on: give `calibration`, a data set or arrays.")
    if quantization == "int8":
        _refuse_loops(model)
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
        content = _convert(plain, quantization, calibration)
        content = flatbuffer.name_and_order(content, list(plain.output))
        operators = flatbuffer.ops(content)
        fresh.write_bytes(content)
        what = f"TFLite file ({quantization or 'float32'})"
        report = compare(plain, inputs, run_tflite(fresh, inputs), FLOAT_TOLERANCE if quantization is None else None, what)
        report.path, report.size, report.ops = Path(path), len(content), operators
    return report


def _convert(model: keras.Model, quantization: str | None, calibration: dict[str, np.ndarray] | None) -> bytes:
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
            if quantization == "int8":
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
    """Run a `.tflite` file row by row on inputs by name; outputs by name."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_path=os.fspath(path))
        runner = interpreter.get_signature_runner("serving_default")
        rows = len(next(iter(inputs.values())))
        found = [runner(**{name: value[row : row + 1] for name, value in inputs.items()}) for row in range(rows)]
    return {name: np.concatenate([row[name] for row in found]) for name in found[0]}
