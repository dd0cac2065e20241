"""Walking through functional models: layers, the calls of layers (nodes), and the tensors between
them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras.src.models.functional import Functional

__all__ = [
    "ancestors",
    "descendants",
    "has_graph",
    "has_own_config",
    "inputs_of",
    "is_functional",
    "layer_of",
    "node_of",
    "nodes",
    "nodes_of_layer",
    "output_index",
    "output_of",
    "own_variables",
    "sublayers",
]


def has_graph(model: Any) -> bool:
    """Whether a model was made from symbolic inputs and outputs."""
    return isinstance(model, Functional)


def is_functional(model: Any) -> bool:
    """Whether a model's graph is all that it computes: it has one, and no `call` of its own around
    it."""
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


def layer_of(tensor: Any) -> Any:
    """The layer or operation whose call made a tensor; None for what is no symbolic tensor."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def node_of(tensor: Any) -> Any:
    """The call that made a symbolic tensor: its `input_tensors`, `arguments` and `outputs`."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def output_index(tensor: Any) -> int:
    """Which output of its call a symbolic tensor is."""
    return tensor._keras_history.tensor_index


def nodes_of_layer(layer: Any) -> list[Any]:
    """All calls of a layer, in whichever models."""
    return layer._inbound_nodes


def sublayers(layer: Any, include_self: bool = True) -> list[Any]:
    """A layer and all layers inside it, in an order that a copy of it has too."""
    return list(layer._flatten_layers(include_self=include_self))


def own_variables(layer: Any) -> list[Any]:
    """A layer's weights without those of the layers inside it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def ancestors(tensors: Iterable[Any], stop: Iterable[Any] = ()) -> list[Any]:
    """All tensors that symbolic tensors are computed from, themselves included.

    Args:
        tensors: symbolic tensors.
        stop: symbolic tensors that are not gone beyond; they are left out, too.
    """
    seen = {id(tensor) for tensor in stop}
    result = []
    waiting = list(tensors)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        result.append(tensor)
        waiting += node_of(tensor).input_tensors
    return result


def descendants(model: keras.Model, tensor: Any) -> list[Any]:
    """A tensor of a model, and the model's tensors that are computed from it."""
    result = [tensor]
    ids = {id(tensor)}
    for node in nodes(model):
        if any(id(x) in ids for x in node.input_tensors):
            result += node.outputs
            ids.update(id(x) for x in node.outputs)
    return result


def inputs_of(tensor: Any) -> list[Any]:
    """The inputs that a symbolic tensor is computed from."""
    return [x for x in ancestors([tensor]) if node_of(x).is_input]


def output_of(model: keras.Model, name: str) -> Any:
    """What a layer gives in this model. `layer.output` is of its first call, which may have been in
    another one."""
    layer = model.get_layer(name)
    return next((node.outputs[0] for node in nodes(model) if node.operation is layer), layer.output)
