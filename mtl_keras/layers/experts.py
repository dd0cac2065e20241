"""Experts side by side, gates that choose among them, and what a gate makes of them."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

__all__ = ["Experts", "Gate", "Mixture"]


@keras.saving.register_keras_serializable("mtl_keras")
class Experts(layers.Layer):
    """Several dense layers over the same features, computed as one matrix product.

    Args:
        experts: int >= 1.
        units: int >= 1. Width of each.
        activation: name or function. Defaults to "relu".

    Shapes:
        `(rows, ..., features)` to `(rows, ..., experts, units)`.
    """

    def __init__(self, experts: int, units: int, activation: Any = "relu", **kwargs: Any):
        super().__init__(**kwargs)
        if experts < 1 or units < 1:
            raise ValueError(f"Experts: experts and units must be at least 1, got {experts} and {units}.")
        self.experts, self.units, self.activation = int(experts), int(units), keras.activations.get(activation)

    def build(self, input_shape):
        size = input_shape[-1]

        def side_by_side(shape, dtype=None):
            # Each starts as a dense layer of its own would; an initializer gives the same values every time it is asked.
            made = [keras.initializers.GlorotUniform()((size, self.units), dtype=dtype) for _ in range(self.experts)]
            return ops.concatenate(made, axis=1)

        self.kernel = self.add_weight(shape=(size, self.experts * self.units), initializer=side_by_side, name="kernel")
        self.bias = self.add_weight(shape=(self.experts * self.units,), initializer="zeros", name="bias")

    def call(self, inputs):
        joined = self.activation(ops.matmul(inputs, self.kernel) + self.bias)
        # Sizes that are not known stay out of the graph: only the rows may be.
        return ops.reshape(joined, (-1, *inputs.shape[1:-1], self.experts, self.units))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.experts, self.units)

    def get_config(self):
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

    def __init__(self, experts: int, use_bias: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if experts < 1:
            raise ValueError(f"Gate: experts must be at least 1, got {experts}.")
        self.experts, self.use_bias = int(experts), bool(use_bias)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.experts), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.experts,), initializer="zeros", name="bias") if self.use_bias else None

    def call(self, inputs):
        places = tuple(range(1, len(inputs.shape) - 1))
        logits = ops.matmul(ops.mean(inputs, axis=places) if places else inputs, self.kernel)
        return ops.softmax(logits + self.bias if self.use_bias else logits)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.experts)

    def get_config(self):
        return {**super().get_config(), "experts": self.experts, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("mtl_keras")
class Mixture(layers.Layer):
    """The experts' outputs, weighted by a gate and summed.

    Shapes:
        `[(rows, ..., experts, units), (rows, experts)]` to `(rows, ..., units)`.
    """

    def call(self, inputs):
        experts, gate = inputs
        for _ in range(len(experts.shape) - 3):
            gate = ops.expand_dims(gate, 1)
        return ops.sum(experts * ops.expand_dims(gate, -1), axis=-2)

    def compute_output_shape(self, input_shape):
        experts, gate = input_shape
        if experts[-2] != gate[-1]:
            raise ValueError(f"Mixture '{self.name}': a gate for {gate[-1]} experts meets {experts[-2]}.")
        return (*experts[:-2], experts[-1])
