"""What only absent tasks reach stands still, with its optimizer's memory, while the rest of the
network takes a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mtl_keras.trainer.losses import replicas

__all__ = ["apply_gradients"]


def apply_gradients(
    model: Any,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    tasks_of: Sequence[Sequence[int]],
    present: Any,
) -> None:
    """One step of the optimizer, in which variables that only absent tasks reach do not take part.

    A gradient of zero is not enough: momentum, moving averages of gradients, and weight decay would
    move a head in steps whose batches have no label for it.

    Args:
        model: the compiled model; its optimizer is built.
        gradients: of each variable; None for what is not trained at all.
        variables: the trainable variables.
        tasks_of: for each variable, the positions of the tasks that reach it; empty for one that
            always moves.
        present: bool `(tasks,)`.
    """
    optimizer = model.optimizer
    groups: dict[tuple[int, ...], list[Any]] = {}
    for gradient, variable, tasks in zip(gradients, variables, tasks_of, strict=True):
        if gradient is not None and tasks:
            groups.setdefault(tuple(tasks), []).append(variable)

    def step() -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    if not groups:
        step()
        return
    state = _IdleState(optimizer, groups, present)
    if replicas() > 1:
        state.keep_on_replicas(step)
    elif tf.executing_eagerly():
        state.keep_eagerly(step)
    elif model.jit_compile:
        state.keep_compiled(step)
    else:
        state.keep(step)


class _IdleState:
    """Variables in groups that move together, and the optimizer's memory of each.

    Args:
        optimizer: a built optimizer.
        groups: variables, by the positions of the tasks that reach them.
        present: bool `(tasks,)`.
    """

    def __init__(
        self, optimizer: Any, groups: Mapping[tuple[int, ...], Sequence[Any]], present: Any
    ) -> None:
        self.variables: list[Any] = []
        #: For each variable, the position of its group.
        self.group_of: list[int] = []
        moves: list[Any] = []
        for tasks, members in groups.items():
            signs = [tf.reduce_any(tf.gather(present, list(tasks)))]
            for variable in members:
                # Where gradients are gathered over several batches, a head also moves for those of
                # earlier ones.
                signs += [
                    tf.reduce_any(tf.not_equal(a.value, 0))
                    for a in _accumulators(optimizer, variable)
                ]
                states = [variable, *_slots(optimizer, variable)]
                self.variables += states
                self.group_of += [len(moves)] * len(states)
            moves.append(tf.reduce_any(signs) if len(signs) > 1 else signs[0])
        #: Bool `(groups,)`: which groups take part in this step.
        self.moves = tf.stack(moves)
        #: Whether any group stands still.
        self.is_any_idle = tf.logical_not(tf.reduce_all(self.moves))
        self._lay_out()

    def _lay_out(self) -> None:
        """Where each variable lies in a copy of all: one tensor for each dtype, since branches pay
        for every result."""
        self.dtypes = list(dict.fromkeys(tf.as_dtype(v.dtype) for v in self.variables))
        ends = [0] * len(self.dtypes)
        self.spans: list[tuple[int, int, int]] = []
        for variable in self.variables:
            row = self.dtypes.index(tf.as_dtype(variable.dtype))
            size = int(tf.TensorShape(variable.shape).num_elements())
            self.spans.append((row, ends[row], ends[row] + size))
            ends[row] += size

    def keep_eagerly(self, step: Callable[[], None]) -> None:
        moves = self.moves.numpy()
        idle = [
            v for v, group in zip(self.variables, self.group_of, strict=True) if not moves[group]
        ]
        before = [tf.identity(v.value) for v in idle]
        step()
        for variable, value in zip(idle, before, strict=True):
            variable.assign(value)

    def keep_compiled(self, step: Callable[[], None]) -> None:
        """XLA knows no branches of unlike shapes, and joins a copy and a choice into one pass
        anyway."""
        before = [tf.identity(v.value) for v in self.variables]
        step()
        for variable, value, group in zip(self.variables, before, self.group_of, strict=True):
            variable.assign(tf.where(self.moves[group], variable.value, value))

    def keep(self, step: Callable[[], None]) -> None:
        copies = self._copy_if_any_is_idle()
        step()

        def put_back() -> None:
            for variable, span, group in zip(
                self.variables, self.spans, self.group_of, strict=True
            ):
                _put_back(variable.value, copies, self.moves, span, group)

        _run_if(self.is_any_idle, put_back)

    def keep_on_replicas(self, step: Callable[[], None]) -> None:
        copies = self._copy_if_any_is_idle()
        step()

        # Replicas can't write their variables inside a condition; outside of them all are written
        # in one.
        def put_back_everywhere(strategy: Any, copies: Any, moves: Any, is_any_idle: Any) -> None:
            def put_back() -> None:
                for variable, span, group in zip(
                    self.variables, self.spans, self.group_of, strict=True
                ):
                    options = {"args": (copies, moves, span, group), "group": False}
                    strategy.extended.update(variable.value, _put_back, **options)

            _run_if(strategy.experimental_local_results(is_any_idle)[0], put_back)

        context = tf.distribute.get_replica_context()
        context.merge_call(put_back_everywhere, args=(copies, self.moves, self.is_any_idle))

    def _copy_if_any_is_idle(self) -> list[Any]:
        def copy() -> list[Any]:
            flat = [tf.reshape(v.value, [-1]) for v in self.variables]
            rows = [row for row, _, _ in self.spans]
            return [
                tf.concat([x for x, at in zip(flat, rows, strict=True) if at == row], 0)
                for row in range(len(self.dtypes))
            ]

        def nothing() -> list[Any]:
            return [tf.zeros((0,), dtype) for dtype in self.dtypes]

        if tf.executing_eagerly():
            return copy()
        copies = tf.cond(self.is_any_idle, copy, nothing)
        return list(copies) if isinstance(copies, (list, tuple)) else [copies]


def _put_back(
    variable: Any, copies: Sequence[Any], moves: Any, span: tuple[int, int, int], group: int
) -> None:
    row, begin, end = span
    before = tf.reshape(copies[row][begin:end], variable.shape)
    variable.assign(tf.where(moves[group], variable, before))


def _run_if(condition: Any, effect: Callable[[], None]) -> None:
    if tf.executing_eagerly():
        if bool(condition):
            effect()
        return

    def run() -> Any:
        effect()
        return tf.zeros(())

    tf.cond(condition, run, lambda: tf.zeros(()))


# ------------------------------------------------------------------ the optimizer's memory
def _inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """The optimizer, and those inside it (a loss scale has one, `MultiOptimizer` several)."""
    yield optimizer
    inside = [getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())]
    for inner in inside:
        if inner is not None:
            yield from _inner_optimizers(inner)


def _by_variable(optimizer: Any, variable: Any) -> Iterator[tuple[str, Any]]:
    """`(attribute, state)` for everything that an optimizer holds of one variable.

    Keras's optimizers, and those written after them, hold lists in the order of the variables:
    momentums, velocities, factored moments, averages.
    """
    for inner in _inner_optimizers(optimizer):
        known = getattr(inner, "_trainable_variables", [])
        position = next((i for i, v in enumerate(known) if v is variable), None)
        if position is None:
            continue
        for name, states in vars(inner).items():
            if name in ("_variables", "_trainable_variables") or not isinstance(
                states, (list, tuple)
            ):
                continue
            if len(states) == len(known) and isinstance(states[position], keras.Variable):
                yield name, states[position]


def _slots(optimizer: Any, variable: Any) -> list[Any]:
    return [
        state
        for name, state in _by_variable(optimizer, variable)
        if name != "_accumulated_gradients"
    ]


def _accumulators(optimizer: Any, variable: Any) -> list[Any]:
    return [
        state
        for name, state in _by_variable(optimizer, variable)
        if name == "_accumulated_gradients"
    ]
