"""What the methods share that work on the gradients themselves, number by number or with a state of their size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.gram import build_for_rows, jacobian_of

__all__ = ["GradientBalancer"]


class GradientBalancer(Balancer):
    """A method for which the inner products of the gradients are not enough.

    It sees the task gradients one shared variable at a time, as rows `(tasks, size)`; no flattened copy of all variables
    is made. The trainer calls, for every variable, `transform` (which may move a state of the rows' size), then `measure`,
    whose results are summed over the variables and given to `weigh`, and at last `combine`.
    """

    needs = "gradients"

    def build_rows(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Make state of the size of the gradients, for shared variables of these paths and shapes."""

    def row_scale(self, losses, present):
        """What each task's gradient is multiplied with first, `(tasks,)`: what turns losses into other functions of them."""
        return ops.ones_like(losses)

    def transform(self, rows, key: str, present):
        """The rows to go on with. State of absent tasks must stay as it is."""
        return rows

    def measure(self, rows, key: str, present):
        """`(tasks,)` or `(tasks, tasks)`, summed over all variables; None where nothing is needed."""
        return

    def weigh(self, losses, present, gram=None):
        return ops.ones(present.shape, "float32")

    def combine(self, rows, weights, key: str, present):
        """The update `(size,)` of one variable."""
        return ops.matmul(weights, rows)

    def aggregate(self, jacobian: Any, losses: Any = None):
        """The combined gradient `(size,)` of the rows of a Jacobian `(rows, size)`, without a model.

        Args:
            jacobian: `(rows, size)`.
            losses: `(rows,)`, for methods that look at them. Defaults to ones.
        """
        jacobian = ops.cast(jacobian_of(jacobian), "float32")
        tasks, size = jacobian.shape
        if build_for_rows(self, tasks):
            self.build_rows({"jacobian": (size,)})
        losses = ops.ones((tasks,)) if losses is None else ops.cast(losses, "float32")
        present = ops.ones((tasks,), "bool")
        rows = self.transform(
            jacobian * self.row_scale(losses, present)[:, None], "jacobian", present
        )
        weights, _ = self.weigh_all(losses, present, self.measure(rows, "jacobian", present))
        return self.combine(rows, weights, "jacobian", present)

    def add_rows(self, name: str, key: str, shape: tuple[int, ...]):
        """State of one variable's rows, `(tasks, size)`, zeros at first."""
        return self.add_state(
            f"{name}.{key.replace('/', '.')}",
            np.zeros((len(self.task_names), math.prod(shape)), "float32"),
        )
