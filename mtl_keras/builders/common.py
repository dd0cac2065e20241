"""What all builders share: inputs, backbones and heads put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras import backbones
from mtl_keras.layers import TaskOutput
from mtl_keras.names import check_task_names
from mtl_keras.tasks import Task

__all__ = ["attach_head", "check_tasks", "make_backbone", "make_inputs"]


def check_tasks(tasks: Sequence[Task]) -> list[Task]:
    """A list of tasks with names of their own."""
    if isinstance(tasks, Task):
        tasks = [tasks]
    tasks = list(tasks)
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"Tasks are objects of mtl_keras.tasks, got {task!r}.")
    check_task_names(task.name for task in tasks)
    return tasks


def make_inputs(inputs: Any, backbone: Any) -> Any:
    """Symbolic inputs from a shape, a `keras.Input`, or a dict of these."""
    if isinstance(inputs, keras.KerasTensor):
        return inputs
    if isinstance(inputs, Mapping):
        made = {name: _one_input(name, value) for name, value in inputs.items()}
        return next(iter(made.values())) if len(made) == 1 else made
    if isinstance(inputs, int):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list)):
        raise TypeError(f"`inputs` is the shape of one row, a keras.Input, or a dict of these; got {inputs!r}.")
    return _one_input(backbones.INPUT_NAMES.get(backbone, "inputs"), tuple(inputs))


def _one_input(name: str, value: Any) -> keras.KerasTensor:
    if isinstance(value, keras.KerasTensor):
        return value
    dtype = "int32" if name in ("tokens", "categorical") else "float32"
    return keras.Input(tuple(value), dtype=dtype, name=name)


def make_backbone(backbone: str | Callable | keras.Model, inputs: Any, options: Mapping[str, Any] | None) -> keras.Model:
    """A backbone's model on these inputs, its outputs a dict of stages.

    A `keras.Model` is used as it is, with its own inputs and weights; any other callable is called with the inputs.
    """
    options = dict(options or {})
    if isinstance(backbone, keras.Model):
        if options:
            raise ValueError(f"Options {sorted(options)} were given, but the backbone is a model that is built already.")
        model = backbone
    else:
        function = backbones.get(backbone) if isinstance(backbone, str) else backbone
        if not callable(function):
            raise TypeError(f"A backbone is a name, a function of inputs, or a keras.Model; got {backbone!r}.")
        model = function(inputs, **options)
    if not isinstance(model, keras.Model):
        model = keras.Model(inputs, model)
    return model


def stages_of(model: keras.Model) -> dict[str, Any]:
    """The stages of a backbone's model: its dict of outputs, or its outputs numbered."""
    outputs = model.output
    if isinstance(outputs, Mapping):
        return dict(outputs)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return {f"stage{i}": tensor for i, tensor in enumerate(outputs, 1)}


def attach_head(task: Task, features: Mapping[str, Any], inputs: Any) -> keras.KerasTensor:
    """This task's head on these features, ended by its `TaskOutput`."""
    image = inputs if isinstance(inputs, keras.KerasTensor) else next(iter(inputs.values()))
    logits = task.head(dict(features), tuple(image.shape[1:]))
    expected = tuple(s for s in task.output_shape if s is not None)
    found = tuple(logits.shape[1:])
    if expected and found[-len(expected) :] != expected:
        raise ValueError(f"The head of task '{task.name}' ends in shape {found}; the task needs {task.output_shape}.")
    return TaskOutput(task)(logits)
