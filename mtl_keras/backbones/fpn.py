"""A light feature pyramid on any backbone with maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import image_input
from mtl_keras.backbones.trunks import as_trunk
from mtl_keras.layers.resized import resize_like

__all__ = ["fpn"]


def fpn(
    inputs: Any,
    backbone: str | Callable[..., Any] | keras.Model = "small_cnn",
    channels: int = 48,
    backbone_options: Mapping[str, Any] | None = None,
    name: str = "fpn",
) -> keras.Model:
    """A feature pyramid (Lin, Dollar, Girshick, He, Hariharan, Belongie, CVPR 2017) on another
    backbone: every stage knows what the deeper ones saw.

    From the deepest stage up, each stage is brought to `channels` by a 1 x 1 convolution and added
    to the resized deeper one; a depthwise separable 3 x 3 convolution smooths the sum (the paper's
    is a full one; this is lighter).

    Args:
        inputs: symbolic images.
        backbone: name, function or model whose stages are maps.
        channels: int. Of every stage of the pyramid.
        backbone_options: dict. Arguments of the backbone's function.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to the backbone's stages, each with `channels` channels.

    Raises:
        ValueError: a backbone with stages that are no maps.
    """
    from mtl_keras.backbones import get

    image_input("fpn", inputs)
    if isinstance(backbone, keras.Model):
        model = as_trunk(backbone, inputs)
        inputs = model.input
    else:
        model = (get(backbone) if isinstance(backbone, str) else backbone)(
            inputs, **(backbone_options or {})
        )
    stages = (
        dict(model.output)
        if isinstance(model, keras.Model) and isinstance(model.output, dict)
        else {}
    )
    if not stages or any(len(x.shape) != 4 for x in stages.values()):
        raise ValueError(
            "Backbone 'fpn' needs a backbone whose outputs are a dict of maps (rows, height, "
            "width, channels), got "
            f"{ {k: tuple(v.shape) for k, v in stages.items()} or model }."
        )
    levels, x = {}, None
    for stage, features in reversed(stages.items()):
        side = layers.Conv2D(channels, 1, name=f"{name}_{stage}_side")(features)
        if x is not None:
            x = resize_like(x, side, name=f"{name}_{stage}_up")
            side = layers.Add(name=f"{name}_{stage}_add")([side, x])
        x = side
        y = layers.SeparableConv2D(
            channels, 3, padding="same", use_bias=False, name=f"{name}_{stage}_smooth"
        )(x)
        y = layers.BatchNormalization(momentum=0.95, name=f"{name}_{stage}_norm")(y)
        levels[stage] = layers.ReLU(max_value=6.0, name=f"{name}_{stage}_relu")(y)
    return keras.Model(inputs, {stage: levels[stage] for stage in stages}, name=name)
