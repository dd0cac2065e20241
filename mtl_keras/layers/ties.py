"""Penalties that tie corresponding weights of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["WeightTie"]


@keras.saving.register_keras_serializable("mtl_keras")
class WeightTie:
    """A penalty on how far corresponding layers of several networks are apart. A model adds it to its losses.

    - "l2": the squared distance between each pair's weights, averaged over pairs (Duong et al., "Low Resource Dependency
      Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser", ACL 2015).
    - "trace": the nuclear norm of the matrix whose rows are the networks' weights of one variable: it pulls the rows to few
      directions, and the weights to 0 (Yang & Hospedales, "Trace Norm Regularised Deep Multi-Task Learning", ICLR
      workshop 2017, last-axis flattening). Where singular values are 0 the subgradient of smallest norm is used.

    Args:
        kind: "l2" or "trace".
        weight: float >= 0.
        groups: list of lists of str. Each list names one layer of every network.
    """

    KINDS = ("l2", "trace")

    def __init__(self, kind: str, weight: float, groups: Sequence[Sequence[str]]):
        if kind not in self.KINDS:
            raise ValueError(f"Unknown kind of tie {kind!r}. Known: {', '.join(self.KINDS)}.")
        if not weight >= 0:
            raise ValueError(f"The weight of a tie must be >= 0, got {weight}.")
        self.kind, self.weight, self.groups = kind, float(weight), [list(group) for group in groups]

    def __call__(self, model: keras.Model) -> Any:
        """The penalty of a model's weights now, a scalar."""
        total = 0.0
        for group in self.groups:
            for variables in zip(*(model.get_layer(name).trainable_variables for name in group), strict=True):
                rows = ops.stack([ops.reshape(ops.cast(v.value, "float32"), (-1,)) for v in variables])
                total = total + (_spread(rows) if self.kind == "l2" else _nuclear(rows))
        return self.weight * total

    def get_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "weight": self.weight, "groups": self.groups}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightTie:
        return cls(**config)


def _spread(rows):
    """The mean over pairs of the squared distance, from distances to the centre."""
    count = rows.shape[0]
    if count < 2:
        return ops.zeros(())
    return 2 * ops.sum(ops.square(rows - ops.mean(rows, axis=0, keepdims=True))) / (count - 1)


def _nuclear(rows):
    """The nuclear norm, with the gradient `(W W^T)^(-1/2) W` on the matrix's own row space."""
    gram = ops.matmul(rows, ops.transpose(rows))
    values, vectors = ops.eigh(ops.stop_gradient(gram))
    values = ops.maximum(values, 0.0)
    kept = values > 1e-6 * ops.max(values)
    inverse = ops.where(kept, 1.0 / ops.sqrt(ops.where(kept, values, 1.0)), 0.0)
    half = ops.matmul(vectors * inverse, ops.transpose(vectors))
    norm = ops.sum(ops.sqrt(ops.where(kept, values, 0.0)))
    surrogate = 0.5 * ops.sum(ops.stop_gradient(half) * gram)
    return surrogate + ops.stop_gradient(norm - surrogate)
