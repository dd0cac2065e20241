"""What an export reports: each head beside Keras."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export.models import pack_inputs
from mtl_keras.graph import layer_of
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.tables import build_table

__all__ = [
    "ExportReport",
    "HeadReport",
    "Rung",
    "bounded_heads",
    "compare",
    "compare_heads",
    "float_noise",
    "ruined_heads",
]


@dataclass
class HeadReport:
    """One head of one file beside Keras, on the same rows.

    Attributes:
        name: of the task.
        largest: largest absolute difference.
        mean: mean absolute difference.
        spread: Keras's largest output minus its smallest, for scale.
        fidelity: what is left of what moves in the head: 1 where the file says the same as Keras, 0
            where it is as far off as Keras's mean would be, below 0 where it is farther (the R2 of
            the file's outputs for Keras's, over rows). None where Keras's rows do not differ, or
            there is one only.
        clipped: part of the values at which the file stands at its own end of the range while Keras
            goes beyond.
        low, high, scale: what the head can say in a quantized file: its ends, and the step between
            values; None in float.
        metric, before, after, drop: the task's first metric on held-out data, in Keras and in the
            file, and by how much the file is worse; None where nothing was evaluated.
    """

    name: str
    largest: float
    mean: float
    spread: float
    clipped: float = 0.0
    fidelity: float | None = None
    low: float | None = None
    high: float | None = None
    scale: float | None = None
    metric: str | None = None
    before: float | None = None
    after: float | None = None
    drop: float | None = None


@dataclass
class Rung:
    """One kind of file that "auto" made.

    Attributes:
        name: of the quantization, with the heads that stay in float.
        size: bytes.
        latency_ms: of a call with one thread, on this machine.
        partitions: of the CPU delegate.
        reason: why it was not taken; None of the one that was, and of those that it came before.
    """

    name: str
    size: int | None = None
    latency_ms: float | None = None
    partitions: int | None = None
    reason: str | None = None


@dataclass
class ExportReport:
    """What was written: format, size in bytes, operators of the file, and each head's error.

    `partitions` is how many parts of a TFLite file the CPU delegate takes over, `latency_ms` the
    median of a call with one thread on `cpu`, this machine's. `refused` lists what "auto" tried
    before, with the reason: `(quantization, reason)`. `gzip_size` is the file's size after gzip.
    Where at least a tenth of the kernels' weights are zero (`zeros`), `sparse_size` is what it
    would be in the flatbuffer's own encoding of sparse tensors, which not every runtime reads: it
    is not written. `gpu` lists what keeps TensorFlow Lite's GPU delegate from taking the whole file
    (empty where nothing is known to), None where the file is no TFLite file. `rows` is how many
    rows the errors are measured on, `calibration_rows` how many other rows the ranges. `new_rows`
    is False where there was one row only: the errors on new data are not known then (NaN).
    `in_float32` names the constants of a float16 file that float16 can't hold. `rungs` lists what
    "auto" measured. `passed` is False, and `path` None, where nothing was written
    (`on_drop="report"`). `notes` says in a sentence each what the file leaves out by itself, such
    as copies of stages that no task follows. `single_size` is what a file with several signatures
    would be with `serving_default` alone; None where that is all it has.
    """

    format: str
    heads: list[HeadReport]
    path: Path | None = None
    size: int = 0
    ops: dict[str, int] = field(default_factory=dict)
    partitions: int | None = None
    latency_ms: float | None = None
    cpu: str | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)
    gzip_size: int | None = None
    sparse_size: int | None = None
    single_size: int | None = None
    zeros: float = 0.0
    gpu: list[str] | None = None
    rows: int = 0
    calibration_rows: int | None = None
    new_rows: bool = True
    in_float32: list[str] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    passed: bool = True
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        heads: dict[str, dict[str, Any]] = {}
        for h in self.heads:
            numbers = {
                "largest_error": h.largest,
                "mean_error": h.mean,
                "spread": h.spread,
                "clipped": h.clipped,
            }
            # JSON has no NaN.
            heads[h.name] = {
                key: None if value != value else value for key, value in numbers.items()
            }
            if h.fidelity is not None:
                heads[h.name]["fidelity"] = h.fidelity
            if h.metric is not None:
                heads[h.name] |= {"metric": h.metric, "before": h.before, "after": h.after}
        sizes: dict[str, Any] = {
            "bytes": self.size,
            "gzip_bytes": self.gzip_size,
            "sparse_bytes": self.sparse_size,
            "zeros": self.zeros,
        }
        if self.single_size is not None:
            sizes["single_signature_bytes"] = self.single_size
        if self.gpu is not None:
            sizes["gpu_rejections"] = self.gpu
        facts: dict[str, Any] = {
            "format": self.format,
            **sizes,
            "ops": self.ops,
            "heads": heads,
            "rows": self.rows,
        }
        if self.calibration_rows is not None:
            facts |= {"calibration_rows": self.calibration_rows, "new_rows": self.new_rows}
        if self.in_float32:
            facts["in_float32"] = self.in_float32
        if self.notes:
            facts["notes"] = self.notes
        if self.rungs:
            facts["rungs"] = [dataclasses.asdict(rung) for rung in self.rungs]
        return facts

    def show(self) -> None:
        """Print tables: errors, the range of Keras's outputs, how many values the file cuts off,
        its own range and step."""
        from rich.console import Console

        sizes = f"{self.size / 1000:.0f} kB"
        if self.gzip_size is not None:
            sizes += f", after gzip {self.gzip_size / 1000:.0f} kB"
        if self.single_size is not None:
            sizes += f", with one signature {self.single_size / 1000:.0f} kB"
        if self.sparse_size is not None:
            sizes += f"; {self.zeros:.0%} zeros, as sparse tensors {self.sparse_size / 1000:.0f} kB"
        console = Console()
        written = self.path if self.passed else "not written"
        console.print(f"{self.format}: {written} ({sizes})", highlight=False)
        for note in self.notes:
            console.print(note, highlight=False)
        whole = any(head.scale is not None for head in self.heads)
        rows = []
        for head in self.heads:
            row = [
                head.name,
                f"{head.largest:.2g}",
                f"{head.mean:.2g}",
                f"{head.spread:.3g}",
                f"{head.clipped:.1%}",
            ]
            row.append("" if head.fidelity is None else f"{head.fidelity:.4f}")
            if whole:
                row += (
                    ["", ""]
                    if head.scale is None
                    else [f"{head.low:.3g} to {head.high:.3g}", f"{head.scale:.3g}"]
                )
            rows.append(row)
        columns = ["head", "max error", "mean error", "range", "clipped", "fidelity"]
        columns += ["in the file", "step"] if whole else []
        console.print(_table(columns, rows))
        if self.rows:
            sentence = f"errors over {self.rows} rows"
            if self.calibration_rows is not None and self.new_rows:
                sentence += f", ranges over {self.calibration_rows} others"
            if not self.new_rows:
                sentence = (
                    "errors on new data are not known: there was one row, and ranges are measured "
                    "on it"
                )
            console.print(sentence, highlight=False)
        if self.in_float32:
            console.print(
                "too large or too small for float16, in float32: " + ", ".join(self.in_float32),
                highlight=False,
            )
        judged: list[Any] = [head for head in self.heads if head.metric is not None]
        if judged:
            rows = [
                [
                    h.name,
                    h.metric,
                    f"{h.before:.4f}",
                    f"{h.after:.4f}",
                    f"{round(h.drop, 4) + 0.0:.4f}",
                ]
                for h in judged
            ]
            console.print(_table(["head", "metric", "Keras", "file", "drop"], rows))
        if self.ops:
            console.print(
                "operators: " + ", ".join(f"{name} {count}" for name, count in self.ops.items()),
                highlight=False,
            )
        if self.latency_ms is not None:
            parts = f"{self.partitions} delegate partition" + ("" if self.partitions == 1 else "s")
            console.print(
                f"{parts}; {self.latency_ms:.2f} ms a call, one thread, on {self.cpu}",
                highlight=False,
            )
        if self.gpu is not None:
            verdict = "; ".join(self.gpu) or "nothing known keeps it from taking the whole file"
            console.print(f"GPU delegate: {verdict}", highlight=False)
        if self.rungs:
            console.print(_table(*_rung_rows(self.rungs)))
        for step, reason in self.refused:
            console.print(f"not {step}: {reason}", highlight=False)


def _rung_rows(rungs: Sequence[Rung]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for rung in rungs:
        size = "" if rung.size is None else f"{rung.size / 1000:.0f} kB"
        latency = "" if rung.latency_ms is None else f"{rung.latency_ms:.2f}"
        rows.append(
            [rung.name, size, latency, "" if rung.partitions is None else str(rung.partitions)]
        )
    return ["quantization", "size", "ms", "partitions"], rows


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    return build_table(columns, rows, left=("head", "metric", "quantization"), box="light")


#: A head of a quantized file that keeps less of what moves in it is refused.
_LEAST_FIDELITY = 0.5
#: Fewer rows do not tell how far a head moves.
_FEWEST_ROWS = 8
#: Mean error from which on a head between 0 and 1 may be ruined: such a head need not move far in a
#: sample.
_NOTICEABLE = 0.05


def compare(
    model: keras.Model,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    tolerance: float | None,
    what: str,
    are_typical: bool = True,
) -> ExportReport:
    """Each head of a file beside Keras's own answer.

    Args:
        model: float32 model.
        inputs, outputs: by name, the same rows.
        tolerance: largest difference allowed, relative to the head's range (beside what float32
            rounds in this network); None where the file is not exact.
        what: name of the format, for messages.
        are_typical: whether the rows are data, so that how far a head moves tells something.

    Raises:
        ExportError: a head is missing, has another shape, is not finite, is dead (the same for all
            rows, where Keras's is not), is ruined (most of what moves in it is lost), or differs by
            more than `tolerance`.
    """
    expected = model.predict_on_batch(pack_inputs(model, inputs))

    def answer() -> Mapping[str, Any]:
        return model(pack_inputs(model, inputs), training=False)

    noise = functools.partial(float_noise, answer, model)
    heads = compare_heads(
        expected,
        outputs,
        tolerance,
        what,
        noise=noise,
        bounded=bounded_heads(model),
        are_typical=are_typical,
    )
    return ExportReport(what, heads, rows=len(next(iter(inputs.values()))))


def bounded_heads(model: keras.Model) -> set[str]:
    """Heads that end in a sigmoid or softmax: their unit is 1, however far they move in a
    sample."""
    names = {
        task.name
        for task in getattr(model, "tasks", ())
        if task.facts().get("activation") in ("sigmoid", "softmax")
    }
    for name, tensor in model.output.items():
        activation = getattr(layer_of(tensor), "activation", None)
        if getattr(activation, "__name__", "") in ("sigmoid", "softmax"):
            names.add(name)
    return names


def float_noise(answer: Callable[[], Mapping[str, Any]], model: keras.Model) -> dict[str, float]:
    """How far a network's outputs move where each of its weights is off by a step of float32, by
    head: what two correct programs may differ by."""
    rng = np.random.default_rng(0)
    values = []
    for variable in model.variables:
        if "float" in variable.dtype:
            weights = keras.ops.convert_to_numpy(variable)
            step = (
                rng.choice(np.asarray([-1, 1], weights.dtype), weights.shape)
                * np.finfo("float32").eps
            )
            values.append(
                (
                    variable,
                    keras.ops.convert_to_tensor((weights * (1 + step)).astype(weights.dtype)),
                )
            )
    exact = {name: np.asarray(value) for name, value in answer().items()}
    with keras.StatelessScope(state_mapping=values):
        moved = {name: np.asarray(value) for name, value in answer().items()}
    return {
        name: float(np.abs(moved[name] - exact[name]).max())
        for name in exact
        if exact[name].dtype.kind == "f"
    }


def compare_heads(
    expected: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    tolerance: float | None,
    what: str,
    *,
    noise: Callable[[], Mapping[str, float]] | None = None,
    bounded: Collection[str] = (),
    are_typical: bool = False,
) -> list[HeadReport]:
    """The comparison of `compare`, with Keras's answers at hand.

    Args:
        expected, outputs: by name.
        tolerance, what, are_typical: as in `compare`.
        noise: gives what float32 rounds in the network, by head; asked where a head is farther off
            than numbers of its size usually are. None takes 1 for every head's unit.
        bounded: heads whose unit is 1.
    """
    heads = []
    for name, reference in expected.items():
        reference = np.asarray(reference, "float32")
        if name not in outputs:
            raise ExportError(f"The {what} has no head '{name}'; it has {sorted(outputs)}.")
        output = np.asarray(outputs[name], "float32")
        if output.shape != reference.shape:
            raise ExportError(
                f"Head '{name}' of the {what} has shape {output.shape}, in Keras {reference.shape}."
            )
        if not np.isfinite(output).all():
            raise ExportError(
                f"Head '{name}' of the {what} gives values that are not finite.", [name]
            )
        spread = float(reference.max() - reference.min())
        error = np.abs(output - reference)
        _check_alive(name, output, reference, what)
        fidelity = _fidelity(output, reference)
        clipped = _clipped(output, reference, spread)
        head = HeadReport(name, float(error.max()), float(error.mean()), spread, clipped, fidelity)
        if tolerance is None and are_typical and ruined_heads([head], bounded, len(reference)):
            raise ExportError(
                f"Head '{name}' of the {what} is ruined: its error is {error.max():.3g} at most "
                f"and {error.mean():.3g} in the "
                f"mean, where Keras's outputs move by {spread:.3g} (fidelity {fidelity:.2f}). "
                f"Keep it in float "
                f"(keep_float=['{name}'], io='float32'), or use a finer quantization.",
                [name],
            )
        if tolerance is not None:
            _check_exact(name, output, reference, tolerance, what, noise, bounded)
        heads.append(head)
    return heads


def ruined_heads(heads: Sequence[HeadReport], bounded: Collection[str], rows: int) -> list[str]:
    """Heads that keep less than half of what moves in them, as far as these rows tell."""
    names = []
    for head in heads:
        lost = (
            head.fidelity is not None and head.fidelity < _LEAST_FIDELITY and rows >= _FEWEST_ROWS
        )
        if lost and (head.name not in bounded or head.mean > _NOTICEABLE):
            names.append(head.name)
    return names


def _check_alive(name: str, found: np.ndarray, reference: np.ndarray, what: str) -> None:
    moved = np.abs(reference - reference[:1]).max()
    # Rows that differ by less than a tenth of the outputs' size may well fall on one int8 step;
    # what moves around a large offset is held by the fidelity.
    if (
        len(reference) > 1
        and moved > 0.1 * np.abs(reference).max()
        and np.abs(found - found[:1]).max() == 0
    ):
        raise ExportError(
            f"Head '{name}' of the {what} is dead: the same answer for every row, where Keras's "
            f"differ.",
            [name],
        )


def _check_exact(
    name: str,
    found: np.ndarray,
    reference: np.ndarray,
    tolerance: float,
    what: str,
    noise: Callable[[], Mapping[str, float]] | None,
    bounded: Collection[str],
) -> None:
    """Hold a float head to Keras: to a part of its range, and to what float32 can hold of numbers
    of its size."""
    error = float(np.abs(found - reference).max())
    spread, size = float(reference.max() - reference.min()), float(np.abs(reference).max())
    allowed = tolerance * spread + 32 * float(np.finfo("float32").eps) * size
    if name in bounded or noise is None:
        allowed = max(allowed, tolerance * max(1.0, spread, size))
    if error <= allowed or (noise is not None and error <= allowed + 16 * noise().get(name, 0.0)):
        return
    raise ExportError(
        f"Head '{name}' of the {what} differs from Keras by {error:.3g} (range {spread:.3g}).",
        [name],
    )


def _fidelity(found: np.ndarray, reference: np.ndarray) -> float | None:
    """R2 of the file's outputs for Keras's; each of a head's numbers has a mean of its own."""
    if len(reference) < 2 or not reference.size:
        return None
    wide = reference.astype("float64")
    variance = float(np.mean(np.square(wide - wide.mean(axis=0, keepdims=True))))
    if variance <= (1e-6 * float(np.abs(wide).max())) ** 2:
        return None
    return 1.0 - float(np.mean(np.square(found - wide))) / variance


def _clipped(found: np.ndarray, reference: np.ndarray, spread: float) -> float:
    """How often the file stands at an end of its range and Keras goes beyond by more than 1 % of
    its own."""
    beyond = 0.01 * max(spread, 1e-12)
    high = (found == found.max()) & (reference > found + beyond)
    low = (found == found.min()) & (reference < found - beyond)
    return float(np.mean(high | low))
