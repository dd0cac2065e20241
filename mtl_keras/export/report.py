"""What an export reports: each head beside Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import archive
from mtl_keras.export.files import ExportError

__all__ = ["ExportReport", "HeadReport", "beside_keras", "compare"]


@dataclass
class HeadReport:
    """One head of one file beside Keras, on the same rows.

    Attributes:
        name: of the task.
        largest: largest absolute difference.
        mean: mean absolute difference.
        spread: Keras's largest output minus its smallest, for scale.
        clipped: part of the values at which the file stands at its own end of the range while Keras goes beyond.
        low, high, scale: what the head can say in a quantized file: its ends, and the step between values; None in float.
        metric, before, after, drop: the task's first metric on held-out data, in Keras and in the file, and by how much the
            file is worse; None where nothing was evaluated.
    """

    name: str
    largest: float
    mean: float
    spread: float
    clipped: float = 0.0
    low: float | None = None
    high: float | None = None
    scale: float | None = None
    metric: str | None = None
    before: float | None = None
    after: float | None = None
    drop: float | None = None


@dataclass
class ExportReport:
    """What was written: format, size in bytes, operators of the file, and each head's error.

    `partitions` is how many parts of a TFLite file the CPU delegate takes over, `latency_ms` the median of a call with one
    thread on `cpu`, this machine's. `refused` lists what "auto" tried before, with the reason: `(quantization, reason)`.
    `gzip_size` is the file's size after gzip. Where at least a tenth of the kernels' weights are zero (`zeros`), `sparse_size`
    is what it would be in the flatbuffer's own encoding of sparse tensors, which not every runtime reads: it is not written.
    `gpu` lists what keeps TensorFlow Lite's GPU delegate from taking the whole file (empty where nothing is known to), None
    where the file is no TFLite file.
    `single_size` is what a file with several signatures would be with `serving_default` alone; None where that is all it has.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        heads = {}
        for h in self.heads:
            heads[h.name] = {"largest_error": h.largest, "mean_error": h.mean, "spread": h.spread, "clipped": h.clipped}
            if h.metric is not None:
                heads[h.name] |= {"metric": h.metric, "before": h.before, "after": h.after}
        sizes = {"bytes": self.size, "gzip_bytes": self.gzip_size, "sparse_bytes": self.sparse_size, "zeros": self.zeros}
        if self.single_size is not None:
            sizes["single_signature_bytes"] = self.single_size
        if self.gpu is not None:
            sizes["gpu_rejections"] = self.gpu
        return {"format": self.format, **sizes, "ops": self.ops, "heads": heads}

    def show(self) -> None:
        """Print tables: errors, the range of Keras's outputs, how many values the file cuts off, its own range and step."""
        from rich.console import Console

        sizes = f"{self.size / 1000:.0f} kB"
        if self.gzip_size is not None:
            sizes += f", after gzip {self.gzip_size / 1000:.0f} kB"
        if self.single_size is not None:
            sizes += f", with one signature {self.single_size / 1000:.0f} kB"
        if self.sparse_size is not None:
            sizes += f"; {self.zeros:.0%} zeros, as sparse tensors {self.sparse_size / 1000:.0f} kB"
        console = Console()
        console.print(f"{self.format}: {self.path} ({sizes})", highlight=False)
        whole = any(head.scale is not None for head in self.heads)
        rows = []
        for head in self.heads:
            row = [head.name, f"{head.largest:.2g}", f"{head.mean:.2g}", f"{head.spread:.3g}", f"{head.clipped:.1%}"]
            if whole:
                row += ["", ""] if head.scale is None else [f"{head.low:.3g} to {head.high:.3g}", f"{head.scale:.3g}"]
            rows.append(row)
        columns = ["head", "max error", "mean error", "range", "clipped", *(("in the file", "step") if whole else ())]
        console.print(_table(columns, rows))
        judged = [head for head in self.heads if head.metric is not None]
        if judged:
            rows = [[h.name, h.metric, f"{h.before:.4f}", f"{h.after:.4f}", f"{round(h.drop, 4) + 0.0:.4f}"] for h in judged]
            console.print(_table(["head", "metric", "Keras", "file", "drop"], rows))
        if self.ops:
            console.print("operators: " + ", ".join(f"{name} {count}" for name, count in self.ops.items()), highlight=False)
        if self.latency_ms is not None:
            parts = f"{self.partitions} delegate partition" + ("" if self.partitions == 1 else "s")
            console.print(f"{parts}; {self.latency_ms:.2f} ms a call, one thread, on {self.cpu}", highlight=False)
        if self.gpu is not None:
            verdict = "; ".join(self.gpu) or "nothing known keeps it from taking the whole file"
            console.print(f"GPU delegate: {verdict}", highlight=False)
        for step, reason in self.refused:
            console.print(f"not {step}: {reason}", highlight=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="left" if column in ("head", "metric") else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def compare(
    model: keras.Model, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], tolerance: float | None, what: str
) -> ExportReport:
    """Each head of a file beside Keras's own answer.

    Args:
        model: float32 model.
        inputs, outputs: by name, the same rows.
        tolerance: largest difference allowed, relative to the head's range or to 1; None where the file is not exact.
        what: name of the format, for messages.

    Raises:
        ExportError: a head is missing, has another shape, is not finite, is dead (the same for all rows, where Keras's
            is not), or differs by more than `tolerance`.
    """
    return ExportReport(what, beside_keras(model.predict_on_batch(archive.feed(model, inputs)), outputs, tolerance, what))


def beside_keras(
    expected: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], tolerance: float | None, what: str
) -> list[HeadReport]:
    """The comparison of `compare`, with Keras's answers at hand."""
    heads = []
    for name, reference in expected.items():
        reference = np.asarray(reference, "float32")
        if name not in outputs:
            raise ExportError(f"The {what} has no head '{name}'; it has {sorted(outputs)}.")
        found = np.asarray(outputs[name], "float32")
        if found.shape != reference.shape:
            raise ExportError(f"Head '{name}' of the {what} has shape {found.shape}, in Keras {reference.shape}.")
        if not np.isfinite(found).all():
            raise ExportError(f"Head '{name}' of the {what} gives values that are not finite.")
        spread = float(reference.max() - reference.min())
        error = np.abs(found - reference)
        moved = np.abs(reference - reference[:1]).max()
        # Rows that differ by less than a tenth of the outputs' size may well fall on one int8 step.
        if len(reference) > 1 and moved > 0.1 * np.abs(reference).max() and np.abs(found - found[:1]).max() == 0:
            told = f"Head '{name}' of the {what} is dead: the same answer for every row, where Keras's differ."
            raise ExportError(told, [name])
        if tolerance is not None and error.max() > tolerance * max(1.0, spread, float(np.abs(reference).max())):
            raise ExportError(f"Head '{name}' of the {what} differs from Keras by {error.max():.3g} (range {spread:.3g}).")
        heads.append(HeadReport(name, float(error.max()), float(error.mean()), spread, _clipped(found, reference, spread)))
    return heads


def _clipped(found: np.ndarray, reference: np.ndarray, spread: float) -> float:
    """How often the file stands at an end of its range and Keras goes beyond by more than 1 % of its own."""
    beyond = 0.01 * max(spread, 1e-12)
    high = (found == found.max()) & (reference > found + beyond)
    low = (found == found.min()) & (reference < found - beyond)
    return float(np.mean(high | low))
