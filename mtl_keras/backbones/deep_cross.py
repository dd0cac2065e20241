"""A trunk for tables with crossed features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.mlp import table_vector
from mtl_keras.layers import Cross

__all__ = ["deep_cross"]


def deep_cross(
    inputs: Any,
    crosses: int = 2,
    rank: int | None = None,
    widths: Sequence[int] = (128, 64),
    cardinalities: Sequence[int] | None = None,
    embedding_dim: int = 8,
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    dropout: float = 0.0,
    name: str = "deep_cross",
) -> keras.Model:
    """Products of features of bounded degree beside a dense network (DCN-V2, parallel form).

    Cross layer l: `x_(l+1) = x_0 * (W_l x_l + b_l) + x_l`, on normalized numbers and embedded
    categories x_0. The result is laid beside the dense layers'.

    Args:
        inputs, cardinalities, embedding_dim, mean, variance, dropout, name: as in `mlp`.
        crosses: int >= 1. Cross layers; their result has products of up to `crosses + 1` features.
        rank: int or None. `W_l = U_l V_l` of this rank. None keeps full matrices.
        widths: list of int. Dense layers.

    Returns:
        `keras.Model` to `stage1` (crossed features), `stage2` ... (dense layers), and last both
        side by side.

    Reference:
        Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi, "DCN V2", WWW 2021.
    """
    if crosses < 1:
        raise ValueError(f"Backbone 'deep_cross' needs at least one cross layer, got {crosses}.")
    start = table_vector("deep_cross", inputs, cardinalities, embedding_dim, mean, variance, name)
    x = start
    for level in range(1, crosses + 1):
        x = Cross(rank, name=f"{name}_cross{level}")([start, x])
    stages, y = {"stage1": x}, start
    for level, width in enumerate(widths, 2):
        y = layers.Dense(width, activation="relu", name=f"{name}_stage{level}_dense")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_stage{level}_dropout")(y)
        stages[f"stage{level}"] = y
    if widths:
        stages[f"stage{len(stages) + 1}"] = layers.Concatenate(name=f"{name}_both")([x, y])
    return keras.Model(inputs, stages, name=name)
