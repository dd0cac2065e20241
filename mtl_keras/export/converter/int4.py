"""Int4 weights beside real-valued activations, by ai-edge-quantizer: a scale per channel, or per
block of a channel."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.files import ExportError

__all__ = ["BLOCKS", "int4_weights"]

#: `quantization=` to the number of weights that share a scale; None is a whole channel.
BLOCKS = {"int4": None, "int4_block32": 32, "int4_block64": 64}


def int4_weights(content: bytes, block: int | None = None) -> bytes:
    """Store a float file's weights in int4; the operators quantize their inputs to int8 as they
    run.

    Args:
        content: float file.
        block: weights of a channel that share a scale: 32, 64, or None for the whole channel. Only
            fully connected layers and embeddings whose input size is a multiple of the block take
            blocks; others stay at a scale per channel.

    Raises:
        ImportError: ai-edge-quantizer is missing.
        ExportError: what it can't do.
    """
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError as error:
        raise ImportError(
            f'int4 weights need ai-edge-quantizer: pip install "mtl-keras[int4]" ({error}).'
        ) from error
    engine = quantizer.Quantizer(bytearray(content))
    engine.add_dynamic_config(
        regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=4
    )
    if block is not None:
        granularity = getattr(qtyping.QuantGranularity, f"BLOCKWISE_{block}")
        for name in _tensors_in_blocks(content, block):
            engine.add_dynamic_config(
                regex=f"^{re.escape(name)}(;|$)",
                operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
                num_bits=4,
                granularity=granularity,
            )
    try:
        # It prints sizes, which the export's own report tells.
        with contextlib.redirect_stdout(io.StringIO()):
            return bytes(engine.quantize().quantized_model)
    except Exception as error:
        raise ExportError(
            f"ai-edge-quantizer can't store this network's weights in int4: {str(error)[:500]}"
        ) from error


def _tensors_in_blocks(content: bytes, block: int) -> list[str]:
    """Output tensors of the fully connected layers whose input size is a multiple of the block."""
    model = flatbuffer.read(content)
    kinds = flatbuffer.kinds(model)
    names: list[str] = []
    for graph in model.subgraphs:
        for op in graph.operators:
            if kinds[op.opcodeIndex] != "FULLY_CONNECTED":
                continue
            weights: Any = graph.tensors[op.inputs[1]]
            is_constant = model.buffers[weights.buffer].data is not None
            if is_constant and int(weights.shape[-1]) % block == 0:
                names.append(flatbuffer.text(graph.tensors[op.outputs[0]].name))
    return names
