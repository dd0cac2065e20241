"""TensorFlow Datasets: their data sets as `TaskDataset`s."""

from mtl_keras.data.tfds.loading import from_tfds

__all__ = ["from_tfds"]
