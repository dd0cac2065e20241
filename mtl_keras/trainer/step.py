"""One training step: forward, balance, one update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.compiled_tasks import CompiledTasks
from mtl_keras.trainer.forward import Forward, updated_losses
from mtl_keras.trainer.idle import apply_gradients
from mtl_keras.trainer.losses import added_losses, all_sum, batch_losses, replicas
from mtl_keras.trainer.strategies import GradientUpdate, Scope
from mtl_keras.trainer.task_weights import update_balancer
from mtl_keras.trainer.weighting import with_class_weights

__all__ = ["test_step", "train_step"]


class _ModelScope(Scope):
    """The variables of a compiled model."""

    def __init__(self, compiled: CompiledTasks, variables: Sequence[Any]) -> None:
        self._compiled, self.variables = compiled, variables
        self.is_narrowed = compiled.narrowed
        monitor = compiled.monitor
        # Where the balancer looks at gradients, watching their products costs no pass of its own.
        self.is_watched = monitor is not None and (
            monitor.gradients or compiled.strategy.uses_gradients
        )

    @property
    def sources(self) -> list[Any]:
        return self._compiled.sources

    def is_head(self, variable: Any) -> bool:
        return self._compiled.is_head(variable)

    def sides(self) -> tuple[list[Any], list[Any]]:
        return self._compiled.sides(self.variables)


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward, weigh, backward (once, or once per task for methods that look at gradients), one
    update."""
    compiled: CompiledTasks = model.compiled_tasks
    strategy, variables = compiled.strategy, model.trainable_variables
    if not variables:
        raise ValueError(
            "The model has no trainable variables: every layer is frozen. Set `trainable = True` "
            "on some."
        )

    if strategy.extra_batches and compiled.balancer.data is not None and not compiled.zipped:
        raise ValueError(
            f"Balancer '{compiled.balancer.name}' draws batches of its own data: train with `fit`."
        )

    # Data. Held-out data are weighed as validation data are: not by class.
    batches, others = strategy.split(data)
    batches = [with_class_weights(compiled, batch) for batch in batches]
    before = _values_before(model, compiled)
    strategy.prepare(compiled, batches, others, before)

    # Forward passes.
    forwards = [Forward(model, compiled, batch, strategy.at_representation) for batch in batches]
    forward = forwards[-1]

    # Gradients.
    update = strategy.compute(forwards, _ModelScope(compiled, variables))
    guards = _guarding_tasks(compiled, forward, variables)
    for each in forwards:
        each.tape = None

    # Update of the network's weights.
    present = _present_unless_skipped(model, update.gradients, forward.present)
    if not model.optimizer.built:
        # Variables can't be made under a control dependency.
        model.optimizer.build(variables)
    with tf.control_dependencies([f.checked for f in forwards] if replicas() == 1 else []):
        apply_gradients(model, update.gradients, variables, guards, forward.is_labeled)

    # What is logged of the weights, and the balancer's state.
    _track_total(compiled, forward, update)
    _move_balancer(model, compiled, forward, update, present, (batches[-1], before))
    if compiled.monitor is not None:
        weights = update.weights
        weights = weights if forward.pre_weights is None else weights * forward.pre_weights
        compiled.monitor.observe(weights, update, forward.present)

    # Metrics.
    *earlier, last = strategy.logged(forwards)
    for each in earlier:
        _log(model, compiled, each)
    return _log(model, compiled, last)


def _values_before(model: Any, compiled: CompiledTasks) -> list[Any]:
    """The model's non-trainable values, for passes that must leave no trace."""
    if not (compiled.balancer.observes_updated_losses or compiled.strategy.looks_ahead):
        return []
    return [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables]


def _track_total(compiled: CompiledTasks, forward: Forward, update: GradientUpdate) -> None:
    if compiled.total_tracker is None:
        return
    weights = update.weights if forward.pre_weights is None else forward.pre_weights
    total = compiled.balancer.total(forward.raw, weights, forward.present)
    if forward.added_value is not None:
        total = total + forward.added_value
    counted = ops.cast(ops.any(forward.present), "float32")
    compiled.total_tracker.update_state(total, sample_weight=_rows(forward.y_pred) * counted)


def _move_balancer(
    model: Any,
    compiled: CompiledTasks,
    forward: Forward,
    update: GradientUpdate,
    present: Any,
    batch: tuple[Any, Any],
) -> None:
    """Move the balancer's state, and show it the losses after the step where it wants them.

    Args:
        batch: the step's data, and the model's non-trainable values before the step.
    """
    balancer = compiled.balancer
    update_balancer(balancer, forward, update, present, _learning_rate(model.optimizer))
    if balancer.observes_updated_losses:
        after = updated_losses(model, compiled, *batch).seen
        balancer.observe_updated_losses(after, ops.logical_and(present, ops.isfinite(after)))


def _learning_rate(optimizer: Any) -> Any:
    """The learning rate, for balancers whose state learns too. Of several optimizers, that of the
    first."""
    several = getattr(optimizer, "optimizers", None)
    return ops.cast((several[0] if several else optimizer).learning_rate, "float32")


def _guarding_tasks(
    compiled: CompiledTasks, forward: Forward, variables: Sequence[Any]
) -> list[tuple[int, ...]]:
    """For each variable, the positions of the tasks without which it stands still; none for one
    that always moves."""
    compiled.know_reach(forward.y_pred)
    added = (
        [None] * len(variables)
        if forward.added is None
        else forward.tape.gradient(forward.added, variables)
    )
    position = {task.name: i for i, task in enumerate(compiled.tasks)}
    return [
        ()
        if gradient is not None or len(names) == len(position)
        else tuple(position[name] for name in names)
        for names, gradient in zip(map(compiled.reach.tasks_of, variables), added, strict=True)
    ]


def _present_unless_skipped(model: Any, gradients: Sequence[Any], present: Any) -> Any:
    """`present`, unless a loss scale skips this step: then nothing of the balancer's state moves
    either."""
    if not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        return present
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    broken = tf.reduce_any([tf.reduce_any(tf.logical_not(tf.math.is_finite(g))) for g in dense])
    return ops.logical_and(present, all_sum(tf.cast(broken, tf.float32)) < 0.5)


def test_step(model: Any, data: Any) -> dict[str, Any]:
    """Forward and metrics; no balancing."""
    compiled: CompiledTasks = model.compiled_tasks
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, training=False)
    batch = batch_losses(compiled, y, y_pred, sample_weight)
    with compiled.evaluation():
        return _logged(model, compiled, batch, added_losses(model), y_pred)


def _log(model: Any, compiled: CompiledTasks, forward: Forward) -> dict[str, Any]:
    return _logged(model, compiled, forward.batch, forward.added_value, forward.y_pred)


def _rows(y_pred: dict[str, Any]) -> Any:
    return ops.cast(ops.shape(next(iter(y_pred.values())))[0], "float32")


def _logged(
    model: Any, compiled: CompiledTasks, batch: Any, added: Any, y_pred: dict[str, Any]
) -> dict[str, Any]:
    compiled.task_losses.update_state(batch.raw, batch.seen, batch.tallies, added, _rows(y_pred))
    for task in compiled.tasks:
        name = task.name
        if name not in batch.targets:
            continue
        target, output, mask, weight = batch.targets[name]
        for m in compiled.task_metrics[name]:
            m.metric.update_state(target, output, sample_weight=mask)
        for m in compiled.weighted_metrics[name]:
            m.metric.update_state(target, output, sample_weight=weight)
    if replicas() == 1:
        return model.get_metrics_result()
    # Outside the replicas, states are read summed over all of them: a mean of the replicas' means
    # is another number, and NaN where one of them saw no label.
    return tf.distribute.get_replica_context().merge_call(
        lambda strategy: model.get_metrics_result()
    )
