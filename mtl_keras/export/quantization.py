"""Full-int8 files in two steps, with a look in between: ranges are measured, set right, and only then used.

The converter's own one-step form takes whatever ranges it measured, quantizes every operator, and gives all tensors of an
operator such as CONCATENATION or SELECT one scale, also where one of them is another head.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.export import flatbuffer
from mtl_keras.export.files import ExportError
from mtl_keras.names import unknown_name
from mtl_keras.quiet import quiet

__all__ = ["apply_percentile", "float_nodes", "head_ranges", "quantize", "sparse_size"]

#: Operators that give their inputs and outputs one scale.
SAME_SCALE = frozenset(
    """
    BATCH_TO_SPACE_ND BROADCAST_TO CONCATENATION DEPTH_TO_SPACE DYNAMIC_UPDATE_SLICE EXPAND_DIMS GATHER GATHER_ND MAX_POOL_2D
    MAXIMUM MINIMUM MIRROR_PAD PACK PAD PADV2 REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    REVERSE_V2 SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE
    TRANSPOSE UNPACK
    """.split()  # noqa: SIM905
)
#: Part of a head's range by which its file may fall short of it.
_SLACK = 0.02
#: A head whose range in the file is so many times its own is ruled by another tensor.
_WIDE = 2.0


def quantize(content: bytes, io: str, floats: Iterable[str] = ()) -> bytes:
    """A calibrated file in int8; heads whose scale another tensor would set are untied.

    Args:
        content: float file with measured ranges.
        io: "float32", "int8" or "uint8", of inputs and outputs.
        floats: names of the tensors whose operators stay in float.

    Raises:
        ExportError: a head whose range the quantizer cuts off.
    """
    wanted = _calibrated_ranges(content)
    floats = set(floats) | (_last_softmaxes(content) if io == "float32" else set())
    done = _quantized(content, io, floats)
    ruled = _ruled(wanted, head_ranges(done))
    if ruled:
        done = _quantized(_untied(content, ruled), io, floats)
    cut = _ruled(wanted, head_ranges(done), wide=False)
    if cut:
        name = next(iter(cut))
        low, high = wanted[name]
        raise ExportError(
            f"The int8 file gives head '{name}' a range that cuts off its calibrated one ({low:.3g} to {high:.3g}). Keep it "
            f"in float: keep_float=['{name}'].",
            sorted(cut),
        )
    return done


def _last_softmaxes(content: bytes) -> set[str]:
    """Tensors of heads that end in a softmax. Where heads are real numbers it stays in float: finer than 256 values, and one
    part of the file for the CPU delegate, which has no int8 softmax, instead of two."""
    model = flatbuffer.read(content)
    found = set()
    for graph, _, index in _heads(model):
        made = {int(o): kind for kind, op in _operators(model, graph) for o in op.outputs}
        if made.get(int(index)) == "SOFTMAX":
            found.add(flatbuffer.text(graph.tensors[index].name))
    return found


def _quantized(content: bytes, io: str, floats: set[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    dtype = getattr(tf, io)
    with quiet():
        return bytes(mlir_quantize(content, input_data_type=dtype, output_data_type=dtype, denylisted_nodes=floats or None))


def _operators(model: Any, graph: Any) -> list[tuple[str, Any]]:
    codes = flatbuffer.kinds(model)
    return [(codes[op.opcodeIndex], op) for op in graph.operators]


def _heads(model: Any) -> list[tuple[Any, str, int]]:
    """Graph, name and tensor of every output of every signature."""
    found = []
    for signature in model.signatureDefs or ():
        graph = model.subgraphs[signature.subgraphIndex]
        found += [(graph, flatbuffer.text(entry.name), entry.tensorIndex) for entry in signature.outputs]
    return found


def _calibrated_ranges(content: bytes) -> dict[str, tuple[float, float]]:
    """Measured range of every head, with zero."""
    model = flatbuffer.read(content)
    found = {}
    for graph, name, index in _heads(model):
        measured = _range(graph.tensors[index])
        if measured is not None and name not in found:
            found[name] = measured
    return found


def _range(tensor: Any) -> tuple[float, float] | None:
    q = tensor.quantization
    if q is None or q.min is None or q.max is None or not len(q.min):
        return None
    return min(float(q.min[0]), 0.0), max(float(q.max[0]), 0.0)


def head_ranges(content: bytes) -> dict[str, tuple[float, float, float]]:
    """What each head of a quantized file can say: lowest, highest value, and the step between; not of heads in float."""
    model = flatbuffer.read(content)
    found: dict[str, tuple[float, float, float]] = {}
    for graph, name, index in _heads(model):
        if name in found:
            continue
        made = {int(o): (kind, op) for kind, op in _operators(model, graph) for o in op.outputs}
        kind, op = made.get(int(index), ("", None))
        tensor = graph.tensors[op.inputs[0] if kind == "DEQUANTIZE" else index]
        q = tensor.quantization
        limits = {9: (-128, 127), 3: (0, 255), 7: (-32768, 32767)}.get(tensor.type)
        if limits is None or q is None or q.scale is None or len(q.scale) != 1:
            continue
        scale, zero = float(q.scale[0]), int(q.zeroPoint[0])
        found[name] = ((limits[0] - zero) * scale, (limits[1] - zero) * scale, scale)
    return found


def _ruled(wanted: Mapping[str, tuple[float, float]], given: Mapping[str, Sequence[float]], wide: bool = True) -> set[str]:
    """Heads whose range in the file falls short of their own, or (`wide`) is far beyond it."""
    found = set()
    for name, (low, high) in wanted.items():
        if name not in given or high <= low:
            continue
        span = high - low
        short = given[name][0] > low + _SLACK * span or given[name][1] < high - _SLACK * span
        # Softmax and sigmoid have a fixed range, [0, 1].
        fixed = abs(given[name][2] - 1 / 256) < 1e-9
        if short or (wide and not fixed and given[name][1] - given[name][0] > _WIDE * span):
            found.add(name)
    return found


def _untied(content: bytes, heads: set[str]) -> bytes:
    """Give heads tensors of their own: the operators that make them, back to the first that sets a scale, are doubled.

    The quantizer gives one scale to all that operators of `SAME_SCALE` link; a head that no such link reaches has its own.
    """
    model = flatbuffer.read(content)
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        made = {int(o): (kind, op) for kind, op in _operators(model, graph) for o in op.outputs}
        for entry in signature.outputs:
            if flatbuffer.text(entry.name) not in heads:
                continue
            old, fresh = int(entry.tensorIndex), {}
            extra = _doubled(graph, made, old, fresh)
            graph.operators = [*graph.operators, *extra]
            entry.tensorIndex = fresh[old]
            graph.outputs = [fresh[old] if int(o) == old else o for o in graph.outputs]
    return flatbuffer.write(model)


def _doubled(graph: Any, made: Mapping[int, tuple[str, Any]], index: int, fresh: dict[int, int]) -> list[Any]:
    """Copies of the operators behind a tensor, in order; `fresh` learns which tensor stands for which."""
    if index in fresh or index not in made:
        fresh.setdefault(index, index)
        return []
    kind, op = made[index]
    found = []
    if kind in SAME_SCALE:
        for i in op.inputs:
            found += _doubled(graph, made, int(i), fresh) if i >= 0 else []
    double = copy.copy(op)
    double.inputs = [fresh.get(int(i), int(i)) for i in op.inputs]
    double.outputs = []
    for o in op.outputs:
        tensor = copy.deepcopy(graph.tensors[int(o)])
        tensor.name = (flatbuffer.text(tensor.name) + "_own").encode()
        graph.tensors.append(tensor)
        fresh[int(o)] = len(graph.tensors) - 1
        double.outputs.append(fresh[int(o)])
    return [*found, double]


def float_nodes(
    content: bytes, names: Sequence[str], heads: Sequence[str], layers: Sequence[str], own: Collection[str], root: str
) -> set[str]:
    """Tensors whose operators serve one of the named heads and no other, or belong to a named layer.

    Args:
        content: file with the converter's names.
        names: of heads or layers.
        heads, layers: what the model has.
        own: of the layers, those that one of the named heads alone uses.
        root: the model's name.

    Raises:
        ValueError: a name that is neither.
        ExportError: a layer of which the converter left no operator.
    """
    model = flatbuffer.read(content)
    kept = {name for name in names if name in heads}
    found = set()
    for graph in model.subgraphs:
        outputs = {index: name for g, name, index in _heads(model) if g is graph}
        below = _reach(graph, outputs)
        # Where a graph lacks heads, what all share leads to those that are there: layers' names tell it apart.
        shared = set() if set(outputs.values()) >= set(heads) else set(layers) - set(own)
        for op in graph.operators:
            reached = set().union(*(below.get(int(o), set()) for o in op.outputs))
            tensor = flatbuffer.text(graph.tensors[op.outputs[0]].name)
            if len(reached) == 1 and reached <= kept and not any(_made_by(tensor, layer, layers, root) for layer in shared):
                found.add(tensor)
    for name in names:
        if name in heads:
            continue
        if name not in layers:
            raise ValueError(unknown_name("task or layer in `keep_float`:", name, [*heads, *layers]))
        made = _of_layer(model, name, layers, root)
        if not made:
            raise ExportError(
                f"Layer '{name}' has no operator of its own in the file (the converter merged it into its neighbours, or "
                "dropped it): it can't be kept in float alone. Name the layer before it."
            )
        found |= made
    return found


def _reach(graph: Any, outputs: Mapping[int, str]) -> dict[int, set[str]]:
    """The heads that each tensor leads to."""
    below: dict[int, set[str]] = {int(index): {name} for index, name in outputs.items()}
    for op in reversed(graph.operators):
        reached = set().union(*(below.get(int(o), set()) for o in op.outputs))
        for index in op.inputs:
            if index >= 0:
                below.setdefault(int(index), set()).update(reached)
    return below


def _of_layer(model: Any, name: str, layers: Sequence[str], root: str) -> set[str]:
    """Output tensors of a layer's operators."""
    tensors = (flatbuffer.text(g.tensors[op.outputs[0]].name) for g in model.subgraphs for op in g.operators)
    return {tensor for tensor in tensors if _made_by(tensor, name, layers, root)}


def _made_by(tensor: str, name: str, layers: Sequence[str], root: str) -> bool:
    """Whether a tensor's name tells of a layer. The converter calls tensors `root_1/layer_1/Operator;...`."""
    for part in tensor.split(";"):
        steps = part.split("/")
        suffix = steps[0][len(root) :] if steps[0].startswith(root) else ""
        for step in steps:
            own = step in (name, name + suffix) or re.fullmatch(re.escape(name) + r"_\d+", step)
            if own and not any(step == other + suffix for other in layers if other != name):
                return True
    return False


def apply_percentile(content: bytes, samples: Mapping[str, np.ndarray], percentile: float) -> bytes:
    """Narrow the measured ranges of inner tensors to what all but a few values lie in; heads and inputs keep theirs.

    Args:
        content: calibrated file with one signature.
        samples: calibration inputs by name.
        percentile: in (50, 100]; of the values of each tensor, at both ends.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = flatbuffer.read(content)
    graph = model.subgraphs[0]
    fixed = {int(i) for i in (*graph.inputs, *graph.outputs)}
    inner = [int(o) for op in graph.operators for o in op.outputs if int(o) not in fixed]
    inner = [i for i in inner if _range(graph.tensors[i]) is not None]
    # The default delegate would hide the tensors between its operators.
    with quiet():
        interpreter = Interpreter(
            model_content=bytes(content),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    places = {flatbuffer.text(e.name): e.tensorIndex for e in model.signatureDefs[0].inputs}
    rng = np.random.default_rng(0)
    seen: dict[int, list[np.ndarray]] = {i: [] for i in inner}
    rows = len(next(iter(samples.values())))
    batch = int(graph.tensors[next(iter(places.values()))].shape[0])
    for start in range(0, rows - batch + 1, batch):
        for name, index in places.items():
            interpreter.set_tensor(index, samples[name][start : start + batch])
        interpreter.invoke()
        for index in inner:
            values = interpreter.get_tensor(index).ravel()
            # Enough for the tails that a percentile can speak of, and no more than memory holds.
            seen[index].append(rng.choice(values, 4096, replace=False) if values.size > 4096 else values)
    for index in inner:
        values = np.concatenate(seen[index])
        low, high = np.percentile(values, [100 - percentile, percentile])
        q = graph.tensors[index].quantization
        q.min = np.asarray([max(float(low), float(q.min[0]))], "float32")
        q.max = np.asarray([min(float(high), float(q.max[0]))], "float32")
    return flatbuffer.write(model)


def sparse_size(content: bytes) -> int:
    """Bytes of the file with its sparse weights in the flatbuffer's own encoding (zeros left out, where that is smaller)."""
    from tensorflow.lite.python.convert import mlir_sparsify

    with quiet():
        return len(mlir_sparsify(content))
