"""Which class was predicted where which was true: for every task whose answer is a class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from mtl_keras.tasks import Task

__all__ = ["check_classes", "class_names", "class_pairs", "confusion_matrix", "has_classes"]

#: Kinds of tasks whose answer is one class of a row, a pixel or a token.
_ONE_CLASS = ("classification", "binary", "ordinal", "segmentation", "token_tagging")


def has_classes(task: Task) -> bool:
    """Whether a task's answers are classes, so that a confusion matrix exists."""
    return task.kind in (*_ONE_CLASS, "multi_label")


def class_names(task: Task) -> list[str]:
    """The names of a task's classes, or their numbers; "no" and "yes" for one question.

    Args:
        task: `Task` whose answers are classes. Those of `MultiLabel` are its labels.
    """
    if task.kind == "binary":
        return ["no", "yes"]
    facts = task.facts()
    labels = facts.get("labels")
    if task.kind == "segmentation" and facts["num_classes"] == 1:
        return ["background", labels[0] if labels else "object"]
    count = next(facts[key] for key in ("num_classes", "num_labels", "num_tags") if key in facts)
    return list(labels) if labels else [str(number) for number in range(count)]


def class_pairs(task: Task, output: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted class of everything that has a label.

    Args:
        task: `Task` whose answers are classes.
        output: the task's raw output, `(rows, ...)`.
        labels: the task's labels; missing ones are left out. Soft labels count as their most
            probable class.

    Returns:
        Two int arrays `(labeled rows, pixels or tokens,)`; for `MultiLabel` two of shape
        `(labeled entries, 2)`: the label's number, and 0 or 1.

    Raises:
        ValueError: a task whose answers are no classes.
    """
    check_classes(task)
    target, is_known = _target(task, labels)
    output = np.asarray(output, "float32")
    threshold = getattr(task, "threshold", 0.5)
    if task.kind == "multi_label":
        numbers = np.broadcast_to(np.arange(target.shape[-1]), target.shape)[is_known]
        truth, answers = (target > 0.5)[is_known], (output >= threshold)[is_known]
        return np.stack([numbers, truth], -1).astype(int), np.stack([numbers, answers], -1)
    if task.kind == "ordinal":
        truth, answers = (target > 0.5).sum(-1), (output >= 0.5).sum(-1)
    elif output.shape[-1] == 1:
        truth, answers = target[..., 0] > 0.5, output[..., 0] >= threshold
    else:
        truth = target.argmax(-1) if target.ndim == output.ndim else target
        answers = output.argmax(-1)
    return truth[is_known].astype(int), answers[is_known].astype(int)


def confusion_matrix(task: Task, output: Any, labels: Any) -> np.ndarray:
    """How often each class was taken for each: rows are the true classes, columns the predicted.

    Args:
        task: `Classification`, `Binary`, `Ordinal`, `MultiLabel`, `Segmentation` (pixels are
            counted) or `TokenTagging` (tokens are counted).
        output: the task's raw output, `(rows, ...)`, as `predict` gives it.
        labels: the task's labels. Missing ones are left out.

    Returns:
        int64 array `(classes, classes)`; for `MultiLabel` `(labels, 2, 2)`, of each label by
        itself, no before yes.

    Raises:
        ValueError: a task whose answers are no classes.

    Examples:
        >>> task = mtl.tasks.Classification("pet", num_classes=2, labels=["cat", "dog"])
        >>> mtl.analysis.confusion_matrix(task, [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]], [0, 1, 1])
        array([[1, 0],
               [1, 1]])
    """
    truth, answers = class_pairs(task, output, labels)
    count = len(class_names(task))
    if task.kind == "multi_label":
        cells = truth[:, 0] * 4 + truth[:, 1] * 2 + answers[:, 1]
        return np.bincount(cells, minlength=4 * count).reshape(count, 2, 2)
    return np.bincount(truth * count + answers, minlength=count**2).reshape(count, count)


def check_classes(task: Task) -> None:
    """Refuse a task whose answers are no classes."""
    if not has_classes(task):
        raise ValueError(
            f"Task '{task.name}' is of kind '{task.kind}', whose answers are no classes. A "
            f"confusion matrix exists for {', '.join((*_ONE_CLASS, 'multi_label'))}."
        )


def _target(task: Task, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the loss compares, and where a label is, as arrays."""
    target, is_known = task.target(keras.ops.convert_to_tensor(np.asarray(labels)))
    return keras.ops.convert_to_numpy(target), keras.ops.convert_to_numpy(is_known)
