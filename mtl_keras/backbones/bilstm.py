"""A bidirectional LSTM over token ids."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.text import embedded_tokens, largest

__all__ = ["bilstm"]


def bilstm(
    inputs: Any,
    vocabulary_size: int,
    embedding_dim: int = 64,
    units: int = 64,
    dropout: float = 0.2,
    mask_padding: bool = True,
    name: str = "bilstm",
) -> keras.Model:
    """Embedded tokens through one bidirectional LSTM (Schuster & Paliwal 1997; Hochreiter &
    Schmidhuber 1997).

    Args:
        inputs: symbolic tensor of token ids, shape `(rows, length)`; 0 is padding and comes last.
            Padding is
            masked: both directions read the tokens only, whatever the length they are padded to.
        vocabulary_size: int. Number of ids, padding and unknown included.
        embedding_dim: int. Length of a token's vector.
        units: int. Units of each direction.
        dropout: float. Dropped part of the embedding and of the pooled vector while training.
        mask_padding: bool. False reads padding as a token like others, as networks did that were
            trained without masks. Defaults to True.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1`, the sequence of states `(rows, length, 2 * units)`, and `stage2`,
        `(rows, 4 * units)`: each unit's largest value over the tokens beside both directions' last
        states.
    """
    if len(inputs.shape) != 2:
        raise ValueError(
            f"Backbone 'bilstm' takes token ids (rows, length), got {tuple(inputs.shape)}."
        )
    x, mask = embedded_tokens(inputs, vocabulary_size, embedding_dim, dropout, name, mask_padding)
    lstm = layers.LSTM(units, return_sequences=True, return_state=True, name=f"{name}_lstm")
    states, forward, _, backward, _ = layers.Bidirectional(lstm, name=f"{name}_stage1")(x)
    pooled = largest(states, mask, f"{name}_pool")
    x = layers.Concatenate(name=f"{name}_stage2")([pooled, forward, backward])
    if dropout:
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return keras.Model(inputs, {"stage1": states, "stage2": x}, name=name)
