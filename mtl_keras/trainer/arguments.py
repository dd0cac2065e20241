"""The arguments of `compile`, by task name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task, TaskMetric
from mtl_keras.tasks.task import check_loss_weight

__all__ = ["check_task_keys", "loss_weights_by_task", "losses_by_task", "metrics_by_task"]


def check_task_keys(tasks: Sequence[Task], argument: str, values: Mapping[str, Any]) -> None:
    """Refuse keys that are no task's name.

    Raises:
        ValueError: such a key; close names are listed.
    """
    names = [task.name for task in tasks]
    for name in values:
        if name not in names:
            raise ValueError(unknown_name(f"task in `{argument}`:", name, names))


def losses_by_task(tasks: Sequence[Task], losses: Any) -> dict[str, Any]:
    """A loss for each task, None for those that are switched off.

    Args:
        tasks: the model's tasks.
        losses: dict of task name to loss, one loss for all tasks, or None. Tasks that are not named
            keep their own.

    Raises:
        ValueError: a list, or an unknown task.
    """
    if losses is None:
        return {task.name: task.loss for task in tasks}
    if isinstance(losses, (list, tuple)):
        raise ValueError(
            f"`loss` goes by task name, not by position: give a dict such as "
            f"{{'{tasks[0].name}': ...}}."
        )
    if not isinstance(losses, Mapping):
        return {task.name: losses for task in tasks}
    check_task_keys(tasks, "loss", losses)
    return {task.name: losses.get(task.name, task.loss) for task in tasks}


def loss_weights_by_task(tasks: Sequence[Task], weights: Any) -> dict[str, keras.Variable]:
    """A live weight for each task's loss.

    Args:
        tasks: the model's tasks.
        weights: dict of task name to a number >= 0 or a scalar `keras.Variable`, or None. Tasks
            that are not named keep their own.

    Raises:
        ValueError: no dict, an unknown task, or a weight that is negative, not finite, or no
            scalar.
    """
    if weights is not None and not isinstance(weights, Mapping):
        raise ValueError(
            f"`loss_weights` is a dict of task name to number, got {type(weights).__name__}."
        )
    weights = weights or {}
    check_task_keys(tasks, "loss_weights", weights)
    return {task.name: _loss_weight(task, weights.get(task.name)) for task in tasks}


def _loss_weight(task: Task, weight: Any) -> keras.Variable:
    weight = task.loss_weight if weight is None else weight
    if isinstance(weight, keras.Variable):
        if tuple(weight.shape) != ():
            raise ValueError(
                f"The loss weight of task '{task.name}' must be a scalar, got shape "
                f"{tuple(weight.shape)}."
            )
        check_loss_weight(task.name, weight.numpy())
        return weight
    return keras.Variable(
        check_loss_weight(task.name, weight),
        dtype="float32",
        trainable=False,
        name=f"{task.name}_loss_weight",
        aggregation="only_first_replica",
        autocast=False,
    )


def metrics_by_task(
    tasks: Sequence[Task], argument: str, metrics: Any
) -> dict[str, list[TaskMetric]]:
    """Metrics of the tasks that are named.

    Args:
        tasks: the model's tasks.
        argument: "metrics" or "weighted_metrics", for messages.
        metrics: dict of task name to a metric or a list, the same for all tasks, or None.

    Raises:
        ValueError: an unknown task.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        metrics = dict.fromkeys((task.name for task in tasks), metrics)
    check_task_keys(tasks, argument, metrics)
    by_name = {task.name: task for task in tasks}
    return {
        # `copy` gives each task metrics of its own.
        name: by_name[name].copy(metrics=_as_list(values)).new_metrics()
        for name, values in metrics.items()
    }


def _as_list(metrics: Any) -> list[Any]:
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
