"""What a task is: a name, a head, a loss, a weight, metrics with a direction, and how a missing
label looks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from mtl_keras.graph import has_graph
from mtl_keras.layers.sequences import MaskedMean, mask_of
from mtl_keras.runtime import decoding
from mtl_keras.runtime.names import check_task_name, unknown_name
from mtl_keras.tasks.types import Config, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Task", "TaskMetric"]

_HIGHER_IS_BETTER = ("acc", "auc", "iou", "f1", "precision", "recall", "r2", "score", "correlation")


class TaskMetric:
    """A metric of one task and the direction in which it improves.

    Args:
        metric: `keras.metrics.Metric`, or what `keras.metrics.get` takes.
        higher_is_better: bool or None. None infers it from the metric's name.
    """

    def __init__(self, metric: Any, higher_is_better: bool | None = None):
        given, metric = metric, keras.metrics.get(metric)
        if not isinstance(metric, keras.metrics.Metric):
            metric = keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", None))
        if isinstance(given, str):
            # Logged under the name that was asked for, as Keras does: "mae", not
            # "mean_absolute_error".
            metric = type(metric).from_config({**metric.get_config(), "name": given})
        self.metric = metric
        if higher_is_better is None:
            higher_is_better = any(word in metric.name.lower() for word in _HIGHER_IS_BETTER)
        self.higher_is_better = bool(higher_is_better)

    @property
    def name(self) -> str:
        return str(self.metric.name)


class Task:
    """Base class of all tasks.

    A task turns features into its output (`head`), labels into what its loss and metrics compare
    (`target`), and raw outputs into what a person reads (`decode`). Every label may be missing;
    `target` says which are there.

    Args:
        name: str. Name of the output, the logged losses and metrics, the exported tensor. A letter,
            then letters, digits and underscores.
        loss_weight: float >= 0. Factor of this task's loss. 0 switches the task off. Defaults to 1.
        loss: name, function, or `keras.losses.Loss`. Replaces the task's own loss.
        metrics: list of metrics (names, functions, `keras.metrics.Metric` or `TaskMetric`).
            Replaces the task's own.
        head: Replaces the task's own head; its result goes through the task's output activation. A
            `keras.Layer` or `keras.Model`, such as a `keras.Sequential`, is called with the deepest
            features. A functional model whose inputs are a dict is called with the stages of those
            names. A function is called with the dict of stages, from the input to the deepest; one
            whose first parameter is named `x` or `inputs` is called with the deepest features. The
            head lives on in the model's graph, not in the task's config.

    Raises:
        ValueError: a name that some format would change, or a negative or non-finite weight.
        TypeError: a head that cannot be called on features.

    Examples:
        >>> pool = keras.layers.GlobalAveragePooling2D()
        >>> digit = mtl.tasks.Classification("digit", num_classes=10,
        ...     head=keras.Sequential([pool, keras.layers.Dropout(0.2), keras.layers.Dense(10)]))
        >>> edge = mtl.tasks.Binary("edge", head=lambda stages: keras.layers.Dense(1)(pool(stages["stage1"])))
    """

    kind = "task"
    #: How the loss is read as a likelihood ("gaussian", "laplace", "categorical"): weighting by
    #: uncertainty needs it.
    likelihood: str | None = "gaussian"
    #: What a label that is not there is filled with, in data where some rows or sources lack this
    #: task.
    missing_value: float = math.nan
    #: dtype of the labels that `missing` makes.
    label_dtype = "float32"
    #: What to look at where this task's loss is not finite, for the message that stops the
    #: training.
    bad_loss_hint = ""

    def __init__(
        self,
        name: str,
        *,
        loss_weight: float = 1.0,
        loss: Any = None,
        metrics: Sequence[Any] | None = None,
        head: Callable[..., Any] | None = None,
    ):
        self.name = check_task_name(name)
        self.loss_weight = check_loss_weight(name, loss_weight)
        self._loss = keras.losses.get(loss) if loss is not None else None
        self._metrics = None if metrics is None else list(metrics)
        self._head = _check_head(name, head)

    # ------------------------------------------------------------------ network
    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of one row's output, None where it follows the input."""
        raise NotImplementedError

    def head(
        self, features: dict[str, Any], input_shape: tuple[int | None, ...] | None = None
    ) -> Tensor:
        """Build this task's own layers on `features` and return the tensor before the output
        activation.

        Args:
            features: dict of stage name to symbolic tensor, ordered from the input to the deepest
                stage.
            input_shape: shape of one input row, for heads that answer at the input's resolution.
        """
        if self._head is None:
            return self.default_head(features, input_shape)
        return self._check_head_tensor(self._head(_head_argument(self._head, features)))

    def _check_head_tensor(self, x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            raise ValueError(
                f"The head of task '{self.name}' should return one tensor, made from the features "
                f"that it is called with. "
                f"Received: {type(x).__name__}."
            )
        return x

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        raise NotImplementedError

    @property
    def activation(self) -> str | None:
        """ "softmax" or "sigmoid" where `activate` is one, else None."""
        return self.facts().get("activation")

    def activate(self, x: Tensor) -> Tensor:
        """The output activation: from the head's last tensor to what the model, and the phone,
        returns."""
        return x

    def mask_output(self, output: Tensor, mask: Tensor) -> Tensor:
        """The output where a Keras mask, `(rows, places)`, says that places are padding. Most tasks
        leave them as they are."""
        return output

    # ------------------------------------------------------------------ loss and metrics
    def default_loss(self) -> Any:
        raise NotImplementedError

    def default_metrics(self) -> list[TaskMetric]:
        raise NotImplementedError

    @property
    def loss(self) -> Any:
        """The loss: a `keras.losses.Loss` or a function of `(target, output)` that returns a value
        a row."""
        return self._loss if self._loss is not None else self.default_loss()

    def new_metrics(self) -> list[TaskMetric]:
        """Fresh metrics, first the one by which the task is judged."""
        if self._metrics is None:
            return self.default_metrics()
        return [self._new_metric(m) for m in self._metrics]

    def _new_metric(self, metric: Any) -> TaskMetric:
        if isinstance(metric, TaskMetric):
            return TaskMetric(_copy_metric(metric.metric), metric.higher_is_better)
        if metric in ("accuracy", "acc"):
            # Keras picks the kind of accuracy by guessing from shapes; a task knows.
            return TaskMetric(self.accuracy(metric), True)
        return TaskMetric(_copy_metric(metric))

    def accuracy(self, name: str) -> keras.metrics.Metric:
        """What "accuracy" means for this task."""
        return keras.metrics.Accuracy(name=name)

    # ------------------------------------------------------------------ labels
    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Split labels into what the loss compares and where a label is there at all.

        Args:
            y: tensor of labels, one row a sample.

        Returns:
            `(target, present)`: the labels with a harmless value where one is missing, in the shape
            and dtype that the loss expects, and a bool tensor, True where there is a label: one
            entry a row, or one an element for dense tasks.
        """
        raise NotImplementedError

    def metric_target(self, target: Tensor, output: Tensor) -> Tensor:
        """What metrics compare with `output`: the target, with one answer where a label is a
        probability."""
        return target

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        """Labels of `rows` rows of which none has a label for this task.

        Args:
            rows: int.
            output_shape: shape of the task's output, rows included, where the labels' size follows
                it.
        """
        shape: Any = (rows, *self.label_shape)
        return np.full(shape, self.missing_value, self.label_dtype)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        """Shape of one row's label, None where any size goes."""
        raise NotImplementedError

    @property
    def soft_label_shape(self) -> tuple[int | None, ...] | None:
        """Shape of one row's label where it is a probability per class, or None where a task has no
        such labels."""
        return None

    def check_labels(self, y: Any, output_shape: Sequence[int | None] | None = None) -> None:
        """Refuse labels of a wrong shape, dtype or range, naming this task. Missing labels pass.

        Args:
            y: array of labels.
            output_shape: shape of the task's output, rows included, for tasks whose labels it
                bounds.

        Raises:
            ValueError: what is wrong, what was expected, and an example of the offending values.
        """
        y = np.asarray(y)
        self.check_label_spec(y.shape, y.dtype)
        self._check_values(y)
        if output_shape is not None:
            self._check_size(y, output_shape)

    def check_label_spec(self, shape: Sequence[int | None], dtype: Any) -> None:
        """Refuse a wrong shape or dtype of a batch of labels."""
        shape = tuple(shape)
        expected = self.label_shape
        kind = np.dtype(dtype).kind
        if kind not in "iufb":
            raise ValueError(
                f"Labels of task '{self.name}' have dtype {np.dtype(dtype)}; numbers were expected."
            )
        row, soft = shape[1:], self.soft_label_shape
        if soft is not None and _matches(row, soft):
            return
        while len(row) > len(expected) and row[-1] == 1:
            row = row[:-1]
        wide = expected
        while len(wide) > len(row) and wide[-1] == 1:
            wide = wide[:-1]
        if not shape or not _matches(row, wide):
            forms = [expected] if soft is None else [expected, soft]
            text = " or ".join(
                f"({', '.join('any' if s is None else str(s) for s in ('rows', *form))})"
                for form in forms
            )
            raise ValueError(
                f"Labels of task '{self.name}' have shape {shape}; {text} was expected."
            )

    def _check_values(self, y: np.ndarray) -> None:
        pass

    def _check_size(self, y: np.ndarray, output_shape: Sequence[int | None]) -> None:
        pass

    def _refuse(self, y: np.ndarray, bad: np.ndarray, expected: str) -> None:
        if bad.any():
            found = ", ".join(str(v) for v in np.unique(y[bad])[:3])
            raise ValueError(
                f"Labels of task '{self.name}' hold {found} ({int(bad.sum())} of {y.size} "
                f"values); expected {expected}, "
                f"or {self.missing_value} where there is no label."
            )

    # ------------------------------------------------------------------ results
    def decode(self, output: np.ndarray) -> Any:
        """Turn raw outputs, shape `(rows, ...)`, into what a person reads: a list, one entry a
        row."""
        return decoding.decode(self.facts(), output)

    def baseline(self, y: np.ndarray) -> np.ndarray:
        """The output, for one row, of the best constant answer learned from labels `y`: what a head
        has to beat."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What exported files say of this head, and what `decode` needs: plain values, for JSON."""
        return {"name": self.name, "kind": self.kind}

    def card(self) -> dict[str, Any]:
        """Facts about this head for cards: those of `facts`, and the metrics' names."""
        return {
            "name": self.name,
            "kind": self.kind,
            "metrics": [m.name for m in self.new_metrics()],
            **self.facts(),
        }

    # ------------------------------------------------------------------ config
    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"name": self.name, "loss_weight": self.loss_weight}
        if self._loss is not None:
            config["loss"] = keras.saving.serialize_keras_object(self._loss)
        if self._metrics is not None:
            config["metrics"] = [_metric_config(m) for m in self._metrics]
        return config

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = dict(config)
        if isinstance(config.get("loss"), dict):
            config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        if config.get("metrics") is not None:
            config["metrics"] = [_metric_from_config(m) for m in config["metrics"]]
        return cls(**config)

    def copy(self, **changes: Any) -> Self:
        """The same task, with its head, and with some settings changed."""
        twin = type(self).from_config({**self.get_config(), **changes})
        if "head" not in changes:
            # A head is no part of the config: it lives in the model's graph.
            twin._head = self._head
        return twin

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items() if not isinstance(v, (dict, list))
        )
        return f"{type(self).__name__}({settings})"


def _check_head(name: str, head: Any) -> Any:
    """Refuse what can't be called on features, and a layer's class in place of a layer."""
    if head is None or (
        callable(head) and not (isinstance(head, type) and issubclass(head, keras.layers.Layer))
    ):
        return head
    raise TypeError(
        f"`head` of task '{name}' should be a Keras layer or model (an object, not its class) or "
        f"a function of features. "
        f"Received: {head!r}."
    )


def _head_argument(head: Any, features: dict[str, Any]) -> Any:
    """What a user's head is called with: the deepest features, all stages, or the stages that a
    model names as its inputs."""
    last = list(features.values())[-1]
    if isinstance(head, keras.layers.Layer):
        inputs = head.input if has_graph(head) else None
        if not isinstance(inputs, Mapping):
            return last
        for stage in inputs:
            if stage not in features:
                raise ValueError(
                    unknown_name(
                        f"stage among the inputs of head '{head.name}':", stage, list(features)
                    )
                )
        return {stage: features[stage] for stage in inputs}
    try:
        parameters = list(inspect.signature(head).parameters)
    except (TypeError, ValueError):
        # Functions of compiled modules have no signature.
        parameters = []
    return last if parameters[:1] in (["x"], ["inputs"]) else dict(features)


def check_loss_weight(name: str, weight: Any) -> float:
    """Return `weight` as a float, or refuse it by the task's name."""
    try:
        value = float(weight)
    except (TypeError, ValueError):
        raise ValueError(
            f"The loss weight of task '{name}' must be a number >= 0, got {weight!r}."
        ) from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"The loss weight of task '{name}' must be finite and >= 0, got {value}.")
    return value


def _matches(row: Any, expected: Any) -> bool:
    return len(row) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(row, expected, strict=True)
    )


def vector(features: dict[str, Any], name: str) -> Tensor:
    """The deepest features as one vector per row: pooled over space, or over the time that is not
    masked."""
    x = list(features.values())[-1]
    if len(x.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    if len(x.shape) == 3:
        mask = mask_of(x)
        if mask is not None:
            return MaskedMean(name=f"{name}_pool")([x, mask])
        return keras.layers.GlobalAveragePooling1D(name=f"{name}_pool")(x)
    if len(x.shape) != 2:
        raise ValueError(
            f"Task '{name}' needs features of rank 2 (vectors), 3 (sequences) or 4 (maps), got "
            f"shape {tuple(x.shape)}."
        )
    return x


def dense_head(x: Tensor, name: str, units: int, hidden: int) -> Tensor:
    """A hidden layer (none where `hidden` is 0) and a linear layer of `units`."""
    if hidden:
        x = keras.layers.Dense(hidden, activation="relu", name=f"{name}_hidden")(x)
    return keras.layers.Dense(units, name=f"{name}_linear")(x)


def finite(y: Tensor) -> Tensor:
    """True where a float label is a number; integers always are."""
    return (
        ops.isfinite(y)
        if "float" in keras.backend.standardize_dtype(y.dtype)
        else ops.ones_like(y, dtype="bool")
    )


def _copy_metric(metric: Any) -> Any:
    return (
        type(metric).from_config(metric.get_config())
        if isinstance(metric, keras.metrics.Metric)
        else metric
    )


def _metric_config(metric: Any) -> str | Config:
    if isinstance(metric, TaskMetric):
        return {
            "metric": _metric_config(metric.metric),
            "higher_is_better": metric.higher_is_better,
        }
    return metric if isinstance(metric, str) else keras.saving.serialize_keras_object(metric)


def _metric_from_config(config: Any) -> Any:
    if isinstance(config, dict) and "higher_is_better" in config:
        return TaskMetric(_metric_from_config(config["metric"]), config["higher_is_better"])
    return keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config
