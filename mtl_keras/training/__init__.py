"""Training: strategies and callbacks around a model."""

from mtl_keras.training.callbacks import BalanceMonitor, Progress
from mtl_keras.training.custom_loop import balanced_gradients, observe_updated_losses

__all__ = ["BalanceMonitor", "Progress", "balanced_gradients", "observe_updated_losses"]
