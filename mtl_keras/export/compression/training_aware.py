"""Quantization-aware training, native to Keras 3: a network that computes as its int8 file will,
and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
from keras import layers, tree

from mtl_keras.export.models import functional
from mtl_keras.graph import nodes, rewire_graph
from mtl_keras.layers import FakeQuantize, QuantizedWeights
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import TaskOutput

__all__ = ["float_twin", "is_quantization_aware", "own_layers", "quantization_aware"]

#: Results on the scale of their inputs.
_SAME = (
    layers.Cropping1D, layers.Cropping2D, layers.Dropout, layers.Flatten, layers.MaxPooling1D, layers.MaxPooling2D,
    layers.Permute, layers.RepeatVector, layers.Reshape, layers.SpatialDropout1D, layers.SpatialDropout2D,
    layers.UpSampling1D, layers.UpSampling2D, layers.ZeroPadding1D, layers.ZeroPadding2D,
)  # fmt: skip
#: Layers into which the converter folds a batch normalization and an activation.
_KERNELS = (
    layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.Dense,
)  # fmt: skip
#: Ranges that the file's operators have by themselves.
_FIXED = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
_SUMS = (layers.Add, layers.Subtract, layers.Multiply)


def quantization_aware(
    model: keras.Model, keep_float: Collection[str] = (), momentum: float = 0.99
) -> keras.Model:
    """A copy of a model that rounds weights and activations as an int8 file does, to be trained on
    for a few epochs.

    It is a model like the given one: the same tasks, names and outputs; compile it with any
    balancer, train it with missing labels, save and load it. `mtl.export.tflite` exports it (its
    weights in the float network, ranges measured anew on the calibration data), and `float_twin`
    gives the float network back. Batch normalization keeps its statistics, as in the file, where it
    is folded into the layer before: with a scale a channel, rounding and folding commute.

    Args:
        model: functional model in float32, trained.
        keep_float: names of tasks, whose own layers are not rounded, or of layers.
        momentum: float in [0, 1). How slowly the ranges of activations shrink.

    Raises:
        ValueError: an unknown name; a model that is quantization-aware already.
        ExportError: a mixed-precision model, or one with nested models.

    Examples:
        >>> aware = mtl.export.quantization_aware(model)
        >>> aware.compile(keras.optimizers.Adam(1e-4), balancer="uncertainty")
        >>> aware.fit(train, epochs=2)
        >>> mtl.export.tflite(aware, "model.tflite", "int8", calibration=train)

    Reference:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018. Departing from it, weights have a scale a
        channel (Krishnamoorthi, 2018), and ranges never cut off the batch at
        hand: the file's ranges, measured on calibration data, do not either.
    """
    model = functional(model)
    if is_quantization_aware(model):
        raise ValueError(f"Model '{model.name}' is quantization-aware already.")
    floats = own_layers(model, keep_float, "keep_float")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise ExportError(
                f"Layer '{layer.name}' is a model of its own; give a flat functional model."
            )
        policy = getattr(layer.dtype_policy, "name", "float32")
        if policy.startswith("mixed_") or policy in ("float16", "bfloat16"):
            raise ExportError(
                f"Layer '{layer.name}' computes in {layer.dtype_policy.name}: int8 is trained in "
                f"float32."
            )
    consumers: dict[int, list[Any]] = {}
    for node in nodes(model):
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node.operation)

    def copy_layer(layer: Any) -> Any:
        copy = _clone(layer)
        norm = isinstance(layer, layers.BatchNormalization)
        if (layer.name in floats and not norm) or not (
            norm or any(len(v.shape) >= 2 for v in layer.weights)
        ):
            return copy
        return QuantizedWeights(copy, layer.get_build_config(), inference=norm)

    def after(operation: Any, tensor: Any, output: Any, place: int) -> Any:
        if operation.name in floats or not _rounds(
            operation, tensor, consumers.get(id(tensor), [])
        ):
            return output
        name = f"{operation.name}_range" + (f"_{place}" if place else "")
        return FakeQuantize(momentum, _fixed(operation), name=name)(output)

    def start(tensor: Any, fresh: Any) -> Any:
        if "float" not in tensor.dtype or all(
            op.name in floats for op in consumers.get(id(tensor), [])
        ):
            return fresh
        return FakeQuantize(momentum, name=f"{tensor.name}_range")(fresh)

    return _replayed(model, copy_layer, after, start)


def float_twin(model: keras.Model) -> keras.Model:
    """The float network of a quantization-aware one, with its weights.

    Raises:
        ValueError: the model is not quantization-aware.

    Examples:
        >>> plain = mtl.export.float_twin(aware)
    """
    if not is_quantization_aware(model):
        raise ValueError(
            f"Model '{model.name}' is not quantization-aware: it is its own float network."
        )

    def copy_layer(layer: Any) -> Any:
        return _clone(layer.layer if isinstance(layer, QuantizedWeights) else layer)

    return _replayed(
        model,
        copy_layer,
        lambda operation, tensor, output, place: output,
        lambda tensor, fresh: fresh,
    )


def is_quantization_aware(model: keras.Model) -> bool:
    """Whether a model rounds as it computes."""
    return any(isinstance(layer, (FakeQuantize, QuantizedWeights)) for layer in model.layers)


def _clone(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _replayed(
    model: keras.Model,
    made: Callable[[Any], Any],
    after: Callable[[Any, Any, Any, int], Any],
    start: Callable[[Any, Any], Any],
) -> keras.Model:
    """A model of the same structure with other layers: `made` of each, `after` what follows its
    result; ranges fall away."""
    inputs = {
        id(t): keras.Input(t.shape[1:], batch_size=t.shape[0], dtype=t.dtype, name=t.name)
        for t in model.inputs
    }
    tensors = {id(tensor): start(tensor, inputs[id(tensor)]) for tensor in model.inputs}
    copies: dict[int, tuple[Any, Any]] = {}
    calls: dict[int, int] = {}

    def call(node: Any, args: Any, kwargs: Any) -> Any:
        operation = node.operation
        if isinstance(operation, FakeQuantize):
            return args[0]
        if id(operation) not in copies:
            new = made(operation) if isinstance(operation, keras.layers.Layer) else operation
            copies[id(operation)] = (operation, new)
        outputs = tree.flatten(copies[id(operation)][1](*args, **kwargs))
        first = calls.get(id(operation), 0)
        calls[id(operation)] = first + len(outputs)
        pairs = zip(node.outputs, outputs, strict=True)
        return [
            after(operation, tensor, output, first + i) for i, (tensor, output) in enumerate(pairs)
        ]

    rewire_graph(model, tensors, call)
    for old, new in copies.values():
        if isinstance(old, keras.layers.Layer):
            new.set_weights(old.get_weights())
    outputs = {name: tensors[id(tensor)] for name, tensor in model.output.items()}
    facts: dict[str, Any] = {}
    if getattr(model, "encoder", None) is not None:
        facts["encoder"] = model.encoder
    if getattr(model, "representation", None):
        facts["representation"] = model.representation
    return type(model)(
        tree.map_structure(lambda t: inputs[id(t)], model.input), outputs, name=model.name, **facts
    )


def _rounds(operation: Any, tensor: Any, users: Sequence[Any]) -> bool:
    """Whether a tensor of its own stands in the int8 file where this one stands in the network."""
    if "float" not in tensor.dtype or isinstance(operation, (TaskOutput, *_SAME)):
        return False
    linear = isinstance(operation, _KERNELS) and getattr(operation, "activation", None) in (
        None,
        keras.activations.linear,
    )
    if users and linear and all(isinstance(user, layers.BatchNormalization) for user in users):
        return False
    clipped = linear or isinstance(operation, (layers.BatchNormalization, *_SUMS))
    return not (users and clipped and all(_is_relu(user) for user in users))


def _fixed(operation: Any) -> tuple[float, float] | None:
    if isinstance(operation, layers.Softmax):
        return _FIXED["softmax"]
    return _FIXED.get(getattr(getattr(operation, "activation", None), "__name__", ""))


def _is_relu(layer: Any) -> bool:
    if isinstance(layer, layers.ReLU):
        return (
            layer.max_value in (None, 6, 6.0) and not layer.negative_slope and not layer.threshold
        )
    return isinstance(layer, layers.Activation) and layer.activation in (
        keras.activations.relu,
        keras.activations.relu6,
    )


def own_layers(model: keras.Model, names: Collection[str], argument: str) -> set[str]:
    """Names of layers and operations: those named, and those that one task alone uses which is
    named.

    Raises:
        ValueError: neither a task nor a layer.
    """
    if isinstance(names, str):
        raise ValueError(f"`{argument}` is a list of names: {argument}=[{names!r}].")
    heads = set(names) & set(model.output)
    known = {layer.name for layer in model.layers}
    for name in names:
        if name not in heads and name not in known:
            raise ValueError(
                unknown_name(f"task or layer in `{argument}`:", name, [*model.output, *known])
            )
    below: dict[int, set[str]] = {id(tensor): {name} for name, tensor in model.output.items()}
    layer_names = set(names) - heads
    reached: dict[str, set[str]] = {}
    for node in reversed(nodes(model)):
        leads = set().union(*(below.get(id(t), set()) for t in node.outputs))
        reached.setdefault(node.operation.name, set()).update(leads)
        for tensor in node.input_tensors:
            below.setdefault(id(tensor), set()).update(leads)
    return layer_names | {
        name for name, leads in reached.items() if len(leads) == 1 and leads <= heads
    }
