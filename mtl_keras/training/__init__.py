"""Strategies around a model's training; balancing in a training loop of one's own."""

from mtl_keras.training.custom_loop import balanced_gradients, observe_updated_losses

__all__ = ["balanced_gradients", "observe_updated_losses"]
