"""Data: sources, splits, labels that may be missing, encoders. Independent of models."""

import importlib
from typing import Any

from mtl_keras.data import batches, labels, sources
from mtl_keras.data.annotations import Annotations, read_coco, read_voc
from mtl_keras.data.arrays import from_arrays
from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.description import Description
from mtl_keras.data.fields import ArrayField, Field, FunctionField
from mtl_keras.data.folders import from_folder
from mtl_keras.data.inputs import Inputs
from mtl_keras.data.labels import LabelScaleWarning, complete
from mtl_keras.data.leaks import LeakWarning
from mtl_keras.data.libraries import from_huggingface, from_tf_data
from mtl_keras.data.mixing import mix
from mtl_keras.data.partial import only_labelled
from mtl_keras.data.sampling import sampling_rates
from mtl_keras.data.scenes import fashion_scenes
from mtl_keras.data.sources import DataError, fetch
from mtl_keras.data.splits import Split, SplitWarning
from mtl_keras.data.tables import from_csv, from_dataframe, from_parquet
from mtl_keras.data.tfds import from_tfds
from mtl_keras.data.weights import class_weights, row_weights, task_weights
from mtl_keras.runtime.encoders import (
    CharTokenizer,
    HashingTokenizer,
    ImageEncoder,
    MixedEncoder,
    SoundEncoder,
    SubwordTokenizer,
    TableEncoder,
    WordTokenizer,
    register_encoder,
    split_words,
)

__all__ = [
    "Annotations",
    "ArrayField",
    "CharTokenizer",
    "DataError",
    "Description",
    "Field",
    "FunctionField",
    "HashingTokenizer",
    "ImageEncoder",
    "Inputs",
    "LabelScaleWarning",
    "LeakWarning",
    "MixedEncoder",
    "SoundEncoder",
    "Split",
    "SplitWarning",
    "SubwordTokenizer",
    "TableEncoder",
    "TaskDataset",
    "WordTokenizer",
    "augment",
    "batches",
    "class_weights",
    "complete",
    "fashion_scenes",
    "fetch",
    "from_arrays",
    "from_csv",
    "from_dataframe",
    "from_folder",
    "from_huggingface",
    "from_parquet",
    "from_tf_data",
    "from_tfds",
    "labels",
    "mix",
    "only_labelled",
    "read_coco",
    "read_voc",
    "register_encoder",
    "row_weights",
    "sampling_rates",
    "sources",
    "split_words",
    "task_weights",
]


def __getattr__(name: str) -> Any:
    # Its steps are TensorFlow's: they are imported when they are first used.
    if name == "augment":
        return importlib.import_module("mtl_keras.data.augment")
    raise AttributeError(f"module 'mtl_keras.data' has no attribute {name!r}")
