"""An ordinary functional Keras model as a multi-task model: `MultiTaskModel.from_keras`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mtl_keras.graph import sublayers
from mtl_keras.runtime.names import check_task_names, unknown_name
from mtl_keras.tasks import Task, TaskOutput
from mtl_keras.tasks.task_output import probabilities_from

__all__ = ["task_graph"]


def task_graph(
    model: Any, tasks: Any, activated: Sequence[str] | None
) -> tuple[Any, dict[str, Any]]:
    """A copy of a model, with the output layers of tasks behind its outputs.

    Args:
        model, tasks, activated: as in `MultiTaskModel.from_keras`.

    Returns:
        Its symbolic inputs, and the tasks' outputs by name.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    tensors = _outputs_by_name(model)
    by_output = _tasks_by_output(tasks, list(tensors))
    names = [task.name for task in by_output.values()]
    check_task_names(names)
    for name in activated or ():
        if name not in names:
            raise ValueError(unknown_name("task in `activated`:", name, names))
    copied = _copy(model, names)
    tensors = _outputs_by_name(copied, list(tensors))
    outputs = {}
    for output, task in by_output.items():
        tensor = tensors[output]
        expected = tuple(size for size in task.output_shape if size is not None)
        if expected and tuple(tensor.shape[1:])[-len(expected) :] != expected:
            raise ValueError(
                f"Output '{output}' has shape {tuple(tensor.shape)}; task '{task.name}' "
                f"({type(task).__name__}) needs "
                f"(rows, {', '.join('any' if size is None else str(size) for size in task.output_shape)})."
            )
        outputs[task.name] = TaskOutput(task, activated=_is_answer(task, tensor, activated))(tensor)
    inputs = copied.input
    if isinstance(inputs, (list, tuple)):
        inputs = {tensor.name: tensor for tensor in inputs} if len(inputs) > 1 else inputs[0]
    return inputs, outputs


def _outputs_by_name(model: Any, names: Sequence[str] | None = None) -> dict[str, Any]:
    if (
        not isinstance(model, keras.Model)
        or not getattr(model, "inputs", None)
        or not getattr(model, "outputs", None)
    ):
        raise ValueError(
            "`from_keras` takes a functional model (or a built Sequential). Received: "
            f"{type(model).__name__}. Call a subclassed model on inputs and name its results: "
            "keras.Model(x, {'digit': ..., 'box': ...})."
        )
    if isinstance(model.output, Mapping):
        if any(not isinstance(tensor, keras.KerasTensor) for tensor in model.output.values()):
            raise ValueError(
                "The outputs of a multi-task model are one tensor per name. Received: a nested "
                "dict."
            )
        return dict(model.output)
    names = list(names or model.output_names)
    if len(set(names)) < len(names):
        raise ValueError(
            f"Several outputs are called {names[0]!r}: name them, keras.Model(inputs, "
            f"{{'digit': ..., 'box': ...}})."
        )
    return dict(zip(names, model.outputs, strict=True))


def _tasks_by_output(tasks: Any, outputs: list[str]) -> dict[str, Task]:
    if isinstance(tasks, Task):
        tasks = [tasks]
    if not isinstance(tasks, Mapping):
        tasks = list(tasks)
        # One output and one task need no names to meet.
        alone = len(tasks) == 1 and len(outputs) == 1 and isinstance(tasks[0], Task)
        tasks = (
            {outputs[0]: tasks[0]}
            if alone
            else {getattr(task, "name", None): task for task in tasks}
        )
    for output, task in tasks.items():
        if not isinstance(task, Task):
            raise TypeError(f"Tasks are objects of mtl_keras.tasks, got {task!r}.")
        if output not in outputs:
            hint = " Tasks go by the names of outputs; a dict of output name to task joins others."
            raise ValueError(unknown_name("output of the Keras model:", output, outputs) + hint)
    return dict(tasks)


def _copy(model: keras.Model, reserved: Sequence[str]) -> keras.Model:
    """A copy with weights of its own; layers that have the name of a task are called
    `<name>_head`."""
    layer_names = {layer.name for layer in model.layers} | set(reserved)
    for tensor in model.inputs:
        if tensor.name in reserved:
            raise ValueError(
                f"Task '{tensor.name}' has the name of an input of the model. Rename the task."
            )

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if config["name"] in reserved:
            name = f"{layer.name}_head"
            while name in layer_names:
                name += "_"
            layer_names.add(name)
            config["name"] = name
        return type(layer).from_config(config)

    copied = keras.models.clone_model(model, clone_function=clone)
    copied.set_weights(model.get_weights())
    for old, new in zip(sublayers(model), sublayers(copied), strict=True):
        if hasattr(old, "save_assets"):
            # Vocabularies of lookup layers are no weights.
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
    return copied


def _is_answer(task: Task, tensor: Any, activated: Sequence[str] | None) -> bool:
    """Whether an output is what the task returns already."""
    if activated is not None:
        return task.name in activated
    source = probabilities_from(tensor) if task.activation else None
    if source is None:
        return False
    kind, layer = source
    if kind != task.activation:
        raise ValueError(
            f"The output of task '{task.name}' comes out of a {kind} (layer '{layer}'); "
            f"{type(task).__name__} means a "
            f"{task.activation}. Take a task that means a {kind}, give the layer's logits, or "
            f"name the task in `activated` "
            "if its outputs are the answers all the same."
        )
    return True
