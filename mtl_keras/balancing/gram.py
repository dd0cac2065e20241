"""What all methods share that weigh tasks by the inner products of their gradients."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, require
from mtl_keras.balancing.parameters import whole_number

__all__ = ["GramBalancer", "build_for_rows", "count", "jacobian_of"]


def build_for_rows(balancer: Balancer, rows: int) -> bool:
    """Make a balancer's state for the rows of a matrix given by hand; whether that was needed.

    Raises:
        ValueError: it holds the state of a model's tasks, and the matrix has another number of rows.
    """
    if len(balancer.task_names) == rows:
        return False
    names = balancer.task_names
    if names and names != [f"row{i}" for i in range(len(names))]:
        raise ValueError(
            f"Balancer '{balancer.name}' holds the state of the tasks {', '.join(names)}, and the matrix has {rows} rows. "
            f"Take a new one: `mtl.balancing.get('{balancer.name}')`."
        )
    balancer.build([f"row{i}" for i in range(rows)])
    return True


def jacobian_of(values: Any):
    """A float tensor of shape `(rows, size)`, or a ValueError."""
    jacobian = ops.convert_to_tensor(values)
    if len(jacobian.shape) != 2:
        raise ValueError(
            f"A Jacobian has a row a task, (rows, size); got shape {tuple(jacobian.shape)}."
        )
    return jacobian


class GramBalancer(Balancer):
    """A method that needs only the Gram matrix `G = J J^T` of the task gradients, the rows of `J`.

    The trainer takes one backward pass a task, over the shared variables, and combines the gradients with the weights
    that come back. A subclass writes `solve`. `weights` and `aggregate` work without any model; where a method has a
    state, they move it as a training step does.

    Args:
        gradients: "parameters" for the exact gradients of all shared variables (one backward pass a task), or
            "representation" for gradients at the tensors that the heads share (one backward pass through the backbone).
            The latter are flattened with the batch; the weights are then those of an upper bound (MGDA-UB), and for
            several shared tensors the inner products are summed.
        every: int. Weights are computed anew every so many steps; the steps between cost one backward pass.
        two_pass: bool or int. Let the task gradients go once their inner products are known, and take one more, weighted
            backward pass. A number n > 1 makes them in n groups of variables, one after the other: about 1/n of the
            memory for gradients, for up to n times the backward passes.
        scale_heads: bool or None. Whether a task's own head gets its gradient times the task's weight (True), or as it is
            (False). None takes the method's default, which is what its authors' code does.

    Raises:
        ValueError: a setting that does not exist.
    """

    needs = "gram"

    def __init__(
        self,
        gradients: str = "parameters",
        every: int = 1,
        two_pass: bool | int = False,
        scale_heads: bool | None = None,
    ):
        super().__init__()
        require(
            self,
            gradients in ("parameters", "representation"),
            "gradients",
            "'parameters' or 'representation'",
            gradients,
        )
        self.gradients, self.every = gradients, whole_number(self, "every", every, 1)
        is_flag = isinstance(two_pass, (bool, np.bool_))
        self.two_pass = bool(two_pass) if is_flag else whole_number(self, "two_pass", two_pass)
        is_choice = scale_heads is None or isinstance(scale_heads, (bool, np.bool_))
        require(self, is_choice, "scale_heads", "True, False or None", scale_heads)
        if scale_heads is not None:
            self.scales_heads = bool(scale_heads)

    def solve(self, gram, present):
        """Weights `(tasks,)` from the Gram matrix; both float64. Absent tasks' rows and columns are 0.

        Args:
            gram: `(tasks, tasks)`.
            present: bool `(tasks,)`.
        """
        raise NotImplementedError

    #: Relative rounding of the gradients' numbers: float32 in training, or that of what is given by hand.
    rounding = 2.0**-23

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
            raise ValueError(
                f"A Gram matrix is square, (rows, rows); got shape {tuple(gram.shape)}."
            )
        build_for_rows(self, gram.shape[0])
        rounding = self.rounding
        if keras.backend.standardize_dtype(gram.dtype) == "float64":
            self.rounding = 2.0**-52
        try:
            return self.weigh(None, ops.ones((gram.shape[0],), "bool"), gram)
        finally:
            # In training the gradients are those of float32, whatever was asked by hand between two steps.
            self.rounding = rounding

    def aggregate(self, jacobian: Any):
        """The combined gradient `(size,)` of the rows of a Jacobian `(rows, size)`, without a model.

        Example:
            >>> mtl.balancing.get("upgrad").aggregate([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
        """
        jacobian = jacobian_of(jacobian)
        weights = self.weights(ops.matmul(jacobian, ops.transpose(jacobian)))
        return ops.matmul(weights, jacobian)

    def get_config(self):
        return {
            "gradients": self.gradients,
            "every": self.every,
            "two_pass": self.two_pass,
            "scale_heads": self.scales_heads,
        }


def count(present):
    """How many tasks are there, at least 1, in float64."""
    return ops.maximum(ops.sum(ops.cast(present, "float64")), 1.0)
