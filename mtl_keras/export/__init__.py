"""Export: SavedModel and TFLite files, each loaded again and compared with Keras before it counts.

`TFLiteModel`, `benchmark`, `snippets` and `web_page` come from `mtl_keras.runtime` and work without
Keras. The others need Keras.
"""

from typing import Any

from mtl_keras.runtime import (
    BenchmarkReport,
    ExportError,
    TFLiteModel,
    benchmark,
    snippets,
    web_page,
)

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    _reason = str(error)

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(
                f"`mtl_keras.export.{name}` needs Keras, which can't be imported: {_reason}"
            )
        raise AttributeError(f"module 'mtl_keras.export' has no attribute {name!r}")

else:
    from mtl_keras.export.compression.compress import CompressionReport, compress
    from mtl_keras.export.compression.training_aware import float_twin, quantization_aware
    from mtl_keras.export.converter.open_formats import onnx, openvino
    from mtl_keras.export.converter.saved_model import saved_model
    from mtl_keras.export.layer_errors import LayerError, LayerErrorReport, layer_errors
    from mtl_keras.export.raw_images import with_raw_images
    from mtl_keras.export.report import ExportReport, HeadReport
    from mtl_keras.export.split import split
    from mtl_keras.export.tflite import run_tflite, tflite

__all__ = [
    "BenchmarkReport",
    "CompressionReport",
    "ExportError",
    "ExportReport",
    "HeadReport",
    "LayerError",
    "LayerErrorReport",
    "TFLiteModel",
    "benchmark",
    "compress",
    "float_twin",
    "layer_errors",
    "onnx",
    "openvino",
    "quantization_aware",
    "run_tflite",
    "saved_model",
    "snippets",
    "split",
    "tflite",
    "web_page",
    "with_raw_images",
]
