"""What a file costs: bytes, operators, steps between values, delegate partitions, milliseconds."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, cast

from mtl_keras.export import gpu
from mtl_keras.export.compression.compress import zeros
from mtl_keras.export.converter import quantization
from mtl_keras.export.options import CALIBRATED
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime import measure as device

if TYPE_CHECKING:
    from mtl_keras.export.artifact import TFLiteArtifact

__all__ = ["measure", "measure_speed", "note_calibration"]


def measure(artifact: TFLiteArtifact) -> None:
    """The fourth stage: the report's sizes, operators, ranges in the file, and latency."""
    _measure_size(artifact)
    _measure_ranges(artifact)
    note_calibration(artifact)
    measure_speed(artifact)
    artifact.report.gpu = gpu.explain_gpu_rejections(artifact.content)


def _measure_size(artifact: TFLiteArtifact) -> None:
    report, content = artifact.report, artifact.content
    report.size, report.ops = len(content), flatbuffer.ops(content)
    report.in_float32 = artifact.in_float32
    report.gzip_size = len(gzip.compress(content))
    report.zeros = zeros(artifact.request.network)
    if len(artifact.request.endpoints) > 1:
        metadata_size = len(content) - len(artifact.unannotated)
        report.single_size = len(flatbuffer.first_alone(artifact.unannotated)) + metadata_size
    if report.zeros >= 0.1:
        report.sparse_size = quantization.sparse_size(content)


def _measure_ranges(artifact: TFLiteArtifact) -> None:
    ranges = quantization.head_ranges(artifact.content)
    for head in artifact.report.heads:
        if head.name in ranges:
            head.low, head.high, head.scale = ranges[head.name]


def note_calibration(artifact: TFLiteArtifact) -> None:
    """Which rows the file's ranges and errors are of, where it has ranges."""
    if artifact.quantization not in CALIBRATED:
        return
    rows, report = artifact.request.rows, artifact.report
    report.calibration_rows = len(next(iter(cast("dict[str, Any]", rows.calibration).values())))
    report.new_rows = rows.are_new
    if not rows.are_new:
        # The row that ranges were measured on says nothing of new data.
        for head in report.heads:
            head.largest = head.mean = head.clipped = float("nan")
            head.fidelity = None


def measure_speed(artifact: TFLiteArtifact) -> None:
    """Delegate partitions and latency, on this machine."""
    report = artifact.report
    report.partitions, report.latency_ms, report.cpu = device.quick(artifact.path)
