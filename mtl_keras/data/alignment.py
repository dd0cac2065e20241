"""Batches of several sources in one structure: inputs, labels of every task, sample weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mtl_keras.data.labels import check_names, labels_by_task, labels_of_spec, missing_labels

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Alignment"]


class Alignment:
    """What turns a batch of any source into a batch that all sources share.

    Tasks without labels are filled in as missing; labels get one dtype, rank and form; sample
    weights are there for all where any source has them.

    Args:
        specs: dict of source name to the spec of its batches, `(x, y)` or `(x, y, sample_weight)`.
        tasks: the tasks of all batches.
        outputs: dict of task name to an object with the output's `shape`, rows included; tasks
            whose missing labels need no size may lack.

    Raises:
        ValueError: sources with different inputs, without labels, or with labels of unknown tasks.
    """

    def __init__(
        self,
        specs: Mapping[str, Any],
        tasks: Sequence[Task],
        outputs: Mapping[str, Any] | None = None,
    ):
        self.tasks = list(tasks)
        shim = SimpleNamespace(tasks=self.tasks)
        self._labels = {}
        for name, spec in specs.items():
            labels = labels_by_task(labels_of_spec(spec), shim, f"data set '{name}'")
            check_names(labels, shim, f"labels of data set '{name}'", need_all=False)
            self._labels[name] = labels
        _check_inputs(specs)
        self._fillers = self._missing_rows(outputs or {})
        self._forms = {
            task.name: _label_form(
                task, [labels[task.name] for labels in self._labels.values() if task.name in labels]
            )
            for task in self.tasks
        }
        weights = {name: spec[2] for name, spec in specs.items() if len(spec) > 2}
        self._weight_ranks: dict[str, int] = {}
        for spec in weights.values():
            for task_name, weight in (spec if isinstance(spec, Mapping) else {"": spec}).items():
                rank = max(self._weight_ranks.get(task_name, 1), len(weight.shape))
                self._weight_ranks[task_name] = rank
        self._weighs = bool(weights)
        self._weighs_by_task = any(isinstance(spec, Mapping) for spec in weights.values())

    def _missing_rows(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """One row of missing labels for each task that some source lacks."""
        rows = {}
        for task in self.tasks:
            if all(task.name in labels for labels in self._labels.values()):
                continue
            known = dict(outputs)
            for labels in self._labels.values():
                if task.name in labels and task.name not in known:
                    known[task.name] = labels[task.name]
            known.setdefault(task.name, SimpleNamespace(shape=None))
            rows[task.name] = missing_labels(task, SimpleNamespace(output=known), 1)
        return rows

    def __call__(self, x: Any, y: Any, weight: Any = None) -> tuple[Any, ...]:
        """The batch in the shared structure."""
        import tensorflow as tf

        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        labels = dict(y) if isinstance(y, Mapping) else {self.tasks[0].name: y}
        aligned = {}
        for task in self.tasks:
            label = labels.get(task.name)
            if label is None:
                label = tf.repeat(tf.constant(self._fillers[task.name]), rows, axis=0)
            aligned[task.name] = _label_cast(task, label, *self._forms[task.name])
        if not self._weighs:
            return x, aligned
        if not self._weighs_by_task:
            return x, aligned, _weigh(weight, rows, self._weight_ranks[""])
        by_name = weight if isinstance(weight, Mapping) else dict.fromkeys(aligned, weight)
        ranks = self._weight_ranks
        return (
            x,
            aligned,
            {
                name: _weigh(by_name.get(name), rows, max(ranks.get(name, 1), ranks.get("", 1)))
                for name in aligned
            },
        )


def _check_inputs(specs: Mapping[str, Any]) -> None:
    """Refuse sources whose inputs differ in names, dtypes, ranks or known sizes."""
    import tensorflow as tf

    (first, first_spec), *others = specs.items()
    for name, spec in others:
        try:
            tf.nest.assert_same_structure(first_spec[0], spec[0])
            pairs = zip(tf.nest.flatten(first_spec[0]), tf.nest.flatten(spec[0]), strict=True)
            fits = all(_fits(one, other) for one, other in pairs)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f"All data sets should have the same inputs. Received: {first_spec[0]} in data set "
                f"'{first}', {spec[0]} in data set '{name}'."
            )


def _fits(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape.rank != other.shape.rank:
        return False
    # The first axis is the batch.
    return one.shape.rank is None or one.shape[1:].is_compatible_with(other.shape[1:])


def _weigh(weight: Any, rows: Any, rank: int) -> Any:
    """Weights of one rank for all sources; 1 for the rows of those without."""
    import tensorflow as tf

    if weight is None:
        return tf.ones([rows] + [1] * (rank - 1))
    weight = tf.cast(weight, "float32")
    trailing = [1] * (rank - len(weight.shape))
    return tf.reshape(weight, tf.concat([tf.shape(weight), trailing], 0)) if trailing else weight


def _label_form(task: Task, specs: Sequence[Any]) -> tuple[Any, bool]:
    """The dtype of a task's labels over all sources, and whether they are a probability per class.

    Fractions stay fractions where one source has them: a class number is one of them, and not the
    other way round.
    """
    dtype = "float32" if any(spec.dtype.is_floating for spec in specs) else task.label_dtype
    return dtype, any(_is_soft(task, spec.shape) for spec in specs)


def _is_soft(task: Task, shape: Any) -> bool:
    expected = task.soft_label_shape
    return expected is not None and len(shape) == 1 + len(expected) and shape[-1] == expected[-1]


def _label_cast(task: Task, y: Any, dtype: Any, soft: bool) -> Any:
    import tensorflow as tf

    if _is_soft(task, y.shape):
        return tf.cast(y, "float32")
    # One rank for all sources: labels come as (rows,) and as (rows, 1).
    y = y if len(y.shape) == 1 + len(task.label_shape) else tf.expand_dims(y, -1)
    if not soft:
        return tf.cast(y, dtype)
    # Class numbers beside probabilities: 1 for the class, and NaN where there is no label.
    shape: Any = task.soft_label_shape
    numbers = tf.cast(y, "float32")
    if len(y.shape) == 1 + len(shape):
        numbers = tf.squeeze(numbers, -1)
    known = tf.math.is_finite(numbers) & (numbers >= 0)
    shares = tf.one_hot(tf.cast(tf.where(known, numbers, 0.0), "int32"), shape[-1])
    return tf.where(known[..., None], shares, float("nan"))
