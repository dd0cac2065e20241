"""Files that are written completely or not at all: to a temporary path first, then renamed."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: nothing is cleared up after a process that was killed.
    fcntl = None  # type: ignore[assignment]

__all__ = ["MARK", "ExportError", "atomic_write", "check_file", "check_folder", "check_writable"]

#: Stands in every text that this library writes beside a network; a file without it is somebody
#: else's.
MARK = "Written by mtl_keras"


class ExportError(RuntimeError):
    """A model that can't be exported, or a file that differs from its model.

    Attributes:
        tasks: list of str. The heads concerned; may be empty.
    """

    def __init__(self, message: str, tasks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tasks = list(tasks)


def check_file(path: str | os.PathLike[str], *, text: bool = False) -> None:
    """Refuse to write a file where a folder stands, or, for `text`, where a file stands that this
    library did not write.

    Args:
        path: the file to write.
        text: whether it is a text that carries `MARK`. A `.tflite` file is named by the user, and
            replaced as `save` does; names of texts are made from it, and may be those of a user's
            own program.

    Raises:
        ExportError: says what is there.
    """
    path = Path(path)
    if path.is_dir():
        raise ExportError(
            f"{path} is a folder, and is left as it is: choose another name for the file."
        )
    if text and path.is_file():
        with path.open("rb") as file:
            if MARK.encode() not in file.read(4096):
                raise ExportError(
                    f"{path} is there already, and mtl_keras did not write it: move it, or name "
                    f"another folder (`folder=`)."
                )


def check_folder(path: str | os.PathLike[str], foreign: Callable[[Path], Sequence[str]]) -> None:
    """Refuse to replace a folder that holds anything but an earlier export.

    Args:
        path: the folder to write.
        foreign: of a folder that is there, the names in it that no earlier export wrote.

    Raises:
        ExportError: names what would be lost.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ExportError(
            f"{path} is a file, and is left as it is: choose another name for the folder."
        )
    if not path.is_dir() or not any(path.iterdir()):
        return
    names = list(foreign(path))
    if names:
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ExportError(
            f"{path} holds what no earlier export of mtl_keras wrote there ({some}), and is left "
            f"as it is: choose a new "
            f"folder, such as {path / 'model'}."
        )


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or folder through a temporary path, which replaces `path` when the block ends
    without an error.

    The old content of `path` stays until then, and stays if the block raises. The next call for the
    same path removes what a killed process left behind.

    Raises:
        ExportError: the folder can't be written to.
    """
    path = Path(path)
    target = path.resolve() if path.is_symlink() else path
    work, lock = _work_folder(target)
    try:
        fresh = work / target.name
        yield fresh
        if target.is_dir():
            os.replace(target, work / _old(target))
        os.replace(fresh, target)
    except OSError as error:
        raise ExportError(
            f"{path} could not be written: {error.strerror or error}. What was there before is "
            f"unchanged."
        ) from error
    finally:
        _restore(work, target)
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            lock.close()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `ExportError` now if `path` could not be written later, after hours of training."""
    work, lock = _work_folder(Path(path))
    shutil.rmtree(work, ignore_errors=True)
    if lock is not None:
        lock.close()


def _old(path: Path) -> str:
    return f"{path.name}.old"


def _lock(path: Path) -> str:
    """In a work folder: the file that its process holds a lock on, for as long as it lives."""
    return f"{path.name}.lock"


def _restore(work: Path, path: Path) -> None:
    """A folder that was moved aside goes back, where nothing took its place."""
    if (work / _old(path)).exists() and not path.exists():
        with suppress(OSError):
            os.replace(work / _old(path), path)


def _work_folder(path: Path) -> tuple[Path, Any]:
    """A hidden folder next to `path`, and the open file by whose lock others see that its process
    lives."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_up(path)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        return work, _locked(work / _lock(path))
    except OSError as error:
        raise ExportError(
            f"{path} can't be written: {error.strerror or error}. Choose a folder that you may "
            f"write to."
        ) from None


def _locked(path: Path) -> Any:
    if fcntl is None:
        return None
    fresh = path.with_name(f"{path.name}.new")
    lock = fresh.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks
        lock.close()
        return None
    # Renamed once it is locked: a lock file that can be locked by others belonged to a process that
    # is gone.
    os.replace(fresh, path)
    return lock


def _clear_up(path: Path) -> None:
    """Remove the work folders of processes that were killed; a folder that one of them had moved
    aside goes back."""
    if fcntl is None:
        return
    for work in path.parent.glob(f".{glob.escape(path.name)}-*"):
        with suppress(OSError), (work / _lock(path)).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _restore(work, path)
            shutil.rmtree(work, ignore_errors=True)
