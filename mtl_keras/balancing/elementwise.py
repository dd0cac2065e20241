"""Methods that decide number by number: gradient sign dropout and the trimmed mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gradients import GradientBalancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["GradDrop", "TrimmedMean"]


@register("graddrop")
class GradDrop(GradientBalancer):
    """Where tasks disagree about a number's sign, keep the gradients of one sign, drawn by how much
    speaks for it.

    With `P = (1 + sum_i h_i / sum_i |h_i|) / 2` and a uniform draw U for each number, task i's
    gradient is kept where `h_i > 0` and `P > U`, or `h_i < 0` and `P < U`; what is dropped is let
    through as far as `leak` says. On the representation, `h_i` is the gradient times the sign of
    the activation, summed over the batch, and the mask holds for all rows; on parameters, `h_i` is
    the gradient itself.

    Args:
        gradients: "representation", as in the paper, or "parameters".
        leak: dict of task name to a number in [0, 1], or one for all. Defaults to 0.
        seed: int. Of the draws; their state is saved, and is the same on all replicas.

    Reference:
        Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov, "Just Pick a Sign: Optimizing Deep
        Multitask Models with Gradient Sign Dropout", NeurIPS 2020.
    """

    scales_heads = False

    def __init__(
        self,
        gradients: str = "representation",
        leak: float | Mapping[str, float] | None = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        require(
            self,
            gradients in ("parameters", "representation"),
            "gradients",
            "'parameters' or 'representation'",
            gradients,
        )
        for value in leak.values() if isinstance(leak, Mapping) else [leak or 0.0]:
            require(self, 0 <= value <= 1, "leak", "in [0, 1]", value)
        self.gradients, self.seed = gradients, whole_number(self, "seed", seed)
        self.leak: float | dict[str, float] = (
            dict(leak) if isinstance(leak, Mapping) else float(leak or 0.0)
        )

    def build_state(self, tasks: Sequence[Any]) -> None:
        if isinstance(self.leak, dict):
            self._leak = self.by_task("leak", self.leak, 0.0)
        else:
            self._leak = self.by_task("leak", {}, self.leak)
        self._draws = self.add_draws(self.seed)

    def masks(self, signs: Tensor, key: str, present: Tensor) -> Tensor:
        """What share of each task's gradient passes.

        Args:
            signs: `h`, `(tasks, ...)`.
            key: which variable or shared tensor it is: each has draws of its own.
            present: bool `(tasks,)`.

        Returns:
            Tensor like `signs`.
        """
        column = (-1,) + (1,) * (len(signs.shape) - 1)
        mask = ops.reshape(ops.cast(present, "float32"), column)
        signs = signs * mask
        balance = ops.divide_no_nan(ops.sum(signs, axis=0), ops.sum(ops.abs(signs), axis=0))
        purity = 0.5 * (1.0 + balance)
        number = list(self.row_shapes).index(key)
        draws = keras.random.uniform(signs.shape[1:], seed=self._draws.at(number))
        up = ops.logical_and(purity > draws, signs > 0)
        down = ops.logical_and(purity < draws, signs < 0)
        passes = ops.cast(ops.logical_or(up, down), "float32")
        leak = ops.reshape(ops.convert_to_tensor(self._leak, "float32"), column)
        return (leak + (1.0 - leak) * passes) * mask

    def combine(self, rows: Tensor, weights: Tensor, key: str, present: Tensor) -> Tensor:
        return ops.sum(self.masks(rows, key, present) * rows, axis=0)

    def measure_representation(self, rows: Tensor, activations: Tensor) -> Tensor:
        return ops.sum(ops.sign(activations)[None] * rows, axis=1)

    def combine_representation(
        self, rows: Tensor, measured: Tensor, key: str, present: Tensor
    ) -> Tensor:
        return ops.sum(self.masks(measured, key, present)[:, None] * rows, axis=0)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._draws.advance(ops.any(present), len(self.row_shapes))

    def get_config(self) -> Config:
        return {"gradients": self.gradients, "leak": self.leak, "seed": self.seed}


@register("trimmed_mean")
class TrimmedMean(GradientBalancer):
    """The mean over the tasks of each number of the gradient, without its largest and smallest
    values.

    Args:
        trim: int >= 0. How many values are left out at each end; fewer where no value would be
            left, so that two tasks are simply averaged. Defaults to 1.

    Reference:
        Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
        Statistical Rates", ICML 2018.
    """

    scales_heads = False

    def __init__(self, trim: int = 1):
        super().__init__()
        self.trim = whole_number(self, "trim", trim)

    def combine(self, rows: Tensor, weights: Tensor, key: str, present: Tensor) -> Tensor:
        number = ops.sum(ops.cast(present, "int32"))
        trim = ops.minimum(self.trim, ops.maximum(number - 1, 0) // 2)
        ordered = ops.sort(
            ops.where(present[:, None], rows, ops.full_like(rows, float("inf"))), axis=0
        )
        rank = ops.arange(rows.shape[0])[:, None]
        inside = ops.logical_and(rank >= trim, rank < number - trim)
        size = ops.maximum(ops.cast(number - 2 * trim, "float32"), 1.0)
        return ops.sum(ops.where(inside, ordered, ops.zeros_like(rows)), axis=0) / size

    def get_config(self) -> Config:
        return {"trim": self.trim}
