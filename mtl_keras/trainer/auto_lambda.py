"""The look ahead of methods that learn their weights on held-out data."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.losses import Batch, all_sum, batch_losses

__all__ = ["auto_lambda_step"]


def auto_lambda_step(
    model: Any, compiled: Any, train: Any, held_out: Any, before: list[Any]
) -> None:
    """Move the weights of `compiled.balancer` by one step of Auto-Lambda.

    Args:
        train, held_out: batches `(x, y[, sample_weight])`.
        before: values of the model's other variables; the passes use and keep them.
    """
    balancer, variables = compiled.balancer, model.trainable_variables
    values = [tf.convert_to_tensor(v.value) for v in variables]
    scale = ops.cast(model.optimizer.scale_loss(tf.ones(())), "float32")

    def losses(at: Any, data: Any) -> Batch:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return batch_losses(
            compiled, y, model.stateless_call(at, before, x, training=True)[0], sample_weight
        )

    def gradient(at: Any, data: Any, factors: Any) -> tuple[list[Any], Batch]:
        with tf.GradientTape() as tape:
            tape.watch(at)
            batch = losses(at, data)
            weights = tf.unstack(tf.where(batch.present, factors, 0.0))
            total = (
                tf.add_n([w * loss for w, loss in zip(weights, batch.each, strict=True)]) * scale
            )
        gradients = tape.gradient(total, at)
        return [
            None if g is None else all_sum(tf.convert_to_tensor(g)) / tf.cast(scale, g.dtype)
            for g in gradients
        ], batch

    ascent, batch = gradient(values, train, balancer.weigh(None, None))
    rate = ops.cast(model.optimizer.learning_rate, "float32")
    ahead = [
        v
        if g is None
        else v
        - tf.cast(rate, v.dtype) * (g + _momentum_and_decay(model.optimizer, variable, value=v))
        for v, g, variable in zip(values, ascent, variables, strict=True)
    ]
    direction, _ = gradient(ahead, held_out, balancer.held_out_weights())
    square = tf.add_n(
        [tf.reduce_sum(tf.square(tf.cast(g, tf.float32))) for g in direction if g is not None]
    )
    moving = tf.logical_and(square > 0, tf.math.is_finite(square))
    epsilon = 0.01 / tf.sqrt(tf.where(moving, square, 1.0))

    def shifted(sign: float) -> list[Any]:
        return [
            v
            if g is None
            else v + tf.cast(sign * epsilon, v.dtype) * tf.where(moving, g, tf.zeros_like(g))
            for v, g in zip(values, direction, strict=True)
        ]

    plus, minus = losses(shifted(1.0), train).seen, losses(shifted(-1.0), train).seen
    is_finite = tf.logical_and(tf.math.is_finite(plus), tf.math.is_finite(minus))
    present = tf.logical_and(tf.logical_and(batch.present, is_finite), moving)
    plus, minus = (tf.where(is_finite, seen, 0.0) for seen in (plus, minus))
    balancer.update_from_look_ahead(plus, minus, epsilon, rate, present)


def _momentum_and_decay(optimizer: Any, variable: Any, value: Any) -> Any:
    """What momentum and weight decay add to a step of gradient descent."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    added = tf.zeros_like(value)
    decay = getattr(inner, "weight_decay", None)
    if decay and inner._use_weight_decay(variable):
        added = added + tf.cast(decay, value.dtype) * value
    momentum = getattr(inner, "momentum", 0.0)
    if isinstance(inner, keras.optimizers.SGD) and momentum and inner.momentums:
        # Keras keeps the velocity with the learning rate in it, and its sign turned.
        velocity = tf.convert_to_tensor(inner.momentums[inner._get_variable_index(variable)].value)
        rate = tf.cast(tf.convert_to_tensor(inner.learning_rate), velocity.dtype)
        added = added - tf.cast(momentum * velocity / tf.maximum(rate, 1e-30), value.dtype)
    return added
