"""ONNX and OpenVINO files: names, order, answers, and what stays when an export fails."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import image_model, large_but

import mtl_keras as mtl

FORMATS = {"onnx": ".onnx", "openvino": ".xml"}


def run(path, inputs):
    """Answers of a file in its own runtime, in the file's order."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))
    import openvino as ov

    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = compiled(inputs)
    return {output.get_any_name(): answers[output] for output in compiled.outputs}


def mixed_inputs_model():
    """Three inputs of two dtypes whose names sort otherwise than they are given, a recurrent layer,
    heads not sorted."""
    first, second = keras.Input((4,), name="zeta"), keras.Input((4,), name="alpha")
    words = keras.Input((6,), dtype="int32", name="mid")
    x = keras.layers.Embedding(9, 3)(words)
    x = keras.layers.Concatenate()(
        [keras.layers.Dense(5)(first), keras.layers.Dense(5)(second), keras.layers.LSTM(5)(x)]
    )
    outputs = {
        name: keras.layers.Dense(size, name=name)(x)
        for name, size in (("z", 2), ("b", 2), ("m", 2))
    }
    return keras.Model({"zeta": first, "alpha": second, "mid": words}, outputs)


@pytest.mark.parametrize("form", large_but(["onnx"], FORMATS))
def test_heads_by_name_in_the_tasks_order_for_any_number_of_rows(form, tmp_path):
    model = image_model()
    path = tmp_path / f"model{FORMATS[form]}"
    report = getattr(mtl.export, form)(model, path)
    assert [head.name for head in report.heads] == ["kind", "box", "mask"]
    assert report.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    x = np.random.default_rng(1).random((5, 16, 16, 1), "float32")
    answers = run(path, {"image": x})
    assert list(answers) == ["kind", "box", "mask"]
    for name, expected in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(answers[name], expected, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("form", FORMATS)
def test_inputs_by_name_and_some_of_the_tasks(form, tmp_path):
    model = mixed_inputs_model()
    path = tmp_path / f"model{FORMATS[form]}"
    getattr(mtl.export, form)(model, path, tasks=["m", "z"], batch=1)
    rng = np.random.default_rng(0)
    x = {
        "zeta": rng.random((1, 4), "float32"),
        "alpha": 5 * rng.random((1, 4), "float32"),
        "mid": rng.integers(0, 9, (1, 6)).astype("int32"),
    }
    answers = run(path, x)
    assert list(answers) == ["z", "m"]
    expected = model.predict(x, verbose=0)
    for name, value in answers.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("form", FORMATS)
def test_augmentation_is_off(form, tmp_path):
    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.Flatten()(x)
    model = keras.Model(
        inputs, {"a": keras.layers.Dense(2, name="a")(x), "b": keras.layers.Dense(1, name="b")(x)}
    )
    path = tmp_path / f"model{FORMATS[form]}"
    getattr(mtl.export, form)(model, path)
    x = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    expected, answers = model(x, training=False), run(path, {"image": x})
    for name in ("a", "b"):
        np.testing.assert_allclose(answers[name], expected[name], atol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_there_stays_when_an_export_fails(form, tmp_path):
    path = tmp_path / f"model{FORMATS[form]}"
    path.write_text("earlier")
    with pytest.raises(ValueError, match="Did you mean 'kind'"):
        getattr(mtl.export, form)(image_model(), path, tasks=["kinds"])
    with pytest.raises(ValueError, match=f"should end in {FORMATS[form]}"):
        getattr(mtl.export, form)(image_model(), tmp_path / "model.bin")
    assert path.read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.large
def test_a_missing_package_is_named(tmp_path):
    code = f"""
import sys
sys.modules["tf2onnx"] = None
sys.path.insert(0, "tests")
from helpers import table_model
import mtl_keras as mtl
try:
    mtl.export.onnx(table_model(), {str(tmp_path / "model.onnx")!r})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "mtl-keras[onnx]"' in done.stdout, done.stderr[-500:]
