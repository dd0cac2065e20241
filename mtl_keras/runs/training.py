"""The whole road: train, keep the best epoch, compare with single-task networks, report, export."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras import analysis, export
from mtl_keras.callbacks import Progress
from mtl_keras.data import DataError, TaskDataset
from mtl_keras.export.models import inputs_by_name
from mtl_keras.model import MultiTaskModel
from mtl_keras.runs.best_epoch import BestEpoch
from mtl_keras.runs.folder import RunFolder
from mtl_keras.runs.own_data import has_label
from mtl_keras.runs.report import write_report
from mtl_keras.runtime.files import atomic_write
from mtl_keras.tasks import Task

__all__ = ["train"]

#: Rows that calibrate an int8 file, and rows on which files are compared.
_CALIBRATION_ROWS, _COMPARED_ROWS = 512, 1000

Build = Callable[[Sequence[Task]], MultiTaskModel]


@dataclass(frozen=True)
class _Settings:
    """How networks are trained: the multi-task network and, alike, those of one task."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    balancer: str
    augment: list[str] | None
    baselines: bool
    quantization: str | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` should be at least 1. Received: {getattr(self, name)}.")
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` should be > 0. Received: {self.learning_rate}.")


@dataclass(frozen=True)
class _Parts:
    """The parts of the data."""

    train: TaskDataset
    validation: TaskDataset
    test: TaskDataset


def train(
    build: Build,
    train: TaskDataset,
    validation: TaskDataset,
    test: TaskDataset,
    folder: str | os.PathLike[str] = "run",
    *,
    epochs: int = 100,
    patience: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    balancer: str = "equal",
    augment: Sequence[str] | None = None,
    baselines: bool = False,
    quantization: str | None = None,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Train on your own rows, and leave a folder with everything.

    The best epoch by validation is kept, and training stops when it is `patience` epochs ago. The
    folder then holds:

    - `model.keras`, and `model.tflite` (`model_int8.tflite`, ... with `quantization`);
    - `report.md` with `pictures/`: scores on the test part beside those of constant answers and, with
      `baselines`, of single-task networks (and Δm), curves, predictions, confusion, reliability;
    - `metrics.json`, `history.json`, `split.json` (the rows of each part), `settings.json`.

    A run that was killed goes on with `resume=True`, from its last whole epoch, and comes to the
    same network. No file is ever half written.

    Args:
        build: function of a list of tasks to a network. It is called with all tasks, and for
            `baselines` with each by itself.
        train, validation, test: parts of a data set, as `TaskDataset.split` gives them.
        folder: where the run goes. One that holds a run is refused, unless `resume` or `overwrite`.
        epochs: int. At most so many. Defaults to 100.
        patience: int. Epochs without a better one after which training stops. Defaults to 10.
        batch_size: int. Defaults to 32.
        learning_rate: float. Of Adam. Defaults to 0.001.
        balancer: str. Name of a balancer. Defaults to "equal", the weighted sum of the losses.
        augment: list of steps of `TaskDataset.batch`, or None.
        baselines: bool. Train a single-task network per task, for comparison. Defaults to False.
        quantization: as in `mtl.export.tflite`: a second file is written. None writes float32 only.
        seed: int. Of weights and orders.
        resume, overwrite: bool. See `folder`.
        verbose: bool. Show progress. Defaults to True.

    Returns:
        What `metrics.json` holds: "scores" (by "constant", "single_task", "model" and files, then
        by metric), "delta_m", "best_epoch", "epochs", "rows", "files", "settings".

    Raises:
        ValueError: settings that can't be; a validation part whose loss is never a number.
        ExportError: a folder that holds something else, or a file that fails its comparison (the
            network is there already: go on with `resume=True`).

    Examples:
        >>> rows = mtl.data.from_arrays(np.random.rand(80, 3), {"sold": np.arange(80) % 2}, [mtl.tasks.Binary("sold")])
        >>> parts = rows.split(0.6, 0.2, 0.2)
        >>> def build(tasks): return mtl.builders.hard_sharing(rows.inputs, tasks)
        >>> results = mtl.runs.train(build, *parts, "run", epochs=2, verbose=False)
        >>> sorted(results["scores"])
        ['constant', 'model', 'model.tflite']
    """
    settings = _Settings(
        int(epochs),
        int(patience),
        int(batch_size),
        float(learning_rate),
        str(balancer),
        None if augment is None else list(augment),
        bool(baselines),
        quantization,
        int(seed),
    )
    parts = _Parts(train, validation, test)
    rows = {name: len(part) for name, part in asdict_parts(parts).items()}
    facts = {**asdict(settings), "rows": rows, "tasks": [repr(task) for task in train.tasks]}
    # `mtl-keras predict` finds the column of texts by it.
    facts["columns"] = [list(column) for column in train.column_roles.items()]
    run = RunFolder(folder, facts, resume, overwrite)
    if run.is_finished:
        results: dict[str, Any] = run.read_json("metrics.json")
        return results
    _write_split(run, parts)
    tasks = train.tasks
    model, keeper = _fit(build, tasks, parts, settings, run.work / "model", verbose)
    run.write_json("history.json", keeper.history)
    with atomic_write(run.path / "model.keras") as fresh:
        model.save(fresh)
    scores = {"constant": _constant_scores(tasks, parts)}
    if baselines:
        scores["single_task"] = _single_scores(build, parts, settings, run.work, verbose)
    scores["model"] = _evaluate(model, parts.test, settings)
    reports = _export(run.path, model, parts, quantization)
    for name in reports:
        scores[name] = _file_scores(run.path / name, model, parts.test)
    results = {
        "scores": scores,
        "delta_m": _delta(scores, tasks),
        "best_epoch": keeper.best_epoch,
        "epochs": keeper.epochs,
        "rows": rows,
        "parameters": model.count_params(),
        "files": {name: report.to_dict() for name, report in reports.items()},
        "settings": asdict(settings),
    }
    results = _plain(results)
    write_report(run, model, parts, keeper.history, results)
    run.write_json("metrics.json", results)
    run.clear_work()
    return results


def asdict_parts(parts: _Parts) -> dict[str, TaskDataset]:
    """The parts by name."""
    return {"train": parts.train, "validation": parts.validation, "test": parts.test}


# === Training ===


def _fit(
    build: Build,
    tasks: Sequence[Task],
    parts: _Parts,
    settings: _Settings,
    folder: Path,
    verbose: bool,
) -> tuple[Any, BestEpoch]:
    """Train a network, or go on with its training; return the best epoch's network."""
    keeper = BestEpoch(folder, patience=settings.patience)
    names = [task.name for task in tasks]
    if not keeper.is_done:
        keras.utils.set_random_seed(settings.seed)
        if keeper.epochs:
            model = keeper.newest_model()
        else:
            model = build(tasks)
            optimizer = keras.optimizers.Adam(settings.learning_rate)
            model.compile(optimizer, balancer=settings.balancer)
        callbacks: list[Any] = [keeper]
        if verbose:
            callbacks.append(Progress(", ".join(names)))
        model.fit(
            _batches(
                parts.train,
                names,
                settings,
                augment=settings.augment,
                seed=settings.seed,
                initial_epoch=keeper.epochs,
            ),
            validation_data=_batches(parts.validation, names, settings, shuffle=False),
            epochs=settings.epochs,
            initial_epoch=keeper.epochs,
            callbacks=callbacks,
            verbose=0,
        )
    return keeper.best_model(), keeper


def _batches(part: TaskDataset, names: Sequence[str], settings: _Settings, **options: Any) -> Any:
    """Batches with the labels of these tasks only."""
    batches = part.batch(settings.batch_size, **options)
    if list(names) == part.task_names:
        return batches

    def select(x: Any, y: Any, *weights: Any) -> tuple[Any, ...]:
        weights = tuple(
            {name: w[name] for name in names} if isinstance(w, Mapping) else w for w in weights
        )
        return (x, {name: y[name] for name in names}, *weights)

    return batches.map(select)


# === Scores ===


def _evaluate(model: Any, part: TaskDataset, settings: _Settings) -> dict[str, float]:
    """Metrics by name, without losses."""
    batches = _batches(part, model.task_names, settings, shuffle=False)
    values = model.evaluate(batches, verbose=0)
    losses = {"loss", *(f"{name}_loss" for name in model.task_names)}
    return {name: float(value) for name, value in values.items() if name not in losses}


def _constant_scores(tasks: Sequence[Task], parts: _Parts) -> dict[str, float]:
    """What the best constant answers reach, task by task: the labels of one are in memory."""
    scores: dict[str, float] = {}
    for task in tasks:
        train_labels, labels = parts.train.labels(task.name), parts.test.labels(task.name)
        if not has_label(task, train_labels):
            raise DataError(f"Task '{task.name}' has no label in the training part.")
        scores |= analysis.trivial([task], {task.name: train_labels}, {task.name: labels})
    return scores


def _single_scores(
    build: Build, parts: _Parts, settings: _Settings, work: Path, verbose: bool
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for task in parts.train.tasks:
        folder = work / f"single_{task.name}"
        model, _ = _fit(build, [task], parts, settings, folder, verbose)
        scores |= _evaluate(model, parts.test, settings)
    return scores


def _delta(scores: Mapping[str, Mapping[str, float]], tasks: Sequence[Task]) -> Any:
    """Δm against the single-task networks, or None."""
    if "single_task" not in scores:
        return None
    directions = analysis.judging_metrics(tasks)
    names = [task.name for task in tasks]
    try:
        report = analysis.delta_report(
            [scores["model"]], [scores["single_task"]], directions, scores["constant"], names
        )
    except ValueError as error:
        return {"error": str(error)}
    return {**report.to_dict(), "text": str(report)}


# === Files ===


def _export(folder: Path, model: Any, parts: _Parts, quantization: str | None) -> dict[str, Any]:
    samples = parts.test[:_CALIBRATION_ROWS].arrays()[0]
    reports = {"model.tflite": export.tflite(model, folder / "model.tflite", samples=samples)}
    if quantization is not None:
        name = f"model_{quantization}.tflite"
        calibration = parts.train[:_CALIBRATION_ROWS].arrays()[0]
        needs = quantization in ("int8", "int16x8", "auto")
        reports[name] = export.tflite(
            model,
            folder / name,
            quantization,
            calibration if needs else None,
            samples=samples,
        )
    return reports


def _file_scores(path: Path, model: Any, part: TaskDataset) -> dict[str, float]:
    """A file's scores on test rows, in the runtime that phones use."""
    x, y = part[:_COMPARED_ROWS].arrays()[:2]
    outputs = export.run_tflite(path, inputs_by_name(model, x))
    return analysis.score(model.tasks, outputs, y)


# === What is written ===


def _write_split(run: RunFolder, parts: _Parts) -> None:
    rows = {name: list(part.row_names) for name, part in asdict_parts(parts).items()}
    run.write_json("split.json", rows)


def _plain(value: Any) -> Any:
    """As JSON has it: no arrays, and None for what is no number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
