"""Surgery on a `.tflite` file: heads by name and in the tasks' order, for clients that see tensors only.

The converter names outputs `StatefulPartitionedCall:1` and orders them by chance; the heads' names live in the signature,
which older runtimes, web runtimes and viewers don't read.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.export.files import ExportError

__all__ = ["ENTRY", "describe", "facts_of", "name_and_order", "ops"]

ENTRY = "mtl_keras"


def name_and_order(content: bytes, outputs: Sequence[str]) -> bytes:
    """Name input and output tensors after the signature, and put outputs into this order.

    Raises:
        ExportError: the file's signature does not have exactly these outputs.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        found = {_text(entry.name): entry for entry in signature.outputs}
        if set(found) != set(outputs):
            raise ExportError(f"The converted file has the heads {sorted(found)}; the model has {sorted(outputs)}.")
        named: set[int] = set()
        for entry in (*signature.outputs, *signature.inputs):
            # Two heads may be one tensor; it can bear one name only, and the signature still tells both.
            if entry.tensorIndex not in named:
                graph.tensors[entry.tensorIndex].name = _text(entry.name).encode()
                named.add(entry.tensorIndex)
        signature.outputs = [found[name] for name in outputs]
        graph.outputs = [found[name].tensorIndex for name in outputs]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def describe(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """Put facts into the file, as a metadata entry of JSON named `mtl_keras`; runtimes pass over it."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, len(model.buffers) - 1
    model.metadata = [*(m for m in model.metadata or () if _text(m.name) != ENTRY), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def facts_of(content: bytes) -> dict[str, Any] | None:
    """What `describe` put into a file, or None.

    Raises:
        ExportError: no TFLite file.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    if content[4:8] != b"TFL3":
        raise ExportError("This is no TFLite file: it does not begin as one.")
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        for entry in model.metadata or ():
            if _text(entry.name) == ENTRY:
                return json.loads(bytes(bytearray(model.buffers[entry.buffer].data)))
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise ExportError(f"The TFLite file is damaged: {error}.") from None
    return None


def ops(content: bytes) -> dict[str, int]:
    """How often each operator stands in the file.

    Raises:
        ExportError: custom or Flex operators, which no runtime from a package index can load.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    names = [flatbuffer_utils.get_builtin_code_from_operator_code(code) for code in model.operatorCodes]
    custom = [_text(code.customCode) for code in model.operatorCodes if code.customCode]
    if custom:
        raise ExportError(f"The file needs operators that are not built in: {', '.join(sorted(custom))}.")
    table = _builtin_names()
    counts = Counter(table[names[op.opcodeIndex]] for graph in model.subgraphs for op in graph.operators)
    return dict(sorted(counts.items()))


def _builtin_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
