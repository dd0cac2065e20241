"""What works on which backend, and on how many machines, is said in one sentence."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from helpers import table_data, table_model

import mtl_keras as mtl

TESTS = Path(__file__).parents[1]


def _run(code, **environment):
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ON_JAX = """
import sys, warnings
import keras, numpy as np
import mtl_keras as mtl
from helpers import table_data, table_model

assert keras.backend.backend() == "jax"
x, y = table_data()
folder = sys.argv[1] if len(sys.argv) > 1 else FOLDER
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = keras.saving.load_model(f"{folder}/compiled.keras")
assert any("loaded, but not compiled" in str(w.message) for w in caught)
outputs = model.predict(x, verbose=0)
model.save(f"{folder}/again.keras")
again = keras.saving.load_model(f"{folder}/again.keras")(x)
np.testing.assert_allclose(again["cost"], outputs["cost"], rtol=1e-6)
for build in (mtl.builders.mmoe, mtl.builders.cross_stitch, mtl.builders.hard_sharing):
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    built = build((5,), tasks, backbone="mlp", backbone_options={"widths": (8,)})
    assert set(built.decode(built.predict(x, verbose=0))) == {"cost", "sold"}
jacobian = np.load(f"{folder}/jacobian.npy")
weights = {name: np.asarray(mtl.balancing.get(name).weights(jacobian @ jacobian.T)) for name in ("mgda", "upgrad", "imtl_g")}
np.savez(f"{folder}/answers.npz", **outputs, **weights)
for call in (
    lambda: model.compile("adam"),
    lambda: model.fit(x, y),
    lambda: model.evaluate(x, y),
    lambda: model.summary_sharing(),
):
    try:
        call()
    except NotImplementedError as error:
        assert "needs Keras on TensorFlow, and this process runs it on 'jax'" in str(error), error
        assert "KERAS_BACKEND=tensorflow" in str(error)
    else:
        raise AssertionError("no sentence")
plain = keras.Model(model.input, model.output)
plain.compile("adam", loss={task.name: task.loss for task in model.tasks})
assert np.isfinite(plain.fit(x, y, verbose=0).history["loss"]).all()
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_on_jax_networks_and_balancers_work_and_compile_says_what_does_not(tmp_path):
    x, y = table_data()
    model = table_model()
    model.compile("adam", balancer="uncertainty")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "compiled.keras")
    jacobian = np.random.default_rng(0).standard_normal((3, 20))
    np.save(tmp_path / "jacobian.npy", jacobian)
    process = _run(f"FOLDER = {str(tmp_path)!r}\n{ON_JAX}", KERAS_BACKEND="jax")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    answers = np.load(tmp_path / "answers.npz")
    for name, values in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(answers[name], values, rtol=1e-4, atol=1e-5)
    for name in ("mgda", "upgrad", "imtl_g"):
        expected = np.asarray(mtl.balancing.get(name).weights(jacobian @ jacobian.T))
        np.testing.assert_allclose(answers[name], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.ParameterServerStrategy]
)
def test_several_machines_are_refused_in_one_sentence(kind):
    """The strategy itself needs its cluster at start-up; here it only says that it has one."""
    strategy = object.__new__(kind)
    strategy._extended = SimpleNamespace(_in_multi_worker_mode=lambda: True)
    model = table_model()
    model._distribute_strategy = strategy
    with pytest.raises(
        NotImplementedError,
        match=f"{kind.__name__}.*does not work.*MirroredStrategy` on the GPUs of one",
    ):
        model.compile("sgd")
    assert model.balancer is None


WORKER = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from helpers import table_data, table_model
x, y = table_data()
with strategy.scope():
    model = table_model()
    model.compile("sgd")
print(model.fit(x, y, verbose=0).history["loss"])
"""


def _workers(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    hosts = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    task = [
        {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": i}} for i in range(count)
    ]
    processes = [_run(WORKER, TF_CONFIG=json.dumps(config)) for config in task]
    results = [process.communicate(timeout=300) for process in processes]
    return [
        (process.returncode, *result) for process, result in zip(processes, results, strict=True)
    ]


@pytest.mark.large
def test_two_workers_get_one_sentence_each():
    for code, _, errors in _workers(2):
        assert code != 0 and "NotImplementedError: Training on several machines" in errors


@pytest.mark.large
def test_one_worker_trains():
    ((code, out, errors),) = _workers(1)
    assert code == 0 and out.strip().startswith("["), errors[-2000:]
