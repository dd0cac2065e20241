"""Data: sources, labels that may be missing, encoders. Independent of models."""

from mtl_keras.data import batches, labels, sources
from mtl_keras.data.labels import LabelScaleWarning, complete, mix
from mtl_keras.data.scenes import fashion_scenes
from mtl_keras.data.sources import DataError, fetch
from mtl_keras.runtime.encoders import (
    CharTokenizer,
    HashingTokenizer,
    ImageEncoder,
    SoundEncoder,
    TableEncoder,
    WordTokenizer,
    register_encoder,
    split_words,
)

__all__ = [
    "CharTokenizer",
    "DataError",
    "HashingTokenizer",
    "ImageEncoder",
    "LabelScaleWarning",
    "SoundEncoder",
    "TableEncoder",
    "WordTokenizer",
    "batches",
    "complete",
    "fashion_scenes",
    "fetch",
    "labels",
    "mix",
    "register_encoder",
    "sources",
    "split_words",
]
