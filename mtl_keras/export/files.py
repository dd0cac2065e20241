"""Files that are whole or not there: written beside their place, checked, then moved into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ExportError", "beside", "check_writable"]


class ExportError(RuntimeError):
    """A model that can't be exported, or a file that is not what the model is.

    Attributes:
        tasks: list of str. The heads that it is about, where it is about some.
    """

    def __init__(self, message: str, tasks: Sequence[str] = ()):
        super().__init__(message)
        self.tasks = list(tasks)


@contextmanager
def beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path next to `path`; what is there when the block ends well takes `path`'s place.

    Works for files and for folders. What was at `path` stays until then, and stays for good if the block raises.

    Raises:
        ExportError: the folder can't be written to.
    """
    path = Path(path)
    work = _work_folder(path)
    try:
        fresh = work / path.name
        yield fresh
        if path.is_dir() and not path.is_symlink():
            os.replace(path, work / "old")
        os.replace(fresh, path)
    except OSError as error:
        raise ExportError(
            f"{path} could not be written: {error.strerror or error}. What was there before is unchanged."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `ExportError` now if `path` could not be written later, after hours of training."""
    _work_folder(Path(path)).rmdir()


def _work_folder(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ExportError(
            f"{path} can't be written: {error.strerror or error}. Choose a folder that you may write to."
        ) from None
