"""Float16 weights where float16 can hold them.

The converter turns every constant into float16: one above 65504 becomes infinite, an offset of 1985
is rounded to whole numbers, and kernels of a head whose unit is small (1e-8, say) become zero. Here
biases and offsets stay as they are, and of the kernels each is checked, channel by channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtl_keras.runtime import flatbuffer

__all__ = ["float16_weights"]

_FLOAT32, _FLOAT16 = 0, 1
#: The largest error that rounding may make, relative to the largest number of a channel: half of
#: float16's step.
_ROUNDING = 2.0**-11
#: Constants of fewer numbers save less than the operator costs that turns them back.
_FEWEST = 64
#: Operators with a bias, and which input it is.
_BIAS = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "TRANSPOSE_CONV": 3,
    "CONV_3D": 2,
}
#: Operators with kernels, and the axis of their channels: a small channel must survive beside large
#: ones.
_CHANNELS = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
    "CONV_3D": 4,
}


def float16_weights(content: bytes) -> tuple[bytes, list[str]]:
    """Store a float file's constants in float16; they are turned back before use.

    Returns:
        the file, and the names of the tensors that stay in float32 because float16 can't hold them
        (above 65504, or a channel so small that it loses more than rounding); those that stay
        because they are few, or biases, are not named.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read(content)
    refused: list[str] = []
    for graph in model.subgraphs:
        kinds = flatbuffer.kinds(model)
        users: dict[int, list[tuple[Any, str, int]]] = {}
        for op in graph.operators:
            for position, index in enumerate(op.inputs):
                users.setdefault(int(index), []).append((op, kinds[op.opcodeIndex], position))
        outputs = {int(o) for o in graph.outputs}
        fresh: list[Any] = []
        for index, uses in users.items():
            if (
                index < 0
                or index in outputs
                or any(_BIAS.get(kind) == position for _, kind, position in uses)
            ):
                continue
            tensor = graph.tensors[index]
            data = model.buffers[tensor.buffer].data
            if tensor.type != _FLOAT32 or data is None or len(data) < 4 * _FEWEST:
                continue
            values = np.frombuffer(bytes(bytearray(data)), "<f4").reshape(tensor.shape)
            axes = {_CHANNELS.get(kind) if position == 1 else None for _, kind, position in uses}
            if not all(_fits(values, axis) for axis in axes):
                refused.append(flatbuffer.text(tensor.name))
                continue
            turned_back = flatbuffer.dequantized(model, graph, index, 3, fresh)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer, tensor.type = len(model.buffers) - 1, _FLOAT16
            for op, _, position in uses:
                inputs = [int(i) for i in op.inputs]
                inputs[position] = turned_back
                op.inputs = inputs
        graph.operators = [*fresh, *graph.operators]
    return flatbuffer.write(model), sorted(set(refused))


def _fits(values: np.ndarray, axis: int | None) -> bool:
    """Whether float16 keeps each channel to half of its own step."""
    rest = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    with np.errstate(over="ignore"):
        error = np.abs(values.astype("float16").astype("float64") - values).max(axis=rest)
    return bool(
        np.all(error <= 1.001 * _ROUNDING * np.abs(values.astype("float64")).max(axis=rest))
    )
