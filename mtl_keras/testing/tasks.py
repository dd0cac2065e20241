"""The harness of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.builders import hard_sharing
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task, TaskMetric
from mtl_keras.testing.checks import (
    check_absent_task,
    check_config,
    check_gradients,
    check_saving,
    check_step,
    expect,
    labels_without,
)

__all__ = ["run_task_test"]


def run_task_test(
    task: Task,
    x: np.ndarray,
    y: np.ndarray,
    *,
    backbone: str | Callable[..., Any] | None = None,
    backbone_options: Mapping[str, Any] | None = None,
) -> MultiTaskModel:
    """Hold a task to what every task promises.

    The promises: its config makes it anew; fresh metrics with a direction; labels that pass its own
    check, and missing ones that are known as missing; an output of the announced shape; a finite
    loss with finite gradients; rows without a label change nothing; one decoded entry per row; a
    network that is saved and loaded with the same numbers.

    Args:
        task: the task. Its head may be random: nothing is learned but a step or two.
        x: array of inputs, four rows or more.
        y: array of the labels of these rows, none of them missing.
        backbone, backbone_options: as in `mtl.builders.hard_sharing`. None takes the default of the
            kind of input.

    Returns:
        The trained model, whose only task is a copy of `task`.

    Raises:
        AssertionError: which promise is broken, and where.

    Examples:
        >>> x = np.random.default_rng(0).random((8, 5)).astype("float32")
        >>> model = mtl.testing.run_task_test(mtl.tasks.Ordinal("size", 3), x, np.arange(8) % 3)
    """
    subject = f"Task {type(task).__name__} {task.name!r}"
    _check_alone(subject, task, y)

    # Labels
    task.check_labels(y)
    target, is_present = task.target(keras.ops.convert_to_tensor(y))
    is_present = np.asarray(is_present)
    expect(
        is_present.dtype == bool and len(is_present) == len(y),
        subject,
        "`target` says by bool, for each row, where a label is",
        f"dtype {is_present.dtype}, shape {is_present.shape}.",
    )
    expect(
        is_present.any() and np.isfinite(np.asarray(target, "float64")).all(),
        subject,
        "`target` finds labels, and replaces those that are missing by harmless values",
    )

    # Network
    inputs = tuple(np.shape(x)[1:])
    model = hard_sharing(inputs, [task], backbone, backbone_options=backbone_options)
    output = model.output[task.name]
    announced = tuple(task.output_shape)
    expect(
        len(output.shape) == len(announced) + 1
        and all(a is None or a == b for a, b in zip(announced, output.shape[1:], strict=True)),
        subject,
        "the output has the announced shape",
        f"{tuple(output.shape[1:])} instead of {announced}.",
    )
    _check_missing(subject, task, (len(y), *output.shape[1:]))
    own_variables = check_gradients(subject, model, x)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    check_step(subject, model, x, y={task.name: y})
    _check_rows_without_label(subject, model, x, y)
    check_absent_task(subject, model, x, {task.name: y}, task.name, own_variables[task.name])

    # Results
    decoded = task.decode(np.asarray(model(x, training=False)[task.name]))
    expect(len(decoded) == len(y), subject, "`decode` gives one entry per row", str(len(decoded)))
    baseline = np.asarray(task.baseline(y))
    expect(
        np.isfinite(baseline.astype("float64")).all(),
        subject,
        "`baseline` is a finite answer",
        str(baseline),
    )
    check_saving(subject, model, x)
    return model


def _check_alone(subject: str, task: Task, y: np.ndarray) -> None:
    """Config, copies and metrics: what needs no network."""
    copy = check_config(subject, task)
    expect(copy.name == task.name, subject, "a copy has the same name", copy.name)
    heavier = task.copy(loss_weight=3.0)
    expect(heavier.loss_weight == 3.0, subject, "`copy` takes changes", repr(heavier))
    metrics, others = task.new_metrics(), task.new_metrics()
    for metric, other in zip(metrics, others, strict=True):
        expect(
            isinstance(metric, TaskMetric) and metric.metric is not other.metric,
            subject,
            "`new_metrics` makes fresh `TaskMetric` objects",
            repr(metric),
        )
    for part in (task.loss, *(metric.metric for metric in metrics)):
        if hasattr(part, "get_config"):
            check_config(f"{subject}, {type(part).__name__}", part)
    expect(
        task.facts()["name"] == task.name and task.card()["kind"] == task.kind,
        subject,
        "`facts` and `card` name the task and its kind",
    )
    nameless = np.array([["words"]] * len(y))
    try:
        task.check_labels(nameless)
    except ValueError as error:
        expect(task.name in str(error), subject, "refused labels name the task", str(error))
    else:
        raise AssertionError(f"{subject}: labels that are no numbers are refused.")


def _check_missing(subject: str, task: Task, output_shape: tuple[Any, ...]) -> None:
    """What `missing` makes passes the check of labels and is known as missing."""
    labels = task.missing(output_shape[0], output_shape)
    task.check_labels(labels)
    is_present = np.asarray(task.target(keras.ops.convert_to_tensor(labels))[1])
    expect(not is_present.any(), subject, "labels made by `missing` are known as missing")


def _check_rows_without_label(subject: str, model: MultiTaskModel, x: Any, y: np.ndarray) -> None:
    """The loss of a batch whose second half has no label is that of its first half."""
    (task,) = model.tasks
    half = len(y) // 2
    whole = model.test_on_batch(x, {task.name: labels_without(task, y, half)}, return_dict=True)
    alone = model.test_on_batch(x[:half], {task.name: y[:half]}, return_dict=True)
    key = f"{task.name}_loss"
    expect(
        np.isclose(whole[key], alone[key], rtol=1e-4),
        subject,
        "rows without a label change nothing of the loss",
        f"{whole[key]} with them, {alone[key]} without.",
    )
