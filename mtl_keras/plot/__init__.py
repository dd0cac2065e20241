"""Pictures of results: predictions beside the truth, curves, confusion, calibration, shared
representations, and what each head looks at.

Every function takes a model (or a history) and returns a matplotlib figure, which a notebook shows.
With `path=` it also writes a file."""

from mtl_keras.plot.confusion import confusion
from mtl_keras.plot.embedding import embedding
from mtl_keras.plot.figures import Picture
from mtl_keras.plot.history import history
from mtl_keras.plot.predictions import predictions
from mtl_keras.plot.reliability import reliability
from mtl_keras.plot.saliency import saliency

__all__ = [
    "Picture",
    "confusion",
    "embedding",
    "history",
    "predictions",
    "reliability",
    "saliency",
]
