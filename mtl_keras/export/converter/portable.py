"""The same numbers in forms that small and older runtimes take."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtl_keras.runtime import flatbuffer

__all__ = ["separate_equal_scales", "without_integer_select"]

_FLOAT32, _INT32, _INT8 = 0, 2, 9


def without_integer_select(content: bytes) -> bytes:
    """Write `where(i < 0, i + n, i)` as `i + n * (i < 0)`.

    Keras looks up words that way, so that -1 is the last one. Microcontrollers have neither SELECT
    nor, for whole numbers, SELECT_V2; comparisons, products and sums they have.
    """
    model = flatbuffer.read(content)
    kinds = flatbuffer.kinds(model)
    if not {"SELECT", "SELECT_V2"} & set(kinds):
        return content
    for graph in model.subgraphs:
        producers = {int(o): op for op in graph.operators for o in op.outputs}
        uses = [int(i) for op in graph.operators for i in op.inputs] + [*graph.outputs]
        for select in list(graph.operators):
            if kinds[select.opcodeIndex] not in ("SELECT", "SELECT_V2"):
                continue
            added = producers.get(int(select.inputs[1]))
            if added is None or kinds[added.opcodeIndex] != "ADD":
                continue
            if uses.count(int(added.outputs[0])) == 1:
                _replace_select(model, graph, select, added)
    return flatbuffer.write(_without_unused_operators(model))


def _replace_select(model: Any, graph: Any, select: Any, added: Any) -> None:
    """SELECT(condition, ADD(x, n), x) becomes ADD(x, MUL(CAST(condition), n)), where it is of whole
    numbers."""
    from ai_edge_litert import schema_py_generated as schema

    condition, _, x = (int(i) for i in select.inputs)
    terms = [int(i) for i in added.inputs]
    is_wrapped = graph.tensors[x].type == _INT32 and x in terms
    if not is_wrapped or list(graph.tensors[condition].shape) != list(graph.tensors[x].shape):
        return
    terms.remove(x)
    mask = _new_tensor(graph, x, "_is_negative")
    shift = _new_tensor(graph, x, "_shift")
    cast, product = schema.OperatorT(), schema.OperatorT()
    cast.opcodeIndex = flatbuffer.opcode(model, "CAST")
    cast.inputs, cast.outputs = [condition], [mask]
    product.opcodeIndex = flatbuffer.opcode(model, "MUL")
    product.inputs, product.outputs = [mask, terms[0]], [shift]
    product.builtinOptionsType = schema.BuiltinOptions.MulOptions
    product.builtinOptions = schema.MulOptionsT()
    added.inputs, added.outputs = [x, shift], list(select.outputs)
    operators = [op for op in graph.operators if op is not added]
    position = next(i for i, op in enumerate(operators) if op is select)
    graph.operators = [*operators[:position], cast, product, added, *operators[position + 1 :]]


def _new_tensor(graph: Any, like: int, suffix: str) -> int:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = graph.tensors[like].shape, _INT32, 0
    tensor.shapeSignature = graph.tensors[like].shapeSignature
    tensor.name = (flatbuffer.text(graph.tensors[like].name) + suffix).encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _without_unused_operators(model: Any) -> Any:
    """A runtime looks for every operator that a file lists, used or not."""
    used = sorted({op.opcodeIndex for graph in model.subgraphs for op in graph.operators})
    position = {index: i for i, index in enumerate(used)}
    for graph in model.subgraphs:
        for op in graph.operators:
            op.opcodeIndex = position[op.opcodeIndex]
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    return model


def separate_equal_scales(model: Any) -> None:
    """Make scales of a convolution's channels differ by the last bit, where all are equal and the
    input is in float.

    `tflite-runtime` 2.14 takes equal scales for one scale a tensor, and then answers with zeros.
    """
    kinds = flatbuffer.kinds(model)
    for graph in model.subgraphs:
        for op in graph.operators:
            if kinds[op.opcodeIndex] != "CONV_2D":
                continue
            tensor = graph.tensors[op.inputs[1]]
            if tensor.type != _INT8 or graph.tensors[op.inputs[0]].type != _FLOAT32:
                continue
            scale = np.array(tensor.quantization.scale, "float32")
            if len(scale) > 1 and (scale == scale[0]).all():
                scale[0] = np.nextafter(scale[0], np.float32(np.inf))
                tensor.quantization.scale = scale
