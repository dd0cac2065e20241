"""One file, from a request to a report: convert, annotate, verify, measure."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from mtl_keras.export.annotate import annotate
from mtl_keras.export.artifact import ExportRequest, TFLiteArtifact
from mtl_keras.export.converter.convert import convert
from mtl_keras.export.measure import measure
from mtl_keras.export.verify import verify
from mtl_keras.graph import sublayers
from mtl_keras.runtime.files import ExportError

__all__ = ["STAGES", "build"]

#: In order; each completes what the ones before it have added. What a file may lose is judged by
#: the caller.
STAGES: tuple[Callable[[TFLiteArtifact], None], ...] = (convert, annotate, verify, measure)


def build(
    request: ExportRequest, quantization: str | None, keep_float: Sequence[str], path: Path
) -> TFLiteArtifact:
    """Write one file, load it again, compare and measure it.

    Raises:
        ExportError: whatever goes wrong.
    """
    artifact = TFLiteArtifact(request, quantization, path, tuple(keep_float))
    try:
        for stage in STAGES:
            stage(artifact)
    except ExportError:
        raise
    except (RuntimeError, AssertionError, IndexError, struct.error) as error:
        lines = str(error).strip().splitlines() or ["it gives no reason"]
        layers = _layers_of(request.model, str(error))
        where = f", at layer {layers}" if layers else ""
        raise ExportError(
            f"The {artifact.description} can't be made or run{where}: {type(error).__name__}, "
            f"{lines[0][:300]}."
        ) from error
    return artifact


def _layers_of(model: keras.Model, message: str) -> str:
    names = [layer.name for layer in sublayers(model, include_self=False)]
    return ", ".join(
        f"'{name}'" for name in names if re.search(rf"\b{re.escape(name)}(_\d+)?\b", message)
    )
