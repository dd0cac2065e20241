"""A head's last scale and offset in float: 256 values for what moves in the head, none for what
stands still.

The range of an int8 tensor holds zero. A head around 1985 that moves by 4 would be left with one or
two of its 256 values: the converter folds scale and offset into the last layer, and here they are
taken out again.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtl_keras.runtime import flatbuffer

__all__ = ["take_out_offsets"]

#: The range that int8 gives a head, over the range of its narrowest number, from which on its
#: offset stays in float.
_WIDE = 2.0
#: The quantizer has no steps for heads that move by less (it takes such a range for nothing).
_SMALLEST = 1e-4
#: Layers whose bias can be split, and the axis of output channels in their kernels.
_LINEAR = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
_KERNEL_AND_BIAS = {"TRANSPOSE_CONV": (1, 3)}
_FLOAT32 = 0


def take_out_offsets(
    content: bytes, outputs: Mapping[str, np.ndarray], floats: Collection[str] = ()
) -> tuple[bytes, set[str]]:
    """Take the last scale and offset of heads out of their last layer, where int8 would drown the
    head in them.

    Args:
        content: float file with measured ranges.
        outputs: Keras's outputs on the calibration rows, by head: ranges are measured for each of a
            head's numbers.
        floats: names of tensors whose operators stay in float anyway.

    Returns:
        the file, in which such heads end in operators of their own, and the names of these
        operators' tensors: they stay in float.
    """
    model = flatbuffer.read(content)
    names = flatbuffer.kinds(model)
    operators: set[str] = set()
    for signature in model.signatureDefs or ():
        graph = model.subgraphs[signature.subgraphIndex]
        for entry in signature.outputs:
            values = outputs.get(flatbuffer.text(entry.name))
            if values is None or not np.issubdtype(values.dtype, np.floating) or not values.size:
                continue
            if _is_drowned(values):
                operators |= _take_out(model, graph, names, int(entry.tensorIndex), values, floats)
                names = flatbuffer.kinds(model)
    return (flatbuffer.write(model) if operators else content), operators


def _channels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest value of each number of a head, and which of them move."""
    flat = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).astype("float64")
    low, high = flat.min(0), flat.max(0)
    return low, high, high - low > 1e-6 * np.abs(flat).max()


def _is_drowned(values: np.ndarray) -> bool:
    low, high, moves = _channels(values)
    whole = max(high.max(), 0.0) - min(low.min(), 0.0)
    return bool(moves.any()) and (whole > _WIDE * (high - low)[moves].min() or whole < _SMALLEST)


def _take_out(
    model: Any,
    graph: Any,
    names: list[str],
    index: int,
    values: np.ndarray,
    floats: Collection[str],
) -> set[str]:
    """Split one head. Returns names of the tensors whose operators stay in float."""
    producers = {int(o): op for op in graph.operators for o in op.outputs}
    operators: set[str] = set()
    op = producers.get(index)
    # What the converter could not fold is there as operators of its own.
    while (
        op is not None
        and (step := _affine_step(model, graph, names[op.opcodeIndex], op)) is not None
    ):
        operators.add(flatbuffer.text(graph.tensors[index].name))
        index, constant, kind = step
        with np.errstate(divide="ignore", invalid="ignore"):
            undo = {"ADD": np.subtract, "SUB": np.add, "MUL": np.divide, "DIV": np.multiply}[kind]
            values = undo(values.astype("float64"), constant)
        if not np.isfinite(values).all():
            return operators
        op = producers.get(index)
    kind = "" if op is None else names[op.opcodeIndex]
    if (
        kind not in _LINEAR
        or flatbuffer.text(graph.tensors[index].name) in floats
        or not _is_drowned(values)
    ):
        return operators
    return operators | _split_bias(model, graph, kind, op, index, values)


def _affine_step(model: Any, graph: Any, kind: str, op: Any) -> tuple[int, np.ndarray, str] | None:
    """The tensor that an operator scales or shifts by a constant, and the constant; None where it
    does something else."""
    if kind not in ("ADD", "SUB", "MUL", "DIV") or op.builtinOptions.fusedActivationFunction:
        return None
    constants = [_constant(model, graph, int(i)) for i in op.inputs]
    if constants[1] is not None and constants[0] is None:
        return int(op.inputs[0]), constants[1], kind
    if constants[0] is not None and constants[1] is None and kind in ("ADD", "MUL"):
        return int(op.inputs[1]), constants[0], kind
    return None


def _constant(model: Any, graph: Any, index: int) -> np.ndarray | None:
    if index < 0:
        return None
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if tensor.type != _FLOAT32 or data is None or not len(data):
        return None
    return np.frombuffer(bytes(bytearray(data)), "<f4").reshape(
        () if tensor.shape is None else tensor.shape
    )


def _split_bias(
    model: Any, graph: Any, kind: str, op: Any, index: int, values: np.ndarray
) -> set[str]:
    """Center a linear layer's results on zero, and put scale and offset behind it."""
    kernel_input, bias_input = _KERNEL_AND_BIAS.get(kind, (1, 2))
    bias = (
        _constant(model, graph, int(op.inputs[bias_input])) if len(op.inputs) > bias_input else None
    )
    kernel = _constant(model, graph, int(op.inputs[kernel_input]))
    low, high, moves = _channels(values)
    axis = _LINEAR[kind]
    if bias is None or kernel is None or len(low) != bias.size or kernel.shape[axis] != bias.size:
        return set()
    if getattr(op.builtinOptions, "fusedActivationFunction", 0):
        return set()
    center, half = (low + high) / 2, (high - low) / 2
    half = np.where(moves, half, half.max())
    scaled = half.max() > _WIDE * half.min() or half.max() < _SMALLEST
    factor = half if scaled else np.ones_like(half)
    # === The layer itself, centered ===
    inputs = [int(i) for i in op.inputs]
    inputs[bias_input] = _add_constant(
        model, graph, graph.tensors[inputs[bias_input]], (bias - center) / factor
    )
    if scaled:
        shape = [-1 if i == axis else 1 for i in range(kernel.ndim)]
        inputs[kernel_input] = _add_constant(
            model, graph, graph.tensors[inputs[kernel_input]], kernel / factor.reshape(shape)
        )
    op.inputs = inputs
    reach = float((half / factor).max())
    current = _add_tensor(graph, index, "_centered", (-reach, reach))
    op.outputs = [current]
    # === Scale and offset, in float ===
    steps = ([("MUL", factor)] if scaled else []) + [("ADD", center)]
    position = next(i for i, other in enumerate(graph.operators) if other is op) + 1
    operators = set()
    for number, (step, constant) in enumerate(steps):
        is_last = number == len(steps) - 1
        result = index if is_last else _add_tensor(graph, index, "_scaled", None)
        graph.operators.insert(
            position + number, _elementwise(model, graph, step, current, constant, result)
        )
        operators.add(flatbuffer.text(graph.tensors[result].name))
        current = result
    return operators


def _add_tensor(graph: Any, like: int, suffix: str, measured: tuple[float, float] | None) -> int:
    tensor = copy.deepcopy(graph.tensors[like])
    tensor.name = (flatbuffer.text(tensor.name) + suffix).encode()
    if measured is not None and tensor.quantization is not None:
        tensor.quantization.min = np.asarray(measured[:1], "float32")
        tensor.quantization.max = np.asarray(measured[1:], "float32")
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _add_constant(model: Any, graph: Any, like: Any, values: np.ndarray) -> int:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = copy.deepcopy(like)
    tensor.name = (flatbuffer.text(tensor.name) + "_centered").encode()
    tensor.buffer, tensor.shape = len(model.buffers) - 1, np.asarray(values.shape, "int32")
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _elementwise(
    model: Any, graph: Any, kind: str, source: int, constant: np.ndarray, result: int
) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.type = _FLOAT32
    tensor.name = f"{flatbuffer.text(graph.tensors[source].name)}_{'offset' if kind == 'ADD' else 'factor'}".encode()
    op = schema.OperatorT()
    op.opcodeIndex = flatbuffer.opcode(model, kind)
    op.inputs, op.outputs = [source, _add_constant(model, graph, tensor, constant)], [result]
    op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind.title()}Options")
    op.builtinOptions = getattr(schema, f"{kind.title()}OptionsT")()
    return op
