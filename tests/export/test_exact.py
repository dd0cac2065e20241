"""What 8 bits would lose stays in float, and older and smaller runtimes get forms that they
take."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.export.converter import portable
from mtl_keras.export.converter.exact import exact_operators
from mtl_keras.runtime import flatbuffer


def worst_error(report):
    """Mean error of the worst head, as a part of what its output moves by."""
    return max(1 - head.fidelity for head in report.heads)


def operator_kinds(path):
    return set(flatbuffer.ops(path.read_bytes()))


def weights_of(path, kind, position=1):
    """Tensors of the weights of every operator of this kind."""
    model = flatbuffer.read(path.read_bytes())
    kinds = flatbuffer.kinds(model)
    return [
        graph.tensors[op.inputs[position]]
        for graph in model.subgraphs
        for op in graph.operators
        if kinds[op.opcodeIndex] == kind
    ]


@pytest.fixture
def waves():
    """A loud tone beside a quiet one, a hundred times weaker, of other pitch in every row."""
    rng = np.random.default_rng(0)
    time = np.arange(1600) / 16000
    loud, quiet = rng.uniform(200, 400, (64, 1)), rng.uniform(2000, 6000, (64, 1))
    x = np.sin(2 * np.pi * loud * time) + 0.01 * np.sin(2 * np.pi * quiet * time)
    return x.astype("float32")


@pytest.mark.large
@pytest.mark.parametrize("quantization", ["dynamic", "weights", "int8"])
def test_quiet_bands_of_a_spectrum_are_heard(tmp_path, waves, quantization):
    sound = keras.Input((1600,), name="sound")
    bands = mtl.layers.LogMel(mels=16)(sound)
    model = keras.Model(sound, {"bands": keras.layers.Identity(name="bands")(bands)})
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", quantization, calibration=waves, samples=waves
    )
    assert worst_error(report) < 1e-3
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    expected = model.predict(waves[:4], verbose=0)["bands"]
    assert np.abs(file.run({"sound": waves[:4]})["bands"] - expected).max() < 0.02


@pytest.mark.large
def test_layers_behind_a_spectrum_are_quantized(tmp_path, waves):
    model = mtl.builders.hard_sharing(
        (1600,),
        [mtl.tasks.Classification("word", num_classes=3, hidden=16)],
        backbone="log_mel_cnn",
        backbone_options={"widths": (4, 8), "depth": 1, "mels": 8},
    )
    mtl.export.tflite(model, tmp_path / "m.tflite", "dynamic", samples=waves)
    assert all(tensor.type == 9 for tensor in weights_of(tmp_path / "m.tflite", "CONV_2D"))
    types = [tensor.type for tensor in weights_of(tmp_path / "m.tflite", "FULLY_CONNECTED")]
    assert types.count(0) == 3, "two products with waves, and the bands"
    assert types.count(9) == 2


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_a_flat_map_keeps_its_expected_position_in_int8(tmp_path, io):
    """Over 1,024 positions, a probability of 1/1024 is a quarter of int8's step."""
    rng = np.random.default_rng(0)
    maps = keras.Input((32, 32, 2), name="maps")
    points = mtl.layers.SoftArgmax(name="points")(maps)
    model = keras.Model(maps, {"points": points})
    x = rng.normal(size=(64, 32, 32, 2)) + 4 * rng.random((64, 1, 1, 2)) * np.linspace(
        -1, 1, 32
    ).reshape(-1, 1, 1)
    x = x.astype("float32")
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", "int8", calibration=x, samples=x, io=io
    )
    assert worst_error(report) < 0.05


def test_a_product_of_probabilities_keeps_its_spread_in_int8(tmp_path):
    """Computed as exponents and logarithms; the factors' own steps are 1/256."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6)).astype("float32")
    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Binary("click", hidden=4), mtl.tasks.Binary("bought", hidden=4)]
    model = mtl.builders.esmm((6,), tasks, backbone="mlp", backbone_options={"widths": (8,)})
    for variable in model.trainable_variables:
        variable.assign(variable * 2)
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, samples=x)
    assert worst_error(report) < 0.03


def test_a_dense_layer_behind_a_softmax_is_no_expectation(tmp_path):
    x = keras.Input((8,), name="x")
    y = keras.layers.Dense(4, activation="softmax")(x)
    layer = keras.layers.Dense(3, name="y", bias_initializer="ones")
    model = keras.Model(x, {"y": layer(y)})
    mtl.export.tflite(model, tmp_path / "m.tflite")
    assert exact_operators((tmp_path / "m.tflite").read_bytes()) == set()


def test_scales_of_a_convolution_are_never_all_equal(tmp_path):
    """tflite-runtime 2.14 answers with zeros where they are, as NDDR's first weights are."""
    x = keras.Input((8, 8, 8), name="x")
    layer = keras.layers.Conv2D(4, 1, name="y")
    model = keras.Model(x, {"y": layer(x)})
    kernel = np.vstack([np.eye(4) * 0.9, np.eye(4) * 0.1]).astype("float32")
    layer.kernel.assign(kernel[None, None])
    mtl.export.tflite(model, tmp_path / "m.tflite", "dynamic")
    (tensor,) = weights_of(tmp_path / "m.tflite", "CONV_2D")
    scales = np.asarray(tensor.quantization.scale)
    assert len(set(scales.tolist())) > 1
    assert np.ptp(scales) < 1e-6 * scales[0]


@pytest.mark.parametrize("channels", [8, 32])
def test_a_transposed_convolution_has_no_integers_beside_real_inputs(tmp_path, channels):
    """tflite-runtime 2.14 refuses them, small ones (rounded by us) and large ones (rounded by the
    converter)."""
    x = keras.Input((8, 8, channels), name="x")
    model = keras.Model(x, {"y": keras.layers.Conv2DTranspose(16, 3, strides=2, name="y")(x)})
    mtl.export.tflite(model, tmp_path / "m.tflite", "dynamic")
    (tensor,) = weights_of(tmp_path / "m.tflite", "TRANSPOSE_CONV")
    assert tensor.type == 0
    assert "DEQUANTIZE" in operator_kinds(tmp_path / "m.tflite")
    (stored,) = weights_of(tmp_path / "m.tflite", "DEQUANTIZE", position=0)
    assert stored.type == 9


@pytest.mark.parametrize("quantization", [None, "dynamic", "int8"])
def test_words_are_looked_up_without_a_select(tmp_path, quantization):
    """Microcontrollers lack SELECT. -1 is still the last word, as in Keras."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    y = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(tokens))
    model = keras.Model(tokens, {"y": keras.layers.Dense(2, name="y")(y)})
    rows = np.random.default_rng(0).integers(0, 7, (32, 5)).astype("int32")
    mtl.export.tflite(model, tmp_path / "m.tflite", quantization, calibration=rows, samples=rows)
    assert not {"SELECT", "SELECT_V2"} & operator_kinds(tmp_path / "m.tflite")
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    wrapped, plain = np.array([[1, -1, 3, -7, 0]], "int32"), np.array([[1, 6, 3, 0, 0]], "int32")
    np.testing.assert_array_equal(
        file.run({"tokens": wrapped})["y"], file.run({"tokens": plain})["y"]
    )


def test_a_select_of_real_numbers_stays(tmp_path):
    x = keras.Input((5,), name="x")
    y = keras.ops.where(x < 0, x + 2.0, x)
    model = keras.Model(x, {"y": keras.layers.Identity(name="y")(y)})
    mtl.export.tflite(model, tmp_path / "m.tflite")
    content = (tmp_path / "m.tflite").read_bytes()
    assert flatbuffer.ops(portable.without_integer_select(content)) == flatbuffer.ops(content)


def test_video_has_five_dimensions_in_its_input_only(tmp_path):
    model = mtl.builders.hard_sharing(
        (3, 16, 16, 3),
        [mtl.tasks.Binary("fall", hidden=4)],
        backbone="frame_cnn",
        backbone_options={"units": 4, "encoder_options": {"widths": (4, 8), "depth": 1}},
    )
    mtl.export.tflite(model, tmp_path / "m.tflite")
    (graph,) = flatbuffer.read((tmp_path / "m.tflite").read_bytes()).subgraphs
    deep = [index for index, tensor in enumerate(graph.tensors) if len(tensor.shape) > 4]
    assert deep == list(graph.inputs)
