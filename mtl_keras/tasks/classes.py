"""What tasks over classes share: weights of classes, smoothed and focal cross entropy, and labels
that are probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks.task import Task
from mtl_keras.tasks.types import Config, Tensor

__all__ = [
    "ClassCrossentropy",
    "ClassTask",
    "EachCrossentropy",
    "check_probabilities",
    "class_weights_from_counts",
]

_COUNTED = ("balanced", "effective")
_EPSILON = 1e-7


def class_weights_from_counts(counts: Any, kind: str, beta: float = 0.999) -> np.ndarray:
    """Weights of classes from how often each occurs, along the last axis.

    - "balanced": `n / (k n_c)`, with `n` labels of `k` classes that occur. The mean weight of a
      label is 1.
    - "effective": `(1 - beta) / (1 - beta^n_c)`, scaled so that the weights of the `k` classes add
      up to `k`.

    A class that never occurs weighs 1.

    Args:
        counts: array of counts >= 0, `(..., classes)`.
        kind: "balanced" or "effective".
        beta: float in [0, 1). 0 weighs all classes alike; towards 1 "effective" goes to inverse
            frequency.

    Reference:
        Cui, Jia, Lin, Song, Belongie, "Class-Balanced Loss Based on Effective Number of Samples",
        CVPR 2019.
    """
    counts = np.asarray(counts, "float64")
    occurs = counts > 0
    classes = occurs.sum(-1, keepdims=True)
    if kind == "balanced":
        weights = counts.sum(-1, keepdims=True) / (
            np.maximum(classes, 1) * np.where(occurs, counts, 1.0)
        )
    else:
        # `1 - beta^n` without the loss of digits that a power near 1 has.
        log_beta = math.log(beta) if beta > 0 else -np.inf
        effective = -np.expm1(np.where(occurs, counts, 1.0) * log_beta)
        weights = np.where(occurs, 1.0 / effective, 0.0)
        weights = weights * classes / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    return np.where(occurs, weights, 1.0)


@keras.saving.register_keras_serializable("mtl_keras")
class EachCrossentropy(keras.losses.Loss):
    """Binary cross entropy of every entry, not averaged over them: each may lack its label.

    `-t (1 - p)^gamma log p - (1 - t) p^gamma log(1 - p)`, with
    `t = (1 - smoothing) y + smoothing / 2`.

    Args:
        label_smoothing: float in [0, 1). Defaults to 0.
        focal_gamma: float >= 0 (Lin et al., ICCV 2017). Defaults to 0, cross entropy.
    """

    #: What `uncertainty` reads the loss as.
    likelihood = "categorical"

    def __init__(
        self,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        name: str = "each_crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing, self.focal_gamma = float(label_smoothing), float(focal_gamma)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true = y_true * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        if not self.focal_gamma:
            return ops.binary_crossentropy(y_true, y_pred)
        logits = getattr(y_pred, "_keras_logits", None)
        if logits is None:
            p = ops.clip(y_pred, _EPSILON, 1 - _EPSILON)
            log_yes, log_no = ops.log(p), ops.log(1 - p)
        else:
            logits = ops.cast(logits, "float32")
            log_yes, log_no = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        # The power of 0 has no gradient for exponents below 1.
        no, yes = (
            ops.power(ops.maximum(ops.exp(x), _EPSILON), self.focal_gamma)
            for x in (log_no, log_yes)
        )
        return -(y_true * no * log_yes + (1 - y_true) * yes * log_no)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class ClassCrossentropy(keras.losses.Loss):
    """Cross entropy of class numbers or of probabilities, smoothed or focal if wished; a value per
    label.

    `-sum_c t_c (1 - p_c)^gamma log p_c`, with `t = (1 - smoothing) y + smoothing / classes`.

    Args:
        label_smoothing: float in [0, 1). Defaults to 0.
        focal_gamma: float >= 0. How much labels that are met already lose of their weight. Defaults
            to 0, none.

    References:
        Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016 (smoothing); Lin et al.,
        "Focal Loss for Dense Object Detection", ICCV 2017.
    """

    #: What `uncertainty` reads the loss as.
    likelihood = "categorical"

    def __init__(
        self,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        name: str = "class_crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing, self.focal_gamma = float(label_smoothing), float(focal_gamma)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        is_soft = len(y_true.shape) == len(y_pred.shape)
        if not (is_soft or self.label_smoothing or self.focal_gamma):
            return ops.sparse_categorical_crossentropy(y_true, y_pred)
        classes = y_pred.shape[-1]
        shares = (
            ops.cast(y_true, "float32")
            if is_soft
            else ops.one_hot(ops.cast(y_true, "int32"), classes, dtype="float32")
        )
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / classes
        if not self.focal_gamma:
            return ops.categorical_crossentropy(shares, y_pred)
        logits = getattr(y_pred, "_keras_logits", None)
        log_p = (
            ops.log(ops.clip(y_pred, _EPSILON, 1.0))
            if logits is None
            else ops.log_softmax(ops.cast(logits, "float32"))
        )
        # The power of 0 has no gradient for exponents below 1.
        open_part = ops.power(ops.maximum(-ops.expm1(log_p), _EPSILON), self.focal_gamma)
        return -ops.sum(shares * open_part * log_p, axis=-1)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
        }


def check_probabilities(task: Task, values: np.ndarray) -> None:
    """Refuse soft labels that are no probabilities over the last axis; rows with a NaN or -1 are
    missing."""
    present = np.isfinite(values).all(-1) & (values != -1).all(-1)
    bad = present[..., None] & ((values < 0) | (values > 1))
    task._refuse(values, bad, "probabilities from 0 to 1")
    total = np.where(present, values.sum(-1), 1.0)
    task._refuse(total, np.abs(total - 1) > 1e-3, "probabilities that add up to 1 over the classes")


class ClassTask(Task):
    """Base of tasks over classes.

    Args:
        class_weights: None, "balanced", "effective", or the weights: a dict of class (number or
            name) to weight, classes that it does not name weighing 1, or a list. A label's loss
            counts as often as the weight of its class says; the mean is over labels, as with
            Keras's `class_weight`. The two names count the classes of the training labels in the
            first `fit` (one pass over a data set); the weights are saved with the model.
            `MultiTaskModel.count_classes` counts anew, and `fit_to(labels)` counts beforehand.
        beta: float in [0, 1). Of "effective". Defaults to 0.999.
        label_smoothing: float in [0, 1). Part of a label that is spread over all classes. Defaults
            to 0.
        focal_gamma: float >= 0. Exponent of the focal loss; 0, the default, is cross entropy.
        **kwargs: as in `Task`.
    """

    likelihood = "categorical"
    missing_value = -1
    label_dtype = "int32"
    #: Names of the classes, or None.
    labels: list[str] | None = None

    def __init__(
        self,
        name: str,
        *,
        class_weights: Any = None,
        beta: float = 0.999,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if not 0 <= beta < 1:
            raise ValueError(f"Task '{name}': `beta` should be in [0, 1). Received: beta={beta}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"Task '{name}': `label_smoothing` should be in [0, 1). Received: "
                f"label_smoothing={label_smoothing}"
            )
        if not (focal_gamma >= 0 and math.isfinite(focal_gamma)):
            raise ValueError(
                f"Task '{name}': `focal_gamma` should be >= 0. Received: focal_gamma={focal_gamma}"
            )
        if self._loss is not None and (label_smoothing or focal_gamma):
            raise ValueError(
                f"Task '{name}': `label_smoothing` and `focal_gamma` are options of the task's "
                f"own loss; `loss` replaces it. "
                "Give one or the other."
            )
        self.beta, self.label_smoothing, self.focal_gamma = (
            float(beta),
            float(label_smoothing),
            float(focal_gamma),
        )
        self._given_class_weights = class_weights

    # ------------------------------------------------------------------ weights of classes
    @property
    def class_weights_shape(self) -> tuple[int, ...]:
        """Shape of the table of weights: one per class."""
        return (self._classes,)

    @property
    def _classes(self) -> int:
        """Number of classes, 2 for yes or no."""
        raise NotImplementedError

    @property
    def _is_yes_or_no(self) -> bool:
        """Whether the output is one probability, of yes, instead of one per class."""
        return False

    @property
    def class_weights(self) -> str | np.ndarray | None:
        """None, "balanced", "effective", or the table of weights."""
        given = self._given_class_weights
        return given if given is None or isinstance(given, str) else self._table(given)

    @property
    def counts_classes(self) -> bool:
        """Whether the weights come from counted labels."""
        return isinstance(self._given_class_weights, str)

    def _check_class_weights(self) -> None:
        """Refuse weights that can't be; subclasses call it once they know their classes."""
        given = self._given_class_weights
        if isinstance(given, str) and given not in _COUNTED:
            raise ValueError(
                f"Task '{self.name}': `class_weights` should be 'balanced', 'effective', a dict "
                f"or a list. Received: {given!r}"
            )
        if given is not None and not isinstance(given, str):
            # Kept as a list: keys that are numbers do not survive JSON.
            self._given_class_weights = self._table(given).tolist()

    def _table(self, given: Any) -> np.ndarray:
        if isinstance(given, Mapping):
            weights = [self._default_weight() for _ in range(self.class_weights_shape[0])]
            for key, weight in given.items():
                weights[self._class_number(key)] = self._row(weight)
        else:
            weights = [self._row(weight) for weight in given]
        try:
            table = np.asarray(weights, "float64")
        except (TypeError, ValueError):
            table = np.asarray(np.nan)
        if (
            table.shape != self.class_weights_shape
            or not np.isfinite(table).all()
            or (table < 0).any()
        ):
            raise ValueError(
                f"Task '{self.name}': `class_weights` should be finite numbers >= 0 of shape "
                f"{self.class_weights_shape}. "
                f"Received: {given!r}"
            )
        return table

    def _default_weight(self) -> Any:
        return 1.0

    def _row(self, weight: Any) -> Any:
        return weight

    def _class_number(self, key: Any) -> int:
        if isinstance(key, str) and self.labels is not None and key in self.labels:
            return self.labels.index(key)
        if isinstance(key, (int, np.integer)) and 0 <= int(key) < self.class_weights_shape[0]:
            return int(key)
        known = [*map(str, range(self.class_weights_shape[0])), *(self.labels or ())]
        raise ValueError(
            unknown_name(f"class in `class_weights` of task '{self.name}':", str(key), known)
        )

    def fit_to(self, labels: Any, sample_weight: Any = None) -> ClassTask:
        """The same task with the weights that `class_weights` means on these labels.

        Args:
            labels: array; missing labels are left out.
            sample_weight: array of one weight per row, or None. Rows of weight 0 are left out.

        Raises:
            ValueError: `class_weights` is neither "balanced" nor "effective", or no label is there.
        """
        if not self.counts_classes:
            raise ValueError(
                f"Task '{self.name}' has no class weights to count: use class_weights='balanced' "
                f"or 'effective'."
            )
        counts = self.count_classes(labels, sample_weight)
        return self.copy(class_weights=self.weights_from(counts).tolist())

    def weights_from(self, counts: np.ndarray) -> np.ndarray:
        """The table of weights from counts of its shape.

        Raises:
            ValueError: no label was counted.
        """
        if not counts.sum() > 0:
            kind = self._given_class_weights
            raise ValueError(
                f"Task '{self.name}': no label is there to count for class_weights={kind!r}."
            )
        return class_weights_from_counts(counts, self._given_class_weights, self.beta)

    def count_classes(self, labels: Any, sample_weight: Any = None) -> np.ndarray:
        """How often each class occurs, in the shape of `class_weights_shape`; soft labels count
        with their probabilities."""
        labels = np.asarray(labels)
        if sample_weight is not None:
            weight = np.asarray(sample_weight)
            labels = labels[weight.reshape(len(weight), -1).max(axis=1) > 0]
        target, present = (
            ops.convert_to_numpy(x) for x in self.target(ops.convert_to_tensor(labels))
        )
        return self._count(target, present)

    def _count(self, target: np.ndarray, present: np.ndarray) -> np.ndarray:
        if self._is_yes_or_no:
            yes = target[..., 0][present].astype("float64")
            return np.array([(1 - yes).sum(), yes.sum()])
        if target.ndim > present.ndim:
            return np.asarray(target[present].astype("float64").sum(0))
        return np.bincount(target[present].astype("int64"), minlength=self._classes).astype(
            "float64"
        )

    def element_weights(self, target: Any, table: Any) -> Any:
        """The weight of each label, from the table of the classes' weights."""
        if self._is_yes_or_no:
            return (table[1] * target + table[0] * (1 - target))[..., 0]
        if "float" in keras.backend.standardize_dtype(target.dtype):
            return ops.sum(target * table, axis=-1)
        return ops.take(table, target)

    # ------------------------------------------------------------------ loss
    def default_loss(self) -> Any:
        return (
            self._yes_or_no_loss()
            if self._is_yes_or_no
            else ClassCrossentropy(self.label_smoothing, self.focal_gamma)
        )

    def _yes_or_no_loss(self) -> Any:
        if self.focal_gamma:
            return EachCrossentropy(self.label_smoothing, self.focal_gamma)
        return keras.losses.BinaryCrossentropy(label_smoothing=self.label_smoothing)

    # ------------------------------------------------------------------ labels that are probabilities
    @property
    def soft_label_shape(self) -> tuple[int | None, ...] | None:
        return None if self._is_yes_or_no else (*self._places, self._classes)

    @property
    def _places(self) -> tuple[int | None, ...]:
        """The axes of one row's hard label, beside the class."""
        return ()

    def is_soft(self, shape: Any) -> bool:
        """Whether labels of this shape are a probability per class."""
        expected = self.soft_label_shape
        return (
            expected is not None and len(shape) == 1 + len(expected) and shape[-1] == expected[-1]
        )

    def _soft_target(self, y: Any) -> tuple[Any, Any]:
        y = ops.cast(y, "float32")
        known = ops.logical_and(ops.isfinite(y), y >= 0)
        present = ops.all(known, axis=-1)
        return ops.where(ops.expand_dims(present, -1), y, 1.0 / self._classes), present

    def metric_target(self, target: Tensor, output: Tensor) -> Tensor:
        if self._is_yes_or_no:
            return ops.cast(target > 0.5, "float32")
        return (
            ops.cast(ops.argmax(target, axis=-1), "int32")
            if len(target.shape) == len(output.shape)
            else target
        )

    def _check_classes(self, values: np.ndarray) -> None:
        """Refuse what is no class number, or, for yes or no, no probability."""
        there = np.isfinite(values) & (values != -1)
        if self._is_yes_or_no:
            self._refuse(
                values, there & ((values < 0) | (values > 1)), "0, 1, or a probability from 0 to 1"
            )
            return
        bad = there & ((values < 0) | (values >= self._classes) | (values != np.floor(values)))
        self._refuse(
            values, bad, f"whole numbers from 0 to {self._classes - 1}, or a probability per class"
        )

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        check_probabilities(self, values) if self.is_soft(values.shape) else self._check_classes(
            values
        )

    # ------------------------------------------------------------------ config
    def get_config(self) -> Config:
        config = super().get_config()
        options = {
            "class_weights": self._given_class_weights,
            "beta": self.beta,
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
        }
        defaults = {
            "class_weights": None,
            "beta": 0.999,
            "label_smoothing": 0.0,
            "focal_gamma": 0.0,
        }
        return {
            **config,
            **{key: value for key, value in options.items() if value != defaults[key]},
        }
