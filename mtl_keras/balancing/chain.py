"""Methods made of others: one after the other, IMTL, and running means of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.alignment import IMTLG
from mtl_keras.balancing.balancer import Balancer, SharedLayer, require
from mtl_keras.balancing.gradients import GradientBalancer
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.imtl_l import IMTLL
from mtl_keras.balancing.registry import get, register, register_list
from mtl_keras.balancing.types import Config, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EMA", "IMTL", "Chain"]

_FORWARDED = ("strategy", "gradients", "update_every", "gradient_groups", "data", "scales_heads")


class _Composite(GramBalancer, GradientBalancer):
    """A method around others. What it asks of the trainer is what its last part asks."""

    def __init__(self, parts: Sequence[Balancer]):
        Balancer.__init__(self)
        self.parts = list(parts)
        for name in _FORWARDED:
            setattr(self, name, getattr(self.parts[-1], name))
        self.positive = any(part.positive for part in self.parts)
        self.observes_updated_losses = any(part.observes_updated_losses for part in self.parts)

    @property
    def last(self) -> Any:
        """The part that sees the gradients."""
        return self.parts[-1]

    @property
    def rounding(self) -> float:
        return getattr(self.last, "rounding", GramBalancer.rounding)

    @rounding.setter
    def rounding(self, value: float) -> None:
        # It is the last part that solves.
        self.last.rounding = value

    def build_state(self, tasks: Sequence[Any]) -> None:
        for number, part in enumerate(self.parts):
            part.build(tasks, self.loss_functions)
            self._adopt(number, part)

    def _adopt(self, number: int, part: Balancer) -> None:
        self._state.update({f"{number}_{name}": value for name, value in part.state.items()})

    def choose_layer(self, layers: Sequence[SharedLayer]) -> SharedLayer | None:
        return self.parts[-1].choose_layer(layers)

    def build_row_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.last.build_rows(shapes)
        self._adopt(len(self.parts) - 1, self.last)

    def transform(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        return self.last.transform(rows, key, present)

    def measure(self, rows: Tensor, key: str, present: Tensor) -> Tensor | None:
        return self.last.measure(rows, key, present)

    def combine(self, rows: Tensor, weights: Tensor, key: str, present: Tensor) -> Tensor:
        return self.last.combine(rows, weights, key, present)

    def measure_representation(self, rows: Tensor, activations: Tensor) -> Tensor:
        return self.last.measure_representation(rows, activations)

    def combine_representation(
        self, rows: Tensor, measured: Tensor, key: str, present: Tensor
    ) -> Tensor:
        return self.last.combine_representation(rows, measured, key, present)

    def row_scale(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.last.row_scale(losses, present)

    def aggregate(self, jacobian: Any, losses: Any = None) -> Tensor:
        if self.strategy == "gradients":
            return GradientBalancer.aggregate(self, jacobian, losses)
        return GramBalancer.aggregate(self, jacobian)

    def observe_updated_losses(self, losses: Tensor, present: Tensor) -> None:
        for part in self.parts:
            if part.observes_updated_losses:
                part.observe_updated_losses(losses, present)

    def epoch_end(self) -> None:
        for part in self.parts:
            part.epoch_end()


@register_list
@keras.saving.register_keras_serializable("mtl_keras")
class Chain(_Composite):
    """A loss weighting, and a second method that sees the losses and gradients as weighted by the
    first.

    `model.compile(balancer=["uncertainty", mtl.balancing.CAGrad(c=0.4)])` makes one. Heads get
    their gradients times the loss weights of the first, and times the second's if that scales
    heads.

    Args:
        balancers: a loss weighting, and any other balancer; names or objects.

    Raises:
        ValueError: not two, or a first one that needs more than the losses.

    Reference:
        Pairs a loss weighting with a gradient method as Liu et al., "Towards Impartial Multi-task
        Learning", ICLR 2021, do for IMTL.
    """

    name = "chain"

    def __init__(self, balancers: Sequence[Any]):
        parts = [get(balancer) for balancer in balancers]
        if len(parts) != 2:
            raise ValueError(
                f"A list of balancers is a loss weighting and one method more, got {len(parts)}."
            )
        first, last = parts
        if first.strategy != "losses" or isinstance(first, _Composite):
            raise ValueError(
                f"The first of two balancers weighs losses only; '{first.name}' does more. Put it "
                f"second."
            )
        if last.strategy == "held_out" or last.observes_updated_losses or isinstance(last, Chain):
            raise ValueError(f"Balancer '{last.name}' can't be the second of two.")
        super().__init__(parts)

    def pre_weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.parts[0].weigh(losses, present)

    def weigh_all(
        self, losses: Tensor, present: Tensor, gram: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.parts[1].weigh_all(losses, present, gram)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        losses = ops.ones(present.shape, "float32") if losses is None else losses
        first = ops.where(present, self.pre_weights(losses, present), ops.ones_like(losses))
        if gram is not None:
            factors = ops.cast(first, gram.dtype)
            gram = gram * factors[:, None] * factors[None, :]
        weights = self.weigh_all(first * losses, present, gram)[0]
        return ops.cast(first, weights.dtype) * weights

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        return self.parts[0].total(losses, weights, present)

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.parts[1].update(losses, present, learning_rate, gram, weights, rows)

    def end_step(
        self,
        raw_losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        pre_weights: Tensor | None = None,
    ) -> None:
        super().end_step(raw_losses, present, learning_rate, pre_weights)
        self.parts[0].update(raw_losses, present, learning_rate, weights=pre_weights)

    def current(self) -> dict[str, float]:
        return self.parts[0].current()

    def get_config(self) -> Config:
        return {"balancers": [keras.saving.serialize_keras_object(part) for part in self.parts]}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls([keras.saving.deserialize_keras_object(part) for part in config["balancers"]])


@register("imtl")
class IMTL(Chain):
    """Impartial in losses and in gradients: `imtl_l` brings the losses to one scale, `imtl_g` then
    projects equally.

    Args:
        learning_rate: float or None. Step of the loss scales; None follows the model's optimizer.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR
        2021.
    """

    options_of = IMTLG

    def __init__(self, learning_rate: float | None = None, **options: Any):
        super().__init__([IMTLL(learning_rate), IMTLG(**options)])

    def get_config(self) -> Config:
        return {"learning_rate": self.parts[0].learning_rate, **self.parts[1].get_config()}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**config)


@register("ema")
class EMA(_Composite):
    """Running means of another method's weights: less noise from one batch to the next.

    `w_t = decay w_(t-1) + (1 - decay) w`, from the first weights on; a task that is absent keeps
    its own.

    Args:
        balancer: name or balancer whose weights are averaged. Defaults to "mgda".
        decay: float in [0, 1). Defaults to 0.9.

    Reference:
        Zhou, Zhang, Jiang, Zhong, Gu, Zhu, "On the Convergence of Stochastic Multi-Objective
        Gradient Manipulation and Beyond", NeurIPS 2022 (CR-MOGM).
    """

    def __init__(self, balancer: Any = "mgda", decay: float = 0.9):
        inner = get(balancer)
        if isinstance(inner, _Composite) or inner.strategy in ("gradients", "held_out"):
            raise ValueError(
                f"EMA: '{inner.name}' has no weights of its own to average; give a loss weighting "
                f"or Gram method."
            )
        super().__init__([inner])
        require(self, 0 <= decay < 1, "decay", "in [0, 1)", decay)
        self.decay = float(decay)

    def build_state(self, tasks: Sequence[Any]) -> None:
        super().build_state(tasks)
        self._mean = self.add_state("mean", np.ones(len(tasks)))
        self._seen = self.add_state("seen", np.zeros(len(tasks)))

    def weigh_all(
        self, losses: Tensor, present: Tensor, gram: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        new, heads = self.parts[0].weigh_all(losses, present, gram)
        new = ops.cast(new, "float32")
        mixed = self.decay * self._mean.value + (1 - self.decay) * new
        mixed = ops.where(self._seen.value > 0, mixed, new)
        mixed = ops.where(present, mixed, ops.zeros_like(mixed))
        return mixed, mixed if self.scales_heads else heads

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return self.weigh_all(losses, present, gram)[0]

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        inner = self.parts[0]
        if inner.variables and (gram is not None or inner.strategy == "losses"):
            # The part learns from its own weights, not from their mean.
            own_weights = inner.weigh(losses, present, gram)
            inner.update(losses, present, learning_rate, gram, own_weights)
        if weights is None:
            return
        mean = ops.where(present, ops.cast(weights, "float32"), self._mean.value)
        self._mean.assign(mean)
        self._seen.assign(ops.where(present, ops.ones_like(mean), self._seen.value))

    def current(self) -> dict[str, float]:
        return self.named(self._mean)

    def get_config(self) -> Config:
        return {"balancer": keras.saving.serialize_keras_object(self.parts[0]), "decay": self.decay}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(keras.saving.deserialize_keras_object(config["balancer"]), config["decay"])
