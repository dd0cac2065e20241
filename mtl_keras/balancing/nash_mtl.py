"""The bargaining solution, and its generalization to other kinds of fairness."""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer, count
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import fair, masked_cosines, nash
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["FairGrad", "NashMTL"]


def _shortened(weights: Tensor, cosines: Tensor, norms: Tensor, max_norm: float | None) -> Tensor:
    """Weights of an update that is at most `max_norm` long."""
    if max_norm is None:
        return weights
    unit = weights * norms
    length = ops.sqrt(ops.maximum(ops.sum(unit * ops.matmul(cosines, unit)), 1e-300))
    return weights * ops.minimum(1.0, max_norm / length)


@register("nash_mtl")
class NashMTL(GramBalancer):
    """Weights `a > 0` with `a_i (G a)_i = 1`: the update on which tasks that bargain for their
    gains agree.

    The update's length is always the square root of the number of tasks, before `max_norm`; the
    weights are in inverse proportion to the gradients, so that no task's scale matters, and heads,
    which get their gradients times these weights, may need a smaller learning rate. Where gradients
    cancel (Pareto-stationary points) no solution exists, and the weights are large but finite,
    their combination at most as long.

    Args:
        max_norm: float or None. The combined gradient is shortened to this length. Defaults to 1,
            as in the official code; None leaves it.
        normalize: "paper", or "sum" for weights that sum to the number of tasks (and no
            `max_norm`).
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, "Multi-Task Learning as a
        Bargaining Game", ICML 2022. As in the official code, heads get their gradients times these
        weights. The paper solves a sequence of convex programs; this is Newton's method on the
        equivalent strictly convex problem (G a = 1/a is its gradient), to the last digits.
    """

    def __init__(self, max_norm: float | None = 1.0, normalize: str = "paper", **options: Any):
        super().__init__(**options)
        require(self, max_norm is None or max_norm > 0, "max_norm", "> 0 or None", max_norm)
        require(self, normalize in ("paper", "sum"), "normalize", "'paper' or 'sum'", normalize)
        self.max_norm, self.normalize = None if max_norm is None else float(max_norm), normalize

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        weights = nash(cosines, live) / norms
        if self.normalize == "sum":
            return ops.divide_no_nan(weights * count(present), ops.sum(weights))
        return _shortened(weights, cosines, norms, self.max_norm)

    def get_config(self) -> Config:
        return {**super().get_config(), "max_norm": self.max_norm, "normalize": self.normalize}


@register("fairgrad")
class FairGrad(GramBalancer):
    """Weights `x > 0` with `(G x)_i = x_i^(-1/alpha)`: alpha-fair gains of the tasks.

    `alpha` 1 is `nash_mtl`; near 0 it comes to the plain sum, and a large one lifts the task that
    gains least, as `mgda` does. Where gradients cancel no solution exists, and the weights are
    large but finite.

    Args:
        alpha: float > 0. Defaults to 2, which the authors use for all their data sets; their class
            has 1.
        max_norm: float or None. The combined gradient is shortened to this length. Defaults to 1,
            as in the official code; None leaves it.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Ban, Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024. They use SciPy's
        least squares; this is Newton's method on the convex function whose gradient the equation
        is. As in their code, heads keep their own gradients. It also multiplies the update by the
        number of tasks before `max_norm`; here that is not done.
    """

    scales_heads = False

    def __init__(self, alpha: float = 2.0, max_norm: float | None = 1.0, **options: Any):
        super().__init__(**options)
        require(self, 0 < alpha < float("inf"), "alpha", "a finite number > 0", alpha)
        require(self, max_norm is None or max_norm > 0, "max_norm", "> 0 or None", max_norm)
        self.alpha, self.max_norm = float(alpha), None if max_norm is None else float(max_norm)

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        return _shortened(
            fair(cosines, norms, live, 1.0 / self.alpha), cosines, norms, self.max_norm
        )

    def get_config(self) -> Config:
        return {**super().get_config(), "alpha": self.alpha, "max_norm": self.max_norm}
