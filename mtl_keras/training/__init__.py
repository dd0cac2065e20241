"""Training: strategies and callbacks around a model."""

from mtl_keras.training.callbacks import Progress

__all__ = ["Progress"]
