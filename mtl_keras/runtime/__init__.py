"""The runtime: exported files where they are used, with NumPy and `ai-edge-litert` alone.

Nothing in this package imports Keras or TensorFlow. Reads a `.tflite` file and what it says of
itself, encodes raw inputs, runs the file, decodes its outputs, measures its latency, and writes
ready calls of it.

from mtl_keras import runtime
model = runtime.TFLiteModel("model.tflite")
model.predict({"image": model.encoder.encode(["photo.jpg"])})
"""

from mtl_keras.runtime.benchmarking import BenchmarkReport, benchmark
from mtl_keras.runtime.codegen import snippets, web_page
from mtl_keras.runtime.decoding import decode
from mtl_keras.runtime.encoders import (
    CharTokenizer,
    HashingTokenizer,
    ImageEncoder,
    MixedEncoder,
    SoundEncoder,
    SubwordTokenizer,
    TableEncoder,
    WordTokenizer,
    encoder_from_json,
    encoder_to_json,
    register_encoder,
)
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.tflite_model import TFLiteModel

__all__ = [
    "BenchmarkReport",
    "CharTokenizer",
    "ExportError",
    "HashingTokenizer",
    "ImageEncoder",
    "MixedEncoder",
    "SoundEncoder",
    "SubwordTokenizer",
    "TFLiteModel",
    "TableEncoder",
    "WordTokenizer",
    "benchmark",
    "decode",
    "encoder_from_json",
    "encoder_to_json",
    "register_encoder",
    "snippets",
    "web_page",
]
