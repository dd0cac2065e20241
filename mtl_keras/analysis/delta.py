"""Δm: one number for how a multi-task model stands beside its single-task twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_keras.names import unknown_name

__all__ = ["delta_m"]


def delta_m(
    scores: Mapping[str, float],
    baseline: Mapping[str, float],
    directions: Mapping[str, str],
    tasks: Sequence[str] | None = None,
) -> float:
    """Mean relative change against a baseline, in percent; above 0 is better.

    Each metric's change is `(score - baseline) / |baseline|`, with the sign turned where lower is better.

    Args:
        scores, baseline: dict of metric name to value.
        directions: dict of metric name to "max" or "min"; only its metrics count.
        tasks: names of tasks. Given, changes are averaged within each task first and then over tasks (Maninis et al.,
            "Attentive Single-Tasking of Multiple Tasks", CVPR 2019; Vandenhende et al., TPAMI 2021). None averages over
            all metrics, as Nash-MTL, CAGrad and FAMO do (which report the opposite sign: lower is better there).

    Raises:
        ValueError: a metric that is not in the scores, or a baseline of 0, against which no relative change exists.
    """
    changes = {}
    for name, direction in directions.items():
        for values in (scores, baseline):
            if name not in values:
                raise ValueError(unknown_name("metric", name, values))
        if baseline[name] == 0:
            raise ValueError(f"The baseline of metric '{name}' is 0: a relative change against it does not exist.")
        change = (scores[name] - baseline[name]) / abs(baseline[name])
        changes[name] = change if direction == "max" else -change
    if tasks is None:
        return 100.0 * float(np.mean(list(changes.values())))
    groups = [[c for name, c in changes.items() if name.startswith(f"{task}_")] for task in tasks]
    return 100.0 * float(np.mean([np.mean(group) for group in groups if group]))
