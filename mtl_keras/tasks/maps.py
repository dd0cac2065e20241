"""What heads that answer for every place of a picture share."""

from __future__ import annotations

from typing import Any

import keras

from mtl_keras.graph import inputs_of
from mtl_keras.layers.resized import resize_like, resized

__all__ = ["full_size", "map_decoder"]


def map_decoder(
    name: str, features: dict[str, Any], input_shape: Any, channels: int, size: Any = None
) -> Any:
    """A light top-down decoder: from the deepest stage up, each stage's map is brought to
    `channels` channels and added to the resized deeper one (Lin et al., "Feature Pyramid Networks",
    CVPR 2017).

    Args:
        name: the task's, for layers and errors.
        features: stages; those that are no maps are left out.
        input_shape: of one row; it must be an image.
        channels: int.
        size: `(height, width)` of the smallest map that the result may have; stages that are larger
            are left out. None goes up to the largest stage.

    Raises:
        ValueError: no image, or no stage that is a map.
    """
    maps = [x for x in features.values() if len(x.shape) == 4]
    if not maps or input_shape is None or len(input_shape) != 3:
        shapes = {k: tuple(v.shape) for k, v in features.items()}
        raise ValueError(
            f"Task '{name}' answers for places of a picture and needs an image input and stages "
            f"that are feature maps; the "
            f"backbone gives {shapes}."
        )
    if size is not None:
        kept = [
            x
            for x in maps
            if None not in x.shape[1:3] and x.shape[1] <= size[0] and x.shape[2] <= size[1]
        ]
        maps = kept or maps[-1:]
    layers = keras.layers
    x = None
    for level, stage in reversed(list(enumerate(maps, 1))):
        side = layers.Conv2D(channels, 1, name=f"{name}_side{level}")(stage)
        if x is None:
            x = side
        else:
            x = resize_like(x, stage, f"{name}_up{level}")
            x = layers.Add(name=f"{name}_add{level}")([x, side])
        x = layers.ReLU(max_value=6.0, name=f"{name}_relu{level}")(x)
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_smooth")(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def full_size(name: str, x: Any, input_shape: Any, outputs: int) -> Any:
    """A decoder's result brought to the picture's size, with this many channels."""
    x = keras.layers.Conv2D(4 * outputs, 1, name=f"{name}_narrow")(x)
    if None in input_shape[:2]:
        x = resize_like(x, _image_behind(name, x, input_shape), f"{name}_full")
    elif tuple(x.shape[1:3]) != tuple(input_shape[:2]):
        x = resized(x, input_shape[0], input_shape[1], f"{name}_full")
    return keras.layers.Conv2D(outputs, 3, padding="same", name=f"{name}_linear")(x)


def _image_behind(name: str, x: Any, input_shape: Any) -> Any:
    """The image input that features are computed from."""
    images = [tensor for tensor in inputs_of(x) if tuple(tensor.shape[1:]) == tuple(input_shape)]
    if not images:
        raise ValueError(
            f"Task '{name}' answers at the size of its image, and its features should be computed "
            f"from an input of shape "
            f"{tuple(input_shape)}. Received inputs of shapes "
            f"{[tuple(tensor.shape[1:]) for tensor in inputs_of(x)]}."
        )
    return images[0]
