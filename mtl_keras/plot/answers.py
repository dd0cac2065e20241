"""An answer in words, beside the truth: right, wrong, or not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_keras.analysis.classes import class_names
from mtl_keras.plot.rows import is_known
from mtl_keras.tasks import Task

__all__ = ["Answer", "answer"]

#: From this overlap on, a box counts as right (PASCAL VOC).
_OVERLAP = 0.5


@dataclass(frozen=True)
class Answer:
    """One task's answer for one row, in words.

    Attributes:
        task: the task's name.
        text: what is predicted.
        note: the truth where it differs, or how far the answer is off; may be empty.
        is_right: True, False, or None where the truth is missing or there is no right and wrong.
    """

    task: str
    text: str
    note: str
    is_right: bool | None

    @property
    def mark(self) -> str:
        return {True: "✓", False: "✗", None: ""}[self.is_right]


def answer(task: Task, output: np.ndarray, label: np.ndarray | None) -> Answer:
    """Put one row's answer of one task into words.

    Args:
        task: `Task`.
        output: the raw output of one row.
        label: the row's label, or None.
    """
    known = is_known(task, label)
    decoded = task.decode(np.asarray(output)[None])[0]
    describe: Callable[[Any, Any], str] = _TEXTS.get(task.kind, _plain_text)
    text = describe(task, decoded)
    if label is None or not known.any():
        return Answer(task.name, text, "no label", None)
    compare = _COMPARISONS.get(task.kind)
    if compare is None:
        return Answer(task.name, text, "", None)
    note, is_right = compare(task, decoded, np.asarray(output), np.asarray(label), known)
    return Answer(task.name, text, note, is_right)


def number(value: float) -> str:
    """A number as a person writes it: three or four digits that count."""
    size = abs(float(f"{value:.4g}"))
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}" if size >= 1 else f"{value:.3g}"


# === The prediction in words ===


def _plain_text(task: Task, decoded: Any) -> str:
    if isinstance(decoded, np.ndarray):
        return f"{'×'.join(map(str, decoded.shape))} numbers"
    return str(decoded)


def _class_text(task: Task, decoded: Mapping[str, Any]) -> str:
    return f"{decoded['label']} {decoded['probability']:.0%}"


def _binary_text(task: Task, decoded: Mapping[str, Any]) -> str:
    chance = decoded["probability"] if decoded["label"] else 1 - decoded["probability"]
    return f"{'yes' if decoded['label'] else 'no'} {chance:.0%}"


def _labels_text(task: Task, decoded: Any) -> str:
    return ", ".join(f"{part['label']} {part['probability']:.0%}" for part in decoded) or "none"


def _numbers_text(task: Any, decoded: Any) -> str:
    values = decoded if isinstance(decoded, list) else [decoded]
    shown = ", ".join(number(value) for value in values[:4]) + (", …" if len(values) > 4 else "")
    return f"{shown} {task.unit}".strip()


def _objects_text(task: Task, decoded: Any) -> str:
    if not decoded:
        return "no object"
    return ", ".join(f"{part['label']} {part['probability']:.0%}" for part in decoded[:4]) + (
        f" and {len(decoded) - 4} more" if len(decoded) > 4 else ""
    )


def _tags_text(task: Task, decoded: Any) -> str:
    if decoded and isinstance(decoded[0], dict):
        return ", ".join(part["label"] for part in decoded)
    return "" if decoded else "none"


def _silent(task: Task, decoded: Any) -> str:
    return ""


_TEXTS: dict[str, Callable[[Any, Any], str]] = {
    "classification": _class_text,
    "ordinal": _class_text,
    "binary": _binary_text,
    "multi_label": _labels_text,
    "regression": _numbers_text,
    "detection": _objects_text,
    "token_tagging": _tags_text,
    "transcription": lambda task, decoded: f"“{decoded}”",
    "bounding_box": _silent,
    "keypoints": _silent,
    "segmentation": _silent,
    "depth": _silent,
    "normals": _silent,
}


# === Against the truth ===

Comparison = tuple[str, bool | None]


def _target(task: Task, label: np.ndarray) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(task.target(ops.convert_to_tensor(label[None]))[0])[0])


def _compare_class(
    task: Task, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    target = _target(task, label)
    names = class_names(task)
    if task.kind == "ordinal":
        truth, guess = int((target > 0.5).sum()), int((output >= 0.5).sum())
    elif task.kind == "binary":
        truth, guess = int(target[0] > 0.5), int(bool(decoded["label"]))
    else:
        truth = int(target.argmax() if target.ndim else target)
        guess = int(output.argmax())
    return ("", True) if truth == guess else (f"is {names[truth]}", False)


def _compare_labels(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    truth = _target(task, label) > 0.5
    names = class_names(task)
    is_wrong = known & (truth != (output >= task.threshold))
    count = int((~known).sum())
    unknown = f"{count} label{'s' if count > 1 else ''} not known" if count else ""
    if not is_wrong.any():
        return unknown, True
    right = ", ".join(n for n, yes in zip(names, truth & known, strict=True) if yes) or "none"
    return f"is {right}" + (f"; {unknown}" if unknown else ""), False


def _compare_numbers(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    truth = np.atleast_1d(np.asarray(label, float))
    return f"is {_numbers_text(task, truth.tolist())}", None


def _compare_text(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    letters = [task.alphabet[int(i)] for i in label if np.isfinite(i) and i >= 0]
    truth = "".join(letters)
    return ("", True) if truth == decoded else (f"is “{truth}”", False)


def _compare_box(
    task: Task, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    overlap = box_overlap(np.asarray(label, float), np.asarray(output, float))
    return f"overlap {overlap:.0%}", bool(overlap >= _OVERLAP)


def box_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(np.maximum(a[2:] - a[:2], 0)) + np.prod(np.maximum(b[2:] - b[:2], 0)) - shared
    return float(shared / union) if union > 0 else 0.0


def match_objects(task: Any, decoded: Any, label: np.ndarray) -> tuple[list[bool], list[bool]]:
    """Which predicted objects are right, and which true ones were found: each is matched once, the
    surest first."""
    names = class_names(task)
    truth = np.asarray(label, float)
    truth = truth[np.isfinite(truth).all(1) & (truth[:, 4] >= 0)]
    is_free = [True] * len(truth)
    is_right = []
    for part in decoded:
        box = np.array([part[side] for side in ("left", "top", "right", "bottom")])
        overlaps = [
            box_overlap(row[:4], box)
            if is_free[i] and names[int(row[4])] == str(part["label"])
            else 0.0
            for i, row in enumerate(truth)
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] >= _OVERLAP
        if hit:
            is_free[best] = False
        is_right.append(bool(hit))
    return is_right, [not free for free in is_free]


def _compare_objects(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    is_right, is_found = match_objects(task, decoded, label)
    extra = len(is_right) - sum(is_right)
    note = f"{sum(is_found)} of {len(is_found)} found" if is_found else "is no object"
    if extra:
        note += f", {extra} too many"
    return note, all(is_found) and not extra


def _compare_points(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    distance = np.linalg.norm(output - label, axis=-1)[known]
    near = int((distance < task.within).sum())
    return f"{near} of {len(distance)} points within {task.within:.0%}", near == len(distance)


def _compare_mask(
    task: Task, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    truth, guess = mask_classes(task, label), np.asarray(decoded).astype(int)
    classes = [1] if task.facts()["num_classes"] == 1 else np.unique(truth[known])
    overlaps = []
    for number_ in classes:
        a, b = (truth == number_) & known, (guess == number_) & known
        overlaps.append((a & b).sum() / max((a | b).sum(), 1) if (a | b).any() else 1.0)
    return f"overlap {float(np.mean(overlaps)):.0%}", None


def mask_classes(task: Task, label: np.ndarray) -> np.ndarray:
    """The class of each pixel of a label, 0 where it is not known."""
    target = _target(task, label)
    facts = task.facts()
    if facts["num_classes"] == 1:
        return np.asarray((target[..., 0] > 0.5).astype(int))
    return np.asarray(target.argmax(-1) if target.ndim == 3 else target).astype(int)


def _compare_depth(
    task: Any, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    truth = np.asarray(label, float).reshape(known.shape)
    error = np.abs(output[..., 0] - truth)[known].mean()
    return f"off by {number(float(error))} {task.unit}".strip(), None


def _compare_normals(
    task: Task, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    cosine = np.clip((_target(task, label) * output).sum(-1), -1, 1)
    angle = np.degrees(np.arccos(cosine))[known].mean()
    return f"off by {angle:.0f}°", None


def _compare_tags(
    task: Task, decoded: Any, output: np.ndarray, label: np.ndarray, known: np.ndarray
) -> Comparison:
    target = _target(task, label)
    truth = target.argmax(-1) if target.ndim == 2 else target
    is_right = (truth == output.argmax(-1))[known]
    return f"{int(is_right.sum())} of {len(is_right)} tokens right", bool(is_right.all())


_COMPARISONS: dict[str, Callable[..., Comparison]] = {
    "classification": _compare_class,
    "ordinal": _compare_class,
    "binary": _compare_class,
    "multi_label": _compare_labels,
    "regression": _compare_numbers,
    "transcription": _compare_text,
    "bounding_box": _compare_box,
    "detection": _compare_objects,
    "keypoints": _compare_points,
    "segmentation": _compare_mask,
    "depth": _compare_depth,
    "normals": _compare_normals,
    "token_tagging": _compare_tags,
}
