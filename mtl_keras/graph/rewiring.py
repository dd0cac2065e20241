"""Functional models called once more: on other tensors, with other layers, or in two parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree

from mtl_keras.graph.walking import nodes, output_of

__all__ = ["inline", "reapply", "rewire_graph", "split"]


def rewire_graph(
    model: keras.Model, tensors: dict[int, Any], call: Callable[[Any, Any, Any], Any]
) -> dict[int, Any]:
    """Go through a model's graph with other tensors in place of its own.

    Args:
        model: a functional model.
        tensors: by id of a tensor of the model, what stands in its place: at first its inputs. It
            is filled, and returned.
        call: takes a node and its arguments, replaced; gives what stands in the place of the node's
            outputs.
    """
    for node in nodes(model):
        args, kwargs = node.arguments.fill_in(tensors)
        outputs = tree.flatten(call(node, args, kwargs))
        tensors.update(
            {id(before): after for before, after in zip(node.outputs, outputs, strict=True)}
        )
    return tensors


def inline(
    model: keras.Model, tensor: Any, replace: Callable[[Any], Any] = lambda layer: layer
) -> Any:
    """What a model with one input gives for another symbolic tensor, layer by layer: the result is
    part of that tensor's graph, and no nested model.

    Args:
        model: a functional model.
        tensor: symbolic tensor in place of its input.
        replace: maps each of its layers to the one that is called.
    """
    operations: dict[int, Any] = {}

    def call(node: Any, args: Any, kwargs: Any) -> Any:
        operation = node.operation
        if id(operation) not in operations:
            is_layer = isinstance(operation, keras.layers.Layer)
            operations[id(operation)] = replace(operation) if is_layer else operation
        return operations[id(operation)](*args, **kwargs)

    tensors = rewire_graph(model, {id(model.inputs[0]): tensor}, call)
    return tree.map_structure(lambda x: tensors[id(x)], model.output)


def reapply(model: keras.Model, inputs: Any) -> Any:
    """A functional model's outputs, in its own structure, for other symbolic inputs; its layers are
    called once more.

    Args:
        model: a functional model.
        inputs: symbolic tensors in the structure of the model's inputs.
    """
    tensors = {id(old): new for old, new in zip(model.inputs, tree.flatten(inputs), strict=True)}
    rewire_graph(model, tensors, lambda node, args, kwargs: node.operation(*args, **kwargs))
    return tree.map_structure(lambda x: tensors[id(x)], model.output)


def split(model: keras.Model, names: Sequence[str]) -> tuple[keras.Model, keras.Model, bool]:
    """A network in two, with the same layers: what makes the tensors that heads share, and the
    heads.

    Args:
        model: a functional model.
        names: of the layers whose outputs are shared.

    Returns:
        `(trunk, heads, more)`: the trunk gives a dict by layer name; the heads take a list, each
        shared tensor an input of its own (what leads from one to another belongs to the trunk),
        then, if `more`, the model's inputs.
    """
    tensors = {name: output_of(model, name) for name in names}
    trunk = keras.Model(model.input, tensors)
    try:
        return trunk, keras.Model(list(tensors.values()), model.output), False
    except ValueError:
        return trunk, keras.Model([*tensors.values(), *model.inputs], model.output), True
