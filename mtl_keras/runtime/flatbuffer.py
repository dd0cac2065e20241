"""Surgery on a `.tflite` file: heads by name and in the tasks' order, for clients that see tensors
only.

The converter names outputs `StatefulPartitionedCall:1` and orders them by chance; the heads' names
live in the signature, which older runtimes, web runtimes and viewers don't read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_keras.runtime.files import ExportError

__all__ = [
    "builtin_names",
    "dequantized",
    "first_alone",
    "kinds",
    "name_and_order",
    "opcode",
    "ops",
    "read",
    "share_buffers",
    "text",
    "write",
]


def read(content: bytes) -> Any:
    """A file as an object whose fields can be changed."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def write(model: Any) -> bytes:
    """What `read` gave, as a file again."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def kinds(model: Any) -> list[str]:
    """Names of the operators that a file knows, by the index that its operators refer to."""
    from ai_edge_litert.tools import flatbuffer_utils

    names = builtin_names()
    return [
        names[flatbuffer_utils.get_builtin_code_from_operator_code(code)]
        for code in model.operatorCodes
    ]


def opcode(model: Any, kind: str, version: int = 1) -> int:
    """The index by which a file's operators refer to one of this kind; an entry is added where the
    file has none."""
    from ai_edge_litert import schema_py_generated as schema

    names = kinds(model)
    if kind in names:
        index = names.index(kind)
    else:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        model.operatorCodes.append(code)
        index = len(model.operatorCodes) - 1
    model.operatorCodes[index].version = max(model.operatorCodes[index].version or 1, version)
    return index


def dequantized(model: Any, graph: Any, index: int, version: int, operators: list[Any]) -> int:
    """A float32 tensor made of a smaller constant by an operator of its own, which is added to
    `operators`.

    `version` is the operator's: 3 reads float16, 5 int8 with a scale a channel.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = graph.tensors[index].shape, 0, 0
    tensor.name = (text(graph.tensors[index].name) + "_float").encode()
    graph.tensors.append(tensor)
    op = schema.OperatorT()
    op.opcodeIndex = opcode(model, "DEQUANTIZE", version)
    op.inputs, op.outputs = [index], [len(graph.tensors) - 1]
    operators.append(op)
    return len(graph.tensors) - 1


def name_and_order(content: bytes, signatures: Mapping[str, Sequence[str]]) -> bytes:
    """Name input and output tensors after the signatures, put outputs into order, and signatures
    and their graphs too.

    The first signature's graph becomes the file's first: clients without signatures run that one.

    Args:
        signatures: name to its outputs, in order.

    Raises:
        ExportError: the file does not have exactly these signatures and outputs.
    """
    model = read(content)
    converted = {text(signature.signatureKey): signature for signature in model.signatureDefs or ()}
    if set(converted) != set(signatures):
        raise ExportError(
            f"The converted file has the signatures {sorted(converted)}; it should have "
            f"{sorted(signatures)}."
        )
    for key, outputs in signatures.items():
        signature = converted[key]
        graph = model.subgraphs[signature.subgraphIndex]
        heads = {text(entry.name): entry for entry in signature.outputs}
        if set(heads) != set(outputs):
            raise ExportError(
                f"The converted file has the heads {sorted(heads)}; the model has "
                f"{sorted(outputs)}."
            )
        named: set[int] = set()
        for entry in (*signature.outputs, *signature.inputs):
            # Two heads may be one tensor; it can bear one name only, and the signature still tells
            # both.
            if entry.tensorIndex not in named:
                graph.tensors[entry.tensorIndex].name = text(entry.name).encode()
                named.add(entry.tensorIndex)
        signature.outputs = [heads[name] for name in outputs]
        graph.outputs = [heads[name].tensorIndex for name in outputs]
    model.signatureDefs = [converted[key] for key in signatures]
    _first(model, model.signatureDefs[0].subgraphIndex)
    return write(model)


def _first(model: Any, index: int) -> None:
    """Exchange a graph with the file's first, wherever it is referred to."""
    if not index:
        return
    swap = {0: index, index: 0}
    model.subgraphs[0], model.subgraphs[index] = model.subgraphs[index], model.subgraphs[0]
    for signature in model.signatureDefs:
        signature.subgraphIndex = swap.get(signature.subgraphIndex, signature.subgraphIndex)
    for graph in model.subgraphs:
        for option, key in _calls(graph):
            setattr(option, key, swap.get(getattr(option, key), getattr(option, key)))


def _calls(graph: Any) -> Iterator[tuple[Any, str]]:
    """Where a graph's operators refer to other graphs (loops, conditions): the options, and the
    name of the field."""
    for op in graph.operators:
        for option in (op.builtinOptions, getattr(op, "builtinOptions2", None)):
            for key in vars(option) if option is not None else ():
                if key.lower().endswith("subgraphindex"):
                    yield option, key


def first_alone(content: bytes) -> bytes:
    """A file with its first signature only, the graphs that this one needs, and their constants."""
    model = read(content)
    needed = [0]
    for index in needed:
        for option, key in _calls(model.subgraphs[index]):
            if getattr(option, key) not in needed:
                needed.append(getattr(option, key))
    position = {index: i for i, index in enumerate(needed)}
    model.subgraphs = [model.subgraphs[index] for index in needed]
    for graph in model.subgraphs:
        for option, key in _calls(graph):
            setattr(option, key, position[getattr(option, key)])
    model.signatureDefs = model.signatureDefs[:1]
    return share_buffers(write(model))


def share_buffers(content: bytes) -> bytes:
    """Keep equal constants once, and none that nothing refers to: quantized files with several
    signatures hold each graph's weights anew."""
    model = read(content)
    first: dict[bytes, int] = {}
    position: dict[int, int] = {}
    buffers: list[Any] = []
    used = {
        0,
        *(t.buffer for graph in model.subgraphs for t in graph.tensors),
        *(e.buffer for e in model.metadata or ()),
    }
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            continue
        data = b"" if buffer.data is None else bytes(bytearray(buffer.data))
        # Empty buffers are the places of tensors that a run fills; the first of all must stay the
        # first.
        if data and data in first:
            position[index] = first[data]
            continue
        position[index] = len(buffers)
        if data:
            first[data] = len(buffers)
        buffers.append(buffer)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = position[tensor.buffer]
    for entry in model.metadata or ():
        entry.buffer = position[entry.buffer]
    model.buffers = buffers
    return write(model)


def ops(content: bytes) -> dict[str, int]:
    """How often each operator stands in the file.

    Raises:
        ExportError: custom or Flex operators, which no runtime from a package index can load.
    """
    model = read(content)
    names = kinds(model)
    custom = [text(code.customCode) for code in model.operatorCodes if code.customCode]
    if custom:
        raise ExportError(
            f"The file needs operators that are not built in: {', '.join(sorted(custom))}."
        )
    counts = Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)
    return dict(sorted(counts.items()))


def builtin_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }


def text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
