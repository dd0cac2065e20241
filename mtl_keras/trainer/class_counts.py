"""Counts of classes for tasks whose class weights come from their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

__all__ = [
    "can_iterate",
    "check_counted",
    "count_classes",
    "count_for_fit",
    "has_no_end",
    "iterate_labels",
    "table_of",
    "training_rows",
]


def table_of(model: Any, task: Any) -> Any:
    """The weights of a task's classes for a step, or None. Before classes are counted all weigh
    1."""
    if getattr(task, "class_weights", None) is None:
        return None
    if not task.counts_classes:
        return keras.ops.convert_to_tensor(task.class_weights, dtype="float32")
    table = model.get_layer(task.name).class_weights
    return keras.ops.where(keras.ops.any(table > 0), table, keras.ops.ones_like(table))


def uncounted(model: Any) -> list[Any]:
    """Tasks whose classes have to be counted and are not."""
    tasks = [task for task in model.tasks if getattr(task, "counts_classes", False)]
    return [
        task for task in tasks if not np.any(model.get_layer(task.name).class_weights.numpy() > 0)
    ]


def check_counted(model: Any) -> None:
    """Refuse to train on batches whose classes nobody counted.

    Raises:
        ValueError: names the task and what counts.
    """
    for task in uncounted(model):
        raise ValueError(
            f"Task '{task.name}' weighs classes by class_weights='{task.class_weights}', and no "
            f"labels are counted yet. "
            f"`fit` counts them; before other ways of training call "
            f"model.count_classes({{'{task.name}': labels}}), or give "
            f"the weights: task.fit_to(labels)."
        )


def count_for_fit(model: Any, x: Any, y: Any, kwargs: Mapping[str, Any]) -> None:
    """Count the classes of the training labels, where a task needs them and has none from
    before."""
    tasks = uncounted(model)
    if not tasks:
        return
    if y is None and not can_iterate(x):
        check_counted(model)
    steps = kwargs.get("steps_per_epoch")
    if has_no_end(x, steps):
        raise ValueError(
            f"Task '{tasks[0].name}' counts classes, and the data set has no end: give "
            f"`steps_per_epoch`, or count first, "
            f"model.count_classes(data)."
        )
    weight, split = kwargs.get("sample_weight"), kwargs.get("validation_split") or 0
    if y is not None and split:
        y = training_rows(y, split)
        weight = None if weight is None else training_rows(weight, split)
    count_classes(model, tasks, x if y is None else None, y, weight, steps)


def count_classes(
    model: Any,
    tasks: list[Any],
    data: Any,
    y: Any = None,
    weight: Any = None,
    steps: int | None = None,
) -> dict[str, np.ndarray]:
    """Count classes, and set the tasks' weights.

    Args:
        model: `MultiTaskModel`.
        tasks: those to count for.
        data: batched data set, or None where `y` is there.
        y, weight: labels and sample weights, as `fit` takes them.
        steps: int or None. Batches of `data` to look at.

    Returns:
        Counts by task name.
    """
    counts = {task.name: np.zeros(task.class_weights_shape) for task in tasks}
    batches = [(y, weight)] if data is None else iterate_labels(data, steps)
    for labels, weights in batches:
        for task in tasks:
            task_labels = labels.get(task.name) if isinstance(labels, Mapping) else labels
            if task_labels is not None:
                own_weight = weights.get(task.name) if isinstance(weights, Mapping) else weights
                counts[task.name] += task.count_classes(task_labels, own_weight)
    for task in tasks:
        model.get_layer(task.name).class_weights.assign(task.weights_from(counts[task.name]))
    return counts


def can_iterate(data: Any) -> bool:
    """Whether data can be looked at before training, without using them up."""
    return hasattr(data, "element_spec") or isinstance(data, keras.utils.PyDataset)


def has_no_end(data: Any, steps: int | None) -> bool:
    """Whether looking at all of a data set would never end."""
    return hasattr(data, "element_spec") and int(data.cardinality()) == -1 and steps is None


def training_rows(values: Any, validation_split: float) -> Any:
    """Arrays without their last rows, on which Keras validates: they are not for training."""
    rows = int(len(keras.tree.flatten(values)[0]) * (1 - validation_split))
    return keras.tree.map_structure(lambda array: array[:rows], values)


def iterate_labels(data: Any, steps: int | None) -> Iterator[tuple[Any, Any]]:
    """Labels and sample weights, batch by batch."""
    if isinstance(data, keras.utils.PyDataset):
        size = data.num_batches if steps is None else steps
        batches = (data[i] for i in range(size))
    else:
        batches = iter(data if steps is None else data.take(steps))
    for batch in batches:
        _, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        yield y, weight
