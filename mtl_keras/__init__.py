"""mtl_keras: multi-task learning for Keras 3, from a builder call to a checked file for the phone.

import keras, mtl_keras as mtl

tasks = [mtl.tasks.Classification("digit", num_classes=10, loss_weight=0.7),
         mtl.tasks.BoundingBox("box", loss_weight=0.3)]
model = mtl.builders.hard_sharing(inputs=(32, 32, 3), backbone="small_cnn", tasks=tasks)
model.compile("adam", balancer="uncertainty")
model.fit(images, {"digit": digits, "box": boxes})
mtl.export.tflite(model, "model.tflite", quantization="int8", calibration=images)
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from mtl_keras.version import __version__

__all__ = [
    "MultiTaskModel",
    "__version__",
    "analysis",
    "backbones",
    "balancing",
    "builders",
    "callbacks",
    "data",
    "export",
    "layers",
    "tasks",
    "training",
    "zoo",
]

# Where each public name lives. Rooms that a saved model may need are imported at once, so that
# `keras.saving.load_model` knows our classes after `import mtl_keras`; the others when they are first used.
_AT_ONCE = {"tasks": "tasks", "layers": "layers", "balancing": "balancing", "backbones": "backbones", "builders": "builders"}
_LATER = {
    "analysis": "analysis",
    "callbacks": "training.callbacks",
    "data": "data",
    "export": "export",
    "training": "training",
    "zoo": "zoo",
}


def __getattr__(name: str) -> Any:
    if name == "MultiTaskModel":
        return importlib.import_module("mtl_keras.model").MultiTaskModel
    module = {**_AT_ONCE, **_LATER}.get(name)
    if module is None:
        raise AttributeError(f"module 'mtl_keras' has no attribute {name!r}")
    return importlib.import_module(f"mtl_keras.{module}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _is_command_line() -> bool:
    """Whether the command `mtl-keras` is starting, which answers `--help` without waiting for TensorFlow."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    return Path(program).stem in ("mtl-keras", "mtl-keras-script") or (program == "-m" and "mtl_keras" in sys.orig_argv)


def _keras_is_here() -> bool:
    """Whether Keras can be imported: where it is missing, exported files can still be run (`mtl_keras.export.TFLiteModel`)."""
    try:
        return importlib.util.find_spec("keras") is not None
    except ImportError:
        return False


if not _is_command_line() and _keras_is_here():
    for _room in _AT_ONCE.values():
        importlib.import_module(f"mtl_keras.{_room}")
    del _room
