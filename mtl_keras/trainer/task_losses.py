"""The logged losses: of each task over its labels, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["TaskLosses"]


class TaskLosses(keras.metrics.Metric):
    """Every task's loss, averaged over the labels that were seen, and the weighted sum of these
    means.

    A batch without any label of a task moves neither that task's mean nor the sum: which rows came
    together in a batch does not matter. Regularization and what layers add are averaged over rows.

    `result()` is the sum, under the weights that each batch was trained with. It is NaN where
    neither a label nor an added loss was seen.

    Args:
        task_names: list of str, in the order of the losses.
        name: str. Defaults to "loss".
    """

    def __init__(self, task_names: Sequence[str], name: str = "loss") -> None:
        super().__init__(name=name)
        size = (len(task_names),)
        self._sums = self.add_variable(size, "zeros", name="sums")
        self._weighted_sums = self.add_variable(size, "zeros", name="weighted_sums")
        self._counts = self.add_variable(size, "zeros", name="counts")
        self._added = self.add_variable((), "zeros", name="added")
        self._rows = self.add_variable((), "zeros", name="rows")
        self._has_added = False
        self._task_names = list(task_names)

    def update_state(
        self, losses: Any, weighted_losses: Any, counts: Any, added: Any = None, rows: Any = 0
    ) -> None:
        """Take in a batch.

        Args:
            losses: `(tasks,)`, each the mean over the batch's labels.
            weighted_losses: the same times the loss weights.
            counts: `(tasks,)`. How many labels each mean is over; 0 for a task that has none.
            added: scalar, what is added to the tasks' losses, or None.
            rows: scalar, rows of the batch.
        """
        self._sums.assign_add(losses * counts)
        self._weighted_sums.assign_add(weighted_losses * counts)
        self._counts.assign_add(counts)
        if added is not None:
            self._has_added = True
            self._added.assign_add(added * rows)
            self._rows.assign_add(rows)

    def result(self) -> Any:
        total = ops.sum(ops.divide_no_nan(self._weighted_sums.value, self._counts.value))
        anything = ops.any(self._counts.value > 0)
        if self._has_added:
            total = total + ops.divide_no_nan(self._added.value, self._rows.value)
            anything = ops.logical_or(anything, self._rows.value > 0)
        return ops.where(anything, total, float("nan"))

    def means(self) -> Any:
        """`(tasks,)`: each task's mean, NaN where no label was seen."""
        counts = self._counts.value
        return ops.where(counts > 0, ops.divide_no_nan(self._sums.value, counts), float("nan"))

    def is_seen(self) -> Any:
        """Bool `(tasks,)`: whether a label was seen."""
        return self._counts.value > 0

    def by_task(self) -> list[keras.metrics.Metric]:
        """Metrics `<task>_loss`, each of which reads one task's mean."""
        return [
            _TaskLoss(
                f"{task}_loss",
                lambda index=index: self.means()[index],  # type: ignore[misc]
            )
            for index, task in enumerate(self._task_names)
        ]


class _TaskLoss(keras.metrics.Metric):
    """One task's mean. It has no state of its own: `TaskLosses` is updated for all tasks at
    once."""

    def __init__(self, name: str, read: Callable[[], Any]) -> None:
        super().__init__(name=name)
        self._read = read

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        pass

    def result(self) -> Any:
        return self._read()
