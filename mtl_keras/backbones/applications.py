"""Backbones that wrap `keras.applications`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import image_input, rescaled
from mtl_keras.graph import inline, layer_of, nodes_of_layer

__all__ = ["efficientnet_v2_b0", "mobilenet_v2", "mobilenet_v3_small"]

# Scale and offset, on values from 0 to 255, of what the networks were trained on.
_MINUS_ONE_TO_ONE = (1 / 127.5, -1.0)
# Mean and standard deviation of ImageNet's channels (red, green, blue), on values from 0 to 1.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mobilenet_v2(
    inputs: Any,
    alpha: float = 1.0,
    weights: str | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    name: str = "mobilenet_v2",
) -> keras.Model:
    """MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018), from `keras.applications`.

    Args:
        inputs: symbolic images `(rows, height, width, 3)`.
        alpha: float. Factor on all widths.
        weights: None, "imagenet" (Keras downloads them, for 3 channels), or the path of a weights
            file.
        value_range: `(low, high)` of the images' values; they are scaled to what the network was
            trained on.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1` (half the image's size) ... `stage5` (1/32).
    """
    image_input("mobilenet_v2", inputs)

    def make(x: Any) -> keras.Model:
        return keras.applications.MobileNetV2(
            input_tensor=x, alpha=alpha, include_top=False, weights=weights
        )

    return _wrap(inputs, make, value_range, _MINUS_ONE_TO_ONE, name, weights is not None)


def mobilenet_v3_small(
    inputs: Any,
    alpha: float = 1.0,
    minimalistic: bool = False,
    weights: str | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    name: str = "mobilenet_v3_small",
) -> keras.Model:
    """MobileNetV3-Small (Howard et al., "Searching for MobileNetV3", ICCV 2019), from
    `keras.applications`.

    Args:
        inputs, alpha, weights, value_range, name: as in `mobilenet_v2`.
        minimalistic: bool. Without squeeze-and-excitation, hard-swish and 5 x 5 kernels: int8 runs
            as one delegate partition instead of many.

    Returns:
        `keras.Model` to `stage1` ... `stage5`.
    """
    image_input("mobilenet_v3_small", inputs)

    def make(x: Any) -> keras.Model:
        return keras.applications.MobileNetV3Small(
            input_tensor=x,
            alpha=alpha,
            minimalistic=minimalistic,
            include_top=False,
            weights=weights,
            include_preprocessing=False,
        )

    return _wrap(inputs, make, value_range, _MINUS_ONE_TO_ONE, name, weights is not None)


def efficientnet_v2_b0(
    inputs: Any,
    weights: str | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    name: str = "efficientnet_v2_b0",
) -> keras.Model:
    """EfficientNetV2-B0 (Tan & Le, ICML 2021), from `keras.applications`.

    Args:
        inputs, weights, value_range, name: as in `mobilenet_v2`.

    Returns:
        `keras.Model` to `stage1` ... `stage5`.

    Note:
        Keras's documentation says that this network takes -1 to 1. Its code says otherwise, and is
        right: B0 to B3 were trained on `(x / 255 - mean) / deviation` by channel. That is what the
            first layer makes of the images here, too; as
        in Keras, images that have not 3 channels (no trained weights fit them) become
        `x / 128 - 1`.
    """
    image_input("efficientnet_v2_b0", inputs)
    trained_on: tuple[Any, Any] = (1 / 128, -1.0)
    if inputs.shape[-1] == 3:
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        trained_on = (
            scale,
            [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
        )

    def make(x: Any) -> keras.Model:
        return keras.applications.EfficientNetV2B0(
            input_tensor=x, include_top=False, weights=weights, include_preprocessing=False
        )

    return _wrap(inputs, make, value_range, trained_on, name, weights is not None)


def _wrap(
    inputs: Any,
    make: Any,
    value_range: Sequence[float],
    trained_on: tuple[Any, Any],
    name: str,
    trained: bool,
) -> keras.Model:
    """The application's network on these inputs, its layers under our prefix, with a stage for
    every size."""
    x = rescaled(inputs, value_range, *trained_on, name)
    # Random weights are drawn once, in the copies: the template's variables stay empty.
    with contextlib.nullcontext() if trained else keras.StatelessScope(initialize_variables=False):
        template = make(keras.Input(inputs.shape[1:]))

    def renamed(layer: Any) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "name": f"{name}_{layer.name}"})

    ends = {f"stage{i}": tensor for i, tensor in enumerate(_ends(template), 1)}
    staged = keras.Model(template.inputs, ends)
    model = keras.Model(inputs, inline(staged, x, renamed), name=name)
    if trained:
        model.set_weights(staged.get_weights())
    return model


def _ends(model: keras.Model) -> list[Any]:
    """For every size of map the end of its last block, and the output for the deepest.

    Of the tensors through which all must pass that is the last sum, or, where a size has none, the
    narrowest, the last of
    equals: what expands a block for the next size is wider.
    """
    order = [layer for layer in model.layers if isinstance(layer.output, keras.KerasTensor)]
    position = {id(layer): i for i, layer in enumerate(order)}
    until = [0] * len(order)
    for i, layer in enumerate(order):
        for node in nodes_of_layer(layer):
            for tensor in node.input_tensors:
                before = position.get(id(layer_of(tensor)))
                if before is not None:
                    until[before] = max(until[before], i)
    stage_ends: dict[tuple[int, ...], Any] = {}
    sums: set[tuple[int, ...]] = set()
    open_until = 0
    for i, layer in enumerate(order):
        tensor = layer.output
        # Paddings make sizes that belong to no stage.
        if (
            i
            and open_until <= i
            and len(tensor.shape) == 4
            and not isinstance(layer, layers.ZeroPadding2D)
        ):
            size = tuple(tensor.shape[1:3])
            if isinstance(layer, layers.Add):
                sums.add(size)
                stage_ends[size] = tensor
            elif size not in stage_ends or (
                size not in sums and tensor.shape[-1] <= stage_ends[size].shape[-1]
            ):
                stage_ends[size] = tensor
        open_until = max(open_until, until[i])
    last = model.output
    stage_ends[tuple(last.shape[1:3])] = last
    full = tuple(model.inputs[0].shape[1:3])
    return [tensor for size, tensor in stage_ends.items() if size != full]
