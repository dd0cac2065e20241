"""Trunks over token ids: recurrent, convolutional, and a transformer encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import rank_input
from mtl_keras.layers import (
    MaskedMax,
    MaskedMean,
    MaskedSelfAttention,
    MaskPadding,
    PaddingMask,
    PositionEmbedding,
)

__all__ = ["gru", "lstm", "text_cnn", "transformer"]


def embedded_tokens(
    tokens: Any,
    vocabulary_size: int,
    dim: int,
    dropout: float,
    name: str,
    masked: bool,
    keras_mask: bool = True,
) -> tuple[Any, Any]:
    """Token vectors, and the mask `(rows, length)` for layers that take one.

    The embedding itself is `keras.layers.Embedding` without `mask_zero`, so that files from before
    masks keep their layers.

    Args:
        masked: bool. Whether vectors are zero at padding. If not, the mask is None.
        keras_mask: bool. Whether they carry a Keras mask then.
    """
    x = layers.Embedding(vocabulary_size, dim, name=f"{name}_embedding")(tokens)
    mask = None
    if masked:
        mask = PaddingMask(name=f"{name}_mask")(tokens)
        x = MaskPadding(keras_mask, name=f"{name}_masked")([x, mask])
    if dropout:
        x = layers.SpatialDropout1D(dropout, name=f"{name}_embedding_dropout")(x)
    return x, mask


def largest(x: Any, mask: Any, name: str) -> Any:
    """Each channel's largest value over the tokens that count."""
    return (
        layers.GlobalMaxPooling1D(name=name)(x) if mask is None else MaskedMax(name=name)([x, mask])
    )


def lstm(
    inputs: Any,
    vocabulary_size: int,
    embedding_dim: int = 64,
    units: int = 64,
    dropout: float = 0.2,
    unroll: bool = False,
    mask_padding: bool = True,
    name: str = "lstm",
) -> keras.Model:
    """Embedded tokens through an LSTM (Hochreiter & Schmidhuber, Neural Computation 1997).

    Args:
        inputs: symbolic token ids, shape `(rows, length)`; 0 is padding and comes last. Padding is
            masked: the same tokens padded to another length give the same answers, and losses and
                metrics of tokens leave it out.
        vocabulary_size: int. Number of ids, padding and unknown included.
        embedding_dim: int. Length of a token's vector.
        units: int.
        dropout: float. Dropped part of the embedding and of the pooled vector while training.
        unroll: bool. Write the loop out, step by step: the graph grows with the length, and
            converts to full int8.
        mask_padding: bool. False reads padding as a token like others, as networks did that were
            trained without masks. Defaults to True.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1`, the states `(rows, length, units)`, and `stage2`,
        `(rows, 2 units)`: each unit's largest value over the tokens beside the state after the last
        token.
    """
    recurrent = layers.LSTM(
        units, return_sequences=True, return_state=True, unroll=unroll, name=f"{name}_stage1"
    )
    return _recurrent(
        recurrent, inputs, vocabulary_size, embedding_dim, dropout, mask_padding, name
    )


def gru(
    inputs: Any,
    vocabulary_size: int,
    embedding_dim: int = 64,
    units: int = 64,
    dropout: float = 0.2,
    unroll: bool = False,
    mask_padding: bool = True,
    name: str = "gru",
) -> keras.Model:
    """Embedded tokens through a GRU (Cho et al., EMNLP 2014).

    Args:
        inputs, vocabulary_size, embedding_dim, units, dropout, unroll, mask_padding, name: as in
            `lstm`.

    Returns:
        `keras.Model` to `stage1` and `stage2`, as `lstm`.
    """
    recurrent = layers.GRU(
        units, return_sequences=True, return_state=True, unroll=unroll, name=f"{name}_stage1"
    )
    return _recurrent(
        recurrent, inputs, vocabulary_size, embedding_dim, dropout, mask_padding, name
    )


def _recurrent(
    recurrent: Any, inputs: Any, vocabulary: int, dim: int, dropout: float, masked: bool, name: str
) -> keras.Model:
    rank_input(type(recurrent).__name__.lower(), inputs, 2, "token ids (rows, length)")
    x, mask = embedded_tokens(inputs, vocabulary, dim, dropout, name, masked)
    states, last, *_ = recurrent(x)
    x = layers.Concatenate(name=f"{name}_stage2")([largest(states, mask, f"{name}_pool"), last])
    if dropout:
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return keras.Model(inputs, {"stage1": states, "stage2": x}, name=name)


def text_cnn(
    inputs: Any,
    vocabulary_size: int,
    embedding_dim: int = 64,
    filters: int = 64,
    windows: Sequence[int] = (3, 4, 5),
    dropout: float = 0.2,
    mask_padding: bool = True,
    name: str = "text_cnn",
) -> keras.Model:
    """Convolutions of several widths over embedded tokens, each pooled to its largest value (Kim,
    "Convolutional Neural Networks for Sentence Classification", EMNLP 2014).

    Args:
        inputs, vocabulary_size, embedding_dim, dropout, mask_padding, name: as in `lstm`.
        filters: int. Of each width.
        windows: list of int. Widths, in tokens.

    Returns:
        `keras.Model` to `stage1`, all convolutions side by side `(rows, length, filters * widths)`,
        and `stage2`, their largest values `(rows, filters * widths)`.
    """
    rank_input("text_cnn", inputs, 2, "token ids (rows, length)")
    if not windows or min(windows) < 1:
        raise ValueError(
            f"Backbone 'text_cnn' needs windows of at least one token, got {list(windows)}."
        )
    # `Conv1D` passes no mask on, and Keras would warn of it: it reads zeros at padding, as it does
    # beyond a text's end.
    x, mask = embedded_tokens(
        inputs, vocabulary_size, embedding_dim, dropout, name, mask_padding, keras_mask=False
    )
    maps = [
        layers.Conv1D(filters, w, padding="same", activation="relu", name=f"{name}_window{w}")(x)
        for w in windows
    ]
    joined = f"{name}_windows" if mask_padding else f"{name}_stage1"
    x = layers.Concatenate(name=joined)(maps) if len(maps) > 1 else maps[0]
    if mask_padding:
        x = MaskPadding(name=f"{name}_stage1")([x, mask])
    y = largest(x, mask, f"{name}_stage2")
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return keras.Model(inputs, {"stage1": x, "stage2": y}, name=name)


def transformer(
    inputs: Any,
    vocabulary_size: int,
    dim: int = 64,
    heads: int = 4,
    blocks: int = 2,
    hidden: int = 128,
    dropout: float = 0.1,
    name: str = "transformer",
) -> keras.Model:
    """A transformer encoder (Vaswani et al., NeurIPS 2017) with normalization before each part
    (Xiong et al., ICML 2020) and learned positions.

    Args:
        inputs, vocabulary_size, name: as in `lstm`. Padding (id 0) is not attended to.
        dim: int. Length of a token's vector; `heads` divides it.
        heads: int.
        blocks: int >= 1.
        hidden: int. Width of the feed-forward part.
        dropout: float.

    Returns:
        `keras.Model` to `stage1` ... `stage<blocks>`, sequences `(rows, length, dim)`, and one
        stage more, the mean over tokens that are no padding, `(rows, dim)`.
    """
    rank_input("transformer", inputs, 2, "token ids (rows, length)")
    if blocks < 1 or heads < 1 or dim % heads:
        raise ValueError(
            f"Backbone 'transformer' needs blocks >= 1 and heads that divide dim, got {blocks}, "
            f"{heads}, {dim}."
        )
    mask = PaddingMask(name=f"{name}_mask")(inputs)
    x = layers.Embedding(vocabulary_size, dim, name=f"{name}_embedding")(inputs)
    x = MaskPadding(name=f"{name}_masked")([x, mask])
    x = PositionEmbedding(name=f"{name}_positions")(x)
    stages = {}
    for block in range(1, blocks + 1):
        part = f"{name}_stage{block}"
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{part}_attention_norm")(x)
        y = MaskedSelfAttention(heads, dropout, name=f"{part}_attention")([y, mask])
        x = layers.Add(name=f"{part}_attention_add")(
            [x, layers.Dropout(dropout, name=f"{part}_dropout1")(y)]
        )
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{part}_norm")(x)
        y = layers.Dense(hidden, activation="relu", name=f"{part}_hidden")(y)
        y = layers.Dense(dim, name=f"{part}_dense")(y)
        x = layers.Add(name=f"{part}_add")([x, layers.Dropout(dropout, name=f"{part}_dropout2")(y)])
        stages[f"stage{block}"] = x
    x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    stages[f"stage{blocks + 1}"] = MaskedMean(name=f"{name}_mean")([x, mask])
    return keras.Model(inputs, stages, name=name)
