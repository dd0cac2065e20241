"""Typical inputs: what files are compared on, and what int8 measures its ranges on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.data.encoders import ImageEncoder
from mtl_keras.export import archive, rows
from mtl_keras.graph import nodes

__all__ = ["check_spread", "take"]


def take(model: keras.Model, data: Any, count: int) -> dict[str, np.ndarray]:
    """The first `count` rows of data (arrays, or a data set with or without labels) as arrays by input name.

    Raises:
        ValueError: no row, wrong names, shapes or dtypes, values that are not finite or not what the network was made for.
    """
    if data is None:
        rng = np.random.default_rng(0)
        found = {}
        for name, spec in archive.input_specs(model, count).items():
            integer = "int" in spec.dtype
            found[name] = rng.integers(0, 2, spec.shape).astype(spec.dtype) if integer else rng.random(spec.shape, "float32")
        return found
    data = rows.unify(model, data)
    parts: list[dict[str, np.ndarray]] = []
    if hasattr(data, "element_spec") or hasattr(data, "__next__"):
        count_rows = 0
        for batch in data:
            x = batch[0] if isinstance(batch, tuple) else batch
            parts.append(archive.by_name(model, x))
            count_rows += len(next(iter(parts[-1].values())))
            if count_rows >= count:
                break
    else:
        parts.append(archive.by_name(model, data[0] if isinstance(data, tuple) else data))
    if not parts or not len(next(iter(parts[0].values()))):
        raise ValueError("The sample data are empty: at least one row is needed.")
    found = {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
    for name, spec in archive.input_specs(model, None).items():
        _check(model, name, spec, found[name])
        found[name] = found[name].astype(spec.dtype)
    return found


def _check(model: keras.Model, name: str, spec: keras.InputSpec, value: np.ndarray) -> None:
    """Refuse values of one input that the network does not take, or was not made for."""
    what = f"Sample data for input '{name}'"
    if value.ndim != len(spec.shape) or any(s not in (None, v) for s, v in zip(spec.shape, value.shape, strict=True)):
        raise ValueError(f"{what} have shape {value.shape}; the model takes {tuple(spec.shape)}.")
    if value.dtype.kind not in "iufb":
        raise ValueError(f"{what} have dtype {value.dtype}; the model takes {spec.dtype}.")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"{what} hold values that are not finite.")
    low, high = float(value.min()), float(value.max())
    if "int" in spec.dtype:
        if value.dtype.kind == "f" and (value != np.round(value)).any():
            raise ValueError(f"{what} hold fractions; the model takes {spec.dtype}.")
        ends = np.iinfo(spec.dtype)
        size = _vocabulary(model, name)
        first, last = (ends.min, ends.max) if size is None else (0, size - 1)
        if low < first or high > last:
            kind = f"{spec.dtype}" if size is None else f"a vocabulary of {size}"
            raise ValueError(f"{what} go from {low:g} to {high:g}; the model takes {kind}: {first} to {last}.")
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, ImageEncoder) and encoder.name == name and "float" in spec.dtype:
        most = 255 * encoder.scale
        if low < -0.01 * most or high > 1.01 * most:
            raise ValueError(
                f"{what} go from {low:g} to {high:g}; the pictures that the model's encoder makes go from 0 to {most:g}. Give "
                "what `model.encoder.encode` gives."
            )


def _vocabulary(model: keras.Model, name: str) -> int | None:
    """How many numbers the embeddings know that an input goes into, or None."""
    sizes = [
        node.operation.input_dim
        for node in nodes(model)
        if isinstance(node.operation, keras.layers.Embedding) and any(t.name == name for t in node.input_tensors)
    ]
    return min(sizes, default=None)


def check_spread(inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse calibration data in which no real-valued input moves.

    Raises:
        ValueError: no range can be measured.
    """
    real = {name: value for name, value in inputs.items() if value.dtype.kind == "f"}
    if real and all(value.min() == value.max() for value in real.values()):
        told = ", ".join(f"'{name}' is always {value.flat[0]:g}" for name, value in real.items())
        raise ValueError(f"The calibration data never change: {told}. int8 measures ranges on them: give typical inputs.")
