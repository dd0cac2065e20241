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
import sys
from pathlib import Path
from types import ModuleType
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
    "plot",
    "runs",
    "runtime",
    "tasks",
    "testing",
    "training",
    "zoo",
]

# === Public names, imported when they are first used (PEP 562) ===

_MODULES = {name for name in __all__ if name not in ("MultiTaskModel", "__version__")}


def __getattr__(name: str) -> Any:
    if name == "MultiTaskModel":
        return importlib.import_module("mtl_keras.model").MultiTaskModel
    if name not in _MODULES:
        raise AttributeError(f"module 'mtl_keras' has no attribute {name!r}")
    return importlib.import_module(f"mtl_keras.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)


# === Registration: `keras.saving.load_model` knows our classes after `import mtl_keras` ===

#: Packages whose classes stand in saved models.
_REGISTERED = ("tasks", "layers", "balancing", "backbones", "builders")
#: Parts of this package that never import Keras.
_WITHOUT_KERAS = ("cli", "data", "quiet", "runtime", "version", "zoo")


def _register_classes() -> None:
    """Import the packages whose classes stand in saved models."""
    for name in _REGISTERED:
        importlib.import_module(f"mtl_keras.{name}")


class _RegisterWithKeras:
    """An entry of `sys.meta_path`: registers our classes as soon as Keras is imported, and not
    before.

    Importing Keras takes seconds, and `mtl_keras.runtime` and the command line's short answers do
    without it. So `import mtl_keras` does not import it. Whoever imports Keras afterwards (the
    user, a library, a package of ours) finds our classes registered when that import returns.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that other finders give, its loader extended by the registration."""
        if not _imports_keras(name):
            return None
        specs = (
            finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self
        )
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            # Only the outermost import registers: then none of our packages is half imported.
            sys.meta_path.remove(self)
            try:
                execute(module)
            except BaseException:
                sys.meta_path.insert(0, self)
                raise
            if "keras" in sys.modules:
                _register_classes()
            else:
                sys.meta_path.insert(0, self)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _imports_keras(name: str) -> bool:
    package, _, part = name.partition(".")
    if package == "keras":
        return not part
    return package == "mtl_keras" and "." not in part and part not in _WITHOUT_KERAS


def _open_checkout() -> None:
    """In a checkout that is not installed, two rooms stand beside the package instead of in it
    (setup.cfg, `package_dir`)."""
    package = Path(__file__).parent
    beside = package.parent
    is_ours = (beside / "setup.cfg").is_file() and (
        beside / "saved_models" / "__init__.py"
    ).is_file()
    if not (package / "zoo").is_dir() and is_ours and (beside / "zoo" / "loading.py").is_file():
        __path__.append(str(beside))


_open_checkout()
if "keras" in sys.modules:
    _register_classes()
else:
    sys.meta_path.insert(0, _RegisterWithKeras())
