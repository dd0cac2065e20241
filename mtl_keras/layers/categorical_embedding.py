"""Embeddings of several categorical columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["CategoricalEmbedding"]


@keras.saving.register_keras_serializable("mtl_keras")
class CategoricalEmbedding(keras.layers.Layer):
    """One vector a column, looked up in one table and laid side by side.

    Ids of shape `(rows, columns)`, each from 0 to its column's cardinality - 1, become
    `(rows, columns * dim)`. All columns share one table, each with its own block of rows, so that a
    device does one gather instead of one a column.

    Args:
        cardinalities: list of int. How many ids each column has.
        dim: int. Length of a vector.
    """

    def __init__(self, cardinalities: Sequence[int], dim: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cardinalities = [int(n) for n in cardinalities]
        self.dim = int(dim)
        if not self.cardinalities or min(self.cardinalities) < 1 or self.dim < 1:
            raise ValueError(
                f"Layer '{self.name}' needs at least one column, each with at least one id, and "
                f"dim >= 1; got "
                f"cardinalities={list(cardinalities)}, dim={dim}."
            )
        self._offsets = np.cumsum([0, *self.cardinalities[:-1]]).astype("int32")

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != len(self.cardinalities):
            raise ValueError(
                f"Layer '{self.name}' embeds {len(self.cardinalities)} columns, its input has "
                f"shape {tuple(input_shape)}."
            )
        self.table = self.add_weight(
            shape=(sum(self.cardinalities), self.dim),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="table",
        )

    def call(self, inputs: Any) -> Any:
        ids = ops.cast(inputs, "int32") + self._offsets
        vectors = ops.take(self.table, ids, axis=0)
        return ops.reshape(
            ops.cast(vectors, self.compute_dtype), (-1, len(self.cardinalities) * self.dim)
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], len(self.cardinalities) * self.dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cardinalities": self.cardinalities, "dim": self.dim}
