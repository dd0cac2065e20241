"""What the heads share: the vectors behind them, and their map in two dimensions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from mtl_keras.analysis.rows import batches, inputs_by_name
from mtl_keras.data import DataError
from mtl_keras.graph import output_of
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks.task import vector

__all__ = ["project", "representations"]


def representations(model: Any, data: Any, layer: str | None = None) -> np.ndarray:
    """The vectors that the heads share, one per row.

    Feature maps are averaged over places, sequences over the times that are not masked, as the
    heads of classes do.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`.
        layer: name of a layer. None takes the deepest layer that all heads share.

    Returns:
        float32 array `(rows, units)`.

    Raises:
        ValueError: an unknown layer, or a model whose heads share none (name one then).

    Examples:
        >>> mtl.analysis.representations(model, (images, labels)).shape
        (16, 8)
    """
    network = keras.Model({t.name: t for t in model.inputs}, _pooled(model, layer))
    parts = [
        np.asarray(network.predict_on_batch(inputs_by_name(model, x))) for x, _, _ in batches(data)
    ]
    return np.concatenate(parts).astype("float32")


def _pooled(model: Any, layer: str | None) -> Any:
    names = [part.name for part in model.layers]
    if layer is not None and layer not in names:
        raise ValueError(unknown_name("layer", layer, names))
    if layer is None:
        if not model.representation:
            raise ValueError(
                f"Model '{model.name}' names no representation that all its heads share. Give "
                f"`layer=`, the name of one of its layers."
            )
        layer = model.representation[-1]
    return vector({layer: output_of(model, layer)}, "representation")


def project(vectors: Any, method: str = "pca", seed: int = 0) -> np.ndarray:
    """Vectors in two dimensions.

    Args:
        vectors: array `(rows, units)`.
        method: "pca": the two directions of largest variance, from a singular value decomposition;
            each direction's largest entry is positive. "tsne": neighbors stay neighbors (needs
            scikit-learn).
        seed: int. Of t-SNE.

    Returns:
        float64 array `(rows, 2)`.

    Raises:
        ValueError: an unknown method, or fewer than two rows.
        DataError: "tsne" without scikit-learn.

    Examples:
        >>> mtl.analysis.project([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0]])[:, 0]
        array([-1.,  1.])

    References:
        van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008.
    """
    vectors = np.asarray(vectors, "float64")
    if method not in ("pca", "tsne"):
        raise ValueError(unknown_name("method", method, ("pca", "tsne")))
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(
            f"`vectors` should have at least two rows, shape (rows, units). Received: "
            f"{vectors.shape}."
        )
    if method == "tsne":
        return _tsne(vectors, seed)
    centered = vectors - vectors.mean(0)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    # The sign of a direction is arbitrary: this one is the same on every machine.
    largest = np.abs(directions).argmax(1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    points = centered @ directions.T
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise DataError(
            't-SNE needs scikit-learn: pip install "mtl_keras[data]". method="pca" works without.'
        ) from None
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(vectors), "float64")
