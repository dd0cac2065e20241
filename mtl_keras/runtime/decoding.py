"""From raw outputs to what a person reads, in NumPy only: by the facts that tasks and exported files carry.

Tasks decode with these functions, and so does `mtl.export.TFLiteModel` where neither Keras nor TensorFlow is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["DECODERS", "SUFFIX", "decode", "is_bio", "spans"]

#: Of outputs that a file decodes itself: `<task>_decoded`.
SUFFIX = "_decoded"

Facts = Mapping[str, Any]


def decode(facts: Facts, output: Any) -> list[Any]:
    """A task's outputs, `(rows, ...)`, decoded: one entry a row. Kinds that are not known stay as they are.

    Args:
        facts: the task's, as `Task.facts()` gives them: `kind`, and what the kind needs.
        output: array.
    """
    output = np.asarray(output)
    decoder = DECODERS.get(facts.get("kind", ""))
    return list(output) if decoder is None else decoder(facts, output)


def _names(facts: Facts, key: str) -> Sequence[Any]:
    return facts.get("labels") or list(range(int(facts[key])))


def _classification(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_classes")
    return [
        {"label": names[i], "probability": float(row[i])}
        for i, row in zip(output.argmax(-1), output, strict=True)
    ]


def _binary(facts: Facts, output: np.ndarray) -> list[Any]:
    return [{"label": bool(p >= facts["threshold"]), "probability": float(p)} for p in output[:, 0]]


def _multi_label(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_labels")
    return [
        [
            {"label": names[i], "probability": float(row[i])}
            for i in np.flatnonzero(row >= facts["threshold"])
        ]
        for row in output
    ]


def _ordinal(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_classes")
    above = np.concatenate([np.ones((len(output), 1)), output, np.zeros((len(output), 1))], axis=1)
    level = (output >= 0.5).sum(1)
    rows = np.arange(len(output))
    chance = above[rows, level] - above[rows, level + 1]
    return [
        {"label": names[i], "probability": float(p)} for i, p in zip(level, chance, strict=True)
    ]


def _regression(facts: Facts, output: np.ndarray) -> list[Any]:
    y = output.astype(float)
    low, high = facts["range"]
    if low is not None or high is not None:
        y = np.clip(y, low, high)
    y = np.expm1(y) if facts["log"] else y
    return [float(v[0]) if facts["size"] == 1 else v.tolist() for v in y]


def _bounding_box(facts: Facts, output: np.ndarray) -> list[Any]:
    return [
        dict(zip(("left", "top", "right", "bottom"), map(float, row), strict=True))
        for row in output
    ]


def _segmentation(facts: Facts, output: np.ndarray) -> list[Any]:
    return list(output[..., 0] >= 0.5) if facts["num_classes"] == 1 else list(output.argmax(-1))


def _depth(facts: Facts, output: np.ndarray) -> list[Any]:
    return list(output[..., 0])


def _keypoints(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_points")
    return [
        {n: {"x": float(x), "y": float(y)} for n, (x, y) in zip(names, row, strict=True)}
        for row in output
    ]


def _detection(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_classes")
    found = []
    for row in output.astype(float):
        heat, places = row[..., :-4], row[..., -4:]
        height, width = heat.shape[:2]
        padded = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
        around = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
        top = (heat >= np.max(around, axis=0)) & (heat >= facts["threshold"])
        items = sorted(np.argwhere(top).tolist(), key=lambda place, heat=heat: -heat[tuple(place)])
        kept: list[dict[str, Any]] = []
        for r, c, k in items[: facts["max_objects"]]:
            wide, high, dx, dy = places[r, c]
            x, y = (c + dx) / width, (r + dy) / height
            box = np.clip([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], 0, 1)
            if all(
                other["label"] != names[k] or _overlap(other, box) <= facts["overlap"]
                for other in kept
            ):
                edges = dict(zip(("left", "top", "right", "bottom"), map(float, box), strict=True))
                kept.append({"label": names[k], "probability": float(heat[r, c, k]), **edges})
        found.append(kept)
    return found


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
    """Spans of B-/I-/O tags; `end` is the place behind the last token."""
    found: list[dict[str, Any]] = []
    for place, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "I" and found and found[-1]["end"] == place and found[-1]["label"] == kind:
            found[-1]["end"] = place + 1
        elif prefix != "O":
            found.append({"label": kind, "start": place, "end": place + 1})
    return found


def _token_tagging(facts: Facts, output: np.ndarray) -> list[Any]:
    names = _names(facts, "num_tags")
    rows = [[names[t] for t in row] for row in output.argmax(-1).tolist()]
    return [spans(row) for row in rows] if is_bio(facts.get("labels")) else rows


def _transcription(facts: Facts, output: np.ndarray) -> list[Any]:
    texts = []
    for row in output.argmax(-1):
        kept = [c for c, before in zip(row, [0, *row[:-1]], strict=True) if c and c != before]
        texts.append("".join(facts["alphabet"][c - 1] for c in kept))
    return texts


DECODERS: dict[str, Callable[[Facts, np.ndarray], list[Any]]] = {
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
