"""What happens in a training step."""

from mtl_keras.trainer.step import test_step, train_step
from mtl_keras.trainer.training import Training

__all__ = ["Training", "test_step", "train_step"]
