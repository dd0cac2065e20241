"""Tasks whose answer is a number, or several."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.task import Task, TaskMetric, dense_head, finite, vector
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["Regression"]

_LIKELIHOODS = {"mse": "gaussian", "mae": "laplace", "huber": "laplace"}


@keras.saving.register_keras_serializable("mtl_keras")
class Regression(Task):
    """One or several numbers, reported in the user's own unit.

    The network learns `(label - mean) / scale`; the output layer turns that back, so predictions,
    metrics and exported files speak the user's unit, while the loss stays near 1 at the start and
    does not drown the other tasks'. Labels have shape `(rows,)` or `(rows, size)`; NaN (in any of a
    row's numbers) means no label.

    Args:
        name: str. See `Task`.
        size: int. How many numbers. Defaults to 1.
        mean, scale: float. Center and spread of the labels. Default to 0 and 1. `scale="fit"`
            measures both on the training labels: a `TaskDataset` does so on its training part,
            `fit` on the labels that it is called with; `fit_to` measures them at once.
        low, high: float or None. Labels are clipped to this range, and so are decoded predictions.
        log: bool. The task is a count (>= 0) on a log scale: the output, and the metrics, are
            `log(1 + count)`, and `decode` returns counts. `mean`, `scale`, `low` and `high` then
            belong to the log scale. Defaults to False.
        unit: str. What the number counts, for cards and files.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.
        error: "mse", "mae" or "huber". The loss, on normalized values. Defaults to "mse".

    Examples:
        >>> delay = mtl.tasks.Regression("arrival_delay", unit="minutes", low=-60, high=180).fit_to(minutes)
    """

    kind = "regression"

    def __init__(
        self,
        name: str,
        *,
        size: int = 1,
        mean: float = 0.0,
        scale: float | str = 1.0,
        low: float | None = None,
        high: float | None = None,
        log: bool = False,
        unit: str = "",
        hidden: int = 64,
        error: str = "mse",
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if error not in _LIKELIHOODS:
            raise ValueError(
                f"Task '{name}': error must be one of {sorted(_LIKELIHOODS)}, got {error!r}."
            )
        #: Whether `mean` and `scale` are still to be measured on training labels.
        self.needs_fit = scale == "fit"
        scale = check_scale(name, scale)
        if low is not None and high is not None and not low < high:
            raise ValueError(f"Task '{name}': low must be below high, got {low} and {high}.")
        self.size, self.mean, self.scale = int(size), float(mean), scale
        self.low = None if low is None else float(low)
        self.high = None if high is None else float(high)
        self.log, self.unit, self.hidden, self.error = bool(log), str(unit), int(hidden), error

    @property
    def likelihood(self) -> str:  # type: ignore[override]
        return _LIKELIHOODS[self.error]

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.size,)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (self.size,)

    def fit_to(self, labels: Any) -> Regression:
        """The same task with `mean` and `scale` measured on labels (missing ones left out).

        Raises:
            ValueError: no label is there.
        """
        mean, scale = self.measure(labels)
        return self.copy(mean=mean, scale=scale)

    def measure(self, labels: Any) -> tuple[float, float]:
        """Mean and standard deviation of labels (missing ones left out), on the log scale of a
        count.

        Raises:
            ValueError: no label is there.
        """
        y = self._transform(np.asarray(labels, float))
        y = y[np.isfinite(y)]
        if not len(y):
            raise ValueError(f"Task '{self.name}': no label is there to measure mean and scale on.")
        return float(y.mean()), float(y.std()) or 1.0

    def _transform(self, y: np.ndarray) -> np.ndarray:
        y = np.log1p(y) if self.log else y
        return y if self.low is None and self.high is None else np.clip(y, self.low, self.high)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        return dense_head(vector(features, self.name), self.name, self.size, self.hidden)

    def activate(self, x: Tensor) -> Tensor:
        return x * self.scale + self.mean

    def default_loss(self) -> Any:
        return ScaledError(self.error, "fit" if self.needs_fit else self.scale)

    def default_metrics(self) -> list[TaskMetric]:
        return [
            TaskMetric(
                keras.metrics.R2Score(name="r2", class_aggregation="variance_weighted_average"),
                True,
            ),
            TaskMetric(keras.metrics.MeanAbsoluteError(name="mae"), False),
        ]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.cast(y, "float32")
        if len(y.shape) == 1:
            y = ops.expand_dims(y, -1)
        known = finite(y)
        y = ops.where(known, y, ops.zeros_like(y))
        if self.log:
            y = ops.log1p(y)
        if self.low is not None:
            y = ops.maximum(y, self.low)
        if self.high is not None:
            y = ops.minimum(y, self.high)
        return y, ops.all(known, axis=-1)

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        self._refuse(values, np.isinf(values), "finite numbers")
        if self.log:
            self._refuse(values, values < 0, "counts >= 0")

    def baseline(self, y: Any) -> np.ndarray:
        y = self._transform(np.asarray(y, float).reshape(-1, self.size))
        return np.asarray(np.nanmean(y, axis=0), "float32")

    def facts(self) -> dict[str, Any]:
        unit = f"log(1 + {self.unit or 'count'})" if self.log else self.unit
        return {
            **super().facts(),
            "unit": unit,
            "size": self.size,
            "range": [self.low, self.high],
            "log": self.log,
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "size": self.size,
            "mean": self.mean,
            "scale": "fit" if self.needs_fit else self.scale,
            "low": self.low,
            "high": self.high,
            "log": self.log,
            "unit": self.unit,
            "hidden": self.hidden,
            "error": self.error,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class ScaledError(keras.losses.Loss):
    """Squared, absolute or Huber error of values divided by `scale`, so that tasks in different
    units compare.

    Args:
        error: "mse", "mae" or "huber" (quadratic within one `scale`).
        scale: float > 0, in the labels' unit; or "fit", until it is measured: such a loss refuses
            to be called.
    """

    def __init__(
        self,
        error: str = "mse",
        scale: float | str = 1.0,
        name: str = "scaled_error",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.error = error
        self.scale: float | None = None if isinstance(scale, str) else float(scale)
        #: How the loss is read as a likelihood; weighting by uncertainty asks.
        self.likelihood = _LIKELIHOODS.get(error)
        self._function = keras.losses.get(
            {"mse": "mean_squared_error", "mae": "mean_absolute_error"}.get(error, error)
        )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if self.scale is None:
            raise ValueError(
                "A task has `scale='fit'`, and nothing was measured yet. `fit` measures it; before "
                "other ways of training or evaluation make the task fit: `task.fit_to(labels)`."
            )
        return self._function(y_true / self.scale, y_pred / self.scale)

    def get_config(self) -> Config:
        scale = "fit" if self.scale is None else self.scale
        return {**super().get_config(), "error": self.error, "scale": scale}


def check_scale(name: str, scale: float | str) -> float:
    """The scale of a task as a number; 1 where it is still to be measured.

    Raises:
        ValueError: neither a number > 0 nor "fit".
    """
    if isinstance(scale, str):
        if scale != "fit":
            raise ValueError(
                f"Task '{name}': `scale` should be a number > 0, or 'fit'. Received: {scale!r}."
            )
        return 1.0
    if not scale > 0:
        raise ValueError(f"Task '{name}': scale must be > 0, got {scale}.")
    return float(scale)
