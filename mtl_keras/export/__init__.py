"""Export: SavedModel and TFLite files, each loaded again and compared with Keras before it counts.

`TFLiteModel`, `benchmark`, `snippets` and `web_page` work on a file with `ai-edge-litert` and NumPy alone; the rest needs
Keras.
"""

from mtl_keras import _uses_keras
from mtl_keras.runtime import (
    BenchmarkReport,
    ExportError,
    TFLiteModel,
    benchmark,
    snippets,
    web_page,
)

if _uses_keras():
    from mtl_keras.export.compress import CompressionReport, compress
    from mtl_keras.export.layer_errors import LayerError, LayerErrorReport, layer_errors
    from mtl_keras.export.open_formats import onnx, openvino
    from mtl_keras.export.raw_images import with_raw_images
    from mtl_keras.export.report import ExportReport, HeadReport
    from mtl_keras.export.saved_model import saved_model
    from mtl_keras.export.tflite import run_tflite, split, tflite
    from mtl_keras.export.training_aware import float_twin, quantization_aware

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
