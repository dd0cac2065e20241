"""Scalarizations with preferences: Tchebycheff, its smooth form, and boundary intersection with a
penalty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, require
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["PBI", "STCH", "Chebyshev"]

_LEAST = 1e-8


class _Preferences(Balancer):
    """A direction in the space of losses, and the point it starts from."""

    def __init__(
        self,
        preferences: Mapping[str, float] | None = None,
        reference: Mapping[str, float] | None = None,
    ):
        super().__init__()
        for name, value in (preferences or {}).items():
            good = value > 0 and math.isfinite(value)
            require(self, good, f"the preference of task '{name}'", "a finite number > 0", value)
        for name, value in (reference or {}).items():
            require(
                self,
                math.isfinite(value),
                f"the reference of task '{name}'",
                "a finite number",
                value,
            )
        self.preferences, self.reference = dict(preferences or {}), dict(reference or {})

    def build_state(self, tasks: Sequence[Any]) -> None:
        self._lambda = self.by_task("preferences", self.preferences, 1.0)
        self._z = self.by_task("reference", self.reference, 0.0)
        self._is_named = [name in self.preferences for name in self.task_names]

    def _scale(self, present: Tensor) -> Tensor:
        """The preferences; 1 / T for tasks that are not named. T counts the present tasks only."""
        is_named = ops.convert_to_tensor(self._is_named)
        preferences = ops.convert_to_tensor(self._lambda, "float32")
        return ops.where(is_named, preferences, 1.0 / _count(present))

    def _distance(self, losses: Tensor) -> Tensor:
        return losses - ops.convert_to_tensor(self._z, "float32")

    def get_config(self) -> Config:
        return {"preferences": self.preferences or None, "reference": self.reference or None}


@register("chebyshev")
class Chebyshev(_Preferences):
    """The largest of the weighted distances of the losses from a reference point: only the worst
    task is trained.

    Minimizes `max_i lambda_i (L_i - z_i)`. Tasks that are equally far share the weight.

    Args:
        preferences: dict of task name to `lambda` > 0. Tasks that are not named get 1 / T.
        reference: dict of task name to `z`, a loss that can't be reached. Tasks that are not named
            get 0.

    Reference:
        Bowman, "On the Relationship of the Tchebycheff Norm and the Efficient Frontier of
        Multiple-Criteria Objectives", 1976; used by Zhang, Li, "MOEA/D", IEEE Transactions on
        Evolutionary Computation 2007.
    """

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        scale = self._scale(present)
        terms = ops.where(
            present, scale * self._distance(losses), ops.full_like(losses, -float("inf"))
        )
        top = ops.cast(ops.logical_and(present, terms >= ops.max(terms)), "float32")
        return scale * top / ops.maximum(ops.sum(top), 1.0)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        terms = self._scale(present) * self._distance(losses)
        largest = ops.max(ops.where(present, terms, ops.full_like(terms, -float("inf"))))
        return ops.where(ops.any(present), largest, ops.zeros_like(largest))


@register("stch")
class STCH(_Preferences):
    """The smooth maximum of the weighted distances of the losses from a reference point.

    Minimizes `mu log sum_i exp(lambda_i (L_i - z_i) / mu)`. A small `mu` minimizes the largest
    term, which finds points on concave fronts that no weighted sum finds; a large one comes near
    the weighted sum.

    Args:
        mu: float > 0 or None. Smoothness. Defaults to 0.1, and to 1 for `form="mtl"`.
        preferences: dict of task name to `lambda` > 0. Tasks that are not named, or all where it is
            None, get 1 / T.
        reference: dict of task name to `z`, a loss that can't be reached. Tasks that are not named
            get 0.
        form: "plain", or "mtl", that of the authors' multi-task code: for `warmup` epochs, and one
            more in which each task's mean loss is noted, the sum of log losses is minimized; from
            then on `T mu log sum_i exp(log(L_i / noted_i) / mu)`. It takes no preferences and no
            reference, needs positive losses, and `fit`, which knows epochs.
        warmup: int >= 0. Epochs of "mtl" before the noting one. Defaults to 4.

    Reference:
        Lin, Zhang, Yang, Liu, Wang, Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
        Optimization", ICML 2024.
    """

    def __init__(
        self,
        mu: float | None = None,
        preferences: Mapping[str, float] | None = None,
        reference: Mapping[str, float] | None = None,
        form: str = "plain",
        warmup: int = 4,
    ):
        super().__init__(preferences, reference)
        require(self, mu is None or (mu > 0 and math.isfinite(mu)), "mu", "a finite number > 0", mu)
        require(self, form in ("plain", "mtl"), "form", "'plain' or 'mtl'", form)
        if form == "mtl" and (preferences or reference):
            raise ValueError(
                "STCH: form='mtl' takes no preferences and no reference; it notes the losses "
                "itself."
            )
        self.mu, self.form = None if mu is None else float(mu), form
        self.warmup = whole_number(self, "warmup", warmup)
        self.positive = form == "mtl"
        self._mu = self.mu or (0.1 if form == "plain" else 1.0)

    def build_state(self, tasks: Sequence[Any]) -> None:
        super().build_state(tasks)
        if self.form == "mtl":
            zeros = np.zeros(len(tasks))
            self._epochs = self.add_state("epochs", zeros)
            self._noted = self.add_state("noted", zeros)
            self._sums = self.add_state("sums", zeros)
            self._counts = self.add_state("counts", zeros)

    def _terms(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        scale = self._scale(present)
        terms = scale * self._distance(losses) / self._mu
        return scale, ops.where(present, terms, ops.full_like(terms, -1e30))

    def _mtl(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """`(logs, ready)`: logs of the losses over the noted ones, and which tasks have one."""
        ready = ops.logical_and(present, self._noted.value > 0)
        noted = ops.where(self._noted.value > 0, self._noted.value, ops.ones_like(losses))
        return ops.log(ops.maximum(losses, _LEAST) / noted), ready

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        if self.form == "mtl":
            logs, ready = self._mtl(losses, present)
            share = ops.softmax(ops.where(ready, logs / self._mu, ops.full_like(logs, -1e30)))
            factor = ops.where(
                ready, ops.sum(ops.cast(ready, "float32")) * share, ops.ones_like(share)
            )
            return factor / ops.maximum(losses, _LEAST)
        scale, terms = self._terms(losses, present)
        return scale * ops.softmax(terms)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        if self.form == "mtl":
            logs, ready = self._mtl(losses, present)
            number = ops.sum(ops.cast(ready, "float32"))
            smooth = ops.logsumexp(ops.where(ready, logs / self._mu, ops.full_like(logs, -1e30)))
            waiting = ops.logical_and(present, ops.logical_not(ready))
            rest = ops.sum(ops.where(waiting, logs, ops.zeros_like(logs)))
            return rest + ops.where(number > 0, number * self._mu * smooth, 0.0)
        return self._mu * ops.logsumexp(self._terms(losses, present)[1])

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if self.form == "mtl":
            counted = ops.cast(
                ops.logical_and(present, self._epochs.value >= self.warmup), "float32"
            )
            self._sums.assign(self._sums.value + counted * losses)
            self._counts.assign(self._counts.value + counted)

    def epoch_end(self) -> None:
        if self.form == "mtl":
            due = ops.logical_and(self._counts.value > 0, self._noted.value <= 0)
            mean = self._sums.value / ops.maximum(self._counts.value, 1.0)
            self._noted.assign(ops.where(due, mean, self._noted.value))
            self._epochs.assign(self._epochs.value + 1.0)

    def get_config(self) -> Config:
        return {**super().get_config(), "mu": self.mu, "form": self.form, "warmup": self.warmup}


@register("pbi")
class PBI(_Preferences):
    """How far the losses are along a direction, and a penalty on how far they are off it.

    Minimizes `d1 + theta d2`: `d1` the length of the losses' projection on the direction of the
    preferences, from the reference point, `d2` their distance from that line. Weights may be
    negative: a task that is ahead of the line is held back.

    Args:
        preferences: dict of task name to a number > 0, the direction. Tasks that are not named have
            1 / T.
        reference: dict of task name to the loss where the line starts. Tasks that are not named
            have 0.
        theta: float >= 0. The penalty. Defaults to 5.

    Reference:
        Zhang, Li, "MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition", IEEE
        Transactions on Evolutionary Computation 2007.
    """

    def __init__(
        self,
        preferences: Mapping[str, float] | None = None,
        reference: Mapping[str, float] | None = None,
        theta: float = 5.0,
    ):
        super().__init__(preferences, reference)
        require(self, 0 <= theta < float("inf"), "theta", "a finite number >= 0", theta)
        self.theta = float(theta)

    def _components(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The direction, the length along it, the vector off it, and that vector's length."""
        direction = ops.where(present, self._scale(present), ops.zeros_like(losses))
        direction = direction / ops.maximum(ops.sqrt(ops.sum(direction**2)), 1e-30)
        distance = ops.where(present, self._distance(losses), ops.zeros_like(losses))
        along = ops.sum(direction * distance)
        off = distance - along * direction
        return direction, along, off, ops.sqrt(ops.sum(off**2))

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        direction, _, off, length = self._components(losses, present)
        return direction + self.theta * ops.divide_no_nan(off, length)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        _, along, _, length = self._components(losses, present)
        return along + self.theta * length

    def get_config(self) -> Config:
        return {**super().get_config(), "theta": self.theta}


def _count(present: Tensor) -> Tensor:
    return ops.maximum(ops.sum(ops.cast(present, "float32")), 1.0)
