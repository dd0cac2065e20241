"""Export: SavedModel and TFLite files, each loaded again and compared with Keras before it counts."""

from mtl_keras.export.files import ExportError
from mtl_keras.export.report import ExportReport, HeadReport
from mtl_keras.export.saved_model import saved_model
from mtl_keras.export.tflite import run_tflite, tflite

__all__ = ["ExportError", "ExportReport", "HeadReport", "run_tflite", "saved_model", "tflite"]
