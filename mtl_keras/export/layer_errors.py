"""Which layer of a quantized file loses the accuracy: every layer's output beside the float file's,
on the same rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import sampling
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.converter import archive, quantization
from mtl_keras.export.converter.convert import Converter
from mtl_keras.export.options import CALIBRATED, TFLiteOptions
from mtl_keras.export.prepare import as_float32, subset
from mtl_keras.graph import sublayers
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.tflite_model import TFLiteModel

__all__ = ["LayerError", "LayerErrorReport", "layer_errors"]


@dataclass
class LayerError:
    """One layer of a quantized file beside the same layer in float.

    Attributes:
        layer: name of the Keras layer (the last one that the converter merged into the operator).
        operator: of the file, such as CONV_2D.
        error: root of the mean squared difference of its output, as a part of the output's standard
            deviation in float; per channel, then averaged over channels. 1 says that nothing of the
            layer's output is left.
        added: by how much `error` is above the largest error among the layers that feed it;
            negative where errors average out.
        heads: for each head, its error in the file with this layer in float; empty where that was
            not tried.
    """

    layer: str
    operator: str
    error: float
    added: float
    heads: dict[str, float] = field(default_factory=dict)


@dataclass
class LayerErrorReport:
    """Layers in the file's order; `heads` holds each head's error in the quantized file, in the
    same measure.

    A head's error is the root of the mean squared difference from the float file, as a part of its
    standard deviation.
    """

    quantization: str
    layers: list[LayerError]
    heads: dict[str, float]

    def worst(self, count: int = 5) -> list[LayerError]:
        """The layers that add most, largest first."""
        return sorted(self.layers, key=lambda entry: -entry.added)[:count]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "quantization": self.quantization,
            "heads": self.heads,
            "layers": [vars(entry) for entry in self.layers],
        }

    def show(self) -> None:
        """Print a table of layers, and, where layers were tried in float, what each does for the
        heads."""
        from rich.console import Console

        from mtl_keras.export.report import _table

        console = Console()
        heads = ", ".join(f"{name} {error:.1%}" for name, error in self.heads.items())
        console.print(
            f"{self.quantization}: error of each head, as a part of its spread: {heads}",
            highlight=False,
        )
        rows = [[e.layer, e.operator, f"{e.error:.2%}", f"{e.added:+.2%}"] for e in self.layers]
        console.print(_table(["layer", "operator", "error", "added here"], rows))
        tried = [entry for entry in self.layers if entry.heads]
        if tried:
            rows = [[e.layer, *(f"{e.heads[name]:.2%}" for name in self.heads)] for e in tried]
            console.print("with one layer in float, the heads' errors are:")
            console.print(_table(["layer", *self.heads], rows))


@needs_tensorflow
def layer_errors(
    model: keras.Model,
    quantization: str = "int8",
    calibration: Any = None,
    samples: Any = None,
    *,
    try_float: int = 3,
) -> LayerErrorReport:
    """Find the layers at which a quantized file leaves the float one.

    Two files are made in a temporary folder, float and quantized, and run on the same rows with all
    inner tensors kept. For "int8" the layers that add most are then kept in float one by one, to
    show what `keep_float=[layer]` would do.

    Args:
        model: as for `mtl.export.tflite`.
        quantization: as for `mtl.export.tflite`, without "auto" and None.
        calibration: typical inputs, for "int8" and "int16x8".
        samples: rows to compare on, other ones than for the calibration if you have them. None uses
            `calibration`, or random inputs.
        try_float: number of layers to try in float, for "int8", beside the heads that lose most.
            Each costs an export.

    Returns:
        `LayerErrorReport`. `show()` prints it, `worst()` lists the layers that add most.

    Raises:
        ValueError: a quantization without layers to compare.
        ExportError: as `mtl.export.tflite`.

    Examples:
        >>> report = mtl.export.layer_errors(model, "int8", calibration=train, samples=validation)
        >>> report.worst(1)[0].layer
        'small_cnn_stage1_block1_conv'
    """
    if quantization in (None, "auto"):
        raise ValueError(
            f"`quantization` should be one kind of quantized file. Received: "
            f"quantization={quantization!r}."
        )
    TFLiteOptions(path="file.tflite", quantization=quantization, calibration=calibration)
    model = as_float32(subset(model, None))
    rows = sampling.take_rows(model, samples if samples is not None else calibration, 64)
    calibration = (
        sampling.take_rows(model, calibration, 256) if quantization in CALIBRATED else None
    )
    with tempfile.TemporaryDirectory() as folder:
        reference = _run_all(_write(model, folder, None, None), rows)
        compared = _run_all(_write(model, folder, quantization, calibration), rows)
        layers = _compare(model, reference, compared)
        report = LayerErrorReport(
            quantization, layers, _head_errors(reference.heads, compared.heads)
        )
        if quantization == "int8":
            for entry in _candidates(report, try_float):
                try:
                    path = _write(
                        model, folder, quantization, calibration, keep_float=[entry.layer]
                    )
                except ExportError:
                    # The converter merged the layer into its neighbors: it can't be kept in float
                    # alone.
                    continue
                entry.heads = _head_errors(reference.heads, TFLiteModel(path).run(rows))
    return report


def _candidates(report: LayerErrorReport, count: int) -> list[LayerError]:
    """Layers to keep in float, one by one: those that add most, and whole heads that lose more than
    a hundredth."""
    layers = [entry for entry in report.worst(count) if entry.added > 0]
    lossy = {name for name, error in report.heads.items() if error > 0.01}
    ends = [entry for entry in report.layers if entry.layer in lossy and entry not in layers]
    return [*layers, *ends] if count else []


def _write(
    model: keras.Model, folder: str, quantization: str | None, calibration: Any, **options: Any
) -> Path:
    """Convert without the checks that refuse a bad file: a bad file is what is looked at here."""
    path = Path(folder) / f"{quantization or 'float32'}.tflite"
    endpoints = archive.endpoints(model, batch=1)
    content, _ = Converter(model, endpoints, calibration).make(quantization, **options)
    path.write_bytes(flatbuffer.name_and_order(content, {e.name: e.outputs for e in endpoints}))
    return path


@dataclass
class _Tensors:
    """What one file computes: by tensor name, the operator, its inputs' names, and all rows'
    values."""

    operators: dict[str, tuple[str, list[str]]]
    values: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]


def _run_all(path: Path, rows: Mapping[str, np.ndarray]) -> _Tensors:
    """Run a file with all inner tensors kept, quantized ones turned back into real numbers."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = flatbuffer.read(path.read_bytes())
    kinds = flatbuffer.kinds(model)
    graph = model.subgraphs[0]
    # The default delegate would hide the tensors between its operators.
    interpreter = Interpreter(
        model_path=os.fspath(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    operators: dict[str, tuple[str, list[str]]] = {}
    positions: dict[str, int] = {}
    for op in graph.operators:
        name = flatbuffer.text(graph.tensors[op.outputs[0]].name)
        inputs = [flatbuffer.text(graph.tensors[int(i)].name) for i in op.inputs if int(i) >= 0]
        operators[name] = (kinds[op.opcodeIndex], inputs)
        positions[name] = int(op.outputs[0])
    values: dict[str, list[np.ndarray]] = {name: [] for name in positions}
    heads: dict[str, list[np.ndarray]] = {}
    for row in range(len(next(iter(rows.values())))):
        answers = runner(**{name: value[row : row + 1] for name, value in rows.items()})
        for name, value in answers.items():
            heads.setdefault(name, []).append(value)
        for name, position in positions.items():
            values[name].append(_as_real(interpreter, position))
    return _Tensors(
        operators,
        {name: np.concatenate(parts) for name, parts in values.items()},
        {name: np.concatenate(parts) for name, parts in heads.items()},
    )


def _as_real(interpreter: Any, position: int) -> np.ndarray:
    value = interpreter.get_tensor(position)
    details = interpreter._get_tensor_details(position, 0)["quantization_parameters"]
    scales, zeros = details["scales"], details["zero_points"]
    if value.dtype.kind != "f" and len(scales) == 1:
        value = (value.astype("float64") - int(zeros[0])) * float(scales[0])
    return np.asarray(value, "float64")[None]


def _compare(model: keras.Model, reference: _Tensors, compared: _Tensors) -> list[LayerError]:
    """The tensors that both files have, in order; names survive the converter's quantization."""
    layers = [layer.name for layer in sublayers(model, include_self=False)]
    errors: dict[str, float] = {}
    entries = []
    for name, (operator, inputs) in reference.operators.items():
        feeding = [errors[i] for i in inputs if i in errors]
        value = compared.values.get(name)
        if value is None or value.shape != reference.values[name].shape:
            # The quantizer replaced it: what follows still knows the errors before it.
            errors[name] = max(feeding, default=0.0)
            continue
        errors[name] = _channel_error(reference.values[name], value)
        layer = _layer_of(name, layers, model.name)
        if layer is not None:
            added = errors[name] - max(feeding, default=0.0)
            entries.append(LayerError(layer, operator, errors[name], added))
    return entries


def _layer_of(tensor: str, layers: list[str], root: str) -> str | None:
    """The layer that a tensor's name tells; of several that the converter merged, the last one with
    weights' names first."""
    named = [
        layer
        for layer in layers
        if quantization._made_by(tensor.split(";")[-1], layer, layers, root)
    ]
    return named[0] if named else (tensor if tensor in layers else None)


def _channel_error(reference: np.ndarray, value: np.ndarray) -> float:
    """A layer's error, per channel: a channel of small values that others need is ruined by one
    scale for all channels."""
    reference = reference.reshape(-1, reference.shape[-1])
    value = value.reshape(-1, value.shape[-1])
    variances = np.var(reference, axis=0)
    squares = np.mean(np.square(reference - value), axis=0)
    # A channel that is the same for all rows says nothing.
    varies = variances > 1e-12 * max(float(variances.max()), 1e-30)
    if not varies.any():
        return 0.0
    return float(np.sqrt(np.mean(np.minimum(squares[varies] / variances[varies], 1.0))))


def _relative_error(reference: np.ndarray, value: np.ndarray) -> float:
    spread = float(np.std(reference))
    error = float(np.sqrt(np.mean(np.square(reference - value))))
    return error / spread if spread else (0.0 if error == 0 else float("inf"))


def _head_errors(
    reference: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]
) -> dict[str, float]:
    return {
        name: _relative_error(np.asarray(value, "float64"), np.asarray(answers[name], "float64"))
        for name, value in reference.items()
    }
