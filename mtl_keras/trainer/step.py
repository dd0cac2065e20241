"""One training step: forward, balance, one update.

With `data` and `export`, the only place that uses TensorFlow itself.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.trainer import gradients as ways
from mtl_keras.trainer.idle import apply_gradients
from mtl_keras.trainer.losses import added_losses, all_sum, batch_losses, replicas
from mtl_keras.trainer.meta import learn_weights
from mtl_keras.trainer.training import Training
from mtl_keras.trainer.weighting import with_class_weights

__all__ = ["BAD_LOSS", "test_step", "train_step"]

#: What marks the message of a step whose losses can't be used; `fit` turns it into words.
BAD_LOSS = "mtl_keras: bad losses"


class Forward:
    """A forward pass on a tape: its losses, as the balancer sees them, and what else the step needs of it.

    `each` are the tasks' losses with gradients, times the loss scale and what a first method leads with; `seen` their
    values over all replicas, without the loss scale.
    """

    def __init__(self, model: Any, training: Training, data: Any, representation: bool = False):
        self.x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.representation: dict[str, Any] = {}
        if representation:
            self.representation = training.trunk(self.x, training=True)
            self.y_pred = training.heads(
                training.heads_input(self.representation, self.x), training=True
            )
        else:
            self.y_pred = model(self.x, training=True)
        self.batch = batch = batch_losses(training, y, self.y_pred, sample_weight)
        optimizer, balancer = model.optimizer, training.balancer
        each, seen, self.checked = _checked(model, training, batch)
        self.raw = seen
        self.here = self.present = batch.present
        self.lead = balancer.lead(seen, batch.present)
        if self.lead is not None:
            self.lead = tf.stop_gradient(tf.where(batch.present, self.lead, tf.ones_like(seen)))
            each = [loss * factor for loss, factor in zip(each, tf.unstack(self.lead), strict=True)]
            seen = seen * self.lead
        self.seen = seen
        self.each = [optimizer.scale_loss(loss) for loss in each]
        self.scale = ops.cast(optimizer.scale_loss(tf.ones(())), "float32")
        self.extra = added_losses(model)
        self.added = None if self.extra is None else optimizer.scale_loss(self.extra / replicas())

    def with_present(self, present: Any) -> Forward:
        """The same pass, with fewer tasks taking part."""
        other = object.__new__(Forward)
        other.__dict__.update(self.__dict__, present=present)
        return other


def _checked(model, training, batch):
    """Losses and their values; a step whose losses are not finite (or negative, where that can't be) stops the training.

    Under a loss scale, losses that are not finite are what makes it smaller: they pass.
    """
    bad = ops.logical_not(ops.isfinite(batch.seen))
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        bad = ops.zeros_like(bad)
    if training.balancer.positive:
        bad = ops.logical_or(bad, ops.logical_and(batch.present, batch.seen < 0))
    step = ops.convert_to_tensor(model.optimizer.iterations)
    told = [BAD_LOSS, tf.cast(bad, tf.int32), tf.cast(batch.seen < 0, tf.int32), step]
    # The raw operator: `tf.debugging.Assert` wraps it in a branch, which costs a small network's step some percent.
    check = tf.raw_ops.Assert(condition=ops.logical_not(ops.any(bad)), data=told, summarize=10_000)
    with tf.control_dependencies([check] if check is not None else []):
        one = tf.identity(1.0)
    # Nothing is learned from such a step: its update waits for the check, on several replicas through its gradients.
    each = batch.each if replicas() == 1 else [loss * one for loss in batch.each]
    return each, batch.seen * one, one


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward, weigh, backward (once, or once a task for methods that look at gradients), one update."""
    training: Training = model.compiled_training
    balancer = training.balancer
    variables = model.trainable_variables
    if not variables:
        raise ValueError(
            "The model has no trainable variables: every layer is frozen. Set `trainable = True` on some."
        )
    parts = _parts(training, data)
    # Held-out data are weighed as validation data are: not by class.
    weighed = parts[:1] if balancer.held_out else parts
    parts = [*(with_class_weights(training, part) for part in weighed), *parts[len(weighed) :]]
    before = (
        [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables]
        if training.looks_again
        else []
    )
    if balancer.held_out:
        learn_weights(model, training, parts[0], parts[1], before)
        parts = parts[:1]
    watched = (
        training.monitor is not None and training.monitor.gradients and balancer.needs == "losses"
    )
    at_representation = balancer.gradients == "representation" and balancer.every == 1
    tapes, forwards = [], []
    for part in parts:
        with tf.GradientTape(persistent=True) as tape:
            forwards.append(Forward(model, training, part, balancer.gradients == "representation"))
        tapes.append(tape)
    tape, forward = tapes[-1], forwards[-1]

    if balancer.needs == "losses":
        found = ways.from_losses(balancer, tape, forward, variables)
        if watched:
            found = ways.watched(balancer, found, tape, forward, training.sources)
    elif at_representation:
        found = ways.from_representation(
            balancer, tape, forward, variables, *training.sides(variables)
        )
    elif balancer.needs == "gradients":
        allowed = {id(v) for v in training.sources}
        found = ways.elementwise(
            balancer, tape, forward, variables, allowed, training.monitor is not None
        )
    elif balancer.batches > 1:
        found = ways.from_samples(
            balancer, tapes, forwards, variables, training.sources, training.is_head
        )
    elif balancer.gradients == "representation":
        tensors = list(forward.representation.values())
        found = ways.from_products(
            balancer, tape, forward, variables, tensors, training.is_head, local=True
        )
    elif (
        balancer.gradients == "layer"
        or balancer.two_pass
        or training.narrowed
        or (balancer.every > 1 and replicas() > 1)
    ):
        found = ways.from_products(
            balancer, tape, forward, variables, training.sources, training.is_head
        )
    else:
        found = ways.from_rows(balancer, tape, forward, variables, training.is_head)
    tasks_of = _guarded(training, tape, forward, variables)
    del tape, tapes

    present = _steady(model, found.gradients, forward.present)
    if not model.optimizer.built:
        # Variables can't be made under a control dependency.
        model.optimizer.build(variables)
    with tf.control_dependencies([f.checked for f in forwards] if replicas() == 1 else []):
        apply_gradients(model, found.gradients, variables, tasks_of, forward.here)
    weights = found.weights if forward.lead is None else found.weights * forward.lead
    if training.total_tracker is not None:
        led = forward.lead if forward.lead is not None else found.weights
        total = balancer.total(forward.raw, led, forward.present)
        training.total_tracker.update_state(
            total if forward.extra is None else total + forward.extra,
            sample_weight=_rows(forward.y_pred) * ops.cast(ops.any(forward.present), "float32"),
        )
    balancer.step_end(forward.raw, forward.seen, present, _learning_rate(model.optimizer))
    if balancer.second_look:
        after = _again(model, training, parts[-1], before)
        balancer.look(after.seen, ops.logical_and(present, ops.isfinite(after.seen)))
    if training.monitor is not None:
        training.monitor.observe(weights, found, forward.present)
    for part in forwards[:-1] if balancer.data is None else []:
        _log(model, training, part)
    return _log(model, training, forward)


def _learning_rate(optimizer):
    """The learning rate, for balancers whose state learns too. Of several optimizers, that of the first."""
    several = getattr(optimizer, "optimizers", None)
    return ops.cast((several[0] if several else optimizer).learning_rate, "float32")


def _guarded(training, tape, forward, variables):
    """For each variable, the positions of the tasks without which it stands still; none for one that always moves."""
    training.know_reach(forward.y_pred)
    added = (
        [None] * len(variables)
        if forward.added is None
        else tape.gradient(forward.added, variables)
    )
    position = {task.name: i for i, task in enumerate(training.tasks)}
    return [
        ()
        if gradient is not None or len(names) == len(position)
        else tuple(position[name] for name in names)
        for names, gradient in zip(map(training.reach.tasks_of, variables), added, strict=True)
    ]


def _parts(training: Training, data: Any) -> list[Any]:
    """The batches of a step, the one that is trained on last; the training batch comes first where data are held out."""
    balancer = training.balancer
    if balancer.data is not None:
        if not training.zipped:
            raise ValueError(
                f"Balancer '{balancer.name}' draws batches of its own data: train with `fit`."
            )
        return list(data) if balancer.held_out else [*data[1:], data[0]]
    if balancer.held_out:
        raise ValueError(no_data(balancer))
    if balancer.batches == 1:
        return [data]
    return [_every(data, start, balancer) for start in range(balancer.batches)]


def _every(data, start, balancer):
    """Rows start, start + n, ... of the global batch, as far as they are on this replica."""
    first = tf.nest.flatten(data)[0]
    check = tf.debugging.assert_greater_equal(
        tf.shape(first)[0],
        balancer.batches,
        f"Balancer '{balancer.name}' cuts each batch into {balancer.batches} parts; this one has fewer rows. "
        "Use larger batches, and drop the remainder (`dataset.batch(n, drop_remainder=True)`).",
    )
    with tf.control_dependencies([check] if check is not None else []):
        offset = _replica() * tf.shape(first)[0]
        begin = tf.math.floormod(start - offset, balancer.batches)
        return tf.nest.map_structure(lambda x: x[begin :: balancer.batches], data)


def _replica():
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def no_data(balancer: Any) -> str:
    """The message for a method that learns on data it does not have."""
    return (
        f"Balancer '{balancer.name}' learns on data that are held out from training, and has none: give "
        f"`{type(balancer).__name__}(data=dataset)`, a batched tf.data.Dataset of (inputs, labels)"
        " (or set `model.balancer.data` after loading)."
    )


def _steady(model, gradients, present):
    """`present`, unless a loss scale skips this step: then nothing of the balancer's state moves either."""
    if not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        return present
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    broken = tf.reduce_any([tf.reduce_any(tf.logical_not(tf.math.is_finite(g))) for g in dense])
    return ops.logical_and(present, all_sum(tf.cast(broken, tf.float32)) < 0.5)


def _again(model, training, data, before):
    """The losses of the same batch under the new weights; batch statistics and dropout are those of the first pass."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    now = [tf.convert_to_tensor(v.value) for v in model.trainable_variables]
    y_pred, _ = model.stateless_call(now, before, x, training=True)
    return batch_losses(training, y, y_pred, sample_weight)


def test_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward and metrics; no balancing."""
    training: Training = model.compiled_training
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, training=False)
    batch = batch_losses(training, y, y_pred, sample_weight)
    with training.evaluation():
        return _logged(model, training, batch, added_losses(model), y_pred)


def _log(model, training, forward):
    return _logged(model, training, forward.batch, forward.extra, forward.y_pred)


def _rows(y_pred):
    return ops.cast(ops.shape(next(iter(y_pred.values())))[0], "float32")


def _logged(model, training, batch, extra, y_pred):
    training.task_losses.update_state(batch.raw, batch.seen, batch.tallies, extra, _rows(y_pred))
    for task in training.tasks:
        name = task.name
        if name not in batch.targets:
            continue
        target, output, mask, weight = batch.targets[name]
        for m in training.task_metrics[name]:
            m.metric.update_state(target, output, sample_weight=mask)
        for m in training.weighted_metrics[name]:
            m.metric.update_state(target, output, sample_weight=weight)
    if replicas() == 1:
        return model.get_metrics_result()
    # Outside the replicas, states are read summed over all of them: a mean of the replicas' means is another number, and
    # NaN where one of them saw no label.
    return tf.distribute.get_replica_context().merge_call(
        lambda strategy: model.get_metrics_result()
    )
