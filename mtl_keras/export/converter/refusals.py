"""What the converter can't turn into builtin operators, in words for people: which layer, which
operation, what would do."""

from __future__ import annotations

import re
from collections.abc import Collection

import keras

from mtl_keras.graph import sublayers

__all__ = ["explain_conversion_error", "recurrent_layer_error"]

_ARGMAX = "`keras.ops.argmax` does this: leave the choice to `decode=` or to `TFLiteModel.predict`, or use `tf.argmax`"
_FOURIER = "multiply with a constant matrix, or transform before the network"
_ALGEBRA = "there is no linear algebra beyond products: compute it before export and keep the result as a constant"
_LOOP = "build the layer of this loop with unroll=True"
_DOES = {
    "BitwiseAnd": _ARGMAX,
    "ResizeBicubic": 'use interpolation="bilinear" or "nearest"',
    "ScaleAndTranslate": "resize without antialias",
    **dict.fromkeys(("FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "Complex"), _FOURIER),
    **dict.fromkeys(
        ("MatrixDeterminant", "MatrixInverse", "Svd", "Qr", "SelfAdjointEigV2", "Cholesky"),
        _ALGEBRA,
    ),
    **dict.fromkeys(
        ("TensorListReserve", "TensorListStack", "TensorListFromTensor", "TensorListSetItem"), _LOOP
    ),
}
_OTHERWISE = "replace it by products, convolutions, pooling and elementwise functions, or move it out of the network"


def explain_conversion_error(error: Exception, model: keras.Model) -> str:
    """The converter's report as a sentence a layer."""
    known = {layer.name: layer for layer in sublayers(model, include_self=False)}
    operations_by_layer: dict[str | None, list[str]] = {}
    pattern = r"""loc\((?:callsite\()*fused\["[^"]*", "([^"@]+)[^"]*"\](?:(?!error:).)*?'tf\.(\w+)' op is neither"""
    for path, operation in re.findall(pattern, str(error), re.S):
        operations = operations_by_layer.setdefault(_layer(path, known), [])
        if operation not in operations:
            operations.append(operation)
    if tokens := re.search(r"Empty min/max for tensor (?:serving_default_)?(\w+)", str(error)):
        return (
            f"Input '{tokens[1]}' holds whole numbers, such as words of a vocabulary, for which "
            f"the converter's int16x8 "
            "measures no ranges. Use quantization='int8' or 'dynamic'."
        )
    start = "The model can't be converted to TFLite with builtin operators: "
    if not operations_by_layer:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [
            line
            for line in lines
            if any(word in line.lower() for word in ("error:", "not supported", "custom op"))
        ]
        return start + " ".join((telling or lines)[:3])[:800]
    sentences = []
    for name, operations in operations_by_layer.items():
        who = (
            "what no layer holds"
            if name is None
            else f"layer '{name}' ({type(known[name]).__name__})"
        )
        advice = "; ".join(
            dict.fromkeys(_DOES.get(operation, _OTHERWISE) for operation in operations)
        )
        sentences.append(f"{who} needs {', '.join(operations)}: {advice}")
    return start + ". ".join(sentences) + "."


def _layer(path: str, known: Collection[str]) -> str | None:
    """The innermost layer in the path of an operation; TensorFlow numbers names that come twice."""
    for part in reversed(path.split("/")[:-1]):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in known:
                return name
    return None


def recurrent_layer_error(model: keras.Model) -> str | None:
    """Why a model with recurrent layers has no full-int8 form, or None: the converter's calibration
    of their loops crashes."""
    for layer in sublayers(model, include_self=False):
        if isinstance(layer, keras.layers.RNN) and not layer.unroll:
            return (
                f"Layer '{layer.name}' is recurrent, and TensorFlow's converter has no full-int8 "
                f"form of its loop. Use "
                "quantization='dynamic' (int8 weights), or build the layer with unroll=True."
            )
    return None
