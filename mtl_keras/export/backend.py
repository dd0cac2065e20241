"""What export needs of the process it runs in: Keras on TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import keras

__all__ = ["needs_tensorflow"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def needs_tensorflow(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function of `mtl.export` that refuses to run, in one sentence, where Keras runs on another
    backend."""

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        backend = keras.backend.backend()
        if backend != "tensorflow":
            raise NotImplementedError(
                f"`mtl.export.{function.__name__}` needs Keras on TensorFlow, and this process "
                f"runs it on '{backend}': "
                'save the model here (`model.save("model.keras")`), and load and export it in a '
                "process with "
                "KERAS_BACKEND=tensorflow; `.keras` files are the same on every backend, and "
                "`TFLiteModel`, `benchmark` and "
                "`snippets` work on exported files everywhere."
            )
        return function(*args, **kwargs)

    return checked
