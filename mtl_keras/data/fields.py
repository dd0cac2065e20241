"""Fields: one input of the network, or one task's labels, for all rows of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mtl_keras.data.sources import DataError

__all__ = ["ArrayField", "ConstantField", "Field", "FunctionField", "as_field"]

Shape = tuple[int | None, ...]


class Field:
    """One input of the network, or one task's labels, for all rows. Immutable.

    A subclass says how rows are read: in `load`, and, where TensorFlow can read them itself, in
    `tensor`.

    Attributes:
        shape: tuple of int or None. Shape of one row.
        dtype: str. Of the values.
        per_row: bool. True where rows are read one by one, such as files: batches then read them
            in parallel, and call `tensor` with one row number.
    """

    shape: Shape
    dtype: str
    per_row: bool = False

    def __len__(self) -> int:
        """Number of rows."""
        raise NotImplementedError

    def load(self, rows: np.ndarray) -> np.ndarray:
        """Read rows into memory.

        Args:
            rows: int array `(n,)` of row numbers.

        Returns:
            array `(n, *shape)`.
        """
        raise NotImplementedError

    def tensor(self, rows: Any) -> Any:
        """Read rows in a `tf.data` graph.

        Args:
            rows: int tensor: row numbers `(n,)`, or one number, `()`.

        Returns:
            tensor `(n, *shape)`, or `shape` for one number.
        """
        import tensorflow as tf

        def read(numbers: np.ndarray) -> np.ndarray:
            values = self.load(np.atleast_1d(numbers))
            return np.asarray(values if numbers.ndim else values[0], self.dtype)

        values = tf.numpy_function(read, [rows], self.dtype, stateful=False)
        values.set_shape((*rows.shape, *self.shape))
        return values

    def select(self, rows: np.ndarray) -> Field:
        """The field of these rows only, without a copy."""
        return _SelectedField(self, np.asarray(rows))


class ArrayField(Field):
    """Values in memory.

    Args:
        values: array `(rows, ...)`.

    Examples:
        >>> field = mtl.data.ArrayField(np.arange(6.0).reshape(3, 2))
        >>> field.load(np.array([2])).tolist()
        [[4.0, 5.0]]
    """

    def __init__(self, values: Any) -> None:
        values = np.asarray(values)
        if values.dtype == np.float64:
            values = values.astype("float32")
        if values.dtype.kind not in "iufb":
            raise DataError(
                f"A field should hold numbers. Received: values of dtype {values.dtype}."
            )
        self._values = values
        self._tensor: Any = None
        self.shape, self.dtype = values.shape[1:], values.dtype.name

    def __len__(self) -> int:
        return len(self._values)

    def load(self, rows: np.ndarray) -> np.ndarray:
        return self._values[rows]

    def tensor(self, rows: Any) -> Any:
        import tensorflow as tf

        if self._tensor is None:
            # Once per field, outside the graph that asks for it: a constant of a graph is copied
            # into each graph.
            with tf.init_scope(), tf.device("CPU"):
                self._tensor = tf.convert_to_tensor(self._values)
        return tf.gather(self._tensor, rows)


class ConstantField(Field):
    """The same value in each row, such as a label that is missing everywhere.

    Args:
        value: array. Of one row.
        count: int. Number of rows.
    """

    def __init__(self, value: Any, count: int) -> None:
        self._value, self._count = np.asarray(value), int(count)
        self.shape, self.dtype = self._value.shape, self._value.dtype.name

    def __len__(self) -> int:
        return self._count

    def load(self, rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._value, (len(rows), *self.shape)).copy()

    def tensor(self, rows: Any) -> Any:
        import tensorflow as tf

        shape = tf.concat([tf.shape(rows), tf.constant(self.shape, "int32")], 0)
        values = tf.broadcast_to(tf.constant(self._value), shape)
        values.set_shape((*rows.shape, *self.shape))
        return values

    def select(self, rows: np.ndarray) -> Field:
        return ConstantField(self._value, len(rows))


class FunctionField(Field):
    """Rows that a function reads when they are needed, several at once.

    Args:
        function: of a row number (int) to an array of `shape`.
        count: int. Number of rows.
        shape: tuple of int or None. Shape of one row.
        dtype: str. Of the values. Defaults to "float32".
        row_names: sequence of str. Where each row comes from, for messages.
        threads: int >= 1. Rows that `load` reads at once. Defaults to 8.

    Raises:
        DataError: when a row is read and the function fails; it names the row.

    Examples:
        >>> field = mtl.data.FunctionField(lambda row: np.full(2, row), 10, (2,))
        >>> field.load(np.array([3])).tolist()
        [[3.0, 3.0]]
    """

    per_row = True

    def __init__(
        self,
        function: Callable[[int], Any],
        count: int,
        shape: Sequence[int | None],
        dtype: str = "float32",
        *,
        row_names: Sequence[str] | None = None,
        threads: int = 8,
    ) -> None:
        self._function, self._count = function, int(count)
        self._row_names, self._threads = row_names, int(threads)
        self.shape, self.dtype = tuple(shape), np.dtype(dtype).name

    def __len__(self) -> int:
        return self._count

    def load(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        if not len(rows):
            return np.zeros((0, *(size or 0 for size in self.shape)), self.dtype)
        if len(rows) == 1:
            return np.stack([self._read(int(rows[0]))])
        with ThreadPoolExecutor(min(self._threads, len(rows))) as pool:
            return np.stack(list(pool.map(self._read, rows.tolist())))

    def _read(self, row: int) -> np.ndarray:
        name = f"Row {row}" if self._row_names is None else self._row_names[row]
        try:
            value = np.asarray(self._function(row), self.dtype)
        except (OSError, ValueError, TypeError, KeyError, IndexError, DataError) as error:
            raise DataError(f"{name} could not be read: {error}") from error
        is_right = value.ndim == len(self.shape) and all(
            size in (None, actual) for size, actual in zip(self.shape, value.shape, strict=True)
        )
        if not is_right:
            raise DataError(f"{name} should have shape {self.shape}. Received: {value.shape}.")
        return value


class _SelectedField(Field):
    """Some rows of a field."""

    def __init__(self, field: Field, rows: np.ndarray) -> None:
        self._field, self._rows = field, rows
        self._numbers: Any = None
        self.shape, self.dtype, self.per_row = field.shape, field.dtype, field.per_row

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, rows: np.ndarray) -> np.ndarray:
        return self._field.load(self._rows[rows])

    def tensor(self, rows: Any) -> Any:
        import tensorflow as tf

        if self._numbers is None:
            with tf.init_scope(), tf.device("CPU"):
                self._numbers = tf.convert_to_tensor(self._rows)
        return self._field.tensor(tf.gather(self._numbers, rows))

    def select(self, rows: np.ndarray) -> Field:
        return _SelectedField(self._field, self._rows[rows])


def as_field(values: Any) -> Field:
    """A `Field` as it is; an array as an `ArrayField`."""
    return values if isinstance(values, Field) else ArrayField(values)
