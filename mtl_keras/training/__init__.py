"""Training: strategies and callbacks around a model."""

from mtl_keras.training.callbacks import BalanceMonitor, Progress

__all__ = ["BalanceMonitor", "Progress"]
