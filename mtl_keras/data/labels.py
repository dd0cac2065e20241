"""Labels that may be missing: checked before training, and completed for tasks without labels.

Of a model these functions use `tasks` and the dict of `output` tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_keras.runtime.names import unknown_name

__all__ = [
    "LabelScaleWarning",
    "check_data",
    "check_names",
    "complete",
    "labels_by_task",
    "labels_of_spec",
    "missing_labels",
]


class LabelScaleWarning(UserWarning):
    """Regression labels are far from the unit of the task's head. `Regression.fit_to` corrects
    this.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("ignore", mtl.data.LabelScaleWarning)
    """


def complete(data: Any, model: Any) -> Any:
    """Add missing-label values for the tasks that the data have no labels of.

    Args:
        data: dict of task name to labels (arrays), or a batched `tf.data.Dataset` of `(x, y)` or
            `(x, y, sample_weight)` with `y` a dict.
        model: the `MultiTaskModel` that will be trained.

    Returns:
        The same kind of data, with every task of the model. Rows without a label change neither the
        other tasks' gradients nor any metric.

    Raises:
        ValueError: a task that the model does not have.

    Examples:
        >>> y = mtl.data.complete({"digit": digits}, model)     # the box of these images is not known
        >>> model.fit(images, y)
    """
    if isinstance(data, Mapping):
        check_names(data, model, "labels", need_all=False)
        if not data:
            raise ValueError("No task has labels: give those of at least one task.")
        rows = len(np.asarray(next(iter(data.values()))))
        return {
            **data,
            **{t.name: missing_labels(t, model, rows) for t in model.tasks if t.name not in data},
        }
    if not hasattr(data, "element_spec"):
        raise TypeError(
            f"Labels are completed in a dict of arrays or a tf.data.Dataset, got "
            f"{type(data).__name__}."
        )
    import tensorflow as tf

    labels = labels_by_task(labels_of_spec(data.element_spec), model, "data set's")
    check_names(labels, model, "labels", need_all=False)
    for name, spec in labels.items():
        if spec.shape.rank == 0:
            raise ValueError(
                f"Labels of task '{name}' come row by row: batch the data set first, "
                f"`dataset.batch(32)`."
            )
    absent = [(t, missing_labels(t, model, 1)) for t in model.tasks if t.name not in labels]

    def fill(x: Any, y: Any, *weight: Any) -> tuple[Any, ...]:
        rows = tf.shape(tf.nest.flatten(y)[0])[0]
        y = dict(labels_by_task(y, model, "data set's"))
        for task, row in absent:
            y[task.name] = tf.repeat(tf.constant(row), rows, axis=0)
        return (x, y, *weight)

    return data.map(fill, num_parallel_calls=tf.data.AUTOTUNE)


def missing_labels(task: Any, model: Any, rows: int) -> np.ndarray:
    return task.missing(rows, model.output[task.name].shape)


def check_data(x: Any, y: Any, sample_weight: Any, model: Any, purpose: str) -> tuple[Any, Any]:
    """Refuse invalid labels before the first step. `MultiTaskModel.fit` lists what is refused.

    Arrays are checked completely. For a `tf.data.Dataset`, names, shapes and dtypes are checked,
    and the values of the first batch.

    Returns:
        The `(inputs, labels by task)` that were checked, or `(None, None)`.
    """
    if x is None and y is None:
        return None, None
    if y is None and hasattr(x, "element_spec"):
        return _check_dataset(x, model, purpose)
    if y is None:
        # Generators and PyDatasets can't be looked at without using them up; the first step checks
        # their names.
        return None, None
    y = labels_by_task(y, model, purpose)
    check_names(y, model, f"{purpose} labels", need_all=True)
    rows = {name: len(np.asarray(labels)) for name, labels in y.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"The {purpose} labels differ in length: {rows}.")
    for task in model.tasks:
        task.check_labels(y[task.name], model.output[task.name].shape)
    _check_weights(sample_weight, model, purpose)
    return x, y


def _check_dataset(dataset: Any, model: Any, purpose: str) -> tuple[Any, Any]:
    spec = dataset.element_spec
    labels = labels_by_task(labels_of_spec(spec), model, purpose)
    check_names(labels, model, f"{purpose} labels", need_all=True)
    for task in model.tasks:
        label = labels[task.name]
        if label.shape.rank is not None:
            task.check_label_spec(tuple(label.shape), label.dtype.as_numpy_dtype)
    if isinstance(spec, tuple) and len(spec) > 2 and isinstance(spec[2], Mapping):
        check_names(spec[2], model, f"{purpose} sample weights", need_all=False)
    for batch in dataset.take(1):
        y = labels_by_task(batch[1], model, purpose)
        for task in model.tasks:
            task.check_labels(np.asarray(y[task.name]), model.output[task.name].shape)
        return batch[0], y
    return None, None


def labels_of_spec(spec: Any) -> Any:
    if not isinstance(spec, tuple) or len(spec) < 2:
        raise ValueError(
            "The data set gives no labels: its elements must be (inputs, labels) or (inputs, "
            "labels, weights)."
        )
    return spec[1]


def labels_by_task(y: Any, model: Any, purpose: str) -> Mapping[str, Any]:
    if isinstance(y, Mapping):
        return y
    if len(model.tasks) == 1 and not isinstance(y, (list, tuple)):
        return {model.tasks[0].name: y}
    names = ", ".join(f"'{t.name}': ..." for t in model.tasks)
    raise ValueError(
        f"The {purpose} labels must be a dict by task name, {{{names}}}; got {type(y).__name__}."
    )


def check_names(y: Mapping[str, Any], model: Any, what: str, need_all: bool) -> None:
    names = [task.name for task in model.tasks]
    for name in y:
        if name not in names:
            raise ValueError(unknown_name(f"task in the {what}:", name, names))
    missing = [name for name in names if name not in y]
    if need_all and missing:
        raise ValueError(
            f"The {what} lack {', '.join(repr(n) for n in missing)}. If these data have no such "
            f"labels, say so: "
            "`mtl.data.complete(y, model)` fills them in as missing."
        )


def _check_weights(sample_weight: Any, model: Any, purpose: str) -> None:
    if sample_weight is None:
        return
    weights = sample_weight if isinstance(sample_weight, Mapping) else {"all tasks": sample_weight}
    if isinstance(sample_weight, Mapping):
        check_names(sample_weight, model, f"{purpose} sample weights", need_all=False)
    for name, weight in weights.items():
        if weight is None:
            continue
        weight = np.asarray(weight)
        if (
            weight.dtype.kind not in "iufb"
            or not np.isfinite(weight.astype(float)).all()
            or (weight < 0).any()
        ):
            raise ValueError(f"The {purpose} sample weights of {name} must be finite numbers >= 0.")
