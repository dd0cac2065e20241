"""Fields that follow from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtl_keras.data.fields import Field

__all__ = ["DerivedField", "ProductField"]


class DerivedField(Field):
    """A function of another field's rows.

    Args:
        field: `Field`.
        function: of a batch of its rows, a tensor `(n, *field.shape)`, to a tensor of `n` rows.
    """

    def __init__(self, field: Field, function: Callable[[Any], Any]) -> None:
        import tensorflow as tf

        self._field, self._function = field, function
        with tf.Graph().as_default():
            rows = tf.compat.v1.placeholder(field.dtype, (None, *field.shape))
            values = function(rows)
        self.shape, self.dtype = tuple(values.shape[1:]), values.dtype.name
        self.per_row = field.per_row

    def __len__(self) -> int:
        return len(self._field)

    def load(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._function(self._field.load(rows)))

    def tensor(self, rows: Any) -> Any:
        if len(rows.shape):
            return self._function(self._field.tensor(rows))
        return self._function(self._field.tensor(rows)[None])[0]


class ProductField(Field):
    """The product of weights, of which some may be per row and others per pixel or label.

    Args:
        fields: list of `Field`, each `(rows,)` or with more axes.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = list(fields)
        # Weights `(rows, 1)` are weights per row.
        shapes = [() if tuple(field.shape) == (1,) else tuple(field.shape) for field in fields]
        self.shape, self.dtype = max(shapes, key=len), "float32"
        self.per_row = any(field.per_row for field in fields)

    def __len__(self) -> int:
        return len(self._fields[0])

    def load(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._product([field.load(rows) for field in self._fields], 1))

    def tensor(self, rows: Any) -> Any:
        return self._product([field.tensor(rows) for field in self._fields], len(rows.shape))

    def _product(self, factors: list[Any], leading: int) -> Any:
        import tensorflow as tf

        product: Any = 1.0
        for factor in factors:
            factor = tf.cast(factor, tf.float32)
            if len(factor.shape) == leading + 1 and factor.shape[-1] == 1:
                factor = tf.squeeze(factor, -1)
            while len(factor.shape) < leading + len(self.shape):
                factor = factor[..., None]
            product = product * factor
        return product
