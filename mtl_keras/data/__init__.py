"""Data: sources, labels that may be missing, encoders. Knows nothing of models."""

from mtl_keras.data.labels import complete, mix

__all__ = ["complete", "mix"]
