"""The best epoch of a training, kept on disk, so that a killed training goes on where it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from mtl_keras.runtime.files import atomic_write

__all__ = ["BestEpoch"]


class BestEpoch(keras.callbacks.Callback):
    """Keep the best epoch's network, stop when it is long ago, and go on after a kill.

    After each epoch the network is saved with its optimizer and balancer; the folder holds the
    newest and the best one. Files are written beside and renamed, and `state.json`, which names
    them, comes last: a kill at any moment leaves a folder that can be gone on from.

    Args:
        folder: where networks and `state.json` are kept.
        monitor: str. What is compared. Defaults to "val_loss", the sum over all tasks.
        direction: "min" or "max". Defaults to "min".
        patience: int >= 1. Epochs without a better one after which training stops. Defaults to 10.

    Raises:
        ValueError: a direction that is neither; logs without `monitor`; no epoch in which it was a
            number.

    Examples:
        >>> keeper = mtl.runs.BestEpoch("kept", patience=3)
        >>> logs = model.fit(train, validation_data=validation, epochs=2, verbose=0, callbacks=[keeper])
        >>> model = keeper.best_model()
        >>> resumed = mtl.runs.BestEpoch("kept")
        >>> resumed.epochs
        2
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        monitor: str = "val_loss",
        direction: str = "min",
        patience: int = 10,
    ) -> None:
        super().__init__()
        if direction not in ("min", "max"):
            raise ValueError(f"`direction` should be 'min' or 'max'. Received: {direction!r}.")
        self.folder, self.monitor = Path(folder), str(monitor)
        self.direction, self.patience = direction, int(patience)
        self._state = self._read()

    def _read(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        if path.is_file():
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return state
        return {"history": {}, "epochs": 0, "best": None, "best_epoch": None, "is_done": False}

    # ------------------------------------------------------------------ what is there
    @property
    def epochs(self) -> int:
        """Epochs that were trained so far."""
        return int(self._state["epochs"])

    @property
    def best_epoch(self) -> int | None:
        """Number of the best epoch, from 1; None before the first."""
        best = self._state["best_epoch"]
        return None if best is None else int(best)

    @property
    def is_done(self) -> bool:
        """Whether training has ended, and was not just interrupted."""
        return bool(self._state["is_done"]) or (self.epochs > 0 and self._waited() >= self.patience)

    @property
    def history(self) -> dict[str, list[float]]:
        """Logged values by name, one per epoch, over all parts of a training that was resumed."""
        return {name: list(values) for name, values in self._state["history"].items()}

    def newest_model(self) -> Any:
        """The network after the last epoch, to go on with.

        Raises:
            ValueError: no epoch was trained.
        """
        return self._load(self.epochs or None)

    def best_model(self) -> Any:
        """The best epoch's network.

        Raises:
            ValueError: no epoch was trained, or `monitor` was never a number.
        """
        return self._load(self.best_epoch)

    def _load(self, epoch: int | None) -> Any:
        if epoch is None:
            raise ValueError(
                f"{self.folder} holds no network: no epoch was trained in which "
                f"'{self.monitor}' was a number."
            )
        return keras.saving.load_model(self._file(epoch))

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch}.keras"

    # ------------------------------------------------------------------ called by Keras
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = dict(logs or {})
        if self.monitor not in logs:
            raise ValueError(
                f"The logs have no '{self.monitor}': give `validation_data`. They have: "
                f"{', '.join(logs)}."
            )
        state, number = self._state, epoch + 1
        for name in {*state["history"], *logs}:
            # A value that began to be logged later has none in the epochs before.
            values = state["history"].setdefault(name, [math.nan] * epoch)
            values.append(float(logs.get(name, math.nan)))
        value = float(logs[self.monitor])
        state["epochs"] = number
        if self._is_better(value):
            state["best"], state["best_epoch"] = value, number
        with atomic_write(self._file(number)) as fresh:
            self.model.save(fresh)
        if self._waited() >= self.patience:
            self.model.stop_training = True
        self._write()
        self._clear()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        # An interrupt from the keyboard ends training without this call.
        self._state["is_done"] = True
        self._write()

    def _is_better(self, value: float) -> bool:
        best = self._state["best"]
        if not math.isfinite(value):
            return False
        return best is None or (value < best if self.direction == "min" else value > best)

    def _waited(self) -> int:
        return int(self._state["epochs"] - (self._state["best_epoch"] or 0))

    def _write(self) -> None:
        with atomic_write(self.folder / "state.json") as fresh:
            fresh.write_text(json.dumps(self._state), encoding="utf-8")

    def _clear(self) -> None:
        """Remove networks that are neither the newest nor the best."""
        needed = {self._file(number) for number in (self.epochs, self.best_epoch) if number}
        for path in self.folder.glob("epoch_*.keras"):
            if path not in needed:
                path.unlink()
