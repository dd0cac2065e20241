"""From raw outputs to labels, boxes and numbers, in NumPy only.

What a decoder needs to know stands in the task's metadata, which exported files carry. Tasks decode
with these functions, and so does `mtl.runtime.TFLiteModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["DECODERS", "SUFFIX", "decode", "is_bio", "spans"]

#: Ending of the outputs that a file decodes itself: `<task>_decoded`.
SUFFIX = "_decoded"

Metadata = Mapping[str, Any]


def decode(metadata: Metadata, output: Any) -> list[Any]:
    """Decode a task's outputs, `(rows, ...)`: one entry per row. Outputs of an unknown kind stay as
    they are.

    Args:
        metadata: the task's, as `Task.facts()` gives it: `kind`, and what the kind needs.
        output: array.
    """
    output = np.asarray(output)
    decoder = DECODERS.get(metadata.get("kind", ""))
    return list(output) if decoder is None else decoder(metadata, output)


def _names(metadata: Metadata, key: str) -> Any:
    return metadata.get("labels") or list(range(int(metadata[key])))


def _classification(metadata: Metadata, output: np.ndarray) -> list[Any]:
    names = _names(metadata, "num_classes")
    return [
        {"label": names[i], "probability": float(row[i])}
        for i, row in zip(output.argmax(-1), output, strict=True)
    ]


def _binary(metadata: Metadata, output: np.ndarray) -> list[Any]:
    return [
        {"label": bool(p >= metadata["threshold"]), "probability": float(p)} for p in output[:, 0]
    ]


def _multi_label(metadata: Metadata, output: np.ndarray) -> list[Any]:
    names = _names(metadata, "num_labels")
    return [
        [
            {"label": names[i], "probability": float(row[i])}
            for i in np.flatnonzero(row >= metadata["threshold"])
        ]
        for row in output
    ]


def _ordinal(metadata: Metadata, output: np.ndarray) -> list[Any]:
    names = _names(metadata, "num_classes")
    above = np.concatenate([np.ones((len(output), 1)), output, np.zeros((len(output), 1))], axis=1)
    level = (output >= 0.5).sum(1)
    rows = np.arange(len(output))
    chance = above[rows, level] - above[rows, level + 1]
    return [
        {"label": names[i], "probability": float(p)} for i, p in zip(level, chance, strict=True)
    ]


def _regression(metadata: Metadata, output: np.ndarray) -> list[Any]:
    y = output.astype(float)
    low, high = metadata["range"]
    if low is not None or high is not None:
        y = np.clip(y, low, high)
    y = np.expm1(y) if metadata["log"] else y
    return [float(v[0]) if metadata["size"] == 1 else v.tolist() for v in y]


def _bounding_box(metadata: Metadata, output: np.ndarray) -> list[Any]:
    return [
        dict(zip(("left", "top", "right", "bottom"), map(float, row), strict=True))
        for row in output
    ]


def _segmentation(metadata: Metadata, output: np.ndarray) -> list[Any]:
    return list(output[..., 0] >= 0.5) if metadata["num_classes"] == 1 else list(output.argmax(-1))


def _depth(metadata: Metadata, output: np.ndarray) -> list[Any]:
    return list(output[..., 0])


def _keypoints(metadata: Metadata, output: np.ndarray) -> list[Any]:
    names = _names(metadata, "num_points")
    return [
        {n: {"x": float(x), "y": float(y)} for n, (x, y) in zip(names, row, strict=True)}
        for row in output
    ]


def _detection(metadata: Metadata, output: np.ndarray) -> list[Any]:
    return [_detect_objects(metadata, row) for row in output.astype(float)]


def _detect_objects(metadata: Metadata, row: np.ndarray) -> list[dict[str, Any]]:
    """The objects of one picture, the most probable first."""
    names = _names(metadata, "num_classes")
    heat, boxes = row[..., :-4], row[..., -4:]
    height, width = heat.shape[:2]
    # Peaks: cells that no neighbor exceeds.
    padded = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
    neighbors = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    is_peak = (heat >= np.max(neighbors, axis=0)) & (heat >= metadata["threshold"])
    peaks = sorted(np.argwhere(is_peak).tolist(), key=lambda peak: -heat[tuple(peak)])
    objects: list[dict[str, Any]] = []
    for r, c, k in peaks[: metadata["max_objects"]]:
        wide, high, dx, dy = boxes[r, c]
        x, y = (c + dx) / width, (r + dy) / height
        box = np.clip([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], 0, 1)
        # An object of the same class that overlaps is the same object.
        rivals = [other for other in objects if other["label"] == names[k]]
        if all(_overlap(other, box) <= metadata["overlap"] for other in rivals):
            edges = dict(zip(("left", "top", "right", "bottom"), map(float, box), strict=True))
            objects.append({"label": names[k], "probability": float(heat[r, c, k]), **edges})
    return objects


def _overlap(a: Mapping[str, Any], box: np.ndarray) -> float:
    left, top = max(a["left"], box[0]), max(a["top"], box[1])
    right, bottom = min(a["right"], box[2]), min(a["bottom"], box[3])
    shared = max(right - left, 0.0) * max(bottom - top, 0.0)
    union = (
        (a["right"] - a["left"]) * (a["bottom"] - a["top"])
        + (box[2] - box[0]) * (box[3] - box[1])
        - shared
    )
    return shared / union if union > 0 else 0.0


def is_bio(labels: Sequence[str] | None) -> bool:
    """Whether tags are "O", "B-X" and "I-X"."""
    return (
        labels is not None
        and "O" in labels
        and all(tag == "O" or tag[:2] in ("B-", "I-") for tag in labels)
    )


def spans(tags: Sequence[str]) -> list[dict[str, Any]]:
    """Spans of B-/I-/O tags; `end` is the position after the last token."""
    result: list[dict[str, Any]] = []
    for position, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        is_next = bool(result) and result[-1]["end"] == position and result[-1]["label"] == kind
        if prefix == "I" and is_next:
            result[-1]["end"] = position + 1
        elif prefix != "O":
            result.append({"label": kind, "start": position, "end": position + 1})
    return result


def _token_tagging(metadata: Metadata, output: np.ndarray) -> list[Any]:
    names = _names(metadata, "num_tags")
    rows = [[names[t] for t in row] for row in output.argmax(-1).tolist()]
    return [spans(row) for row in rows] if is_bio(metadata.get("labels")) else rows


def _transcription(metadata: Metadata, output: np.ndarray) -> list[Any]:
    texts = []
    for row in output.argmax(-1):
        # CTC: repeated letters are one, and 0 is the blank.
        letters = [c for c, before in zip(row, [0, *row[:-1]], strict=True) if c and c != before]
        texts.append("".join(metadata["alphabet"][c - 1] for c in letters))
    return texts


DECODERS: dict[str, Callable[[Metadata, np.ndarray], list[Any]]] = {
    "classification": _classification,
    "binary": _binary,
    "multi_label": _multi_label,
    "ordinal": _ordinal,
    "regression": _regression,
    "bounding_box": _bounding_box,
    "segmentation": _segmentation,
    "depth": _depth,
    "keypoints": _keypoints,
    "detection": _detection,
    "token_tagging": _token_tagging,
    "transcription": _transcription,
}
