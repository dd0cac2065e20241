"""Mixtures of experts: the papers' formulas, their limits, and the whole road."""

import keras
import numpy as np
import pytest
from helpers import image_data, image_tasks, same, table_data

import mtl_keras as mtl

TASKS = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
BUILDERS = [mtl.builders.mmoe, mtl.builders.omoe]


def _softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("builder", BUILDERS)
def test_outputs_follow_the_papers_formula(builder):
    x, _ = table_data()
    model = builder((5,), TASKS, experts=3, units=4, name="m")
    layer = model.get_layer("m_experts")
    kernel, bias = layer.kernel.numpy().reshape(5, 3, 4), layer.bias.numpy().reshape(3, 4)
    experts = np.maximum(np.einsum("ri,ieo->reo", x, kernel) + bias, 0)
    out = model.predict(x, verbose=0)
    for task in TASKS:
        gate = model.get_layer("m_gate" if builder is mtl.builders.omoe else f"m_{task.name}_gate")
        mixed = np.einsum("re,reo->ro", _softmax(x @ gate.kernel.numpy()), experts)
        head = model.get_layer(f"{task.name}_linear")
        logits = mixed @ head.kernel.numpy() + head.bias.numpy()
        expected = logits if task.name == "cost" else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(out[task.name], expected, rtol=1e-4, atol=1e-5)


def test_the_number_of_parameters_is_that_of_the_formula():
    heads = 2 * (4 + 1)
    for builder, gates in ((mtl.builders.mmoe, 2), (mtl.builders.omoe, 1)):
        model = builder((5,), TASKS, experts=3, units=4)
        assert model.count_params() == 3 * (5 + 1) * 4 + gates * 5 * 3 + heads


def test_one_expert_is_hard_sharing():
    x, _ = table_data()
    moe = mtl.builders.mmoe((5,), TASKS, experts=1, units=6, name="m")
    hard = mtl.builders.hard_sharing((5,), TASKS, backbone=lambda i: keras.layers.Dense(6, activation="relu", name="d")(i))
    experts = moe.get_layer("m_experts")
    hard.get_layer("d").set_weights([experts.kernel.numpy(), experts.bias.numpy()])
    for task in TASKS:
        hard.get_layer(f"{task.name}_linear").set_weights(moe.get_layer(f"{task.name}_linear").get_weights())
    a, b = moe.predict(x, verbose=0), hard.predict(x, verbose=0)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6)


def test_experts_start_different_and_gates_belong_to_their_task():
    model = mtl.builders.mmoe((5,), TASKS, experts=3, units=4, name="m")
    kernels = model.get_layer("m_experts").kernel.numpy().reshape(5, 3, 4)
    assert np.abs(kernels[:, 0] - kernels[:, 1]).max() > 0.01
    model.compile("sgd", balancer="cagrad")
    assert model.balancing_report().shared == ["m_experts/kernel", "m_experts/bias"]
    one = mtl.builders.omoe((5,), TASKS, experts=3, units=4, name="m")
    one.compile("sgd", balancer="cagrad")
    assert "m_gate/kernel" in one.balancing_report().shared


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "cagrad"])
@pytest.mark.parametrize("kind", ["image", "text", "table"])
def test_every_kind_of_input_trains_saves_and_loads(builder, balancer, kind, tmp_path):
    model, x, y = _network(builder, kind)
    model.compile("adam", balancer=balancer)
    assert np.isfinite(model.fit(x, y, batch_size=8, verbose=0).history["loss"]).all()
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    a, b = model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    same([a[k] for k in a], [b[k] for k in a], rtol=0, atol=0)


def _network(builder, kind):
    if kind == "image":
        x, y = image_data(8)
        options = {"backbone": "small_cnn", "backbone_options": {"widths": (4, 8), "depth": 1}}
        return builder((16, 16, 1), image_tasks(), experts=2, units=6, **options), x, y
    if kind == "text":
        x = np.random.default_rng(0).integers(1, 9, (8, 4)).astype("int32")
        options = {"backbone": "bilstm", "backbone_options": {"vocabulary_size": 10, "embedding_dim": 3, "units": 2}}
        tasks = [mtl.tasks.Binary("sold"), mtl.tasks.Regression("cost")]
        y = {"sold": np.arange(8) % 2, "cost": np.arange(8.0)}
        return builder({"tokens": (4,)}, tasks, experts=2, units=6, **options), x, y
    x, y = table_data(8)
    return builder((5,), TASKS, backbone="mlp", backbone_options={"widths": (8,)}, experts=2, units=6), x, y


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_files_for_the_phone_have_builtin_operators_only(builder, quantization, tmp_path):
    """Float and int8, image and table; the exporter compares every head itself."""
    for kind in ("image", "table"):
        model, x, _ = _network(builder, kind)
        report = mtl.export.tflite(model, tmp_path / f"{kind}.tflite", quantization=quantization, calibration=x)
        assert {head.name for head in report.heads} == set(model.task_names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"experts": 0}, "at least 1, got 0"),
        ({"units": 0}, "at least 1, got 4 and 0"),
        ({"inputs": {"tokens": (4,)}}, "'mmoe' without a backbone takes one input of numbers"),
        ({"tasks": [TASKS[0], TASKS[0]]}, "share the name 'cost'"),
        ({"backbone": "ml"}, "Did you mean 'mlp'"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        mtl.builders.mmoe(**{"inputs": (5,), "tasks": TASKS, **arguments})


def test_a_gate_for_other_experts_is_refused_by_the_layers_name():
    experts, gate = mtl.layers.Experts(3, 4)(keras.Input((5,))), keras.Input((2,))
    with pytest.raises(ValueError, match="Mixture 'mix': a gate for 2 experts meets 3"):
        mtl.layers.Mixture(name="mix")([experts, gate])
