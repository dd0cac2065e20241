"""What all tests share: seeds, quiet, two devices, trained networks and their files, processes that
lack packages."""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tests run side by side on few cores: one thread each.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest
from cpu_times import CpuTimes


def _start_tensorflow():
    """Two devices for tests of strategies; they must be there before TensorFlow starts up."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")


# ------------------------------------------------------------------ what is made once per process
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


@pytest.fixture(scope="module", autouse=True)
def _seeded_module():
    """A module's own fixtures are made before those of its tests."""
    import keras

    keras.utils.set_random_seed(7)


@pytest.fixture(scope="session")
def trained():
    """A small image network whose heads have learned something, and its data."""
    import keras
    import numpy as np
    from helpers import image_data, image_model

    # Session fixtures are made before the fixtures that seed a test.
    keras.utils.set_random_seed(7)
    x, y = image_data(rows=64)
    # Something to learn: brightness of the left half decides the class, and the mask is where it is
    # bright.
    x[::2, :, :8] += 1.0
    y["kind"] = (np.arange(64) % 2 == 0).astype("int32")
    y["mask"] = (x[..., 0] > 0.8).astype("int32")
    model = image_model()
    model.compile("adam")
    model.fit(x, y, epochs=15, batch_size=8, verbose=0)
    return model, x, y


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """Files of the trained network, each made once: a function of the options of
    `mtl.export.tflite` that gives the path and the report. Tests read these files and change none.
    """
    import mtl_keras as mtl

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


# ------------------------------------------------------------------ options
def pytest_configure(config):
    if config.getoption("--cpu-times"):
        config.pluginmanager.register(CpuTimes(config.getoption("--cpu-times")))
    has_workers = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if has_workers:
        # The process that hands out the tests runs none: it does without TensorFlow's imports.
        return
    _start_tensorflow()
    offset = config.getoption("--seed-offset")
    if offset:
        import keras

        set_random_seed = keras.utils.set_random_seed
        keras.utils.set_random_seed = lambda seed: set_random_seed(seed + offset)


def pytest_addoption(parser):
    parser.addoption(
        "--cpu-times", metavar="FILE", help="write the processor time of each file and test to FILE"
    )
    parser.addoption(
        "--seed-offset",
        type=int,
        default=0,
        help="added to every seed of Keras: no test may hang on one",
    )
    parser.addoption(
        "--write-tables", action="store_true", help="write the tables in docs/ that tests generate"
    )
    parser.addoption(
        "--run-large", action="store_true", help="run the large tests too (minutes, not seconds)"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--run-large"):
        return
    for item in items:
        if item.get_closest_marker("large"):
            item.add_marker(pytest.mark.skip(reason="large: runs with --run-large"))
