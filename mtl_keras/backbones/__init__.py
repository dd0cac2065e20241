"""Backbones: from an input to features at named stages.

Each is a function of symbolic inputs that returns a `keras.Model` with a dict of stages, ordered from the input to the
deepest. A builder takes one of these names, any such function, or any `keras.Model`.
"""

from collections.abc import Callable

from mtl_keras.backbones.bilstm import bilstm
from mtl_keras.backbones.mlp import mlp
from mtl_keras.backbones.small_cnn import small_cnn
from mtl_keras.names import unknown_name

__all__ = ["bilstm", "get", "mlp", "small_cnn"]

_BACKBONES: dict[str, Callable] = {"bilstm": bilstm, "mlp": mlp, "small_cnn": small_cnn}
#: What a builder calls a backbone's only input where the user gave a bare shape.
INPUT_NAMES = {"bilstm": "tokens", "mlp": "numeric", "small_cnn": "image"}


def get(name: str) -> Callable:
    """The backbone of this name; close names are listed where there is none."""
    if name not in _BACKBONES:
        raise ValueError(unknown_name("backbone", name, _BACKBONES))
    return _BACKBONES[name]
