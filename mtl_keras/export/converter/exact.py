"""Operators that compute in float in every quantized file, because 8 bits lose what they are for.

- A spectrum: products with constant matrices between an input and a logarithm. A logarithm makes
  the quiet bands as large as the loud ones, and 8 bits of a loud one are all of a quiet one.
- An expectation: a softmax over places, and its product with constant coordinates. Over 256 places
  a flat softmax has the size of one step of int8, and a thousand tails of nothing are not the sum
  that they were.
- The end of a head that takes logarithms or exponentials (a product of probabilities, a softplus):
  steps of an exponent are factors of its power.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_keras.export.converter.same_scale import operators_of
from mtl_keras.runtime import flatbuffer

__all__ = ["exact_operators", "restore_float_weights"]

#: Operators with weights, and which of their inputs those are.
_WEIGHTED = {"FULLY_CONNECTED": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "BATCH_MATMUL": 1}
#: Operators that compute number by number.
_ELEMENTWISE = frozenset(
    {
        "ABS",
        "ADD",
        "DIV",
        "EXP",
        "LOG",
        "LOGISTIC",
        "MAXIMUM",
        "MINIMUM",
        "MUL",
        "NEG",
        "SUB",
        "SQRT",
    }
)
#: Operators that only move numbers.
_MOVES = frozenset({"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"})


def exact_operators(content: bytes) -> set[str]:
    """Names of the results of operators that stay in float.

    Args:
        content: file with the converter's names, in float or with int8 weights.
    """
    model = flatbuffer.read(content)
    names: set[str] = set()
    for graph in model.subgraphs:
        operators = operators_of(model, graph)
        producers = {int(o): (kind, op) for kind, op in operators for o in op.outputs}
        for kind, op in operators:
            if kind == "LOG":
                results = _spectrum(model, graph, op, producers)
            elif kind == "SOFTMAX":
                results = _expectation(model, graph, op, operators, producers)
            else:
                continue
            names |= {flatbuffer.text(graph.tensors[index].name) for index in results}
        for index in graph.outputs:
            results = _exponential_end(int(index), producers)
            names |= {flatbuffer.text(graph.tensors[index].name) for index in results}
    return names


def _spectrum(
    model: Any, graph: Any, logarithm: Any, producers: Mapping[int, tuple[str, Any]]
) -> set[int]:
    """All that leads to a logarithm, where trained layers have no part in it."""
    results: set[int] = set()
    has_matrix = False
    waiting = [int(i) for i in logarithm.inputs]
    while waiting:
        index = waiting.pop()
        if index in results or index not in producers:
            continue
        kind, op = producers[index]
        if kind in _WEIGHTED:
            if not _is_plain_product(model, graph, op, producers):
                return set()
            has_matrix = True
        results.add(index)
        waiting += [int(i) for i in op.inputs if i >= 0]
    return results if has_matrix else set()


def _expectation(
    model: Any,
    graph: Any,
    softmax: Any,
    operators: list[tuple[str, Any]],
    producers: Mapping[int, tuple[str, Any]],
) -> set[int]:
    """A softmax, and its products with constants, where it has any."""
    results = {int(softmax.outputs[0])}
    has_product = False
    for kind, op in operators:
        if int(op.inputs[0]) not in results:
            continue
        if kind in ("FULLY_CONNECTED", "BATCH_MATMUL"):
            if not _is_plain_product(model, graph, op, producers):
                continue
            has_product = True
        elif kind not in _MOVES:
            continue
        results.add(int(op.outputs[0]))
    return results if has_product else set()


def _exponential_end(head: int, producers: Mapping[int, tuple[str, Any]]) -> set[int]:
    """What a head computes number by number after its last layer with weights, where that is no
    simple function."""
    results: set[int] = set()
    kinds: set[str] = set()
    waiting = [head]
    while waiting:
        index = waiting.pop()
        kind, op = producers.get(index, ("", None))
        if index not in results and kind in _ELEMENTWISE | _MOVES:
            results.add(index)
            kinds.add(kind)
            waiting += [int(i) for i in op.inputs]
    return results if kinds & {"LOG", "EXP"} else set()


def _is_plain_product(
    model: Any, graph: Any, op: Any, producers: Mapping[int, tuple[str, Any]]
) -> bool:
    """Whether an operator multiplies with a constant, and adds and bends nothing: trained layers
    rarely are of that kind."""
    if int(op.inputs[1]) in producers or getattr(
        op.builtinOptions,
        "fusedActivationFunction",
        0,  # type: ignore[arg-type]
    ):
        return False
    has_bias = len(op.inputs) > 2 and op.inputs[2] >= 0
    return not (has_bias and np.any(_bytes(model, graph, op.inputs[2])))


def _bytes(model: Any, graph: Any, index: int) -> np.ndarray:
    data = model.buffers[graph.tensors[index].buffer].data
    return np.frombuffer(b"" if data is None else bytes(bytearray(data)), "uint8")


def restore_float_weights(content: bytes, float_content: bytes, names: set[str]) -> bytes:
    """Give operators back the weights that they have in the float file of the same network.

    Args:
        content: file with int8 weights.
        float_content: the float file.
        names: of the operators' results.
    """
    model, plain = flatbuffer.read(content), flatbuffer.read(float_content)
    weights = {}
    for graph in plain.subgraphs:
        for name, index in _weights_of(plain, graph, names):
            weights[name] = graph.tensors[index], plain.buffers[graph.tensors[index].buffer]
    for graph in model.subgraphs:
        for name, index in _weights_of(model, graph, names):
            if name in weights:
                tensor, buffer = weights[name]
                model.buffers.append(buffer)
                graph.tensors[index].buffer = len(model.buffers) - 1
                graph.tensors[index].type = tensor.type
                graph.tensors[index].quantization = tensor.quantization
    return flatbuffer.write(model)


def _weights_of(model: Any, graph: Any, names: set[str]) -> list[tuple[str, int]]:
    """Of operators with these results: name, and the index of the weights."""
    return [
        (name, int(op.inputs[_WEIGHTED[kind]]))
        for kind, op in operators_of(model, graph)
        if kind in _WEIGHTED
        and (name := flatbuffer.text(graph.tensors[op.outputs[0]].name)) in names
    ]
