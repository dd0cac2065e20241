"""Gradients at the tensors that the heads share, and on through what lies before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.trainer.jacobian import add_gradients, mix_rows, task_gradients, with_added_losses
from mtl_keras.trainer.strategies.base import GradientUpdate, Scope

__all__ = ["backward_from_representation"]


def backward_from_representation(
    forward: Any,
    scope: Scope,
    combine: Callable[[Sequence[Sequence[Any]]], tuple[Any, Any, Any, Any]],
) -> GradientUpdate:
    """Each task's pass through the heads gives the gradients of its own head too.

    Args:
        forward: a forward pass that stopped at the representation.
        scope: the variables.
        combine: takes the gradients at each shared tensor, and gives the combined ones (None where
            no task reaches the tensor), the tasks' weights, those of the heads, and the Gram matrix
            or None.
    """
    trunk, head_variables = scope.sides()
    tensors = list(forward.representation.values())
    columns = task_gradients(forward, [*tensors, *head_variables])
    at_tensors, at_heads = columns[: len(tensors)], columns[len(tensors) :]
    combined, weights, head_weights, gram = combine(at_tensors)
    reached = [i for i, gradient in enumerate(combined) if gradient is not None]
    through = forward.tape.gradient(
        [tensors[i] for i in reached],
        trunk,
        output_gradients=[tf.cast(combined[i], tensors[i].dtype) for i in reached],
    )
    gradients: dict[int, Any] = dict(zip(map(id, trunk), through, strict=True))
    for variable, column in zip(head_variables, at_heads, strict=True):
        has_several = sum(g is not None for g in column) > 1
        head_gradient = mix_rows(column, weights if has_several else head_weights)
        gradients[id(variable)] = add_gradients(gradients.get(id(variable)), head_gradient)
    in_order = [gradients.get(id(v)) for v in scope.variables]
    return GradientUpdate(
        with_added_losses(forward, scope.variables, in_order),
        weights,
        head_weights,
        gram=gram,
        measured=gram,
    )
