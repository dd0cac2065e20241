"""Methods that keep a state of the size of the task gradients: MoCo, DB-MTL, ExcessMTL; and
MetaBalance, of their norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import on_simplex, require
from mtl_keras.balancing.gradients import GradientBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import project_simplex
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name

__all__ = ["DBMTL", "ExcessMTL", "MetaBalance", "MoCo"]


def _gram(rows: Tensor) -> Tensor:
    return ops.matmul(rows, ops.transpose(rows))


class _Tracked(GradientBalancer):
    """Running means of the task gradients, and a count of each task's steps."""

    def build_state(self, tasks: Sequence[Any]) -> None:
        self._steps = self.add_state("steps", np.zeros(len(tasks)))
        self._rows: dict[str, keras.Variable] = {}

    def build_row_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._rows = {key: self.add_rows("tracked", key, shape) for key, shape in shapes.items()}

    def _step_number(self, present: Tensor) -> Tensor:
        """Each task's number of this step, from 1."""
        return self._steps.value + 1.0

    def _mixed(self, rows: Tensor, key: str, present: Tensor, keep: Tensor) -> Tensor:
        """`keep` of the running mean and the rest of the new rows; 0 for absent tasks."""
        keep = keep[:, None]
        mixed = keep * self._rows[key].value + (1.0 - keep) * rows
        return ops.where(present[:, None], mixed, ops.zeros_like(mixed))

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        for key, mixed in (rows or {}).items():
            self._rows[key].assign(ops.where(present[:, None], mixed, self._rows[key].value))
        self._steps.assign(self._steps.value + ops.cast(present, "float32"))


@register("moco")
class MoCo(_Tracked):
    """Running means of the task gradients stand in for the gradients, and the weights follow the
    min-norm problem slowly.

    `y_i <- y_i - beta_t (y_i - g_i)`, `w <- projection of w - gamma_t (Y Y^T + rho I) w` on the
    simplex, and the update is `Y^T w`; `beta_t = beta / t^beta_decay`,
    `gamma_t = gamma / t^gamma_decay`.

    Args:
        beta, beta_decay: of the running means. Default to 0.5 and 0.5.
        gamma, gamma_decay: of the weights. Default to 0.1 and 0.5.
        rho: float >= 0. Regularization. Defaults to 0.

    Note:
        The weights are projected, as in the paper; public code takes their softmax each step, and
        first scales each gradient to the length of its loss. The state is as large as all task
        gradients.

    Reference:
        Fernando, Shen, Liu, Chaudhury, Murugesan, Chen, "Mitigating Gradient Bias in
        Multi-objective Learning: A Provably Convergent Approach", ICLR 2023.
    """

    scales_heads = False

    def __init__(
        self,
        beta: float = 0.5,
        beta_decay: float = 0.5,
        gamma: float = 0.1,
        gamma_decay: float = 0.5,
        rho: float = 0.0,
    ):
        super().__init__()
        require(self, 0 < beta <= 1, "beta", "in (0, 1]", beta)
        require(self, beta_decay >= 0, "beta_decay", ">= 0", beta_decay)
        require(self, gamma > 0, "gamma", "> 0", gamma)
        require(self, gamma_decay >= 0, "gamma_decay", ">= 0", gamma_decay)
        require(self, rho >= 0, "rho", ">= 0", rho)
        self.beta, self.beta_decay, self.gamma = float(beta), float(beta_decay), float(gamma)
        self.gamma_decay, self.rho = float(gamma_decay), float(rho)

    def build_state(self, tasks: Sequence[Any]) -> None:
        super().build_state(tasks)
        self.simplex = self.add_state("simplex", np.full(len(tasks), 1.0 / len(tasks)))

    def transform(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        return self._mixed(
            rows, key, present, 1.0 - self.beta / self._step_number(present) ** self.beta_decay
        )

    def measure(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        return _gram(rows)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        before, _ = on_simplex(self.simplex.value, present)
        gamma = self.gamma / self._step_number(present) ** self.gamma_decay
        slope = ops.matmul(gram, before) + self.rho * before
        return project_simplex(before - gamma * slope, present)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if weights is not None:
            _, mass = on_simplex(self.simplex.value, present)
            self.simplex.assign(ops.where(present, mass * weights, self.simplex.value))
        super().update(losses, present, learning_rate, gram, weights, rows)

    def current(self) -> dict[str, float]:
        return self.named(self.simplex)

    def get_config(self) -> Config:
        names = ("beta", "beta_decay", "gamma", "gamma_decay", "rho")
        return {name: getattr(self, name) for name in names}


@register("db_mtl")
class DBMTL(_Tracked):
    """Log losses, and running means of their gradients, all made as long as the longest; their sum.

    `m_i <- beta_t m_i + (1 - beta_t) grad log L_i`, `beta_t = beta / t^sigma`; the update is the
    sum of `max_j ||m_j|| / ||m_i|| m_i`. Heads get the gradients of the log losses.

    Args:
        beta: float in [0, 1). Defaults to 0.9.
        sigma: float >= 0. How fast `beta` falls. Defaults to 0.

    Note:
        The means start at 0 and are not corrected for it, as in the official code: the first steps
        are short by `1 - beta`.

    Reference:
        Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok, "Dual-Balancing for Multi-Task Learning", 2023
        (arXiv 2308.12029); Neural Networks.
    """

    positive = True

    def __init__(self, beta: float = 0.9, sigma: float = 0.0):
        super().__init__()
        require(self, 0 <= beta < 1, "beta", "in [0, 1)", beta)
        require(self, sigma >= 0, "sigma", ">= 0", sigma)
        self.beta, self.sigma = float(beta), float(sigma)

    def row_scale(self, losses: Tensor, present: Tensor) -> Tensor:
        return 1.0 / (ops.maximum(losses, 0.0) + 1e-8)

    def transform(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        return self._mixed(rows, key, present, self.beta / self._step_number(present) ** self.sigma)

    def measure(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        return ops.sum(rows**2, axis=1)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        norms = ops.sqrt(gram)
        return ops.divide_no_nan(ops.max(norms), norms)

    def weigh_all(
        self, losses: Tensor, present: Tensor, gram: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.weigh(losses, present, gram), self.row_scale(losses, present)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        return ops.sum(
            ops.where(present, ops.log(ops.maximum(losses, 0.0) + 1e-8), ops.zeros_like(losses))
        )

    def get_config(self) -> Config:
        return {"beta": self.beta, "sigma": self.sigma}


@register("excess_mtl")
class ExcessMTL(GradientBalancer):
    """Tasks that are far from their own optimum weigh more, whatever noise their losses can't get
    below.

    The distance is estimated by `e_i = sum over numbers of g_i^2 / sqrt(S_i)`, `S_i` the sum of all
    squared gradients so far; the weights are multiplied by `exp(step e_i / e_i(0))` and scaled to
    sum to the number of tasks.

    Args:
        step: float > 0. Defaults to 0.01, as in the public implementation that its authors build
            on.

    Note:
        A task's first step with labels sets its `e_i(0)` and moves no weight. The state is as large
        as all task gradients.

    Reference:
        He, Zhou, Zhang, Tan, Zhao, "Robust Multi-Task Learning with Excess Risks", ICML 2024.
    """

    def __init__(self, step: float = 1e-2):
        super().__init__()
        require(self, 0 < step < float("inf"), "step", "a finite number > 0", step)
        self.step = float(step)

    def build_state(self, tasks: Sequence[Any]) -> None:
        self.task_weights = self.add_state("task_weights", np.ones(len(tasks)))
        self._first = self.add_state("first", np.zeros(len(tasks)))
        self._rows: dict[str, keras.Variable] = {}

    def build_row_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._rows = {key: self.add_rows("squares", key, shape) for key, shape in shapes.items()}

    def measure(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        squares = self._rows[key].value + rows**2
        return ops.sum(rows**2 / ops.sqrt(squares + 1e-7), axis=1)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        weights = self.task_weights.value
        excess = ops.where(
            ops.logical_and(present, self._first.value > 0),
            ops.divide_no_nan(gram, self._first.value),
            ops.zeros_like(gram),
        )
        # Multiplied in logarithms: an excess may have grown by any factor.
        mass = ops.sum(ops.where(present, weights, ops.zeros_like(weights)))
        logits = ops.log(ops.maximum(weights, 1e-30)) + self.step * excess
        moved = mass * ops.softmax(ops.where(present, logits, ops.full_like(logits, -1e30)))
        return ops.where(present, moved, ops.zeros_like(moved))

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        for key, values in (rows or {}).items():
            squares = self._rows[key].value
            self._rows[key].assign(ops.where(present[:, None], squares + values**2, squares))
        if gram is None or weights is None:
            return
        is_first = ops.logical_and(present, self._first.value <= 0)
        self._first.assign(ops.where(is_first, gram, self._first.value))
        self.task_weights.assign(ops.where(present, weights, self.task_weights.value))

    def current(self) -> dict[str, float]:
        return self.named(self.task_weights)

    def get_config(self) -> Config:
        return {"step": self.step}


@register("metabalance")
class MetaBalance(GradientBalancer):
    """Auxiliary tasks' gradients are brought to the size of the target task's, one variable at a
    time.

    With running means `m_i` of the norms, an auxiliary gradient becomes
    `r g_i m_target / m_i + (1 - r) g_i`.

    Args:
        target: str or None. Name of the task that counts; None takes the first.
        relax: float in [0, 1]. The `r` above. Defaults to 0.7.
        beta: float in [0, 1). Of the running means. Defaults to 0.9.
        adjust: "reduce" changes only gradients that are larger than the target's, "enlarge" only
            smaller ones, "both" all. Defaults to "both".

    Reference:
        He, Feng, Cheng, Ji, Guo, Caverlee, "MetaBalance: Improving Multi-Task Recommendations via
        Adapting Gradient Magnitudes of Auxiliary Tasks", WWW 2022.
    """

    scales_heads = False

    def __init__(
        self,
        target: str | None = None,
        relax: float = 0.7,
        beta: float = 0.9,
        adjust: str = "both",
    ):
        super().__init__()
        require(self, 0 <= relax <= 1, "relax", "in [0, 1]", relax)
        require(self, 0 <= beta < 1, "beta", "in [0, 1)", beta)
        require(
            self,
            adjust in ("reduce", "enlarge", "both"),
            "adjust",
            "'reduce', 'enlarge' or 'both'",
            adjust,
        )
        self.target, self.adjust = target, adjust
        self.relax, self.beta = float(relax), float(beta)

    def build_state(self, tasks: Sequence[Any]) -> None:
        if self.target is not None and self.target not in self.task_names:
            raise ValueError(
                unknown_name("target task of balancer 'metabalance':", self.target, self.task_names)
            )
        self._index = 0 if self.target is None else self.task_names.index(self.target)
        self._norms: dict[str, keras.Variable] = {}

    def build_row_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        zeros = np.zeros(len(self.task_names))
        self._norms = {
            key: self.add_state(f"norms.{key.replace('/', '.')}", zeros) for key in shapes
        }

    def _running_norms(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        old = self._norms[key].value
        norms = self.beta * old + (1 - self.beta) * ops.sqrt(ops.sum(rows**2, axis=1))
        return ops.where(present, norms, old)

    def combine(self, rows: Tensor, weights: Tensor, key: str, present: Tensor) -> Tensor:
        norms = self._running_norms(rows, key, present)
        target = norms[self._index]
        # Without any gradient of the target yet there is no size to go by.
        usable = ops.logical_and(norms > 0, target > 0)
        ratio = ops.where(usable, ops.divide_no_nan(target, norms), 1.0)
        if self.adjust == "reduce":
            ratio = ops.minimum(ratio, 1.0)
        elif self.adjust == "enlarge":
            ratio = ops.maximum(ratio, 1.0)
        auxiliary = ops.arange(len(self.task_names)) != self._index
        factor = ops.where(auxiliary, self.relax * ratio + (1 - self.relax), ops.ones_like(ratio))
        return ops.matmul(ops.where(present, factor, ops.zeros_like(factor)), rows)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        for key, values in (rows or {}).items():
            self._norms[key].assign(self._running_norms(values, key, present))

    def get_config(self) -> Config:
        return {
            "target": self.target,
            "relax": self.relax,
            "beta": self.beta,
            "adjust": self.adjust,
        }
