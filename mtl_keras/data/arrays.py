"""A data set of arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["from_arrays"]

#: The input's name, and what rows are, by the number of axes of one row.
_KINDS = {1: ("numeric", "array"), 2: ("sequence", "array"), 3: ("image", "image")}


def from_arrays(
    x: Any,
    y: Mapping[str, Any],
    tasks: Sequence[Task],
    *,
    sample_weight: Any = None,
    group: Any = None,
    time: Any = None,
    kind: str | None = None,
) -> TaskDataset:
    """A data set of arrays in memory, as `fit` takes them.

    Args:
        x: array `(rows, ...)`, or a dict of input name to array.
        y: dict of task name to labels. A task that is not named has no label in any row.
        tasks: list of `Task`.
        sample_weight: array with a weight per row, a dict of task name to arrays, or None.
        group: array with a group per row, or None. `split` keeps groups whole.
        time: array with a time per row, or None.
        kind: what rows are, as in `TaskDataset`. None tells it from the shape: `(height, width,
            channels)` is "image", anything else is "array".

    Returns:
        `TaskDataset`.

    Raises:
        DataError: arrays of different lengths, labels that a task refuses, an unknown task.

    Examples:
        >>> flowers = mtl.data.from_arrays(images, labels, tasks)
        >>> train, test = flowers.split(0.75, 0.25)
    """
    if not isinstance(x, Mapping):
        x = np.asarray(x)
        name, guess = _KINDS.get(x.ndim - 1, ("inputs", "array"))
        x = {name: x}
    else:
        guess = "image" if [np.ndim(values) for values in x.values()] == [4] else "array"
    if not isinstance(y, Mapping):
        raise DataError(
            f"`y` should be a dict of task name to labels. Received: {type(y).__name__}."
        )
    tasks = list(tasks)
    names = [task.name for task in tasks]
    for name in y:
        if name not in names:
            raise DataError(unknown_name("task in `y`:", name, names))
    for task in tasks:
        if task.name in y:
            check_task_labels(task, y[task.name])
    weights = None
    if sample_weight is not None:
        weights = sample_weight if isinstance(sample_weight, Mapping) else {"": sample_weight}
    return TaskDataset.from_parts(
        tasks,
        inputs=x,
        labels=dict(y),
        weights=weights,
        groups=group,
        times=time,
        kind=kind or guess,
    )


def check_task_labels(task: Task, labels: Any) -> None:
    """Refuse labels that the task does not take.

    Raises:
        DataError: what the task says of them.
    """
    try:
        task.check_labels(np.asarray(labels))
    except ValueError as error:
        raise DataError(str(error)) from None
