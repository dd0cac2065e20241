"""Balancing in a training loop of one's own: losses, variables and a tape in, one gradient per
variable out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from mtl_keras.balancing import Balancer, GradientBalancer
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task
from mtl_keras.trainer import strategies
from mtl_keras.trainer.losses import all_sum
from mtl_keras.trainer.task_weights import update_balancer

__all__ = ["balanced_gradients", "observe_updated_losses"]


class _Source:
    """A variable, with a name that is its own: variables of several models may share a path, and
    some have none."""

    def __init__(self, number: int, variable: Any) -> None:
        self.variable, self.shape, self.path = variable, variable.shape, f"variable{number}"


class _Losses:
    """The losses of one batch, in the form in which the trainer's strategies take them."""

    def __init__(
        self, balancer: Balancer, losses: Mapping[str, Any], scale: Any, regularization: Any
    ) -> None:
        self.scale = ops.cast(scale, "float32")
        listed = [losses.get(name) for name in balancer.task_names]
        self.is_recorded = [loss is not None for loss in listed]
        self.each = [
            tf.zeros(()) if loss is None else tf.convert_to_tensor(loss) for loss in listed
        ]
        self.raw = self.seen = _values(self.each, self.scale)
        if balancer.positive:
            message = f"Balancer '{balancer.name}' needs positive losses ({', '.join(balancer.task_names)})."
            tf.debugging.assert_equal(tf.reduce_any(self.raw < 0), False, message)
        # What is not finite moves no state; it goes on into the gradients, for the caller to see.
        self.present = ops.logical_and(tf.constant(self.is_recorded), ops.isfinite(self.raw))
        self.is_labeled = self.present
        self.added = None if regularization is None else tf.convert_to_tensor(regularization)
        self.tape: Any = None
        self.pre_weights = balancer.pre_weights(self.seen, self.present)
        if self.pre_weights is not None:
            factors = tf.where(self.present, self.pre_weights, tf.ones_like(self.seen))
            self.pre_weights = tf.stop_gradient(factors)
            self.seen = self.seen * self.pre_weights

    def with_present(self, present: Any) -> _Losses:
        """The same losses, with fewer tasks taking part."""
        other = object.__new__(_Losses)
        other.__dict__.update(self.__dict__, present=present)
        return other


class _TaskTape:
    """A tape as the strategies use it.

    The tasks' losses count as often as a first method of two says. A task that is absent from the
    batch has gradients of 0, not none at all, for what it reached in earlier batches: its head is
    still its own, and what is shared is still shared.

    Attributes:
        reached: by task's number, the ids of the variables that its loss reaches.
    """

    def __init__(
        self, tape: tf.GradientTape, batch: _Losses, reached: dict[int, set[int]] | None = None
    ) -> None:
        self._tape, self._numbers = tape, {id(loss): i for i, loss in enumerate(batch.each)}
        self._is_recorded = batch.is_recorded
        self._factors = None if batch.pre_weights is None else tf.unstack(batch.pre_weights)
        self.reached = reached or {}

    def gradient(
        self, target: Any, sources: Sequence[Any], output_gradients: Any = None
    ) -> list[Any]:
        variables = [s.variable if isinstance(s, _Source) else s for s in sources]
        if not isinstance(target, (list, tuple)):
            number = self._numbers.get(id(target))
            if number is not None and not self._is_recorded[number]:
                reached = self.reached.get(number, ())
                return [
                    tf.zeros_like(tf.convert_to_tensor(v)) if id(v) in reached else None
                    for v in variables
                ]
        targets = list(target) if isinstance(target, (list, tuple)) else [target]
        seeds = (
            output_gradients
            if isinstance(output_gradients, (list, tuple))
            else [output_gradients] * len(targets)
        )
        seeds = [self._seed(loss, seed) for loss, seed in zip(targets, seeds, strict=True)]
        return self._tape.gradient(targets, variables, output_gradients=seeds)

    def _seed(self, loss: Any, seed: Any) -> Any:
        number = self._numbers.get(id(loss))
        has_factor = self._factors is not None and number is not None
        factor = self._factors[number] if has_factor else tf.ones(())  # type: ignore[index]
        return tf.cast(factor if seed is None else factor * tf.cast(seed, factor.dtype), loss.dtype)


def balanced_gradients(
    balancer: Any,
    tape: tf.GradientTape,
    losses: Mapping[str, Any],
    variables: Sequence[Any],
    *,
    optimizer: Any = None,
    tasks: Sequence[Task | str] | None = None,
    shared: Sequence[Any] | None = None,
    regularization: Any = None,
) -> list[Any]:
    """The gradient of each variable, as a balancer combines those of the tasks' losses; for
    training loops of one's own.

    It does what a step of `MultiTaskModel.fit` does between the forward pass and the optimizer. The
    variables that two or more losses reach are shared: their gradients are balanced. A variable
    that one loss reaches belongs to that task's head. The balancer keeps its state from call to
    call: make it once, before the loop. It works in a `tf.function`, and under a `tf.distribute`
        strategy where each loss is the replica's part of the global one
        (`tf.nn.compute_average_loss`).

    Args:
        balancer: `Balancer`, from `mtl.balancing.get` or a class.
        tape: `tf.GradientTape(persistent=True)` that has recorded the losses.
        losses: dict of task name to a scalar, loss weights included. None, or no entry, where a
            task has no labels in this
            batch: it then takes no part, and its state rests. The first call should have all of
                them, since it shows which
            variables are shared.
        variables: list of trainable variables.
        optimizer: the `keras.optimizers.Optimizer`. Methods with weights that learn at its rate
            (`uncertainty`, `imtl_l`) need it. Under mixed precision, give it and multiply the
            losses by `optimizer.scale_loss` inside the tape.
        tasks: list of names, or of `Task`, which may be absent from the first batch, or whose kind
            a method reads (`uncertainty`). None takes the names of the first call's losses. Later
            calls ignore it.
        shared: list of variables whose gradients the balancer looks at. None takes all shared ones.
            `gradnorm` wants the variables of one layer.
        regularization: scalar that is added to the losses without balancing, or None.

    Returns:
        List of tensors, one per variable; None where no loss reaches a variable.

    Raises:
        TypeError: `balancer` is a name: its state would be lost after every call.
        ValueError: unknown task names, no losses at all, a tape that can be used once only, or a
            method that needs more than one batch, held-out data, or gradients at a representation.

    Examples:
        >>> balancer = mtl.balancing.get("cagrad", c=0.4)
        >>> for x, y in data:
        ...     with tf.GradientTape(persistent=True) as tape:
        ...         outputs = model(x, training=True)
        ...         losses = {"cost": mse(y["cost"], outputs["cost"]), "sold": bce(y["sold"], outputs["sold"])}
        ...     gradients = mtl.training.balanced_gradients(balancer, tape, losses, model.trainable_variables)
        ...     optimizer.apply(gradients, model.trainable_variables)
    """
    variables = list(variables)
    _check_balancer(balancer, tape, shared)
    rate = None if optimizer is None else ops.cast(optimizer.learning_rate, "float32")
    if rate is None and _follows_optimizer(balancer):
        raise ValueError(
            f"Balancer '{balancer.name}' learns at the optimizer's rate: give `optimizer=`, or a "
            f"`learning_rate` of its own."
        )
    _build(balancer, losses, tasks)
    scale = 1.0 if optimizer is None else optimizer.scale_loss(tf.ones(()))
    batch = _Losses(balancer, losses, scale, regularization)
    update = _combine(balancer, tape, batch, variables, shared)
    if balancer.observes_updated_losses:
        balancer.awaits_updated_losses = True
    present = _where_finite(update.gradients, batch.present)
    rate = tf.zeros(()) if rate is None else rate
    update_balancer(balancer, batch, update, present, rate)
    return update.gradients  # type: ignore[return-value]


def observe_updated_losses(
    balancer: Balancer, losses: Mapping[str, Any], optimizer: Any = None
) -> None:
    """Tell a balancer what the losses of the same batch are after the optimizer's step. `famo`
    learns from them.

    Args:
        balancer: `Balancer` that `balanced_gradients` was called with.
        losses: dict of task name to a scalar, as in `balanced_gradients`.
        optimizer: as in `balanced_gradients`, where the losses are multiplied by its `scale_loss`.

    Raises:
        ValueError: unknown task names, or a balancer that has not weighed anything yet.
    """
    if not balancer.built:
        raise ValueError(
            f"Balancer '{balancer.name}' has no state yet: call `balanced_gradients` first."
        )
    _check_names(balancer, losses)
    scale = 1.0 if optimizer is None else optimizer.scale_loss(tf.ones(()))
    listed = [losses.get(name) for name in balancer.task_names]
    values = _values(
        [tf.zeros(()) if loss is None else tf.convert_to_tensor(loss) for loss in listed], scale
    )
    present = tf.constant([loss is not None for loss in listed])
    balancer.awaits_updated_losses = False
    balancer.observe_updated_losses(values, ops.logical_and(present, ops.isfinite(values)))


def _values(losses: Sequence[Any], scale: Any) -> Any:
    """The losses over all replicas, without the loss scale, as one tensor without gradients."""
    stacked = tf.stack([tf.cast(tf.stop_gradient(loss), tf.float32) for loss in losses])
    return all_sum(stacked) / ops.cast(scale, "float32")


def _check_balancer(balancer: Any, tape: Any, shared: Any) -> None:
    if not isinstance(balancer, Balancer):
        raise TypeError(
            f"`balancer` should be a Balancer that lives as long as the loop, such as "
            f"`mtl.balancing.get('cagrad')`. "
            f"Received: {balancer!r}."
        )
    strategy = strategies.get(balancer)
    if strategy.requires_data or strategy.num_batches > 1:
        what = (
            "data that are held out"
            if strategy.requires_data
            else f"{strategy.num_batches} batches a step"
        )
        raise ValueError(
            f"Balancer '{balancer.name}' needs {what}: train with `model.compile(balancer=...)` "
            f"and `fit`."
        )
    if balancer.gradients == "representation":
        raise ValueError(
            f"Balancer '{balancer.name}' looks at a shared representation, which only a model "
            f"names. Use "
            f"`{type(balancer).__name__}(gradients='parameters')` in a loop of your own."
        )
    if balancer.gradients == "layer" and shared is None:
        raise ValueError(
            f"Balancer '{balancer.name}' looks at one layer: give its variables as "
            f"`shared=[layer.kernel]`."
        )
    if balancer.awaits_updated_losses:
        raise ValueError(
            f"Balancer '{balancer.name}' learns from the losses after the step: call "
            f"`mtl.training.observe_updated_losses` "
            "once the optimizer has moved, or use FAMO(observe='next_batch')."
        )
    # TensorFlow's own message names neither the argument nor the mend.
    if strategy.uses_gradients and not getattr(tape, "_persistent", True):
        raise ValueError(
            f"Balancer '{balancer.name}' takes a gradient per task: record the losses on "
            f"`tf.GradientTape(persistent=True)`."
        )


def _follows_optimizer(balancer: Balancer) -> bool:
    parts = balancer.parts or (balancer,)
    return any(part.learning_rate is None for part in parts if hasattr(part, "learning_rate"))


def _check_names(balancer: Balancer, losses: Mapping[str, Any]) -> None:
    for name in losses:
        if name not in balancer.task_names:
            raise ValueError(unknown_name("task in `losses`:", name, balancer.task_names))


def _build(balancer: Balancer, losses: Mapping[str, Any], tasks: Any) -> None:
    if not isinstance(losses, Mapping) or not any(loss is not None for loss in losses.values()):
        raise ValueError(
            f"`losses` should be a dict of task name to a scalar tensor, at least one. Received: "
            f"{losses!r}."
        )
    if not balancer.built:
        # Outside of the graph: a `tf.function` that makes variables is traced twice.
        with tf.init_scope():
            balancer.build(list(losses) if tasks is None else list(tasks))
    _check_names(balancer, losses)


class _LoopScope(strategies.Scope):
    """The variables of a loop, told apart by what the tape says of the losses."""

    def __init__(
        self, batch: _Losses, variables: Sequence[_Source], shared: Sequence[Any] | None
    ) -> None:
        reached = batch.tape.reached.values()
        self._times = {id(s): sum(id(s.variable) in ids for ids in reached) for s in variables}
        self._num_tasks = len(batch.each)
        self.variables, self.is_narrowed = variables, shared is not None
        if shared is None:
            least = min(2, self._num_tasks)
            self._sources = [s for s in variables if self._times[id(s)] >= least]
        else:
            chosen = {id(v) for v in shared}
            self._sources = [s for s in variables if id(s.variable) in chosen]

    @property
    def sources(self) -> list[Any]:
        return self._sources

    def is_head(self, variable: Any) -> bool:
        return self._num_tasks > 1 and self._times[id(variable)] < 2


def _combine(
    balancer: Balancer,
    tape: tf.GradientTape,
    batch: _Losses,
    variables: Sequence[Any],
    shared: Sequence[Any] | None,
) -> strategies.GradientUpdate:
    """What the balancer's strategy makes of the losses."""
    strategy = strategies.get(balancer)
    reached = _reached(balancer, tape, batch, variables) if strategy.uses_gradients else None
    batch.tape = _TaskTape(tape, batch, reached)
    sources = [_Source(i, v) for i, v in enumerate(variables)]
    scope = _LoopScope(batch, sources, shared)
    if strategy.uses_gradients and not scope.sources:
        reason = "no two of the losses reach the same one."
        if shared is not None:
            reason = "none of `shared` is among `variables`."
        raise ValueError(
            f"Balancer '{balancer.name}' weighs gradients of shared variables, and {reason}"
        )
    if isinstance(balancer, GradientBalancer) and strategy.changes_gradients:
        _build_rows(balancer, scope.sources)
    return strategy.compute([batch], scope)


def _reached(
    balancer: Any, tape: tf.GradientTape, batch: _Losses, variables: Sequence[Any]
) -> dict[int, set[int]]:
    """By task's number, ids of the variables that its loss reaches; looked up on the tape when a
    task is first seen."""
    key = tuple(map(id, variables))
    if getattr(balancer, "_reached_from", None) != key:
        balancer._reached_from, balancer._reached = key, {}
    for number, (loss, is_recorded) in enumerate(zip(batch.each, batch.is_recorded, strict=True)):
        if is_recorded and number not in balancer._reached:
            gradients = tape.gradient(loss, variables)
            balancer._reached[number] = {
                id(v) for v, g in zip(variables, gradients, strict=True) if g is not None
            }
    return balancer._reached


def _build_rows(balancer: GradientBalancer, sources: Sequence[_Source]) -> None:
    """State of the size of the gradients, made at the first call."""
    if balancer.row_shapes:
        return
    with tf.init_scope():
        balancer.build_rows({s.path: tuple(s.shape) for s in sources})


def _where_finite(gradients: Sequence[Any], present: Any) -> Any:
    """`present`, unless a gradient is not finite: a loss scale skips such a step, and no state
    moves in it."""
    dense = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    broken = tf.reduce_any([tf.reduce_any(tf.logical_not(tf.math.is_finite(g))) for g in dense])
    return ops.logical_and(present, all_sum(tf.cast(broken, tf.float32)) < 0.5)
