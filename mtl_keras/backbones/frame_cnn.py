"""A trunk for video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import rank_input
from mtl_keras.backbones.trunks import as_trunk
from mtl_keras.graph import has_graph, inline
from mtl_keras.layers import FoldFrames, UnfoldFrames

__all__ = ["frame_cnn"]


def frame_cnn(
    inputs: Any,
    encoder: str | Callable[..., Any] | keras.Model = "small_cnn",
    pooling: str = "mean",
    units: int = 64,
    encoder_options: Mapping[str, Any] | None = None,
    name: str = "frame_cnn",
) -> keras.Model:
    """A network for pictures on every frame, then something over time.

    Args:
        inputs: symbolic video `(rows, frames, height, width, channels)`, with a fixed number of
            frames.
        encoder: a backbone for pictures, by name, function or model; its deepest stage is averaged
            over places.
        pooling: "mean" over frames, "gru" (the last state), or "conv" (a 1-D convolution over 3
            frames, then the largest value).
        units: int. Of the GRU or convolution.
        encoder_options: dict. Arguments of the encoder's function.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1`, a vector a frame `(rows, frames, channels)`, and `stage2`, one a
        video.

    Reference:
        Donahue et al., "Long-term Recurrent Convolutional Networks", CVPR 2015 (recurrent over
        frames).
    """
    from mtl_keras.backbones import get

    rank_input("frame_cnn", inputs, 5, "video (rows, frames, height, width, channels)")
    if pooling not in ("mean", "gru", "conv"):
        raise ValueError(
            f"Backbone 'frame_cnn': pooling is 'mean', 'gru' or 'conv', got {pooling!r}."
        )
    frames = inputs.shape[1]
    if frames is None:
        raise ValueError(
            f"Backbone 'frame_cnn' needs a fixed number of frames, got {tuple(inputs.shape)}."
        )
    x = FoldFrames(name=f"{name}_fold")(inputs)
    options = dict(encoder_options or {})
    if isinstance(encoder, str):
        options.setdefault("name", f"{name}_{encoder}")
    picture = keras.Input(x.shape[1:])
    if isinstance(encoder, keras.Model):
        model = as_trunk(encoder, picture)
    else:
        model = (get(encoder) if isinstance(encoder, str) else encoder)(picture, **options)
        if not isinstance(model, keras.Model):
            model = keras.Model(picture, model)
        model = model if has_graph(model) else as_trunk(model, picture)
    stages = inline(model, x)
    x = list(stages.values())[-1] if isinstance(stages, dict) else stages
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D(name=f"{name}_places")(x)
    x = UnfoldFrames(frames, name=f"{name}_stage1")(x)
    if pooling == "mean":
        y = layers.GlobalAveragePooling1D(name=f"{name}_stage2")(x)
    elif pooling == "gru":
        y = layers.GRU(units, name=f"{name}_stage2")(x)
    else:
        y = layers.Conv1D(units, 3, padding="same", activation="relu", name=f"{name}_time")(x)
        y = layers.GlobalMaxPooling1D(name=f"{name}_stage2")(y)
    return keras.Model(inputs, {"stage1": x, "stage2": y}, name=name)
