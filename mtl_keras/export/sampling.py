"""Typical inputs: what files are compared on, and what int8 measures its ranges on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from mtl_keras.export.models import input_specs, inputs_by_name
from mtl_keras.export.rows import unify
from mtl_keras.graph import nodes
from mtl_keras.runtime.callers import warn_caller
from mtl_keras.runtime.encoders import ImageEncoder

__all__ = ["Rows", "calibration_and_comparison", "check_spread", "take_rows"]

#: Rows that int8 measures its ranges on, and rows that the file is compared on.
CALIBRATION_ROWS, COMPARISON_ROWS = 256, 64
#: Fewer rows than this say little about what new data look like.
FEW_ROWS = 32
#: Rows of a stream that are looked at: of one that repeats for ever, and of one that ends, or whose
#: length nobody knows.
_ENDLESS, _LONGEST = 4096, 50_000


@dataclass
class Rows:
    """Typical inputs by name, in two parts.

    Attributes:
        calibration: rows on which ranges are measured, or None.
        comparison: rows on which the file is compared with Keras: none of the calibration's.
        are_typical: whether the comparison's rows are data; False of random numbers.
        are_new: whether the comparison's rows are others than the calibration's.
    """

    calibration: dict[str, np.ndarray] | None
    comparison: dict[str, np.ndarray]
    are_typical: bool = True
    are_new: bool = True


def calibration_and_comparison(
    model: keras.Model,
    calibration: Any,
    samples: Any,
    held_out: Mapping[str, np.ndarray] | None,
    measures: bool,
) -> Rows:
    """Rows to measure ranges on, and others to compare on, both spread over the data.

    The comparison takes `samples`, or the inputs of held-out data, or, where there is neither, a
    fifth of the calibration's rows (at most 64), which are then not calibrated on.

    Args:
        calibration, samples: as `mtl.export.tflite` takes them.
        held_out: inputs by name of `evaluate`, or None.
        measures: whether ranges are measured: `calibration` has to move, and few rows are warned
            of.

    Raises:
        ValueError: as `take_rows` and `check_spread`.
    """
    apart = samples is not None or held_out is not None
    typical, comparison, are_new = None, None, True
    if calibration is not None:
        count = CALIBRATION_ROWS + (0 if apart else COMPARISON_ROWS)
        typical = take_rows(model, calibration, count)
        if measures:
            check_spread(typical)
        rows = _rows(typical)
        if not apart:
            held = min(COMPARISON_ROWS, rows // 5 or 1) if rows > 1 else 0
            are_new = held > 0
            comparison = {name: value[:held] if held else value for name, value in typical.items()}
            typical = {name: value[held:] for name, value in typical.items()}
        if measures:
            _warn_of_few(_rows(typical), are_new)
    if samples is not None:
        comparison = take_rows(model, samples, COMPARISON_ROWS)
    elif held_out is not None:
        comparison = take_rows(model, held_out, COMPARISON_ROWS)
    if comparison is None:
        return Rows(None, take_rows(model, None, 16), are_typical=False)
    return Rows(typical, comparison, are_new=are_new)


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(inputs.values())))


def _warn_of_few(rows: int, are_new: bool) -> None:
    if rows >= FEW_ROWS:
        return
    message = (
        f"Ranges are measured on {rows} row{'' if rows == 1 else 's'}: what new data have beyond "
        f"them is cut off. Give "
        f"`calibration` some hundred typical rows (at least {FEW_ROWS})."
    )
    if not are_new:
        message += (
            " There is no other row to compare the file on: its errors on new data are not known."
        )
    warn_caller(message)


def take_rows(model: keras.Model, data: Any, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """`count` rows, drawn at random over all of the data, as arrays by input name.

    Args:
        model: takes them.
        data: arrays, or batches with or without labels: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a list of batches, a generator or a function that makes one. Of
            a stream, each row has the same chance (reservoir sampling): it is read to its end, or,
            where it is very long, for 50,000 rows (4,096 where it repeats for ever). None gives
            random numbers.
        count: rows, at most; fewer where the data have fewer.
        seed: of the choice.

    Raises:
        ValueError: no row, wrong names, shapes or dtypes, values that are not finite or not what
            the network was made for.

    Reference:
        Vitter, "Random Sampling with a Reservoir", ACM Transactions on Mathematical Software 1985.
    """
    rng = np.random.default_rng(seed)
    if data is None:
        inputs = {}
        for name, spec in input_specs(model, count).items():
            integer = "int" in spec.dtype
            inputs[name] = (
                rng.integers(0, 2, spec.shape).astype(spec.dtype)
                if integer
                else rng.random(spec.shape, "float32")
            )
        return inputs
    stream = unify(model, data)
    if hasattr(stream, "element_spec") or hasattr(stream, "__next__"):
        drawn = _reservoir(model, stream, count, rng, _most_rows(data))
    else:
        rows = inputs_by_name(model, stream[0] if isinstance(stream, tuple) else stream)
        _check_lengths(rows)
        number = _rows(rows)
        chosen = rng.permutation(number)[:count]
        drawn = {name: value[chosen] for name, value in rows.items()}
    if not _rows(drawn):
        raise ValueError("The sample data are empty: at least one row is needed.")
    for name, spec in input_specs(model, None).items():
        _check(model, name, spec, drawn[name])
        drawn[name] = drawn[name].astype(spec.dtype)
    return drawn


def _most_rows(data: Any) -> int:
    cardinality = getattr(data, "cardinality", None)
    number = int(cardinality()) if callable(cardinality) else None
    return _ENDLESS if number == -1 else _LONGEST


def _reservoir(
    model: keras.Model, stream: Iterable[Any], count: int, rng: np.random.Generator, most: int
) -> dict[str, np.ndarray]:
    """`count` rows of a stream: those with the smallest of random keys, so that every row has the
    same chance."""
    keys, pool, seen = np.zeros(0), None, 0
    for batch in stream:
        rows = inputs_by_name(model, batch[0] if isinstance(batch, tuple) else batch)
        _check_lengths(rows)
        number = _rows(rows)
        fresh = rng.random(number)
        seen += number
        enters = np.flatnonzero(fresh < keys.max()) if len(keys) == count else np.arange(number)
        # Copies: a generator may write its next batch into the same memory.
        rows = {name: value[enters] for name, value in rows.items()}
        fresh = fresh[enters]
        if pool is not None:
            fresh = np.concatenate([keys, fresh])
            rows = {name: np.concatenate([pool[name], value]) for name, value in rows.items()}
        chosen = np.argsort(fresh, kind="stable")[:count]
        keys, pool = fresh[chosen], {name: value[chosen] for name, value in rows.items()}
        if seen >= most:
            if most == _LONGEST:
                warn_caller(
                    f"Rows are drawn from the first {seen:,} of the stream. If it is sorted, give "
                    f"arrays, or shuffle it."
                )
            break
    if pool is None:
        raise ValueError("The sample data are empty: at least one row is needed.")
    return pool


def _check_lengths(rows: Mapping[str, np.ndarray]) -> None:
    lengths = {name: len(value) if value.ndim else 0 for name, value in rows.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise ValueError(
            f"The inputs of the sample data should have the same number of rows. "
            f"Received: {counts}."
        )


def _check(model: keras.Model, name: str, spec: keras.InputSpec, value: np.ndarray) -> None:
    """Refuse values of one input that the network does not take, or was not made for."""
    what = f"Sample data for input '{name}'"
    if value.ndim != len(spec.shape) or any(
        s not in (None, v) for s, v in zip(spec.shape, value.shape, strict=True)
    ):
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
            raise ValueError(
                f"{what} go from {low:g} to {high:g}; the model takes {kind}: {first} to {last}."
            )
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, ImageEncoder) and encoder.name == name and "float" in spec.dtype:
        most = 255 * encoder.scale
        if low < -0.01 * most or high > 1.01 * most:
            raise ValueError(
                f"{what} go from {low:g} to {high:g}; the pictures that the model's encoder makes "
                f"go from 0 to {most:g}. Give "
                "what `model.encoder.encode` gives."
            )


def _vocabulary(model: keras.Model, name: str) -> int | None:
    """How many numbers the embeddings know that an input goes into, or None."""
    sizes = [
        node.operation.input_dim
        for node in nodes(model)
        if isinstance(node.operation, keras.layers.Embedding)
        and any(t.name == name for t in node.input_tensors)
    ]
    return min(sizes, default=None)


def check_spread(inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse calibration data in which no real-valued input moves.

    Raises:
        ValueError: no range can be measured.
    """
    real = {name: value for name, value in inputs.items() if value.dtype.kind == "f"}
    if real and all(value.min() == value.max() for value in real.values()):
        constants = ", ".join(
            f"'{name}' is always {value.flat[0]:g}" for name, value in real.items()
        )
        raise ValueError(
            f"The calibration data never change: {constants}. int8 measures ranges on them: give "
            f"typical inputs."
        )
