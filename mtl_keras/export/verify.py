"""A file loaded again and held to Keras, head by head, signature by signature."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.export import decoded
from mtl_keras.export.converter.saved_model import FLOAT_TOLERANCE
from mtl_keras.export.report import (
    HeadReport,
    bounded_heads,
    compare,
    compare_heads,
    float_noise,
)
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.tflite_model import TFLiteModel

if TYPE_CHECKING:
    from mtl_keras.export.artifact import TFLiteArtifact
    from mtl_keras.export.converter.archive import Endpoint

__all__ = ["load", "verify", "verify_endpoint"]


def load(artifact: TFLiteArtifact) -> None:
    """Write the artifact's file, and load it again.

    Raises:
        ExportError: operators that no runtime from a package index can load.
    """
    flatbuffer.ops(artifact.content)
    artifact.path.write_bytes(artifact.content)
    artifact.file = TFLiteModel(artifact.path)


def verify(artifact: TFLiteArtifact) -> None:
    """The third stage: the file's answers, and the report with each head's error.

    Raises:
        ExportError: a head that is missing, dead, ruined, not finite, or differs in a float file;
            decoded answers that do not agree with their heads.
    """
    load(artifact)
    request, rows = artifact.request, artifact.request.rows.comparison
    artifact.answers = artifact.file.run(rows)
    artifact.report = compare(
        request.network,
        rows,
        artifact.answers,
        _tolerance(artifact),
        artifact.description,
        request.holds_fidelity,
    )
    artifact.report.notes = list(request.notes)
    for name in request.options.decode:
        decoded.agree(
            request.network,
            name,
            artifact.answers[name],
            artifact.answers[f"{name}{decoded.SUFFIX}"],
            exact=artifact.quantization is None,
        )
    _verify_others(artifact)


def _tolerance(artifact: TFLiteArtifact) -> float | None:
    return FLOAT_TOLERANCE if artifact.quantization is None else None


def _verify_others(artifact: TFLiteArtifact) -> None:
    """Every further signature beside Keras, on the same rows."""
    known = dict(artifact.request.rows.comparison)
    for endpoint in artifact.request.endpoints[1:]:
        x = {name: known[name] for name in endpoint.specs}
        expected = endpoint.run(x)
        if endpoint.name == "features":
            known |= expected
        verify_endpoint(
            artifact,
            endpoint,
            x,
            expected,
            f"{artifact.description}, signature '{endpoint.name}'",
            artifact.request.holds_fidelity,
        )


def verify_endpoint(
    artifact: TFLiteArtifact,
    endpoint: Endpoint,
    x: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    description: str,
    are_typical: bool,
) -> list[HeadReport]:
    """One signature of a loaded file beside Keras.

    Args:
        x: inputs by name.
        expected: what Keras answers.
        description: of the signature, for messages.
        are_typical: whether the rows are data.
    """
    network = artifact.request.network
    # Features are no head: how much of them matters, the heads say.
    are_heads = set(endpoint.outputs) <= set(network.output)
    noise = (
        functools.partial(float_noise, functools.partial(endpoint.run, x), network)
        if are_heads
        else None
    )
    return compare_heads(
        expected,
        artifact.file.run(x, endpoint.name),
        _tolerance(artifact),
        description,
        noise=noise,
        bounded=bounded_heads(network),
        are_typical=are_typical and are_heads,
    )
