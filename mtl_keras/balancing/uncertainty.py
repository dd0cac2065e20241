"""Weighting by each task's own noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import Balancer, VectorAdam
from mtl_keras.balancing.likelihood import LIKELIHOODS, likelihood_of
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name

__all__ = ["Uncertainty"]

# likelihood: (factor a, factor c) in  a exp(-s) L + c s.
_FORMS = {"gaussian": (0.5, 0.5), "categorical": (1.0, 0.5), "laplace": (1.0, 1.0)}


@register("uncertainty")
class Uncertainty(Balancer):
    """Learn how noisy each task is, and trust noisy tasks less.

    Minimizes the sum over tasks of

    - `exp(-s) L / 2 + s / 2` for squared errors (`s` is the log of a Gaussian's variance),
    - `exp(-s) L + s / 2` for classification (a softmax with temperature),
    - `exp(-s) L + s` for absolute errors (`s` is the log of a Laplace distribution's scale),

    over the network and the log variances `s`, one per task. The form follows from the loss that is
    trained with, that of `compile(loss=...)` included. At a fixed loss the optimum is s = log L
    (squared and absolute errors) and s = log 2L (classification). The total may be negative; it is
    logged as `balanced_loss`, apart from the plain `loss`.

    Args:
        initial: float. First value of every `s`. Defaults to 0, as in the paper.
        learning_rate: float or None. Step of `s`; None follows the model's optimizer, as where both
            are trained by one optimizer. Defaults to None.
        limit: float. `s` stays between -limit and limit. Defaults to 10.
        likelihoods: dict of task name to "gaussian", "laplace" or "categorical", the three forms
            above. It goes before what the loss says. A loss of your own may have an attribute
            `likelihood` instead. Where neither says anything the task's kind decides, with a
            warning.

    Note:
        `s` is trained by an Adam of its own, not by the model's optimizer: it is then free of
        weight decay, stays float32 under mixed precision, and rests while its task has no labels.

    Reference:
        Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics", CVPR 2018. The Laplace form is the same derivation for absolute
        errors.
    """

    def __init__(
        self,
        initial: float = 0.0,
        learning_rate: float | None = None,
        limit: float = 10.0,
        likelihoods: Mapping[str, str] | None = None,
    ):
        super().__init__()
        for name, likelihood in (likelihoods or {}).items():
            if likelihood not in LIKELIHOODS:
                raise ValueError(
                    f"Uncertainty: the likelihood of task '{name}' must be one of "
                    f"{', '.join(LIKELIHOODS)}, "
                    f"got {likelihood!r}."
                )
        if not limit > 0 or not math.isfinite(limit):
            raise ValueError(f"Uncertainty: limit must be a finite number > 0, got {limit}.")
        if not abs(initial) <= limit:
            raise ValueError(
                f"Uncertainty: initial must lie between -limit and limit ({limit}), got {initial}."
            )
        if learning_rate is not None and not learning_rate > 0:
            raise ValueError(
                f"Uncertainty: learning_rate must be > 0 or None, got {learning_rate}."
            )
        self.initial, self.limit = float(initial), float(limit)
        self.learning_rate = None if learning_rate is None else float(learning_rate)
        self.likelihoods = dict(likelihoods or {})

    def build_state(self, tasks: Sequence[Any]) -> None:
        for name in self.likelihoods:
            if name not in self.task_names:
                raise ValueError(
                    unknown_name(
                        "task in `likelihoods` of balancer 'uncertainty':", name, self.task_names
                    )
                )
        forms = [_FORMS[self._likelihood(task)] for task in tasks]
        self._scale = [form[0] for form in forms]
        self._slope = [form[1] for form in forms]
        self.log_variance = self.add_state("log_variance", [self.initial] * len(forms))
        self._adam = VectorAdam(self, self.log_variance)

    def _likelihood(self, task: Any) -> str:
        """Which form a task's loss has."""
        loss = self.loss_functions[task.name]
        known = self.likelihoods.get(task.name) or likelihood_of(task, loss)
        if known is not None:
            return known
        assumed = getattr(task, "likelihood", "gaussian")
        what = (
            "no loss is known"
            if loss is None
            else f"its loss is {getattr(loss, '__name__', type(loss).__name__)}"
        )
        warnings.warn(
            f"Balancer 'uncertainty' can't tell how noise enters the loss of task '{task.name}' "
            f"({what}), and takes it for "
            f"'{assumed}'. Say so: Uncertainty(likelihoods={{'{task.name}': 'gaussian'}}) for "
            f"squared errors, 'laplace' for "
            "absolute errors, 'categorical' for the negative log likelihood of classes.",
            stacklevel=2,
        )
        return assumed

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return ops.convert_to_tensor(self._scale, "float32") * ops.exp(-self.log_variance.value)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        penalty = ops.convert_to_tensor(self._slope, "float32") * self.log_variance.value
        return ops.sum(ops.where(present, weights * losses + penalty, ops.zeros_like(losses)))

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        slope = ops.convert_to_tensor(self._slope, "float32")
        gradient = slope - self.weigh(losses, present) * losses
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        self._adam.step(gradient, present, rate)
        self.log_variance.assign(ops.clip(self.log_variance.value, -self.limit, self.limit))

    def current(self) -> dict[str, float]:
        return self.named(self.weigh(None, None))

    def get_config(self) -> Config:
        return {
            "initial": self.initial,
            "learning_rate": self.learning_rate,
            "limit": self.limit,
            "likelihoods": self.likelihoods or None,
        }
