"""Weights, gradient norms and conflicts of the tasks, seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["BalanceMonitor"]


class BalanceMonitor(keras.callbacks.Callback):
    """Log, for every task, its weight and gradient norm, and for every two tasks the cosine of
    their gradients.

    They appear beside the losses in the history, and in TensorBoard and CSV files if those
    callbacks are there too, as means over the epoch's steps: `<task>_weight`,
    `<task>_gradient_norm`, `cosine_<task>_<task>`. Gradients are those that the balancer looks at
    (at the representation or one layer, where that is its way); for methods that look at losses
    only, they are taken for the monitor, over the shared variables.

    Args:
        path: where to write a PNG at the end of training: weights over the epochs, and the last
            epoch's cosines as a heat map (red: tasks in conflict). None writes none.
        gradients: bool. False leaves out norms and cosines where the balancer does not need
            gradients itself: they cost a backward pass a task.

    Raises:
        ValueError: the model is no multi-task model.

    Examples:
        >>> model.fit(train, epochs=5, callbacks=[mtl.callbacks.BalanceMonitor("balance.png")])
    """

    def __init__(self, path: str | Path | None = None, gradients: bool = True) -> None:
        super().__init__()
        self.path, self.gradients = None if path is None else Path(path), bool(gradients)
        self.means: dict[str, keras.metrics.Mean] = {}
        self.rows: list[dict[str, float]] = []

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        compiled = getattr(model, "compiled_tasks", None)
        if compiled is None:
            raise ValueError(
                "BalanceMonitor watches a mtl_keras.MultiTaskModel; this model has no tasks."
            )
        self.tasks = [task.name for task in compiled.tasks]
        with model.distribute_strategy.scope():
            self.means = {name: keras.metrics.Mean(name=name) for name in self._names()}
        compiled.monitor = self
        # The step was traced without this.
        model.train_function = None

    def _names(self) -> list[str]:
        return [
            *(f"{name}_weight" for name in self.tasks),
            *(f"{name}_gradient_norm" for name in self.tasks),
            *(f"cosine_{a}_{b}" for a, b in combinations(self.tasks, 2)),
        ]

    # ------------------------------------------------------------------ called by the trainer
    def names(self) -> list[str]:
        return list(self.means)

    def metric_objects(self) -> list[keras.metrics.Metric]:
        return list(self.means.values())

    def observe(self, weights: Any, update: Any, present: Any) -> None:
        """Take in a step. Traced with it.

        Args:
            weights: `(tasks,)`.
            update: `GradientUpdate` of the balancer's strategy.
            present: bool `(tasks,)`.
        """
        mask = ops.cast(present, "float32")
        for i, name in enumerate(self.tasks):
            weight = ops.where(present[i], weights[i], ops.zeros_like(weights[i]))
            self.means[f"{name}_weight"].update_state(weight, sample_weight=mask[i])
        if update.gram is None:
            return
        is_finite = ops.all(ops.isfinite(update.gram))
        gram = ops.where(is_finite, update.gram, ops.zeros_like(update.gram))
        gram = ops.cast(gram, "float32")
        norms = ops.sqrt(ops.maximum(ops.diagonal(gram), 0.0))
        counted = mask * ops.cast(is_finite, "float32")
        if update.is_due is not None:
            counted = counted * ops.cast(update.is_due, "float32")
        for i, name in enumerate(self.tasks):
            self.means[f"{name}_gradient_norm"].update_state(norms[i], sample_weight=counted[i])
        for (i, a), (j, b) in combinations(enumerate(self.tasks), 2):
            length = norms[i] * norms[j]
            cosine = ops.clip(ops.divide_no_nan(gram[i, j], length), -1.0, 1.0)
            both = counted[i] * counted[j] * ops.cast(length > 0, "float32")
            self.means[f"cosine_{a}_{b}"].update_state(cosine, sample_weight=both)

    # ------------------------------------------------------------------ called by Keras
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.rows = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.rows.append({name: float((logs or {}).get(name, float("nan"))) for name in self.means})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.path is not None and self.rows:
            self.plot(self.path)

    def plot(self, path: str | Path) -> None:
        """Write the picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        epochs = np.arange(1, len(self.rows) + 1)
        for name in self.tasks:
            left.plot(epochs, [row[f"{name}_weight"] for row in self.rows], marker=".", label=name)
        left.set(xlabel="epoch", ylabel="mean weight", title="weights of the tasks")
        left.legend()
        size = len(self.tasks)
        cosines = np.eye(size)
        for (i, a), (j, b) in combinations(enumerate(self.tasks), 2):
            cosines[i, j] = cosines[j, i] = self.rows[-1][f"cosine_{a}_{b}"]
        image = right.imshow(np.ma.masked_invalid(cosines), cmap="RdBu", vmin=-1, vmax=1)
        for i in range(size):
            for j in range(size):
                text = "-" if np.isnan(cosines[i, j]) else f"{cosines[i, j]:.2f}"
                right.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    color="white" if abs(cosines[i, j]) > 0.6 else "black",
                )
        right.set(title="cosines of the tasks' gradients, last epoch")
        right.set_xticks(range(size), self.tasks, rotation=45, ha="right")
        right.set_yticks(range(size), self.tasks)
        figure.colorbar(image, ax=right)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.partial.png")
        figure.savefig(beside, dpi=110)
        beside.replace(path)
