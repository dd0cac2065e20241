"""Layers that augment pictures inside the network, where labels cannot follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from mtl_keras import tasks as kinds
from mtl_keras.graph import ancestors, layer_of, sublayers
from mtl_keras.tasks import Task

__all__ = ["check_augmentation_layers"]

#: Keras's layers that move pictures in training, and the steps that do it with labels.
_MOVING = {
    "RandomFlip": ("flip",),
    "RandomRotation": ("rotate",),
    "RandomCrop": ("crop",),
    "RandomZoom": ("scale",),
    "RandomTranslation": ("crop",),
    "RandomShear": ("rotate", "crop"),
    "RandomPerspective": ("rotate", "crop"),
    "RandomElasticTransform": ("rotate", "scale"),
    "RandAugment": ("rotate", "crop", "color"),
    "AugMix": ("rotate", "crop", "color"),
}
#: Those that mix pictures of several rows: no label of any task stays true.
_MIXING = {"MixUp": ("mixup",), "CutMix": ("cutmix",)}
#: Tasks whose labels are places in the picture, or values at places.
_GEOMETRIC = (
    kinds.BoundingBox,
    kinds.Depth,
    kinds.Detection,
    kinds.Keypoints,
    kinds.Normals,
    kinds.Segmentation,
)


def check_augmentation_layers(model: Any, tasks: Sequence[Task]) -> None:
    """Refuse layers that change the picture in training so that labels are no longer true.

    Args:
        model: `MultiTaskModel`.
        tasks: the tasks that are trained.

    Raises:
        ValueError: a layer that moves pictures before a task whose labels are places, or one that
            mixes pictures; also inside of other layers and models.
    """
    heads: dict[int, list[Task]] = {}
    layers: dict[int, tuple[Any, Sequence[str]]] = {}
    for task in tasks:
        for layer in _layers_before(model.output[task.name]):
            steps = _steps_instead(layer, task)
            if steps:
                layers[id(layer)] = layer, steps
                heads.setdefault(id(layer), []).append(task)
    for key, (layer, steps) in layers.items():
        raise ValueError(_message(layer, steps, heads[key]))


def _layers_before(output: Any) -> Iterable[Any]:
    """All layers that an output is computed with, those inside of layers too."""
    operations = {id(op): op for op in map(layer_of, ancestors([output]))}
    for operation in operations.values():
        if isinstance(operation, keras.layers.Layer):
            yield from sublayers(operation)


def _steps_instead(layer: Any, task: Task) -> Sequence[str]:
    """Steps that do with labels what a layer does without, or () where the labels stay true."""
    for name, steps in {**_MIXING, **_MOVING}.items():
        # Older versions of Keras have fewer of them.
        cls = getattr(keras.layers, name, None)
        if cls is not None and isinstance(layer, cls):
            return steps if name in _MIXING or isinstance(task, _GEOMETRIC) else ()
    return ()


def _message(layer: Any, steps: Sequence[str], tasks: Sequence[Task]) -> str:
    names = ", ".join(f"'{task.name}' ({type(task).__name__})" for task in tasks)
    listed = "[" + ", ".join(f'"{step}"' for step in steps) + "]"
    return (
        f"Layer '{layer.name}' ({type(layer).__name__}) changes pictures while the network trains, "
        f"and the labels of {names} would not follow: the network would learn wrong ones. Take the "
        f"layer out, and augment pictures and labels together: `train.batch(32, augment={listed})`, "
        f"or `mtl.data.augment.apply(dataset, {listed}, tasks)`."
    )
