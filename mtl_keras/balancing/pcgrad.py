"""Projecting conflicting gradients, and GradVac, which aims at a similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["GradVac", "PCGrad"]


class Pairs(NamedTuple):
    """Each task's changed gradient beside the original one that it meets now.

    Attributes:
        coefficients: `(tasks, tasks)`. How much of every original gradient the changed ones hold.
        gram: `(tasks, tasks)`. Products of the original gradients.
        dot: `(tasks,)`. Products of the pairs.
        square: `(tasks,)`. Squared norms of the partners.
        other: `(tasks, tasks)`. One-hot rows: the partners.
        usable: bool `(tasks,)`. Whether a pair may change anything.
    """

    coefficients: Tensor
    gram: Tensor
    dot: Tensor
    square: Tensor
    other: Tensor
    usable: Tensor


class _PairwiseProjection(GramBalancer):
    """Each gradient is changed against each other one, in a random order, in the coordinates of the
    Gram matrix.

    Row i of the coefficients says how much of every original gradient the changed gradient i holds.
    """

    scales_heads = False

    def __init__(self, seed: int = 0, **options: Any):
        super().__init__(**options)
        self.seed = whole_number(self, "seed", seed)

    def build_state(self, tasks: Sequence[Any]) -> None:
        self._draws = self.add_draws(self.seed)

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        coefficients, _ = self.project(gram, present)
        return ops.sum(coefficients * ops.cast(present, "float64")[:, None], axis=0)

    def project(self, gram: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """`(coefficients, memory)` of the changed gradients; each `(tasks, tasks)`. `memory` is
        what `recall` began with."""
        size = gram.shape[0]
        draws = keras.random.uniform((size, size), seed=self._draws.at())
        order = ops.argsort(draws, axis=-1)
        identity = ops.eye(size, dtype="float64")
        coefficients, memory = identity, self.recall(size)
        diagonal = ops.diagonal(gram)
        for position in range(size):
            # One-hot rows: against which gradient each one is changed now.
            other = ops.one_hot(order[:, position], size, dtype="float64")
            dot = ops.sum(ops.matmul(coefficients, gram) * other, axis=-1)
            square = ops.sum(other * diagonal[None, :], axis=-1)
            is_itself = ops.sum(other * identity, axis=-1) > 0
            is_other_present = ops.sum(other * ops.cast(present, "float64")[None, :], axis=-1) > 0
            both = ops.logical_and(present, is_other_present)
            usable = ops.logical_and(ops.logical_and(both, ops.logical_not(is_itself)), square > 0)
            pairs = Pairs(coefficients, gram, dot, square, other, usable)
            change, memory = self.change(pairs, memory)
            coefficients = coefficients + change[:, None] * other
        return coefficients, memory

    def recall(self, size: int) -> Tensor:
        """What the pairs' changes remember of earlier steps, `(tasks, tasks)`."""
        return ops.zeros((size, size), "float64")

    def change(self, pairs: Pairs, memory: Tensor) -> tuple[Tensor, Tensor]:
        """How much of its partner each gradient takes on, `(tasks,)`, and the memory after that."""
        raise NotImplementedError

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._draws.advance(ops.any(present))

    def get_config(self) -> Config:
        return {**super().get_config(), "seed": self.seed}


@register("pcgrad")
class PCGrad(_PairwiseProjection):
    """Take from each gradient its projection on every other one that it conflicts with, in a random
    order; sum.

    The whole gradient over the shared variables decides, not one layer at a time; heads keep their
    own gradients. For two tasks the order does not matter, and the result is that of `upgrad` with
    preferences of 1.

    Args:
        seed: int. Of the orders.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Note:
        The official code shuffles and then goes on with the unshuffled list; here the order is
        random, as in the paper.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS
        2020.
    """

    def change(self, pairs: Pairs, memory: Tensor) -> tuple[Tensor, Tensor]:
        conflict = ops.logical_and(pairs.usable, pairs.dot < 0)
        return ops.where(conflict, ops.divide_no_nan(-pairs.dot, pairs.square), 0.0), memory


@register("gradvac")
class GradVac(_PairwiseProjection):
    """Turn each gradient towards every other one until their cosine is the running mean of that
    pair's.

    Args:
        beta: float in (0, 1]. Step of the running mean. Defaults to 0.5, as in the public
            implementations.
        seed: int. Of the orders.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    The running means start at 0, so that the first step is PCGrad's; they move at every step, also
    where nothing is changed, by the cosine before the change.

    Reference:
        Wang, Tsvetkov, Firat, Cao, "Gradient Vaccine: Investigating and Improving Multi-task
        Optimization in Massively Multilingual Models", ICLR 2021.
    """

    def __init__(self, beta: float = 0.5, seed: int = 0, **options: Any):
        super().__init__(seed, **options)
        require(self, 0 < beta <= 1, "beta", "in (0, 1]", beta)
        self.beta = float(beta)

    def build_state(self, tasks: Sequence[Any]) -> None:
        super().build_state(tasks)
        self.targets = self.add_state("targets", np.zeros((len(tasks), len(tasks))))

    def recall(self, size: int) -> Tensor:
        return ops.cast(self.targets.value, "float64")

    def change(self, pairs: Pairs, memory: Tensor) -> tuple[Tensor, Tensor]:
        own = ops.sum(ops.matmul(pairs.coefficients, pairs.gram) * pairs.coefficients, axis=-1)
        usable = ops.logical_and(pairs.usable, own > 0)
        own_norm = ops.sqrt(ops.where(usable, own, 1.0))
        other_norm = ops.sqrt(ops.where(usable, pairs.square, 1.0))
        cosine = ops.clip(pairs.dot / own_norm / other_norm, -1.0, 1.0)
        target = ops.sum(memory * pairs.other, axis=-1)
        is_below = ops.logical_and(usable, cosine < target)
        sine, target_sine = ops.sqrt(1 - cosine**2), ops.sqrt(ops.maximum(1 - target**2, 1e-30))
        change = own_norm * (target * sine - cosine * target_sine) / (other_norm * target_sine)
        # The running mean of each pair that met.
        moved = (1 - self.beta) * memory + self.beta * cosine[:, None]
        has_met = ops.logical_and(pairs.other > 0, usable[:, None])
        return ops.where(is_below, change, 0.0), ops.where(has_met, moved, memory)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if gram is not None:
            _, targets = self.project(self.masked(gram, present), present)
            self.targets.assign(ops.cast(targets, "float32"))
        super().update(losses, present, learning_rate, gram, weights, rows)

    def get_config(self) -> Config:
        return {**super().get_config(), "beta": self.beta}
