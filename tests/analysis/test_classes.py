"""Confusion matrices, against scikit-learn."""

import numpy as np
import pytest

import mtl_keras as mtl

metrics = pytest.importorskip("sklearn.metrics")


def _case(kind, rng, rows=40):
    """A task, random outputs, labels of which some are missing, and classes `(truth, answer)` of
    the rest by arithmetic of its own."""
    missing = rng.random(rows) < 0.2
    if kind == "classification":
        task, output = mtl.tasks.Classification("t", 4), rng.dirichlet(np.ones(4), rows)
        labels = rng.integers(0, 4, rows)
        answer = [max(range(4), key=lambda c, r=row: r[c]) for row in output]
    elif kind == "soft":
        task, output = mtl.tasks.Classification("t", 4), rng.dirichlet(np.ones(4), rows)
        soft = rng.dirichlet(np.ones(4), rows)
        truth = soft.argmax(1)
        soft[missing] = np.nan
        return task, output, soft, truth[~missing], output.argmax(1)[~missing]
    elif kind == "binary":
        task, output = mtl.tasks.Binary("t", threshold=0.3), rng.random((rows, 1))
        labels = rng.integers(0, 2, rows)
        answer = [int(row[0] >= 0.3) for row in output]
    elif kind == "ordinal":
        task = mtl.tasks.Ordinal("t", 4)
        output = -np.sort(-rng.random((rows, 3)), axis=1)
        labels = rng.integers(0, 4, rows)
        answer = [sum(p >= 0.5 for p in row) for row in output]
    elif kind == "segmentation":
        task = mtl.tasks.Segmentation("t", 3)
        output, labels = rng.dirichlet(np.ones(3), (4, 5, 6)), rng.integers(-1, 3, (4, 5, 6))
        known = labels >= 0
        return task, output, labels, labels[known], output.argmax(-1)[known]
    else:
        task = mtl.tasks.Segmentation("t", 1)
        output, labels = rng.random((4, 5, 6, 1)), rng.integers(-1, 2, (4, 5, 6))
        known = labels >= 0
        return task, output, labels, labels[known], (output[..., 0] >= 0.5)[known].astype(int)
    truth, answer = labels[~missing], np.array(answer)[~missing]
    return task, output, np.where(missing, -1, labels), truth, answer


@pytest.mark.parametrize(
    "kind", ["classification", "soft", "binary", "ordinal", "segmentation", "silhouette"]
)
def test_counts_are_those_of_scikit_learn(kind):
    task, output, labels, truth, answer = _case(kind, np.random.default_rng(0))
    count = max(getattr(task, "num_classes", 2), 2)
    expected = metrics.confusion_matrix(truth, answer, labels=range(count))
    np.testing.assert_array_equal(mtl.analysis.confusion_matrix(task, output, labels), expected)


def test_each_label_of_several_has_a_matrix_of_its_own():
    rng = np.random.default_rng(1)
    task = mtl.tasks.MultiLabel("t", 3, threshold=0.4)
    output, labels = rng.random((30, 3)), rng.integers(-1, 2, (30, 3))
    matrices = mtl.analysis.confusion_matrix(task, output, labels)
    for i in range(3):
        known = labels[:, i] >= 0
        expected = metrics.confusion_matrix(labels[known, i], output[known, i] >= 0.4)
        np.testing.assert_array_equal(matrices[i], expected)


def test_padding_of_tags_is_left_out():
    task = mtl.tasks.TokenTagging("t", labels=["O", "X"])
    output = np.eye(2)[[[0, 1, 1, 0]]]
    matrix = mtl.analysis.confusion_matrix(task, output, [[0, 1, 0, -1]])
    assert matrix.tolist() == [[1, 1], [0, 1]]


def test_a_number_has_no_confusion_matrix():
    with pytest.raises(ValueError, match="'cost' is of kind 'regression'.*no classes"):
        mtl.analysis.confusion_matrix(mtl.tasks.Regression("cost"), [[1.0]], [1.0])
