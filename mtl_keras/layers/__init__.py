"""Keras layers that backbones, heads and builders need and Keras lacks."""

from mtl_keras.layers.categorical_embedding import CategoricalEmbedding
from mtl_keras.layers.experts import Experts, Gate, Mixture
from mtl_keras.layers.task_output import TaskOutput

__all__ = ["CategoricalEmbedding", "Experts", "Gate", "Mixture", "TaskOutput"]
