"""Every backbone: its stages, that it trains, is saved and loaded, and goes to the phone, or says
why not."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import large_but

import mtl_keras as mtl
from mtl_keras.backbones.common import rescaled
from mtl_keras.export import ExportError

DOCS = Path(__file__).parents[2] / "docs" / "sharing.md"
NAMES = [name for name in mtl.backbones.__all__ if name != "get"]
IMAGE, TOKENS, ROW = (32, 32, 3), (6,), (5,)
#: Shape of a row, options that keep the network small, and the shapes of its stages.
EXPECTED = {
    "small_cnn": (IMAGE, {"widths": (4, 8), "depth": 1}, [(16, 16, 4), (8, 8, 8)]),
    "resnet": (IMAGE, {"depths": (1, 1), "widths": (4, 8)}, [(8, 8, 4), (4, 4, 8)]),
    "mobilenet_v2": (
        IMAGE,
        {"alpha": 0.35},
        [(16, 16, 8), (8, 8, 8), (4, 4, 16), (2, 2, 32), (1, 1, 1280)],
    ),
    "mobilenet_v3_small": (
        IMAGE,
        {"minimalistic": True},
        [(16, 16, 16), (8, 8, 16), (4, 4, 24), (2, 2, 48), (1, 1, 576)],
    ),
    "efficientnet_lite0": (
        IMAGE,
        {},
        [(16, 16, 16), (8, 8, 24), (4, 4, 40), (2, 2, 112), (1, 1, 1280)],
    ),
    "efficientnet_v2_b0": (
        IMAGE,
        {},
        [(16, 16, 16), (8, 8, 32), (4, 4, 48), (2, 2, 112), (1, 1, 1280)],
    ),
    "fpn": (
        IMAGE,
        {"channels": 4, "backbone_options": {"widths": (4, 8), "depth": 1}},
        [(16, 16, 4), (8, 8, 4)],
    ),
    "bilstm": (TOKENS, {"vocabulary_size": 9, "embedding_dim": 4, "units": 2}, [(6, 4), (8,)]),
    "lstm": (TOKENS, {"vocabulary_size": 9, "embedding_dim": 4, "units": 3}, [(6, 3), (6,)]),
    "gru": (TOKENS, {"vocabulary_size": 9, "embedding_dim": 4, "units": 3}, [(6, 3), (6,)]),
    "text_cnn": (TOKENS, {"vocabulary_size": 9, "embedding_dim": 4, "filters": 2}, [(6, 6), (6,)]),
    "transformer": (
        TOKENS,
        {"vocabulary_size": 9, "dim": 8, "heads": 2, "hidden": 8},
        [(6, 8), (6, 8), (8,)],
    ),
    "mlp": (ROW, {"widths": (8, 6)}, [(8,), (6,)]),
    "mixed": (ROW, {"widths": (8, 6)}, [(8,), (6,)]),
    "deep_cross": (ROW, {"widths": (8,), "crosses": 2}, [(5,), (8,), (13,)]),
    "log_mel_cnn": ((1600,), {"mels": 8, "widths": (4, 8), "depth": 1}, [(4, 4, 4), (2, 2, 8)]),
    "frame_cnn": (
        (3, 8, 8, 1),
        {"encoder_options": {"widths": (4,), "depth": 1}, "pooling": "gru", "units": 5},
        [(3, 4), (5,)],
    ),
}


def _network(name, options=None):
    shape, given, _ = EXPECTED[name]
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    inputs = {mtl.backbones.INPUT_NAMES[name]: shape}
    model = mtl.builders.hard_sharing(
        inputs, tasks, name, backbone_options={**given, **(options or {})}
    )
    rng = np.random.default_rng(0)
    x = (
        rng.integers(1, 9, (4, *shape)).astype("int32")
        if shape is TOKENS
        else rng.random((4, *shape)).astype("float32")
    )
    return model, x, {"cost": np.arange(4.0), "sold": np.arange(4) % 2}


def test_every_backbone_has_a_row():
    assert sorted(EXPECTED) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stages_go_from_the_input_to_the_deepest(name):
    shape, options, stages = EXPECTED[name]
    inputs = keras.Input(shape, dtype="int32" if shape is TOKENS else "float32")
    model = mtl.backbones.get(name)(inputs, name="own", **options)
    assert list(model.output) == [f"stage{i}" for i in range(1, len(stages) + 1)]
    assert [tuple(x.shape[1:]) for x in model.output.values()] == stages
    # All layers are named by the prefix: two of a kind can stand in one network.
    named = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if name not in ("fpn",):
        assert all(n.startswith("own_") for n in named), named
    assert inspect.getdoc(mtl.backbones.get(name))


@pytest.mark.parametrize(
    "name",
    large_but(("small_cnn", "text_cnn", "mlp", "deep_cross", "log_mel_cnn", "frame_cnn"), NAMES),
)
def test_it_keeps_what_every_backbone_promises(name):
    _, options, stages = EXPECTED[name]
    mtl.testing.run_backbone_test(
        mtl.backbones.get(name),
        _network(name)[1],
        options,
        stages={f"stage{i}": shape for i, shape in enumerate(stages, 1)},
        input_name=mtl.backbones.INPUT_NAMES[name],
        is_prefixed=name != "fpn",
    )


@pytest.mark.parametrize("name", large_but(("text_cnn",), NAMES))
def test_it_goes_to_the_phone_or_says_why_not(name, tmp_path, table):
    model, x, _ = _network(name)
    cells = []
    for quantization in (None, "int8"):
        try:
            mtl.export.tflite(
                model, tmp_path / "m.tflite", quantization=quantization, calibration=x
            )
            cells.append("yes")
        except ExportError as error:
            # Names of layers belong to this network, not to the backbone.
            cells.append("no: " + re.sub(r"Layer '\w+'", "its layer", str(error)).split(". Use")[0])
    table(name, cells)


@pytest.fixture(scope="module")
def _cells(request):
    cells = {}
    yield cells
    if request.config.getoption("--write-tables"):
        assert sorted(cells) == sorted(NAMES), (
            "run all of these tests in one process (-n0 --run-large) to write the table"
        )
        lines = ["| backbone | float | int8 |", "|---|---|---|"]
        lines += [f"| `{name}` | {' | '.join(cells[name])} |" for name in NAMES]
        text = DOCS.read_text()
        before, after = (
            text.split("<!-- backbones -->\n")[0],
            text.split("<!-- end of backbones -->")[1],
        )
        DOCS.write_text(
            before
            + "<!-- backbones -->\n"
            + "\n".join(lines)
            + "\n<!-- end of backbones -->"
            + after
        )


@pytest.fixture
def table(request, _cells):
    def check(name, cells):
        _cells[name] = cells
        if not request.config.getoption("--write-tables"):
            row = next(
                (
                    line
                    for line in DOCS.read_text().splitlines()
                    if line.startswith(f"| `{name}` |")
                ),
                None,
            )
            assert row == f"| `{name}` | {' | '.join(cells)} |"

    return check


# ------------------------------------------------------------------ what defines them
@pytest.mark.large
def test_residual_networks_have_the_papers_number_of_parameters():
    # He et al. 2016: ResNet-18 and ResNet-50 without their last layer, and ResNet-20 (0.27 M) with
    # projection shortcuts.
    image = keras.Input((224, 224, 3))

    def trainable(**options):
        return sum(
            int(np.prod(v.shape))
            for v in mtl.backbones.resnet(image, **options).trainable_variables
        )

    assert trainable() == 11_689_512 - 513_000
    assert trainable(depths=(3, 4, 6, 3), bottleneck=True) == 25_557_032 - 2_049_000
    small = trainable(depths=(3, 3, 3), widths=(16, 32, 64), stem="cifar")
    assert small == 269_722 - 650 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_lite0_has_the_number_of_parameters_of_the_official_network():
    model = mtl.backbones.efficientnet_lite0(keras.Input((224, 224, 3)), head=True)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 4_652_008
    assert model.output["stage5"].shape == (None, 7, 7, 1280)


@pytest.mark.large
def test_wrapped_networks_compute_what_keras_computes():
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    inputs = keras.Input((32, 32, 3))
    model = mtl.backbones.mobilenet_v2(inputs, alpha=0.35)
    plain = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    plain.set_weights(model.get_weights())
    expected = plain.predict(2 * x - 1, verbose=0)
    np.testing.assert_allclose(
        model.predict(x, verbose=0)["stage5"], expected, rtol=1e-4, atol=1e-5
    )


def _first_convolution_sees(model, x):
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    return np.asarray(keras.Model(model.inputs, convolution.input)(x))


def _keras_preprocessing(name, channels):
    """What Keras's own network, or its `preprocess_input`, makes of images from 0 to 255."""
    if name == "mobilenet_v2":
        return lambda x: keras.applications.mobilenet_v2.preprocess_input(x.copy())
    make = {"mobilenet_v3_small": "MobileNetV3Small", "efficientnet_v2_b0": "EfficientNetV2B0"}[
        name
    ]
    with keras.StatelessScope(initialize_variables=False):
        network = getattr(keras.applications, make)(
            input_shape=(32, 32, channels),
            include_top=False,
            weights=None,
            include_preprocessing=True,
        )
    return lambda x: _first_convolution_sees(network, x)


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.large)])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_v2_b0"])
def test_the_first_convolution_sees_what_kerass_own_preprocessing_gives(name, channels):
    # Black, white, and all between, as bytes; ours come in another range.
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels)).astype("float32")
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    expected = _keras_preprocessing(name, channels)(x)
    # Weights do not matter in front of the first convolution, and take long to draw.
    with keras.StatelessScope(initialize_variables=False):
        model = mtl.backbones.get(name)(keras.Input((32, 32, channels)), value_range=(-3, 7))
    np.testing.assert_allclose(
        _first_convolution_sees(model, x / 25.5 - 3)[:, :32, :32], expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("value_range", [(0, 1), (0, 255), (-1, 1), (-3, 7)])
def test_a_range_of_values_does_not_change_what_the_network_sees(value_range):
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype("float64")
    scale, offset = [0.5, 1.0, 2.0], [0.0, -1.0, 3.0]
    low, high = value_range
    image = keras.Input((4, 4, 3))
    network = keras.Model(image, rescaled(image, value_range, scale, offset, "net"))
    np.testing.assert_allclose(
        network(low + x / 255 * (high - low)), x * scale + offset, rtol=1e-4, atol=1e-4
    )
    assert rescaled(image, (0, 255), 1.0, 0.0, "net") is image


def test_lite0_sees_what_google_trained_it_on():
    # efficientnet_lite_builder.py of the TPU team: MEAN_RGB = [127.0] * 3, STDDEV_RGB = [128.0] *
    # 3.
    x = np.arange(256, dtype="float32").reshape(1, 16, 16, 1).repeat(3, -1)
    with keras.StatelessScope(initialize_variables=False):
        model = mtl.backbones.efficientnet_lite0(keras.Input((16, 16, 3)), value_range=(0, 255))
    np.testing.assert_allclose(
        _first_convolution_sees(model, x), (x - 127) / 128, rtol=1e-5, atol=1e-6
    )


def test_padding_does_not_change_what_a_transformer_says():
    options = {"vocabulary_size": 9, "dim": 8, "heads": 2, "hidden": 8}
    model = mtl.backbones.transformer(keras.Input((6,), dtype="int32"), **options)
    tokens = np.array([[3, 4, 5, 0, 0, 0]])
    whole = model.predict(tokens, verbose=0)
    model.get_layer("transformer_embedding").embeddings.assign(
        np.concatenate(
            [np.full((1, 8), 7.0), model.get_layer("transformer_embedding").embeddings.numpy()[1:]]
        )
    )
    other = model.predict(tokens, verbose=0)
    np.testing.assert_allclose(other["stage3"], whole["stage3"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other["stage2"][:, :3], whole["stage2"][:, :3], rtol=1e-4, atol=1e-5)


def test_masked_attention_is_the_softmax_over_what_counts():
    layer = mtl.layers.MaskedSelfAttention(2)
    x = np.random.default_rng(0).standard_normal((1, 4, 6)).astype("float32")
    mask = np.array([[1.0, 1.0, 0.0, 1.0]], "float32")
    out = np.asarray(layer([x, mask]))
    keras_layer = keras.layers.MultiHeadAttention(2, 3)
    keras_layer.build(x.shape, x.shape)
    weights = []
    for part in (layer.query, layer.key, layer.value):
        weights += [part[0].numpy().reshape(6, 2, 3), part[1].numpy().reshape(2, 3)]
    keras_layer.set_weights([*weights, layer.out[0].numpy().reshape(2, 3, 6), layer.out[1].numpy()])
    expected = keras_layer(x, x, attention_mask=mask[:, None, :] > 0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_the_mel_spectrogram_is_that_of_a_fourier_transform():
    rng = np.random.default_rng(0)
    wave = rng.standard_normal((2, 1000)).astype("float32")
    layer = mtl.layers.LogMel(sample_rate=8000, hop=80, window=240, mels=12, low=100)
    found = np.asarray(layer(wave))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(240) / 240)
    frames = np.stack(
        [wave[:, s : s + 240] for s in range(0, 1000 - 240 - 1000 % 80 + 1, 80)], 1
    ).astype("float64")
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    expected = np.log(np.maximum(power @ layer._bands.astype("float64"), 1e-6))
    assert found.shape == (2, 10, 12) == tuple(layer.compute_output_shape((2, 1000)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    # A tone is loudest in the band around it.
    tone = np.sin(2 * np.pi * 1000 * np.arange(1000) / 8000)[None].astype("float32")
    band = int(np.asarray(layer(tone))[0, 4].argmax())
    bins = np.flatnonzero(layer._bands[:, band]) * 8000 / 240
    assert bins.min() <= 1000 <= bins.max()


def test_a_cross_layer_is_its_formula():
    layer = mtl.layers.Cross()
    first, x = (
        np.random.default_rng(i).standard_normal((3, 4)).astype("float32") for i in range(2)
    )
    out = layer([first, x])
    np.testing.assert_allclose(
        out, first * (x @ layer.kernel.numpy() + layer.bias.numpy()) + x, rtol=1e-5, atol=1e-6
    )
    thin = mtl.layers.Cross(rank=2)
    thin.build([(None, 4), (None, 4)])
    assert thin.count_params() == 4 + 2 * 4 + 2 * 4


def test_frames_are_seen_one_by_one():
    video = np.random.default_rng(0).random((2, 3, 8, 8, 1)).astype("float32")
    model = mtl.backbones.frame_cnn(
        keras.Input((3, 8, 8, 1)), encoder_options={"widths": (4,), "depth": 1}
    )
    out = model.predict(video, verbose=0)
    swapped = model.predict(video[:, ::-1], verbose=0)
    np.testing.assert_allclose(swapped["stage1"], out["stage1"][:, ::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(swapped["stage2"], out["stage2"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mtl.backbones.resnet(keras.Input((5,))), "'resnet' takes images"),
        (
            lambda: mtl.backbones.resnet(keras.Input((8, 8, 1)), stem="mnist"),
            "'imagenet' or 'cifar'",
        ),
        (
            lambda: mtl.backbones.resnet(keras.Input((8, 8, 1)), depths=(1,), widths=(4, 8)),
            "a depth >= 1 for each width",
        ),
        (
            lambda: mtl.backbones.mobilenet_v2(keras.Input((32, 32, 3)), value_range=(1, 0)),
            "low < high",
        ),
        (
            lambda: mtl.backbones.efficientnet_lite0(keras.Input((32, 32, 1)), weights="imagenet"),
            "for 3 channels, got 1",
        ),
        (
            lambda: mtl.backbones.efficientnet_lite0(keras.Input((32, 32, 3)), weights="noisy"),
            "None or 'imagenet'",
        ),
        (
            lambda: mtl.backbones.fpn(keras.Input((8, 8, 1)), lambda i: keras.layers.Flatten()(i)),
            "a dict of maps",
        ),
        (
            lambda: mtl.backbones.transformer(keras.Input((6,)), 9, dim=8, heads=3),
            "heads that divide dim",
        ),
        (lambda: mtl.backbones.text_cnn(keras.Input((6,)), 9, windows=()), "at least one token"),
        (
            lambda: mtl.backbones.deep_cross(keras.Input((6,)), crosses=0),
            "at least one cross layer",
        ),
        (lambda: mtl.backbones.log_mel_cnn(keras.Input((100,))), "at least 480 samples"),
        (
            lambda: mtl.backbones.log_mel_cnn(keras.Input((1600,)), window=200),
            "a multiple of the hop",
        ),
        (lambda: mtl.backbones.frame_cnn(keras.Input((None, 8, 8, 1))), "fixed number of frames"),
        (
            lambda: mtl.backbones.frame_cnn(keras.Input((3, 8, 8, 1)), pooling="max"),
            "'mean', 'gru' or 'conv'",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
