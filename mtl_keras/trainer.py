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
    """Forward, weigh, one backward pass, one update."""
    training: Training = model.compiled_training
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        batch = _batch_losses(training, y, y_pred, sample_weight)
        weights = ops.stop_gradient(training.balancer.weights(batch.seen, batch.present))
        objective = ops.sum(ops.where(batch.present, weights * batch.own, ops.zeros_like(batch.own)))
        extra = _added_losses(model)
        if extra is not None:
            objective = objective + extra / _replicas()
        scaled = model.optimizer.scale_loss(objective)
    variables = model.trainable_variables
    if not variables:
        raise ValueError("The model has no trainable variables: every layer is frozen. Set `trainable = True` on some.")
    gradients = tape.gradient(scaled, variables)
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    if training.total_tracker is not None:
        total = training.balancer.total(batch.seen, weights, batch.present)
        training.total_tracker.update_state(total if extra is None else total + extra)
    training.balancer.update(batch.seen, batch.present, ops.cast(model.optimizer.learning_rate, "float32"))
    return _log(model, training, batch, extra, x, y_pred)


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
    shape `(tasks,)`; `present` says which tasks have a label anywhere in the global batch.
    """

    def __init__(self, own, seen, raw, present, targets, counts):
        self.own, self.seen, self.raw, self.present = own, seen, raw, present
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
    sums, divisors, counts = ops.stack(sums), ops.stack(divisors), ops.stack(counts)
    total_counts, total_divisors = _all_sum(counts), _all_sum(divisors)
    factors = ops.stack([training.loss_weights[t.name].value for t in training.tasks])
    raw = sums / ops.where(total_divisors > 0, total_divisors, ops.ones_like(total_divisors))
    # A task whose loss weight is 0 is switched off: balancers must not see it as a task that is solved.
    present = ops.logical_and(total_counts > 0, factors > 0)
    own = ops.where(present, raw * factors, ops.zeros_like(raw))
    return _Batch(own, ops.stop_gradient(_all_sum(own)), ops.stop_gradient(_all_sum(raw)), present, targets, counts)


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
