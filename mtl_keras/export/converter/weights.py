"""Int8 weights beside real-valued activations, also in small layers.

The converter's dynamic quantization passes over weights of fewer than 1,024 numbers without a word:
on a small network it does nothing at all. And it has no form with int8 weights alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from mtl_keras.export.converter.portable import separate_equal_scales
from mtl_keras.runtime import flatbuffer

__all__ = ["int8_weights"]

#: Operators with weights: which input they are, their axis of output channels, and the version that
#: takes them in int8.
_LAYERS: dict[str, tuple[int, int | None, int]] = {
    "CONV_2D": (1, 0, 5),
    "DEPTHWISE_CONV_2D": (1, 3, 6),
    "FULLY_CONNECTED": (1, 0, 9),
    "TRANSPOSE_CONV": (1, 0, 2),
}
#: Computed in int8 with one scale a tensor: with a scale a channel, older runtimes (2.14, say)
#: refuse the file.
_ONE_SCALE = ("FULLY_CONNECTED",)
#: `tflite-runtime` 2.14 refuses a file where these take int8 weights beside real inputs: they are
#: turned back before use.
_NEVER_COMPUTED = ("TRANSPOSE_CONV",)
_FLOAT32, _INT8 = 0, 9
#: Where a kernel has one scale, its smallest channel keeps at least so many of the 127 steps, or
#: the kernel stays in float.
_FEWEST_STEPS = 8


def int8_weights(content: bytes, compute: bool, exact: Collection[str] = ()) -> bytes:
    """Store a float file's weights in int8, symmetric, with a scale per channel (or one, where
    older runtimes know no other).

    Weights that would not become smaller (few numbers per channel) and those that are computed stay
    as they are, and so do those that one scale would ruin.

    Args:
        content: the file; weights that are in int8 already stay.
        compute: True: the operators quantize their inputs as they run and compute in int8
            ("dynamic"). False: weights are turned back into float32 before use, and nothing but
            their rounding is lost ("weights").
        exact: names of the results of operators whose weights stay in float.
    """
    model = flatbuffer.read(content)
    for graph in model.subgraphs:
        _round_graph(model, graph, compute, exact)
    if compute:
        separate_equal_scales(model)
    return flatbuffer.write(model)


def _round_graph(model: Any, graph: Any, compute: bool, exact: Collection[str]) -> None:
    kinds = flatbuffer.kinds(model)
    users: dict[int, set[tuple[str, int]]] = {}
    for op in graph.operators:
        for position, index in enumerate(op.inputs):
            users.setdefault(int(index), set()).add((kinds[op.opcodeIndex], position))
    outputs = {int(o) for o in graph.outputs}
    replacements: dict[int, int] = {}
    dequantizers: list[Any] = []
    for op in graph.operators:
        kind = kinds[op.opcodeIndex]
        if kind not in _LAYERS or _result(graph, op) in exact:
            continue
        position, axis, version = _LAYERS[kind]
        computes = compute and kind not in _NEVER_COMPUTED
        axis = None if computes and kind in _ONE_SCALE else axis
        index = int(op.inputs[position])
        if index not in replacements:
            is_alone = users[index] == {(kind, position)} and index not in outputs
            is_rounded = is_alone and _round(model, graph.tensors[index], axis)
            # The converter rounds weights that this runtime's older kernels can't compute with.
            if not is_rounded and (computes or graph.tensors[index].type != _INT8):
                continue
            replacements[index] = (
                index if computes else flatbuffer.dequantized(model, graph, index, 5, dequantizers)
            )
        if computes:
            code = model.operatorCodes[op.opcodeIndex]
            code.version = max(code.version, version)
            if kind == "FULLY_CONNECTED":
                op.builtinOptions.asymmetricQuantizeInputs = True
        else:
            inputs = [int(i) for i in op.inputs]
            inputs[position] = replacements[index]
            op.inputs = inputs
    graph.operators = [*dequantizers, *graph.operators]


def _result(graph: Any, op: Any) -> str:
    return flatbuffer.text(graph.tensors[op.outputs[0]].name)


def _round(model: Any, tensor: Any, axis: int | None) -> bool:
    """Put a weight tensor into int8; False where it is no float constant, or would not shrink."""
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[tensor.buffer].data
    if tensor.type != _FLOAT32 or data is None or not len(data):
        return False
    weights = np.frombuffer(bytes(bytearray(data)), "<f4").reshape(tensor.shape)
    channels = 1 if axis is None else weights.shape[axis]
    # A scale and a zero point, four and eight bytes, a channel.
    if 3 * weights.size <= 12 * channels:
        return False
    if axis is None:
        # A channel of a small unit beside a large one would become zero.
        channel = np.abs(weights).max(axis=tuple(range(1, weights.ndim)))
        if (127 * channel[channel > 0] < _FEWEST_STEPS * channel.max()).any():
            return False
    rest = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=rest).reshape(channels)
    scale = np.where(largest > 0, largest / 127, 1.0).astype("float32")
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    whole = np.clip(np.round(weights / scale.reshape(shape)), -127, 127).astype("int8")
    buffer = schema.BufferT()
    buffer.data = whole.view("uint8").ravel()
    model.buffers.append(buffer)
    tensor.buffer, tensor.type = len(model.buffers) - 1, _INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = scale, np.zeros(channels, "int64")
    tensor.quantization.quantizedDimension = axis or 0
    return True
