"""Layers that change features for a task, or join several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import layers, ops

__all__ = [
    "Cross",
    "FiLM",
    "InformationTransfer",
    "OrderCalibrator",
    "ProbabilityProduct",
    "StageMixture",
]


@keras.saving.register_keras_serializable("mtl_keras")
class FiLM(layers.Layer):
    """A learned factor and offset for every channel: `gamma * x + beta`, starting as `x`.

    Reference:
        Perez, Strub, de Vries, Dumoulin, Courville, "FiLM: Visual Reasoning with a General
        Conditioning Layer", AAAI 2018, with a task in place of the question.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="beta")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gamma + self.beta

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return input_shape


@keras.saving.register_keras_serializable("mtl_keras")
class Cross(layers.Layer):
    """`x_0 * (W x + b) + x`: one degree of products more.

    Args:
        rank: int or None. W is a product of two thin matrices of this rank; None keeps it full.

    Shapes:
        `[(rows, size), (rows, size)]`, the first features and the last crossed ones, to `(rows,
        size)`.

    Reference:
        Wang et al., "DCN V2", WWW 2021.
    """

    def __init__(self, rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if rank is not None and rank < 1:
            raise ValueError(f"Layer '{self.name}' needs a rank >= 1, or None, got {rank}.")
        self.rank = rank
        self.down_initializer, self.kernel_initializer = (
            keras.initializers.GlorotUniform() for _ in range(2)
        )

    def build(self, input_shape: Any) -> None:
        size = input_shape[0][-1]
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")
        if self.rank is None:
            self.kernel = self.add_weight(
                shape=(size, size), initializer=self.kernel_initializer, name="kernel"
            )
        else:
            self.down = self.add_weight(
                shape=(size, self.rank), initializer=self.down_initializer, name="down"
            )
            self.kernel = self.add_weight(
                shape=(self.rank, size), initializer=self.kernel_initializer, name="kernel"
            )

    def call(self, inputs: Any) -> Any:
        first, x = inputs
        y = x if self.rank is None else ops.matmul(x, self.down)
        return first * (ops.matmul(y, self.kernel) + self.bias) + x

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank}


@keras.saving.register_keras_serializable("mtl_keras")
class StageMixture(layers.Layer):
    """Several tensors of one shape, weighed by learned factors and added; the last starts with 0.9
    of the weight.

    Shapes:
        List of `(rows, ..., channels)` to the same.
    """

    def build(self, input_shape: Any) -> None:
        count = len(input_shape)
        for i, shape in enumerate(input_shape):
            if tuple(shape[1:]) != tuple(input_shape[-1][1:]):
                raise ValueError(
                    f"Layer '{self.name}' adds tensors of one shape; number {i} has "
                    f"{tuple(shape)}, the last "
                    f"{tuple(input_shape[-1])}."
                )

        def start(shape: Sequence[int], dtype: Any = None) -> Any:
            return ops.convert_to_tensor(
                [1.0] if count == 1 else [0.1 / (count - 1)] * (count - 1) + [0.9], dtype=dtype
            )

        self.beta = self.add_weight(shape=(count,), initializer=start, name="beta")

    def call(self, inputs: Any) -> Any:
        return sum(x * self.beta[i] for i, x in enumerate(inputs))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else mask[-1]

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[-1])


@keras.saving.register_keras_serializable("mtl_keras")
class ProbabilityProduct(layers.Layer):
    """The logit of a product of probabilities that are given as logits.

    With `p = sigmoid(a) sigmoid(b)`: `logit(p) = -log(exp(-a) + exp(-b) + exp(-a - b))`. Nothing
    over- or underflows, and the gradient lives where the product of two sigmoids has rounded to 0
    or 1.

    Shapes:
        `[(rows, 1), (rows, 1)]` to `(rows, 1)`.
    """

    def call(self, inputs: Any) -> Any:
        a, b = inputs
        top = ops.maximum(ops.maximum(-a, -b), -a - b)
        return -(top + ops.log(ops.exp(-a - top) + ops.exp(-b - top) + ops.exp(-a - b - top)))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])


@keras.saving.register_keras_serializable("mtl_keras")
class InformationTransfer(layers.Layer):
    """Attention over what the task before passes on and a task's own features.

    For each of the two vectors `u`, `w_u = <key(u), query(u)> / sqrt(units)`; the result is the sum
    of `value(u)` with weights `softmax(w)`. Key, query and value are linear.

    Args:
        units: int. Length of the result.

    Shapes:
        `[(rows, size), (rows, size)]` to `(rows, units)`.

    Reference:
        Xi, Chen, Yan, Zhang, Zhu, Zhuang, Chen, "Modeling the Sequential Dependence among Audience
        Multi-step Conversions with Multi-task Learning in Targeted Display Advertising", KDD 2021
        (AITM).
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = int(units)

    def build(self, input_shape: Any) -> None:
        size = input_shape[0][-1]
        if any(shape[-1] != size for shape in input_shape):
            raise ValueError(
                f"Layer '{self.name}' takes vectors of one length, got "
                f"{[tuple(s) for s in input_shape]}."
            )
        for part in ("key", "query", "value"):
            setattr(
                self,
                part,
                self.add_weight(shape=(size, self.units), initializer="glorot_uniform", name=part),
            )

    def call(self, inputs: Any) -> Any:
        both = ops.stack(list(inputs), axis=1)
        key, query, value = (ops.matmul(both, w) for w in (self.key, self.query, self.value))
        weights = ops.softmax(
            ops.sum(key * query, axis=-1, keepdims=True) / self.units**0.5, axis=1
        )
        return ops.sum(weights * value, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0][0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("mtl_keras")
class OrderCalibrator(layers.Layer):
    """Logits as they are, with a penalty where a later step is more probable than the one before
    it.

    Adds `weight * mean(sum_t max(p_t - p_(t-1), 0))` to the losses while training: a person who
    converts has clicked.

    Args:
        penalty_weight: float >= 0.

    Shapes:
        List of `(rows, 1)`, in the steps' order, to the same.

    Reference:
        Xi et al., KDD 2021 (AITM's behavioural expectation calibrator).
    """

    def __init__(self, penalty_weight: float = 0.6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not penalty_weight >= 0:
            raise ValueError(
                f"Layer '{self.name}' needs penalty_weight >= 0, got {penalty_weight}."
            )
        self.penalty_weight = float(penalty_weight)

    def call(self, inputs: Any, training: bool = False) -> list[Any]:
        if training and self.penalty_weight:
            chances = [ops.sigmoid(ops.cast(x, "float32")) for x in inputs]
            over = [ops.maximum(b - a, 0.0) for a, b in pairwise(chances)]
            if over:
                self.add_loss(self.penalty_weight * ops.mean(sum(over)))
        return [x * 1.0 for x in inputs]

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        return [tuple(shape) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "penalty_weight": self.penalty_weight}
