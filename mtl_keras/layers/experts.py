"""Experts side by side, gates that choose among them, and what a gate makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np
from keras import layers, ops

__all__ = ["DSelectKGate", "Experts", "Gate", "Mixture"]


@keras.saving.register_keras_serializable("mtl_keras")
class Experts(layers.Layer):
    """Several dense layers over the same features, computed as one matrix product.

    Their outputs stand side by side on the last axis, the first expert's first. An axis of its own
    for the experts would make feature maps 5-D, and older TFLite runtimes and GPU delegates stop at
    four axes.

    Args:
        experts: int >= 1.
        units: int >= 1. Width of each.
        activation: name or function, applied to each number alone. Defaults to "relu".

    Shapes:
        `(rows, ..., features)` to `(rows, ..., experts * units)`.
    """

    def __init__(self, experts: int, units: int, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for argument, value in (("experts", experts), ("units", units)):
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ValueError(
                    f"Layer '{self.name}': `{argument}` should be a whole number >= 1. Received: "
                    f"{value!r}."
                )
        if experts < 1 or units < 1:
            raise ValueError(
                f"Experts: experts and units must be at least 1, got {experts} and {units}."
            )
        self.experts, self.units, self.activation = (
            int(experts),
            int(units),
            keras.activations.get(activation),
        )

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1]

        def side_by_side(shape: Sequence[int], dtype: Any = None) -> Any:
            # Each starts as a dense layer of its own would; an initializer gives the same values
            # every time it is asked.
            kernels = [
                keras.initializers.GlorotUniform()((size, self.units), dtype=dtype)
                for _ in range(self.experts)
            ]
            return ops.concatenate(kernels, axis=1)

        self.kernel = self.add_weight(
            shape=(size, self.experts * self.units), initializer=side_by_side, name="kernel"
        )
        self.bias = self.add_weight(
            shape=(self.experts * self.units,), initializer="zeros", name="bias"
        )

    def call(self, inputs: Any) -> Any:
        return self.activation(ops.matmul(inputs, self.kernel) + self.bias)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.experts * self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "experts": self.experts,
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable("mtl_keras")
class Gate(layers.Layer):
    """A softmax over experts, from the features' mean over all places.

    Args:
        experts: int >= 1.
        use_bias: bool. Defaults to False, as in the paper's formula.

    Shapes:
        `(rows, ..., features)` to `(rows, experts)`; each row sums to 1.
    """

    def __init__(self, experts: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if experts < 1:
            raise ValueError(f"Gate: experts must be at least 1, got {experts}.")
        self.experts, self.use_bias = int(experts), bool(use_bias)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.experts), initializer="glorot_uniform", name="kernel"
        )
        self.bias = (
            self.add_weight(shape=(self.experts,), initializer="zeros", name="bias")
            if self.use_bias
            else None
        )

    def call(self, inputs: Any) -> Any:
        places = tuple(range(1, len(inputs.shape) - 1))
        logits = ops.matmul(ops.mean(inputs, axis=places) if places else inputs, self.kernel)
        return ops.softmax(logits + self.bias if self.use_bias else logits)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.experts)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "experts": self.experts, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("mtl_keras")
class DSelectKGate(layers.Layer):
    """Weights over experts of which at most `k` are not zero once training has settled; smooth all
    the way.

    Each of k selectors writes the number of an expert in `m = ceil(log2 experts)` bits `s = S(z)`,
    with the smooth step `S(t) = -2/g^3 t^3 + 3/(2g) t + 1/2` between -g/2 and g/2, 0 before and 1
    behind. Expert e gets from a selector the product of its bits, `s_b` or `1 - s_b`, and from the
    gate the mixture of the selectors by a softmax. The entropy of the selectors, times
    `penalty_weight`, is added to the losses while training and drives the bits to 0 and 1. Where
    `experts` is no power of two, the codes that are left name experts again, from the first.

    Args:
        experts: int >= 1.
        k: int >= 1. How many experts at most.
        per_example: bool. Bits and mixture depend on the row (linear layers), else they are learned
            for all rows. Defaults to False.
        gamma: float > 0. Width of the smooth step. Defaults to 1.
        penalty_weight: float >= 0. Factor of the regularizer. Defaults to 1e-6, that of the
            official code; selection needs larger ones, or long training.

    Shapes:
        `(rows, ..., features)` to `(rows, experts)`; rows sum to 1.

    Reference:
        Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong, Chi, "DSelect-k:
        Differentiable Selection in the Mixture of Experts with Applications to Multi-Task
        Learning", NeurIPS 2021. Departure: the official code lets codes beyond the last expert name
        none, leaves sums below 1 there, and adds `sum_i 1 / (selector i's weight on the others)`
        against it; with codes that all name an expert rows sum to 1 from the first step, and
        nothing has to be added.
    """

    def __init__(
        self,
        experts: int,
        k: int = 2,
        per_example: bool = False,
        gamma: float = 1.0,
        penalty_weight: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if experts < 1 or not 1 <= k <= experts or not gamma > 0 or not penalty_weight >= 0:
            raise ValueError(
                f"Layer '{self.name}' needs experts >= 1, 1 <= k <= experts, gamma > 0 and "
                f"penalty_weight >= "
                f"0; got {experts}, {k}, {gamma}, {penalty_weight}."
            )
        self.experts, self.k, self.per_example = int(experts), int(k), bool(per_example)
        self.gamma, self.penalty_weight = float(gamma), float(penalty_weight)
        self.bits = math.ceil(math.log2(experts))
        # Which bits the number of each expert has, the lowest first.
        codes = np.arange(2**self.bits)
        self._codes = ((codes[:, None] >> np.arange(self.bits)) & 1).astype("float32")
        self._named = np.eye(experts, dtype="float32")[codes % experts]

    def build(self, input_shape: Any) -> None:
        near_half = keras.initializers.RandomUniform(-self.gamma / 100, self.gamma / 100)
        small = keras.initializers.RandomUniform(-0.05, 0.05)
        if self.per_example:
            size = input_shape[-1]
            self.z_kernel = self.add_weight(
                shape=(size, self.k * self.bits), initializer=near_half, name="z_kernel"
            )
            self.w_kernel = self.add_weight(
                shape=(size, self.k), initializer=small, name="w_kernel"
            )
        self.z = self.add_weight(shape=(self.k * self.bits,), initializer=near_half, name="z")
        self.w = self.add_weight(shape=(self.k,), initializer=small, name="w")

    def call(self, inputs: Any, training: bool = False) -> Any:
        places = tuple(range(1, len(inputs.shape) - 1))
        x = ops.mean(inputs, axis=places) if places else inputs
        z, w = self.z + 0.0, self.w + 0.0
        if self.per_example:
            z, w = z + ops.matmul(x, self.z_kernel), w + ops.matmul(x, self.w_kernel)
        else:
            z, w = ops.expand_dims(z, 0), ops.expand_dims(w, 0)
        steps = self._smooth_step(ops.reshape(z, (-1, self.k, self.bits))) if self.bits else None
        chances = ops.ones((1, self.k, 2**self.bits), dtype=w.dtype)
        for bit in range(self.bits):
            step = steps[:, :, bit : bit + 1]  # type: ignore[index]
            code = ops.cast(self._codes[:, bit], w.dtype)
            chances = chances * (step * code + (1.0 - step) * (1.0 - code))
        if 2**self.bits > self.experts:
            chances = ops.matmul(chances, ops.cast(self._named, w.dtype))
        if training and self.penalty_weight and self.bits:
            self.add_loss(self.penalty_weight * _entropy(chances))
        gate = ops.sum(chances * ops.expand_dims(ops.softmax(w), -1), axis=1)
        # One row for all where it does not depend on the row; written out so that every gate has
        # the same shape.
        return gate + ops.zeros_like(x[:, :1])

    def _smooth_step(self, t: Any) -> Any:
        g = self.gamma
        t = ops.clip(t, -g / 2, g / 2)
        return t * (3.0 / (2.0 * g) - (2.0 / g**3) * ops.square(t)) + 0.5

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.experts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "experts": self.experts,
            "k": self.k,
            "per_example": self.per_example,
            "gamma": self.gamma,
            "penalty_weight": self.penalty_weight,
        }


def _entropy(chances: Any) -> Any:
    """The selectors' entropy, added over selectors and averaged over rows."""
    chances = ops.cast(chances, "float32")
    safe = ops.where(chances > 0, chances, 1.0)
    return ops.mean(-ops.sum(chances * ops.log(safe), axis=(1, 2)))


@keras.saving.register_keras_serializable("mtl_keras")
class Mixture(layers.Layer):
    """The experts' outputs, weighted by a gate and summed.

    Shapes:
        `[(rows, ..., experts * units), (rows, experts)]` to `(rows, ..., units)`: the outputs of
        `Experts`, or of several of them side by side.

    Raises:
        ValueError: a gate whose number of experts does not divide the outputs.
    """

    def call(self, inputs: Any) -> Any:
        outputs, gate = inputs
        count = gate.shape[-1]
        units = outputs.shape[-1] // count
        places = tuple(outputs.shape[1:-1])
        # All places in one axis: four axes at most, whatever the features are.
        size = () if not places else (-1 if None in places else math.prod(places),)
        rows = ops.shape(outputs)[0] if None in places else -1
        split = ops.reshape(outputs, (rows, *size, count, units))
        weights = ops.reshape(gate, (-1, *(1 for _ in size), count, 1))
        mixed = ops.sum(split * weights, axis=-2)
        if len(places) < 2:
            return mixed
        return ops.reshape(
            mixed, (*ops.shape(outputs)[:-1], units) if None in places else (-1, *places, units)
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        outputs, gate = input_shape
        if outputs[-1] % gate[-1]:
            raise ValueError(
                f"Layer '{self.name}': a gate for {gate[-1]} experts meets outputs of width "
                f"{outputs[-1]}, which is no "
                "multiple of it."
            )
        return (*outputs[:-1], outputs[-1] // gate[-1])
