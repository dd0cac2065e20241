"""Δm: how a multi-task model stands beside its single-task twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task

__all__ = ["DeltaReport", "delta_m", "delta_report", "judging_metrics"]

# Words in the names of metrics whose best constant answer scores 0: a relative change against a
# weak baseline has no bound.
_ZERO_AT_CHANCE = ("r2", "correlation", "kappa", "mcc", "matthews", "cosine", "explained")
#: A baseline that closes less than this part of the way from the best constant answer to a perfect
#: one is called noise.
_LEAST_SKILL = 0.1


def delta_m(
    scores: Mapping[str, float],
    baseline: Mapping[str, float],
    directions: Mapping[str, str],
    tasks: Sequence[str] | None = None,
) -> float:
    """Mean relative change against a baseline, in percent; above 0 is better.

    Each metric's change is `(score - baseline) / |baseline|`, with the sign turned where lower is
    better. Metrics that are 0 for a constant answer (R2, correlations) make large numbers of small
    differences: leave them out, or read `delta_report`, which flags them.

    Args:
        scores, baseline: dict of metric name to value.
        directions: dict of metric name to "max" or "min"; only its metrics count.
        tasks: names of tasks. Given, changes are averaged within each task first and then over
            tasks: the convention of Maninis, Radosavovic, Kokkinos, "Attentive Single-Tasking of
                Multiple Tasks", CVPR 2019, and of Vandenhende et al.,
            TPAMI 2021. None averages over all metrics: the convention of Nash-MTL (Navon et al.,
            ICML 2022), CAGrad and FAMO, which report the opposite sign (lower is better there).

    Raises:
        ValueError: a metric that is not in the scores or of none of the tasks, a task without
            metrics, or a baseline of 0, against which no relative change exists.
    """
    changes = relative_changes(scores, baseline, directions)
    if tasks is None:
        return float(np.mean(list(changes.values())))
    groups: dict[str, list[float]] = {task: [] for task in tasks}
    for name, change in changes.items():
        groups[_task_of(name, tasks)].append(change)
    for task, group in groups.items():
        if not group:
            raise ValueError(
                f"Task '{task}' has no metric in `directions`: {', '.join(directions)}."
            )
    return float(np.mean([np.mean(group) for group in groups.values()]))


def relative_changes(
    scores: Mapping[str, float], baseline: Mapping[str, float], directions: Mapping[str, str]
) -> dict[str, float]:
    """Each metric's relative change, in percent; above 0 is better."""
    if not directions:
        raise ValueError("`directions` names no metric.")
    changes = {}
    for name, direction in directions.items():
        if direction not in ("max", "min"):
            raise ValueError(
                f"The direction of metric '{name}' should be 'max' or 'min'. Received: "
                f"{direction!r}."
            )
        for values in (scores, baseline):
            if name not in values:
                raise ValueError(unknown_name("metric", name, values))
        if baseline[name] == 0:
            raise ValueError(
                f"The baseline of metric '{name}' is 0: a relative change against it does not "
                f"exist."
            )
        change = 100.0 * (scores[name] - baseline[name]) / abs(baseline[name])
        changes[name] = float(change if direction == "max" else -change)
    return changes


def _task_of(metric: str, tasks: Sequence[str]) -> str:
    """The task that a metric belongs to; of `a` and `a_b`, `a_b_accuracy` is the second's."""
    owners = [task for task in tasks if metric.startswith(f"{task}_")]
    if not owners:
        raise ValueError(unknown_name("task of metric", metric, tasks))
    return max(owners, key=len)


def judging_metrics(
    tasks: Sequence[Task], chosen: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The one metric by which each task is compared, and its direction:
    `{"cost_mae": "min", "kind_accuracy": "max"}`.

    It is the task's first metric that is bounded (accuracy, AUC, IoU) or an error (MAE). R2 and
    correlations are passed over: relative changes against a weak baseline of theirs have no bound.
    A task that has no others is judged by its first.

    Args:
        tasks: list of `Task`.
        chosen: dict of task name to the name of its metric ("mae" or "cost_mae"), where another one
            is wanted.

    Raises:
        ValueError: an unknown task or metric, or a task without metrics.
    """
    for name in chosen or {}:
        if name not in [task.name for task in tasks]:
            raise ValueError(unknown_name("task", name, [task.name for task in tasks]))
    directions = {}
    for task in tasks:
        metrics = {m.name: m for m in task.new_metrics()}
        if not metrics:
            raise ValueError(f"Task '{task.name}' has no metrics to be judged by.")
        name = (chosen or {}).get(task.name)  # type: ignore[assignment]
        if name is None:
            suited = [
                n for n, m in metrics.items() if not (m.higher_is_better and _is_zero_at_chance(n))
            ]
            name = [*suited, *metrics][0]
        name = name.removeprefix(f"{task.name}_")
        if name not in metrics:
            raise ValueError(unknown_name(f"metric of task '{task.name}':", name, metrics))
        directions[f"{task.name}_{name}"] = "max" if metrics[name].higher_is_better else "min"
    return directions


def _is_zero_at_chance(metric: str) -> bool:
    return any(word in metric.lower() for word in _ZERO_AT_CHANCE)


@dataclass(frozen=True)
class DeltaReport:
    """How a multi-task model stands beside a baseline, task by task. Printing it shows a line per
    task.

    Attributes:
        percent, sd: Δm over tasks (Maninis et al., CVPR 2019; above 0 is better): mean and standard
            deviation over the runs.
        median: of the tasks' changes, which one task can't move alone.
        by_seed: Δm of every run.
        by_task: task name to `metric`, `direction`, `percent`, `sd`, `by_seed`, and `sign`: "+" or
            "-" where all runs agree, else "0".
        better, worse: how many tasks have the sign "+" and "-".
        flags: task name to why its baseline is noise, and its change no evidence.
        sound_percent: Δm of the tasks that are not flagged, or None where all are.
    """

    percent: float
    sd: float
    median: float
    by_seed: list[float]
    by_task: dict[str, dict[str, Any]]
    better: int
    worse: int
    flags: dict[str, str]
    sound_percent: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"Δm {self.percent:+.2f} % ± {self.sd:.2f}; median over tasks {self.median:+.2f} %"
        ]
        lines.append(
            f"{self.better} of {len(self.by_task)} tasks better in every run, {self.worse} worse "
            f"in every run"
        )
        for task, facts in self.by_task.items():
            arrow = "higher is better" if facts["direction"] == "max" else "lower is better"
            line = f"  {facts['sign']} {task}: {facts['percent']:+.2f} % ± {facts['sd']:.2f} by {facts['metric']} ({arrow})"
            lines.append(
                line + (f"; baseline is noise: {self.flags[task]}" if task in self.flags else "")
            )
        if self.flags:
            sound = (
                "no task is left" if self.sound_percent is None else f"{self.sound_percent:+.2f} %"
            )
            lines.append(f"without tasks whose baseline is noise: {sound}")
        return "\n".join(lines)


def delta_report(
    scores: Sequence[Mapping[str, float]],
    baselines: Sequence[Mapping[str, float]],
    directions: Mapping[str, str],
    trivial: Mapping[str, float] | None = None,
    tasks: Sequence[str] | None = None,
) -> DeltaReport:
    """Δm of several runs with what it hides: each task's change and sign, the median, and baselines
    that are noise.

    Args:
        scores, baselines: list of dicts of metric name to value, one per run (seed), in the same
            order.
        directions: one metric per task and its direction, as `judging_metrics` makes it.
        trivial: the scores of the best constant answers (`trivial`), to know a baseline that has
            learned next to nothing.
        tasks: names of the tasks, in the order of `directions`. None takes what is before the last
            "_" of each metric.

    Returns:
        `DeltaReport`.

    Raises:
        ValueError: no runs, unequal numbers of them, or as in `delta_m`.

    Examples:
        >>> directions = mtl.analysis.judging_metrics(model.tasks)
        >>> print(mtl.analysis.delta_report(multi, single, directions, trivial, model.task_names))
    """
    if not scores or len(scores) != len(baselines):
        raise ValueError(
            f"`scores` and `baselines` should have one entry per run. Received: {len(scores)} and "
            f"{len(baselines)}."
        )
    if tasks is None:
        tasks = [name.rpartition("_")[0] for name in directions]
    metrics = {_task_of(name, tasks): name for name in directions}
    if sorted(metrics) != sorted(tasks) or len(directions) != len(tasks):
        raise ValueError(
            f"`directions` should have one metric for each of {', '.join(tasks)}. Received: "
            f"{', '.join(directions)}."
        )
    runs = [relative_changes(s, b, directions) for s, b in zip(scores, baselines, strict=True)]
    by_task: dict[str, dict[str, Any]] = {}
    flags: dict[str, str] = {}
    for task in tasks:
        metric = metrics[task]
        changes = [run[metric] for run in runs]
        by_task[task] = {
            "metric": metric,
            "direction": directions[metric],
            "percent": float(np.mean(changes)),
            "sd": float(np.std(changes)),
            "by_seed": changes,
            "sign": "+" if min(changes) > 0 else "-" if max(changes) < 0 else "0",
        }
        reason = _noise(
            [b[metric] for b in baselines], metric, directions[metric], (trivial or {}).get(metric)
        )
        if reason:
            flags[task] = reason
    by_seed = [float(np.mean(list(run.values()))) for run in runs]
    sound = [facts["percent"] for task, facts in by_task.items() if task not in flags]
    return DeltaReport(
        percent=float(np.mean(by_seed)),
        sd=float(np.std(by_seed)),
        median=float(np.median([facts["percent"] for facts in by_task.values()])),
        by_seed=by_seed,
        by_task=by_task,
        better=sum(facts["sign"] == "+" for facts in by_task.values()),
        worse=sum(facts["sign"] == "-" for facts in by_task.values()),
        flags=flags,
        sound_percent=float(np.mean(sound)) if sound else None,
    )


def _noise(
    values: Sequence[float], metric: str, direction: str, trivial: float | None
) -> str | None:
    """Why a baseline is no measure, or None."""
    mean, spread = float(np.mean(values)), float(np.std(values))
    if abs(mean) <= 2 * spread:
        return f"{metric} is {mean:.3g} ± {spread:.2g} over the runs, not to be told from 0"
    if trivial is None and not _is_zero_at_chance(metric):
        return None
    trivial = 0.0 if trivial is None else trivial
    gain = mean - trivial if direction == "max" else trivial - mean
    if gain <= 2 * spread:
        return f"{metric} is {mean:.3g} ± {spread:.2g}, not to be told from a constant answer's {trivial:.3g}"
    # Of metrics that are 0 at chance, the score is the part of the way to a perfect answer;
    # division by it has no bound.
    if direction == "max" and _is_zero_at_chance(metric) and mean < _LEAST_SKILL:
        return (
            f"{metric} is {mean:.3g}, a constant answer's {trivial:.3g}: "
            f"dividing by it multiplies changes by {1 / mean:.0f}"
        )
    return None
