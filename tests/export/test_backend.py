"""Where Keras runs on another backend, export says so in one sentence, and what works."""

import importlib.util
import os
import subprocess
import sys

import keras
import pytest

import mtl_keras as mtl

SCRIPT = """
import inspect, keras
import mtl_keras as mtl
inputs = keras.Input((4,), name="x")
model = keras.Model(inputs, {"y": keras.layers.Dense(1, name="y")(inputs)})
ask = {
    "tflite": (model, "m.tflite"),
    "split": (model, "parts"),
    "saved_model": (model, "served"),
    "onnx": (model, "m.onnx"),
    "openvino": (model, "m.xml"),
    "layer_errors": (model, "int8", None),
    "compress": (model, None, None),
}
for name, arguments in ask.items():
    try:
        getattr(mtl.export, name)(*arguments)
    except NotImplementedError as error:
        text = str(error)
        assert f"`mtl.export.{name}` needs Keras on TensorFlow" in text, text
        assert f"on '{keras.backend.backend()}'" in text and "KERAS_BACKEND=tensorflow" in text
    else:
        raise AssertionError(name)
# What writes a file from a model is refused; what is Keras alone works.
writers = {name for name in mtl.export.__all__ if "model" in inspect.signature(getattr(mtl.export, name)).parameters}
assert writers - set(ask) == {"float_twin", "quantization_aware", "with_raw_images"}, writers
model.save("model.keras")
"""


@pytest.mark.parametrize(
    "name", ["tflite", "split", "saved_model", "onnx", "openvino", "layer_errors", "compress"]
)
def test_another_backend_is_named_before_any_work(monkeypatch, tmp_path, name):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        NotImplementedError, match="needs Keras on TensorFlow.*'torch'.*KERAS_BACKEND"
    ):
        getattr(mtl.export, name)(None, tmp_path / "m", None)
    assert not list(tmp_path.iterdir())


@pytest.mark.large
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_a_process_on_another_backend_is_told_what_works(tmp_path, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras"]
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert list(model.output) == ["y"]
