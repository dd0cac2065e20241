"""The ways from task losses to gradients, one class each."""

from mtl_keras.trainer.strategies.base import (
    GradientUpdate,
    Scope,
    Strategy,
    get,
    names,
    register,
)
from mtl_keras.trainer.strategies.gradients import FromGradients
from mtl_keras.trainer.strategies.gram import FromGram
from mtl_keras.trainer.strategies.held_out import FromHeldOut
from mtl_keras.trainer.strategies.losses import FromLosses
from mtl_keras.trainer.strategies.samples import FromSamples

__all__ = [
    "FromGradients",
    "FromGram",
    "FromHeldOut",
    "FromLosses",
    "FromSamples",
    "GradientUpdate",
    "Scope",
    "Strategy",
    "get",
    "names",
    "register",
]
