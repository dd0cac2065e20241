"""Weights of rows and of classes, by task name, in the forms that Keras users write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mtl_keras.runtime.names import unknown_name

__all__ = ["class_weights_by_task", "complete_sample_weight", "with_class_weights"]


def complete_sample_weight(sample_weight: Any, y: Any, model: Any, purpose: str) -> Any:
    """Sample weights for every label array: tasks that are not named count every row once.

    Args:
        sample_weight: None, weights for all tasks, or a dict of task name to weights; None for a
            task is 1 for each row.
        y: the labels, a dict of arrays or one array; None where the data hold labels and weights
            themselves.
        model: the multi-task model.
        purpose: "training", "validation" or "evaluation", for messages.

    Raises:
        ValueError: weights for another number of rows than the labels have.
    """
    if y is None or sample_weight is None:
        return sample_weight
    by_task = isinstance(sample_weight, Mapping)
    weights = (
        {name: np.asarray(w) for name, w in sample_weight.items() if w is not None}
        if by_task
        else {}
    )
    if not by_task:
        weights = {"all tasks": np.asarray(sample_weight)}
    labels = y if isinstance(y, Mapping) else {model.task_names[0]: y}
    rows = len(next(iter(labels.values())))
    for name, weight in weights.items():
        if weight.ndim == 0 or len(weight) != rows:
            raise ValueError(
                f"The {purpose} sample weights of {name} have shape {weight.shape}; one weight "
                f"for each of the {rows} rows "
                "was expected."
            )
    if not weights:
        return None
    if not by_task:
        return np.asarray(sample_weight, "float32")
    completed = {
        name: np.asarray(weights[name], "float32") if name in weights else np.ones(rows, "float32")
        for name in labels
    }
    return completed if isinstance(y, Mapping) else next(iter(completed.values()))


def class_weights_by_task(class_weight: Any, model: Any) -> dict[str, np.ndarray]:
    """For each task that is named, the weight of every class.

    Args:
        class_weight: None; `{"task": {class: weight}}`; for a model with one task also
            `{class: weight}`, as in Keras. Classes that are not named weigh 1.
        model: the multi-task model.

    Raises:
        ValueError: unknown tasks or classes, tasks whose labels are no classes, weights that are no
            numbers >= 0.
    """
    if class_weight is None:
        return {}
    example = f"class_weight={{'{model.task_names[0]}': {{0: 1.0, 1: 5.0}}}}"
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            f"`class_weight` should be a dict by task name, {example}. Received: {class_weight!r}."
        )
    if class_weight and not any(isinstance(key, str) for key in class_weight):
        if len(model.tasks) > 1:
            raise ValueError(
                f"`class_weight` should say of which task: {example}. Received weights without a "
                f"task: {class_weight!r}."
            )
        class_weight = {model.task_names[0]: class_weight}
    vectors = {}
    for name, weights in class_weight.items():
        if name not in model.task_names:
            raise ValueError(unknown_name("task in `class_weight`:", name, model.task_names))
        if weights is not None:
            vectors[name] = _class_vector(model.task(name), weights)
    return vectors


def _class_vector(task: Any, weights: Any) -> np.ndarray:
    count = _class_count(task)
    if count is None:
        raise ValueError(
            f"`class_weight` weighs classes, and the labels of task '{task.name}' "
            f"({type(task).__name__}) are none. Use "
            f"`sample_weight={{'{task.name}': ...}}` with a weight for each row."
        )
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"`class_weight` of task '{task.name}' should be a dict of class to weight. Received: "
            f"{weights!r}."
        )
    if task.kind == "multi_label":
        return _label_table(task, weights, count)
    vector = np.ones(count, "float32")
    for label, weight in weights.items():
        label = _class_number(task, label)
        if isinstance(label, str) or int(label) != label or not 0 <= int(label) < count:
            raise ValueError(
                f"`class_weight` of task '{task.name}' should name classes from 0 to {count - 1}. "
                f"Received: {label!r}."
            )
        value = float(weight)
        if not np.isfinite(value) or value < 0:
            raise ValueError(
                f"`class_weight` of task '{task.name}' should be finite and >= 0. Received: "
                f"{weight!r}."
            )
        vector[int(label)] = value
    return vector


def _class_number(task: Any, label: Any) -> Any:
    """The number of a class that is given by its name."""
    names = list(getattr(task, "labels", None) or ())
    return names.index(label) if label in names else label


def _label_table(task: Any, weights: Mapping[Any, Any], count: int) -> np.ndarray:
    """The weights of no and yes of each label, `(labels, 2)`; one number is the weight of yes."""
    table = np.ones((count, 2), "float32")
    for label, weight in weights.items():
        number = _class_number(task, label)
        if isinstance(number, str) or int(number) != number or not 0 <= int(number) < count:
            raise ValueError(
                f"`class_weight` of task '{task.name}' should name labels from 0 to {count - 1}. "
                f"Received: {label!r}."
            )
        pair = np.asarray((1.0, weight) if np.ndim(weight) == 0 else weight, "float64")
        if pair.shape != (2,) or not np.isfinite(pair).all() or (pair < 0).any():
            raise ValueError(
                f"`class_weight` of task '{task.name}' should be the weight of yes, or (no, yes), "
                f"finite and >= 0. Received: {weight!r}."
            )
        table[int(number)] = pair
    return table


def _class_count(task: Any) -> int | None:
    """How many classes the labels of a task have; None where they are no classes."""
    if task.kind in ("detection", "embedding", "transcription"):
        return None
    if task.kind == "multi_label":
        return int(task.num_labels)
    count = getattr(task, "num_tags", None) or getattr(task, "num_classes", None)
    # A silhouette has one output, and two classes.
    return None if count is None else max(int(count), 2)


def with_class_weights(compiled: Any, data: Any) -> Any:
    """A batch whose sample weights are multiplied by its labels' class weights."""
    if not compiled.class_weights:
        return data
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    names = [task.name for task in compiled.tasks]
    labels = y if isinstance(y, Mapping) else {names[0]: y}
    weights = dict(sample_weight) if isinstance(sample_weight, Mapping) else {}
    if sample_weight is not None and not isinstance(sample_weight, Mapping):
        weights = dict.fromkeys(names, sample_weight)
    for task in compiled.tasks:
        vector = compiled.class_weights.get(task.name)
        if vector is None or labels.get(task.name) is None:
            continue
        y_task = tf.convert_to_tensor(labels[task.name])
        if task.kind == "multi_label":
            of_label = task.element_weights(task.target(y_task)[0], tf.constant(vector))
        else:
            of_label = tf.gather(tf.constant(vector), _class_of(task, y_task, len(vector)))
        row_weights = weights.get(task.name)
        weights[task.name] = (
            of_label if row_weights is None else _times(of_label, tf.cast(row_weights, "float32"))
        )
    return x, y, weights


def _class_of(task: Any, y: Any, count: int) -> Any:
    """The class of every label; where a label is missing, any. Of probabilities it is the likeliest
    class, as in Keras."""
    if y.shape.rank == len(task.output_shape) + 1 and y.shape[-1] == count:
        return tf.argmax(y, -1, output_type=tf.int32)
    if y.dtype.is_floating:
        y = tf.round(tf.where(tf.math.is_finite(y), y, tf.zeros_like(y)))
    y = tf.clip_by_value(tf.cast(y, tf.int32), 0, count - 1)
    trailing = (
        len(task.label_shape)
        and task.label_shape[-1] == 1
        and y.shape.rank == len(task.label_shape) + 1
    )
    return tf.squeeze(y, -1) if trailing else y


def _times(of_label: Any, row_weights: Any) -> Any:
    """The product where one may have a weight for each row and the other one for each pixel or
    token."""
    while row_weights.shape.rank > of_label.shape.rank:
        row_weights = tf.squeeze(row_weights, -1)
    while row_weights.shape.rank < of_label.shape.rank:
        row_weights = tf.expand_dims(row_weights, -1)
    return of_label * row_weights
