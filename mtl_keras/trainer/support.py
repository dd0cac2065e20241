"""What training needs of the process it runs in: Keras on TensorFlow, and one machine."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["check_strategy", "check_tensorflow"]


def check_tensorflow(action: str) -> None:
    """Refuse what needs TensorFlow where Keras runs on another backend.

    Args:
        action: what was called, for the message.

    Raises:
        NotImplementedError: Keras runs on another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise NotImplementedError(
            f"`{action}` needs Keras on TensorFlow, and this process runs it on '{backend}': set "
            f"KERAS_BACKEND=tensorflow "
            "before Keras is imported. On every backend builders, forward passes, `predict`, "
            "saving and loading, and "
            "balancers by themselves (`weights`, `aggregate`) work, and `keras.Model(model.input, "
            "model.output)` trains as "
            "plain Keras does, with a sum of losses."
        )


def check_strategy(strategy: Any) -> None:
    """Refuse strategies over several machines.

    Raises:
        NotImplementedError: several workers, or parameter servers.
    """
    # Keras asks the same question in the same way.
    several = (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )
    if several or isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise NotImplementedError(
            f"Training on several machines ({type(strategy).__name__}) does not work with a "
            f"MultiTaskModel yet: use "
            "`tf.distribute.MirroredStrategy` on the GPUs of one machine."
        )
