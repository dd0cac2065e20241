"""Training on what an int8 file computes, and the way back."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from builders.test_every_builder import BUILDERS, KINDS, network
from helpers import image_data, image_model, ruined_model, same, table_data, table_model

import mtl_keras as mtl
from mtl_keras.export import ExportError, float_twin, quantization_aware
from mtl_keras.layers import FakeQuantize, QuantizedWeights


# ------------------------------------------------------------------ what is rounded, and how
def test_activations_stand_on_256_values_that_hold_zero_and_the_batch():
    layer = FakeQuantize()
    x = np.random.default_rng(0).uniform(-1, 3, (64, 5)).astype("float32")
    same([layer(x)], [x], rtol=0, atol=0)  # no range yet
    y = keras.ops.convert_to_numpy(layer(x, training=True)).astype("float64")
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    assert np.abs(y - x).max() <= 1.01 * step and np.unique(y.round(6)).size <= 256
    np.testing.assert_allclose(y / step, np.round(y / step), atol=1e-3)
    assert float(layer(np.zeros(3, "float32"))[0]) == 0
    same([layer(x)], [y.astype("float32")], rtol=0, atol=0)


def test_ranges_widen_at_once_and_shrink_slowly():
    layer = FakeQuantize(momentum=0.9)
    for batch, low, high in (
        ([1.0, 2.0], 0, 2),
        ([-4.0, 1.0], -4, 1.9),
        ([10.0], -3.6, 10),
        ([0.0], -3.24, 9),
    ):
        layer(np.array(batch, "float32"), training=True)
        np.testing.assert_allclose([layer.low.numpy(), layer.high.numpy()], [low, high], rtol=1e-6)
    always = FakeQuantize(fixed=(-1.0, 127 / 128))
    assert (
        not always.weights
        and float(always(np.array([2.0], "float32"), training=True)[0]) == 127 / 128
    )
    layer.trainable = False
    layer(np.array([99.0], "float32"), training=True)
    assert layer.high.numpy() == pytest.approx(9)


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (keras.layers.Dense(3), (4, 7), (0,)),
        (keras.layers.Conv2D(3, 3), (2, 6, 6, 2), (0, 1, 2)),
        (keras.layers.Conv1D(3, 2), (2, 6, 2), (0, 1)),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (2, 6, 6, 2), (0, 1)),
        (keras.layers.Embedding(9, 4), (3, 5), (0, 1)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_kernels_are_rounded_with_a_scale_a_channel(layer, shape, axes):
    rng = np.random.default_rng(0)
    words = isinstance(layer, keras.layers.Embedding)
    x = rng.integers(0, 9, shape) if words else rng.standard_normal(shape).astype("float32")
    layer(x)
    kernel = rng.standard_normal(layer.weights[0].shape) * 10.0 ** rng.integers(
        -2, 3, layer.weights[0].shape[-1]
    )
    layer.set_weights([kernel, *layer.get_weights()[1:]])
    scale = np.abs(kernel).max(axes, keepdims=True) / 127
    plain = type(layer).from_config(layer.get_config())
    plain(x)
    plain.set_weights([np.round(kernel / scale) * scale, *layer.get_weights()[1:]])
    rounded = QuantizedWeights(layer)
    same([rounded(x)], [plain(x)], rtol=1e-4, atol=1e-4)
    same(rounded.get_weights(), layer.get_weights(), rtol=0, atol=0)


def test_gradients_pass_the_rounding_straight():
    """What a kernel's gradient is at the rounded kernel, on rounded inputs, is what the real kernel
    moves by."""
    x, layer, range_ = (
        np.random.default_rng(0).standard_normal((6, 4)).astype("float32"),
        keras.layers.Dense(3),
        FakeQuantize(),
    )
    layer.build((None, 4))
    range_(x, training=True)
    scale = np.abs(layer.kernel.numpy()).max(0) / 127
    rounded = tf.constant(np.round(layer.kernel.numpy() / scale) * scale)
    wrapped = QuantizedWeights(layer)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(wrapped(range_(x))))
    with tf.GradientTape() as other:
        other.watch(rounded)
        expected = tf.reduce_sum(tf.square(range_(x) @ rounded + layer.bias))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    same(
        [tape.gradient(loss, layer.kernel.value)],
        [other.gradient(expected, rounded)],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.large
def test_statistics_of_normalization_stand_still_and_its_scale_is_trained():
    x, y = image_data()
    model = image_model()
    aware = quantization_aware(model)
    aware.compile("adam")
    aware.fit(x, y, batch_size=8, verbose=0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    for old in norms:
        new = float_twin(aware).get_layer(old.name)
        same(
            [new.moving_mean, new.moving_variance],
            [old.moving_mean, old.moving_variance],
            rtol=0,
            atol=0,
        )
        assert np.abs(new.gamma.numpy() - old.gamma.numpy()).max() > 0


# ------------------------------------------------------------------ every builder
#: One on images, one on text, one on tables.
ONE_OF_EACH_KIND = ("layerwise", "hard_sharing", "mmoe")


@pytest.mark.large
@pytest.mark.parametrize(
    ("builder", "kind"),
    [
        pytest.param(b, KINDS[i % 3], marks=[] if b in ONE_OF_EACH_KIND else pytest.mark.large)
        for i, b in enumerate(BUILDERS)
    ],
)
def test_every_builder_is_trained_and_comes_back(builder, kind, tmp_path):
    try:
        model, x, y = network(builder, kind)
    except ValueError:
        model, x, y = network(builder, "table")
    aware = quantization_aware(model)
    assert aware.task_names == model.task_names and type(aware) is type(model)
    ranges = [layer for layer in aware.layers if isinstance(layer, FakeQuantize)]
    assert ranges and any(isinstance(layer, QuantizedWeights) for layer in aware.layers)
    same(float_twin(aware).get_weights(), model.get_weights(), rtol=0, atol=0)
    a, b = float_twin(aware).predict(x, verbose=0), model.predict(x, verbose=0)
    same([a[k] for k in b], [b[k] for k in b], rtol=0, atol=0)
    aware.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    assert np.isfinite(aware.train_on_batch(x, y, return_dict=True)["loss"])
    seen = [r for r in ranges if r.fixed is None]
    # Adapters start as zeros, and a modality that is always there has one value.
    assert sum(float(r.low) < float(r.high) for r in seen) > 0.5 * len(seen)
    aware.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    c, d = aware(x), loaded(x)
    same([c[k] for k in b], [d[k] for k in b], rtol=0, atol=0)
    twin = float_twin(loaded)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    moved = [
        np.abs(v - w).max()
        for v, w in zip(twin.get_weights(), model.get_weights(), strict=True)
        if v.size
    ]
    assert max(moved) > 0


# ------------------------------------------------------------------ as any model
@pytest.mark.large
def test_trains_with_a_balancer_and_missing_labels_and_goes_on_after_loading(tmp_path):
    x, y = table_data()
    y["cost"] = np.where(np.arange(len(x)) % 2, np.nan, y["cost"]).astype("float32")
    aware = quantization_aware(table_model())
    aware.compile(keras.optimizers.Adam(0.01), balancer="pcgrad")
    losses = aware.fit(x, y, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    aware.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for model in (aware, loaded):
        keras.utils.set_random_seed(0)
        model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    same(loaded.get_weights(), aware.get_weights())


def test_chosen_heads_are_left_alone():
    model = image_model()
    aware = quantization_aware(model, keep_float=["box", "kind_hidden"])
    rounded = {
        layer.name for layer in aware.layers if isinstance(layer, (FakeQuantize, QuantizedWeights))
    }
    assert not any(name.startswith(("box", "kind_hidden")) for name in rounded)
    assert any(name.startswith("mask") for name in rounded) and any(
        name.startswith("kind") for name in rounded
    )
    everything = quantization_aware(model)
    assert len(everything.layers) > len(aware.layers)


def test_an_aware_network_computes_what_its_file_does(tmp_path):
    """Where rounding costs much, the network shows the cost before there is a file."""
    model, x, _ = ruined_model()
    aware = quantization_aware(model)
    aware(x, training=True)
    with warnings.catch_warnings():
        # Whether the head loses more than half of what moves in it, and is warned of, hangs on the
        # weights drawn.
        warnings.simplefilter("ignore")
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, on_drop="warn")
    file = mtl.export.run_tflite(tmp_path / "m.tflite", {"numeric": x})["cost"]
    near, far = (
        np.abs(file - other.predict(x, verbose=0)["cost"]).mean() for other in (aware, model)
    )
    assert near < 0.25 * far


@pytest.mark.large
def test_a_head_that_int8_ruins_is_repaired(tmp_path):
    """Training in float for as long leaves the head as it was; training on what the file computes
    does not."""
    model, x, y = ruined_model()

    def in_int8(trained):
        report = mtl.export.tflite(
            trained, tmp_path / "m.tflite", "int8", calibration=x, evaluate=(x, y), on_drop="warn"
        )
        return {head.name: head.after for head in report.heads}, {
            head.name: head.before for head in report.heads
        }

    alone, before = in_int8(model)
    assert alone["cost"] < before["cost"] - 0.05
    aware, control = quantization_aware(model), keras.models.clone_model(model)
    control.set_weights(model.get_weights())
    for trained in (aware, control):
        trained.compile(keras.optimizers.Adam(0.003))
        trained.fit(x, y, epochs=10, verbose=0)
    repaired, further = in_int8(aware)[0], in_int8(control)[0]
    assert all(repaired[name] >= alone[name] for name in repaired)
    assert repaired["cost"] > before["cost"] - 0.05 and repaired["cost"] > further["cost"] + 0.05
    with pytest.raises(ExportError, match="cost"):
        mtl.export.tflite(
            model, tmp_path / "m.tflite", "int8", calibration=x, evaluate=(x, y), max_drop=0.05
        )


@pytest.mark.large
def test_files_of_all_kinds_are_the_float_networks(trained, tmp_path):
    model, x, _ = trained
    aware = quantization_aware(model)
    assert [
        head.name for head in mtl.export.tflite(aware, tmp_path / "m.tflite").heads
    ] == model.task_names
    mtl.export.tflite(model, tmp_path / "n.tflite")
    a, b = (mtl.export.run_tflite(tmp_path / f"{n}.tflite", {"image": x[:4]}) for n in "mn")
    same([a[k] for k in b], [b[k] for k in b], rtol=0, atol=0)
    mtl.export.saved_model(aware, tmp_path / "s")
    assert sorted(mtl.export.split(aware, tmp_path / "parts")) == sorted(
        mtl.export.split(model, tmp_path / "others")
    )


# ------------------------------------------------------------------ bad input
def test_errors_say_what_to_do():
    model = table_model()
    aware = quantization_aware(model)
    with pytest.raises(ValueError, match="quantization-aware already"):
        quantization_aware(aware)
    with pytest.raises(ValueError, match="not quantization-aware"):
        float_twin(model)
    with pytest.raises(ValueError, match=r"`keep_float`.*'cosd'.*cost"):
        quantization_aware(model, keep_float=["cosd"])
    with pytest.raises(ValueError, match=r"keep_float=\['cost'\]"):
        quantization_aware(model, keep_float="cost")
    with pytest.raises(ValueError, match="momentum"):
        FakeQuantize(momentum=1)
    x = keras.Input((5,), name="x")
    inner = keras.Model(x, keras.layers.Dense(3)(x), name="trunk")
    nested = keras.Model(x, {"cost": keras.layers.Dense(1, name="cost")(inner(x))})
    with pytest.raises(ExportError, match="'trunk' is a model of its own"):
        quantization_aware(nested)
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(ExportError, match="mixed_float16"):
        quantization_aware(table_model())
