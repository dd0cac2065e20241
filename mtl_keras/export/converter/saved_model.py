"""SavedModel: what servers load, with neither Keras nor this package."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from mtl_keras.export import sampling
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.converter import archive
from mtl_keras.export.prepare import as_float32, describe_omissions, subset
from mtl_keras.export.report import ExportReport, compare, compare_heads
from mtl_keras.quiet import quiet
from mtl_keras.runtime.files import ExportError, atomic_write, check_folder
from mtl_keras.version import __version__

__all__ = ["saved_model"]

#: Largest difference from Keras that a float file may show, relative to a head's range.
FLOAT_TOLERANCE = 1e-5
_EXTRA, _OURS = "assets.extra", "mtl_keras.json"
#: What a SavedModel is made of.
_PARTS = {"saved_model.pb", "fingerprint.pb", "variables", "assets", _EXTRA}


@needs_tensorflow
def saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    signatures: str | None = None,
) -> ExportReport:
    """Write a SavedModel folder, load it again, and compare every head with Keras before anything
    is replaced.

    The signature `serving_default` takes the inputs and gives the heads, all by name, for any batch
    size; `predict_<head>` gives one head, `features` what heads share, and `<head>_from_features` a
    head from that. Layers that act only in training (dropout, augmentation) are off.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A
            mixed-precision model is exported in float32.
        path: folder to write. An earlier export that is there is replaced, once the new one is
            proven; a folder that holds anything else is left alone.
        samples: rows to compare on (arrays, or a data set). None uses random inputs.
        tasks: names of the tasks to export; layers and inputs that only others use are left out.
            None exports all.
        signatures: "default" (`serving_default` alone), "heads", "features" or "all", as in
            `tflite`. None takes "all", or "heads" where the model names no shared representation.

    Returns:
        `ExportReport` with each head's error.

    Raises:
        ExportError: a path that can't be written, a folder that holds something else, a full disk,
            or a head that differs from Keras.

    Examples:
        >>> mtl.export.saved_model(model, "out/saved_model").show()
    """
    check_folder(path, _foreign)
    notes = describe_omissions(model)
    model = subset(model, tasks)
    plain = as_float32(model)
    inputs = sampling.take_rows(model, samples, 8)
    if signatures is None:
        signatures = "all" if getattr(plain, "representation", ()) else "heads"
    endpoints = archive.endpoints(plain, signatures)
    with atomic_write(path) as fresh:
        _write(plain, fresh, endpoints, path)
        run = _runner(fresh)
        report = compare(
            plain, inputs, run("serving_default", inputs), FLOAT_TOLERANCE, "SavedModel"
        )
        known = dict(inputs)
        for endpoint in endpoints[1:]:
            expected = endpoint.run(known)
            outputs = run(endpoint.name, {name: known[name] for name in endpoint.specs})
            compare_heads(
                expected, outputs, FLOAT_TOLERANCE, f"SavedModel, signature '{endpoint.name}'"
            )
            known |= expected if endpoint.name == "features" else {}
        report.notes = notes
        report.path, report.size = (
            Path(path),
            sum(f.stat().st_size for f in fresh.rglob("*") if f.is_file()),
        )
    return report


def _write(
    model: keras.Model, fresh: Path, made: Sequence[archive.Endpoint], path: str | os.PathLike[str]
) -> None:
    """Write the SavedModel, with the file by which a later export knows it as ours.

    Raises:
        ExportError: TensorFlow could not write it.
    """
    import tensorflow as tf

    try:
        archive.write_archive(model, fresh, made=made)
    except tf.errors.OpError as error:
        reason = " ".join(str(error.message).split())[:200]
        raise ExportError(
            f"{path} could not be written: {reason}. What was there before is unchanged. Is the "
            f"disk full?"
        ) from error
    # `assets.extra` is where the format lets others put files of their own.
    (fresh / _EXTRA).mkdir()
    (fresh / _EXTRA / _OURS).write_text(
        json.dumps({"mtl_keras": __version__, "model": model.name}) + "\n", "utf-8"
    )


def _foreign(folder: Path) -> list[str]:
    """What stands in a folder and is no part of a SavedModel that this function wrote."""
    names = sorted(entry.name for entry in folder.iterdir())
    if not (folder / _EXTRA / _OURS).is_file():
        return names
    return [name for name in names if name not in _PARTS] + [
        f"{_EXTRA}/{entry.name}" for entry in (folder / _EXTRA).iterdir() if entry.name != _OURS
    ]


def _runner(path: Path) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    import tensorflow as tf

    with quiet():
        loaded = tf.saved_model.load(str(path))

    def run(signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = loaded.signatures[signature](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}

    return run
