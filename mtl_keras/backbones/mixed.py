"""A trunk for several inputs of one row: numbers, categories, texts, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.mlp import dense_stages, table_vector
from mtl_keras.backbones.small_cnn import small_cnn
from mtl_keras.backbones.text import text_cnn

__all__ = ["mixed"]

_TABLE = ("numeric", "categorical")


def mixed(
    inputs: Any,
    widths: Sequence[int] = (128, 64),
    units: int = 64,
    vocabulary_sizes: Mapping[str, int] | None = None,
    text_embedding_dim: int = 64,
    cardinalities: Sequence[int] | None = None,
    embedding_dim: int = 8,
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    dropout: float = 0.0,
    normalize: bool = True,
    name: str = "mixed",
) -> keras.Model:
    """A vector per input, side by side, into dense layers.

    Numbers and categories enter as in `mlp`. Token ids go through `text_cnn`, pictures through
    `small_cnn`; their deepest features, as a vector, are brought to `units`.

    Args:
        inputs: dict of symbolic inputs: `numeric`, `categorical`, token ids `(rows, length)` of the
            names in `vocabulary_sizes`, and pictures `(rows, height, width, channels)`.
        widths: list of int. Units of each dense layer; each is one stage.
        units: int. Size of the vector of a text or a picture.
        vocabulary_sizes: dict of input name to the number of token ids.
        text_embedding_dim: int. Length of a token's vector.
        cardinalities, embedding_dim, mean, variance, dropout, normalize: as in `mlp`.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to a dict of stages, `stage1` to `stage<n>`.

    Raises:
        ValueError: an input that is none of these; a vocabulary without an input.

    Examples:
        >>> tokens = keras.Input((20,), dtype="int32", name="title_tokens")
        >>> numbers = keras.Input((3,), name="numeric")
        >>> trunk = mtl.backbones.mixed({"numeric": numbers, "title_tokens": tokens},
        ...     vocabulary_sizes={"title_tokens": 1000})
    """
    vocabulary_sizes = dict(vocabulary_sizes or {})
    tensors = dict(inputs) if isinstance(inputs, Mapping) else {inputs.name: inputs}
    is_bare = not isinstance(inputs, Mapping) and inputs.name not in vocabulary_sizes
    if is_bare and len(inputs.shape) == 2:
        # One bare input of numbers, as `mlp` takes it.
        tensors = {"categorical" if inputs.name == "categorical" else "numeric": inputs}
    unknown = [text for text in vocabulary_sizes if text not in tensors]
    if unknown:
        raise ValueError(
            f"Backbone 'mixed': `vocabulary_sizes` names inputs that are not there: "
            f"{', '.join(unknown)}. Received: inputs {', '.join(tensors)}."
        )

    # === A vector per input ===
    vectors = []
    table = {part: tensors[part] for part in _TABLE if part in tensors}
    if table:
        vectors.append(
            table_vector("mixed", table, cardinalities, embedding_dim, mean, variance, name)
        )
    for part, tensor in tensors.items():
        if part in _TABLE:
            continue
        prefix = f"{name}_{part}"
        if part in vocabulary_sizes:
            trunk = text_cnn(tensor, vocabulary_sizes[part], text_embedding_dim, name=prefix)
        elif len(tensor.shape) == 4:
            trunk = small_cnn(tensor, name=prefix)
        else:
            raise ValueError(
                f"Backbone 'mixed' takes tables, token ids with a vocabulary size, and pictures. "
                f"Received: input '{part}' of shape {tuple(tensor.shape)}."
            )
        x = list(trunk.output.values())[-1]
        if len(x.shape) == 4:
            x = layers.GlobalAveragePooling2D(name=f"{prefix}_pool")(x)
        vectors.append(layers.Dense(units, activation="relu", name=f"{prefix}_vector")(x))

    # === Dense layers ===
    x = vectors[0] if len(vectors) == 1 else layers.Concatenate(name=f"{name}_joined")(vectors)
    return keras.Model(inputs, dense_stages(x, widths, dropout, normalize, name), name=name)
