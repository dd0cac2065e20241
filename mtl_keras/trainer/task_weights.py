"""A balancer's weights in the trainer: asked for, cached between the steps that compute them, and
its state moved on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from mtl_keras.balancing import Balancer
from mtl_keras.trainer.losses import replicas

__all__ = ["cached_weights", "is_due", "update_balancer", "weigh_gram"]


def weigh_gram(balancer: Balancer, forward: Any, gram: Any) -> tuple[Any, Any]:
    """Weights for the shared variables and for the heads, `(tasks,)` each; 1 where a gradient is
    not finite.

    Gradients that are not finite make a step that a loss scale skips; solvers must not meet them.
    """
    is_finite = ops.all(ops.isfinite(gram))
    present = ops.logical_and(forward.present, is_finite)
    gram = ops.where(is_finite, gram, ops.zeros_like(gram))
    weights, head_weights = balancer.weigh_all(forward.seen, present, gram)
    ones = ops.ones(gram.shape[:1], "float32")
    return (
        ops.where(is_finite, ops.cast(weights, "float32"), ones),
        ops.where(is_finite, ops.cast(head_weights, "float32"), ones),
    )


def is_due(balancer: Balancer) -> Any:
    """Whether this step computes weights, where `update_every` is above 1."""
    return balancer.steps.value < 0.5


def cached_weights(balancer: Balancer) -> tuple[Any, Any]:
    """The last computed weights, for the shared variables and for the heads."""
    return (
        tf.convert_to_tensor(balancer.cached_weights.value),
        tf.convert_to_tensor(balancer.cached_head_weights.value),
    )


def update_balancer(
    balancer: Balancer, forward: Any, update: Any, present: Any, learning_rate: Any
) -> None:
    """Move the balancer's state by one step.

    Args:
        balancer: the balancer.
        forward: the forward pass that was trained on.
        update: `GradientUpdate` of the balancer's strategy.
        present: bool `(tasks,)`; False for all tasks in a step that a loss scale skips.
        learning_rate: scalar.
    """
    balanced = present
    if update.present is not None:
        balanced = ops.logical_and(balanced, update.present)
    measured = update.measured
    if measured is not None:
        is_finite = ops.all(ops.isfinite(measured))
        balanced = ops.logical_and(balanced, is_finite)
        measured = ops.where(is_finite, measured, ops.zeros_like(measured))
    if update.is_due is not None and replicas() > 1:
        # Replicas can't write their state inside a condition.
        balanced = ops.logical_and(balanced, update.is_due)

    def learn() -> Any:
        if balancer.update_every > 1:
            balancer.cache_weights(update.weights, update.head_weights, balanced)
        balancer.update(
            forward.seen, balanced, learning_rate, measured, update.weights, update.rows
        )
        return tf.zeros(())

    if update.is_due is None or replicas() > 1:
        learn()
    else:
        tf.cond(update.is_due, learn, lambda: tf.zeros(()))
    balancer.end_step(forward.raw, present, learning_rate, forward.pre_weights)
