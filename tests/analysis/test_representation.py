"""The shared vectors, and their map."""

import sys

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from tests.helpers import image_data, image_model, table_data, table_model


def test_pca_is_scikit_learns_up_to_signs():
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = np.random.default_rng(0).standard_normal((40, 6)) * [5, 1, 3, 0.1, 2, 1] + 7
    expected = decomposition.PCA(2).fit_transform(vectors)
    points = mtl.analysis.project(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)


def test_vectors_are_the_pooled_map_of_the_deepest_stage():
    model, (x, y) = image_model(), image_data(7)
    name = model.representation[-1]
    maps = keras.Model(model.input, model.get_layer(name).output).predict_on_batch(x)
    vectors = mtl.analysis.representations(model, (x, y))
    np.testing.assert_allclose(vectors, maps.mean((1, 2)), atol=1e-6)


def test_one_direction_is_enough():
    points = mtl.analysis.project([[1.0], [2.0], [4.0]])
    assert points.shape == (3, 2) and (points[:, 1] == 0).all()


def test_what_is_wrong_is_said(monkeypatch):
    model, data = table_model(), table_data(4)
    with pytest.raises(ValueError, match="layer"):
        mtl.analysis.representations(model, data, layer="nothing")
    with pytest.raises(ValueError, match="two rows"):
        mtl.analysis.project([[1.0, 2.0]])
    with pytest.raises(ValueError, match="method"):
        mtl.analysis.project([[1.0], [2.0]], "umap")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(mtl.data.DataError, match="needs scikit-learn"):
        mtl.analysis.project([[1.0], [2.0]], "tsne")
