"""The bargaining solution."""

from __future__ import annotations

from keras import ops

from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import masked_cosines, nash

__all__ = ["NashMTL"]


@register("nash_mtl")
class NashMTL(GramBalancer):
    """Weights `a > 0` with `a_i (G a)_i = 1`: the update on which tasks that bargain for their gains agree.

    The update's length is always the square root of the number of tasks, before `max_norm`; the weights do not depend on
    how any loss is scaled. Where gradients cancel (Pareto-stationary points) no solution exists, and the weights are
    large but finite, their combination still at most as long.

    Args:
        max_norm: float or None. The combined gradient is shortened to this length. Defaults to 1, as in the official
            code; None leaves it.

    Reference:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, "Multi-Task Learning as a Bargaining Game", ICML
        2022. The paper solves a sequence of convex programs; this is Newton's method on the equivalent strictly convex
        problem (G a = 1/a is its gradient), to the last digits.
    """

    def __init__(self, max_norm: float | None = 1.0):
        super().__init__()
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"NashMTL: max_norm must be > 0 or None, got {max_norm}.")
        self.max_norm = None if max_norm is None else float(max_norm)

    def solve(self, gram, present):
        cosines, norms, live = masked_cosines(gram, present)
        unit = nash(cosines, live)
        if self.max_norm is not None:
            length = ops.sqrt(ops.maximum(ops.sum(unit * ops.matmul(cosines, unit)), 1e-300))
            unit = unit * ops.minimum(1.0, self.max_norm / length)
        return unit / norms

    def get_config(self):
        return {"max_norm": self.max_norm}
