"""Layers that compute as an int8 file will: on rounded weights, with rounded results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.quantizers import fake_quant_with_min_max_vars

__all__ = ["FakeQuantize", "QuantizedWeights"]


@keras.saving.register_keras_serializable("mtl_keras")
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to the 256 values of an int8 tensor over a range that follows the data.

    In training the range widens at once to each batch's smallest and largest value and shrinks
    slowly to them; it always holds zero. Gradients pass straight (Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018; their
    ranges also widen slowly, and cut off what the file would not). Any shape; float32.

    Args:
        momentum: float in [0, 1). How much of a range that is too wide a step keeps.
        fixed: two floats, a range that does not follow the data, or None.

    Examples:
        >>> y = mtl.layers.FakeQuantize()(x)
    """

    def __init__(
        self, momentum: float = 0.99, fixed: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 0 <= momentum < 1:
            raise ValueError(
                f"FakeQuantize '{self.name}': momentum lies in [0, 1), got {momentum!r}."
            )
        if fixed is not None and not fixed[0] <= 0 < fixed[1]:
            raise ValueError(f"FakeQuantize '{self.name}': a range holds zero, got {fixed!r}.")
        self.momentum = float(momentum)
        self.fixed = None if fixed is None else tuple(float(v) for v in fixed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if self.fixed is None:
            range_options = {
                "shape": (),
                "initializer": "zeros",
                "trainable": False,
                "aggregation": "mean",
                "autocast": False,
            }
            self.low = self.add_weight(name="low", **range_options)
            self.high = self.add_weight(name="high", **range_options)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.fixed is not None:
            return fake_quant_with_min_max_vars(inputs, *self.fixed)
        if training and self.trainable:
            low = ops.stop_gradient(ops.minimum(ops.min(inputs), 0.0))
            high = ops.stop_gradient(ops.maximum(ops.max(inputs), 0.0))
            self.low.assign(ops.minimum(low, self.momentum * self.low + (1 - self.momentum) * low))
            self.high.assign(
                ops.maximum(high, self.momentum * self.high + (1 - self.momentum) * high)
            )
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        rounded = fake_quant_with_min_max_vars(inputs, low, ops.maximum(high, low + 1e-6))
        # Before the first step there is no range to round to.
        return ops.where(ops.equal(low, high), inputs, rounded)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "fixed": self.fixed}


@keras.saving.register_keras_serializable("mtl_keras")
class QuantizedWeights(keras.layers.Layer):
    """Another layer, called with its kernels rounded to int8: symmetric, with a scale an output
    channel.

    The kernels themselves stay real numbers, and gradients pass the rounding straight. A batch
    normalization behind needs no
    care: folding it multiplies each channel by one number, and the channel's scale with it, as long
        as its statistics stand
    still (`inference=True`). Vectors (biases, normalization) are left as they are; an embedding
    table has one scale.

    Args:
        layer: the layer, or its serialized form.
        shapes: what the layer was built with, as `layer.get_build_config()` tells. None takes it
            from the layer.
        inference: bool. Call the layer as in inference, also in training.

    Examples:
        >>> rounded = mtl.layers.QuantizedWeights(dense)
    """

    def __init__(
        self,
        layer: Any,
        shapes: dict[str, Any] | None = None,
        inference: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(layer, dict):
            layer = keras.saving.deserialize_keras_object(layer)
        super().__init__(**{"name": layer.name, "dtype": "float32", **kwargs})
        self.shapes = layer.get_build_config() if shapes is None else shapes
        if not layer.built and self.shapes:
            layer.build_from_config(self.shapes)
        self.layer = layer
        self.inference = bool(inference)
        self.supports_masking = True
        self.built = True

    def build(self, *args: Any, **kwargs: Any) -> None:
        """The layer was built with it."""

    def call(self, *args: Any, training: bool = False, **kwargs: Any) -> Any:
        if self.layer._call_has_training_arg:
            kwargs["training"] = training and not self.inference
        trainable, other = self.layer.trainable_variables, self.layer.non_trainable_variables
        outputs, updated = self.layer.stateless_call(
            self._values(trainable), self._values(other), *args, **kwargs
        )
        for variable, value in zip(other, updated, strict=True):
            # Batch statistics and seeds move on; frozen kernels stay what they are.
            if not _is_kernel(variable):
                variable.assign(value)
        return outputs

    def _values(self, variables: Sequence[Any]) -> list[Any]:
        return [self._rounded(v) if _is_kernel(v) else ops.convert_to_tensor(v) for v in variables]

    def _rounded(self, variable: Any) -> Any:
        kernel = ops.convert_to_tensor(variable)
        if isinstance(self.layer, keras.layers.Embedding):
            largest = ops.stop_gradient(ops.maximum(ops.max(ops.abs(kernel)), 1e-6))
            return fake_quant_with_min_max_vars(kernel, -largest, largest, narrow_range=True)
        depthwise = isinstance(
            self.layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
        )
        shape = kernel.shape
        if depthwise:
            kernel = ops.reshape(kernel, (*shape[:-2], shape[-2] * shape[-1]))
        largest = ops.max(ops.abs(kernel), axis=tuple(range(len(kernel.shape) - 1)))
        largest = ops.stop_gradient(ops.maximum(largest, 1e-6))
        rounded = fake_quant_with_min_max_vars(
            kernel, -largest, largest, narrow_range=True, axis=-1
        )
        return ops.reshape(rounded, shape) if depthwise else rounded

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_mask(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**config, "layer": layer, "shapes": self.shapes, "inference": self.inference}


def _is_kernel(variable: Any) -> bool:
    return len(variable.shape) >= 2 and "float" in keras.backend.standardize_dtype(variable.dtype)
