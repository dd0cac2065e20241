"""A trunk for sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.backbones.common import rank_input
from mtl_keras.backbones.small_cnn import small_cnn
from mtl_keras.graph import inline
from mtl_keras.layers import LogMel

__all__ = ["log_mel_cnn"]


def log_mel_cnn(
    inputs: Any,
    sample_rate: int = 16000,
    hop: int = 160,
    window: int = 480,
    mels: int = 40,
    widths: Sequence[int] = (32, 64, 128),
    depth: int = 2,
    dropout: float = 0.0,
    name: str = "log_mel_cnn",
) -> keras.Model:
    """A waveform through a log-mel front end in the graph and a small convolutional trunk over time
    and frequency.

    Args:
        inputs: symbolic waveforms `(rows, samples)`, -1 to 1.
        sample_rate, hop, window, mels: as in `mtl.layers.LogMel`.
        widths, depth, dropout: as in `small_cnn`.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1` ... `stage<n>`, maps `(rows, time, frequency, channels)`.

    Reference:
        Convolutions over log-mel pictures: Hershey et al., "CNN Architectures for Large-Scale Audio
        Classification", ICASSP 2017.
    """
    rank_input("log_mel_cnn", inputs, 2, "waveforms (rows, samples)")
    x = LogMel(sample_rate, hop, window, mels, name=f"{name}_log_mel")(inputs)
    x = layers.Reshape((*x.shape[1:], 1), name=f"{name}_picture")(x)
    # Loudness differs between recordings: what the convolutions see is centered and scaled.
    x = layers.BatchNormalization(momentum=0.95, name=f"{name}_level")(x)
    trunk = small_cnn(keras.Input(x.shape[1:]), widths, depth, dropout=dropout, name=name)
    return keras.Model(inputs, inline(trunk, x), name=name)
