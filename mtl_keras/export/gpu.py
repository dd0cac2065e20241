"""What keeps TensorFlow Lite's GPU delegate from taking a file as a whole.

A delegate that takes parts of a file copies tensors between GPU and CPU at every border, and is
often slower than the CPU alone. The rules stand in TensorFlow Lite's
`tools/versions/gpu_compatibility.cc`; they are facts of the delegate for Android and iOS, read in
2024 to 2026. A phone's driver may refuse more: only a run on the phone is proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtl_keras.runtime import flatbuffer

__all__ = ["GPU_OPERATORS", "explain_gpu_rejections"]

#: Operators that the delegate has.
GPU_OPERATORS = frozenset(
    """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GREATER GREATER_EQUAL
    HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL ONE_HOT PACK PAD POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
    SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
    """.split()  # noqa: SIM905
)
_LARGEST_RANK = 4
_INT16 = 7


def explain_gpu_rejections(content: bytes) -> list[str]:
    """Sentences that say which tensors and operators of a file the GPU delegate does not take;
    empty where none is known.

    Args:
        content: the `.tflite` file.

    Returns:
        list of str, each with the reason and the name of the first tensor that it holds for.
    """
    model = flatbuffer.read(content)
    kinds = flatbuffer.kinds(model)
    # The first graph is what the delegate is given; loops' bodies hang behind WHILE, which it does
    # not have.
    graph = model.subgraphs[0]
    reasons: dict[str, list[str]] = {}
    for op in graph.operators:
        kind = kinds[op.opcodeIndex]
        output = graph.tensors[op.outputs[0]]
        for reason in _reasons(model, graph, op, kind):
            reasons.setdefault(reason, []).append(flatbuffer.text(output.name).split(";")[0])
    sentences = []
    for reason, tensors in reasons.items():
        rest = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
        sentences.append(f"{reason} (at '{tensors[0]}'{rest})")
    return sentences


def _reasons(model: Any, graph: Any, op: Any, kind: str) -> Iterator[str]:
    if kind not in GPU_OPERATORS:
        yield f"operator {kind} is not supported"
        return
    tensors = [graph.tensors[int(i)] for i in (*op.inputs, *op.outputs) if int(i) >= 0]
    ranks = [_rank(tensor) for tensor in tensors]
    if max(ranks, default=0) > _LARGEST_RANK:
        yield f"{kind} has a tensor of {max(ranks)} dimensions, where {_LARGEST_RANK} is the most"
    if any(tensor.type == _INT16 for tensor in tensors):
        yield f"{kind} has 16-bit activations"
    if any(-1 in _sizes(tensor.shapeSignature) for tensor in tensors):
        yield f"{kind} has a size that is not fixed"
    yield from _operator_reasons(model, graph, op, kind)


def _operator_reasons(model: Any, graph: Any, op: Any, kind: str) -> Iterator[str]:
    """What the delegate asks of single operators."""
    inputs = [graph.tensors[int(i)] for i in op.inputs if int(i) >= 0]
    if kind in ("SLICE", "STRIDED_SLICE") and _rank(inputs[0]) not in (3, 4):
        yield f"{kind} of a tensor of {_rank(inputs[0])} dimensions, where 3 or 4 are supported"
    options = op.builtinOptions
    if kind == "STRIDED_SLICE" and (
        options.shrinkAxisMask or options.newAxisMask or options.ellipsisMask
    ):
        yield "STRIDED_SLICE that adds or drops a dimension"
    if kind == "GATHER" and _rank(inputs[1]) != 1:
        yield f"GATHER with indices of {_rank(inputs[1])} dimensions, where 1 is supported"
    if kind in ("PAD", "MIRROR_PAD") and _rank(inputs[0]) not in (3, 4):
        yield f"{kind} of a tensor of {_rank(inputs[0])} dimensions, where 3 or 4 are supported"
    if kind == "MUL" and len(inputs) == 2 and _grows_both_ways(inputs[0], inputs[1]):
        yield "MUL that stretches both of its tensors"
    if kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD") and not _is_constant(
        model, inputs[1]
    ):
        yield f"{kind} over dimensions that are computed"


def _sizes(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _rank(tensor: Any) -> int:
    return len(_sizes(tensor.shape))


def _grows_both_ways(first: Any, second: Any) -> bool:
    left, right = _sizes(first.shape), _sizes(second.shape)
    if len(left) != len(right):
        return False
    return any(a < b for a, b in zip(left, right, strict=True)) and any(
        a > b for a, b in zip(left, right, strict=True)
    )


def _is_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None
