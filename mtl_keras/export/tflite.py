"""TFLite: what phones load."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import archive, decoded, gate, gpu, int4, ladder, refusals, sampling
from mtl_keras.export import quantization as quantizing
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.compress import zeros
from mtl_keras.export.exact import exact_operators, restore_float_weights
from mtl_keras.export.half import float16_weights
from mtl_keras.export.portable import without_integer_select
from mtl_keras.export.report import (
    ExportReport,
    HeadReport,
    Rung,
    beside_keras,
    bounded_heads,
    compare,
    float_noise,
    ruined_heads,
)
from mtl_keras.export.saved_model import FLOAT_TOLERANCE
from mtl_keras.export.training_aware import own_layers
from mtl_keras.export.warning import warn_caller
from mtl_keras.export.weights import int8_weights
from mtl_keras.graph import sublayers
from mtl_keras.quiet import quiet
from mtl_keras.runtime import encoders, flatbuffer, measure, metadata
from mtl_keras.runtime.files import ExportError, atomic_write, check_file, check_folder
from mtl_keras.runtime.tflite_model import TFLiteModel, padded
from mtl_keras.version import __version__

__all__ = ["QUANTIZATIONS", "run_tflite", "split", "tflite"]

QUANTIZATIONS = (None, "float16", "weights", "dynamic", *int4.BLOCKS, "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")


@needs_tensorflow
def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
    keep_float: Sequence[str] = (),
    percentile: float | None = None,
    signatures: str = "default",
    batch: int = 1,
    io: str = "float32",
    decode: Sequence[str] = (),
    evaluate: Any = None,
    max_drop: float | Mapping[str, float] | None = None,
    on_drop: str = "raise",
    budget: Mapping[str, float] | None = None,
) -> ExportReport:
    """Write a `.tflite` file, load it again, and compare every head with Keras before anything is replaced.

    The file has a static batch, builtin operators only, and the heads under their tasks' names, as signature keys
    and as tensor names, in the tasks' order. Inputs and outputs are float32 unless `io` says otherwise.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A mixed-precision model is exported
            in float32, a quantization-aware one with its weights in the float network.
        path: file to write, `.tflite`.
        quantization: None (float32); "float16" (weights; computes in float32 on a CPU); "weights" (int8 weights, turned back
            before use); "dynamic" (int8 weights, float activations, computes in int8, no calibration needed); "int4" (as
            "dynamic", with weights in int4 and a scale per channel) and "int4_block32", "int4_block64" (a scale per 32 or 64
            weights of a channel, in fully connected layers whose input size is a multiple), which need ai-edge-quantizer;
            "int8" (weights and activations); "int16x8" (int8 weights, int16 activations: finer, and slower where a delegate
            lacks it); or "auto": of all kinds but int4, and "int8" with the heads that lost in float, the cheapest that loses
            at most `max_drop` on every head, by the size and latency that are measured here (see `budget`). The report's
            `rungs` has the measurements, `refused` says why others did not pass.
        calibration: typical inputs, for "int8" and "int16x8": arrays, or a data set, generator or list of batches, with or
            without labels. 256 rows are used, drawn at random over all of the data.
        samples: rows to compare on; 64 are used. None uses the inputs of `evaluate`, or a fifth of the calibration's rows
            (which are then not calibrated on), or random inputs.
        tasks: names of the tasks to export; layers and inputs that only others use are left out. None exports all.
        keep_float: for "int8": names of tasks, whose own layers stay in float, or of layers.
        percentile: for "int8": float in (50, 100). Inner ranges span that part of the calibration's values at both ends,
            instead of all; heads and inputs keep theirs.
        signatures: "default" (`serving_default`: all heads); "heads" adds `predict_<head>` for each; "features" adds
            `features`, the tensors that heads share, and `<head>_from_features`; "all". Weights are stored once.
        batch: rows that a call takes; 1 is what delegates and web runtimes want.
        io: "float32", or, for "int8", "int8" or "uint8": what real-valued inputs and outputs are in the file. Their scales and
            zero points are in the file; `run_tflite` applies them.
        decode: tasks whose answers the file decodes itself, as further outputs `<task>_decoded` of `serving_default`: the
            class's number, 0 or 1 beyond the threshold, the level, the number in its range (no logarithm), boxes and points
            in pixels of the picture that comes in. What takes loops (detection's objects, transcriptions) is decoded
            outside, by `TFLiteModel.predict` and by snippets.
        evaluate: held-out data with labels, `(x, y)` or a data set: the report then has each task's first metric in Keras and
            in the file.
        max_drop: float, or a dict by task. A head whose metric is worse by more, in its own unit, stops the export; needs
            `evaluate`.
        on_drop: "raise"; "warn": the file is written all the same, and a warning says what it loses; or "report": nothing is
            written, and the report says so (`passed` is False).
        budget: for "auto": `{"bytes": 200_000, "ms": 5.0}`, or one of the two; what is beyond it is refused. With
            milliseconds, the smallest file that passes is taken; with bytes alone, the fastest; without a budget, the one
            whose size, times how often it is slower than the fastest (from 1.5 times on), is least. Milliseconds are this
            machine's.

    Returns:
        `ExportReport` with each head's error and range, the file's size, its operators, delegate partitions and latency.

    Raises:
        ExportError: a layer that can't be converted (named by the converter), a path that can't be written, a head that
            is missing, dead, not finite, differs from Keras in a float file, keeps less than half of what moves in it (where
            no `max_drop` says what it may lose), has a range in int8 that cuts off its calibrated one, or loses more than
            `max_drop`. What was at `path` before stays.
        ValueError: an unknown quantization, task or layer, or data that don't fit the model.

    Example:
        >>> mtl.export.tflite(model, "out/model.tflite", quantization="int8", calibration=train).show()

    Note:
        Warns (`UserWarning`) where ranges are measured on fewer than 32 rows.
    """
    options = {
        "io": io,
        "keep_float": keep_float,
        "percentile": percentile,
        "signatures": signatures,
        "batch": batch,
    }
    if quantization == "auto":
        chosen = {
            "io": io != "float32",
            "keep_float": len(keep_float),
            "percentile": percentile,
            "on_drop": on_drop == "warn",
        }
        _check_auto(
            calibration, evaluate, max_drop, [name for name, value in chosen.items() if value]
        )
        _check(
            "int8",
            path,
            calibration,
            **options,
            max_drop=max_drop,
            evaluate=evaluate,
            on_drop=on_drop,
        )
    else:
        _check(
            quantization,
            path,
            calibration,
            **options,
            max_drop=max_drop,
            evaluate=evaluate,
            on_drop=on_drop,
        )
        if budget is not None:
            raise ValueError(f"`budget` goes with quantization='auto'; got {quantization!r}.")
    limits_of_file = ladder.check_budget(budget)
    notes = archive.notes(model)
    model = archive.subset(model, tasks)
    decode = decoded.check(model, decode)
    if decode and io != "float32":
        raise ValueError(
            f"Decoded answers are real numbers or counts: `decode` goes with io='float32', got {io!r}."
        )
    if quantization in CALIBRATED and (reason := refusals.recurrent(model)):
        raise ExportError(reason)
    data = None if evaluate is None else gate.held_out(model, evaluate)
    limits = gate.limits(model, max_drop)
    measures = quantization in (*CALIBRATED, "auto")
    rows = sampling.calibration_and_comparison(
        model, calibration, samples, None if data is None else data[0], measures
    )
    plain = archive.as_float32(model)
    made = archive.endpoints(plain, signatures, batch, decode)
    holds = max_drop is None and on_drop == "raise" and rows.are_typical
    job = _Job(model, plain, made, tuple(decode), rows, io, percentile, holds, notes)
    if quantization == "auto":
        return _cheapest_that_passes(job, path, data, limits, limits_of_file, on_drop)
    try:
        with atomic_write(path) as fresh:
            report, file = _build(job, quantization, tuple(keep_float), fresh)
            report.path = Path(path)
            error = None if data is None else gate.judge(plain, report, file.run, data, limits)
            if error is not None and on_drop == "raise":
                raise error
            if error is not None and on_drop == "report":
                raise _NotWritten(report, quantization or "float32", error)
    except _NotWritten as unwritten:
        return unwritten.report
    if error is not None:
        warn_caller(str(error))
    elif (
        max_drop is None
        and on_drop == "warn"
        and (ruined := ruined_heads(report.heads, bounded_heads(plain), report.rows))
    ):
        warn_caller(
            f"The {report.format} keeps less than half of what moves in {', '.join(ruined)}."
        )
    return report


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all files of one call have in common."""

    model: keras.Model
    plain: keras.Model
    made: Sequence[archive.Endpoint]
    decode: tuple[str, ...]
    rows: sampling.Rows
    io: str = "float32"
    percentile: float | None = None
    # Whether a head that keeps little of what moves in it is refused: where the tasks' own metrics do not judge.
    holds_fidelity: bool = True
    notes: Sequence[str] = ()
    # What the converter gave, by kind: float files of several kinds are made of one.
    converted: dict[str | None, bytes] = dataclasses.field(default_factory=dict)


class _NotWritten(Exception):
    """Ends the writing of a file that loses too much, without an error."""

    def __init__(self, report: ExportReport, name: str, error: ExportError):
        super().__init__(str(error))
        report.path, report.passed, report.refused = None, False, [(name, str(error))]
        self.report = report


def _build(
    job: _Job, quantization: str | None, keep_float: Sequence[str], fresh: Path
) -> tuple[ExportReport, TFLiteModel]:
    """Write one file, load it again, and compare it.

    Raises:
        ExportError: whatever goes wrong.
    """
    name = f"{quantization or 'float32'}{', ' + ', '.join(keep_float) + ' in float' if keep_float else ''}"
    what = f"TFLite file ({name})"
    try:
        return _build_and_compare(job, quantization, keep_float, fresh, what)
    except ExportError:
        raise
    except (RuntimeError, AssertionError, IndexError, struct.error) as error:
        lines = str(error).strip().splitlines() or ["it gives no reason"]
        layers = _layers_of(job.model, str(error))
        where = f", at layer {layers}" if layers else ""
        raise ExportError(
            f"The {what} can't be made or run{where}: {type(error).__name__}, {lines[0][:300]}."
        ) from error


def _layers_of(model: keras.Model, message: str) -> str:
    names = [layer.name for layer in sublayers(model, include_self=False)]
    return ", ".join(
        f"'{name}'" for name in names if re.search(rf"\b{re.escape(name)}(_\d+)?\b", message)
    )


def _build_and_compare(
    job: _Job, quantization: str | None, keep_float: Sequence[str], fresh: Path, what: str
) -> tuple[ExportReport, TFLiteModel]:
    plain, made, calibration, inputs = (
        job.plain,
        job.made,
        job.rows.calibration,
        job.rows.comparison,
    )
    content, in_float32 = _convert(
        plain,
        made,
        quantization,
        calibration,
        job.io,
        list(keep_float),
        job.percentile,
        job.converted,
    )
    content = flatbuffer.name_and_order(
        content, {endpoint.name: endpoint.outputs for endpoint in made}
    )
    bare = content
    content = metadata.describe(
        bare, _facts(job.model, made[0], quantization, job.io, calibration, keep_float)
    )
    operators = flatbuffer.ops(content)
    fresh.write_bytes(content)
    tolerance = FLOAT_TOLERANCE if quantization is None else None
    file = TFLiteModel(fresh)
    answers = file.run(inputs)
    report = compare(plain, inputs, answers, tolerance, what, job.holds_fidelity)
    report.notes = list(job.notes)
    for name in job.decode:
        decoded.agree(
            plain,
            name,
            answers[name],
            answers[f"{name}{decoded.SUFFIX}"],
            exact=quantization is None,
        )
    _compare_others(plain, file, made[1:], inputs, tolerance, what, job.holds_fidelity)
    report.size, report.ops, report.in_float32 = len(content), operators, in_float32
    report.gzip_size, report.zeros = len(gzip.compress(content)), zeros(plain)
    if len(made) > 1:
        report.single_size = len(flatbuffer.first_alone(bare)) + len(content) - len(bare)
    if report.zeros >= 0.1:
        report.sparse_size = quantizing.sparse_size(content)
    ranges = quantizing.head_ranges(content)
    for head in report.heads:
        if head.name in ranges:
            head.low, head.high, head.scale = ranges[head.name]
    if quantization in CALIBRATED:
        _note_calibration(report, job.rows)
    report.partitions, report.latency_ms, report.cpu = measure.quick(fresh)
    report.gpu = gpu.explain_gpu_rejections(content)
    return report, file


def _note_calibration(report: ExportReport, rows: sampling.Rows) -> None:
    report.calibration_rows, report.new_rows = (
        len(next(iter(rows.calibration.values()))),
        rows.are_new,
    )
    if not rows.are_new:
        # The row that ranges were measured on says nothing of new data.
        for head in report.heads:
            head.largest = head.mean = head.clipped = float("nan")
            head.fidelity = None


@needs_tensorflow
def split(
    model: keras.Model,
    folder: str | os.PathLike[str],
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    *,
    tasks: Sequence[str] | None = None,
) -> dict[str, ExportReport]:
    """Write `backbone.tflite`, from the inputs to the features that heads share, and one small file a head from these.

    An application runs the backbone once and the heads that it needs; new heads can be sent without the backbone.

    Args:
        model: `MultiTaskModel` whose builder names its shared representation.
        folder: for `backbone.tflite` and `<task>.tflite`. An earlier split that is there is replaced, once all files are
            proven; a folder that holds anything else is left alone.
        quantization, calibration, samples, tasks: as in `tflite`, without "auto".

    Returns:
        dict of "backbone" and each task's name to its file's `ExportReport`.

    Raises:
        ExportError, ValueError: as in `tflite`; a model without a shared representation.

    Example:
        >>> mtl.export.split(model, "out", "int8", calibration=train)
        >>> features = mtl.export.TFLiteModel("out/backbone.tflite").run({"image": images})
        >>> digit = mtl.export.TFLiteModel("out/digit.tflite")
        >>> digit.predict({name: features[name] for name in digit.inputs})
    """
    _check(quantization, "file.tflite", calibration)
    check_folder(folder, _foreign)
    model = archive.subset(model, tasks)
    if quantization in CALIBRATED and (reason := refusals.recurrent(model)):
        raise ExportError(reason)
    rows = sampling.calibration_and_comparison(
        model, calibration, samples, None, quantization in CALIBRATED
    )
    plain = archive.as_float32(model)
    _, backbone, *heads = archive.endpoints(plain, "features", batch=1)
    if "backbone" in model.output:
        raise ValueError(
            "A task named 'backbone' would take the backbone's file name: rename the task."
        )
    typical = (
        None if rows.calibration is None else {**rows.calibration, **backbone.run(rows.calibration)}
    )
    comparison = {**rows.comparison, **backbone.run(rows.comparison)}
    found = {}
    with atomic_write(folder) as fresh:
        fresh.mkdir()
        for endpoint in (backbone, *heads):
            name = "backbone" if endpoint is backbone else endpoint.outputs[0]
            alone = dataclasses.replace(endpoint, name="serving_default")
            x = {key: comparison[key] for key in alone.specs}
            measured = None if typical is None else {key: typical[key] for key in alone.specs}
            content, in_float32 = _convert(plain, [alone], quantization, measured)
            content = flatbuffer.name_and_order(content, {alone.name: alone.outputs})
            content = metadata.describe(
                content, _facts(model, alone, quantization, "float32", measured)
            )
            file = fresh / f"{name}.tflite"
            file.write_bytes(content)
            what = f"file {name}.tflite ({quantization or 'float32'})"
            tolerance = FLOAT_TOLERANCE if quantization is None else None
            answers = TFLiteModel(file).run(x)
            compared = _compare_endpoint(
                plain, alone, x, alone.run(x), answers, tolerance, what, rows.are_typical
            )
            found[name] = ExportReport(
                what, compared, Path(folder) / file.name, len(content), flatbuffer.ops(content)
            )
            found[name].rows, found[name].in_float32 = len(next(iter(x.values()))), in_float32
            if quantization in CALIBRATED:
                _note_calibration(found[name], rows)
            found[name].partitions, found[name].latency_ms, found[name].cpu = measure.quick(file)
    return found


def _foreign(folder: Path) -> list[str]:
    """What stands in a folder beside the files of an earlier `split`."""
    names = []
    for entry in sorted(folder.iterdir()):
        try:
            facts = metadata.facts_of(entry.read_bytes()) if entry.suffix == ".tflite" else None
        except (ExportError, OSError):
            facts = None
        if facts is None:
            names.append(entry.name)
    return names


def _check(
    quantization: str | None,
    path: str | os.PathLike[str],
    calibration: Any,
    *,
    io: str = "float32",
    keep_float: Sequence[str] = (),
    percentile: float | None = None,
    signatures: str = "default",
    batch: int = 1,
    max_drop: Any = None,
    evaluate: Any = None,
    on_drop: str = "raise",
) -> None:
    """Refuse what can't be, before any work.

    Raises:
        ValueError: says what would do.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"Unknown quantization {quantization!r}. Known: {', '.join(map(repr, QUANTIZATIONS))}, 'auto'."
        )
    if Path(path).suffix != ".tflite":
        raise ValueError(f"The file's name must end in .tflite, got {os.fspath(path)!r}.")
    check_file(path)
    if quantization in CALIBRATED and calibration is None:
        raise ValueError(
            f"{quantization} needs typical inputs to measure ranges on: give `calibration`, a data set or arrays."
        )
    if io not in ("float32", "int8", "uint8") or (io != "float32" and quantization != "int8"):
        raise ValueError(
            f"io is 'float32', or 'int8' or 'uint8' with quantization='int8'; got {io!r} with {quantization!r}."
        )
    if isinstance(keep_float, str):
        raise ValueError(f"`keep_float` is a list of names: keep_float=[{keep_float!r}].")
    for name, value in (("keep_float", len(keep_float)), ("percentile", percentile is not None)):
        if value and quantization != "int8":
            raise ValueError(f"`{name}` goes with quantization='int8'; got {quantization!r}.")
    if keep_float and io != "float32":
        raise ValueError(
            f"Heads in float give real numbers: `keep_float` goes with io='float32', got {io!r}."
        )
    if percentile is not None and not 50 < percentile < 100:
        raise ValueError(
            f"percentile lies between 50 and 100 (99.9, say), got {percentile!r}; None takes all values."
        )
    if percentile is not None and signatures != "default":
        raise ValueError("`percentile` goes with signatures='default'.")
    if quantization == "int16x8" and signatures != "default":
        raise ValueError(
            "The converter's int16x8 measures no ranges beyond one signature: use signatures='default'."
        )
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch is a whole number of rows, at least 1; got {batch!r}.")
    if max_drop is not None and evaluate is None:
        raise ValueError("`max_drop` needs held-out data with labels: give `evaluate`.")
    if on_drop not in ("raise", "warn", "report"):
        raise ValueError(f"on_drop is 'raise', 'warn' or 'report', got {on_drop!r}.")


def _check_auto(calibration: Any, evaluate: Any, max_drop: Any, chosen: Sequence[str]) -> None:
    needed = (("calibration", calibration), ("evaluate", evaluate), ("max_drop", max_drop))
    lacking = [name for name, value in needed if value is None]
    if lacking:
        raise ValueError(
            f"quantization='auto' judges files by held-out data: give {', '.join(f'`{n}`' for n in lacking)}."
        )
    if chosen:
        raise ValueError(
            f"quantization='auto' chooses these itself: leave out {', '.join(f'`{name}`' for name in chosen)}."
        )


def _cheapest_that_passes(
    job: _Job,
    path: str | os.PathLike[str],
    data: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    limits: Mapping[str, float],
    budget: Mapping[str, float],
    on_drop: str,
) -> ExportReport:
    """Make every kind of file, measure it, and judge them from the cheapest on.

    Raises:
        ExportError: none passes, and `on_drop` is not "report".
    """
    before = gate.scores(job.plain, data)
    rungs: list[Rung] = []
    built: dict[str, tuple[ExportReport, TFLiteModel]] = {}
    refused: list[tuple[str, str]] = []
    judged: list[ExportReport] = []
    with tempfile.TemporaryDirectory() as folder:

        def add(kind: str, floats: Sequence[str] = ()) -> Sequence[str]:
            """Make one file and measure it. Returns the heads that it fails on."""
            rung = Rung(f"{kind} with {', '.join(floats)} in float" if floats else kind)
            rungs.append(rung)
            try:
                if kind in CALIBRATED and (reason := refusals.recurrent(job.model)):
                    raise ExportError(reason)
                if kind == "int16x8" and len(job.made) > 1:
                    raise ExportError(
                        "The converter's int16x8 measures no ranges beyond one signature."
                    )
                quantization = None if kind == "float32" else kind
                report, file = _build(
                    job, quantization, floats, Path(folder) / f"{len(rungs)}.tflite"
                )
            except ExportError as error:
                rung.reason = str(error)
                refused.append((rung.name, rung.reason))
                return error.tasks
            rung.size, rung.latency_ms, rung.partitions = (
                report.size,
                report.latency_ms,
                report.partitions,
            )
            rung.reason = ladder.beyond_budget(rung, budget)
            if rung.reason is None:
                built[rung.name] = report, file
            else:
                refused.append((rung.name, rung.reason))
            return ()

        for kind in ladder.KINDS:
            failing = add(kind)
            if kind == "int8" and failing:
                add(kind, failing)
        waiting = [rung for rung in rungs if rung.name in built]
        while waiting:
            rung = ladder.in_order(waiting, budget)[0]
            waiting.remove(rung)
            report, file = built[rung.name]
            error = gate.judge(job.plain, report, file.run, data, limits, before)
            if error is None:
                with atomic_write(path) as fresh:
                    shutil.copyfile(file.path, fresh)
                report.path, report.refused, report.rungs = Path(path), refused, rungs
                return report
            rung.reason = str(error)
            refused.append((rung.name, rung.reason))
            judged.append(report)
            if rung.name == "int8":
                add("int8", error.tasks)
                waiting += [other for other in rungs[-1:] if other.name in built]
    reasons = "; ".join(f"{step}: {reason}" for step, reason in refused)
    if on_drop != "report":
        told = f" and stays within {budget}" if budget else ""
        raise ExportError(f"No quantization loses at most {_in_words(limits)}{told}. {reasons}")
    nearest = min(
        judged,
        key=lambda report: _excess(report, limits),
        default=ExportReport("TFLite file (none)", []),
    )
    nearest.path, nearest.passed, nearest.refused, nearest.rungs = None, False, refused, rungs
    return nearest


def _in_words(limits: Mapping[str, float]) -> str:
    if len(set(limits.values())) == 1:
        return f"{next(iter(limits.values()))} on every head"
    return ", ".join(f"{value} on '{name}'" for name, value in limits.items())


def _excess(report: ExportReport, limits: Mapping[str, float]) -> float:
    """By how much the worst head is beyond what it may lose."""
    return max(
        (head.drop - limits[head.name] for head in report.heads if head.name in limits), default=0.0
    )


def _convert(
    model: keras.Model,
    made: Sequence[archive.Endpoint],
    quantization: str | None = None,
    calibration: dict[str, np.ndarray] | None = None,
    io: str = "float32",
    keep_float: Sequence[str] = (),
    percentile: float | None = None,
    converted: dict[str | None, bytes] | None = None,
) -> tuple[bytes, list[str]]:
    """A file's content, and what of a float16 file stays in float32. `converted` keeps what the converter gives, by kind."""
    kind = None if quantization in ("weights", "float16", *int4.BLOCKS) else quantization
    converted = {} if converted is None else converted
    if kind not in converted:
        converted[kind] = _run_converter(model, made, kind, calibration)
    content = converted[kind]
    if quantization == "int8":
        batches = (
            batch if len(made) > 1 else (made[0].name, batch)
            for batch in _batches(made, calibration)
        )
        content = quantizing.measure_ranges(content, batches, percentile)
        floats = set()
        layers = [layer.name for layer in sublayers(model, include_self=False)]
        if keep_float:
            own = own_layers(
                model, [name for name in keep_float if name in model.output], "keep_float"
            )
            floats = quantizing.float_nodes(
                content, keep_float, list(model.output), layers, own, model.name
            )
        content = quantizing.quantize(content, io, floats, _answers(made, calibration), layers)
    in_float32: list[str] = []
    if quantization in int4.BLOCKS:
        content = int4.int4_weights(content, int4.BLOCKS[quantization])
    if quantization in ("weights", "dynamic"):
        exact = exact_operators(content)
        if exact and quantization == "dynamic":
            # The converter has rounded these already.
            if None not in converted:
                converted[None] = _run_converter(model, made, None, None)
            content = restore_float_weights(content, converted[None], exact)
        content = int8_weights(content, compute=quantization == "dynamic", exact=exact)
    if quantization == "float16":
        content, in_float32 = float16_weights(content)
    return flatbuffer.share_buffers(without_integer_select(content)), in_float32


def _batches(
    made: Sequence[archive.Endpoint], calibration: Mapping[str, np.ndarray]
) -> Iterator[Any]:
    """Calibration data for every signature, a batch at a time; heads from features see the features of these rows."""
    batch = next(iter(made[0].specs.values())).shape[0]
    features = next((e for e in made if e.name == "features"), None)
    for start in range(0, len(next(iter(calibration.values()))), batch):
        rows = {
            name: padded(value[start : start + batch], batch) for name, value in calibration.items()
        }
        if features is not None:
            rows |= features.run(rows)
        for endpoint in made:
            x = {name: rows[name] for name in endpoint.specs}
            yield x if len(made) == 1 else (endpoint.name, x)


def _run_converter(
    model: keras.Model,
    made: Sequence[archive.Endpoint],
    kind: str | None,
    calibration: dict[str, np.ndarray] | None,
) -> bytes:
    """TensorFlow's part. For "int8", the float file with measured ranges: they are used in `quantizing`, which sets right what
    the converter alone gets wrong."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        archive.write_archive(model, Path(folder), made=made)
        with quiet():
            converter = tf.lite.TFLiteConverter.from_saved_model(
                folder, signature_keys=[e.name for e in made]
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if kind is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if kind == "dynamic":
                # With a scale a channel, older runtimes (2.14, say) refuse the file.
                converter._experimental_disable_per_channel_quantization_for_dense_layers = True
            if kind == "int16x8":
                fine = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                converter.target_spec.supported_ops = [fine, tf.lite.OpsSet.TFLITE_BUILTINS]
            if kind in CALIBRATED:
                converter.representative_dataset = functools.partial(_batches, made, calibration)
            converter._experimental_calibrate_only = kind == "int8"
            try:
                return bytes(converter.convert())
            except Exception as error:
                raise ExportError(refusals.why(error, model)) from error


def _answers(
    made: Sequence[archive.Endpoint], calibration: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the first endpoint answers to the calibration rows, by name."""
    batch = next(iter(made[0].specs.values())).shape[0]
    rows = len(next(iter(calibration.values())))
    size = batch * max(1, 32 // batch)
    parts = [
        made[0].run(
            {name: padded(value[start : start + size], size) for name, value in calibration.items()}
        )
        for start in range(0, rows, size)
    ]
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in made[0].outputs}


def _compare_others(
    plain: keras.Model,
    file: TFLiteModel,
    made: Sequence[archive.Endpoint],
    inputs: dict[str, np.ndarray],
    tolerance: float | None,
    what: str,
    are_typical: bool,
) -> None:
    """Every further signature beside Keras, on the same rows."""
    known = dict(inputs)
    for endpoint in made:
        x = {name: known[name] for name in endpoint.specs}
        expected = endpoint.run(x)
        if endpoint.name == "features":
            known |= expected
        named = f"{what}, signature '{endpoint.name}'"
        _compare_endpoint(
            plain, endpoint, x, expected, file.run(x, endpoint.name), tolerance, named, are_typical
        )


def _compare_endpoint(
    plain: keras.Model,
    endpoint: archive.Endpoint,
    x: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
    tolerance: float | None,
    what: str,
    are_typical: bool,
) -> list[HeadReport]:
    # Features are no head: how much of them matters, the heads say.
    are_heads = set(endpoint.outputs) <= set(plain.output)
    noise = (
        functools.partial(float_noise, functools.partial(endpoint.run, x), plain)
        if are_heads
        else None
    )
    bounded = bounded_heads(plain)
    return beside_keras(
        expected,
        outputs,
        tolerance,
        what,
        noise=noise,
        bounded=bounded,
        are_typical=are_typical and are_heads,
    )


def run_tflite(
    path: str | os.PathLike[str], inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run a `.tflite` file row by row on inputs by name; raw outputs by name, as `TFLiteModel.run`.

    Inputs that the file does not take are passed over.
    """
    model = TFLiteModel(path)
    return model.run({name: value for name, value in inputs.items() if name in model.inputs})


def _facts(
    model: keras.Model,
    endpoint: archive.Endpoint,
    quantization: str | None,
    io: str,
    calibration: Mapping[str, np.ndarray] | None,
    keep_float: Sequence[str] = (),
) -> dict[str, Any]:
    """What the file tells of itself."""
    inputs = []
    for name, spec in endpoint.specs.items():
        entry: dict[str, Any] = {"name": name, "shape": list(spec.shape), "dtype": spec.dtype}
        if calibration is not None and "float" in spec.dtype:
            entry["range"] = [float(calibration[name].min()), float(calibration[name].max())]
        inputs.append(entry)
    encoder = getattr(model, "encoder", None)
    takes_model_inputs = set(endpoint.specs) == {tensor.name for tensor in model.inputs}
    is_registered = encoders.ENCODERS.get(type(encoder).__name__) is type(encoder)
    return {
        "mtl_keras": __version__,
        "model": model.name,
        "quantization": quantization or "float32",
        "io": io,
        "in_float": list(keep_float),
        "inputs": inputs,
        "tasks": [
            task.facts() for task in getattr(model, "tasks", ()) if task.name in endpoint.outputs
        ],
        "encoder": encoders.encoder_to_dict(encoder)
        if is_registered and takes_model_inputs
        else None,
    }
