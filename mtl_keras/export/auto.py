"""The cheapest of all kinds of files that loses little enough."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mtl_keras.export import ladder
from mtl_keras.export.artifact import ExportRequest, TFLiteArtifact
from mtl_keras.export.converter import refusals
from mtl_keras.export.judge import enforce_max_drop
from mtl_keras.export.options import CALIBRATED
from mtl_keras.export.pipeline import build
from mtl_keras.export.report import ExportReport, Rung
from mtl_keras.runtime.files import ExportError, atomic_write

__all__ = ["cheapest_that_passes"]


def cheapest_that_passes(request: ExportRequest) -> ExportReport:
    """Make every kind of file, measure it, and judge them from the cheapest on.

    Raises:
        ExportError: none passes, and `on_drop` is not "report".
    """
    path = Path(request.options.path)
    with tempfile.TemporaryDirectory() as folder:
        search = _Search(request, Path(folder))
        artifact = search.run()
        if artifact is not None:
            with atomic_write(path) as fresh:
                shutil.copyfile(artifact.path, fresh)
            report = artifact.report
            report.path, report.refused, report.rungs = path, search.refused, search.rungs
            return report
    if request.options.on_drop != "report":
        raise search.error()
    report = search.nearest()
    report.path, report.passed = None, False
    report.refused, report.rungs = search.refused, search.rungs
    return report


class _Search:
    """Files of all kinds, made once, judged one after the other.

    Attributes:
        rungs: the measurements of each kind.
        refused: `(kind, reason)` of those that do not pass.
        judged: reports of files that were judged and lose too much.
    """

    def __init__(self, request: ExportRequest, folder: Path) -> None:
        self.request = request
        self.folder = folder
        self.rungs: list[Rung] = []
        self.refused: list[tuple[str, str]] = []
        self.judged: list[ExportReport] = []
        self.artifacts: dict[str, TFLiteArtifact] = {}

    def run(self) -> TFLiteArtifact | None:
        """The cheapest artifact that passes, or None."""
        for kind in ladder.KINDS:
            failing_heads = self.add(kind)
            if kind == "int8" and failing_heads:
                self.add(kind, failing_heads)
        waiting = [rung for rung in self.rungs if rung.name in self.artifacts]
        while waiting:
            rung = ladder.in_order(waiting, self.request.options.limits_of_file)[0]
            waiting.remove(rung)
            artifact = self.artifacts[rung.name]
            try:
                enforce_max_drop(artifact)
                return artifact
            except ExportError as error:
                self.refuse(rung, str(error))
                self.judged.append(artifact.report)
                if rung.name == "int8":
                    self.add("int8", error.tasks)
                    waiting += [other for other in self.rungs[-1:] if other.name in self.artifacts]
        return None

    def add(self, kind: str, heads_in_float: Sequence[str] = ()) -> Sequence[str]:
        """Make one file and measure it. Returns the heads that it fails on."""
        in_float = f" with {', '.join(heads_in_float)} in float" if heads_in_float else ""
        rung = Rung(f"{kind}{in_float}")
        self.rungs.append(rung)
        try:
            self.check_kind(kind)
            path = self.folder / f"{len(self.rungs)}.tflite"
            quantization = None if kind == "float32" else kind
            artifact = build(self.request, quantization, heads_in_float, path)
        except ExportError as error:
            self.refuse(rung, str(error))
            return error.tasks
        report = artifact.report
        rung.size, rung.latency_ms, rung.partitions = (
            report.size,
            report.latency_ms,
            report.partitions,
        )
        reason = ladder.beyond_budget(rung, self.request.options.limits_of_file)
        if reason is None:
            self.artifacts[rung.name] = artifact
        else:
            self.refuse(rung, reason)
        return ()

    def check_kind(self, kind: str) -> None:
        """Refuse kinds that the converter has no form of for this network.

        Raises:
            ExportError: says why.
        """
        if kind in CALIBRATED:
            reason = refusals.recurrent_layer_error(self.request.model)
            if reason is not None:
                raise ExportError(reason)
        if kind == "int16x8" and len(self.request.endpoints) > 1:
            raise ExportError("The converter's int16x8 measures no ranges beyond one signature.")

    def refuse(self, rung: Rung, reason: str) -> None:
        rung.reason = reason
        self.refused.append((rung.name, reason))

    def error(self) -> ExportError:
        """Why nothing passes."""
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in self.refused)
        budget = self.request.options.limits_of_file
        within = f" and stays within {budget}" if budget else ""
        limits = _describe_limits(self.request.limits)
        return ExportError(f"No quantization loses at most {limits}{within}. {reasons}")

    def nearest(self) -> ExportReport:
        """The report of the file whose worst head is least beyond what it may lose."""
        return min(
            self.judged,
            key=lambda report: _excess(report, self.request.limits),
            default=ExportReport("TFLite file (none)", []),
        )


def _describe_limits(limits: Mapping[str, float]) -> str:
    if len(set(limits.values())) == 1:
        return f"{next(iter(limits.values()))} on every head"
    return ", ".join(f"{value} on '{name}'" for name, value in limits.items())


def _excess(report: ExportReport, limits: Mapping[str, float]) -> float:
    """By how much the worst head is beyond what it may lose."""
    return max(
        (
            cast(float, head.drop) - limits[head.name]
            for head in report.heads
            if head.name in limits
        ),
        default=0.0,
    )
