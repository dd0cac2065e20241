"""Full-int8 files in two steps, with a look in between: ranges are measured, set right, and only
then used.

The converter's own one-step form takes whatever ranges it measured, quantizes every operator, and
gives all tensors of an operator such as CONCATENATION or SELECT one scale, also where one of them
is another head.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.export.converter import same_scale
from mtl_keras.export.converter.exact import exact_operators
from mtl_keras.export.converter.offsets import take_out_offsets
from mtl_keras.export.converter.same_scale import (
    SAME_SCALE,
    WIDE,
    heads_of,
    measured_range,
    operators_of,
)
from mtl_keras.quiet import quiet
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name

__all__ = ["float_nodes", "head_ranges", "measure_ranges", "quantize", "sparse_size"]

#: Operators that runtimes of 2023 lack in int8 (`tflite-runtime` 2.14 refuses the file, or stops
#: when it runs): they stay in float. 256 steps for a logarithm or a quotient would be coarse
#: anyhow.
_OLD_INT8 = frozenset({"LOG", "EXP", "DIV"})


def quantize(
    content: bytes,
    io: str,
    floats: Iterable[str] = (),
    outputs: Mapping[str, np.ndarray] | None = None,
    layers: Collection[str] = (),
) -> bytes:
    """A calibrated file in int8; tensors whose scale another tensor would set are untied.

    Args:
        content: float file with measured ranges.
        io: "float32", "int8" or "uint8", of inputs and outputs.
        floats: names of the tensors whose operators stay in float.
        outputs: Keras's outputs on the calibration rows, by head. With `io` "float32", a head's
            last scale and offset stay in float where they would drown it.
        layers: names of the model's layers, for messages.

    Raises:
        ExportError: a head whose range the quantizer cuts off; layers that the quantizer fails on.
    """
    wanted = _calibrated_ranges(content)
    floats = (
        set(floats)
        | (_last_softmaxes(content) if io == "float32" else set())
        | _tensors_of(content, _OLD_INT8)
        | exact_operators(content)
    )
    if io == "float32" and outputs:
        content, operators = take_out_offsets(content, outputs, floats)
        floats |= operators
    if same_scale.needs_separation(content):
        content = same_scale.separate(content)
    done, content, floats = _quantized_with_mends(content, io, floats, layers)
    heads, tensors = (
        _shared_scale_heads(wanted, head_ranges(done)),
        _shared_scale_tensors(content, done),
    )
    if heads or tensors:
        done = _quantized_with_mends(
            same_scale.unshare(content, heads, tensors), io, floats, layers
        )[0]
    cut = _shared_scale_heads(wanted, head_ranges(done), wide=False)
    if cut:
        name = next(iter(cut))
        low, high = wanted[name]
        raise ExportError(
            f"The int8 file gives head '{name}' a range that cuts off its calibrated one "
            f"({low:.3g} to {high:.3g}). Keep it "
            f"in float: keep_float=['{name}'].",
            sorted(cut),
        )
    return done


def _last_softmaxes(content: bytes) -> set[str]:
    """Tensors of heads that end in a softmax. Where heads are real numbers it stays in float: finer
    than 256 values, and one part of the file for the CPU delegate, which has no int8 softmax,
    instead of two."""
    model = flatbuffer.read(content)
    softmaxes = set()
    for graph, _, index in heads_of(model):
        producer_kinds = {
            int(o): kind for kind, op in operators_of(model, graph) for o in op.outputs
        }
        if producer_kinds.get(int(index)) == "SOFTMAX":
            softmaxes.add(flatbuffer.text(graph.tensors[index].name))
    return softmaxes


def _tensors_of(content: bytes, operators: Collection[str]) -> set[str]:
    """Tensors that operators of these kinds compute."""
    model = flatbuffer.read(content)
    computed = set()
    for graph in model.subgraphs:
        for kind, op in operators_of(model, graph):
            if kind in operators:
                computed.add(flatbuffer.text(graph.tensors[op.outputs[0]].name))
    return computed


def _quantized_with_mends(
    content: bytes, io: str, floats: set[str], layers: Collection[str]
) -> tuple[bytes, bytes, set[str]]:
    """The file in int8, the float file that it was made of, and what stays in float.

    The quantizer gives up where operators tie tensors together that can't have one scale. Each such
    operator then gets inputs of its own, and, where that is not enough, stays in float.

    Raises:
        ExportError: it fails all the same; the layers are named.
    """
    try:
        return _quantized(content, io, floats), content, floats
    except Exception as error:
        reason = error
    apart = same_scale.separate(content)
    coupling = same_scale.coupling_operators(apart)
    for more in (set(), coupling):
        try:
            return _quantized(apart, io, floats | more), apart, floats | more
        except Exception as error:
            reason = error
    where = ", ".join(
        sorted({_layer_name(tensor, layers) for tensor in coupling or _all_operators(content)})[:5]
    )
    explanation = str(reason).strip() or "it gives no reason"
    raise ExportError(
        f"TensorFlow's quantizer has no int8 form of this network ({explanation}); the layers in "
        f"question: {where}. Keep them in "
        "float (`keep_float=`), or use quantization='dynamic'."
    ) from reason


def _all_operators(content: bytes) -> set[str]:
    model = flatbuffer.read(content)
    return {
        flatbuffer.text(g.tensors[op.outputs[0]].name)
        for g in model.subgraphs
        for op in g.operators
        if len(op.outputs)
    }


def _layer_name(tensor: str, layers: Collection[str]) -> str:
    """The innermost layer that a tensor's name tells of, in quotes, or the name itself."""
    for part in tensor.split(";"):
        for step in reversed(part.split("/")):
            for name in (step, re.sub(r"_\d+$", "", step)):
                if name in layers:
                    return f"'{name}'"
    return f"what makes '{tensor}'"


def _quantized(content: bytes, io: str, floats: set[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    dtype = getattr(tf, io)
    with quiet():
        return bytes(
            mlir_quantize(
                content,
                input_data_type=dtype,
                output_data_type=dtype,
                denylisted_nodes=floats or None,
            )
        )


def _calibrated_ranges(content: bytes) -> dict[str, tuple[float, float]]:
    """Measured range of every head, with zero."""
    model = flatbuffer.read(content)
    ranges = {}
    for graph, name, index in heads_of(model):
        measured = measured_range(graph.tensors[index])
        if measured is not None and name not in ranges:
            ranges[name] = measured
    return ranges


def head_ranges(content: bytes) -> dict[str, tuple[float, float, float]]:
    """What each head of a quantized file can say: lowest, highest value, and the step between; not
    of heads in float."""
    model = flatbuffer.read(content)
    ranges: dict[str, tuple[float, float, float]] = {}
    for graph, name, index in heads_of(model):
        if name in ranges:
            continue
        producers = {
            int(o): (kind, op) for kind, op in operators_of(model, graph) for o in op.outputs
        }
        kind, op = producers.get(int(index), ("", None))
        limits = _limits(graph.tensors[op.inputs[0] if kind == "DEQUANTIZE" else index])
        if limits is not None:
            ranges[name] = limits
    return ranges


def _limits(tensor: Any) -> tuple[float, float, float] | None:
    """Lowest and highest value of a quantized tensor, and the step between; None of one in
    float."""
    q = tensor.quantization
    ends = {9: (-128, 127), 3: (0, 255), 7: (-32768, 32767)}.get(tensor.type)
    if ends is None or q is None or q.scale is None or len(q.scale) != 1:
        return None
    scale, zero = float(q.scale[0]), int(q.zeroPoint[0])
    return (ends[0] - zero) * scale, (ends[1] - zero) * scale, scale


def _shared_scale_heads(
    wanted: Mapping[str, tuple[float, float]],
    given: Mapping[str, Sequence[float]],
    wide: bool = True,
) -> set[str]:
    """Heads whose range in the file falls short of their own, or (`wide`) is far beyond it."""
    heads = set()
    for name, (low, high) in wanted.items():
        if name not in given or high <= low:
            continue
        too_wide = not _is_fixed(given[name][2]) and given[name][1] - given[name][0] > WIDE * (
            high - low
        )
        if same_scale.cuts_off(given[name], (low, high)) or (wide and too_wide):
            heads.add(name)
    return heads


def _is_fixed(scale: float) -> bool:
    """Softmax and sigmoid have a fixed range, [0, 1], and tanh has [-1, 1]."""
    return min(abs(scale - 1 / 256), abs(scale - 1 / 128)) < 1e-9


def _shared_scale_tensors(content: bytes, done: bytes) -> set[str]:
    """Inner tensors whose range in the file is not their own, because an operator links them to
    another."""
    model, quantized = flatbuffer.read(content), flatbuffer.read(done)
    graphs = {
        flatbuffer.text(s.signatureKey): quantized.subgraphs[s.subgraphIndex]
        for s in quantized.signatureDefs or ()
    }
    ruled = set()
    for signature in model.signatureDefs or ():
        graph = model.subgraphs[signature.subgraphIndex]
        limits = {
            flatbuffer.text(t.name): _limits(t)
            for t in graphs[flatbuffer.text(signature.signatureKey)].tensors
        }
        operators = operators_of(model, graph)
        linked = {
            int(i)
            for kind, op in operators
            if kind in SAME_SCALE
            for i in (*op.inputs, *op.outputs)
        }
        for index in {int(o) for _, op in operators for o in op.outputs} & linked:
            name = flatbuffer.text(graph.tensors[index].name)
            measured, stands = measured_range(graph.tensors[index]), limits.get(name)
            if measured is None or stands is None or _is_fixed(stands[2]):
                continue
            low, high = measured
            if high > low and (
                stands[1] - stands[0] > WIDE * (high - low) or same_scale.cuts_off(stands, measured)
            ):
                ruled.add(name)
    return ruled


def float_nodes(
    content: bytes,
    names: Sequence[str],
    heads: Sequence[str],
    layers: Sequence[str],
    own: Collection[str],
    root: str,
) -> set[str]:
    """Tensors whose operators serve one of the named heads and no other, or belong to a named
    layer.

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
    float_heads = {name for name in names if name in heads}
    tensors = set()
    for graph in model.subgraphs:
        outputs = {index: name for g, name, index in heads_of(model) if g is graph}
        below = _reach(graph, outputs)
        # Where a graph lacks heads, what all share leads to those that are there: layers' names
        # tell it apart.
        shared = set() if set(outputs.values()) >= set(heads) else set(layers) - set(own)
        for op in graph.operators:
            reached = set().union(*(below.get(int(o), set()) for o in op.outputs))
            tensor = flatbuffer.text(graph.tensors[op.outputs[0]].name)
            if (
                len(reached) == 1
                and reached <= float_heads
                and not any(_made_by(tensor, layer, layers, root) for layer in shared)
            ):
                tensors.add(tensor)
    for name in names:
        if name in heads:
            continue
        if name not in layers:
            raise ValueError(
                unknown_name("task or layer in `keep_float`:", name, [*heads, *layers])
            )
        layer_tensors = _of_layer(model, name, layers, root)
        if not layer_tensors:
            raise ExportError(
                f"Layer '{name}' has no operator of its own in the file (the converter merged it "
                f"into its neighbors, or "
                "dropped it): it can't be kept in float alone. Name the layer before it."
            )
        tensors |= layer_tensors
    return tensors


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
    tensors = (
        flatbuffer.text(g.tensors[op.outputs[0]].name)
        for g in model.subgraphs
        for op in g.operators
    )
    return {tensor for tensor in tensors if _made_by(tensor, name, layers, root)}


def _made_by(tensor: str, name: str, layers: Sequence[str], root: str) -> bool:
    """Whether a tensor's name tells of a layer. The converter calls tensors
    `root_1/layer_1/Operator;...`."""
    for part in tensor.split(";"):
        steps = part.split("/")
        suffix = steps[0][len(root) :] if steps[0].startswith(root) else ""
        for step in steps:
            match = step in (name, name + suffix) or re.fullmatch(re.escape(name) + r"_\d+", step)
            if match and not any(step == other + suffix for other in layers if other != name):
                return True
    return False


def measure_ranges(
    content: bytes,
    batches: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    percentile: float | None = None,
) -> bytes:
    """Measure the ranges of all results anew, tensor by tensor.

    The converter's calibration reads a tensor after the operator that takes it has run, and
    operators such as ADD and MUL write their result over it: a tensor that is scaled by 1000 seems
    to be a thousand times as large as it is.

    Args:
        content: calibrated file.
        batches: signature and inputs by name, batch by batch.
        percentile: in (50, 100). Inner tensors span that part of their values at both ends; heads
            and inputs span all. None spans all everywhere.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = flatbuffer.read(content)
    # The default delegate would hide the tensors between its operators.
    with quiet():
        interpreter = Interpreter(
            model_content=bytes(content),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    subgraphs = {flatbuffer.text(s.signatureKey): s.subgraphIndex for s in model.signatureDefs}
    runners = {name: interpreter.get_signature_runner(name) for name in subgraphs}
    tensors = {name: _measured_tensors(model.subgraphs[index]) for name, index in subgraphs.items()}
    rng = np.random.default_rng(0)
    ends: dict[tuple[str, int], tuple[float, float]] = {}
    seen: dict[tuple[str, int], list[np.ndarray]] = {}
    for name, x in batches:
        runners[name](**x)
        for index in tensors[name]:
            values = interpreter.get_tensor(index, subgraphs[name]).ravel()
            low, high = ends.get((name, index), (np.inf, -np.inf))
            ends[name, index] = min(low, float(values.min())), max(high, float(values.max()))
            if percentile is not None:
                # Enough for the tails that a percentile can speak of, and no more than memory
                # holds.
                part = (
                    rng.choice(values, 4096, replace=False) if values.size > 4096 else values.copy()
                )
                seen.setdefault((name, index), []).append(part)
    for (name, index), (low, high) in ends.items():
        graph = model.subgraphs[subgraphs[name]]
        if percentile is not None and index not in {int(i) for i in graph.outputs}:
            bounds = np.percentile(
                np.concatenate(seen[name, index]), [100 - percentile, percentile]
            )
            low, high = max(low, float(bounds[0])), min(high, float(bounds[1]))
        q = graph.tensors[index].quantization
        q.min, q.max = np.asarray([low], "float32"), np.asarray([high], "float32")
    return flatbuffer.write(model)


def _measured_tensors(graph: Any) -> list[int]:
    """Results with a measured range."""
    results = [int(o) for op in graph.operators for o in op.outputs]
    return [
        i
        for i in results
        if measured_range(graph.tensors[i]) is not None and np.prod(graph.tensors[i].shape) > 0
    ]


def sparse_size(content: bytes) -> int:
    """Bytes of the file with its sparse weights in the flatbuffer's own encoding (zeros left out,
    where that is smaller)."""
    from tensorflow.lite.python.convert import mlir_sparsify

    with quiet():
        return len(mlir_sparsify(content))
