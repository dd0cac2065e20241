"""Weights from the inner products of the task gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.trainer.jacobian import (
    gram_matrix,
    is_shared,
    mix_rows,
    split_into_groups,
    sum_over_replicas,
    task_gradients,
    weighted_gradients,
    with_added_losses,
)
from mtl_keras.trainer.losses import all_sum, replicas
from mtl_keras.trainer.strategies.base import GradientUpdate, Scope, Strategy, register
from mtl_keras.trainer.strategies.representation import backward_from_representation
from mtl_keras.trainer.task_weights import cached_weights, is_due, weigh_gram

__all__ = ["FromGram"]


@register("gram")
class FromGram(Strategy):
    """Gradients of each task, their Gram matrix, and the combination with the weights that come
    back.

    What it costs is the user's choice: exact gradients that are combined as they are; their
    products only, then one weighted backward pass; or gradients at the representation.
    """

    def compute(self, forwards: Sequence[Any], scope: Scope) -> GradientUpdate:
        forward, balancer = forwards[-1], self.balancer
        if self.at_representation:
            if balancer.update_every == 1:
                return self._at_representation(forward, scope)
            tensors = list(forward.representation.values())
            return self._from_products(forward, scope, tensors, is_local=True)
        if self._takes_products(scope):
            return self._from_products(forward, scope, scope.sources)
        return self._from_rows(forward, scope)

    def _takes_products(self, scope: Scope) -> bool:
        """Whether the gradients can't be combined as they are: they are not those of all variables,
        or let go."""
        balancer = self.balancer
        return bool(
            balancer.gradients == "layer"
            or balancer.gradient_groups
            or scope.is_narrowed
            or (balancer.update_every > 1 and replicas() > 1)
        )

    # ------------------------------------------------------------------ exact gradients
    def _from_rows(self, forward: Any, scope: Scope) -> GradientUpdate:
        """One backward pass per task; the gradients are combined as they are."""
        balancer, variables = self.balancer, scope.variables

        def solve() -> tuple[Any, ...]:
            columns = task_gradients(forward, variables)
            shared = [is_shared(column) for column in columns]
            columns = [
                sum_over_replicas([column])[0] if both else column
                for column, both in zip(columns, shared, strict=True)
            ]
            shared_columns = [c for c, both in zip(columns, shared, strict=True) if both]
            gram = gram_matrix(shared_columns, forward.scale)
            weights, head_weights = weigh_gram(balancer, forward, gram)
            gradients = [
                mix_rows(column, weights / replicas() if both else head_weights)
                for column, both in zip(columns, shared, strict=True)
            ]
            return gradients, weights, head_weights, gram

        def reuse() -> tuple[Any, ...]:
            weights, head_weights = cached_weights(balancer)
            factors = weights if balancer.scales_heads else head_weights
            gradients = weighted_gradients(forward, variables, weights, factors, scope.is_head)
            dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
            gram = tf.zeros((len(forward.each),) * 2, tf.float64)
            return dense, weights, head_weights, gram

        if balancer.update_every == 1:
            due = None
            gradients, weights, head_weights, gram = solve()
        else:
            due = is_due(balancer)
            gradients, weights, head_weights, gram = _either(due, solve, reuse)
        gradients = with_added_losses(forward, variables, gradients)
        return GradientUpdate(gradients, weights, head_weights, gram, gram, is_due=due)

    # ------------------------------------------------------------------ products, then a weighted pass
    def _from_products(
        self, forward: Any, scope: Scope, sources: Sequence[Any], is_local: bool = False
    ) -> GradientUpdate:
        """Products of the gradients at some sources, then one weighted backward pass.

        For one layer, for some of the shared variables, for less memory, and (`is_local`: each
        replica has rows of its own) for the representation.
        """
        number = 1 if is_local else self.balancer.gradient_groups

        def products() -> Any:
            gram = None
            for group in split_into_groups(sources, number):
                # A group's gradients are let go before the next one's are made.
                with tf.control_dependencies([] if gram is None else [gram]):
                    seed = tf.ones(())
                columns = task_gradients(forward, group, None if gram is None else seed)
                columns = columns if is_local else sum_over_replicas(columns)
                part = gram_matrix(columns, forward.scale)
                gram = part if gram is None else gram + part
            return gram

        weights, head_weights, gram, due = self.weigh(forward, sources, products, is_local)
        factors = weights if self.balancer.scales_heads else head_weights
        gradients = weighted_gradients(forward, scope.variables, weights, factors, scope.is_head)
        gradients = with_added_losses(forward, scope.variables, gradients)
        return GradientUpdate(gradients, weights, head_weights, gram, gram, is_due=due)

    def weigh(
        self,
        forward: Any,
        sources: Sequence[Any],
        products: Callable[[], Any],
        is_local: bool = False,
        computes_always: bool = False,
    ) -> tuple[Any, Any, Any, Any]:
        """Weights, those of the heads, the Gram matrix, and whether this step computed them."""
        balancer = self.balancer
        if balancer.update_every == 1:
            gram = products()
            gram = all_sum(gram) if is_local else gram
            return (*weigh_gram(balancer, forward, gram), gram, None)
        due = is_due(balancer)
        if computes_always:
            gram = products()
        elif replicas() == 1:
            nothing = tf.zeros((len(forward.each),) * 2, tf.float64)
            gram = tf.cond(due, products, lambda: nothing)
        else:
            gram = _gram_on_replicas(forward, sources, due, is_local)
        if replicas() > 1:
            # What is written inside a condition can't be read outside of it on replicas.
            fresh = weigh_gram(balancer, forward, gram)
            pairs = zip(fresh, cached_weights(balancer), strict=True)
            weights, head_weights = (tf.where(due, new, old) for new, old in pairs)
        else:
            weights, head_weights = tf.cond(
                due, lambda: weigh_gram(balancer, forward, gram), lambda: cached_weights(balancer)
            )
        return weights, head_weights, gram, due

    # ------------------------------------------------------------------ at the representation
    def _at_representation(self, forward: Any, scope: Scope) -> GradientUpdate:
        """Gradients at the tensors that the heads share, and one backward pass through what lies
        before them."""

        def combine(columns: Sequence[Sequence[Any]]) -> tuple[Any, Any, Any, Any]:
            gram = all_sum(gram_matrix(columns, forward.scale))
            weights, head_weights = weigh_gram(self.balancer, forward, gram)
            return [mix_rows(column, weights) for column in columns], weights, head_weights, gram

        return backward_from_representation(forward, scope, combine)


def _gram_on_replicas(forward: Any, sources: Sequence[Any], due: Any, is_local: bool) -> Any:
    """The Gram matrix where due, on several replicas.

    Replicas can't meet inside a condition: each one's gradients are computed there, and summed
    outside.
    """
    is_reached = [[g is not None for g in column] for column in task_gradients(forward, sources)]

    def gradients() -> list[Any]:
        return [g for column in task_gradients(forward, sources) for g in column if g is not None]

    def zeros() -> list[Any]:
        return [
            tf.zeros_like(tf.convert_to_tensor(source))
            for source, column in zip(sources, is_reached, strict=True)
            for is_there in column
            if is_there
        ]

    flat = iter(tf.cond(due, gradients, zeros))
    columns = [[next(flat) if is_there else None for is_there in column] for column in is_reached]
    if is_local:
        return all_sum(gram_matrix(columns, forward.scale))
    return gram_matrix(sum_over_replicas(columns), forward.scale)


def _either(due: Any, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, ...]:
    """`tf.cond` for branches whose first result is a list of gradients, which may be None in
    both."""
    if tf.executing_eagerly():
        return first() if bool(due) else second()
    masks: dict[str, Sequence[bool]] = {}

    def branch(function: Callable[[], Any], key: str) -> Callable[[], Any]:
        def run() -> Any:
            gradients, *others = function()
            masks[key] = [g is not None for g in gradients]
            return [g for g in gradients if g is not None], *others

        return run

    gradients, *others = tf.cond(due, branch(first, "first"), branch(second, "second"))
    if masks["first"] != masks["second"]:
        raise RuntimeError(
            "The two kinds of steps of an amortized balancer reach different variables."
        )
    remaining = iter(gradients)
    return [next(remaining) if is_there else None for is_there in masks["first"]], *others
