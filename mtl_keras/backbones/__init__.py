"""Backbones: from an input to features at named stages.

Each is a function of symbolic inputs that returns a `keras.Model` with a dict of stages, ordered
from the input to the deepest. A builder takes one of these names, any such function, or any
`keras.Model`.
"""

from collections.abc import Callable
from typing import Any

from mtl_keras.backbones.applications import efficientnet_v2_b0, mobilenet_v2, mobilenet_v3_small
from mtl_keras.backbones.bilstm import bilstm
from mtl_keras.backbones.deep_cross import deep_cross
from mtl_keras.backbones.efficientnet_lite0 import efficientnet_lite0
from mtl_keras.backbones.fpn import fpn
from mtl_keras.backbones.frame_cnn import frame_cnn
from mtl_keras.backbones.mixed import mixed
from mtl_keras.backbones.mlp import mlp
from mtl_keras.backbones.resnet import resnet
from mtl_keras.backbones.small_cnn import small_cnn
from mtl_keras.backbones.sound import log_mel_cnn
from mtl_keras.backbones.text import gru, lstm, text_cnn, transformer
from mtl_keras.runtime.names import unknown_name

__all__ = [
    "bilstm",
    "deep_cross",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "fpn",
    "frame_cnn",
    "get",
    "gru",
    "log_mel_cnn",
    "lstm",
    "mixed",
    "mlp",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet",
    "small_cnn",
    "text_cnn",
    "transformer",
]

_IMAGE = (
    small_cnn,
    resnet,
    mobilenet_v2,
    mobilenet_v3_small,
    efficientnet_lite0,
    efficientnet_v2_b0,
    fpn,
)
_TEXT = (bilstm, gru, lstm, text_cnn, transformer)
_TABLE = (deep_cross, mixed, mlp)
_BACKBONES: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (*_IMAGE, *_TEXT, *_TABLE, log_mel_cnn, frame_cnn)
}


#: What a builder calls a backbone's only input where the user gave a bare shape.
INPUT_NAMES = {
    **{f.__name__: "image" for f in _IMAGE},
    **{f.__name__: "tokens" for f in _TEXT},
    **{f.__name__: "numeric" for f in _TABLE},
    "log_mel_cnn": "waveform",
    "frame_cnn": "video",
}


def get(name: str) -> Callable[..., Any]:
    """The backbone of this name; close names are listed where there is none."""
    if name not in _BACKBONES:
        raise ValueError(unknown_name("backbone", name, _BACKBONES))
    return _BACKBONES[name]
