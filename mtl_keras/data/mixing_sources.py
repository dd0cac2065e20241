"""What `mix` draws from: data sets of all forms, as streams of batches or rows by their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtl_keras.data.batches import as_table
from mtl_keras.data.dataset import combine_weights
from mtl_keras.data.labels import labels_by_task, labels_of_spec

__all__ = ["MixedSource", "as_source", "is_batched"]

_ENDLESS, _UNKNOWN = -1, -2


@dataclass(frozen=True)
class MixedSource:
    """One data set.

    Attributes:
        name: str.
        spec: element spec of its batches, `(x, y)` or `(x, y, sample_weight)`.
        size: int. Rows, or elements of `dataset`; -1 is endless, -2 unknown.
        rows_per_unit: int. Elements that make a unit of drawing.
        gather: function of row numbers to a batch, or None where rows can't be read by number.
        dataset: data set where `gather` is None.
        batch_size: int or None. Rows that become a batch, where `dataset` is not batched.
        function: what is done to every batch of `dataset`, or None.
        within_batch: bool. Whether a unit is a row.
    """

    name: str
    spec: Any
    size: int
    rows_per_unit: int = 1
    gather: Callable[[Any], tuple[Any, ...]] | None = None
    dataset: Any = None
    batch_size: int | None = None
    function: Callable[..., tuple[Any, ...]] | None = None
    within_batch: bool = False

    def units(self) -> int:
        """Rows, or batches; -1 is endless, -2 unknown."""
        return self.size if self.size <= 0 else math.ceil(self.size / self.rows_per_unit)

    def mapped(self, function: Callable[..., tuple[Any, ...]]) -> MixedSource:
        """The same source with a function applied to its batches."""
        if self.gather is not None:
            read = self.gather

            def gather(rows: Any) -> tuple[Any, ...]:
                return function(*read(rows))

            return replace(self, gather=gather, spec=_spec_of(gather))
        spec = self._batched(self.dataset).map(function).element_spec
        return replace(self, function=function, spec=spec)

    def stream(self, order: Any, function: Callable[..., tuple[Any, ...]]) -> Any:
        """Batches of an epoch, in the order's order, with a function applied to each."""
        import tensorflow as tf

        if self.gather is None:
            own = self.function
            return self._batched(self._shuffled(order)).map(
                function if own is None else lambda *batch: function(*own(*batch)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        gather = self.gather
        if self.within_batch:
            numbers = order.per_epoch(lambda: order.rows(self.size, self._rows_of_epoch(order)))
            numbers = numbers.batch(order.batch_size)
        else:
            numbers = order.per_epoch(lambda: order.batches(self.size), (order.batch_size,))

        def read(rows: Any) -> tuple[Any, ...]:
            # -1 fills up the last batch of a pass.
            is_full = rows[-1] >= 0
            rows = tf.cond(is_full, lambda: rows, lambda: tf.boolean_mask(rows, rows >= 0))
            return function(*gather(rows))

        return numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE)

    def _rows_of_epoch(self, order: Any) -> int:
        # Beside streams of unknown length a source is read once.
        return self.size if order.plan.units is None else order.epoch_count()

    def _batched(self, dataset: Any) -> Any:
        return dataset if self.batch_size is None else dataset.batch(self.batch_size)

    def _shuffled(self, order: Any) -> Any:
        if not order.buffer:
            return self.dataset
        seeds = order.per_epoch(order.seed)
        return seeds.flat_map(lambda seed: self.dataset.shuffle(order.buffer, seed=seed))


def as_source(
    name: str, data: Any, model: Any, within_batch: bool, batch_size: int, rows: int | None
) -> MixedSource:
    """A data set as a source of `mix`.

    Args:
        name: of the data set, for messages.
        data: `TaskDataset`, tuple of arrays, or `tf.data.Dataset`.
        model: `MultiTaskModel` or list of tasks.
        within_batch: bool. Whether single rows are drawn.
        batch_size: int.
        rows: int or None. Number of rows, where the user says it.

    Raises:
        TypeError: another kind of data.
        ValueError: rows and batches that can't be told apart.
    """
    per_unit = 1 if within_batch else batch_size
    if hasattr(data, "input_fields"):
        gather, size = _gather_of_fields(data), len(data)
        return MixedSource(
            name, _spec_of(gather), size, per_unit, gather, within_batch=within_batch
        )
    if isinstance(data, tuple):
        table, size = as_table(data)
        gather = _gather_of_table(table)
        return MixedSource(
            name, _spec_of(gather), size, per_unit, gather, within_batch=within_batch
        )
    if not hasattr(data, "element_spec"):
        raise TypeError(
            f"Data set '{name}' should be a TaskDataset, a tuple of arrays (x, y), or a "
            f"tf.data.Dataset. Received: {type(data).__name__}."
        )
    return _stream_source(name, data, model, within_batch, batch_size, rows)


def _stream_source(
    name: str, data: Any, model: Any, within_batch: bool, batch_size: int, rows: int | None
) -> MixedSource:
    size = int(data.cardinality())
    if not is_batched(data.element_spec, model, name):
        batched = data.batch(batch_size)
        size = size if rows is None else rows
        per_unit = 1 if within_batch else batch_size
        return MixedSource(
            name,
            batched.element_spec,
            size,
            per_unit,
            dataset=data,
            batch_size=batch_size,
            within_batch=within_batch,
        )
    if within_batch and rows is None and size > 0:
        rows = _count_rows(data)
    if not within_batch and rows is not None and size == _UNKNOWN:
        size = math.ceil(rows / batch_size)
    size = rows if within_batch and rows is not None else size
    return MixedSource(name, data.element_spec, size, dataset=data, within_batch=within_batch)


def _count_rows(data: Any) -> int:
    """Rows of a batched data set, by one pass."""
    import tensorflow as tf

    def count(total: Any, batch: Any) -> Any:
        return total + tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

    ones = data.map(lambda *batch: batch[0])
    return int(ones.reduce(tf.zeros((), tf.int64), count))


def is_batched(spec: Any, model: Any, name: str) -> bool:
    """Whether elements are batches, from the shapes of inputs and labels.

    Raises:
        ValueError: the shapes do not tell.
    """
    import tensorflow as tf

    inputs = getattr(model, "inputs", None)
    parts = tf.nest.flatten(labels_of_spec(spec) and spec[0])
    if inputs is not None and len(inputs) == len(parts):
        ranks = sorted(len(tensor.shape) for tensor in inputs)
        own = sorted(part.shape.rank for part in parts if part.shape.rank is not None)
        if own == ranks:
            return True
        if own == [rank - 1 for rank in ranks]:
            return False
    tasks = list(getattr(model, "tasks", model))
    by_name = {task.name: task for task in tasks}
    labels = labels_by_task(spec[1], _Tasks(tasks), f"data set '{name}'")
    votes = set()
    for task_name, label in labels.items():
        if task_name in by_name and label.shape.rank is not None:
            votes |= _votes(by_name[task_name], tuple(label.shape), label.dtype)
    if len(votes) != 1:
        raise ValueError(
            f"Data set '{name}' does not tell rows from batches by its shapes: {spec}. Batch it "
            f"first, `dataset.batch(32)`."
        )
    return votes.pop()


class _Tasks:
    def __init__(self, tasks: Any):
        self.tasks = tasks


def _votes(task: Any, shape: tuple[int | None, ...], dtype: Any) -> set[bool]:
    """{True} where a label's shape is a batch's, {False} where it is a row's, else nothing."""

    def fits(form: tuple[int | None, ...]) -> bool:
        try:
            task.check_label_spec(form, dtype.as_numpy_dtype)
        except ValueError:
            return False
        return True

    as_batch, as_row = bool(shape) and fits(shape), fits((None, *shape))
    if as_batch and as_row:
        # Batches have no fixed number of rows, as a rule.
        return {True} if shape[0] is None else set()
    return {as_batch} if as_batch or as_row else set()


# ------------------------------------------------------------------ rows by their numbers
def _spec_of(gather: Callable[[Any], tuple[Any, ...]]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(1).batch(1).map(gather).element_spec


def _gather_of_table(table: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    import tensorflow as tf

    def gather(rows: Any) -> tuple[Any, ...]:
        return tuple(tf.nest.map_structure(lambda column: tf.gather(column, rows), table))

    return gather


def _gather_of_fields(data: Any) -> Callable[[Any], tuple[Any, ...]]:
    """Rows of a `TaskDataset`, field by field."""

    def read(fields: Mapping[str, Any], rows: Any) -> dict[str, Any]:
        return {name: field.tensor(rows) for name, field in fields.items()}

    def gather(rows: Any) -> tuple[Any, ...]:
        x, y = read(data.input_fields, rows), read(data.label_fields, rows)
        if not data.weight_fields:
            return x, y
        return x, y, combine_weights(read(data.weight_fields, rows), data.task_names)

    return gather
