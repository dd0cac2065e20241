"""Projecting conflicting gradients, and GradVac, which aims at a similarity."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register

__all__ = ["GradVac", "PCGrad"]


class _Surgery(GramBalancer):
    """Each gradient is changed against each other one, in a random order, in the coordinates of the Gram matrix.

    Row i of the coefficients says how much of every original gradient the changed gradient i holds.
    """

    scales_heads = False

    def __init__(self, seed: int = 0, **options):
        super().__init__(**options)
        self.seed = whole_number(self, "seed", seed)

    def build_state(self, tasks):
        self._generator = self.add_seed(self.seed)

    def solve(self, gram, present):
        size = gram.shape[0]
        draws = keras.random.uniform((size, size), seed=self._generator)
        order = ops.argsort(draws, axis=-1)
        coefficients = ops.eye(size, dtype="float64")
        diagonal = ops.diagonal(gram)
        for position in range(size):
            # One-hot rows: against which gradient each one is changed now.
            other = ops.one_hot(order[:, position], size, dtype="float64")
            dot = ops.sum(ops.matmul(coefficients, gram) * other, axis=-1)
            square = ops.sum(other * diagonal[None, :], axis=-1)
            itself = ops.sum(other * ops.eye(size, dtype="float64"), axis=-1) > 0
            both = ops.logical_and(
                present, ops.sum(other * ops.cast(present, "float64")[None, :], axis=-1) > 0
            )
            usable = ops.logical_and(ops.logical_and(both, ops.logical_not(itself)), square > 0)
            change = self.change(coefficients, gram, dot, square, other, usable)
            coefficients = coefficients + change[:, None] * other
        return ops.sum(coefficients * ops.cast(present, "float64")[:, None], axis=0)

    def change(self, coefficients, gram, dot, square, other, usable):
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@register("pcgrad")
class PCGrad(_Surgery):
    """Take from each gradient its projection on every other one that it conflicts with, in a random order; sum.

    The whole gradient over the shared variables decides, not one layer at a time; heads keep their own gradients. For two
    tasks the order does not matter, and the result is that of `upgrad` with preferences of 1.

    Args:
        seed: int. Of the orders.
        **options: `gradients`, `every`, `two_pass`, `scale_heads`, as in `GramBalancer`.

    Note:
        The official code shuffles and then goes on with the unshuffled list; here the order is random, as in the paper.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020.
    """

    def change(self, coefficients, gram, dot, square, other, usable):
        conflict = ops.logical_and(usable, dot < 0)
        return ops.where(conflict, -dot / ops.where(conflict, square, 1.0), 0.0)


@register("gradvac")
class GradVac(_Surgery):
    """Turn each gradient towards every other one until their cosine is the running mean of that pair's.

    Args:
        beta: float in (0, 1]. Step of the running mean. Defaults to 0.5, as in the public implementations.
        seed: int. Of the orders.
        **options: `gradients`, `every`, `two_pass`, `scale_heads`, as in `GramBalancer`.

    The running means start at 0, so that the first step is PCGrad's; they move at every step, also where nothing is
    changed, by the cosine before the change.

    Reference:
        Wang, Tsvetkov, Firat, Cao, "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
        Multilingual Models", ICLR 2021.
    """

    def __init__(self, beta: float = 0.5, seed: int = 0, **options):
        super().__init__(seed, **options)
        require(self, 0 < beta <= 1, "beta", "in (0, 1]", beta)
        self.beta = float(beta)

    def build_state(self, tasks):
        super().build_state(tasks)
        self.targets = self.add_state("targets", np.zeros((len(tasks), len(tasks))))

    def change(self, coefficients, gram, dot, square, other, usable):
        own = ops.sum(ops.matmul(coefficients, gram) * coefficients, axis=-1)
        usable = ops.logical_and(usable, own > 0)
        own_norm, other_norm = (
            ops.sqrt(ops.where(usable, own, 1.0)),
            ops.sqrt(ops.where(usable, square, 1.0)),
        )
        cosine = ops.clip(dot / own_norm / other_norm, -1.0, 1.0)
        targets = ops.cast(self.targets.value, "float64")
        target = ops.sum(targets * other, axis=-1)
        below = ops.logical_and(usable, cosine < target)
        sine, target_sine = ops.sqrt(1 - cosine**2), ops.sqrt(ops.maximum(1 - target**2, 1e-30))
        change = own_norm * (target * sine - cosine * target_sine) / (other_norm * target_sine)
        moved = (1 - self.beta) * targets + self.beta * cosine[:, None]
        seen = ops.logical_and(other > 0, usable[:, None])
        self.targets.assign(ops.cast(ops.where(seen, moved, targets), "float32"))
        return ops.where(below, change, 0.0)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}
