"""ONNX and OpenVINO, through Keras's own exporters: heads by name, in the tasks' order, compared
before a file counts."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import sampling
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.converter.saved_model import FLOAT_TOLERANCE
from mtl_keras.export.models import input_specs, pack_inputs
from mtl_keras.export.prepare import as_float32, describe_omissions, subset
from mtl_keras.export.report import ExportReport, compare
from mtl_keras.quiet import quiet
from mtl_keras.runtime.files import ExportError, atomic_write, check_file

__all__ = ["onnx", "openvino"]

_PACKAGES = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "openvino": ("openvino",)}


class _Inference(keras.Model):
    """A model that runs in inference mode, whatever its layers were called with, and takes its
    inputs by name.

    Keras's exporters pass no `training=False`: an augmentation layer of a plain functional model
    would stay active.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name=model.name)
        self.model = model

    def call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.model(pack_inputs(self.model, inputs), training=False)


@needs_tensorflow
def onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    batch: int | None = None,
    opset: int | None = None,
) -> ExportReport:
    """Write an `.onnx` file through `keras.Model.export`, run it in ONNX Runtime, and compare every
    head with Keras.

    Inputs and outputs have the names of the model's inputs and tasks; outputs stand in the tasks'
    order.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A
            mixed-precision model is exported in float32.
        path: file to write, `.onnx`.
        samples: rows to compare on (arrays, or a data set). None uses random inputs.
        tasks: names of the tasks to export. None exports all.
        batch: int, or None for any number of rows.
        opset: ONNX operator set. None leaves the choice to the converter.

    Returns:
        `ExportReport` with each head's error and the file's size.

    Raises:
        ImportError: a package of `pip install "mtl-keras[onnx]"` is missing.
        ExportError: a layer that the converter does not know, a path that can't be written, a head
            that is missing or differs from Keras by more than 1e-5 of its range. What was at `path`
            before stays.
        ValueError: a file name without `.onnx`, or an unknown task.

    Examples:
        >>> mtl.export.onnx(model, "out/model.onnx").show()
    """
    _check("onnx", path, ".onnx")
    notes = describe_omissions(model)
    model, inputs, signature = _prepare(model, samples, tasks, batch)
    options = {} if opset is None else {"opset_version": opset}
    with atomic_write(path) as fresh:
        _export(model, fresh, "onnx", signature, **options)
        _order_onnx_outputs(fresh, list(model.output))
        report = compare(
            model, inputs, _run_onnx(fresh, inputs, batch), FLOAT_TOLERANCE, "ONNX file"
        )
        report.path, report.size = Path(path), fresh.stat().st_size
        report.notes = notes
    return report


@needs_tensorflow
def openvino(
    model: keras.Model,
    path: str | os.PathLike[str],
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    batch: int | None = None,
) -> ExportReport:
    """Write an OpenVINO model (`.xml` and `.bin`) through `keras.Model.export`, run it, and compare
    every head with Keras.

    Inputs and outputs have the names of the model's inputs and tasks; outputs stand in the tasks'
    order.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A
            mixed-precision model is exported in float32.
        path: file to write, `.xml`. The weights go to a `.bin` file of the same name.
        samples: rows to compare on (arrays, or a data set). None uses random inputs.
        tasks: names of the tasks to export. None exports all.
        batch: int, or None for any number of rows.

    Returns:
        `ExportReport` with each head's error and the size of both files.

    Raises:
        ImportError: a package of `pip install "mtl-keras[openvino]"` is missing.
        ExportError: a layer that the converter does not know, a path that can't be written, a head
            that is missing or differs from Keras by more than 1e-5 of its range. What was there
            before stays.
        ValueError: a file name without `.xml`, or an unknown task.

    Examples:
        >>> mtl.export.openvino(model, "out/model.xml").show()
    """
    _check("openvino", path, ".xml")
    path = Path(path)
    notes = describe_omissions(model)
    model, inputs, signature = _prepare(model, samples, tasks, batch)
    with atomic_write(path) as fresh, atomic_write(path.with_suffix(".bin")) as weights:
        _export(model, fresh.with_name("converted.xml"), "openvino", signature)
        _order_openvino_outputs(fresh, list(model.output))
        answers = _run_openvino(fresh, inputs, batch)
        report = compare(model, inputs, answers, FLOAT_TOLERANCE, "OpenVINO model")
        binary = fresh.with_suffix(".bin")
        report.path, report.size = path, fresh.stat().st_size + binary.stat().st_size
        report.notes = notes
        os.replace(binary, weights)
    return report


def _check(form: str, path: str | os.PathLike[str], suffix: str) -> None:
    if Path(path).suffix != suffix:
        raise ValueError(
            f"The file's name should end in {suffix}. Received: path={os.fspath(path)!r}."
        )
    check_file(path)
    weights = Path(path).with_suffix(".bin")
    if form == "openvino" and weights.exists() and not Path(path).exists():
        raise ExportError(
            f"{weights} is there already, of no earlier export: choose another name, or move it."
        )
    for package in _PACKAGES[form]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f'mtl.export.{form} needs the package {package}: pip install "mtl-keras[{form}]" '
                f"({error})."
            ) from error


def _prepare(
    model: keras.Model, samples: Any, tasks: Sequence[str] | None, batch: int | None
) -> tuple[keras.Model, dict[str, np.ndarray], dict[str, keras.InputSpec]]:
    """The model to convert in float32, rows to compare on, and the inputs' shapes."""
    model = as_float32(subset(model, tasks))
    inputs = sampling.take_rows(model, samples, 8)
    rows = len(next(iter(inputs.values())))
    if batch is not None and rows % batch:
        # Whole batches only: with a fixed number of rows a shorter batch would be refused.
        repeats = -(-batch // rows)
        inputs = {name: np.concatenate([value] * repeats)[:batch] for name, value in inputs.items()}
    return model, inputs, input_specs(model, batch)


def _export(
    model: keras.Model, path: Path, form: str, signature: Mapping[str, Any], **options: Any
) -> None:
    wrapper = _Inference(model)
    wrapper(
        {name: np.zeros([size or 1 for size in s.shape], s.dtype) for name, s in signature.items()}
    )
    try:
        with quiet(), warnings.catch_warnings():
            # NumPy warns of names that Keras's patch of tf2onnx looks for.
            warnings.simplefilter("ignore", FutureWarning)
            wrapper.export(
                os.fspath(path),
                format=form,
                input_signature=[dict(signature)],
                verbose=False,
                **options,
            )
    except OSError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
            type(error).__name__
        ]
        raise ExportError(
            f"The model can't be converted to {form}: {' '.join(lines[:3])[:800]}"
        ) from error


def _in_order(names: Sequence[str], wanted: Sequence[str], what: str) -> list[int]:
    """Positions of the tasks among a file's outputs."""
    if sorted(names) != sorted(wanted):
        raise ExportError(
            f"The {what} has the heads {sorted(names)}; the model has {sorted(wanted)}."
        )
    return [list(names).index(name) for name in wanted]


def _order_onnx_outputs(path: Path, tasks: Sequence[str]) -> None:
    import onnx as onnx_package

    proto = onnx_package.load(os.fspath(path))
    outputs = list(proto.graph.output)
    order = _in_order([output.name for output in outputs], tasks, "ONNX file")
    del proto.graph.output[:]
    proto.graph.output.extend(outputs[position] for position in order)
    onnx_package.checker.check_model(proto)
    onnx_package.save(proto, os.fspath(path))


def _order_openvino_outputs(path: Path, tasks: Sequence[str]) -> None:
    """Write the converted model again at `path`, with its outputs in order and under their tasks'
    names alone."""
    import openvino as ov

    converted = path.with_name("converted.xml")
    model = ov.Core().read_model(os.fspath(converted))
    results = list(model.get_results())
    names = [
        next((n for n in result.output(0).get_tensor().get_names() if n in tasks), "")
        for result in results
    ]
    order = _in_order(names, tasks, "OpenVINO model")
    for name, result in zip(names, results, strict=True):
        result.output(0).get_tensor().set_names({name})
    ordered = ov.Model(
        [results[position] for position in order],
        list(model.get_parameters()),
        model.get_friendly_name(),
    )
    ov.serialize(ordered, os.fspath(path))


def _run_onnx(
    path: Path, inputs: Mapping[str, np.ndarray], batch: int | None
) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return _in_batches(
        lambda x: dict(zip(names, session.run(names, x), strict=True)), inputs, batch
    )


def _run_openvino(
    path: Path, inputs: Mapping[str, np.ndarray], batch: int | None
) -> dict[str, np.ndarray]:
    import openvino as ov

    # On processors with bfloat16 the CPU plugin would round; the file is what is judged, not the
    # processor.
    compiled = ov.Core().compile_model(os.fspath(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = compiled(dict(x))
        return {output.get_any_name(): np.array(answers[output]) for output in compiled.outputs}

    return _in_batches(run, inputs, batch)


def _in_batches(
    run: Any, inputs: Mapping[str, np.ndarray], batch: int | None
) -> dict[str, np.ndarray]:
    rows = len(next(iter(inputs.values())))
    step = rows if batch is None else batch
    parts = [
        run({name: value[i : i + step] for name, value in inputs.items()})
        for i in range(0, rows, step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
