"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtl_keras.analysis.classes import _target, class_pairs, has_classes
from mtl_keras.tasks import Task

__all__ = ["Calibration", "calibration", "expected_calibration_error"]


@dataclass(frozen=True)
class Calibration:
    """How often answers of each confidence are right.

    Attributes:
        edges: of the bins, `bins + 1` probabilities from 0 to 1.
        counts: answers in each bin.
        confidence: mean probability of each bin's answers; NaN where a bin is empty.
        accuracy: share of each bin's answers that are right; NaN where a bin is empty. Of yes-or-no
            questions: the share of yes.
        error: the expected calibration error, the mean gap between the two, weighted by counts.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
        }


def confidences(task: Task, output: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """The probability of every answer that has a label, and whether it holds.

    Of classes it is the probability of the predicted one; of yes-or-no questions that of yes.
    """
    if not has_classes(task):
        raise ValueError(
            f"Task '{task.name}' is of kind '{task.kind}', whose answers are no probabilities."
        )
    output = np.asarray(output, "float64")
    target, is_known = _target(task, labels)
    if task.kind == "multi_label":
        return output[is_known], (target > 0.5)[is_known]
    if task.kind == "ordinal":
        above = np.concatenate(
            [np.ones((len(output), 1)), output, np.zeros((len(output), 1))], axis=1
        )
        level = (output >= 0.5).sum(1)
        rows = np.arange(len(output))
        chance = above[rows, level] - above[rows, level + 1]
        truth, answers = class_pairs(task, output, labels)
        return chance[is_known], truth == answers
    if output.shape[-1] == 1:
        return output[..., 0][is_known], (target[..., 0] > 0.5)[is_known]
    truth, answers = class_pairs(task, output, labels)
    return output.max(-1)[is_known], truth == answers


def calibration(task: Task, output: Any, labels: Any, bins: int = 15) -> Calibration:
    """How often answers of each confidence are right, in bins of equal width.

    Of `Classification`, `Ordinal`, `Segmentation` and `TokenTagging`, an answer is the predicted
    class with its probability. Of `Binary`, `MultiLabel` and silhouettes it is the probability of
    yes, which should be the share of yes.

    Args:
        task: `Task` whose answers are classes.
        output: the task's raw output, `(rows, ...)`, as `predict` gives it.
        labels: the task's labels. Missing ones are left out.
        bins: int >= 1. Defaults to 15.

    Returns:
        `Calibration`.

    Raises:
        ValueError: a task without probabilities, no label at all, or fewer than one bin.

    Examples:
        >>> rain = mtl.tasks.Binary("rain")
        >>> mtl.analysis.calibration(rain, [[0.9], [0.9], [0.1]], [1, 0, 0], bins=2).counts
        array([1, 2])

    References:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    chance, holds = confidences(task, output, labels)
    return calibrate(task.name, chance, holds, bins)


def calibrate(name: str, chance: np.ndarray, holds: np.ndarray, bins: int) -> Calibration:
    """Put probabilities, and whether they hold, into bins."""
    if int(bins) < 1:
        raise ValueError(f"`bins` should be at least 1. Received: {bins!r}.")
    if not chance.size:
        raise ValueError(f"Task '{name}' has no label in these rows: nothing is to compare.")
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Bins are open on the left, as in the paper; a probability of 0 belongs to the first.
    bin_of = np.clip(np.searchsorted(edges, chance, side="left") - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_of, chance, minlength=bins) / counts
        accuracy = np.bincount(bin_of, holds, minlength=bins) / counts
    gaps = np.nan_to_num(np.abs(accuracy - confidence))
    error = float((gaps * counts).sum()) / chance.size
    return Calibration(edges, counts, confidence, accuracy, error)


def expected_calibration_error(task: Task, output: Any, labels: Any, bins: int = 15) -> float:
    """The mean gap between how sure answers are and how often they are right; 0 is best.

    Args:
        task, output, labels, bins: as in `calibration`.

    Returns:
        float from 0 to 1.

    Raises:
        ValueError: as in `calibration`.

    Examples:
        >>> rain = mtl.tasks.Binary("rain")
        >>> mtl.analysis.expected_calibration_error(rain, [[0.75], [0.75], [0.25]], [1, 1, 0])
        0.25

    References:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    return calibration(task, output, labels, bins).error
