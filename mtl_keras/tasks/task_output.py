"""The last layer of every head."""

from __future__ import annotations

import copy
from typing import Any

import keras

from mtl_keras.graph import layer_of, node_of, output_index
from mtl_keras.tasks.task import Task
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["TaskOutput", "probabilities_from"]

#: Operations and activations whose results are probabilities.
_PROBABILITIES = {
    "softmax": "softmax",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
    "hardsigmoid": "sigmoid",
}
#: Operations that leave probabilities what they are, or average them: of members of an ensemble, or
#: of views of one input.
_KEEP_PROBABILITIES = frozenset(
    """
    Add Average Cast Concatenate Cropping1D Cropping2D Divide Dropout ExpandDims Flatten GetItem GlobalAveragePooling1D
    GlobalAveragePooling2D Identity Mean Multiply Permute Reshape ResizeLike Resizing Squeeze Stack Sum Transpose TrueDivide
    UpSampling2D
    """.split()  # noqa: SIM905
)


def probabilities_from(tensor: Any) -> tuple[str, str] | None:
    """Whether a symbolic tensor holds probabilities already.

    Args:
        tensor: symbolic tensor.

    Returns:
        `("softmax" or "sigmoid", name of the layer that makes them)`, or None: a layer with such an
        activation, `Softmax`, the output of another model or task that ends in one, and averages
        and reshapings of nothing but these.
    """
    operation = layer_of(tensor)
    if operation is None:
        return None
    if isinstance(operation, keras.Model):
        return _inside(operation, output_index(tensor))
    if isinstance(operation, TaskOutput):
        activation = operation.task.activation
        return None if activation is None else (activation, operation.name)
    kind = _PROBABILITIES.get(type(operation).__name__.lower())
    layer = (
        getattr(operation, "layer", None)
        if isinstance(operation, keras.layers.Wrapper)
        else operation
    )
    activation = getattr(layer, "activation", None)
    if kind is None and activation is not None and not isinstance(layer, keras.layers.RNN):
        kind = _PROBABILITIES.get(getattr(activation, "__name__", ""))
    if kind is not None:
        return kind, operation.name
    if type(operation).__name__ not in _KEEP_PROBABILITIES:
        return None
    sources = [probabilities_from(x) for x in node_of(tensor).input_tensors]
    if (
        not sources
        or None in sources
        or len({source[0] for source in sources if source is not None}) > 1
    ):
        return None
    return sources[0]


def _inside(model: keras.Model, index: int) -> tuple[str, str] | None:
    """The same of one output of a model that is called as a layer."""
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    return probabilities_from(outputs[index]) if index < len(outputs) else None


@keras.saving.register_keras_serializable("mtl_keras")
class TaskOutput(keras.layers.Layer):
    """Ends a head: applies its task's output activation, in float32, under the task's name.

    The layer carries its task, so a model knows what its outputs mean after cloning and after
    loading.

    Args:
        task: `Task`.
        tie: `WeightTie` or None. A penalty of the whole model, which has no place of its own in the
            graph.
        activated: bool or None. True: the tensor is the task's answer already (probabilities, for a
            class) and passes as it is. False: the task's activation is applied, whatever comes in.
            None, the default, is False, and refuses what visibly holds probabilities.
        separate: what a separate network for each task would be, for `summary_sharing`; carried as
            `tie` is. JSON, an object with `to_json()`, or None.

    Raises:
        ValueError: the activation would be applied to probabilities: a second softmax keeps the
            order of the classes, brings their probabilities close together, and leaves the loss a
            bound that no training passes.

    Examples:
        >>> digit = mtl.tasks.Classification("digit", num_classes=10)
        >>> x = keras.Input((64,))
        >>> logits = keras.layers.Dense(10)(x)
        >>> model = mtl.MultiTaskModel(x, {"digit": mtl.tasks.TaskOutput(digit)(logits)})
    """

    def __init__(
        self,
        task: Task | dict[str, Any],
        tie: Any = None,
        activated: bool | None = None,
        separate: Any = None,
        **kwargs: Any,
    ):
        if isinstance(task, dict):
            task = keras.saving.deserialize_keras_object(task)
        if not isinstance(task, Task):
            raise TypeError(
                f"TaskOutput needs a task (mtl_keras.tasks), got {type(task).__name__}."
            )
        kwargs["name"] = task.name
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        # Losses and metrics read the mask from the output, as Keras's own do.
        self.supports_masking = True
        # A task whose scale is measured by `fit` is the model's own: the user's stays as it is.
        self.task = copy.copy(task) if getattr(task, "needs_fit", False) else task
        self.separate = separate
        self.tie = keras.saving.deserialize_keras_object(tie) if isinstance(tie, dict) else tie
        self.activated = activated

    def build(self, input_shape: Any) -> None:
        if getattr(self.task, "counts_classes", False):
            # 0 until `fit` has counted: see `mtl_keras.trainer.class_counts`.
            task: Any = self.task
            shape = task.class_weights_shape
            self.class_weights = self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name="class_weights"
            )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        if self.activated is None:
            if isinstance(inputs, keras.KerasTensor):
                self._refuse_probabilities(inputs)
            self.activated = False
        return super().__call__(inputs, *args, **kwargs)

    def _refuse_probabilities(self, inputs: Any) -> None:
        activation = self.task.activation
        source = probabilities_from(inputs) if activation else None
        if source is None:
            return
        kind, layer = source
        message = (
            f"Task '{self.name}' ends in a {activation}, and what it gets comes out of a {kind} "
            f"already (layer '{layer}'): "
            f"probabilities would pass a second one. Give it logits (that layer without its "
            f"activation)"
        )
        if kind == activation:
            message += (
                ", or say that these are the probabilities: `TaskOutput(task, activated=True)`; "
                "for a whole model, "
                "`MultiTaskModel.from_keras(model, tasks)`"
            )
        raise ValueError(message + ".")

    def call(self, inputs: Any, mask: Tensor | None = None) -> Tensor:
        output = inputs if self.activated else self.task.activate(inputs)
        return output if mask is None else self.task.mask_output(output, mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> Config:
        config: Config = super().get_config()
        del config["dtype"]
        config["task"] = keras.saving.serialize_keras_object(self.task)
        config["activated"] = bool(self.activated)
        if self.tie is not None:
            config["tie"] = keras.saving.serialize_keras_object(self.tie)
        if self.separate is not None:
            config["separate"] = (
                self.separate if isinstance(self.separate, str) else self.separate.to_json()
            )
        return config

    @classmethod
    def from_config(cls, config: Config) -> TaskOutput:
        # Files from before this argument: what they hold was not checked then, and loads as it is.
        return cls(**{"activated": False, **config})
