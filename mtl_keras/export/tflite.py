"""TFLite: what phones load."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export.artifact import ExportRequest, TFLiteArtifact
from mtl_keras.export.auto import cheapest_that_passes
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.judge import enforce_max_drop
from mtl_keras.export.options import TFLiteOptions
from mtl_keras.export.pipeline import build
from mtl_keras.export.report import ExportReport, bounded_heads, ruined_heads
from mtl_keras.runtime.callers import warn_caller
from mtl_keras.runtime.files import ExportError, atomic_write
from mtl_keras.runtime.tflite_model import TFLiteModel

__all__ = ["run_tflite", "tflite"]


@needs_tensorflow
def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    keep_float: Sequence[str] = (),
    percentile: float | None = None,
    signatures: str = "default",
    batch: int = 1,
    io: str = "float32",
    decode: Sequence[str] = (),
    evaluate: Any = None,
    max_drop: float | Mapping[str, float] | None = None,
    on_drop: str = "raise",
    budget: Mapping[str, float] | None = None,
) -> ExportReport:
    """Write a `.tflite` file, load it again, and compare every head with Keras before anything is
    replaced.

    The file has a static batch, builtin operators only, and the heads under their tasks' names, as
    signature keys and as tensor names, in the tasks' order. Inputs and outputs are float32 unless
    `io` says otherwise.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A
            mixed-precision model is exported in float32, a quantization-aware one with its weights
            in the float network.
        path: file to write, `.tflite`.
        quantization: None (float32); "float16" (weights; computes in float32 on a CPU); "weights"
            (int8 weights, turned back before use); "dynamic" (int8 weights, float activations,
            computes in int8, no calibration needed); "int4" (as "dynamic", with weights in int4 and
            a scale per channel) and "int4_block32", "int4_block64" (a scale per 32 or 64 weights of
            a channel, in fully connected layers whose input size is a multiple), which need
            ai-edge-quantizer; "int8" (weights and activations); "int16x8" (int8 weights, int16
            activations: finer, and slower where a delegate lacks it); or "auto": of all kinds but
                int4, and "int8" with the heads that lost in float, the cheapest that loses at most
                `max_drop` on every head, by the size and latency that are measured here (see
                `budget`). The report's
            `rungs` has the measurements, `refused` says why others did not pass.
        calibration: typical inputs, for "int8" and "int16x8": arrays, or a data set, generator or
            list of batches, with or without labels. 256 rows are used, drawn at random over all of
            the data.
        samples: rows to compare on; 64 are used. None uses the inputs of `evaluate`, or a fifth of
            the calibration's rows (which are then not calibrated on), or random inputs.
        tasks: names of the tasks to export; layers and inputs that only others use are left out.
            None exports all.
        keep_float: for "int8": names of tasks, whose own layers stay in float, or of layers.
        percentile: for "int8": float in (50, 100). Inner ranges span that part of the calibration's
            values at both ends, instead of all; heads and inputs keep theirs.
        signatures: "default" (`serving_default`: all heads); "heads" adds `predict_<head>` for
            each; "features" adds `features`, the tensors that heads share, and
            `<head>_from_features`; "all". Weights are stored once.
        batch: rows that a call takes; 1 is what delegates and web runtimes want.
        io: "float32", or, for "int8", "int8" or "uint8": what real-valued inputs and outputs are in
            the file. Their scales and zero points are in the file; `run_tflite` applies them.
        decode: tasks whose answers the file decodes itself, as further outputs `<task>_decoded` of
            `serving_default`: the class's number, 0 or 1 beyond the threshold, the level, the
            number in its range (no logarithm), boxes and points in pixels of the picture that comes
            in. What takes loops (detection's objects, transcriptions) is decoded outside, by
            `TFLiteModel.predict` and by snippets.
        evaluate: held-out data with labels, `(x, y)` or a data set: the report then has each task's
            first metric in Keras and in the file.
        max_drop: float, or a dict by task. A head whose metric is worse by more, in its own unit,
            stops the export; needs `evaluate`.
        on_drop: "raise"; "warn": the file is written all the same, and a warning says what it
            loses; or "report": nothing is written, and the report says so (`passed` is False).
        budget: for "auto": `{"bytes": 200_000, "ms": 5.0}`, or one of the two; what is beyond it is
            refused. With milliseconds, the smallest file that passes is taken; with bytes alone,
            the fastest; without a budget, the one whose size, times how often it is slower than the
            fastest (from 1.5 times on), is least. Milliseconds are this machine's.

    Returns:
        `ExportReport` with each head's error and range, the file's size, its operators, delegate
        partitions and latency.

    Raises:
        ExportError: a layer that can't be converted (named by the converter), a path that can't be
            written, a head that is missing, dead, not finite, differs from Keras in a float file,
            keeps less than half of what moves in it (where no `max_drop` says what it may lose),
            has a range in int8 that cuts off its calibrated one, or loses more than `max_drop`.
            What was at `path` before stays.
        ValueError: an unknown quantization, task or layer, or data that don't fit the model.

    Examples:
        >>> mtl.export.tflite(model, "out/model.tflite", quantization="int8", calibration=train).show()

    Note:
        Warns (`UserWarning`) where ranges are measured on fewer than 32 rows.
    """
    options = TFLiteOptions(
        path=path,
        quantization=quantization,
        calibration=calibration,
        samples=samples,
        evaluate=evaluate,
        tasks=tasks,
        keep_float=keep_float,
        percentile=percentile,
        signatures=signatures,
        batch=batch,
        io=io,
        decode=decode,
        max_drop=max_drop,
        on_drop=on_drop,
        budget=budget,
    )
    request = ExportRequest.of(model, options)
    return cheapest_that_passes(request) if options.is_auto else _write(request)


def _write(request: ExportRequest) -> ExportReport:
    """Build one file, and put it into its place if it loses no more than allowed.

    Raises:
        ExportError: what goes wrong; a head that loses too much, where `on_drop` is "raise".
    """
    options = request.options
    path, complaint = Path(options.path), None
    try:
        with atomic_write(path) as fresh:
            artifact = build(request, options.quantization, options.keep_float, fresh)
            try:
                enforce_max_drop(artifact)
            except ExportError as error:
                if options.on_drop == "report":
                    raise _NotWritten(artifact, error) from error
                if options.on_drop == "raise":
                    raise
                complaint = str(error)
    except _NotWritten as unwritten:
        return unwritten.report
    artifact.report.path = path
    complaint = complaint or _ruin(artifact)
    if complaint is not None:
        warn_caller(complaint)
    return artifact.report


class _NotWritten(Exception):
    """Ends the writing of a file that loses too much, without an error."""

    def __init__(self, artifact: TFLiteArtifact, error: ExportError) -> None:
        super().__init__(str(error))
        self.report = artifact.report
        self.report.path, self.report.passed = None, False
        self.report.refused = [(artifact.quantization or "float32", str(error))]


def _ruin(artifact: TFLiteArtifact) -> str | None:
    """What to warn of where no metric judges, and the user asked for warnings instead of errors."""
    options, report = artifact.request.options, artifact.report
    if options.max_drop is not None or options.on_drop != "warn":
        return None
    ruined = ruined_heads(report.heads, bounded_heads(artifact.request.network), report.rows)
    if not ruined:
        return None
    return f"The {report.format} keeps less than half of what moves in {', '.join(ruined)}."


def run_tflite(
    path: str | os.PathLike[str], inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run a `.tflite` file row by row on inputs by name; raw outputs by name, as `TFLiteModel.run`.

    Inputs that the file does not take are passed over.
    """
    model = TFLiteModel(path)
    return model.run({name: value for name, value in inputs.items() if name in model.inputs})
