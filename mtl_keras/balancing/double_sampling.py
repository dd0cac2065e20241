"""Methods that need gradients of independent batches: SDMGrad and MoDo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import on_simplex, require
from mtl_keras.balancing.gram import GramBalancer, count
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import project_simplex
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["MoDo", "SDMGrad"]


def _even(present: Tensor) -> Tensor:
    """The same weight for each present task."""
    return ops.cast(present, "float64") / count(present)


class _DoubleSampling(GramBalancer):
    """Weights from the products `J_1 J_2^T` of two independent batches' gradients; the step is that
    of a third.

    The products of one batch's gradients with themselves are biased: their noise does not average
    out. By default each training batch is cut into three parts of its rows (rows 0, 3, 6, ...; 1,
    4, 7, ...; 2, 5, 8, ...). With `data`, a batched `tf.data.Dataset` of `(inputs, labels)`, the
    step uses the whole training batch, and the two others come from there.
    """

    strategy = "samples"
    scales_heads = False

    def __init__(self, data: Any = None, **options: Any):
        super().__init__(**options)
        require(
            self,
            self.gradients == "parameters",
            "gradients",
            "'parameters' for several batches",
            self.gradients,
        )
        self.data = data

    def build_state(self, tasks: Sequence[Any]) -> None:
        self.simplex = self.add_state("simplex", np.full(len(tasks), 1.0 / len(tasks)))

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        simplex, _ = on_simplex(ops.cast(self.simplex.value, "float64"), present)
        return self.weights_of(self.descend(simplex, gram, present), present)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if gram is None:
            return
        # The descent is taken once more: the weights are float32, and its steps are long.
        before, mass = on_simplex(ops.cast(self.simplex.value, "float64"), present)
        after = self.descend(before, self.masked(gram, present), present)
        mass = ops.where(mass > 0, mass, count(present) / len(self.task_names))
        moved = ops.where(present, mass * after, self.simplex.value)
        self.simplex.assign(ops.cast(moved, "float32"))

    def descend(self, simplex: Tensor, products: Tensor, present: Tensor) -> Tensor:
        """The point on the simplex that the step goes to."""
        raise NotImplementedError

    def weights_of(self, simplex: Tensor, present: Tensor) -> Tensor:
        """The tasks' weights, from a point on the simplex."""
        return simplex

    def current(self) -> dict[str, float]:
        return self.named(self.simplex)


@register("sdmgrad")
class SDMGrad(_DoubleSampling):
    """The common descent direction of independent batches' gradients, held near the mean's.

    Some steps of projected gradient descent with momentum, from the last step's weights, on
    `|| sum_i (w_i + lam / T) g_i ||^2`; the update is `sum_i (w_i + lam / T) g_i / (1 + lam)`.

    Args:
        lam: float >= 0. Pull to the mean. Defaults to 0.3, as in the official runs (0.6 in the
            code's class).
        steps, learning_rate, momentum: of the inner descent. Default to 20, 10 and 0.5.
        data: independent batches, or None to cut each training batch into three.
        **options: `update_every`, `gradient_groups`, `scale_heads`, as in `GramBalancer`.

    Note:
        The products are divided by the squared mean of the gradients' norms. The official code's
        three buffers are one and the same, so that it samples once; here the batches are
        independent, as in the paper.

    Reference:
        Xiao, Ban, Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
        Algorithms", NeurIPS 2023.
    """

    def __init__(
        self,
        lam: float = 0.3,
        steps: int = 20,
        learning_rate: float = 10.0,
        momentum: float = 0.5,
        data: Any = None,
        **options: Any,
    ):
        super().__init__(data, **options)
        require(self, lam >= 0, "lam", ">= 0", lam)
        require(self, learning_rate > 0, "learning_rate", "> 0", learning_rate)
        require(self, 0 <= momentum < 1, "momentum", "in [0, 1)", momentum)
        self.lam, self.inner = float(lam), whole_number(self, "steps", steps, 1)
        self.learning_rate, self.momentum = float(learning_rate), float(momentum)

    def descend(self, simplex: Tensor, products: Tensor, present: Tensor) -> Tensor:
        norms = ops.sqrt(ops.maximum(ops.diagonal(products), 0.0))
        scale = (ops.sum(norms) / count(present)) ** 2
        # Independent batches may have diagonals that are not positive; the size of the matrix then
        # stands in.
        scale = ops.where(scale > 0, scale, ops.max(ops.abs(products)))
        products = ops.divide_no_nan(products, scale)
        mean = _even(present)

        def step(_: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            w, speed = state
            speed = self.momentum * speed + ops.matmul(products, w + self.lam * mean)
            return project_simplex(w - self.learning_rate * speed, present), speed

        w, _ = ops.fori_loop(0, self.inner, step, (simplex, ops.zeros_like(simplex)))
        return w

    def weights_of(self, simplex: Tensor, present: Tensor) -> Tensor:
        return (simplex + self.lam * _even(present)) / (1.0 + self.lam)

    def get_config(self) -> Config:
        own = {
            "lam": self.lam,
            "steps": self.inner,
            "learning_rate": self.learning_rate,
            "momentum": self.momentum,
        }
        return {**super().get_config(), **own}


@register("modo")
class MoDo(_DoubleSampling):
    """One step of projected gradient descent on the min-norm problem's weights a training step,
    without bias.

    `w <- projection of w - gamma (J_1 J_2^T w + rho w)` on the simplex; the update is `J_3^T w`.

    Args:
        gamma: float > 0. Step of the weights. Defaults to 1e-3.
        rho: float >= 0. Regularization. Defaults to 0.1.
        data: independent batches, or None to cut each training batch into three.
        **options: `update_every`, `gradient_groups`, `scale_heads`, as in `GramBalancer`.

    Reference:
        Chen, Fernando, Ying, Chen, "Three-Way Trade-Off in Multi-Objective Learning: Optimization,
        Generalization and Conflict-Avoidance", NeurIPS 2023.
    """

    def __init__(self, gamma: float = 1e-3, rho: float = 0.1, data: Any = None, **options: Any):
        super().__init__(data, **options)
        require(self, gamma > 0, "gamma", "> 0", gamma)
        require(self, rho >= 0, "rho", ">= 0", rho)
        self.gamma, self.rho = float(gamma), float(rho)

    def descend(self, simplex: Tensor, products: Tensor, present: Tensor) -> Tensor:
        gradient = ops.matmul(products, simplex) + self.rho * simplex
        return project_simplex(simplex - self.gamma * gradient, present)

    def get_config(self) -> Config:
        return {**super().get_config(), "gamma": self.gamma, "rho": self.rho}
