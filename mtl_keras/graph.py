"""Walking through functional models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import tree

__all__ = ["nodes", "play"]


def nodes(model: keras.Model) -> list[Any]:
    """The graph's calls, each after those that it needs; inputs left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def play(model: keras.Model, tensor: Any, layer: Callable[[Any], Any] = lambda layer: layer) -> Any:
    """What a model with one input gives for another symbolic tensor, layer by layer: the result is part of that tensor's
    graph, and no nested model.

    Args:
        model: a functional model.
        tensor: symbolic tensor in place of its input.
        layer: maps each of its layers to the one that is called.
    """
    found = {id(model.inputs[0]): tensor}
    made: dict[int, Any] = {}
    for node in nodes(model):
        operation = node.operation
        if id(operation) not in made:
            made[id(operation)] = layer(operation) if isinstance(operation, keras.layers.Layer) else operation
        args, kwargs = node.arguments.fill_in(found)
        outputs = tree.flatten(made[id(operation)](*args, **kwargs))
        found.update({id(before): after for before, after in zip(node.outputs, outputs, strict=True)})
    return tree.map_structure(lambda x: found[id(x)], model.output)
