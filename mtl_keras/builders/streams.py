"""One backbone played several times in step: a stream a task, with own or shared layers, and something between the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import tree

from mtl_keras.builders.common import check_stage, stages_of
from mtl_keras.builders.copies import LayerCopies
from mtl_keras.graph import nodes

__all__ = ["bypassed", "goes_on", "lockstep"]

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
        copy_weights: start the streams' own layers from all of the backbone's weights. Without it they start from what was
            trained, loaded or adapted (`LayerCopies`), and from fresh values elsewhere.
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
    copies = LayerCopies(trunk, everything=copy_weights) if own else None
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
        if (
            alike
            and stays
            and all(values[0] is t for values, t in zip(taken, node.input_tensors, strict=True))
        ):
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
                    outputs.append(_call(copies.copy(layer, name), node, found, i))
                    copies.carry_values(layer, name)
        for place, tensor in enumerate(node.outputs):
            found[id(tensor)] = [stream[place] for stream in outputs]
            reached(tensor)
    # In the backbone's order, whatever the order in which the graph reached them.
    return [{name: stream[name] for name in stages} for stream in result]


def _call(layer: Any, node: Any, found: Mapping[int, list[Any]], stream: int) -> list[Any]:
    args, kwargs = node.arguments.fill_in({key: values[stream] for key, values in found.items()})
    return tree.flatten(layer(*args, **kwargs))


def bypassed(trunk: keras.Model) -> list[str]:
    """Stages that learned features go around on their way to the deepest one: replacing the stage's tensor does not replace
    all of them. What is computed from the input without weights, such as a mask of padding, may go around."""
    stages = stages_of(trunk)
    *earlier, deepest = stages
    around = []
    for name in earlier:
        behind = _behind(trunk, stages[name])
        waiting, seen = [stages[deepest]], {id(stages[name])}
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            history = tensor._keras_history
            if id(tensor) not in behind and getattr(history.operation, "weights", None):
                around.append(name)
                break
            waiting += history.operation._inbound_nodes[history.node_index].input_tensors
    return around


def goes_on(trunk: keras.Model, stage: str) -> bool:
    """Whether the deepest stage, or any stage behind this one, is computed from it."""
    stages = stages_of(trunk)
    behind = _behind(trunk, stages[stage]) - {id(stages[stage])}
    return any(id(tensor) in behind for tensor in stages.values())


def _behind(trunk: keras.Model, tensor: Any) -> set[int]:
    """Ids of a tensor and of the trunk's tensors that depend on it."""
    ids = {id(tensor)}
    for node in nodes(trunk):
        if any(id(x) in ids for x in node.input_tensors):
            ids.update(id(x) for x in node.outputs)
    return ids


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
