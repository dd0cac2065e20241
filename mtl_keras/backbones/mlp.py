"""A trunk for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.layers import CategoricalEmbedding

__all__ = ["dense_stages", "mlp", "table_vector"]


def mlp(
    inputs: Any,
    widths: Sequence[int] = (128, 64),
    cardinalities: Sequence[int] | None = None,
    embedding_dim: int = 8,
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    dropout: float = 0.0,
    normalize: bool = True,
    name: str = "mlp",
) -> keras.Model:
    """Normalized numbers and embedded categories, side by side, into dense layers.

    Args:
        inputs: symbolic tensor `(rows, numbers)`, or a dict with `numeric` (floats) and / or
            `categorical` (ids, shape `(rows, columns)`).
        widths: list of int. Units of each dense layer; each is one stage.
        cardinalities: list of int. How many ids each categorical column has; needed where there are
            any.
        embedding_dim: int. Length of a category's vector.
        mean, variance: list of float, one a number. What the input is normalized with; a
            `mtl_keras.data.TableEncoder` measures them. None leaves the numbers as they are.
        dropout: float. Dropped part of each layer while training.
        normalize: bool. Batch normalization after each dense layer.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to a dict of stages, `stage1` to `stage<n>`.
    """
    x = table_vector("mlp", inputs, cardinalities, embedding_dim, mean, variance, name)
    return keras.Model(inputs, dense_stages(x, widths, dropout, normalize, name), name=name)


def dense_stages(
    x: Any, widths: Sequence[int], dropout: float, normalize: bool, name: str
) -> dict[str, Any]:
    """Dense layers, each of which is a stage, `stage1` to `stage<n>`.

    Args:
        x: symbolic vectors `(rows, units)`.
        widths, dropout, normalize, name: as in `mlp`.
    """
    stages = {}
    for level, width in enumerate(widths, 1):
        x = layers.Dense(width, use_bias=not normalize, name=f"{name}_stage{level}_dense")(x)
        if normalize:
            x = layers.BatchNormalization(momentum=0.95, name=f"{name}_stage{level}_norm")(x)
        x = layers.ReLU(name=f"{name}_stage{level}_relu")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_stage{level}_dropout")(x)
        stages[f"stage{level}"] = x
    return stages


def table_vector(
    backbone: str,
    inputs: Any,
    cardinalities: Sequence[int] | None,
    embedding_dim: int,
    mean: Sequence[float] | None,
    variance: Any,
    name: str,
) -> Any:
    """Normalized numbers and embedded categories, side by side.

    Raises:
        ValueError: inputs of other names, categories without cardinalities, mean without variance.
    """
    columns = (
        inputs
        if isinstance(inputs, dict)
        else {"categorical" if inputs.name == "categorical" else "numeric": inputs}
    )
    unknown = set(columns) - {"numeric", "categorical"}
    if unknown:
        raise ValueError(
            f"Backbone '{backbone}' takes inputs 'numeric' and 'categorical', got also "
            f"{sorted(unknown)}."
        )
    parts = []
    if "numeric" in columns:
        x = columns["numeric"]
        if (mean is None) != (variance is None):
            raise ValueError(f"Backbone '{backbone}' needs mean and variance together, or neither.")
        if mean is not None:
            x = layers.Normalization(
                mean=list(mean), variance=list(variance), name=f"{name}_normalization"
            )(x)
        parts.append(x)
    if "categorical" in columns:
        if cardinalities is None:
            raise ValueError(
                f"Backbone '{backbone}' needs `cardinalities`, the number of ids of each "
                f"categorical column."
            )
        embedding = CategoricalEmbedding(cardinalities, embedding_dim, name=f"{name}_embedding")
        parts.append(embedding(columns["categorical"]))
    return parts[0] if len(parts) == 1 else layers.Concatenate(name=f"{name}_concat")(parts)
