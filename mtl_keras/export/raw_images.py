"""Networks that take pictures as cameras give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from mtl_keras.export.models import functional
from mtl_keras.graph import rewire_graph
from mtl_keras.layers import RawImage
from mtl_keras.runtime.names import unknown_name

__all__ = ["with_raw_images"]


def with_raw_images(
    model: keras.Model,
    size: Sequence[int] | None = None,
    input: str | None = None,
    scale: float | None = None,
    offset: float = 0.0,
) -> keras.Model:
    """The same network behind pre-processing of its own: raw bytes in, resized and scaled inside
    the graph.

    Applications hand over the camera's picture and need no code for it. The result shares the
    layers of the model, and is exported (and calibrated and evaluated, on raw bytes) like any
    other; tasks, names and order are the same. Boxes and points stay parts of the picture's size.

    Args:
        model: functional model with a picture among its inputs.
        size: `(height, width)` of the pictures that come in. None takes the network's own: nothing
            is resized.
        input: name of that input, where there are several pictures.
        scale, offset: the network's numbers are `scale * byte + offset`. None takes the scale of
            the model's `ImageEncoder`, or 1/255.

    Returns:
        A model of the same class, its picture input uint8 `(rows, height, width, channels)`. It has
        no encoder: its input is what an encoder would start from.

    Raises:
        ValueError: no such input, one that is no picture, or several.

    Examples:
        >>> raw = mtl.export.with_raw_images(model, (480, 640))
        >>> mtl.export.tflite(raw, "model.tflite", "int8", calibration=pictures)
    """
    model = functional(model)
    pictures = {
        t.name: t
        for t in model.inputs
        if len(t.shape) == 4 and t.shape[-1] in (1, 3) and None not in t.shape[1:]
    }
    if input is not None and input not in pictures:
        raise ValueError(unknown_name("picture input", input, list(pictures)))
    if input is None and len(pictures) != 1:
        problem = (
            f"several pictures ({', '.join(pictures)}): name one, `input=`"
            if pictures
            else "no picture of fixed size"
        )
        raise ValueError(f"Model '{model.name}' has {problem}.")
    tensor = pictures[input or next(iter(pictures))]
    if scale is None:
        scale = getattr(getattr(model, "encoder", None), "scale", 1 / 255)
    height, width, channels = tensor.shape[1:]
    fresh: dict[str, Any] = {}
    tensors: dict[int, Any] = {}
    for model_input in model.inputs:
        if model_input is tensor:
            fresh[model_input.name] = keras.Input(
                (*(size or (height, width)), channels), dtype="uint8", name=model_input.name
            )
            tensors[id(model_input)] = RawImage(
                (height, width), scale, offset, name=f"{model_input.name}_raw"
            )(fresh[model_input.name])
        else:
            fresh[model_input.name] = tensors[id(model_input)] = keras.Input(
                model_input.shape[1:], dtype=model_input.dtype, name=model_input.name
            )
    rewire_graph(model, tensors, lambda node, args, kwargs: node.operation(*args, **kwargs))
    outputs = {name: tensors[id(output)] for name, output in model.output.items()}
    facts = (
        {"representation": model.representation} if getattr(model, "representation", None) else {}
    )
    return type(model)(
        tree.map_structure(lambda t: fresh[t.name], model.input), outputs, name=model.name, **facts
    )
