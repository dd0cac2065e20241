"""The task gradients, and what is made of them variable by variable: their products, and their
combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.losses import all_sum

__all__ = [
    "add_gradients",
    "flatten_rows",
    "gram_matrix",
    "is_shared",
    "mix_rows",
    "split_into_groups",
    "sum_over_replicas",
    "task_gradients",
    "weighted_gradients",
    "with_added_losses",
]


def task_gradients(forward: Any, sources: Sequence[Any], seed: Any = None) -> list[list[Any]]:
    """The Jacobian of the task losses, dense, one column for each source.

    Args:
        forward: a forward pass with its tape.
        sources: variables or tensors.
        seed: scalar that each loss's gradient starts with, or None for 1.

    Returns:
        For every source a list with the gradient of each task; None where its loss does not reach
        the source.
    """
    rows = [forward.tape.gradient(loss, sources, output_gradients=seed) for loss in forward.each]
    dense = [[None if g is None else tf.convert_to_tensor(g) for g in row] for row in rows]
    return [list(column) for column in zip(*dense, strict=True)]


def is_shared(column: Sequence[Any]) -> bool:
    """Whether two tasks reach a variable, or the only task does."""
    return sum(gradient is not None for gradient in column) >= min(2, len(column))


def split_into_groups(sources: Sequence[Any], number: int) -> list[list[Any]]:
    """Variables in groups of about equal size, those nearest to the outputs first: their passes are
    short."""
    sources = list(reversed(sources))
    sizes = [int(np.prod(v.shape)) for v in sources]
    groups: list[list[Any]] = [[] for _ in range(max(1, min(number, len(sources))))]
    done = 0
    for variable, size in zip(sources, sizes, strict=True):
        groups[min(done * len(groups) // max(sum(sizes), 1), len(groups) - 1)].append(variable)
        done += size
    return [group for group in groups if group]


def weighted_gradients(
    forward: Any,
    variables: Sequence[Any],
    weights: Any,
    head_weights: Any,
    is_head: Callable[[Any], bool],
) -> list[Any]:
    """One backward pass of the weighted losses; heads have weights of their own, and take a pass
    through them alone."""

    def backward(sources: Sequence[Any], factors: Any) -> dict[int, Any]:
        if not sources:
            return {}
        gradients = forward.tape.gradient(
            forward.each, sources, output_gradients=tf.unstack(factors)
        )
        return dict(zip(map(id, sources), gradients, strict=True))

    if head_weights is weights:
        gradients = backward(variables, weights)
    else:
        gradients = {
            **backward([v for v in variables if not is_head(v)], weights),
            **backward([v for v in variables if is_head(v)], head_weights),
        }
    return [gradients[id(v)] for v in variables]


def flatten_rows(column: Sequence[Any], scale: Any) -> Any:
    """The gradients of one variable as float32 rows `(tasks, size)`, the loss scale taken out."""
    like = next(g for g in column if g is not None)
    flat = tf.stack([tf.reshape(tf.zeros_like(like) if g is None else g, [-1]) for g in column])
    return ops.cast(flat, "float32") / scale


# Products of longer gradients are summed over pieces of this length, so that no copy of them is
# made.
_PIECE = 2**18


def gram_matrix(
    columns: Sequence[Sequence[Any]], scale: Any, others: Sequence[Sequence[Any]] | None = None
) -> Any:
    """Inner products, summed up variable by variable; with `others`, between two batches'
    gradients.

    In float64: gradients that are nearly opposed differ in digits that products in float32 have
    lost.
    """
    tasks = len(columns[0])
    total = tf.zeros((tasks, tasks), tf.float64)
    for i, column in enumerate(columns):
        if all(g is None for g in column) or (
            others is not None and all(g is None for g in others[i])
        ):
            continue
        total = total + _products(column, column if others is None else others[i])
    return total / tf.cast(scale, tf.float64) ** 2


def _products(left: Sequence[Any], right: Sequence[Any]) -> Any:
    """The products `(tasks, tasks)` of one variable's gradients."""
    same = left is right
    left = [None if g is None else tf.reshape(g, [-1]) for g in left]
    right = left if same else [None if g is None else tf.reshape(g, [-1]) for g in right]
    like = next(g for g in left if g is not None)

    def piece(column: Sequence[Any], begin: Any, length: Any) -> Any:
        parts = [
            tf.zeros((length,), like.dtype) if g is None else g[begin : begin + length]
            for g in column
        ]
        return tf.cast(tf.stack(parts), tf.float64)

    def product(begin: Any, length: Any) -> Any:
        rows = piece(left, begin, length)
        return tf.matmul(rows, rows if same else piece(right, begin, length), transpose_b=True)

    size = like.shape[0]
    if size is None or size <= 2 * _PIECE:
        return product(0, tf.shape(like)[0] if size is None else size)
    whole = size // _PIECE
    total = tf.zeros((len(left), len(left)), tf.float64)
    _, total = tf.while_loop(
        lambda i, _: i < whole,
        lambda i, total: (i + 1, total + product(i * _PIECE, _PIECE)),
        (tf.constant(0), total),
        parallel_iterations=1,
    )
    rest = size - whole * _PIECE
    return total + product(whole * _PIECE, rest) if rest else total


def sum_over_replicas(columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Columns whose gradients are summed over the replicas."""
    return [[None if g is None else all_sum(g) for g in column] for column in columns]


def mix_rows(column: Sequence[Any], factors: Any) -> Any:
    """The combination of one variable's gradients; None where no task reaches it."""
    terms = [g * ops.cast(factors[i], g.dtype) for i, g in enumerate(column) if g is not None]
    return tf.add_n(terms) if terms else None


def add_gradients(a: Any, b: Any) -> Any:
    """The sum of two gradients, each of which may be None."""
    if a is None or b is None:
        return a if b is None else tf.convert_to_tensor(b)
    return a + tf.convert_to_tensor(b)


def with_added_losses(
    forward: Any, variables: Sequence[Any], gradients: Sequence[Any]
) -> list[Any]:
    """Gradients, and those of regularization and `add_loss`, which take no part in balancing."""
    if forward.added is None:
        return list(gradients)
    added = forward.tape.gradient(forward.added, variables)
    return [add_gradients(a, b) for a, b in zip(gradients, added, strict=True)]
