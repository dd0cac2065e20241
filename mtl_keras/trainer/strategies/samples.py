"""Weights from the products of independent batches' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.trainer.jacobian import (
    gram_matrix,
    sum_over_replicas,
    task_gradients,
    weighted_gradients,
    with_added_losses,
)
from mtl_keras.trainer.losses import replicas
from mtl_keras.trainer.strategies.base import GradientUpdate, Scope, register
from mtl_keras.trainer.strategies.gram import FromGram

__all__ = ["FromSamples"]


@register("samples")
class FromSamples(FromGram):
    """Weights from the products of two batches' gradients; the step is that of a third.

    The batches are parts of each training batch, or come from the balancer's own data.
    """

    num_batches = 3
    extra_batches = 2

    def split(self, data: Any) -> tuple[list[Any], list[Any]]:
        if self.balancer.data is not None:
            return [*data[1:], data[0]], []
        return [self._take_every(data, start) for start in range(self.num_batches)], []

    def _take_every(self, data: Any, start: int) -> Any:
        """Rows start, start + n, ... of the global batch, as far as they are on this replica."""
        number, first = self.num_batches, tf.nest.flatten(data)[0]
        check = tf.debugging.assert_greater_equal(
            tf.shape(first)[0],
            number,
            f"Balancer '{self.balancer.name}' cuts each batch into {number} parts; this one has "
            f"fewer rows. "
            "Use larger batches, and drop the remainder (`dataset.batch(n, drop_remainder=True)`).",
        )
        with tf.control_dependencies([check] if check is not None else []):
            offset = _replica() * tf.shape(first)[0]
            begin = tf.math.floormod(start - offset, number)
            return tf.nest.map_structure(lambda x: x[begin::number], data)

    def compute(self, forwards: Sequence[Any], scope: Scope) -> GradientUpdate:
        first, second, third = forwards
        present = tf.logical_and(tf.logical_and(first.present, second.present), third.present)
        third = third.with_present(present)

        def products() -> Any:
            one, two = (
                sum_over_replicas(task_gradients(forward, scope.sources))
                for forward in (first, second)
            )
            return gram_matrix(one, third.scale, two)

        # Replicas can't meet inside a condition, so that there the products are computed in every
        # step.
        weights, head_weights, gram, due = self.weigh(
            third, scope.sources, products, computes_always=replicas() > 1
        )
        weights = tf.where(present, weights, 0.0)
        head_weights = tf.where(third.is_labeled, head_weights, 0.0)
        gradients = weighted_gradients(third, scope.variables, weights, head_weights, scope.is_head)
        gradients = with_added_losses(third, scope.variables, gradients)
        return GradientUpdate(gradients, weights, head_weights, gram, gram, None, present, due)

    def logged(self, forwards: Sequence[Any]) -> Sequence[Any]:
        return forwards if self.balancer.data is None else forwards[-1:]


def _replica() -> Any:
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group
