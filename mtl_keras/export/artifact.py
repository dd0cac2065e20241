"""What goes through the stages of an export: convert, annotate, verify, measure, judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from mtl_keras.export import decoded, judge, sampling
from mtl_keras.export.converter import archive, refusals
from mtl_keras.export.options import CALIBRATED, TFLiteOptions
from mtl_keras.export.prepare import as_float32, describe_omissions, subset
from mtl_keras.export.report import ExportReport
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.tflite_model import TFLiteModel

__all__ = ["ExportRequest", "TFLiteArtifact"]


@dataclass(frozen=True)
class ExportRequest:
    """What all files of one call have in common.

    Attributes:
        options: the call's arguments.
        model: the network with the chosen tasks.
        network: `model` in float32.
        endpoints: the signatures; `serving_default` comes first.
        rows: for calibration and comparison.
        held_out: inputs and labels by name, or None.
        notes: what the network loses before it is converted, for the report.
        converted: what the converter gave, by kind: files of several kinds are made of one.
    """

    options: TFLiteOptions
    model: keras.Model
    network: keras.Model
    endpoints: Sequence[archive.Endpoint]
    rows: sampling.Rows
    held_out: judge.HeldOut | None = None
    notes: Sequence[str] = ()
    converted: dict[str | None, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, model: keras.Model, options: TFLiteOptions) -> ExportRequest:
        """A network and the rows that it is measured on, ready to be converted.

        Raises:
            ExportError: a network that this kind of file can't hold.
            ValueError: options or data that don't fit the network.
        """
        notes = describe_omissions(model)
        model = subset(model, options.tasks)
        decode = decoded.check(model, options.decode)
        if options.quantization in CALIBRATED:
            reason = refusals.recurrent_layer_error(model)
            if reason is not None:
                raise ExportError(reason)
        held_out = None if options.evaluate is None else judge.held_out(model, options.evaluate)
        judge.limits(model, options.max_drop)
        rows = sampling.calibration_and_comparison(
            model,
            options.calibration,
            options.samples,
            None if held_out is None else held_out[0],
            options.measures_ranges,
        )
        network = as_float32(model)
        endpoints = archive.endpoints(network, options.signatures, options.batch, decode)
        return cls(options, model, network, endpoints, rows, held_out, notes)

    @property
    def holds_fidelity(self) -> bool:
        """Whether a head that keeps little of what moves in it is refused: where the tasks' own
        metrics do not judge."""
        is_left_to_us = self.options.max_drop is None and self.options.on_drop == "raise"
        return is_left_to_us and self.rows.are_typical

    @cached_property
    def limits(self) -> Mapping[str, float]:
        """What each task's metric may lose."""
        return judge.limits(self.model, self.options.max_drop)

    @cached_property
    def keras_scores(self) -> Mapping[str, float]:
        """Each task's metrics in Keras, on the held-out data."""
        assert self.held_out is not None
        return judge.scores(self.network, self.held_out)


@dataclass
class TFLiteArtifact:
    """One file on its way. Each stage reads what the stages before it have added.

    Attributes:
        request: what it is made for.
        quantization: its kind; None is float32.
        path: where it is written, until it is proven.
        keep_float: names of heads and layers in float.
        content: added by `convert`, completed by `annotate`.
        unannotated: `content` without metadata.
        in_float32: constants that float16 can't hold, added by `convert`.
        file, answers, report: added by `verify`; `measure` and `judge` complete the report.
    """

    request: ExportRequest
    quantization: str | None
    path: Path
    keep_float: tuple[str, ...] = ()
    content: bytes = b""
    unannotated: bytes = b""
    in_float32: list[str] = field(default_factory=list)
    # None until the stage that adds them; those behind it read them.
    file: TFLiteModel = None  # type: ignore[assignment]
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    report: ExportReport = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        """Its kind, in words."""
        name = self.quantization or "float32"
        return f"{name}, {', '.join(self.keep_float)} in float" if self.keep_float else name

    @property
    def description(self) -> str:
        return f"TFLite file ({self.name})"
