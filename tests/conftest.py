"""What all tests share: seeds, quiet, two devices."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tests run side by side on few cores: one thread each.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import pytest
import tensorflow as tf
from cpu_times import CpuTimes

# Two devices for tests of strategies; they must be there before TensorFlow starts up.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")


def pytest_configure(config):
    if config.getoption("--cpu-times"):
        config.pluginmanager.register(CpuTimes(config.getoption("--cpu-times")))
    offset = config.getoption("--seed-offset")
    if offset:
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
