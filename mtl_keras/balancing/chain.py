"""Methods made of others: one after the other, IMTL, and running means of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.alignment import IMTLG
from mtl_keras.balancing.balancer import Balancer, require
from mtl_keras.balancing.gradients import GradientBalancer
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.imtl_l import IMTLL
from mtl_keras.balancing.registry import get, register

__all__ = ["EMA", "IMTL", "Chain"]

_PASSED_ON = ("needs", "gradients", "every", "two_pass", "batches", "data", "layer")


class _Made(GramBalancer, GradientBalancer):
    """A method around others. What it asks of the trainer is what its last part asks."""

    def __init__(self, parts: Sequence[Balancer]):
        Balancer.__init__(self)
        self.parts = list(parts)
        for name in _PASSED_ON:
            if hasattr(self.parts[-1], name):
                setattr(self, name, getattr(self.parts[-1], name))
        self.positive = any(part.positive for part in self.parts)
        self.second_look = any(part.second_look for part in self.parts)
        self.scales_heads = self.parts[-1].scales_heads

    @property
    def rounding(self):
        return getattr(self.parts[-1], "rounding", GramBalancer.rounding)

    @rounding.setter
    def rounding(self, value):
        # It is the last part that solves.
        self.parts[-1].rounding = value

    def build_state(self, tasks):
        for number, part in enumerate(self.parts):
            part.build(tasks, self.loss_functions)
            self._adopt(number, part)

    def _adopt(self, number: int, part: Balancer) -> None:
        self._state.update({f"{number}_{name}": variable for name, variable in part._state.items()})

    def build_rows(self, shapes):
        last = self.parts[-1]
        if last.needs == "gradients":
            last.build_rows(shapes)
            self._adopt(len(self.parts) - 1, last)

    def transform(self, rows, key, present):
        return self.parts[-1].transform(rows, key, present)

    def measure(self, rows, key, present):
        return self.parts[-1].measure(rows, key, present)

    def combine(self, rows, weights, key, present):
        return self.parts[-1].combine(rows, weights, key, present)

    def row_scale(self, losses, present):
        return self.parts[-1].row_scale(losses, present)

    def aggregate(self, jacobian: Any):
        return (GradientBalancer if self.needs == "gradients" else GramBalancer).aggregate(
            self, jacobian
        )

    def epoch_end(self):
        for part in self.parts:
            part.epoch_end()


@keras.saving.register_keras_serializable("mtl_keras")
class Chain(_Made):
    """A loss weighting, and a second method that sees the losses and gradients as weighted by the first.

    `model.compile(balancer=["uncertainty", mtl.balancing.CAGrad(c=0.4)])` makes one. Heads get their gradients times the
    loss weights of the first, and times the second's if that scales heads.

    Args:
        balancers: a loss weighting, and any other balancer; names or objects.

    Raises:
        ValueError: not two, or a first one that needs more than the losses.

    Reference:
        Pairs a loss weighting with a gradient method as Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021,
        do for IMTL.
    """

    name = "chain"

    def __init__(self, balancers: Sequence[Any]):
        parts = [get(balancer) for balancer in balancers]
        if len(parts) != 2:
            raise ValueError(
                f"A list of balancers is a loss weighting and one method more, got {len(parts)}."
            )
        first, last = parts
        if first.needs != "losses" or first.held_out or isinstance(first, _Made):
            raise ValueError(
                f"The first of two balancers weighs losses only; '{first.name}' does more. Put it second."
            )
        if last.held_out or last.second_look or isinstance(last, Chain):
            raise ValueError(f"Balancer '{last.name}' can't be the second of two.")
        super().__init__(parts)

    def lead(self, losses, present):
        return self.parts[0].weigh(losses, present)

    def weigh_all(self, losses, present, gram=None):
        return self.parts[1].weigh_all(losses, present, gram)

    def weigh(self, losses, present, gram=None):
        losses = ops.ones(present.shape, "float32") if losses is None else losses
        lead = ops.where(present, self.lead(losses, present), ops.ones_like(losses))
        if gram is not None:
            wide = ops.cast(lead, gram.dtype)
            gram = gram * wide[:, None] * wide[None, :]
        weights = self.weigh_all(lead * losses, present, gram)[0]
        return ops.cast(lead, weights.dtype) * weights

    def total(self, losses, weights, present):
        return self.parts[0].total(losses, weights, present)

    def step_end(self, raw, losses, present, learning_rate):
        self.parts[0].update(raw, present, learning_rate)
        self.parts[1].update(losses, present, learning_rate)

    def look(self, losses, present):
        self.parts[0].look(losses, present)

    def current(self):
        return self.parts[0].current()

    def get_config(self):
        return {"balancers": [keras.saving.serialize_keras_object(part) for part in self.parts]}

    @classmethod
    def from_config(cls, config):
        return cls([keras.saving.deserialize_keras_object(part) for part in config["balancers"]])


@register("imtl")
class IMTL(Chain):
    """Impartial in losses and in gradients: `imtl_l` brings the losses to one scale, `imtl_g` then projects equally.

    Args:
        learning_rate: float or None. Step of the loss scales; None follows the model's optimizer.
        **options: `gradients`, `every`, `two_pass`, `scale_heads`, as in `GramBalancer`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR 2021.
    """

    options_of = IMTLG

    def __init__(self, learning_rate: float | None = None, **options):
        super().__init__([IMTLL(learning_rate), IMTLG(**options)])

    def get_config(self):
        return {"learning_rate": self.parts[0].learning_rate, **self.parts[1].get_config()}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@register("ema")
class EMA(_Made):
    """Running means of another method's weights: less noise from one batch to the next.

    `w_t = decay w_(t-1) + (1 - decay) w`, from the first weights on; a task that is absent keeps its own.

    Args:
        balancer: name or balancer whose weights are averaged. Defaults to "mgda".
        decay: float in [0, 1). Defaults to 0.9.

    Reference:
        Zhou, Zhang, Jiang, Zhong, Gu, Zhu, "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
        Beyond", NeurIPS 2022 (CR-MOGM).
    """

    def __init__(self, balancer: Any = "mgda", decay: float = 0.9):
        inner = get(balancer)
        if isinstance(inner, _Made) or inner.needs == "gradients" or inner.held_out:
            raise ValueError(
                f"EMA: '{inner.name}' has no weights of its own to average; give a loss weighting or Gram method."
            )
        super().__init__([inner])
        require(self, 0 <= decay < 1, "decay", "in [0, 1)", decay)
        self.decay = float(decay)

    def build_state(self, tasks):
        super().build_state(tasks)
        self._mean = self.add_state("mean", np.ones(len(tasks)))
        self._seen = self.add_state("seen", np.zeros(len(tasks)))

    def weigh_all(self, losses, present, gram=None):
        new, heads = self.parts[0].weigh_all(losses, present, gram)
        new = ops.cast(new, "float32")
        mixed = ops.where(
            self._seen.value > 0, self.decay * self._mean.value + (1 - self.decay) * new, new
        )
        self._mean.assign(ops.where(present, mixed, self._mean.value))
        self._seen.assign(ops.where(present, ops.ones_like(mixed), self._seen.value))
        mixed = ops.where(present, mixed, ops.zeros_like(mixed))
        return mixed, mixed if self.scales_heads else heads

    def weigh(self, losses, present, gram=None):
        return self.weigh_all(losses, present, gram)[0]

    def update(self, losses, present, learning_rate):
        self.parts[0].update(losses, present, learning_rate)

    def look(self, losses, present):
        self.parts[0].look(losses, present)

    def current(self):
        return dict(zip(self.task_names, map(float, self._mean.numpy()), strict=True))

    def get_config(self):
        return {"balancer": keras.saving.serialize_keras_object(self.parts[0]), "decay": self.decay}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["balancer"]), config["decay"])
