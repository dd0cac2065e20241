"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import image_input

__all__ = ["resnet"]


def resnet(
    inputs: Any,
    depths: Sequence[int] = (2, 2, 2, 2),
    widths: Sequence[int] = (64, 128, 256, 512),
    stem: str = "imagenet",
    bottleneck: bool = False,
    rescale: float | None = None,
    name: str = "resnet",
) -> keras.Model:
    """A residual network (He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR
    2016).

    The defaults are ResNet-18. `depths=(3, 4, 6, 3)` is ResNet-34, with `bottleneck=True`
    ResNet-50; `stem="cifar"`, `depths=(3, 3, 3)`, `widths=(16, 32, 64)` is the ResNet-20 of the
    paper's CIFAR-10 part.

    Args:
        inputs: symbolic images `(rows, height, width, channels)`.
        depths: list of int. Blocks a stage.
        widths: list of int, as many. Channels a stage (four times as many come out of bottlenecks).
        stem: "imagenet" (7 x 7 convolution and pooling, each of stride 2) or "cifar" (3 x 3 of
            stride 1).
        bottleneck: bool. Blocks of 1 x 1, 3 x 3, 1 x 1 in place of two 3 x 3; the stride is in the
            3 x 3 ("v1.5").
        rescale: float or None. Factor on the input.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1` ... `stage<n>`; each after the first at half the size of the one
        before. Where a block changes the shape its shortcut is a 1 x 1 convolution.
    """
    image_input("resnet", inputs)
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"Backbone 'resnet': stem is 'imagenet' or 'cifar', got {stem!r}.")
    if len(depths) != len(widths) or not depths or min(depths) < 1:
        raise ValueError(
            f"Backbone 'resnet': a depth >= 1 for each width, got {list(depths)} and "
            f"{list(widths)}."
        )

    def conv(x: Any, width: int, kernel: int, stride: int, part: str, relu: bool = True) -> Any:
        x = layers.Conv2D(width, kernel, stride, "same", use_bias=False, name=f"{part}_conv")(x)
        x = layers.BatchNormalization(momentum=0.95, epsilon=1e-5, name=f"{part}_norm")(x)
        return layers.ReLU(name=f"{part}_relu")(x) if relu else x

    x = inputs if rescale is None else layers.Rescaling(rescale, name=f"{name}_rescale")(inputs)
    if stem == "imagenet":
        x = conv(x, widths[0], 7, 2, f"{name}_stem")
        x = layers.MaxPooling2D(3, 2, "same", name=f"{name}_stem_pool")(x)
    else:
        x = conv(x, widths[0], 3, 1, f"{name}_stem")
    stages = {}
    for level, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        out = 4 * width if bottleneck else width
        for block in range(1, depth + 1):
            part, stride = f"{name}_stage{level}_block{block}", 2 if level > 1 and block == 1 else 1
            if bottleneck:
                y = conv(x, width, 1, 1, f"{part}_a")
                y = conv(y, width, 3, stride, f"{part}_b")
                y = conv(y, out, 1, 1, f"{part}_c", relu=False)
            else:
                y = conv(x, width, 3, stride, f"{part}_a")
                y = conv(y, out, 3, 1, f"{part}_b", relu=False)
            if stride > 1 or x.shape[-1] != out:
                x = conv(x, out, 1, stride, f"{part}_shortcut", relu=False)
            x = layers.Add(name=f"{part}_add")([x, y])
            x = layers.ReLU(name=f"{part}_relu")(x)
        stages[f"stage{level}"] = x
    return keras.Model(inputs, stages, name=name)
