"""Layers over sequences of tokens and frames."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

__all__ = [
    "FoldFrames",
    "MaskPadding",
    "MaskedMax",
    "MaskedMean",
    "MaskedSelfAttention",
    "PaddingMask",
    "PositionEmbedding",
    "UnfoldFrames",
    "mask_of",
]


def mask_of(x: Any) -> Any:
    """The Keras mask of a tensor, or None. A layer that takes it as an argument keeps it where the
    graph is split."""
    return getattr(x, "_keras_mask", None)


@keras.saving.register_keras_serializable("mtl_keras")
class PaddingMask(layers.Layer):
    """1.0 where a token id is not 0, `(rows, length)`; the first token always counts, so that no
    row is all padding."""

    def call(self, inputs: Any) -> Any:
        is_token = ops.cast(inputs > 0, "float32")
        first = ops.ones_like(is_token[:, :1])
        return ops.concatenate([first, is_token[:, 1:]], axis=1)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, dtype="float32")


@keras.saving.register_keras_serializable("mtl_keras")
class MaskPadding(layers.Layer):
    """Zeros where a token is padding, and a Keras mask for the layers, losses and metrics behind.

    The mask is that of `PaddingMask`, not that of `keras.layers.Embedding(mask_zero=True)`: a row
    of nothing but padding keeps its first token. Means over such a row stay numbers, and recurrent
    layers have one step to run.

    Args:
        keras_mask: bool. False only writes zeros, for layers such as `Conv1D` that can't pass a
            mask on. Defaults to True.

    Shapes:
        `[(rows, length, dim), (rows, length)]` to `(rows, length, dim)`.

    Examples:
        >>> tokens = keras.Input((12,), dtype="int32")
        >>> mask = mtl.layers.PaddingMask()(tokens)
        >>> x = mtl.layers.MaskPadding()([keras.layers.Embedding(100, 8)(tokens), mask])
    """

    def __init__(self, keras_mask: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.keras_mask = bool(keras_mask)

    def call(self, inputs: Any) -> Any:
        x, mask = inputs
        return x * ops.expand_dims(ops.cast(mask, x.dtype), -1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.cast(inputs[1], "bool") if self.keras_mask else None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keras_mask": self.keras_mask}


@keras.saving.register_keras_serializable("mtl_keras")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector for each place to `(rows, length, dim)`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if input_shape[1] is None:
            raise ValueError(
                f"Layer '{self.name}' needs sequences of fixed length, got {tuple(input_shape)}."
            )
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.positions = self.add_weight(
            shape=tuple(input_shape[1:]), initializer=start, name="positions"
        )

    def call(self, inputs: Any) -> Any:
        return inputs + self.positions

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return input_shape


@keras.saving.register_keras_serializable("mtl_keras")
class MaskedMean(layers.Layer):
    """The mean over the places that count: `[(rows, length, dim), (rows, length)]` to
    `(rows, dim)`; 0 where none does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        x, mask = inputs
        mask = ops.expand_dims(ops.cast(mask, x.dtype), -1)
        return ops.sum(x * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        x, _ = input_shape
        return (x[0], x[2])


@keras.saving.register_keras_serializable("mtl_keras")
class MaskedMax(layers.Layer):
    """The largest value over the places that count: `[(rows, length, dim), (rows, length)]` to
    `(rows, dim)`.

    Places that don't count take the smallest value of the row, which no maximum notices: the usual
    huge negative number would leave int8 no steps for the rest.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        x, mask = inputs
        low = ops.min(x, axis=1, keepdims=True)
        return ops.max(ops.where(ops.expand_dims(ops.cast(mask, "bool"), -1), x, low), axis=1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        x, _ = input_shape
        return (x[0], x[2])


@keras.saving.register_keras_serializable("mtl_keras")
class MaskedSelfAttention(layers.Layer):
    """Multi-head self-attention that gives places that don't count no weight.

    Weights are `mask * softmax(q k / sqrt(size))`, divided by their sum: the softmax over the
    places that count, without the huge negative numbers that `keras.layers.MultiHeadAttention` adds
    elsewhere, which leave int8 no steps for the rest.

    Args:
        heads: int. Divides the features.
        dropout: float. Dropped part of the weights while training.
        seed: int or None.

    Shapes:
        `[(rows, length, dim), (rows, length)]` to `(rows, length, dim)`.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    def __init__(
        self, heads: int, dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.dropout, self.seed = int(heads), float(dropout), seed
        self.generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        dim = input_shape[0][-1]
        if dim % self.heads:
            raise ValueError(
                f"Layer '{self.name}': {self.heads} heads do not divide {dim} features."
            )
        for part in ("query", "key", "value", "out"):
            kernel = self.add_weight(
                shape=(dim, dim), initializer="glorot_uniform", name=f"{part}_kernel"
            )
            bias = self.add_weight(shape=(dim,), initializer="zeros", name=f"{part}_bias")
            setattr(self, part, (kernel, bias))

    def call(self, inputs: Any, training: bool = False) -> Any:
        x, mask = inputs
        length, dim = x.shape[1:]
        size = dim // self.heads

        def project(part: str) -> Any:
            kernel, bias = getattr(self, part)
            split = ops.reshape(ops.matmul(x, kernel) + bias, (-1, length, self.heads, size))
            return ops.transpose(split, (0, 2, 1, 3))

        query, key, value = project("query") * size**-0.5, project("key"), project("value")
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
        weights = weights * ops.cast(ops.reshape(mask, (-1, 1, 1, length)), x.dtype)
        weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)
        if training and self.dropout:
            weights = keras.random.dropout(weights, self.dropout, seed=self.generator)
        joined = ops.reshape(
            ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), (-1, length, dim)
        )
        return ops.matmul(joined, self.out[0]) + self.out[1]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "dropout": self.dropout,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class FoldFrames(layers.Layer):
    """`(rows, frames, ...)` to `(rows * frames, ...)`, so that a network for pictures sees every
    frame."""

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        rows = None if None in input_shape[:2] else input_shape[0] * input_shape[1]
        return (rows, *input_shape[2:])


@keras.saving.register_keras_serializable("mtl_keras")
class UnfoldFrames(layers.Layer):
    """`(rows * frames, ...)` to `(rows, frames, ...)`."""

    def __init__(self, frames: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames = int(frames)

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, (-1, self.frames, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        rows = None if input_shape[0] is None else input_shape[0] // self.frames
        return (rows, self.frames, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "frames": self.frames}
