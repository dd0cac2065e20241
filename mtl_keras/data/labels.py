"""Labels that may be missing: checked before training, completed where a task has none.

Knows models only as what it is handed: something with `tasks` and a dict of `output` tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.names import unknown_name

__all__ = ["LabelScaleWarning", "check_data", "complete", "mix"]


class LabelScaleWarning(UserWarning):
    """Regression labels lie far from the unit that the task's head answers in; `Regression.fit_to` mends it.

    Example:
        >>> warnings.simplefilter("ignore", mtl.data.LabelScaleWarning)
    """


def complete(data: Any, model: Any) -> Any:
    """Give data that lack some tasks' labels the missing-label value of those tasks.

    Args:
        data: dict of task name to labels (arrays), or a batched `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`
            with `y` a dict.
        model: the `MultiTaskModel` that will be trained.

    Returns:
        The same kind of data, with every task of the model. Rows without a label change neither the other tasks'
        gradients nor any metric.

    Raises:
        ValueError: a task that the model does not have.

    Example:
        >>> y = mtl.data.complete({"digit": digits}, model)     # the box of these images is not known
        >>> model.fit(images, y)
    """
    if isinstance(data, Mapping):
        _check_names(data, model, "labels", need_all=False)
        if not data:
            raise ValueError("No task has labels: give those of at least one task.")
        rows = len(np.asarray(next(iter(data.values()))))
        return {**data, **{t.name: _missing(t, model, rows) for t in model.tasks if t.name not in data}}
    if not hasattr(data, "element_spec"):
        raise TypeError(f"Labels are completed in a dict of arrays or a tf.data.Dataset, got {type(data).__name__}.")
    import tensorflow as tf

    labels = _labels_of_spec(data.element_spec)
    _check_names(labels, model, "labels", need_all=False)
    absent = [(t, _missing(t, model, 1)) for t in model.tasks if t.name not in labels]

    def fill(x, y, *weight):
        rows = tf.shape(tf.nest.flatten(y)[0])[0]
        y = dict(y)
        for task, row in absent:
            y[task.name] = tf.repeat(tf.constant(row), rows, axis=0)
        return (x, y, *weight)

    return data.map(fill, num_parallel_calls=tf.data.AUTOTUNE)


def mix(datasets: Sequence[Any], model: Any, weights: Sequence[float] | None = None, seed: int = 0) -> Any:
    """One stream of batches from several data sets, each of which may lack some tasks.

    Args:
        datasets: batched `tf.data.Dataset`s of `(x, y)`, repeated where the stream should not end with the shortest.
        model: the `MultiTaskModel` that will be trained.
        weights: list of float, one a data set: how often a batch is drawn from it. Defaults to equal shares.
        seed: int. Of the draws.
    """
    import tensorflow as tf

    def align(x, y):
        return x, {task.name: _label_cast(task, y[task.name]) for task in model.tasks}

    full = [complete(dataset, model).map(align) for dataset in datasets]
    return tf.data.Dataset.sample_from_datasets(full, weights=weights, seed=seed)


def _label_cast(task, y):
    import tensorflow as tf

    y = tf.cast(y, task.label_dtype)
    # One rank for all sources: labels come as (rows,) and as (rows, 1).
    return y if len(y.shape) == 1 + len(task.label_shape) else tf.expand_dims(y, -1)


def _missing(task, model, rows):
    return task.missing(rows, model.output[task.name].shape)


def check_data(x: Any, y: Any, sample_weight: Any, model: Any, purpose: str) -> tuple[Any, Any]:
    """Refuse labels that can't be right before the first step. See `MultiTaskModel.fit` for what is refused.

    Arrays are checked whole. Of a `tf.data.Dataset` names, shapes and dtypes are checked, and the first batch's values.

    Returns:
        `(inputs, labels by task)` that were looked at, or `(None, None)`.
    """
    if x is None and y is None:
        return None, None
    if y is None and hasattr(x, "element_spec"):
        return _check_dataset(x, model, purpose)
    if y is None:
        # Generators and PyDatasets can't be looked at without using them up; the first step checks their names.
        return None, None
    y = _as_dict(y, model, purpose)
    _check_names(y, model, f"{purpose} labels", need_all=True)
    rows = {name: len(np.asarray(labels)) for name, labels in y.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"The {purpose} labels differ in length: {rows}.")
    for task in model.tasks:
        task.check_labels(y[task.name])
    _check_weights(sample_weight, model, purpose)
    return x, y


def _check_dataset(dataset, model, purpose):
    spec = dataset.element_spec
    labels = _as_dict(_labels_of_spec(spec), model, purpose)
    _check_names(labels, model, f"{purpose} labels", need_all=True)
    for task in model.tasks:
        label = labels[task.name]
        if label.shape.rank is not None:
            task.check_label_spec(tuple(label.shape), label.dtype.as_numpy_dtype)
    if isinstance(spec, tuple) and len(spec) > 2 and isinstance(spec[2], Mapping):
        _check_names(spec[2], model, f"{purpose} sample weights", need_all=False)
    for batch in dataset.take(1):
        y = _as_dict(batch[1], model, purpose)
        for task in model.tasks:
            task.check_labels(np.asarray(y[task.name]))
        return batch[0], y
    return None, None


def _labels_of_spec(spec):
    if not isinstance(spec, tuple) or len(spec) < 2:
        raise ValueError("The data set gives no labels: its elements must be (inputs, labels) or (inputs, labels, weights).")
    return spec[1]


def _as_dict(y, model, purpose):
    if isinstance(y, Mapping):
        return y
    if len(model.tasks) == 1 and not isinstance(y, (list, tuple)):
        return {model.tasks[0].name: y}
    names = ", ".join(f"'{t.name}': ..." for t in model.tasks)
    raise ValueError(f"The {purpose} labels must be a dict by task name, {{{names}}}; got {type(y).__name__}.")


def _check_names(y, model, what, need_all):
    names = [task.name for task in model.tasks]
    for name in y:
        if name not in names:
            raise ValueError(unknown_name(f"task in the {what}:", name, names))
    lacking = [name for name in names if name not in y]
    if need_all and lacking:
        raise ValueError(
            f"The {what} lack {', '.join(repr(n) for n in lacking)}. If these data have no such labels, say so: "
            "`mtl.data.complete(y, model)` fills them in as missing."
        )


def _check_weights(sample_weight, model, purpose):
    if sample_weight is None:
        return
    weights = sample_weight if isinstance(sample_weight, Mapping) else {"all tasks": sample_weight}
    if isinstance(sample_weight, Mapping):
        _check_names(sample_weight, model, f"{purpose} sample weights", need_all=False)
    for name, weight in weights.items():
        if weight is None:
            continue
        weight = np.asarray(weight)
        if weight.dtype.kind not in "iufb" or not np.isfinite(weight.astype(float)).all() or (weight < 0).any():
            raise ValueError(f"The {purpose} sample weights of {name} must be finite numbers >= 0.")
