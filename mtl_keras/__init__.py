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
    "runtime",
    "tasks",
    "training",
    "zoo",
]

# Where each public name lives. Rooms that a saved model may need are imported at once, so that
# `keras.saving.load_model` knows our classes after `import mtl_keras`; the others when they are first used.
_AT_ONCE = {
    "tasks": "tasks",
    "layers": "layers",
    "balancing": "balancing",
    "backbones": "backbones",
    "builders": "builders",
}
_LATER = {
    "analysis": "analysis",
    "callbacks": "callbacks",
    "data": "data",
    "export": "export",
    "runtime": "runtime",
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
    """Whether the command `mtl-keras` is starting, which answers `--help` without waiting for TensorFlow.

    Its commands call `_register_classes` themselves (`mtl_keras.cli.app.command`). A script of somebody else's, whatever its
    name, is no command of ours.
    """
    program = Path(sys.argv[0] if getattr(sys, "argv", None) else "").name
    return program in _PROGRAMS or (program == "-m" and "mtl_keras" in sys.orig_argv)


#: What installers call the program: plain, on Windows, and by old ones there.
_PROGRAMS = ("mtl-keras", "mtl-keras.exe", "mtl-keras-script.py")


#: Set while a command runs that needs no Keras, though it may be installed.
_spares_keras = False


def _uses_keras() -> bool:
    """Whether to import what needs Keras. Where it is missing, exported files still run (`mtl_keras.export.TFLiteModel`)."""
    if _spares_keras:
        return False
    try:
        return importlib.util.find_spec("keras") is not None
    except ImportError:
        return False


def _register_classes() -> None:
    """Import the rooms whose classes stand in saved models, where there is Keras: `load_model` knows them from then on."""
    global _spares_keras
    _spares_keras = False
    if _uses_keras():
        for room in _AT_ONCE.values():
            importlib.import_module(f"mtl_keras.{room}")


def _open_checkout() -> None:
    """In a checkout that is not installed, two rooms stand beside the package instead of in it (setup.cfg, `package_dir`)."""
    package = Path(__file__).parent
    beside = package.parent
    is_ours = (beside / "setup.cfg").is_file() and (
        beside / "saved_models" / "__init__.py"
    ).is_file()
    if not (package / "zoo").is_dir() and is_ours and (beside / "zoo" / "shelf.py").is_file():
        __path__.append(str(beside))


_open_checkout()
if _is_command_line():
    _spares_keras = True
else:
    _register_classes()
