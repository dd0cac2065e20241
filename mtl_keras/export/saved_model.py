"""SavedModel: what servers load, with neither Keras nor this package."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from mtl_keras.export import archive, sampling
from mtl_keras.export.files import beside
from mtl_keras.export.report import ExportReport, beside_keras, compare
from mtl_keras.quiet import quiet

__all__ = ["saved_model"]

#: Largest difference from Keras that a float file may show, relative to a head's range.
FLOAT_TOLERANCE = 1e-5


def saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    signatures: str | None = None,
) -> ExportReport:
    """Write a SavedModel folder, load it again, and compare every head with Keras before anything is replaced.

    The signature `serving_default` takes the inputs and gives the heads, all by name, for any batch size;
    `predict_<head>` gives one head, `features` what heads share, and `<head>_from_features` a head from that. Layers that
    act only in training (dropout, augmentation) are off.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A mixed-precision model is exported
            in float32.
        path: folder to write. What is there is replaced, once the new one is proven.
        samples: rows to compare on (arrays, or a data set). None uses random inputs.
        tasks: names of the tasks to export; layers and inputs that only others use are left out. None exports all.
        signatures: "default" (`serving_default` alone), "heads", "features" or "all", as in `tflite`. None takes "all", or
            "heads" where the model names no shared representation.

    Returns:
        `ExportReport` with each head's error.

    Raises:
        ExportError: a path that can't be written, or a head that differs from Keras.

    Example:
        >>> mtl.export.saved_model(model, "out/saved_model").show()
    """
    model = archive.subset(model, tasks)
    plain = archive.as_float32(model)
    inputs = sampling.take(model, samples, 8)
    if signatures is None:
        signatures = "all" if getattr(plain, "representation", ()) else "heads"
    made = archive.endpoints(plain, signatures)
    with beside(path) as fresh:
        archive.write_archive(plain, fresh, made=made)
        run = _runner(fresh)
        report = compare(plain, inputs, run("serving_default", inputs), FLOAT_TOLERANCE, "SavedModel")
        known = dict(inputs)
        for endpoint in made[1:]:
            expected = endpoint.run(known)
            found = run(endpoint.name, {name: known[name] for name in endpoint.specs})
            beside_keras(expected, found, FLOAT_TOLERANCE, f"SavedModel, signature '{endpoint.name}'")
            known |= expected if endpoint.name == "features" else {}
        report.path, report.size = Path(path), sum(f.stat().st_size for f in fresh.rglob("*") if f.is_file())
    return report


def _runner(path: Path) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    import tensorflow as tf

    with quiet():
        loaded = tf.saved_model.load(str(path))

    def run(signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        found = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    return run
