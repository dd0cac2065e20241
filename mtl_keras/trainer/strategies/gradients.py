"""Methods that work on the gradients themselves, one variable at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.balancing import GradientBalancer
from mtl_keras.trainer.jacobian import (
    flatten_rows,
    is_shared,
    mix_rows,
    sum_over_replicas,
    task_gradients,
    with_added_losses,
)
from mtl_keras.trainer.losses import all_sum, replicas
from mtl_keras.trainer.strategies.base import GradientUpdate, Scope, Strategy, register
from mtl_keras.trainer.strategies.representation import backward_from_representation

__all__ = ["FromGradients"]


@register("gradients")
class FromGradients(Strategy):
    """The task gradients of each shared variable go through the balancer; heads have weights of
    their own."""

    changes_gradients = True
    balancer: GradientBalancer

    def build(self, compiled: Any) -> None:
        if self.at_representation:
            outputs = compiled.trunk.output
            shapes = {name: tuple(outputs[name].shape[1:]) for name in outputs}
        else:
            shapes = {v.path: tuple(v.shape) for v in compiled.sources}
        self.balancer.build_rows(shapes)

    def compute(self, forwards: Sequence[Any], scope: Scope) -> GradientUpdate:
        forward = forwards[-1]
        if self.at_representation:
            return self._at_representation(forward, scope)
        columns = task_gradients(forward, scope.variables)
        looked_at = {id(v) for v in scope.sources}
        raw_rows = {
            i: flatten_rows(sum_over_replicas([column])[0], forward.scale)
            for i, (column, variable) in enumerate(zip(columns, scope.variables, strict=True))
            if is_shared(column) and id(variable) in looked_at
        }
        gram = None
        if scope.is_watched:
            gram = tf.add_n([tf.matmul(r, r, transpose_b=True) for r in raw_rows.values()])
        is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(r)) for r in raw_rows.values()])
        present = tf.logical_and(forward.present, is_finite)

        # Rows, and what they measure summed over the variables.
        scales = self.balancer.row_scale(forward.seen, forward.present)[:, None]
        rows, measured = {}, None
        for i, raw in raw_rows.items():
            key = scope.variables[i].path
            scaled = tf.where(is_finite, raw, tf.zeros_like(raw)) * scales
            rows[i] = self.balancer.transform(scaled, key, present)
            part = self.balancer.measure(rows[i], key, present)
            measured = part if measured is None else measured + part
        weights, head_weights = self.balancer.weigh_all(forward.seen, present, measured)

        gradients = self._combine(
            forward, scope, columns, rows, weights, head_weights, present, is_finite
        )
        weights = tf.cast(weights, tf.float32)
        by_path = {scope.variables[i].path: values for i, values in rows.items()}
        return GradientUpdate(
            with_added_losses(forward, scope.variables, gradients),
            weights,
            head_weights,
            gram=gram,
            measured=measured,
            rows=by_path,
            present=present,
        )

    def _combine(
        self,
        forward: Any,
        scope: Scope,
        columns: Sequence[Sequence[Any]],
        rows: Mapping[int, Any],
        weights: Any,
        head_weights: Any,
        present: Any,
        is_finite: Any,
    ) -> list[Any]:
        """The gradient of each variable; what the balancer does not look at is the plain sum."""
        weights = tf.where(present, weights, 0.0)
        gradients = []
        for i, (column, variable) in enumerate(zip(columns, scope.variables, strict=True)):
            if i not in rows:
                has_several = sum(g is not None for g in column) > 1
                factors = tf.ones_like(head_weights) if has_several else head_weights
                gradients.append(mix_rows(column, factors))
                continue
            combined = self.balancer.combine(rows[i], weights, variable.path, present)
            # What was not finite goes on so, for the loss scale to see.
            nan = tf.fill(tf.shape(combined), float("nan"))
            combined = tf.where(is_finite, combined * forward.scale / replicas(), nan)
            like = next(g for g in column if g is not None)
            gradients.append(tf.cast(tf.reshape(combined, tf.shape(like)), like.dtype))
        return gradients

    def _at_representation(self, forward: Any, scope: Scope) -> GradientUpdate:
        def combine(columns: Sequence[Sequence[Any]]) -> tuple[Any, Any, Any, Any]:
            combined = [
                self._combine_tensor(forward, name, tensor, column)
                for (name, tensor), column in zip(
                    forward.representation.items(), columns, strict=True
                )
            ]
            ones = tf.ones((len(forward.each),))
            return combined, ones, ones, None

        return backward_from_representation(forward, scope, combine)

    def _combine_tensor(self, forward: Any, name: str, tensor: Any, column: Sequence[Any]) -> Any:
        if all(g is None for g in column):
            return None
        rows = tf.stack([tf.zeros_like(tensor) if g is None else g for g in column])
        rows = tf.cast(rows, tf.float32)
        activations = tf.cast(tensor, tf.float32)
        measured = all_sum(self.balancer.measure_representation(rows, activations))
        return self.balancer.combine_representation(rows, measured, name, forward.present)
