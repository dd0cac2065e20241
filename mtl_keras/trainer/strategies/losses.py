"""Weights from the losses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.trainer.jacobian import gram_matrix, sum_over_replicas, task_gradients
from mtl_keras.trainer.strategies.base import GradientUpdate, Scope, Strategy, register

__all__ = ["FromLosses"]


@register("losses")
class FromLosses(Strategy):
    """The weighted sum of the losses, in one backward pass."""

    uses_gradients = False

    def compute(self, forwards: Sequence[Any], scope: Scope) -> GradientUpdate:
        forward = forwards[-1]
        weights = self._weigh(forward)
        targets, factors = list(forward.each), tf.unstack(tf.stop_gradient(weights))
        if forward.added is not None:
            targets, factors = [*targets, forward.added], [*factors, tf.ones(())]
        gradients = forward.tape.gradient(targets, scope.variables, output_gradients=factors)
        return GradientUpdate(gradients, weights, gram=self._watched_gram(forward, scope))

    def _weigh(self, forward: Any) -> Any:
        # A loss scale skips a step whose losses are not finite; solvers must not meet them.
        is_finite = tf.reduce_all(tf.math.is_finite(forward.seen))
        losses = tf.where(is_finite, forward.seen, tf.ones_like(forward.seen))
        present = tf.logical_and(forward.present, is_finite)
        weights = tf.cast(self.balancer.weigh_all(losses, present)[0], tf.float32)
        weights = tf.where(is_finite, weights, tf.ones_like(weights))
        return tf.where(forward.present, weights, 0.0)

    def _watched_gram(self, forward: Any, scope: Scope) -> Any:
        """The products of the gradients, which the balancer does not need but someone looks at."""
        if not scope.is_watched or not scope.sources:
            return None
        columns = sum_over_replicas(task_gradients(forward, scope.sources))
        return gram_matrix(columns, forward.scale)
