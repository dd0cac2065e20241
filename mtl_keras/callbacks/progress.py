"""A progress bar with a line per epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import keras

__all__ = ["Progress"]


class Progress(keras.callbacks.Callback):
    """A progress bar, and a line per epoch with each task's first metric. Use with `verbose=0`.

    Args:
        label: str. What is being trained.
        console: `rich.console.Console`, or None for the standard one.

    Examples:
        >>> model.fit(train, epochs=5, verbose=0, callbacks=[mtl.callbacks.Progress("digits")])
    """

    def __init__(self, label: str = "training", console: Any = None) -> None:
        super().__init__()
        from rich.console import Console

        self.label, self.console = label, console or Console()
        self._bar: Any = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._bar.start()
        steps = self.params.get("steps")
        total = None if steps is None else steps * self.params["epochs"]
        self._job = self._bar.add_task(self.label, total=total)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._bar.advance(self._job)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        shown = []
        for task in getattr(self.model, "tasks", ()):
            names = [
                name
                for name in logs
                if name.startswith(f"{task.name}_") and name != f"{task.name}_loss"
            ]
            first = f"{task.name}_{task.new_metrics()[0].name}"
            name = first if first in logs else next(iter(names), f"{task.name}_loss")
            if name in logs:
                shown.append(
                    f"{name} {logs[name]:.3f}"
                    + (f" (val {logs['val_' + name]:.3f})" if "val_" + name in logs else "")
                )
        seconds = time.perf_counter() - self._started
        self.console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}  {seconds:.0f} s  loss "
            f"{logs.get('loss', float('nan')):.3f}  " + "  ".join(shown),
            highlight=False,
        )

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
