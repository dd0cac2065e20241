"""What all methods share that weigh tasks by the inner products of their gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mtl_keras.balancing.balancer import Balancer

__all__ = ["GramBalancer"]


class _Row:
    """A task without a name, for matrices given by hand."""

    likelihood = "gaussian"

    def __init__(self, number: int):
        self.name = f"row{number}"


class GramBalancer(Balancer):
    """A method that needs only the Gram matrix `G = J J^T` of the task gradients, the rows of `J`.

    The trainer takes one backward pass a task, over the shared variables, and combines the gradients with the weights
    that come back. A subclass writes `solve`. `weights` and `aggregate` work without any model.
    """

    needs = "gram"

    def solve(self, gram, present):
        """Weights `(tasks,)` from the Gram matrix; both float64. Absent tasks' rows and columns are 0.

        Args:
            gram: `(tasks, tasks)`.
            present: bool `(tasks,)`.
        """
        raise NotImplementedError

    def weigh(self, losses, present, gram=None):
        both = ops.logical_and(present[:, None], present[None, :])
        exact = ops.where(both, ops.cast(gram, "float64"), ops.zeros(gram.shape, "float64"))
        weights = self.solve(exact, present)
        return ops.cast(ops.where(present, weights, ops.zeros_like(weights)), gram.dtype)

    def weights(self, gram: Any):
        """The weights of the rows behind a Gram matrix, without a model.

        Args:
            gram: `(rows, rows)`, symmetric and positive semidefinite.

        Raises:
            ValueError: another shape.
        """
        gram = ops.convert_to_tensor(gram)
        if len(gram.shape) != 2 or gram.shape[0] != gram.shape[1]:
            raise ValueError(f"A Gram matrix is square, (rows, rows); got shape {tuple(gram.shape)}.")
        if len(self.task_names) != gram.shape[0]:
            self.build([_Row(i) for i in range(gram.shape[0])])
        return self.weigh(None, ops.ones((gram.shape[0],), "bool"), gram)

    def aggregate(self, jacobian: Any):
        """The combined gradient `(size,)` of the rows of a Jacobian `(rows, size)`, without a model.

        Example:
            >>> mtl.balancing.get("upgrad").aggregate([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
        """
        jacobian = ops.convert_to_tensor(jacobian)
        if len(jacobian.shape) != 2:
            raise ValueError(f"A Jacobian has a row a task, (rows, size); got shape {tuple(jacobian.shape)}.")
        weights = self.weights(ops.matmul(jacobian, ops.transpose(jacobian)))
        return ops.matmul(weights, jacobian)

    def add_seed(self, seed: int) -> keras.random.SeedGenerator:
        """A source of random draws whose state is saved with the model and is the same on all replicas."""
        generator = keras.random.SeedGenerator(seed)
        self._state["seed"] = generator.state
        return generator


def count(present):
    """How many tasks are there, at least 1, in float64."""
    return ops.maximum(ops.sum(ops.cast(present, "float64")), 1.0)
