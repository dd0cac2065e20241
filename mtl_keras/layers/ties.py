"""Penalties that tie corresponding weights of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import keras
from keras import ops

__all__ = ["WeightTie"]


@keras.saving.register_keras_serializable("mtl_keras")
class WeightTie:
    """A penalty on how far corresponding layers of several networks are apart. A model adds it to
    its losses.

    With T networks and their weights W_1 .. W_T of one variable, added up over variables:

    - "l2": the squared distance between each pair's weights, averaged over pairs:
      `2 / (T (T - 1)) sum_(i<j) ||W_i - W_j||^2` (Duong et al., "Low Resource Dependency
      Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser", ACL 2015).
    - "trace": the nuclear norm of the matrix whose rows are the networks' weights of one variable:
      it pulls the rows to few directions, and the weights to 0 (Yang & Hospedales, "Trace Norm
      Regularised Deep Multi-Task Learning", ICLR workshop 2017, last-axis flattening). Where
      singular values are 0 the subgradient of smallest norm is used.
    - "pairwise_trace": `sum_(i<j) ||W_i - W_j||_*`, the nuclear norm of each pair's difference as a
      matrix, all axes but the last in one: it lets networks differ in few directions, and leaves
      what they share as large as it is. Every training step takes a singular value decomposition
      for each pair and variable.

    A published factor lambda is `penalty_weight` times a number, because "l2" is a mean over pairs.
    Where lambda multiplies the sum over pairs, `penalty_weight = lambda T (T - 1) / 2`. Where it
    multiplies `sum_i ||W_i - mean||^2`, `penalty_weight = lambda (T - 1) / 2`. For two networks the
    first is lambda itself. "trace" and "pairwise_trace" are sums: `penalty_weight = lambda`.

    Args:
        kind: "l2", "trace" or "pairwise_trace".
        penalty_weight: float >= 0.
        groups: list of lists of str. Each list names one layer of every network.
    """

    KINDS = ("l2", "trace", "pairwise_trace")

    def __init__(self, kind: str, penalty_weight: float, groups: Sequence[Sequence[str]]) -> None:
        if kind not in self.KINDS:
            raise ValueError(f"Unknown kind of tie {kind!r}. Known: {', '.join(self.KINDS)}.")
        if not penalty_weight >= 0:
            raise ValueError(f"`penalty_weight` must be >= 0, got {penalty_weight}.")
        self.kind, self.penalty_weight, self.groups = (
            kind,
            float(penalty_weight),
            [list(group) for group in groups],
        )

    def __call__(self, model: keras.Model) -> Any:
        """The penalty of a model's weights now, a scalar."""
        total = 0.0
        for group in self.groups:
            for variables in zip(
                *(model.get_layer(name).trainable_variables for name in group), strict=True
            ):
                values = [ops.cast(v.value, "float32") for v in variables]
                if self.kind == "pairwise_trace":
                    total = total + sum(_nuclear_of(a - b) for a, b in combinations(values, 2))
                else:
                    rows = ops.stack([ops.reshape(value, (-1,)) for value in values])
                    total = total + (_spread(rows) if self.kind == "l2" else _nuclear(rows))
        return self.penalty_weight * total

    def get_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "penalty_weight": self.penalty_weight, "groups": self.groups}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightTie:
        return cls(**config)


def _spread(rows: Any) -> Any:
    """The mean over pairs of the squared distance, from distances to the center."""
    count = rows.shape[0]
    if count < 2:
        return ops.zeros(())
    return 2 * ops.sum(ops.square(rows - ops.mean(rows, axis=0, keepdims=True))) / (count - 1)


def _nuclear(rows: Any) -> Any:
    """The nuclear norm, with the gradient `(W W^T)^(-1/2) W` on the matrix's own row space."""
    gram = ops.matmul(rows, ops.transpose(rows))
    values, vectors = ops.eigh(ops.stop_gradient(gram))
    values = ops.maximum(values, 0.0)
    has_length = values > 1e-6 * ops.max(values)
    inverse = ops.where(has_length, 1.0 / ops.sqrt(ops.where(has_length, values, 1.0)), 0.0)
    half = ops.matmul(vectors * inverse, ops.transpose(vectors))
    norm = ops.sum(ops.sqrt(ops.where(has_length, values, 0.0)))
    surrogate = 0.5 * ops.sum(ops.stop_gradient(half) * gram)
    return surrogate + ops.stop_gradient(norm - surrogate)


def _nuclear_of(difference: Any) -> Any:
    """The nuclear norm of one matrix, all axes but the last in one, with the gradient `U V^T` of
    its own singular vectors."""
    matrix = ops.reshape(difference, (-1, difference.shape[-1] if difference.shape else 1))
    left, values, right = ops.svd(ops.stop_gradient(matrix), full_matrices=False)
    # Directions without length have no gradient of their own: the subgradient of smallest norm
    # leaves them out.
    has_length = ops.cast(values > 1e-6 * ops.max(values), values.dtype)
    direction = ops.matmul(left * has_length, right)
    surrogate = ops.sum(direction * matrix)
    return surrogate + ops.stop_gradient(ops.sum(values) - surrogate)
