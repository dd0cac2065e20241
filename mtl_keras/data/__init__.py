"""Data: sources, labels that may be missing, encoders. Knows nothing of models."""

from mtl_keras.data import batches, encoders, labels, sources
from mtl_keras.data.encoders import (
    CharTokenizer,
    HashingTokenizer,
    ImageEncoder,
    TableEncoder,
    WordTokenizer,
)
from mtl_keras.data.labels import LabelScaleWarning, complete, mix
from mtl_keras.data.scenes import fashion_scenes
from mtl_keras.data.sources import DataError, fetch

__all__ = [
    "CharTokenizer",
    "DataError",
    "HashingTokenizer",
    "ImageEncoder",
    "LabelScaleWarning",
    "TableEncoder",
    "WordTokenizer",
    "batches",
    "complete",
    "encoders",
    "fashion_scenes",
    "fetch",
    "labels",
    "mix",
    "sources",
]
