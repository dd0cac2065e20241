"""The folder of a run: whose it is, and what of it is finished."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_keras.runtime.files import MARK, ExportError, atomic_write

__all__ = ["RunFolder"]

#: What a run writes. Nothing else in its folder is ever touched.
_FILES = (
    "history.json",
    "metrics.json",
    "model.keras",
    "report.md",
    "settings.json",
    "split.json",
)
_FOLDERS = (".work", "pictures")


class RunFolder:
    """The folder of a run.

    `settings.json` is written first and `metrics.json` last: a folder with the first alone is a run
    that was stopped, and can be gone on with.

    Args:
        path: the folder.
        settings: what the run is made of; a run that goes on has the same.
        resume: bool. Go on with a run that was stopped.
        overwrite: bool. Replace the files of an earlier run.

    Raises:
        ExportError: the folder holds a run and neither `resume` nor `overwrite` is True; it holds
            files of somebody else's; there is nothing to go on with; or the settings differ.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if resume and overwrite:
            raise ValueError("`resume` and `overwrite` exclude each other: give one of them.")
        if self.path.exists() and not self.path.is_dir():
            raise ExportError(f"{self.path} is a file: name another folder for the run.")
        if resume:
            self._check_settings(settings)
            return
        self._clear(overwrite)
        self.write_json("settings.json", {"written_by": MARK, **settings})

    @property
    def work(self) -> Path:
        """Where the state of a training is kept until it is finished."""
        return self.path / ".work"

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of this folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text, whole or not at all."""
        with atomic_write(self.path / name) as fresh:
            fresh.write_text(text, encoding="utf-8")

    def clear_work(self) -> None:
        """Remove what only a run that goes on needs."""
        shutil.rmtree(self.work, ignore_errors=True)

    # ------------------------------------------------------------------ checks
    def _is_run(self) -> bool:
        try:
            return bool(self.read_json("settings.json").get("written_by") == MARK)
        except (OSError, ValueError, AttributeError):
            return False

    def _clear(self, overwrite: bool) -> None:
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not self._is_run():
            names = ", ".join(sorted(entry.name for entry in self.path.iterdir())[:3])
            raise ExportError(
                f"{self.path} holds files that no run of mtl_keras wrote there ({names}), and is "
                f"left as it is: name a new folder."
            )
        if not overwrite:
            state = "a finished run" if self.is_finished else "a run that was stopped"
            raise ExportError(
                f"{self.path} holds {state}. Go on with it (resume, --resume), replace it "
                f"(overwrite, --overwrite), or name a new folder."
            )
        # The mark goes last: what is half removed is still a run's.
        for name in (*_FILES, *(file.name for file in self.path.glob("model*.tflite"))):
            if name != "settings.json":
                (self.path / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        if not self._is_run():
            raise ExportError(f"{self.path} holds no run to go on with.")
        stored = self.read_json("settings.json")
        plain = json.loads(json.dumps(dict(settings)))
        different = [key for key in plain if stored.get(key) != plain[key]]
        if different:
            was = ", ".join(f"{key}={stored.get(key)!r} (now {plain[key]!r})" for key in different)
            raise ExportError(
                f"The run in {self.path} has other settings: {was}. Go on with the same ones, or "
                f"name a new folder."
            )
