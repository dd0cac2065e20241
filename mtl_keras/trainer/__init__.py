"""What happens in a training step."""

from mtl_keras.trainer import strategies
from mtl_keras.trainer.compiled_tasks import CompiledTasks
from mtl_keras.trainer.step import test_step, train_step

__all__ = ["CompiledTasks", "strategies", "test_step", "train_step"]
