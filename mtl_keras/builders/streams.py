"""One backbone applied several times side by side: a stream per task, with layers of its own or
shared ones, and something between the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree

from mtl_keras.builders.common import check_stage, stages_of
from mtl_keras.builders.copies import LayerCopies
from mtl_keras.graph import ancestors, descendants, layer_of, node_of, nodes

__all__ = ["build_parallel_streams", "find_bypassed_stages", "is_continued"]

AtStage = Callable[[str, list[Any]], list[Any]]
Joint = Callable[[keras.layers.Layer], "keras.layers.Layer | None"]


def build_parallel_streams(
    trunk: keras.Model,
    names: Sequence[str],
    *,
    inputs: Sequence[Any] | None = None,
    copy_layers: bool = True,
    copy_weights: bool = False,
    split_after: str | None = None,
    at_stage: AtStage | None = None,
    joint: Joint | None = None,
) -> list[dict[str, Any]]:
    """Apply a backbone's graph once for each of several streams, all of them stage by stage.

    What all streams would compute alike (layers without weights, and whatever `split_after` keeps
    in common) is computed once.

    Args:
        trunk: the backbone's model; its own tensors are used where streams have not parted yet.
        names: list of str, one per stream: the suffix of its layers' names.
        inputs: what each stream takes in place of the backbone's only input. None lets all take the
            input itself.
        copy_layers: whether each stream has layers of its own, or all use the backbone's.
        copy_weights: start the streams' own layers from all of the backbone's weights. Without it
            they start from what was trained, loaded or adapted (`LayerCopies`), and from fresh
            values elsewhere.
        split_after: name of a stage. What leads to it stays one for all streams.
        at_stage: called with a stage's name and the streams' tensors there; returns what each goes
            on with.
        joint: called with a layer that streams would have of their own; returns a layer that maps
            the list of the streams' tensors to a list, or None.

    Returns:
        For each stream a dict of stage name to tensor.
    """
    streams = _ParallelStreams(trunk, names, at_stage, joint)
    if split_after is not None:
        check_stage(streams.stages, split_after, "split_after")
        streams.common = {
            id(node_of(tensor)) for tensor in ancestors([streams.stages[split_after]])
        }
    if copy_layers:
        streams.copies = LayerCopies(trunk, everything=copy_weights)
    if inputs is not None:
        streams.tensors[id(trunk.inputs[0])] = list(inputs)
    return streams.build()


class _ParallelStreams:
    """The streams while they are built.

    Attributes:
        stages: the backbone's stages.
        tensors: by id of a tensor of the backbone, what stands for it in each stream.
        common: ids of the calls that stay one for all streams.
        copies: the streams' own layers; None where all use the backbone's.
        results: for each stream the stages that were reached.
    """

    def __init__(
        self,
        trunk: keras.Model,
        names: Sequence[str],
        at_stage: AtStage | None,
        joint: Joint | None,
    ) -> None:
        self.trunk, self.names = trunk, names
        self.at_stage, self.joint = at_stage, joint
        self.stages = stages_of(trunk)
        self.stages_at: dict[int, list[str]] = {}
        for stage, tensor in self.stages.items():
            self.stages_at.setdefault(id(tensor), []).append(stage)
        self.tensors = {id(tensor): [tensor] * len(names) for tensor in trunk.inputs}
        self.common: set[int] = set()
        self.copies: LayerCopies | None = None
        self.results: list[dict[str, Any]] = [{} for _ in names]

    def build(self) -> list[dict[str, Any]]:
        for tensor in self.trunk.inputs:
            self._end_stages(tensor)
        for node in nodes(self.trunk):
            outputs = self._call(node)
            for position, tensor in enumerate(node.outputs):
                self.tensors[id(tensor)] = [stream[position] for stream in outputs]
                self._end_stages(tensor)
        # In the backbone's order, whatever the order in which the graph reached them.
        return [{stage: stream[stage] for stage in self.stages} for stream in self.results]

    def _end_stages(self, tensor: Any) -> None:
        """Note a tensor that ends a stage, behind what stands between the streams there."""
        for stage in self.stages_at.get(id(tensor), ()):
            if self.at_stage is not None:
                values = self.tensors[id(tensor)]
                self.tensors[id(tensor)] = list(self.at_stage(stage, values))
            for stream, value in zip(self.results, self.tensors[id(tensor)], strict=True):
                stream[stage] = value

    def _call(self, node: Any) -> list[list[Any]]:
        """For each stream, the outputs of one call of the backbone."""
        count = len(self.names)
        operands = [self.tensors[id(tensor)] for tensor in node.input_tensors]
        # Streams that have not parted before this call.
        are_one = all(value is values[0] for values in operands for value in values)
        if self._needs_copies(node, are_one):
            return self._call_copies(node, operands)
        if not are_one:
            return [self._apply(node.operation, node, stream) for stream in range(count)]
        originals = zip(operands, node.input_tensors, strict=True)
        if all(values[0] is tensor for values, tensor in originals):
            return [list(node.outputs)] * count
        return [self._apply(node.operation, node, 0)] * count

    def _needs_copies(self, node: Any, are_one: bool) -> bool:
        """Whether each stream has a layer of its own here.

        Streams that have parted have all layers of their own, also those without weights: each has
            one place in the graph.
        """
        layer = node.operation
        if self.copies is None or id(node) in self.common:
            return False
        return isinstance(layer, keras.layers.Layer) and not (are_one and not layer.variables)

    def _call_copies(self, node: Any, operands: list[list[Any]]) -> list[list[Any]]:
        layer = node.operation
        together = self.joint(layer) if self.joint is not None else None
        if together is not None:
            return [[value] for value in together(list(operands[0]))]
        assert self.copies is not None
        outputs = []
        for stream, name in enumerate(self.names):
            outputs.append(self._apply(self.copies.copy(layer, name), node, stream))
            self.copies.carry_values(layer, name)
        return outputs

    def _apply(self, layer: Any, node: Any, stream: int) -> list[Any]:
        """A layer on the arguments that a call has in a stream."""
        tensors = {key: values[stream] for key, values in self.tensors.items()}
        args, kwargs = node.arguments.fill_in(tensors)
        return tree.flatten(layer(*args, **kwargs))


def find_bypassed_stages(trunk: keras.Model) -> list[str]:
    """Stages that learned features go around on their way to the deepest one: replacing the stage's
    tensor does not replace all of them. What is computed from the input without weights, such as a
    mask of padding, may go around."""
    stages = stages_of(trunk)
    *earlier, deepest = stages
    bypassed = []
    for stage in earlier:
        behind = {id(tensor) for tensor in descendants(trunk, stages[stage])}
        around = ancestors([stages[deepest]], stop=[stages[stage]])
        if any(id(x) not in behind and getattr(layer_of(x), "weights", None) for x in around):
            bypassed.append(stage)
    return bypassed


def is_continued(trunk: keras.Model, stage: str) -> bool:
    """Whether any other stage is computed from this one."""
    stages = stages_of(trunk)
    behind = {id(tensor) for tensor in descendants(trunk, stages[stage])} - {id(stages[stage])}
    return any(id(tensor) in behind for tensor in stages.values())
