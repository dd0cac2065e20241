"""Fields that follow from others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mtl_keras.data.fields import Field

__all__ = ["DerivedField"]


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
