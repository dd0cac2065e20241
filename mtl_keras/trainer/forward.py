"""A forward pass, and the losses it ends in."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.compiled_tasks import CompiledTasks
from mtl_keras.trainer.losses import Batch, added_losses, batch_losses, replicas

__all__ = ["BAD_LOSS", "Forward", "updated_losses"]

#: What marks the message of a step whose losses can't be used; `fit` turns it into words.
BAD_LOSS = "mtl_keras: bad losses"


class Forward:
    """A forward pass on a tape: its losses, as the balancer sees them, and what else the step needs
    of it.

    Attributes:
        tape: the tape that recorded the pass; None once its gradients are taken.
        each: the tasks' losses with gradients, times the loss scale and `pre_weights`.
        seen: their values over all replicas, `(tasks,)`, without the loss scale.
        raw: the same without `pre_weights`.
        is_labeled: bool `(tasks,)`. Whether a task has labels in the batch.
        present: bool `(tasks,)`. Whether it takes part in balancing.
        pre_weights: `(tasks,)`, factors of a first method, or None.
        representation: tensors that the heads share, by name, where gradients are taken there.
        added: regularization and `add_loss`, times the loss scale, or None; `added_value` is
            without the scale.
    """

    def __init__(
        self, model: Any, compiled: CompiledTasks, data: Any, at_representation: bool = False
    ) -> None:
        with tf.GradientTape(persistent=True) as self.tape:
            self._run(model, compiled, data, at_representation)

    def _run(self, model: Any, compiled: CompiledTasks, data: Any, at_representation: bool) -> None:
        self.x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.representation: dict[str, Any] = {}
        if at_representation:
            self.representation = compiled.trunk(self.x, training=True)
            self.y_pred = compiled.heads(
                compiled.heads_input(self.representation, self.x), training=True
            )
        else:
            self.y_pred = model(self.x, training=True)
        self.batch = batch = batch_losses(compiled, y, self.y_pred, sample_weight)
        optimizer, balancer = model.optimizer, compiled.balancer
        each, seen, self.checked = _checked(model, compiled, batch)
        self.raw = seen
        self.is_labeled = self.present = batch.present
        self.pre_weights = balancer.pre_weights(seen, batch.present)
        if self.pre_weights is not None:
            factors = tf.where(batch.present, self.pre_weights, tf.ones_like(seen))
            self.pre_weights = tf.stop_gradient(factors)
            factors = tf.unstack(self.pre_weights)
            each = [loss * factor for loss, factor in zip(each, factors, strict=True)]
            seen = seen * self.pre_weights
        self.seen = seen
        self.each = [optimizer.scale_loss(loss) for loss in each]
        self.scale = ops.cast(optimizer.scale_loss(tf.ones(())), "float32")
        self.added_value = added_losses(model)
        self.added = None
        if self.added_value is not None:
            self.added = optimizer.scale_loss(self.added_value / replicas())

    def with_present(self, present: Any) -> Forward:
        """The same pass, with fewer tasks taking part."""
        other = object.__new__(Forward)
        other.__dict__.update(self.__dict__, present=present)
        return other


def _checked(model: Any, compiled: CompiledTasks, batch: Batch) -> tuple[list[Any], Any, Any]:
    """The losses, their values, and a tensor that waits for the check.

    A step whose losses are not finite (or negative, where that can't be) stops the training.

    Under a loss scale, losses that are not finite are what makes it smaller: they pass.
    """
    bad = ops.logical_not(ops.isfinite(batch.seen))
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        bad = ops.zeros_like(bad)
    if compiled.balancer.positive:
        bad = ops.logical_or(bad, ops.logical_and(batch.present, batch.seen < 0))
    step = ops.convert_to_tensor(model.optimizer.iterations)
    report = [BAD_LOSS, tf.cast(bad, tf.int32), tf.cast(batch.seen < 0, tf.int32), step]
    # The raw operator: `tf.debugging.Assert` wraps it in a branch, which costs a small network's
    # step some percent.
    check = tf.raw_ops.Assert(
        condition=ops.logical_not(ops.any(bad)), data=report, summarize=10_000
    )
    with tf.control_dependencies([check] if check is not None else []):
        one = tf.identity(1.0)
    # Nothing is learned from such a step: its update waits for the check, on several replicas
    # through its gradients.
    each = batch.each if replicas() == 1 else [loss * one for loss in batch.each]
    return each, batch.seen * one, one


def updated_losses(model: Any, compiled: CompiledTasks, data: Any, before: Any) -> Batch:
    """The losses of the same batch under the new weights; batch statistics and dropout are those of
    the first pass."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    now = [tf.convert_to_tensor(v.value) for v in model.trainable_variables]
    y_pred, _ = model.stateless_call(now, before, x, training=True)
    return batch_losses(compiled, y, y_pred, sample_weight)
