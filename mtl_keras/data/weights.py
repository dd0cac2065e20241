"""Weights of classes, tasks and rows, from how often labels occur."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.derived import DerivedField, ProductField
from mtl_keras.data.fields import ConstantField, Field, as_field
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = [
    "class_counts",
    "class_weights",
    "label_counts",
    "row_weights",
    "task_weights",
    "weighted",
]

#: Rows whose labels are in memory at once.
_BLOCK = 512
#: The methods of this module, as tasks name them.
_METHODS = {"inverse": "balanced", "effective_number": "effective"}


def class_weights(
    y: Any, tasks: Any, method: str = "inverse", *, beta: float = 0.999
) -> dict[str, dict[int, Any]]:
    """Weights of the classes of every task over classes, for `fit(class_weight=...)`.

    With `n_c` labels of class c, `n` labels, and `k` classes that occur:

    - "inverse": `n / (k n_c)`. The mean weight of a label is 1.
    - "effective_number": `(1 - beta) / (1 - beta^n_c)`, scaled so that the weights add up to `k`.

    Classes that never occur weigh 1. Missing labels are left out; soft labels count with their
    probabilities; pixels and tokens count one by one. Tasks without classes are left out.

    Args:
        y: dict of task name to labels (arrays), a `TaskDataset`, or a batched `tf.data.Dataset` of
            `(x, y)`, which is read once.
        tasks: the `MultiTaskModel`, or its list of tasks.
        method: "inverse" or "effective_number". Defaults to "inverse".
        beta: float in [0, 1). Of "effective_number"; towards 1 it goes to inverse frequency.
            Defaults to 0.999.

    Returns:
        dict of task name to `{class: weight}`; for `MultiLabel` to `{label: (no, yes)}`, each label
        for itself.

    Raises:
        ValueError: an unknown method, a beta out of range, labels of an unknown task, or no task
            over classes with labels.

    Examples:
        >>> kind = mtl.tasks.Classification("kind", num_classes=3)
        >>> mtl.data.class_weights({"kind": np.array([0, 0, 0, 1])}, [kind])
        {'kind': {0: 0.6666666666666666, 1: 2.0, 2: 1.0}}

    References:
        Cui, Jia, Lin, Song, Belongie, "Class-Balanced Loss Based on Effective Number of Samples",
        CVPR 2019.
    """
    from mtl_keras.tasks.classes import class_weights_from_counts

    kind = _method(method, beta)
    counts = class_counts(y, tasks)
    if not counts:
        raise ValueError(
            "No task over classes has labels here. Tasks without classes: `task_weights`, or "
            "`sample_weight`."
        )
    tables = {name: class_weights_from_counts(count, kind, beta) for name, count in counts.items()}
    return {
        name: {
            number: float(weight) if np.ndim(weight) == 0 else tuple(map(float, weight))
            for number, weight in enumerate(table)
        }
        for name, table in tables.items()
    }


def task_weights(
    y: Any, tasks: Any, method: str = "inverse", *, beta: float = 0.999
) -> dict[str, float]:
    """Weights of tasks from how many rows have their labels, for `compile(loss_weights=...)`.

    A task's loss is the mean over the labels that are there. Rarely labelled tasks nevertheless
    have less of a say: many batches lack them. These weights are `1 / n_t` ("inverse"), or
    `(1 - beta) / (1 - beta^n_t)` ("effective_number"), with `n_t` labelled rows of task t, scaled to
    a mean of 1.

    Args:
        y: as in `class_weights`.
        tasks: the `MultiTaskModel`, or its list of tasks.
        method: "inverse" or "effective_number". Defaults to "inverse".
        beta: float in [0, 1). Of "effective_number". Defaults to 0.999.

    Returns:
        dict of task name to weight. A task without any label weighs 1 and does not count for the
        mean.

    Raises:
        ValueError: as in `class_weights`; no label at all.

    Examples:
        >>> rare, common = mtl.tasks.Regression("rare"), mtl.tasks.Regression("common")
        >>> y = {"rare": [1.0, np.nan, np.nan], "common": [1.0, 2.0, 3.0]}
        >>> mtl.data.task_weights(y, [rare, common])
        {'rare': 1.5, 'common': 0.5}
    """
    counts = label_counts(y, tasks)
    weights = _inverse(np.array(list(counts.values()), "float64"), _method(method, beta), beta)
    return dict(zip(counts, map(float, weights), strict=True))


def row_weights(y: Any, tasks: Any, method: str = "inverse", *, beta: float = 0.999) -> np.ndarray:
    """A weight per row: rows with labels of rarely labelled tasks weigh more.

    A row weighs the mean of `task_weights` over the tasks that it has labels of, scaled so that the
    mean over labelled rows is 1. A row without any label weighs 0.

    Args:
        y: dict of task name to labels (arrays), or a `TaskDataset`.
        tasks: the `MultiTaskModel`, or its list of tasks.
        method, beta: as in `task_weights`.

    Returns:
        float32 array `(rows,)`, for `fit(sample_weight=...)`.

    Raises:
        ValueError: as in `task_weights`.

    Examples:
        >>> tasks = [mtl.tasks.Regression("rare"), mtl.tasks.Regression("common")]
        >>> y = {"rare": [1.0, np.nan, np.nan], "common": [np.nan, 2.0, 3.0]}
        >>> mtl.data.row_weights(y, tasks).tolist()
        [1.5, 0.75, 0.75]
    """
    weights = task_weights(y, tasks, method, beta=beta)
    by_name = {task.name: task for task in _task_list(tasks)}
    totals, numbers = [], []
    for labels in _batches_of_labels(y, tasks):
        known = {name: _has_label(by_name[name], values) for name, values in labels.items()}
        totals.append(sum(weights[name] * has_label for name, has_label in known.items()))
        numbers.append(sum(has_label.astype("float64") for has_label in known.values()))
    total, number = np.concatenate(totals), np.concatenate(numbers)
    rows = np.where(number > 0, total / np.maximum(number, 1), 0.0)
    return np.asarray(rows / rows[number > 0].mean(), "float32")


# ------------------------------------------------------------------ counts
def class_counts(y: Any, tasks: Any) -> dict[str, np.ndarray]:
    """How often each class occurs, for every task over classes that has labels here.

    Args:
        y, tasks: as in `class_weights`.

    Returns:
        dict of task name to float64 counts `(classes,)`; `(labels, 2)`, no and yes, for
        `MultiLabel`.
    """
    by_name = {task.name: task for task in _task_list(tasks)}
    counts: dict[str, np.ndarray] = {}
    for labels in _batches_of_labels(y, tasks):
        for name, values in labels.items():
            count = _count_classes(by_name[name], values)
            if count is not None:
                counts[name] = counts.get(name, np.zeros_like(count)) + count
    return {name: count for name, count in counts.items() if count.sum() > 0}


def label_counts(y: Any, tasks: Any) -> dict[str, int]:
    """How many rows have a label of each task, also in part.

    Args:
        y, tasks: as in `class_weights`.
    """
    task_list = _task_list(tasks)
    by_name = {task.name: task for task in task_list}
    counts = dict.fromkeys(by_name, 0)
    for labels in _batches_of_labels(y, tasks):
        for name, values in labels.items():
            counts[name] += int(_has_label(by_name[name], values).sum())
    if not any(counts.values()):
        raise ValueError("No row has a label of any task.")
    return counts


def _count_classes(task: Task, labels: np.ndarray) -> np.ndarray | None:
    count = getattr(task, "count_classes", None)
    if count is not None:
        return np.asarray(count(labels), "float64")
    if task.kind != "ordinal":
        return None
    # The target of an ordinal task is whether a label lies above each level.
    above, present = (np.asarray(part, "float64") for part in task.target(labels))
    known = above[present > 0]
    edges = np.concatenate([np.ones((len(known), 1)), known, np.zeros((len(known), 1))], axis=1)
    return np.asarray((edges[:, :-1] - edges[:, 1:]).sum(0))


def _has_label(task: Task, labels: np.ndarray) -> np.ndarray:
    """Whether each row has a label, at least in part."""
    present = np.asarray(task.target(labels)[1])
    return np.asarray(present.reshape(len(present), -1).any(axis=1))


def _batches_of_labels(y: Any, tasks: Any) -> Iterator[dict[str, np.ndarray]]:
    names = [task.name for task in _task_list(tasks)]
    if hasattr(y, "label_fields"):
        # Pictures of labels may be larger than memory.
        parts = (y[first : first + _BLOCK] for first in range(0, len(y), _BLOCK))
        batches: Any = ({name: part.labels(name) for name in y.task_names} for part in parts)
    elif hasattr(y, "element_spec"):
        batches = (batch[1] for batch in y.as_numpy_iterator())
    elif isinstance(y, Mapping):
        batches = [y]
    else:
        raise TypeError(
            f"`y` should be a dict of arrays, a TaskDataset or a tf.data.Dataset. Received: "
            f"{type(y).__name__}."
        )
    for batch in batches:
        labels = batch if isinstance(batch, Mapping) else {names[0]: batch}
        for name in labels:
            if name not in names:
                raise ValueError(unknown_name("task in `y`:", name, names))
        yield {name: np.asarray(values) for name, values in labels.items()}


def _task_list(tasks: Any) -> list[Task]:
    return list(getattr(tasks, "tasks", tasks))


def _method(method: str, beta: float) -> str:
    if method not in _METHODS:
        raise ValueError(unknown_name("method", method, _METHODS))
    if not 0 <= beta < 1:
        raise ValueError(f"`beta` should be in [0, 1). Received: {beta!r}.")
    return _METHODS[method]


def _inverse(counts: np.ndarray, kind: str, beta: float) -> np.ndarray:
    """Weights with a mean of 1 over what occurs; 1 for the rest."""
    from mtl_keras.tasks.classes import class_weights_from_counts

    occurs = counts > 0
    weights = class_weights_from_counts(counts, kind, beta)
    return np.where(occurs, weights / weights[occurs].mean(), 1.0)


# ------------------------------------------------------------------ weights of a data set
def weighted(data: Any, classes: Any = None, rows: Any = None, beta: float = 0.999) -> Any:
    """A `TaskDataset` with weights. Arguments are those of `TaskDataset.weighted`."""
    by_task = _class_tables(data, classes, beta)
    row_part = rows
    if isinstance(rows, str):
        row_part = row_weights(data, data.tasks, rows, beta=beta)
    given: Mapping[str, Any] = row_part if isinstance(row_part, Mapping) else {}
    for name in given:
        if name not in data.task_names:
            raise DataError(unknown_name("task in `rows`:", name, data.task_names))
    before, labels = data.weight_fields, data.label_fields
    fields = {}
    for task in data.tasks:
        factors = [before.get(""), before.get(task.name)]
        factors.append(given.get(task.name) if given else row_part)
        if task.name in by_task:
            of_label = _LabelWeights(task, by_task[task.name])
            factors.append(DerivedField(labels[task.name], of_label))
        parts = [as_field(part) for part in factors if part is not None]
        if any(len(part) != len(data) for part in parts):
            raise DataError(
                f"`rows` should hold a weight for each of the {len(data)} rows. Received: "
                f"{[len(part) for part in parts]}."
            )
        fields[task.name] = ProductField(parts or [_ones(len(data))])
    return data.replace(weights=fields)


def _ones(count: int) -> Field:
    """A weight of 1 for each row."""
    return ConstantField(np.float32(1), count)


def _class_tables(data: Any, classes: Any, beta: float) -> dict[str, np.ndarray]:
    """The table of class weights of each task that is weighed so."""
    if classes is None:
        return {}
    if isinstance(classes, str):
        named: Mapping[str, Any] = dict.fromkeys(class_counts(data, data.tasks), classes)
    else:
        named = classes
    tables = {}
    for name, weights in named.items():
        task = data.task(name)
        if isinstance(weights, str):
            weights = class_weights(
                data.replace(tasks=[task], labels={name: data.label_fields[name]}, weights={}),
                [task],
                weights,
                beta=beta,
            )[name]
        tables[name] = np.asarray([weights.get(number, 1.0) for number in range(len(weights))])
    return tables


class _LabelWeights:
    """The weight of each label, from its class.

    Args:
        task: the task.
        table: weights of its classes.
    """

    def __init__(self, task: Task, table: np.ndarray) -> None:
        self.task, self.table = task, np.asarray(table, "float32")

    def __call__(self, labels: Any) -> Any:
        import tensorflow as tf

        target, _ = self.task.target(tf.convert_to_tensor(labels))
        table = tf.constant(self.table)
        if self.task.kind == "ordinal":
            return tf.gather(table, tf.cast(tf.round(tf.reduce_sum(target, axis=-1)), tf.int32))
        weights = self.task.element_weights(target, table)  # type: ignore[attr-defined]
        return tf.cast(weights, tf.float32)
