"""Int8 weights in files whose activations are real numbers."""

import keras
import numpy as np
import pytest
from helpers import large_but

import mtl_keras as mtl
from mtl_keras.export.converter import same_scale
from mtl_keras.runtime import flatbuffer


def _rounded(model):
    """A copy whose kernels stand on the grid of an int8 with a scale a channel, worked out in
    float64."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    for layer in other.layers:
        if (
            isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
            and layer.kernel.shape[:-1].num_elements() > 4
        ):
            kernel, *rest = layer.get_weights()
            scale = np.abs(kernel.astype("float64")).max(tuple(range(kernel.ndim - 1))) / 127
            layer.set_weights([(np.round(kernel / scale) * scale).astype("float32"), *rest])
    return other


def _small():
    """Without batch normalization, which the converter folds into kernels before they are
    rounded."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), name="image")
    h = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    h = keras.layers.Dense(30, activation="relu", name="hidden")(
        keras.layers.GlobalAveragePooling2D()(h)
    )
    h = keras.layers.Dense(30, activation="relu", name="deeper")(h)
    model = keras.Model(
        x,
        {
            "kind": keras.layers.Dense(3, name="kind")(h),
            "cost": keras.layers.Dense(1, name="cost")(h),
        },
    )
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(
                [
                    w + 0.1 * np.random.default_rng(1).standard_normal(w.shape)
                    for w in layer.get_weights()
                ]
            )
    return model


def _kernels(path):
    """Types of the weights in a file, by operator: 0 is float32, 9 int8."""
    model = flatbuffer.read(path.read_bytes())
    graph = model.subgraphs[0]
    made = {int(o): op for op in graph.operators for o in op.outputs}
    found = []
    for kind, op in same_scale.operators_of(model, graph):
        if kind in ("CONV_2D", "FULLY_CONNECTED"):
            index = int(op.inputs[1])
            index = int(made[index].inputs[0]) if index in made else index
            found.append((kind, graph.tensors[index].type))
    return found


@pytest.mark.parametrize("quantization", large_but(("weights",), ["weights", "dynamic"]))
def test_small_layers_are_quantized_too(tmp_path, quantization):
    """TensorFlow's own dynamic quantization leaves a network whose layers have fewer than 1,024
    weights as it is."""
    model = _small()
    report = mtl.export.tflite(model, tmp_path / "m.tflite", quantization)
    whole = mtl.export.tflite(model, tmp_path / "f.tflite")
    assert len(_kernels(tmp_path / "m.tflite")) == 5 and {
        t for _, t in _kernels(tmp_path / "m.tflite")
    } == {9}
    assert {t for _, t in _kernels(tmp_path / "f.tflite")} == {0}
    assert report.ops.get("DEQUANTIZE", 0) == (5 if quantization == "weights" else 0)
    assert whole.ops.keys() <= report.ops.keys() and report.size < whole.size


@pytest.mark.large
def test_int8_weights_alone_lose_their_rounding_and_nothing_else(tmp_path):
    model = _small()
    x = np.random.default_rng(0).random((16, 8, 8, 3), "float32")
    mtl.export.tflite(model, tmp_path / "m.tflite", "weights")
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"image": x})
    expected, exact = _rounded(model).predict(x, verbose=0), model.predict(x, verbose=0)
    for name in ("kind", "cost"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
        assert np.abs(found[name] - exact[name]).max() > 1e-4


def test_dynamic_computes_in_int8_and_stays_near(tmp_path):
    model = _small()
    x = np.random.default_rng(0).random((16, 8, 8, 3), "float32")
    mtl.export.tflite(model, tmp_path / "m.tflite", "dynamic")
    found, expected = (
        mtl.export.run_tflite(tmp_path / "m.tflite", {"image": x}),
        model.predict(x, verbose=0),
    )
    for name in ("kind", "cost"):
        assert 0 < np.abs(found[name] - expected[name]).max() < 0.03 * np.abs(expected[name]).max()


def test_layers_with_few_weights_a_channel_stay_in_float(tmp_path):
    """Their scales would take more room than they save."""
    x = keras.Input((2,), name="x")
    model = keras.Model(x, {"y": keras.layers.Dense(8, name="y")(x)})
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "weights")
    assert (
        _kernels(tmp_path / "m.tflite") == [("FULLY_CONNECTED", 0)]
        and "DEQUANTIZE" not in report.ops
    )


@pytest.mark.large
def test_weights_of_loops_and_of_several_signatures(tmp_path):
    tasks = [
        mtl.tasks.Classification("topic", num_classes=3, hidden=0),
        mtl.tasks.Regression("age", hidden=0),
    ]
    options = {"vocabulary_size": 30, "embedding_dim": 32, "units": 32}
    model = mtl.builders.hard_sharing(
        {"tokens": (6,)}, tasks, backbone="lstm", backbone_options=options
    )
    tokens = np.random.default_rng(0).integers(0, 30, (8, 6)).astype("int32")
    sizes = {}
    for quantization in (None, "weights", "dynamic"):
        report = mtl.export.tflite(
            model, tmp_path / "m.tflite", quantization, samples=tokens, signatures="heads"
        )
        sizes[quantization] = report.size
        assert all(head.largest < 0.05 for head in report.heads)
    assert max(sizes["weights"], sizes["dynamic"]) < sizes[None]
