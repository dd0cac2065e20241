"""Silence for the talkative parts of TensorFlow."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

__all__ = ["mute_native_code", "quiet"]

_LOGGERS = ("absl", "tensorflow")
#: TensorFlow's converter uses its own old interpreter, and says on every use that it is old.
_DEPRECATED = r"\s*Warning: tf\.lite\.Interpreter is deprecated"

_lock = threading.Lock()
_depth = 0
_levels: dict[str, int] = {}
_filter: tuple[Any, ...] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's Python loggers from talking, and its converter from warning of its own
    interpreter.

    Blocks may be nested and may run in several threads: the first one that begins sets the levels,
    and the last one that ends sets them back. Nothing is done to the process's files: what
    TensorFlow's C++ part writes to standard error is for whoever starts the program to decide
    (`TF_CPP_MIN_LOG_LEVEL=3` before the first import; `mute_native_code` in our commands). Errors
    are raised as ever.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _filter
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            _levels[name] = logger.level
            logger.setLevel(max(logger.level, logging.ERROR))
        warnings.filterwarnings("ignore", _DEPRECATED, UserWarning)
        _filter = warnings.filters[0]


def _leave() -> None:
    global _depth, _filter
    with _lock:
        _depth -= 1
        if _depth:
            return
        for name, level in _levels.items():
            logging.getLogger(name).setLevel(level)
        # Only our own entry goes: what another thread has set since stays.
        with contextlib.suppress(ValueError):
            cast("list[Any]", warnings.filters).remove(_filter)
        _filter = None


def mute_native_code() -> None:
    """Give the process's descriptor 2 to nobody, and keep Python's own standard error where it was.

    For the start of a program, before any thread and before TensorFlow: its C++ part writes its
    start-up lines past Python. Errors, warnings and tracebacks still appear, and so does Python's
    report of a crash in C++. Does nothing where somebody has already replaced `sys.stderr`, where
    there is none, and under `MTL_KERAS_DEBUG`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get("MTL_KERAS_DEBUG") or sys.stderr is None or sys.stderr is not sys.__stderr__:
        return
    try:
        if sys.stderr.fileno() != 2:  # type: ignore[union-attr]
            return
        sys.stderr.flush()  # type: ignore[union-attr]
        visible = os.dup(2)
    except OSError:
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    encoding = sys.stderr.encoding  # type: ignore[union-attr]
    sys.stderr = open(visible, "w", 1, encoding, "backslashreplace")  # noqa: SIM115
    faulthandler.enable(sys.stderr)
