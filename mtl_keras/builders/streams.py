"""One backbone played several times in step: a stream a task, with own or shared layers, and something between the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import tree

from mtl_keras.builders.common import check_stage, stages_of
from mtl_keras.graph import nodes

__all__ = ["bypassed", "lockstep"]

AtStage = Callable[[str, list[Any]], list[Any]]


def lockstep(
    trunk: keras.Model,
    names: Sequence[str],
    *,
    inputs: Sequence[Any] | None = None,
    own: bool = True,
    copy_weights: bool = False,
    split_after: str | None = None,
    at_stage: AtStage | None = None,
    joint: Callable[[keras.layers.Layer], keras.layers.Layer | None] | None = None,
) -> list[dict[str, Any]]:
    """Play a backbone's graph once for each of several streams, all of them stage by stage.

    What all streams would compute alike (layers without weights, and whatever `split_after` keeps in common) is computed
    once.

    Args:
        trunk: the backbone's model; its own tensors are used where streams have not parted yet.
        names: list of str, one a stream: the suffix of its layers' names.
        inputs: what each stream takes in place of the backbone's only input. None lets all take the input itself.
        own: whether each stream has layers of its own, or all use the backbone's.
        copy_weights: start the streams' own layers from the backbone's weights.
        split_after: name of a stage. What leads to it stays one for all streams.
        at_stage: called with a stage's name and the streams' tensors there; returns what each goes on with.
        joint: called with a layer that streams would have of their own; returns a layer that maps the list of the streams'
            tensors to a list, or None.

    Returns:
        For each stream a dict of stage name to tensor.
    """
    stages = stages_of(trunk)
    stage_of: dict[int, list[str]] = {}
    for name, tensor in stages.items():
        stage_of.setdefault(id(tensor), []).append(name)
    common = set()
    if split_after is not None:
        check_stage(stages, split_after, "split_after")
        common = _before(stages[split_after])
    count = len(names)
    found: dict[int, list[Any]] = {}
    if inputs is None:
        found.update({id(tensor): [tensor] * count for tensor in trunk.inputs})
    else:
        found[id(trunk.inputs[0])] = list(inputs)
    clones: dict[tuple[int, int], keras.layers.Layer] = {}
    result: list[dict[str, Any]] = [{} for _ in names]

    def reached(tensor):
        for name in stage_of.get(id(tensor), ()):
            if at_stage is not None:
                found[id(tensor)] = list(at_stage(name, found[id(tensor)]))
            for stream, value in zip(result, found[id(tensor)], strict=True):
                stream[name] = value

    for tensor in trunk.inputs:
        reached(tensor)
    for node in nodes(trunk):
        taken = [found[id(tensor)] for tensor in node.input_tensors]
        layer = node.operation
        is_layer = isinstance(layer, keras.layers.Layer)
        alike = all(stream is values[0] for values in taken for stream in values)
        # Streams that have parted have all layers of their own, also those without weights: each has one place in the graph.
        stays = not own or not is_layer or id(node) in common or (alike and not layer.variables)
        if alike and stays and all(values[0] is t for values, t in zip(taken, node.input_tensors, strict=True)):
            outputs = [list(node.outputs)] * count
        elif alike and stays:
            outputs = [_call(layer, node, found, 0)] * count
        elif stays:
            outputs = [_call(layer, node, found, i) for i in range(count)]
        else:
            together = joint(layer) if joint is not None else None
            if together is not None:
                outputs = [[value] for value in together(list(taken[0]))]
            else:
                outputs = []
                for i, name in enumerate(names):
                    if (id(layer), i) not in clones:
                        clones[id(layer), i] = _clone(layer, name)
                    outputs.append(_call(clones[id(layer), i], node, found, i))
                    if copy_weights:
                        clones[id(layer), i].set_weights(layer.get_weights())
        for place, tensor in enumerate(node.outputs):
            found[id(tensor)] = [stream[place] for stream in outputs]
            reached(tensor)
    # In the backbone's order, whatever the order in which the graph reached them.
    return [{name: stream[name] for name in stages} for stream in result]


def _call(layer: Any, node: Any, found: Mapping[int, list[Any]], stream: int) -> list[Any]:
    args, kwargs = node.arguments.fill_in({key: values[stream] for key, values in found.items()})
    return tree.flatten(layer(*args, **kwargs))


def _clone(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    return type(layer).from_config({**layer.get_config(), "name": f"{layer.name}_{name}"})


def bypassed(trunk: keras.Model) -> list[str]:
    """Stages that something goes around on its way to the deepest one: replacing their tensor does not replace all of them."""
    stages = stages_of(trunk)
    *earlier, deepest = stages
    inputs = {id(tensor) for tensor in trunk.inputs}
    found = []
    for name in earlier:
        waiting, seen = [stages[deepest]], {id(stages[name])}
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if id(tensor) in inputs:
                found.append(name)
                break
            history = tensor._keras_history
            waiting += history.operation._inbound_nodes[history.node_index].input_tensors
    return found


def _before(tensor: Any) -> set[int]:
    """Ids of the calls that a tensor depends on, its own included."""
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        history = waiting.pop()._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) not in seen:
            seen.add(id(node))
            waiting += node.input_tensors
    return seen
