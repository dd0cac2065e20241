"""Weights that are learned on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtl_keras.balancing import Balancer
from mtl_keras.trainer.auto_lambda import auto_lambda_step
from mtl_keras.trainer.strategies.base import register
from mtl_keras.trainer.strategies.losses import FromLosses

__all__ = ["FromHeldOut", "missing_data_message"]


@register("held_out")
class FromHeldOut(FromLosses):
    """A look ahead on a held-out batch moves the weights; then one backward pass of the weighted
    losses."""

    extra_batches = 1
    requires_data = True
    looks_ahead = True

    def split(self, data: Any) -> tuple[list[Any], list[Any]]:
        if self.balancer.data is None:
            raise ValueError(missing_data_message(self.balancer))
        return [data[0]], [data[1]]

    def prepare(
        self, compiled: Any, batches: Sequence[Any], others: Sequence[Any], before: Any
    ) -> None:
        auto_lambda_step(compiled.model, compiled, batches[0], others[0], before)


def missing_data_message(balancer: Balancer) -> str:
    """The message for a method that learns on data it does not have."""
    return (
        f"Balancer '{balancer.name}' learns on data that are held out from training, and has "
        f"none: give "
        f"`{type(balancer).__name__}(data=dataset)`, a batched tf.data.Dataset of (inputs, labels)"
        " (or set `model.balancer.data` after loading)."
    )
