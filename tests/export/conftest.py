"""Networks that were trained a little, so that their outputs move, and processes that lack packages."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import image_data, image_model

import mtl_keras as mtl

_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}:
            raise ImportError(name + ' is blocked in this test')
for name in [name for name in sys.modules if name.split('.')[0] in {blocked!r}]:
    del sys.modules[name]
sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="session")
def trained():
    """A small image network whose heads have learned something, and its data."""
    x, y = image_data(rows=64)
    # Something to learn: brightness of the left half decides the class, and the mask is where it is bright.
    x[::2, :, :8] += 1.0
    y["kind"] = (np.arange(64) % 2 == 0).astype("int32")
    y["mask"] = (x[..., 0] > 0.8).astype("int32")
    model = image_model()
    model.compile("adam")
    model.fit(x, y, epochs=15, batch_size=8, verbose=0)
    return model, x, y


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """Files of the trained network, each made once: a function of the options of `mtl.export.tflite` that gives the path
    and the report. Tests read these files and change none.
    """
    model, x, _ = trained
    folder, files = tmp_path_factory.mktemp("exported"), {}

    def export(**options):
        key = repr(sorted(options.items()))
        if key not in files:
            path = folder / f"file{len(files)}.tflite"
            files[key] = path, mtl.export.tflite(model, path, calibration=x, **options)
        return files[key]

    return export


@pytest.fixture
def without():
    """Run code in a fresh process in which some packages can't be imported."""

    def run(blocked, code, before=""):
        script = (
            before
            + _BLOCK.format(blocked=set(blocked))
            + code
            + f"\nassert not {set(blocked)!r} & set(sys.modules)"
        )
        return subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True
        )

    return run
