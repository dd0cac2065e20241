"""One training step: losses over the labels that are there, weighted by the balancer, in one update.

The only place, beside `data` and `export`, that uses TensorFlow itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.balancing import Balancer
from mtl_keras.tasks import Task, TaskMetric

__all__ = ["Training", "test_step", "train_step"]


class Training:
    """What `compile` makes: each task's loss, weight and metrics, and the balancer. Plain, so Keras does not track it."""

    def __init__(
        self,
        tasks: Sequence[Task],
        losses: Mapping[str, Any],
        loss_weights: Mapping[str, keras.Variable],
        metrics: Mapping[str, list[TaskMetric]],
        weighted_metrics: Mapping[str, list[TaskMetric]],
        balancer: Balancer,
        given: dict[str, Any],
    ):
        self.tasks = list(tasks)
        self.losses = dict(losses)
        self.loss_weights = dict(loss_weights)
        self.task_metrics = {t.name: list(metrics.get(t.name, ())) for t in tasks}
        self.weighted_metrics = {t.name: list(weighted_metrics.get(t.name, ())) for t in tasks}
        self.balancer = balancer
        self.given = given
        self.trackers = {t.name: keras.metrics.Mean(name=f"{t.name}_loss") for t in tasks}
        self.total_tracker = keras.metrics.Mean(name="balanced_loss") if balancer.reports_total else None

    def build_metrics(self, output_shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Make the variables of metrics that otherwise make them in the first step, where replicas can't."""
        for task in self.tasks:
            shape = tuple(8 if size is None else size for size in output_shapes[task.name][1:])
            target, present = task.target(ops.convert_to_tensor(task.missing(2, (2, *shape))))
            for m in self.task_metrics[task.name] + self.weighted_metrics[task.name]:
                m.metric.update_state(target, ops.zeros((2, *shape)), sample_weight=ops.cast(present, "float32"))
                m.metric.reset_state()

    def metric_objects(self) -> list[keras.metrics.Metric]:
        found = list(self.trackers.values())
        if self.total_tracker is not None:
            found.append(self.total_tracker)
        for task in self.tasks:
            found += [m.metric for m in self.task_metrics[task.name] + self.weighted_metrics[task.name]]
        return found

    def results(self, loss_tracker: keras.metrics.Metric) -> dict[str, Any]:
        """The logs: total, then every task's loss, then every task's metrics. NaN where no label was seen."""
        logs = {"loss": loss_tracker.result()}
        if self.total_tracker is not None:
            # Training only: validation does not balance, and has no such value.
            logs["balanced_loss"] = _seen(self.total_tracker, self.total_tracker.result())
        for name, tracker in self.trackers.items():
            logs[f"{name}_loss"] = _seen(tracker, tracker.result())
        for task in self.tasks:
            name = task.name
            for prefix, metrics in (("", self.task_metrics[name]), ("weighted_", self.weighted_metrics[name])):
                for m in metrics:
                    # A plain metric of the same name keeps it; the weighted one is told apart.
                    key = f"{name}_{m.name}"
                    key = f"{name}_{prefix}{m.name}" if key in logs else key
                    logs[key] = _seen(self.trackers[name], m.metric.result())
        return logs

    def directions(self) -> dict[str, str]:
        found = {"loss": "min", **{f"{name}_loss": "min" for name in self.trackers}}
        for name, metrics in self.task_metrics.items():
            found.update({f"{name}_{m.name}": "max" if m.higher_is_better else "min" for m in metrics})
        for name, metrics in self.weighted_metrics.items():
            for m in metrics:
                found.setdefault(f"{name}_{m.name}", "max" if m.higher_is_better else "min")
        return found


def _seen(tracker, value):
    return ops.where(tracker.count > 0, ops.cast(value, "float32"), float("nan"))


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward, weigh, backward (once, or once a task for methods that look at gradients), one update."""
    training: Training = model.compiled_training
    balancer = training.balancer
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = model.trainable_variables
    if not variables:
        raise ValueError("The model has no trainable variables: every layer is frozen. Set `trainable = True` on some.")
    with tf.GradientTape(persistent=balancer.needs == "gram") as tape:
        y_pred = model(x, training=True)
        batch = _batch_losses(training, y, y_pred, sample_weight)
        extra = _added_losses(model)
        if balancer.needs == "gram":
            each = [model.optimizer.scale_loss(loss) for loss in batch.each]
            rest = None if extra is None else model.optimizer.scale_loss(extra / _replicas())
        else:
            weights = ops.stop_gradient(balancer.weigh(batch.seen, batch.present))
            objective = ops.sum(ops.where(batch.present, weights * batch.own, ops.zeros_like(batch.own)))
            if extra is not None:
                objective = objective + extra / _replicas()
            objective = model.optimizer.scale_loss(objective)
    if balancer.needs == "gram":
        rows = [tape.gradient(loss, variables) for loss in each]
        scale = ops.cast(model.optimizer.scale_loss(tf.ones(())), "float32")
        gradients, weights = _combine(balancer, batch, rows, scale)
        if rest is not None:
            gradients = [_plus(a, b) for a, b in zip(gradients, tape.gradient(rest, variables), strict=True)]
        del tape
    else:
        gradients = tape.gradient(objective, variables)
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    if training.total_tracker is not None:
        total = balancer.total(batch.seen, weights, batch.present)
        training.total_tracker.update_state(total if extra is None else total + extra)
    balancer.update(batch.seen, batch.present, ops.cast(model.optimizer.learning_rate, "float32"))
    return _log(model, training, batch, extra, x, y_pred)


def _combine(balancer: Balancer, batch: _Batch, rows: list[list[Any]], scale: Any) -> tuple[list[Any], Any]:
    """One gradient a variable from one a task and variable, and the weights that made it.

    Shared variables are those that two or more losses reach (all, where there is one task): the rest, each task's own
    head, has one gradient anyway. The Gram matrix is summed up variable by variable, from gradients that are summed over
    the replicas first.

    Args:
        rows: of every task, gradients of its (scaled) loss; None where it does not reach a variable.
        scale: what the losses were multiplied with, under mixed precision.
    """
    tasks = len(rows)
    columns = [[None if g is None else tf.convert_to_tensor(g) for g in column] for column in zip(*rows, strict=True)]
    shared = [sum(g is not None for g in column) >= min(2, tasks) for column in columns]
    if not any(shared):
        raise ValueError(
            f"Balancer '{balancer.name}' weighs gradients of shared variables, and no two tasks of this model share any."
        )
    columns = [
        [None if g is None else _all_sum(g) for g in column] if both else column
        for column, both in zip(columns, shared, strict=True)
    ]
    gram = ops.zeros((tasks, tasks), "float32")
    for column, both in zip(columns, shared, strict=True):
        if both:
            like = next(g for g in column if g is not None)
            flat = tf.stack([tf.reshape(tf.zeros_like(like) if g is None else g, [-1]) for g in column])
            flat = ops.cast(flat, "float32") / scale
            gram = gram + tf.matmul(flat, flat, transpose_b=True)
    # Gradients that are not finite make a step that is not finite, which a loss scale skips; solvers must not meet them.
    finite = ops.all(ops.isfinite(gram))
    weights = balancer.weigh(batch.seen, ops.logical_and(batch.present, finite), ops.where(finite, gram, ops.zeros_like(gram)))
    weights = ops.where(finite, weights, ops.ones_like(weights))
    own = weights if balancer.scales_heads else ops.ones_like(weights)
    combined = []
    for column, both in zip(columns, shared, strict=True):
        factors = weights / _replicas() if both else own
        terms = [g * ops.cast(factors[i], g.dtype) for i, g in enumerate(column) if g is not None]
        combined.append(tf.add_n(terms) if terms else None)
    return combined, weights


def _plus(a, b):
    if a is None or b is None:
        return a if b is None else tf.convert_to_tensor(b)
    return a + tf.convert_to_tensor(b)


def test_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward and metrics; no balancing."""
    training: Training = model.compiled_training
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, training=False)
    batch = _batch_losses(training, y, y_pred, sample_weight)
    logs = _log(model, training, batch, _added_losses(model), x, y_pred)
    logs.pop("balanced_loss", None)
    return logs


class _Batch:
    """The losses of one batch.

    `own` is this replica's part of every task's loss times its loss weight, `seen` the sum over all replicas, both of
    shape `(tasks,)`; `each` is `own` as a list of scalars, which have gradients of their own; `present` says which tasks
    have a label anywhere in the global batch.
    """

    def __init__(self, own, each, seen, raw, present, targets, counts):
        self.own, self.each, self.seen, self.raw, self.present = own, each, seen, raw, present
        self.targets, self.counts = targets, counts


def _batch_losses(training: Training, y: Any, y_pred: Mapping[str, Any], sample_weight: Any) -> _Batch:
    y = _named(y, training)
    sample_weight = _named_weights(sample_weight, training)
    sums, divisors, counts, targets = [], [], [], {}
    for task in training.tasks:
        name = task.name
        if name not in y or y[name] is None:
            sums.append(ops.zeros(()))
            divisors.append(ops.zeros(()))
            counts.append(ops.zeros(()))
            continue
        target, present = task.target(ops.convert_to_tensor(y[name]))
        values, divisor, count, mask, weight = _reduce(
            task, training.losses[name], target, present, _cut(y_pred[name], present), sample_weight.get(name)
        )
        sums.append(values)
        divisors.append(divisor)
        counts.append(count)
        targets[name] = (target, y_pred[name], mask, weight)
    divisors, counts = ops.stack(divisors), ops.stack(counts)
    total_counts, total_divisors = _all_sum(counts), _all_sum(divisors)
    total_divisors = ops.where(total_divisors > 0, total_divisors, ops.ones_like(total_divisors))
    factors = ops.stack([training.loss_weights[t.name].value for t in training.tasks])
    # A task whose loss weight is 0 is switched off: balancers must not see it as a task that is solved.
    present = ops.logical_and(total_counts > 0, factors > 0)
    factors = ops.where(present, factors, ops.zeros_like(factors))
    means = [value / total_divisors[i] for i, value in enumerate(sums)]
    # Not taken from `own`: a gradient through a stack would reach every task's variables, with zeros.
    each = [value * factors[i] for i, value in enumerate(means)]
    own, raw = ops.stack(each), ops.stack(means)
    return _Batch(own, each, ops.stop_gradient(_all_sum(own)), ops.stop_gradient(_all_sum(raw)), present, targets, counts)


def _reduce(task, loss, target, present, output, sample_weight):
    """Sum of a task's losses over this replica's labels, what it is divided by, and how many labels there are.

    The mean is over labels that are there with a weight above 0; Keras's `sum_over_batch_size` where none is missing. A
    loss with reduction "sum" stays a sum, and "mean_with_sample_weight" divides by the sum of weights, as in Keras.
    """
    values = loss.call(target, output) if isinstance(loss, keras.losses.Loss) else loss(target, output)
    values = ops.cast(values, "float32")
    if len(values.shape) == 0:
        raise ValueError(
            f"The loss of task '{task.name}' returns one number for the whole batch. Missing labels need a value a row: "
            "return a tensor of shape (rows,), or use a keras.losses.Loss."
        )
    mask = ops.cast(present, "float32")
    while len(mask.shape) > len(values.shape):
        mask = ops.max(mask, axis=-1)
    weight = mask
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        while len(sample_weight.shape) > len(mask.shape):
            sample_weight = ops.squeeze(sample_weight, axis=-1)
        weight = mask * _expand(sample_weight, mask)
    weight = ops.where(weight > 0, weight, ops.zeros_like(weight))
    spread = _expand(weight, values) * ops.ones_like(values)
    there = spread > 0
    count = ops.sum(ops.cast(there, "float32"))
    # `where` twice: a loss that is not finite where no label is must reach neither the value nor the gradient.
    total = ops.sum(ops.where(there, ops.where(there, values, ops.zeros_like(values)) * spread, ops.zeros_like(values)))
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    divisor = count
    if reduction == "sum":
        divisor = ops.cast(count > 0, "float32") / _replicas()
    elif reduction == "mean_with_sample_weight":
        divisor = ops.sum(spread)
    return total, divisor, count, ops.cast(weight > 0, "float32"), weight


def _cut(output, present):
    """The output, with no gradient where there is no label, even if the loss is infinite there.

    Outputs of softmax and sigmoid stay as they are: Keras finds their logits on the tensor, and their losses are finite.
    """
    if hasattr(output, "_keras_logits"):
        return output
    return ops.where(_expand(present, output), output, ops.stop_gradient(output))


def _expand(x, like):
    while len(x.shape) < len(like.shape):
        x = ops.expand_dims(x, -1)
    return x


def _named(y: Any, training: Training) -> Mapping[str, Any]:
    if isinstance(y, Mapping):
        return y
    if len(training.tasks) == 1 and y is not None:
        return {training.tasks[0].name: y}
    names = ", ".join(f"'{t.name}'" for t in training.tasks)
    raise ValueError(f"Labels are a dict by task name ({names}), got {type(y).__name__}.")


def _named_weights(weights: Any, training: Training) -> Mapping[str, Any]:
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        return weights
    return {task.name: weights for task in training.tasks}


def _added_losses(model):
    """Regularization and `add_loss`, as a scalar, or None."""
    losses = [ops.cast(ops.sum(loss), "float32") for loss in model.losses]
    return ops.sum(ops.stack(losses)) if losses else None


def _log(model, training, batch, extra, x, y_pred):
    rows = ops.cast(ops.shape(next(iter(y_pred.values())))[0], "float32")
    plain = ops.sum(batch.seen)
    model._loss_tracker.update_state(plain if extra is None else plain + extra, sample_weight=rows)
    for index, task in enumerate(training.tasks):
        name = task.name
        if name not in batch.targets:
            continue
        training.trackers[name].update_state(batch.raw[index], sample_weight=batch.counts[index])
        target, output, mask, weight = batch.targets[name]
        for m in training.task_metrics[name]:
            m.metric.update_state(target, output, sample_weight=mask)
        for m in training.weighted_metrics[name]:
            m.metric.update_state(target, output, sample_weight=weight)
    return model.get_metrics_result()


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _all_sum(x):
    """The sum over all replicas; `x` where there is one."""
    if _replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)
