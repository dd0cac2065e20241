"""What all methods share that weigh tasks by the inner products of their gradients."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, require
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["GramBalancer", "build_for_rows", "count", "jacobian_of"]


def build_for_rows(balancer: Balancer, rows: int) -> bool:
    """Make a balancer's state for the rows of a matrix given by hand; whether that was needed.

    Raises:
        ValueError: it holds the state of a model's tasks, and the matrix has another number of
            rows.
    """
    if len(balancer.task_names) == rows:
        return False
    names = balancer.task_names
    if names and names != [f"row{i}" for i in range(len(names))]:
        raise ValueError(
            f"Balancer '{balancer.name}' holds the state of the tasks {', '.join(names)}, and the "
            f"matrix has {rows} rows. "
            f"Take a new one: `mtl.balancing.get('{balancer.name}')`."
        )
    balancer.build([f"row{i}" for i in range(rows)])
    return True


def jacobian_of(values: Any) -> Tensor:
    """A float tensor of shape `(rows, size)`, or a ValueError."""
    jacobian = ops.convert_to_tensor(values)
    if len(jacobian.shape) != 2:
        raise ValueError(
            f"A Jacobian has one row per task, (rows, size); got shape {tuple(jacobian.shape)}."
        )
    return jacobian


class GramBalancer(Balancer):
    """A method that needs only the Gram matrix `G = J J^T` of the task gradients, the rows of `J`.

    The trainer takes one backward pass per task, over the shared variables, and combines the
    gradients with the weights that come back. A subclass writes `solve`. `weights` and `aggregate`
    work without any model; where a method has a state, they move it as a training step does.

    Args:
        gradients: "parameters" for the exact gradients of all shared variables (one backward pass
            per task), or "representation" for gradients at the tensors that the heads share (one
            backward pass through the backbone). The latter are flattened with the batch; the
            weights are then those of an upper bound (MGDA-UB), and for several shared tensors the
            inner products are summed.
        update_every: int. Weights are computed anew every so many steps; the steps between cost one
            backward pass.
        gradient_groups: int. With n >= 1 the task gradients are made in n groups of variables, one
            after the other, and let go once their inner products are known; one more, weighted
            backward pass follows. It takes about 1/n of the memory for gradients, for up to n times
            the backward passes. Defaults to 0: all are kept until they are combined.
        scale_heads: bool or None. Whether a task's own head gets its gradient times the task's
            weight (True), or as it is (False). None takes the method's default, which is what its
            authors' code does.

    Raises:
        ValueError: a setting that does not exist.
    """

    strategy = "gram"

    def __init__(
        self,
        gradients: str = "parameters",
        update_every: int = 1,
        gradient_groups: int = 0,
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
        self.gradients = gradients
        self.update_every = whole_number(self, "update_every", update_every, 1)
        self.gradient_groups = whole_number(self, "gradient_groups", gradient_groups)
        is_choice = scale_heads is None or isinstance(scale_heads, (bool, np.bool_))
        require(self, is_choice, "scale_heads", "True, False or None", scale_heads)
        if scale_heads is not None:
            self.scales_heads = bool(scale_heads)

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        """Weights `(tasks,)` from the Gram matrix; both float64. Absent tasks' rows and columns are
        0.

        Args:
            gram: `(tasks, tasks)`.
            present: bool `(tasks,)`.
        """
        raise NotImplementedError

    #: Relative rounding of the gradients' numbers: float32 in training, or that of what is given by
    #: hand.
    rounding = 2.0**-23

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        weights = self.solve(self.masked(gram, present), present)
        weights = ops.where(present, weights, ops.zeros_like(weights))
        return ops.cast(weights, ops.convert_to_tensor(gram).dtype)

    def masked(self, gram: Tensor, present: Tensor) -> Tensor:
        """The Gram matrix in float64; absent tasks' rows and columns are 0."""
        both = ops.logical_and(present[:, None], present[None, :])
        return ops.where(both, ops.cast(gram, "float64"), ops.zeros(gram.shape, "float64"))

    def weights(self, gram: Any) -> Tensor:
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
            present = ops.ones((gram.shape[0],), "bool")
            weights = self.weigh(None, present, gram)
            self.update(None, present, 0.0, gram, weights)
            return weights
        finally:
            # In training the gradients are those of float32, whatever was asked by hand between two
            # steps.
            self.rounding = rounding

    def aggregate(self, jacobian: Any) -> Tensor:
        """The combined gradient `(size,)` of the rows of a Jacobian `(rows, size)`, without a
        model.

        Examples:
            >>> mtl.balancing.get("upgrad").aggregate([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
        """
        jacobian = jacobian_of(jacobian)
        weights = self.weights(ops.matmul(jacobian, ops.transpose(jacobian)))
        return ops.matmul(weights, jacobian)

    def get_config(self) -> Config:
        return {
            "gradients": self.gradients,
            "update_every": self.update_every,
            "gradient_groups": self.gradient_groups,
            "scale_heads": self.scales_heads,
        }


def count(present: Tensor) -> Tensor:
    """How many tasks are present, at least 1, in float64."""
    return ops.maximum(ops.sum(ops.cast(present, "float64")), 1.0)
