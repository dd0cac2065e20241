"""What stands in for an input that is not there."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

__all__ = ["ModalityAttention", "ModalityDefault"]


@keras.saving.register_keras_serializable("mtl_keras")
class ModalityDefault(layers.Layer):
    """Features where the modality is there, a learned vector where it is not.

    While training a part of the rows is treated as if it lacked the modality, so that the vector
    learns and the network gets used to it.

    Args:
        modality_dropout: float from 0 to below 1. That part. Defaults to 0.1.
        seed: int or None.

    Shapes:
        `[(rows, size), (rows, 1)]`, the second above 0.5 where the modality is there, to `(rows,
        size)`.
    """

    def __init__(
        self, modality_dropout: float = 0.1, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= modality_dropout < 1:
            raise ValueError(
                f"Layer '{self.name}' needs 0 <= modality_dropout < 1, got {modality_dropout}."
            )
        self.modality_dropout, self.seed = float(modality_dropout), seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.RandomNormal(stddev=0.05)
        self.default = self.add_weight(
            shape=(input_shape[0][-1],), initializer=start, name="default"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        features, present = inputs
        is_present = ops.cast(present > 0.5, features.dtype)
        if training and self.modality_dropout:
            is_kept = (
                keras.random.uniform(ops.shape(is_present), seed=self.generator)
                >= self.modality_dropout
            )
            is_present = is_present * ops.cast(is_kept, is_present.dtype)
        return features * is_present + self.default * (1.0 - is_present)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "modality_dropout": self.modality_dropout,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class ModalityAttention(layers.Layer):
    """Several vectors, each seen by all, joined into one.

    Vectors u_1..u_n with learned marks of their modality go through scaled dot-product
    self-attention with a residual, and are averaged with weights `softmax(<u_i, query> /
    sqrt(size))`.

    Shapes:
        List of `(rows, size)` to `(rows, size)`.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (one head, over modalities in
        place of words).
    """

    def build(self, input_shape: Any) -> None:
        size, count = input_shape[0][-1], len(input_shape)
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.marks = self.add_weight(shape=(count, size), initializer=small, name="marks")
        self.pooling = self.add_weight(shape=(size, 1), initializer=small, name="pooling")
        self.kernels = [
            self.add_weight(shape=(size, size), initializer="glorot_uniform", name=part)
            for part in ("query", "key", "value")
        ]

    def call(self, inputs: Any) -> Any:
        x = ops.stack(list(inputs), axis=1) + self.marks
        query, key, value = (ops.matmul(x, kernel) for kernel in self.kernels)
        scale = x.shape[-1] ** -0.5
        weights = ops.softmax(ops.matmul(query * scale, ops.transpose(key, (0, 2, 1))))
        x = x + ops.matmul(weights, value)
        return ops.sum(x * ops.softmax(ops.matmul(x * scale, self.pooling), axis=1), axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])
