"""Data sets that label some classes of a task: the others are unknown there, not background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["hide_unlabelled", "only_labelled"]

#: Tasks of which a data set may label some classes only.
_KINDS = ("classification", "detection", "segmentation", "token_tagging")


def only_labelled(data: Any, tasks: Any, classes: Any) -> Any:
    """A data set whose labels of other classes than these are missing.

    A data set that labels cats and dogs says nothing of horses: where it says "background", a horse
    may stand. Training on that background as if it were true teaches the network that horses are
    background. What becomes missing depends on the task:

    - `MultiLabel`: the entries of the labels that are not named, in every row.
    - `Segmentation`, `TokenTagging`, `Classification`: pixels, tokens and rows whose class is not
      named. Name the background class too if it is true, that is, if no class that is not named
      can be part of it.
    - `Detection`: the classes that are not named, in every image: neither an object nor the lack
      of one counts. Boxes of such classes are dropped.

    The loss of what is missing has no gradient, and no metric counts it.

    Args:
        data: dict of task name to labels (arrays), a batched `tf.data.Dataset` of `(x, y)` or
            `(x, y, sample_weight)`, or a `TaskDataset`.
        tasks: the `MultiTaskModel`, or its list of tasks.
        classes: dict of task name to the classes that are labelled, names or numbers; or a list of
            them where only one task has classes of such names.

    Returns:
        The same kind of data.

    Raises:
        ValueError: an unknown task or class, or a task without classes.

    Examples:
        >>> animals = mtl.tasks.MultiLabel("animal", 3, labels=["cat", "dog", "horse"])
        >>> y = {"animal": np.array([[1, 0, 0], [0, 1, 0]])}
        >>> mtl.data.only_labelled(y, [animals], ["cat", "dog"])["animal"].tolist()
        [[1, 0, -1], [0, 1, -1]]

    References:
        Missing instead of background is the simplest of the rules in Shi, Xiao, Chen, Zhou,
        "Marginal loss and exclusion loss for partially supervised multi-organ segmentation",
        Medical Image Analysis 2021.
    """
    task_list = list(getattr(tasks, "tasks", tasks))
    named = _classes_by_task(task_list, classes, "`classes`")
    if isinstance(data, Mapping):
        return {
            name: _hide_array(labels, *named[name]) if name in named else labels
            for name, labels in data.items()
        }
    if hasattr(data, "element_spec"):
        return data.map(hide_unlabelled(task_list, classes, "`classes`"))
    if hasattr(data, "label_fields"):
        from mtl_keras.data.derived import DerivedField

        fields = dict(data.label_fields)
        for name, (task, numbers) in named.items():
            if name in fields:
                fields[name] = DerivedField(fields[name], _Hide(task, numbers))
        return data.replace(labels=fields)
    raise TypeError(
        f"`data` should be a dict of arrays, a tf.data.Dataset or a TaskDataset. Received: "
        f"{type(data).__name__}."
    )


def hide_unlabelled(
    tasks: Sequence[Task], classes: Any, where: str
) -> Callable[..., tuple[Any, ...]]:
    """A function of a batch `(x, y[, sample_weight])` to the batch without unlabelled classes."""
    named = _classes_by_task(tasks, classes, where)

    def hide(x: Any, y: Any, *weight: Any) -> tuple[Any, ...]:
        if not isinstance(y, Mapping):
            (task_name,) = named
            return (x, _Hide(*named[task_name])(y), *weight)
        hidden = {
            name: _Hide(*named[name])(label) if name in named else label
            for name, label in y.items()
        }
        return (x, hidden, *weight)

    return hide


def _classes_by_task(
    tasks: Sequence[Task], classes: Any, where: str
) -> dict[str, tuple[Task, list[int]]]:
    """For each task that is named, the numbers of the labelled classes."""
    by_name = {task.name: task for task in tasks}
    if not isinstance(classes, Mapping):
        classes = {_task_with(tasks, list(classes), where).name: classes}
    numbers = {}
    for name, names in classes.items():
        if name not in by_name:
            raise ValueError(unknown_name(f"task in {where}:", name, by_name))
        task = by_name[name]
        numbers[name] = (task, [_class_number(task, label, where) for label in names])
    return numbers


def _task_with(tasks: Sequence[Task], names: list[Any], where: str) -> Task:
    """The one task that has classes of these names."""
    fitting = [
        task
        for task in tasks
        if _count(task) is not None and set(names) <= set(getattr(task, "labels", None) or ())
    ]
    if len(fitting) != 1:
        with_classes = [task.name for task in tasks if _count(task) is not None]
        raise ValueError(
            f"{where} should say of which task the classes {names} are: "
            f"{{'{(with_classes or ['task'])[0]}': {names}}}. Tasks with classes: "
            f"{', '.join(with_classes) or 'none'}."
        )
    return fitting[0]


def _class_number(task: Task, label: Any, where: str) -> int:
    count = _count(task)
    if count is None:
        raise ValueError(
            f"{where}: task '{task.name}' ({type(task).__name__}) has no classes that a data set "
            f"could leave unlabelled."
        )
    names = list(getattr(task, "labels", None) or ())
    if isinstance(label, str) and label in names:
        return names.index(label)
    if not isinstance(label, str) and int(label) == label and 0 <= int(label) < count:
        return int(label)
    raise ValueError(
        unknown_name(f"class of task '{task.name}' in {where}:", str(label), [*map(str, names)])
        if names
        else f"{where} should name classes of task '{task.name}' from 0 to {count - 1}. Received: "
        f"{label!r}."
    )


def _count(task: Task) -> int | None:
    """Number of classes of a task that can lack some of them."""
    if task.kind == "multi_label":
        return int(task.num_labels)  # type: ignore[attr-defined]
    if task.kind not in _KINDS:
        return None
    count = getattr(task, "num_tags", None) or getattr(task, "num_classes", None)
    if count is None or task.kind == "detection":
        return count
    # A silhouette has one output, and two classes.
    return max(int(count), 2)


class _Hide:
    """Labels of one task with unlabelled classes missing.

    Args:
        task: the task.
        numbers: the classes that are labelled.
    """

    def __init__(self, task: Task, numbers: Sequence[int]):
        self.task, self.numbers = task, sorted(set(numbers))
        count = _count(task) or 0
        self.is_labelled = np.isin(np.arange(count), self.numbers)

    def __call__(self, labels: Any) -> Any:
        import tensorflow as tf

        labels = tf.convert_to_tensor(labels)
        if self.task.kind == "detection":
            return self._hide_objects(labels)
        if labels.dtype.is_unsigned or labels.dtype == tf.bool:
            labels = tf.cast(labels, tf.int32)
        missing = tf.cast(self.task.missing_value, labels.dtype)
        if self.task.kind == "multi_label":
            return tf.where(self.is_labelled, labels, missing)
        soft = self.task.soft_label_shape
        if soft is not None and len(labels.shape) == 1 + len(soft) and labels.shape[-1] == soft[-1]:
            # A label that gives an unlabelled class some share is missing.
            has_others = tf.reduce_any((labels > 0) & ~self.is_labelled, axis=-1, keepdims=True)
            return tf.where(has_others, missing, labels)
        numbers = labels
        if labels.dtype.is_floating:
            numbers = tf.where(tf.math.is_finite(labels), labels, tf.zeros_like(labels))
        last = len(self.is_labelled) - 1
        numbers = tf.clip_by_value(tf.cast(numbers, tf.int32), 0, last)
        return tf.where(tf.gather(self.is_labelled, numbers), labels, missing)

    def _hide_objects(self, objects: Any) -> Any:
        import tensorflow as tf

        objects = tf.cast(objects, tf.float32)
        kinds = objects[..., 4]
        others = np.flatnonzero(~self.is_labelled)
        is_other = tf.reduce_any(tf.equal(kinds[..., None], others.astype("float32")), axis=-1)
        none = np.array([0.0, 0.0, 0.0, 0.0, -1.0], "float32")
        objects = tf.where(is_other[..., None], none, objects)
        # An object without a box says that its class is not labelled in this image. Before them
        # stands an entry without object: an image without any has a label, too.
        marks = np.full((1 + len(others), 5), np.nan, "float32")
        marks[0], marks[1:, 4] = none, others
        # A row that has no label at all stays so.
        is_nan = tf.math.is_nan(objects[..., 4])
        is_missing = tf.reduce_all(is_nan, axis=-1) & tf.reduce_any(is_nan, axis=-1)
        marks = tf.where(is_missing[..., None, None], float("nan"), marks)
        return tf.concat([objects, marks], axis=-2)


def _hide_array(labels: Any, task: Task, numbers: list[int]) -> np.ndarray:
    return np.asarray(_Hide(task, numbers)(np.asarray(labels)))
