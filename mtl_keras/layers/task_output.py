"""The last layer of every head."""

from __future__ import annotations

from typing import Any

import keras

from mtl_keras.tasks.task import Task

__all__ = ["TaskOutput"]


@keras.saving.register_keras_serializable("mtl_keras")
class TaskOutput(keras.layers.Layer):
    """Ends a head: applies its task's output activation, in float32, under the task's name.

    The layer carries its task, so a model knows what its outputs mean after cloning and after loading.

    Args:
        task: `Task`.
        tie: `WeightTie` or None. A penalty of the whole model, which has no place of its own in the graph.

    Example:
        >>> digit = mtl.tasks.Classification("digit", num_classes=10)
        >>> x = keras.Input((64,))
        >>> logits = keras.layers.Dense(10)(x)
        >>> model = mtl.MultiTaskModel(x, {"digit": TaskOutput(digit)(logits)})
    """

    def __init__(self, task: Task | dict[str, Any], tie: Any = None, **kwargs: Any):
        if isinstance(task, dict):
            task = keras.saving.deserialize_keras_object(task)
        if not isinstance(task, Task):
            raise TypeError(f"TaskOutput needs a task (mtl_keras.tasks), got {type(task).__name__}.")
        kwargs["name"] = task.name
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        # Losses and metrics read the mask from the output, as Keras's own do.
        self.supports_masking = True
        self.task = task
        self.tie = keras.saving.deserialize_keras_object(tie) if isinstance(tie, dict) else tie

    def call(self, inputs):
        return self.task.activate(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        del config["dtype"]
        config["task"] = keras.saving.serialize_keras_object(self.task)
        if self.tie is not None:
            config["tie"] = keras.saving.serialize_keras_object(self.tie)
        return config
