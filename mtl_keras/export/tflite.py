"""TFLite: what phones load."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.data import encoders
from mtl_keras.export import archive, decoded, flatbuffer, gate, measure, metadata, refusals, sampling
from mtl_keras.export import quantization as quantizing
from mtl_keras.export.compress import zeros
from mtl_keras.export.files import ExportError, beside
from mtl_keras.export.report import ExportReport, beside_keras, compare
from mtl_keras.export.runner import TFLiteModel, padded
from mtl_keras.export.saved_model import FLOAT_TOLERANCE
from mtl_keras.export.training_aware import own_layers
from mtl_keras.export.weights import int8_weights
from mtl_keras.quiet import quiet
from mtl_keras.version import __version__

__all__ = ["QUANTIZATIONS", "run_tflite", "split", "tflite"]

QUANTIZATIONS = (None, "float16", "weights", "dynamic", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")
_CALIBRATION_ROWS = 256


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
) -> ExportReport:
    """Write a `.tflite` file, load it again, and compare every head with Keras before anything is replaced.

    The file has a static batch, builtin operators only, and the heads under their tasks' names, as signature keys
    and as tensor names, in the tasks' order. Inputs and outputs are float32 unless `io` says otherwise.

    Args:
        model: `MultiTaskModel`, or any functional model with a flat dict of outputs. A mixed-precision model is exported
            in float32, a quantization-aware one with its weights in the float network.
        path: file to write, `.tflite`.
        quantization: None (float32); "float16" (weights; computes in float32 on a CPU); "weights" (int8 weights, turned back
            before use); "dynamic" (int8 weights, float activations, computes in int8, no calibration needed); "int8" (weights
            and activations); "int16x8" (int8 weights, int16 activations: finer, and slower where a delegate lacks it); or
            "auto": the first that loses at most `max_drop` on every head of "int8", "int8" with the heads that lost in float,
            "int16x8", "dynamic" and "float16" (the report's `refused` says why the others did not pass).
        calibration: typical inputs, for "int8" and "int16x8": arrays, or a data set with or without labels. 256 rows are used.
        samples: rows to compare on. None uses the calibration data, or random inputs.
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
        on_drop: "raise", or "warn": the file is written all the same, and a warning says what it loses.

    Returns:
        `ExportReport` with each head's error and range, the file's size, its operators, delegate partitions and latency.

    Raises:
        ExportError: a layer that can't be converted (named by the converter), a path that can't be written, a head that
            is missing, dead, not finite, differs from Keras in a float file, has a range in int8 that cuts off its calibrated
            one, or loses more than `max_drop`. What was at `path` before stays.
        ValueError: an unknown quantization, task or layer, or data that don't fit the model.

    Example:
        >>> mtl.export.tflite(model, "out/model.tflite", quantization="int8", calibration=train).show()
    """
    given = {"tasks": tasks, "signatures": signatures, "batch": batch, "decode": decode, "evaluate": evaluate}
    if quantization == "auto":
        odd = {"io": io != "float32", "keep_float": len(keep_float), "percentile": percentile, "on_drop": on_drop != "raise"}
        return _first_that_passes(model, path, calibration, samples, max_drop, [k for k, v in odd.items() if v], given)
    options = {"io": io, "keep_float": keep_float, "percentile": percentile, "signatures": signatures, "batch": batch}
    _check(quantization, path, calibration, **options, max_drop=max_drop, evaluate=evaluate, on_drop=on_drop)
    model = archive.subset(model, tasks)
    decode = decoded.check(model, decode)
    if decode and io != "float32":
        raise ValueError(f"Decoded answers are real numbers or counts: `decode` goes with io='float32', got {io!r}.")
    if quantization in CALIBRATED and (reason := refusals.recurrent(model)):
        raise ExportError(reason)
    data = None if evaluate is None else gate.held_out(model, evaluate)
    limits = gate.limits(model, max_drop)
    if calibration is not None:
        calibration = sampling.take(model, calibration, _CALIBRATION_ROWS)
        if quantization in CALIBRATED:
            sampling.check_spread(calibration)
    if samples is not None:
        inputs = sampling.take(model, samples, 16)
    elif calibration is not None:
        inputs = {name: value[:16] for name, value in calibration.items()}
    else:
        inputs = sampling.take(model, None, 4)
    plain = archive.as_float32(model)
    made = archive.endpoints(plain, signatures, batch, decode)
    with beside(path) as fresh:
        content = _convert(plain, made, quantization, calibration, io, list(keep_float), percentile)
        content = flatbuffer.name_and_order(content, {endpoint.name: endpoint.outputs for endpoint in made})
        bare = content
        content = metadata.describe(bare, _facts(model, made[0], quantization, io, calibration, keep_float))
        operators = flatbuffer.ops(content)
        fresh.write_bytes(content)
        what = f"TFLite file ({quantization or 'float32'}{', ' + ', '.join(keep_float) + ' in float' if keep_float else ''})"
        tolerance = FLOAT_TOLERANCE if quantization is None else None
        file = TFLiteModel(fresh)
        answers = file.run(inputs)
        report = compare(plain, inputs, answers, tolerance, what)
        for name in decode:
            decoded.agree(plain, name, answers[name], answers[f"{name}{decoded.SUFFIX}"], exact=quantization is None)
        _compare_others(file, made[1:], inputs, tolerance, what)
        report.path, report.size, report.ops = Path(path), len(content), operators
        report.gzip_size, report.zeros = len(gzip.compress(content)), zeros(plain)
        if signatures != "default":
            report.single_size = len(flatbuffer.first_alone(bare)) + len(content) - len(bare)
        if report.zeros >= 0.1:
            report.sparse_size = quantizing.sparse_size(content)
        ranges = quantizing.head_ranges(content)
        for head in report.heads:
            if head.name in ranges:
                head.low, head.high, head.scale = ranges[head.name]
        report.partitions, report.latency_ms, report.cpu = measure.quick(fresh)
        if data is not None:
            gate.judge(plain, report, file.run, data, limits, on_drop)
    return report


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
        folder: for `backbone.tflite` and `<task>.tflite`. A folder that is there is replaced, once all files are proven.
        quantization, calibration, samples, tasks: as in `tflite`, without "auto".

    Returns:
        dict of "backbone" and each task's name to its file's `ExportReport`.

    Raises:
        ExportError, ValueError: as in `tflite`; a model without a shared representation.

    Example:
        >>> mtl.export.split(model, "out", "int8", calibration=train)
        >>> features = mtl.export.TFLiteModel("out/backbone.tflite").run({"image": images})
        >>> mtl.export.TFLiteModel("out/digit.tflite").predict(features)
    """
    _check(quantization, "file.tflite", calibration)
    model = archive.subset(model, tasks)
    if quantization in CALIBRATED and (reason := refusals.recurrent(model)):
        raise ExportError(reason)
    rows = sampling.take(model, calibration if calibration is not None else samples, _CALIBRATION_ROWS)
    plain = archive.as_float32(model)
    _, backbone, *heads = archive.endpoints(plain, "features", batch=1)
    if "backbone" in model.output:
        raise ValueError("A task named 'backbone' would take the backbone's file name: rename the task.")
    known = {**rows, **backbone.run(rows)}
    found = {}
    with beside(folder) as fresh:
        fresh.mkdir()
        for endpoint in (backbone, *heads):
            name = "backbone" if endpoint is backbone else endpoint.outputs[0]
            alone = dataclasses.replace(endpoint, name="serving_default")
            x = {key: known[key] for key in alone.specs}
            content = _convert(plain, [alone], quantization, x)
            content = flatbuffer.name_and_order(content, {alone.name: alone.outputs})
            content = metadata.describe(content, _facts(model, alone, quantization, "float32", x))
            file = fresh / f"{name}.tflite"
            file.write_bytes(content)
            what, few = f"file {name}.tflite ({quantization or 'float32'})", {key: value[:16] for key, value in x.items()}
            tolerance = FLOAT_TOLERANCE if quantization is None else None
            heads_found = beside_keras(alone.run(few), TFLiteModel(file).run(few), tolerance, what)
            found[name] = ExportReport(what, heads_found, Path(folder) / file.name, len(content), flatbuffer.ops(content))
            found[name].partitions, found[name].latency_ms, found[name].cpu = measure.quick(file)
    return found


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
        raise ValueError(f"Unknown quantization {quantization!r}. Known: {', '.join(map(repr, QUANTIZATIONS))}, 'auto'.")
    if Path(path).suffix != ".tflite":
        raise ValueError(f"The file's name must end in .tflite, got {os.fspath(path)!r}.")
    if quantization in CALIBRATED and calibration is None:
        raise ValueError(
            f"{quantization} needs typical inputs to measure ranges on: give `calibration`, a data set or arrays."
        )
    if io not in ("float32", "int8", "uint8") or (io != "float32" and quantization != "int8"):
        raise ValueError(f"io is 'float32', or 'int8' or 'uint8' with quantization='int8'; got {io!r} with {quantization!r}.")
    if isinstance(keep_float, str):
        raise ValueError(f"`keep_float` is a list of names: keep_float=[{keep_float!r}].")
    for name, value in (("keep_float", len(keep_float)), ("percentile", percentile is not None)):
        if value and quantization != "int8":
            raise ValueError(f"`{name}` goes with quantization='int8'; got {quantization!r}.")
    if keep_float and io != "float32":
        raise ValueError(f"Heads in float give real numbers: `keep_float` goes with io='float32', got {io!r}.")
    if percentile is not None and not 50 < percentile < 100:
        raise ValueError(f"percentile lies between 50 and 100 (99.9, say), got {percentile!r}; None takes all values.")
    if percentile is not None and signatures != "default":
        raise ValueError("`percentile` goes with signatures='default'.")
    if quantization == "int16x8" and signatures != "default":
        raise ValueError("The converter's int16x8 measures no ranges beyond one signature: use signatures='default'.")
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch is a whole number of rows, at least 1; got {batch!r}.")
    if max_drop is not None and evaluate is None:
        raise ValueError("`max_drop` needs held-out data with labels: give `evaluate`.")
    if on_drop not in ("raise", "warn"):
        raise ValueError(f"on_drop is 'raise' or 'warn', got {on_drop!r}.")


def _first_that_passes(model, path, calibration, samples, max_drop, odd, given) -> ExportReport:
    """Down the ladder of quantizations, from the smallest and fastest file to the finest."""
    needed = (("calibration", calibration), ("evaluate", given["evaluate"]), ("max_drop", max_drop))
    lacking = [name for name, value in needed if value is None]
    if lacking:
        raise ValueError(f"quantization='auto' judges files by held-out data: give {', '.join(f'`{n}`' for n in lacking)}.")
    if odd:
        raise ValueError(f"quantization='auto' chooses these itself: leave out {', '.join(f'`{name}`' for name in odd)}.")
    refused: list[tuple[str, str]] = []
    ladder: list[tuple[str, list[str]]] = [("int8", []), ("int16x8", []), ("dynamic", []), ("float16", [])]
    while ladder:
        step, floats = ladder.pop(0)
        try:
            report = tflite(model, path, step, calibration, samples, keep_float=floats, max_drop=max_drop, **given)
        except ExportError as error:
            refused.append((f"{step} with {', '.join(floats)} in float" if floats else step, str(error)))
            if step == "int8" and not floats and error.tasks:
                ladder.insert(0, ("int8", error.tasks))
            continue
        report.refused = refused
        return report
    reasons = "; ".join(f"{step}: {reason}" for step, reason in refused)
    raise ExportError(f"No quantization loses at most {max_drop} on every head. {reasons}")


def _convert(
    model: keras.Model,
    made: Sequence[archive.Endpoint],
    quantization: str | None = None,
    calibration: dict[str, np.ndarray] | None = None,
    io: str = "float32",
    keep_float: Sequence[str] = (),
    percentile: float | None = None,
) -> bytes:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        archive.write_archive(model, Path(folder), made=made)
        with quiet():
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[e.name for e in made])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if quantization not in (None, "weights"):
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantization == "dynamic":
                # With a scale a channel, older runtimes (2.14, say) refuse the file.
                converter._experimental_disable_per_channel_quantization_for_dense_layers = True
            if quantization == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if quantization == "int16x8":
                fine = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                converter.target_spec.supported_ops = [fine, tf.lite.OpsSet.TFLITE_BUILTINS]
            if quantization in CALIBRATED:
                converter.representative_dataset = functools.partial(_batches, made, calibration)
            # Ranges are measured here and used in `quantizing`, which sets right what the converter alone gets wrong.
            converter._experimental_calibrate_only = quantization == "int8"
            try:
                content = bytes(converter.convert())
            except Exception as error:
                raise ExportError(refusals.why(error, model)) from error
    if quantization == "int8":
        batches = (batch if len(made) > 1 else (made[0].name, batch) for batch in _batches(made, calibration))
        content = quantizing.measure_ranges(content, batches, percentile)
        floats = set()
        layers = [layer.name for layer in model._flatten_layers(include_self=False)]
        if keep_float:
            own = own_layers(model, [name for name in keep_float if name in model.output], "keep_float")
            floats = quantizing.float_nodes(content, keep_float, list(model.output), layers, own, model.name)
        content = quantizing.quantize(content, io, floats, _answers(made, calibration), layers)
    if quantization in ("weights", "dynamic"):
        content = int8_weights(content, compute=quantization == "dynamic")
    return flatbuffer.share_buffers(content)


def _batches(made: Sequence[archive.Endpoint], calibration: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """Calibration data for every signature, a batch at a time; heads from features see the features of these rows."""
    batch = next(iter(made[0].specs.values())).shape[0]
    features = next((e for e in made if e.name == "features"), None)
    for start in range(0, len(next(iter(calibration.values()))), batch):
        rows = {name: padded(value[start : start + batch], batch) for name, value in calibration.items()}
        if features is not None:
            rows |= features.run(rows)
        for endpoint in made:
            x = {name: rows[name] for name in endpoint.specs}
            yield x if len(made) == 1 else (endpoint.name, x)


def _answers(made: Sequence[archive.Endpoint], calibration: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the first endpoint answers to the calibration rows, by name."""
    batch = next(iter(made[0].specs.values())).shape[0]
    rows = len(next(iter(calibration.values())))
    size = batch * max(1, 32 // batch)
    parts = [
        made[0].run({name: padded(value[start : start + size], size) for name, value in calibration.items()})
        for start in range(0, rows, size)
    ]
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in made[0].outputs}


def _compare_others(
    file: TFLiteModel, made: Sequence[archive.Endpoint], inputs: dict[str, np.ndarray], tolerance: float | None, what: str
) -> None:
    """Every further signature beside Keras, on the same rows."""
    known = dict(inputs)
    for endpoint in made:
        x = {name: known[name] for name in endpoint.specs}
        expected = endpoint.run(x)
        if endpoint.name == "features":
            known |= expected
        beside_keras(expected, file.run(x, endpoint.name), tolerance, f"{what}, signature '{endpoint.name}'")


def run_tflite(path: str | os.PathLike[str], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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
    made_by = {"class": type(encoder).__name__, "config": encoder.get_config()} if encoder is not None else None
    return {
        "mtl_keras": __version__,
        "model": model.name,
        "quantization": quantization or "float32",
        "io": io,
        "in_float": list(keep_float),
        "inputs": inputs,
        "tasks": [task.facts() for task in getattr(model, "tasks", ()) if task.name in endpoint.outputs],
        "encoder": made_by if made_by is not None and made_by["class"] in encoders.__all__ and takes_model_inputs else None,
    }
