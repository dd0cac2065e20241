"""Calibration, against its definition and scikit-learn."""

import numpy as np
import pytest

import mtl_keras as mtl


def _by_hand(chance, holds, bins):
    """Guo et al., ICML 2017, equations 2 to 5, as loops."""
    total = 0.0
    for m in range(bins):
        members = [
            i for i, p in enumerate(chance) if m / bins < p <= (m + 1) / bins or (m == 0 and p == 0)
        ]
        if members:
            accuracy = sum(holds[i] for i in members) / len(members)
            confidence = sum(chance[i] for i in members) / len(members)
            total += len(members) / len(chance) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_of_classes_is_the_papers(bins):
    rng = np.random.default_rng(bins)
    task = mtl.tasks.Classification("t", 4)
    output, labels = rng.dirichlet(np.ones(4), 200), rng.integers(-1, 4, 200)
    known = labels >= 0
    expected = _by_hand(output.max(1)[known], (output.argmax(1) == labels)[known].tolist(), bins)
    error = mtl.analysis.expected_calibration_error(task, output, labels, bins)
    assert error == pytest.approx(expected, abs=1e-12)


def test_bins_of_yes_are_those_of_scikit_learn():
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(0)
    output, labels = rng.random((300, 1)), rng.integers(0, 2, 300)
    accuracy, confidence = calibration_curve(labels, output[:, 0], n_bins=8)
    result = mtl.analysis.calibration(mtl.tasks.Binary("t"), output, labels, bins=8)
    np.testing.assert_allclose(result.accuracy, accuracy)
    np.testing.assert_allclose(result.confidence, confidence)
    assert result.counts.sum() == 300
    assert result.error == pytest.approx(_by_hand(output[:, 0], labels.tolist(), 8))


def test_probabilities_that_are_frequencies_have_no_error():
    output = np.repeat([[0.25], [0.75]], 400, 0)
    labels = np.r_[np.arange(400) % 4 == 0, np.arange(400) % 4 != 0].astype(int)
    task = mtl.tasks.Binary("t")
    assert mtl.analysis.expected_calibration_error(task, output, labels) == pytest.approx(0)
    # Certain and always wrong is as far off as can be.
    assert mtl.analysis.expected_calibration_error(task, [[1.0], [0.0]], [0, 1]) == 1


def test_levels_count_with_the_probability_that_decode_names():
    rng = np.random.default_rng(2)
    task = mtl.tasks.Ordinal("t", 4)
    output, labels = -np.sort(-rng.random((50, 3)), axis=1), rng.integers(0, 4, 50)
    decoded = task.decode(output)
    chance = [part["probability"] for part in decoded]
    holds = [part["label"] == label for part, label in zip(decoded, labels, strict=True)]
    error = mtl.analysis.expected_calibration_error(task, output, labels, 10)
    assert error == pytest.approx(_by_hand(chance, holds, 10))


def test_single_labels_may_be_missing():
    task = mtl.tasks.MultiLabel("t", 2)
    output, labels = np.array([[0.9, 0.2], [0.6, 0.7]]), np.array([[1, -1], [0, np.nan]])
    result = mtl.analysis.calibration(task, output, labels, 10)
    assert result.counts.sum() == 2
    assert result.to_dict()["counts"] == result.counts.tolist()


def test_no_label_and_no_probability_are_refused():
    with pytest.raises(ValueError, match="'t' has no label"):
        mtl.analysis.calibration(mtl.tasks.Binary("t"), [[0.5]], [-1])
    with pytest.raises(ValueError, match="no probabilities"):
        mtl.analysis.calibration(mtl.tasks.Regression("t"), [[0.5]], [1.0])
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        mtl.analysis.calibration(mtl.tasks.Binary("t"), [[0.5]], [1], 0)
