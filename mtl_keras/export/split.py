"""A network in parts: the trunk that heads share, and each head."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from mtl_keras.export import sampling
from mtl_keras.export.annotate import annotate
from mtl_keras.export.artifact import ExportRequest, TFLiteArtifact
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.converter import archive, refusals
from mtl_keras.export.converter.convert import convert
from mtl_keras.export.measure import measure_speed, note_calibration
from mtl_keras.export.options import CALIBRATED, TFLiteOptions
from mtl_keras.export.prepare import as_float32, subset
from mtl_keras.export.report import ExportReport
from mtl_keras.export.verify import load, verify_endpoint
from mtl_keras.runtime import flatbuffer, metadata
from mtl_keras.runtime.files import ExportError, atomic_write, check_folder

__all__ = ["split"]


@needs_tensorflow
def split(
    model: keras.Model,
    folder: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
) -> dict[str, ExportReport]:
    """Write `backbone.tflite`, from the inputs to the features that heads share, and one small file
    per head from these.

    An application runs the backbone once and the heads that it needs; new heads can be sent without
    the backbone.

    Args:
        model: `MultiTaskModel` whose builder names its shared representation.
        folder: for `backbone.tflite` and `<task>.tflite`. An earlier split that is there is
            replaced, once all files are proven; a folder that holds anything else is left alone.
        quantization, calibration, samples, tasks: as in `tflite`, without "auto".

    Returns:
        dict of "backbone" and each task's name to its file's `ExportReport`.

    Raises:
        ExportError, ValueError: as in `tflite`; a model without a shared representation.

    Examples:
        >>> mtl.export.split(model, "out", "int8", calibration=train)
        >>> features = mtl.export.TFLiteModel("out/backbone.tflite").run({"image": images})
        >>> digit = mtl.export.TFLiteModel("out/digit.tflite")
        >>> digit.predict({name: features[name] for name in digit.inputs})
    """
    options = TFLiteOptions(
        path="part.tflite", quantization=quantization, calibration=calibration, samples=samples
    )
    check_folder(folder, _foreign)
    model = subset(model, tasks)
    if quantization in CALIBRATED and (reason := refusals.recurrent_layer_error(model)):
        raise ExportError(reason)
    rows = sampling.calibration_and_comparison(
        model, calibration, samples, None, options.measures_ranges
    )
    network = as_float32(model)
    _, backbone, *heads = archive.endpoints(network, "features", batch=1)
    if "backbone" in model.output:
        raise ValueError(
            "A task named 'backbone' would take the backbone's file name: rename the task."
        )
    # The heads' inputs are what the backbone answers to the same rows.
    rows.comparison |= backbone.run(rows.comparison)
    if rows.calibration is not None:
        rows.calibration |= backbone.run(rows.calibration)
    request = ExportRequest(options, model, network, [], rows)
    reports = {}
    with atomic_write(folder) as fresh:
        fresh.mkdir()
        for endpoint in (backbone, *heads):
            name = "backbone" if endpoint is backbone else endpoint.outputs[0]
            part = _request_for(request, endpoint)
            reports[name] = _build_part(part, fresh / f"{name}.tflite")
            reports[name].path = Path(folder) / f"{name}.tflite"
    return reports


def _request_for(request: ExportRequest, endpoint: archive.Endpoint) -> ExportRequest:
    """The request for the file of one part."""
    alone = dataclasses.replace(endpoint, name="serving_default")
    rows = request.rows
    calibration = None
    if rows.calibration is not None:
        calibration = {key: rows.calibration[key] for key in alone.specs}
    comparison = {key: rows.comparison[key] for key in alone.specs}
    return dataclasses.replace(
        request,
        endpoints=[alone],
        rows=dataclasses.replace(rows, calibration=calibration, comparison=comparison),
        converted={},
    )


def _build_part(request: ExportRequest, path: Path) -> ExportReport:
    """Write one file, load it again, and compare it."""
    artifact = TFLiteArtifact(request, request.options.quantization, path)
    convert(artifact)
    annotate(artifact)
    load(artifact)
    description = f"file {path.name} ({artifact.name})"
    (endpoint,), x = request.endpoints, request.rows.comparison
    heads = verify_endpoint(
        artifact, endpoint, x, endpoint.run(x), description, request.rows.are_typical
    )
    artifact.report = ExportReport(
        description, heads, path, len(artifact.content), flatbuffer.ops(artifact.content)
    )
    artifact.report.rows = len(next(iter(x.values())))
    artifact.report.in_float32 = artifact.in_float32
    note_calibration(artifact)
    measure_speed(artifact)
    return artifact.report


def _foreign(folder: Path) -> list[str]:
    """What stands in a folder beside the files of an earlier `split`."""
    names = []
    for entry in sorted(folder.iterdir()):
        try:
            facts = metadata.facts_of(entry.read_bytes()) if entry.suffix == ".tflite" else None
        except (ExportError, OSError):
            facts = None
        if facts is None:
            names.append(entry.name)
    return names
