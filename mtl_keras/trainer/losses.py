"""The losses of one batch, over the labels that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.class_counts import table_of

__all__ = ["Batch", "added_losses", "all_sum", "batch_losses", "replicas"]


class Batch:
    """The losses of one batch.

    Attributes:
        each: this replica's part of every task's loss times its loss weight, a list of scalars with
            gradients of their own.
        seen: their sums over all replicas, `(tasks,)`.
        raw: the same without loss weights.
        present: bool `(tasks,)`; whether a task has a label anywhere in the global batch.
        targets: by task name, `(target, output, mask, weight)` for the metrics.
        tallies: `(tasks,)`; how much each task's mean counts beside other batches': its labels on
            this replica, or the sum of their weights where the loss divides by that.
    """

    def __init__(
        self,
        each: list[Any],
        seen: Any,
        raw: Any,
        present: Any,
        targets: dict[str, Any],
        tallies: Any,
    ) -> None:
        self.each, self.seen, self.raw, self.present = each, seen, raw, present
        self.targets, self.tallies = targets, tallies


def batch_losses(compiled: Any, y: Any, y_pred: Mapping[str, Any], sample_weight: Any) -> Batch:
    y = _named(y, compiled)
    sample_weight = _named_weights(sample_weight, compiled)
    sums, divisors, counts, targets = [], [], [], {}
    for task in compiled.tasks:
        name = task.name
        if name not in y or y[name] is None:
            sums.append(ops.zeros(()))
            divisors.append(ops.zeros(()))
            counts.append(ops.zeros(()))
            continue
        target, present = task.target(ops.convert_to_tensor(y[name]))
        present = _masked(present, y_pred[name])
        values, divisor, count, mask, weight = _reduce(
            task,
            compiled.losses[name],
            target,
            present,
            _cut(y_pred[name], present),
            sample_weight.get(name),
            table_of(compiled.model, task),
        )
        sums.append(values)
        divisors.append(divisor)
        counts.append(count)
        targets[name] = (task.metric_target(target, y_pred[name]), y_pred[name], mask, weight)
    by_weight = [
        getattr(compiled.losses[t.name], "reduction", None) == "mean_with_sample_weight"
        for t in compiled.tasks
    ]
    tallies = ops.stack(
        [d if summed else c for d, c, summed in zip(divisors, counts, by_weight, strict=True)]
    )
    divisors, counts = ops.stack(divisors), ops.stack(counts)
    total_counts, total_divisors = all_sum(counts), all_sum(divisors)
    total_divisors = ops.where(total_divisors > 0, total_divisors, ops.ones_like(total_divisors))
    factors = ops.stack([compiled.loss_weights[t.name].value for t in compiled.tasks])
    # A task whose loss weight is 0 is switched off: balancers must not see it as a task that is
    # solved.
    present = ops.logical_and(total_counts > 0, factors > 0)
    factors = ops.where(present, factors, ops.zeros_like(factors))
    # Sums are not taken from a stack: a gradient through a stack would reach every task's
    # variables, with zeros.
    each = [
        value * factor
        for value, factor in zip(sums, tf.unstack(factors / total_divisors), strict=True)
    ]
    raw = all_sum(ops.stop_gradient(ops.stack(sums)) / total_divisors)
    return Batch(each, raw * factors, raw, present, targets, tallies)


def _reduce(
    task: Any,
    loss: Any,
    target: Any,
    present: Any,
    output: Any,
    sample_weight: Any,
    class_table: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """Sum of a task's losses over this replica's labels, what it is divided by, and how many labels
    there are.

    The mean is over labels that are there with a weight above 0; Keras's `sum_over_batch_size`
    where none is missing. A loss with reduction "sum" stays a sum, and "mean_with_sample_weight"
    divides by the sum of weights, as in Keras. Weights of classes are factors of the values.
    """
    values = (
        loss.call(target, output) if isinstance(loss, keras.losses.Loss) else loss(target, output)
    )
    # A loss may leave out elements of its own, as `SparseCategoricalCrossentropy(ignore_class=)`
    # does.
    present = _masked(present, values)
    values = ops.cast(values, "float32")
    if len(values.shape) == 0:
        raise ValueError(
            f"The loss of task '{task.name}' returns one number for the whole batch. Missing "
            f"labels need a value a row: "
            "return a tensor of shape (rows,), or use a keras.losses.Loss."
        )
    if class_table is not None:
        values = values * _class_weights(task, target, values, class_table)
    mask = ops.cast(present, "float32")
    while len(mask.shape) > len(values.shape):
        mask = ops.max(mask, axis=-1)
    weight = mask
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if (
        sample_weight is None
        and len(mask.shape) == len(values.shape)
        and mask.shape == values.shape
    ):
        # The common case in few operators: a mask has no weights to tell from it.
        count = ops.sum(mask)
        total = ops.sum(ops.where(mask > 0, values, ops.zeros_like(values)))
        divisor = ops.cast(count > 0, "float32") / replicas() if reduction == "sum" else count
        return total, divisor, count, mask, mask
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        while len(sample_weight.shape) > len(mask.shape):
            sample_weight = ops.squeeze(sample_weight, axis=-1)
        weight = mask * _expand(sample_weight, mask)
    weight = ops.where(weight > 0, weight, ops.zeros_like(weight))
    spread = _expand(weight, values) * ops.ones_like(values)
    is_counted = spread > 0
    count = ops.sum(ops.cast(is_counted, "float32"))
    # `where` twice: a loss that is not finite where no label is must reach neither the value nor
    # the gradient.
    zeros = ops.zeros_like(values)
    safe = ops.where(is_counted, values, zeros)
    total = ops.sum(ops.where(is_counted, safe * spread, zeros))
    divisor = count
    if reduction == "sum":
        divisor = ops.cast(count > 0, "float32") / replicas()
    elif reduction == "mean_with_sample_weight":
        divisor = ops.sum(spread)
    return total, divisor, count, ops.cast(weight > 0, "float32"), weight


def _class_weights(task: Any, target: Any, values: Any, table: Any) -> Any:
    """The weight of each value's class, in the values' shape."""
    weights = task.element_weights(target, table)
    if len(weights.shape) > len(values.shape):
        raise ValueError(
            f"Task '{task.name}' has class weights, and its loss gives values of shape "
            f"{tuple(values.shape)} for labels "
            f"of shape {tuple(weights.shape)}. Give a loss with one value per label, or no "
            f"`class_weights`."
        )
    return _expand(weights, values)


def _masked(present: Any, tensor: Any) -> Any:
    """Where there is a label and the tensor's Keras mask, if it has one, says that the element
    counts.

    Args:
        present: bool, `(rows,)` or with more axes.
        tensor: output or loss values. Layers such as `Embedding(mask_zero=True)` mask the tensors
            behind them. A mask whose shape is not that of the tensor's first axes belongs to a
            sequence that is pooled by now.
    """
    mask = getattr(tensor, "_keras_mask", None)
    if mask is None or len(mask.shape) > len(tensor.shape):
        return present
    if any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(mask.shape, tensor.shape, strict=False)
    ):
        return present
    mask = ops.cast(mask, "bool")
    return ops.logical_and(_expand(present, mask), _expand(mask, present))


def _cut(output: Any, present: Any) -> Any:
    """The output, with no gradient where there is no label, even if the loss is infinite there.

    Outputs of softmax and sigmoid stay as they are: Keras finds their logits on the tensor, and
    their losses are finite.
    """
    if hasattr(output, "_keras_logits"):
        return output
    cut = ops.where(_expand(present, output), output, ops.stop_gradient(output))
    if getattr(output, "_keras_mask", None) is not None:
        # Losses along a sequence read its length from here.
        cut._keras_mask = output._keras_mask
    return cut


def _expand(x: Any, like: Any) -> Any:
    while len(x.shape) < len(like.shape):
        x = ops.expand_dims(x, -1)
    return x


def _named(y: Any, compiled: Any) -> Mapping[str, Any]:
    if isinstance(y, Mapping):
        return y
    if len(compiled.tasks) == 1 and y is not None:
        return {compiled.tasks[0].name: y}
    names = ", ".join(f"'{t.name}'" for t in compiled.tasks)
    raise ValueError(f"Labels are a dict by task name ({names}), got {type(y).__name__}.")


def _named_weights(weights: Any, compiled: Any) -> Mapping[str, Any]:
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        return weights
    return {task.name: weights for task in compiled.tasks}


def added_losses(model: Any) -> Any:
    """Regularization and `add_loss`, as a scalar, or None."""
    losses = [ops.cast(ops.sum(loss), "float32") for loss in model.losses]
    return ops.sum(ops.stack(losses)) if losses else None


def replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_sum(x: Any) -> Any:
    """The sum over all replicas; `x` where there is one."""
    if replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)
