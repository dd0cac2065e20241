"""What a file tells of itself: heads by name and in order, tasks, inputs, ranges, encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.runtime import encoders, flatbuffer, metadata
from mtl_keras.version import __version__

if TYPE_CHECKING:
    from mtl_keras.export.artifact import TFLiteArtifact
    from mtl_keras.export.converter.archive import Endpoint

__all__ = ["annotate"]


def annotate(artifact: TFLiteArtifact) -> None:
    """The second stage: names and order of inputs and outputs, and metadata.

    Raises:
        ExportError: the converted file lacks a head.
    """
    outputs = {endpoint.name: endpoint.outputs for endpoint in artifact.request.endpoints}
    artifact.unannotated = flatbuffer.name_and_order(artifact.content, outputs)
    artifact.content = metadata.describe(artifact.unannotated, _metadata(artifact))


def _metadata(artifact: TFLiteArtifact) -> dict[str, Any]:
    model, endpoint = artifact.request.model, artifact.request.endpoints[0]
    encoder = getattr(model, "encoder", None)
    takes_model_inputs = set(endpoint.specs) == {tensor.name for tensor in model.inputs}
    is_registered = encoders.ENCODERS.get(type(encoder).__name__) is type(encoder)
    tasks = [task for task in getattr(model, "tasks", ()) if task.name in endpoint.outputs]
    return {
        "mtl_keras": __version__,
        "model": model.name,
        "quantization": artifact.quantization or "float32",
        "io": artifact.request.options.io,
        "in_float": list(artifact.keep_float),
        "inputs": _inputs(endpoint, artifact.request.rows.calibration),
        "tasks": [task.facts() for task in tasks],
        "encoder": encoders.to_dict(encoder) if is_registered and takes_model_inputs else None,
    }


def _inputs(
    endpoint: Endpoint, calibration: Mapping[str, np.ndarray] | None
) -> list[dict[str, Any]]:
    entries = []
    for name, spec in endpoint.specs.items():
        entry: dict[str, Any] = {"name": name, "shape": list(spec.shape), "dtype": spec.dtype}
        if calibration is not None and "float" in spec.dtype:
            entry["range"] = [float(calibration[name].min()), float(calibration[name].max())]
        entries.append(entry)
    return entries
