"""Walking through functional models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional

__all__ = [
    "has_graph",
    "has_own_config",
    "inputs_of",
    "is_functional",
    "nodes",
    "output_of",
    "own_variables",
    "play",
    "replay",
    "rewire",
    "split",
    "sublayers",
]


def has_graph(model: Any) -> bool:
    """Whether a model was made from symbolic inputs and outputs."""
    return isinstance(model, Functional)


def is_functional(model: Any) -> bool:
    """Whether a model's graph is all that it computes: it has one, and no `call` of its own around it."""
    return has_graph(model) and type(model).call is Functional.call


def has_own_config(model: keras.Model) -> bool:
    """Whether a functional model is saved as arguments of its class, not as its graph."""
    return type(model).get_config is not Functional.get_config


def nodes(model: keras.Model) -> list[Any]:
    """The graph's calls, each after those that it needs; inputs left out."""
    by_depth = model._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]


def sublayers(layer: Any) -> list[Any]:
    """A layer and all layers inside it, in an order that a copy of it has too."""
    return layer._flatten_layers()


def own_variables(layer: Any) -> list[Any]:
    """A layer's weights without those of the layers inside it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def inputs_of(tensor: Any) -> list[Any]:
    """The inputs that a symbolic tensor is computed from."""
    inputs, seen, waiting = [], set(), [tensor]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        history = x._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            inputs.append(x)
        waiting += node.input_tensors
    return inputs


def output_of(model: keras.Model, name: str) -> Any:
    """What a layer gives in this model. `layer.output` is of its first call, which may have been in another one."""
    layer = model.get_layer(name)
    return next((node.outputs[0] for node in nodes(model) if node.operation is layer), layer.output)


def replay(
    model: keras.Model, found: dict[int, Any], call: Callable[[Any, Any, Any], Any]
) -> dict[int, Any]:
    """Go through a model's graph with other tensors in place of its own.

    Args:
        model: a functional model.
        found: by id of a tensor of the model, what stands in its place: at first its inputs. It is filled, and returned.
        call: takes a node and its arguments, replaced; gives what stands in the place of the node's outputs.
    """
    for node in nodes(model):
        args, kwargs = node.arguments.fill_in(found)
        outputs = tree.flatten(call(node, args, kwargs))
        found.update(
            {id(before): after for before, after in zip(node.outputs, outputs, strict=True)}
        )
    return found


def play(model: keras.Model, tensor: Any, layer: Callable[[Any], Any] = lambda layer: layer) -> Any:
    """What a model with one input gives for another symbolic tensor, layer by layer: the result is part of that tensor's
    graph, and no nested model.

    Args:
        model: a functional model.
        tensor: symbolic tensor in place of its input.
        layer: maps each of its layers to the one that is called.
    """
    made: dict[int, Any] = {}

    def call(node: Any, args: Any, kwargs: Any) -> Any:
        operation = node.operation
        if id(operation) not in made:
            made[id(operation)] = (
                layer(operation) if isinstance(operation, keras.layers.Layer) else operation
            )
        return made[id(operation)](*args, **kwargs)

    found = replay(model, {id(model.inputs[0]): tensor}, call)
    return tree.map_structure(lambda x: found[id(x)], model.output)


def rewire(model: keras.Model, inputs: Any) -> Any:
    """A functional model's outputs, in its own structure, for other symbolic inputs; its layers are called once more.

    Args:
        model: a functional model.
        inputs: symbolic tensors in the structure of the model's inputs.
    """
    tensors = {id(old): new for old, new in zip(model.inputs, tree.flatten(inputs), strict=True)}
    replay(model, tensors, lambda node, args, kwargs: node.operation(*args, **kwargs))
    return tree.map_structure(lambda x: tensors[id(x)], model.output)


def split(model: keras.Model, names: Sequence[str]) -> tuple[keras.Model, keras.Model, bool]:
    """A network in two, with the same layers: what makes the tensors that heads share, and the heads.

    Args:
        model: a functional model.
        names: of the layers whose outputs are shared.

    Returns:
        `(trunk, heads, more)`: the trunk gives a dict by layer name; the heads take a list, each shared tensor an input of
        its own (what leads from one to another belongs to the trunk), then, if `more`, the model's inputs.
    """
    tensors = {name: output_of(model, name) for name in names}
    trunk = keras.Model(model.input, tensors)
    try:
        return trunk, keras.Model(list(tensors.values()), model.output), False
    except ValueError:
        return trunk, keras.Model([*tensors.values(), *model.inputs], model.output), True
