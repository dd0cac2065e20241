"""What the methods share that work on the gradients themselves, number by number or with a state of
their size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.gram import build_for_rows, jacobian_of
from mtl_keras.balancing.types import Tensor

__all__ = ["GradientBalancer"]


class GradientBalancer(Balancer):
    """A method for which the inner products of the gradients are not enough.

    It sees the task gradients one shared variable at a time, as rows `(tasks, size)`; no flattened
    copy of all variables is made. The trainer calls, for every variable, `transform`, then
    `measure`, whose results are summed over the variables and given to `weigh`, and at last
    `combine`. All of them are pure; `update` sees the transformed rows.

    At the representation it sees the gradients of what the heads share instead, through
    `measure_representation`, whose results are summed over the batch and the replicas, and
    `combine_representation`.
    """

    strategy = "gradients"

    def build(self, tasks: Sequence[Any], losses: Mapping[str, Any] | None = None) -> None:
        super().build(tasks, losses)
        #: Shapes of the variables that `build_rows` was called for, by key.
        self.row_shapes: dict[str, tuple[int, ...]] = {}

    def build_rows(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Make state of the size of the gradients, once their shapes are known.

        Args:
            shapes: of the shared variables, or of the representation's tensors, by the keys that
                the other methods get.
        """
        self.row_shapes = dict(shapes)
        self.build_row_state(shapes)

    def build_row_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Make the state of the variables with `add_rows` or `add_state`."""

    def row_scale(self, losses: Tensor, present: Tensor) -> Tensor:
        """What each task's gradient is multiplied with first, `(tasks,)`: what turns losses into
        other functions of them."""
        return ops.ones_like(losses)

    def transform(self, rows: Tensor, key: str, present: Tensor) -> Tensor:
        """The rows to go on with; 0 for absent tasks."""
        return rows

    def measure(self, rows: Tensor, key: str, present: Tensor) -> Tensor | None:
        """`(tasks,)` or `(tasks, tasks)`, summed over all variables; None where nothing is
        needed."""
        return None

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return ops.ones(present.shape, "float32")

    def combine(self, rows: Tensor, weights: Tensor, key: str, present: Tensor) -> Tensor:
        """The update `(size,)` of one variable."""
        return ops.matmul(weights, rows)

    def measure_representation(self, rows: Tensor, activations: Tensor) -> Tensor:
        """What `combine_representation` needs to know of all rows of the batch: a tensor that is
        summed over the replicas.

        Args:
            rows: `(tasks, batch, ...)`, the gradients of one shared tensor.
            activations: `(batch, ...)`, the tensor's values.
        """
        raise NotImplementedError(f"Balancer '{self.name}' does not work at the representation.")

    def combine_representation(
        self, rows: Tensor, measured: Tensor, key: str, present: Tensor
    ) -> Tensor:
        """The gradient `(batch, ...)` that goes on from the shared tensor."""
        raise NotImplementedError(f"Balancer '{self.name}' does not work at the representation.")

    def aggregate(self, jacobian: Any, losses: Any = None) -> Tensor:
        """The combined gradient `(size,)` of the rows of a Jacobian `(rows, size)`, without a
        model.

        Where a method has a state, this moves it as a training step does.

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
        measured = self.measure(rows, "jacobian", present)
        weights, _ = self.weigh_all(losses, present, measured)
        combined = self.combine(rows, weights, "jacobian", present)
        self.update(losses, present, 0.0, measured, weights, {"jacobian": rows})
        return combined

    def add_rows(self, name: str, key: str, shape: tuple[int, ...]) -> keras.Variable:
        """State of one variable's rows, `(tasks, size)`, zeros at first."""
        return self.add_state(
            f"{name}.{key.replace('/', '.')}",
            np.zeros((len(self.task_names), math.prod(shape)), "float32"),
        )
