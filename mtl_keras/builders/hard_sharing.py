"""Hard parameter sharing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.common import attach_head, check_tasks, make_backbone, make_inputs, stages_of
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["hard_sharing"]


def hard_sharing(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable | keras.Model = "small_cnn",
    *,
    backbone_options: Mapping[str, Any] | None = None,
    encoder: Any = None,
    name: str = "hard_sharing",
) -> MultiTaskModel:
    """One trunk for all tasks and a head for each (Caruana, "Multitask Learning: A Knowledge-Based Source of Inductive
    Bias", ICML 1993).

    Args:
        inputs: shape of one row, for example `(32, 32, 3)`; a `keras.Input`; or a dict of these by name. Not used where
            the backbone is a model, which has its own.
        tasks: list of `Task`.
        backbone: name (`mtl.backbones`), function of the symbolic inputs, or any `keras.Model`: its outputs, a dict of
            stages, are what the heads see. A model given here is used itself, with its weights, not copied.
        backbone_options: dict. Arguments of the backbone's function.
        encoder: object of `mtl.data` that makes this network's input from what a person has; saved with the model.
        name: str. The model's name.

    Returns:
        `MultiTaskModel` with one output a task, named like it.

    Raises:
        ValueError: duplicate or invalid task names, an unknown backbone, a task whose name is that of a backbone's
            layer, features that a head can't use.

    Example:
        >>> model = mtl.builders.hard_sharing(
        ...     inputs=(32, 32, 3), backbone="small_cnn",
        ...     tasks=[mtl.tasks.Classification("digit", num_classes=10, loss_weight=0.7),
        ...            mtl.tasks.BoundingBox("box", loss_weight=0.3)])
        >>> sorted(model.output)
        ['box', 'digit']
    """
    tasks = check_tasks(tasks)
    inputs = backbone.input if isinstance(backbone, keras.Model) else make_inputs(inputs, backbone)
    trunk = make_backbone(backbone, inputs, backbone_options)
    taken = {layer.name for layer in trunk.layers}
    for task in tasks:
        if task.name in taken:
            raise ValueError(f"Task '{task.name}' has the name of a layer of the backbone. Rename the task.")
    features = stages_of(trunk)
    outputs = {task.name: attach_head(task, features, inputs) for task in tasks}
    representation = [tensor._keras_history.operation.name for tensor in features.values()]
    return MultiTaskModel(inputs, outputs, encoder=encoder, representation=representation, name=name)
