"""Keras callbacks for multi-task training."""

from mtl_keras.callbacks.balance_monitor import BalanceMonitor
from mtl_keras.callbacks.progress import Progress

__all__ = ["BalanceMonitor", "Progress"]
