"""Pruned, clustered and int8-trained networks, by engines in this process and in one of their
own."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, ruined_model, same, table_data, table_model

import mtl_keras as mtl
from mtl_keras.export import ExportError, compress, quantization_aware
from mtl_keras.export.judge import held_out, scores
from mtl_keras.runtime import flatbuffer

tfmot = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"),
    reason="needs mtl-keras[compression]",
)


def _kernels(model):
    return {v.path.split("/")[0]: v.numpy() for v in model.trainable_variables if len(v.shape) >= 2}


@pytest.fixture
def table():
    model = table_model(widths=(24, 16))
    model.compile("adam", balancer="uncertainty")
    x, y = table_data(rows=96)
    return model, x, y


# ------------------------------------------------------------------ in this process
@pytest.mark.large
def test_qat_is_trained_with_the_models_own_balancer_and_losses(table):
    model, x, y = table
    model.loss_weights["cost"].assign(0.25)
    small = compress(model, (x, y), (x, y), epochs=2, learning_rate=0.01)
    assert small.compression.engine == "keras" and small.compression.method == "qat"
    assert small.balancer.name == "uncertainty" and float(small.loss_weights["cost"]) == 0.25
    assert set(small.compression.heads) == {"cost", "sold"}
    assert small.compression.heads["cost"][0] == "r2" and "cost r2: " in str(small.compression)
    twin = mtl.export.float_twin(small)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert any((a != b).any() for a, b in zip(twin.get_weights(), model.get_weights(), strict=True))
    assert (
        float(small.optimizer.learning_rate) == pytest.approx(0.01)
        and int(model.optimizer.iterations) == 0
    )


def test_a_head_that_loses_too_much_is_refused_and_named():
    model, x, y = ruined_model()
    with pytest.raises(
        ExportError, match=r"'qat' loses more than `max_drop` allows on 'cost' r2"
    ) as caught:
        compress(model, (x, y), (x, y), epochs=1, learning_rate=1e-7, max_drop={"cost": 0.001})
    assert caught.value.tasks == ["cost"]


@pytest.mark.large
def test_qat_keeps_the_epoch_whose_worst_head_is_best():
    """What is kept is one of the epochs, before the first included; ruinous training is undone."""
    model, x, y = ruined_model()
    start, data = quantization_aware(model), held_out(model, (x, y))
    for i in range(8):
        start(x[32 * i : 32 * i + 32], training=True)
    trained = compress(model, (x, y), (x, y), epochs=8, learning_rate=0.005)
    lost = max(before - after for _, before, after in trained.compression.heads.values())
    untrained = scores(start, data)
    whole = scores(model, data)
    assert lost < 0.5 * max(whole[key] - untrained[key] for key in ("cost_r2", "sold_auc"))
    wild = compress(model, (x, y), (x, y), epochs=3, learning_rate=50.0)
    same(wild.get_weights(), start.get_weights(), rtol=1e-6, atol=1e-6)
    assert float(wild.optimizer.learning_rate) == 50.0
    kept = compress(model, (x, y), epochs=3, learning_rate=50.0)
    assert scores(kept, data)["cost_r2"] < untrained["cost_r2"]


@pytest.mark.large
def test_metrics_that_the_data_do_not_define_choose_nothing(table):
    """Of one class only there is no area under the curve: the other head chooses."""
    model, x, y = table
    one = {**y, "sold": np.ones_like(y["sold"])}
    small = compress(model, (x, y), (x, one), epochs=3, learning_rate=0.01)
    before, after = small.compression.heads["cost"][1:]
    sold = small.compression.heads["sold"]
    assert sold[1:] == (0, 0) and after > before


@pytest.mark.large
def test_the_learning_rate_falls_along_a_cosine(table, monkeypatch):
    model, x, y = table
    seen, falling = [], sys.modules["mtl_keras.export.compression.compress"]._Falling
    look = lambda self, batch, logs=None: seen.append(float(self.model.optimizer.learning_rate))  # noqa: E731
    monkeypatch.setattr(falling, "on_train_batch_end", look)
    data = (
        tf.data.Dataset.from_tensor_slices((x, y)).batch(32).filter(lambda x, y: True)
    )  # of unknown length
    compress(model, data, epochs=2, learning_rate=0.01)
    np.testing.assert_allclose(seen, 0.005 * (1 + np.cos(np.pi * np.arange(6) / 6)), rtol=1e-5)


# ------------------------------------------------------------------ in a process of its own
@pytest.mark.large
@tfmot
def test_pruned_weights_are_zero_where_asked_and_the_rest_goes_on_learning(table, tmp_path):
    """Half the rows lack a label, and one head is left alone."""
    model, x, y = table
    y["cost"] = np.where(np.arange(len(x)) % 2, np.nan, y["cost"]).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    small = compress(
        model, data, method="prune", sparsity=0.75, keep=["sold"], epochs=8, learning_rate=0.01
    )
    assert type(small) is type(model) and small.task_names == model.task_names
    before, after = _kernels(model), _kernels(small)
    for name, kernel in after.items():
        share = 0 if name.startswith("sold") else round(0.75 * kernel.size) / kernel.size
        assert (kernel == 0).mean() == pytest.approx(share, abs=1.01 / kernel.size), name
        assert (kernel != before[name]).any()
        # What is left is what was largest, give or take what training moved.
        if kernel.size > 100:
            left = np.abs(before[name])[kernel != 0].mean()
            assert left > 1.5 * np.abs(before[name])[kernel == 0].mean()
    assert small.compression.zeros == pytest.approx(
        np.mean(np.concatenate([k.ravel() for k in after.values()]) == 0)
    )
    first, last = (m.evaluate(x, y, verbose=0)["loss"] for m in (model, small))
    assert last < first
    plain, pruned = (mtl.export.tflite(m, tmp_path / "m.tflite") for m in (model, small))
    assert plain.sparse_size is None and pruned.zeros > 0.7
    assert pruned.gzip_size < 0.9 * plain.gzip_size
    assert pruned.to_dict()["gzip_bytes"] == pruned.gzip_size and pruned.sparse_size < pruned.size
    # The parent stays what it was.
    assert "tf_keras" not in sys.modules and "tensorflow_model_optimization" not in sys.modules


@pytest.mark.large
@tfmot
def test_combinations_keep_what_came_before(tmp_path):
    """A convolution with normalization behind, arrays, and sample weights."""
    x, y = image_data(rows=8)
    y, weights = {"kind": y["kind"]}, {"kind": np.ones(8, "float32")}
    tasks = [mtl.tasks.Classification("kind", num_classes=3, hidden=12)]
    model = mtl.builders.hard_sharing(
        (16, 16, 1), tasks, backbone_options={"widths": (8,), "depth": 1}
    )
    model.compile("adam")
    small = compress(
        model,
        (x, y, weights),
        method="qat+prune+cluster",
        sparsity=0.5,
        clusters=6,
        epochs=1,
        batch_size=8,
    )
    report = small.compression
    assert report.method == "prune+cluster+qat" and report.zeros == pytest.approx(0.5, abs=0.02)
    # With int8 behind, TFMOT clusters a convolution's channels each by itself.
    assert all(count <= 7 for path, count in report.distinct.items() if "conv" not in path)
    for channel in np.moveaxis(_kernels(small)["small_cnn_stage1_block1_conv"], -1, 0):
        assert np.unique(channel).size <= 7
    mtl.export.tflite(small, tmp_path / "m.tflite", "int8", calibration=x)


# ------------------------------------------------------------------ the way to the older Keras and back
_LAB = """
import json, sys, keras, numpy as np
import mtl_keras as mtl
from mtl_keras.export.compression import tfmot
keras.utils.set_random_seed(0)
L = keras.layers
cost, sold = mtl.tasks.Regression("cost"), mtl.tasks.Binary("sold")
told = {}


def network(inputs, h):
    ends = {t.name: mtl.tasks.TaskOutput(t)(L.Dense(1, name=t.name + "_linear")(h)) for t in (cost, sold)}
    model = mtl.MultiTaskModel(inputs, ends)
    for v in model.variables:
        if "float" in v.dtype:
            v.assign(np.random.default_rng(0).uniform(0.1, 1, v.shape))
    return model


def stage(name, model, **options):
    old, names = tfmot.rebuilt(model)
    options = {"keep": [], "pattern": None, "schedule": "constant", "sparsity": 0.5, **options}
    made, strip, callback = tfmot._STAGES[name](old, {layer.name for layer in old.layers}, options, [], 4)
    return made, strip, callback, names


# Layers of many kinds, a shared one too, and weights that come back as they went.
image, words = keras.Input((8, 8, 2), name="image"), keras.Input((5,), dtype="int32", name="words")
h = L.Activation("swish")(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False)(image)))
h = L.Add()([h, L.DepthwiseConv2D(3, padding="same", depthwise_regularizer="l2")(h)])
h = L.SeparableConv2D(3, 3, activation="relu")(L.MaxPooling2D()(L.ZeroPadding2D(1)(h)))
h = L.GlobalAveragePooling2D()(L.Conv2DTranspose(3, 2, activation=keras.activations.gelu)(h))
w = L.Bidirectional(L.LSTM(3))(L.Embedding(9, 4)(words))
shared = L.Dense(3, activation="leaky_relu")
h = L.Concatenate()([shared(h), shared(L.Dense(3)(w)), L.LayerNormalization()(w)])
model = network({"image": image, "words": words}, L.Dropout(0.1)(h))
old, names = tfmot.rebuilt(model)
x = {"image": np.random.default_rng(1).random((3, 8, 8, 2)).astype("float32"), "words": np.array([[1, 2, 3, 0, 0]] * 3)}
found, expected = old([x[t.name] for t in model.inputs], training=False), model(x, training=False)
told["worst"] = max(float(np.abs(np.asarray(model.task(n).activate(v)) - expected[n]).max())
                    for n, v in zip(model.task_names, found))
layers = {layer.name: layer for layer in old.layers}
told["back"] = all((np.asarray(a) == b).all() for n, ws in names.items()
                   for a, b in zip(tfmot._weights(layers[n], ws), model.get_layer(n).get_weights(), strict=True))
told["layers"], told["regularized"] = len(names), len(old.losses)

# What TFMOT does not quantize is named.
inputs = keras.Input((5,), name="numeric")
h = L.LayerNormalization(name="norm")(L.Dense(4)(inputs))
gated = network(inputs, L.Multiply(name="gate")([h, L.Dense(4, activation="sigmoid")(h)]))
try:
    stage("qat", gated)
except tfmot.CannotCarry as error:
    told["reasons"] = error.reasons

# Two zeros in every four neighbors.
plain = network(inputs, L.Dense(8, name="second")(L.Dense(16)(inputs)))
made, strip, callback, names = stage("prune", plain, pattern=(2, 4))
callback.set_model(made)
callback.on_train_begin()
callback.on_train_batch_begin(batch=None)
made(np.ones((2, 5), "float32"), training=True)
callback.on_epoch_end(batch=None)
layers = {layer.name: layer for layer in strip(made).layers}
told["zeros"] = (np.asarray(tfmot._weights(layers["second"], names["second"])[0]) == 0).astype(int).tolist()

# Few values, without int8 behind: the layers that come back were built anew.
for done in ([], ["prune"]):
    old, names = tfmot.rebuilt(plain)
    if done:
        second = old.get_layer("second")
        second.set_weights([second.get_weights()[0] * (np.arange(8) % 2), second.get_weights()[1]])
    options = {"clusters": 4, "keep": []}
    made, strip, _ = tfmot._cluster(old, {layer.name for layer in old.layers}, options, done, 4)
    layers = {tfmot._inside(layer).name: layer for layer in strip(made).layers}
    back = {name: tfmot._weights(layers[name], weights) for name, weights in names.items()}
    told["clustered" + "".join(done)] = {
        "values": [int(np.unique(values[0]).size) for values in back.values()],
        "zeros": (back["second"][0] == 0).all(0).tolist(),
        "biases": all((values[1] == plain.get_layer(name).get_weights()[1]).all() for name, values in back.items()),
    }

# What a later stage can't do is said before the first one trains.
try:
    tfmot._rehearse(gated, {"stages": ["prune", "qat"], "keep": [], "pattern": None, "schedule": "constant", "sparsity": 0.5})
except tfmot.CannotCarry as error:
    told["rehearsed"] = sorted(error.reasons)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def lab():
    """What happens in a process with both Kerases."""
    done = subprocess.run([sys.executable, "-c", _LAB], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.large
@tfmot
def test_a_network_answers_the_same_in_the_older_keras(lab):
    assert lab["worst"] < 1e-4 and lab["back"] and lab["layers"] == 12 and lab["regularized"] == 1


@pytest.mark.large
@tfmot
def test_two_zeros_in_every_four_neighbors(lab):
    # Neighbors along the inputs, as the runtime's kernels read them.
    kernel = np.array(lab["zeros"])
    assert kernel.shape == (16, 8) and (kernel.T.reshape(-1, 4).sum(-1) == 2).all()


@pytest.mark.large
@tfmot
def test_clustered_layers_come_back_without_int8_behind(lab):
    for told in (lab["clustered"], lab["clusteredprune"]):
        assert told["values"] and all(values <= 4 for values in told["values"]) and told["biases"]
    assert (
        not any(lab["clustered"]["zeros"]) and lab["clusteredprune"]["zeros"] == [True, False] * 4
    )


@pytest.mark.large
@tfmot
def test_what_a_later_stage_can_not_do_is_said_before_the_first_one_trains(lab):
    assert lab["rehearsed"] == ["gate", "norm"]


@tfmot
@pytest.mark.large
@pytest.mark.parametrize("method", ["cluster", "prune+cluster"])
def test_few_values_hold_in_every_kind_of_file(method, tmp_path):
    """In each output channel: normalization folded into a kernel, and int8, scale channels one by
    one."""
    x, y = image_data(rows=16)
    tasks = [mtl.tasks.Classification("kind", num_classes=3, hidden=12)]
    model = mtl.builders.hard_sharing(
        (16, 16, 1), tasks, backbone_options={"widths": (8,), "depth": 2}
    )
    model.compile("adam")
    model.fit(x, {"kind": y["kind"]}, verbose=0)
    small = compress(model, (x, {"kind": y["kind"]}), method=method, clusters=5, epochs=1)
    assert set(small.compression.distinct.values()) == {5}
    # What is near zero may go to the zeros' value too.
    assert (
        0.45 < small.compression.zeros < 0.7 if "prune" in method else small.compression.zeros < 0.3
    )
    for quantization in (None, "float16", "dynamic", "int8"):
        mtl.export.tflite(small, tmp_path / "m.tflite", quantization, calibration=x)
        kernels = _kernels_of((tmp_path / "m.tflite").read_bytes())
        assert len(kernels) == 4
        for kernel in kernels:
            assert max(np.unique(channel).size for channel in kernel) <= 5
            if kernel.ndim == 2 and quantization is None:  # nothing is folded into a dense layer
                assert np.unique(kernel).size <= 5


def _kernels_of(content):
    """A file's kernels, output channels first."""
    graph = (model := flatbuffer.read(content)).subgraphs[0]
    kinds, kernels = {0: "float32", 1: "float16", 9: "int8"}, []
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if (
            data is not None
            and tensor.type in kinds
            and tensor.shape is not None
            and len(tensor.shape) in (2, 4)
        ):
            value = np.frombuffer(bytes(bytearray(data)), kinds[tensor.type])
            if value.size >= 36:
                kernels.append(value.reshape(tensor.shape))
    return kernels


@pytest.mark.large
@tfmot
def test_what_tfmot_can_not_carry_is_named(lab, table):
    assert set(lab["reasons"]) == {"norm", "gate"} and "Multiply" in lab["reasons"]["gate"]
    model, x, y = table
    gated = mtl.builders.mmoe(
        (5,), model.tasks, backbone="mlp", backbone_options={"widths": (8,)}, units=4
    )
    gated.compile("adam")
    with pytest.raises(
        ExportError, match=r"can't carry.*Experts.*which only Keras 3 knows.*engine=\"keras\""
    ):
        compress(gated, (x, y), method="prune")


# ------------------------------------------------------------------ bad input
def test_bad_settings_are_refused_before_any_work(table):
    model, x, y = table
    for message, given in {
        r"Unknown method 'prun'.*prune": {"method": "prun"},
        "joined by": {"method": "prune+prune"},
        "'qat' alone": {"method": "prune", "engine": "keras"},
        "engine is": {"engine": "torch"},
        "epochs": {"epochs": 0},
        "learning_rate": {"learning_rate": 0},
        "sparsity lies": {"sparsity": 1.0},
        "schedule is": {"schedule": "linear"},
        "pattern is": {"pattern": (4, 2)},
        "clusters": {"clusters": 1},
        "needs held-out data": {"max_drop": 0.1},
        "`keep`.*'cosd'": {"keep": ["cosd"], "method": "qat"},
    }.items():
        with pytest.raises((ValueError, ExportError), match=message):
            compress(model, (x, y), **given)
    with pytest.raises(ValueError, match=r"never ends.*take"):
        compress(model, tf.data.Dataset.from_tensors((x, y)).repeat())
    with pytest.raises(ValueError, match="`train` is"):
        compress(model, x)
    with pytest.raises(ValueError, match="not compiled"):
        compress(table_model(), (x, y))
    with pytest.raises(ValueError, match="float_twin"):
        compress(mtl.export.quantization_aware(model), (x, y))


def test_without_tfmot_the_error_says_what_to_install(table, monkeypatch):
    model, x, y = table
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pip install 'mtl-keras\[compression\]'"):
        compress(model, (x, y), method="prune")


@pytest.mark.large
@tfmot
def test_a_training_that_fails_says_why(table):
    model, x, y = table
    with pytest.raises(
        ExportError, match=r"loss of step \d+ of epoch \d+ of 'prune' is not finite"
    ):
        compress(model, (np.where(x > 1, np.inf, x).astype("float32"), y), method="prune", epochs=1)
