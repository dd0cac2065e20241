"""Tensors that one scale ties together: the quantizer gives one to all that an operator such as
CONCATENATION links.

Where ranges differ, the narrow ones lose their values. Who else uses a narrow tensor gets a copy of
the operators that make it, which no such link reaches.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from mtl_keras.runtime import flatbuffer

__all__ = [
    "SAME_SCALE",
    "WIDE",
    "coupling_operators",
    "cuts_off",
    "heads_of",
    "measured_range",
    "needs_separation",
    "operators_of",
    "separate",
    "unshare",
]

#: Operators that give their inputs and outputs one scale.
SAME_SCALE = frozenset(
    """
    BATCH_TO_SPACE_ND BROADCAST_TO CONCATENATION DEPTH_TO_SPACE DYNAMIC_UPDATE_SLICE EXPAND_DIMS GATHER GATHER_ND MAX_POOL_2D
    MAXIMUM MINIMUM MIRROR_PAD PACK PAD PADV2 REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    REVERSE_V2 SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE
    TRANSPOSE UNPACK
    """.split()  # noqa: SIM905
)
#: A tensor whose range in the file is so many times its own is ruled by another tensor.
WIDE = 2.0
#: Part of a tensor's range by which its file may fall short of it.
SLACK = 0.02


def operators_of(model: Any, graph: Any) -> list[tuple[str, Any]]:
    """A graph's operators, each with its kind."""
    codes = flatbuffer.kinds(model)
    return [(codes[op.opcodeIndex], op) for op in graph.operators]


def heads_of(model: Any) -> list[tuple[Any, str, int]]:
    """Graph, name and tensor of every output of every signature."""
    heads = []
    for signature in model.signatureDefs or ():
        graph = model.subgraphs[signature.subgraphIndex]
        heads += [
            (graph, flatbuffer.text(entry.name), entry.tensorIndex) for entry in signature.outputs
        ]
    return heads


def measured_range(tensor: Any) -> tuple[float, float] | None:
    """What calibration measured of a tensor, with zero."""
    q = tensor.quantization
    if q is None or q.min is None or q.max is None or not len(q.min):
        return None
    return min(float(q.min[0]), 0.0), max(float(q.max[0]), 0.0)


def unshare(content: bytes, heads: Collection[str], tensors: Collection[str] = ()) -> bytes:
    """Give tensors a scale of their own: the operators that make them, back to the first that sets
    a scale, are doubled.

    Args:
        content: float file with measured ranges.
        heads: names of heads that another tensor rules.
        tensors: names of inner tensors that another tensor rules.

    Returns:
        the file. What links a tensor to others keeps the old one; heads and all other operators use
        the copy.
    """
    model = flatbuffer.read(content)
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        operators = operators_of(model, graph)
        producers = {int(o): (kind, op) for kind, op in operators for o in op.outputs}
        copies: dict[int, int] = {}
        extra: list[Any] = []
        for entry in signature.outputs:
            if flatbuffer.text(entry.name) in heads:
                extra += _double(graph, producers, int(entry.tensorIndex), copies)
        for index in list(producers):
            if flatbuffer.text(graph.tensors[index].name) in tensors:
                users = [kind for kind, op in operators if index in {int(i) for i in op.inputs}]
                is_output = any(int(entry.tensorIndex) == index for entry in signature.outputs)
                if is_output or any(kind not in SAME_SCALE for kind in users):
                    extra += _double(graph, producers, index, copies)
        replacements = {old: new for old, new in copies.items() if old != new}
        names = flatbuffer.kinds(model)
        for op in (*graph.operators, *extra):
            if names[op.opcodeIndex] not in SAME_SCALE:
                op.inputs = [replacements.get(int(i), int(i)) for i in op.inputs]
        for entry in signature.outputs:
            entry.tensorIndex = replacements.get(int(entry.tensorIndex), int(entry.tensorIndex))
        graph.outputs = [replacements.get(int(o), int(o)) for o in graph.outputs]
        graph.operators = _in_order(graph, [*graph.operators, *extra])
    return flatbuffer.write(model)


def separate(content: bytes) -> bytes:
    """Give every operator that links several tensors copies of those that something else uses
    too."""
    model = flatbuffer.read(content)
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        extra: list[Any] = []
        for _, op in _coupling(model, graph):
            operators = [*operators_of(model, graph)]
            producers = {int(o): (kind, other) for kind, other in operators for o in other.outputs}
            copies: dict[int, int] = {}
            for index in {int(i) for i in op.inputs}:
                is_output = index in {int(o) for o in graph.outputs}
                others = [
                    other
                    for _, other in operators
                    if other is not op and index in {int(i) for i in other.inputs}
                ]
                if index in producers and (others or is_output):
                    extra += _double(graph, producers, index, copies)
            op.inputs = [copies.get(int(i), int(i)) for i in op.inputs]
        graph.operators = _in_order(graph, [*graph.operators, *extra])
    return flatbuffer.write(model)


def cuts_off(limits: Sequence[float], measured: tuple[float, float]) -> bool:
    """Whether limits fall short of a measured range by more than a small part of it."""
    span = measured[1] - measured[0]
    return limits[0] > measured[0] + SLACK * span or limits[1] < measured[1] - SLACK * span


def needs_separation(content: bytes) -> bool:
    """Whether a tensor stands in two ties, of which one has no room for all of its range."""
    model = flatbuffer.read(content)
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        users: dict[int, list[Any]] = {}
        for inputs, op in _coupling(model, graph):
            for index in set(inputs):
                users.setdefault(index, []).append(measured_range(graph.tensors[op.outputs[0]]))
        for index, ranges in users.items():
            measured: Any = measured_range(graph.tensors[index])
            if len(ranges) > 1 and any(
                other is not None and cuts_off(other, measured) for other in ranges
            ):
                return True
    return False


def coupling_operators(content: bytes) -> set[str]:
    """Names of the tensors that operators make which tie tensors of different ranges together."""
    model = flatbuffer.read(content)
    names = set()
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        for inputs, op in _coupling(model, graph):
            ranges = [measured_range(graph.tensors[i]) for i in (*inputs, int(op.outputs[0]))]
            spans = [high - low for low, high in filter(None, ranges) if high > low]
            if spans and max(spans) > WIDE * min(spans):
                names.add(flatbuffer.text(graph.tensors[op.outputs[0]].name))
    return names


def _coupling(model: Any, graph: Any) -> list[tuple[list[int], Any]]:
    """Operators of one scale with several measured inputs."""
    operators = []
    for kind, op in operators_of(model, graph):
        inputs = [
            int(i)
            for i in op.inputs
            if i >= 0 and measured_range(graph.tensors[int(i)]) is not None
        ]
        if kind in SAME_SCALE and len(set(inputs)) > 1:
            operators.append((inputs, op))
    return operators


def _double(
    graph: Any,
    producers: Mapping[int, tuple[str, Any]],
    index: int,
    copies: MutableMapping[int, int],
) -> list[Any]:
    """Copies of the operators behind a tensor; `copies` learns which tensor stands for which."""
    if index in copies or index not in producers:
        copies.setdefault(index, index)
        return []
    kind, op = producers[index]
    before = []
    if kind in SAME_SCALE:
        for i in op.inputs:
            before += _double(graph, producers, int(i), copies) if i >= 0 else []
    double = copy.copy(op)
    double.inputs = (
        [copies.get(int(i), int(i)) for i in op.inputs]
        if kind in SAME_SCALE
        else [int(i) for i in op.inputs]
    )
    double.outputs = []
    for o in op.outputs:
        tensor = copy.deepcopy(graph.tensors[int(o)])
        tensor.name = (flatbuffer.text(tensor.name) + f"_own{len(graph.tensors)}").encode()
        graph.tensors.append(tensor)
        copies[int(o)] = len(graph.tensors) - 1
        double.outputs.append(copies[int(o)])
    return [*before, double]


def _in_order(graph: Any, operators: Iterable[Any]) -> list[Any]:
    """Operators such that each stands behind those whose results it uses; their order stays
    otherwise."""
    waiting = list(operators)
    pending = {int(o) for op in waiting for o in op.outputs}
    ordered = []
    while waiting:
        ready = [op for op in waiting if not any(int(i) in pending for i in op.inputs)]
        if not ready:
            raise AssertionError("The graph has a circle.")
        # One at a time where it can be: the old order stays as it is.
        first = ready[0]
        ordered.append(first)
        waiting = [op for op in waiting if op is not first]
        pending -= {int(o) for o in first.outputs}
    return ordered
