"""Mixtures of experts: the papers' formulas, their limits, and the whole road."""

import keras
import numpy as np
import pytest
from helpers import table_data

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
    hard = mtl.builders.hard_sharing(
        (5,), TASKS, backbone=lambda i: keras.layers.Dense(6, activation="relu", name="d")(i)
    )
    experts = moe.get_layer("m_experts")
    hard.get_layer("d").set_weights([experts.kernel.numpy(), experts.bias.numpy()])
    for task in TASKS:
        hard.get_layer(f"{task.name}_linear").set_weights(
            moe.get_layer(f"{task.name}_linear").get_weights()
        )
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


# ------------------------------------------------------------------ CGC and PLE
def test_levels_follow_the_papers_formula():
    x, _ = table_data(6)
    model = mtl.builders.ple(
        (5,), TASKS, levels=2, task_experts=2, shared_experts=1, units=3, name="p"
    )

    def experts(name, z):
        layer = model.get_layer(name)
        kernel = layer.kernel.numpy().reshape(z.shape[1], layer.experts, 3)
        return np.maximum(
            np.einsum("ri,ieo->reo", z, kernel) + layer.bias.numpy().reshape(layer.experts, 3), 0
        )

    def gate(name, z):
        return _softmax(z @ model.get_layer(name).kernel.numpy())

    streams, shared = {"cost": x, "sold": x}, x
    for level in (1, 2):
        own = {t: experts(f"p_level{level}_{t}_experts", z) for t, z in streams.items()}
        common = experts(f"p_level{level}_experts", shared)
        new = {
            t: np.einsum(
                "re,reo->ro",
                gate(f"p_level{level}_{t}_gate", z),
                np.concatenate([own[t], common], 1),
            )
            for t, z in streams.items()
        }
        if level == 1:
            shared = np.einsum(
                "re,reo->ro",
                gate("p_level1_gate", shared),
                np.concatenate([*own.values(), common], 1),
            )
        streams = new
    head = model.get_layer("cost_linear")
    expected = streams["cost"] @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0)["cost"], expected, rtol=1e-4, atol=1e-5)


def test_one_level_of_ple_is_cgc():
    x, _ = table_data(6)
    a = mtl.builders.ple((5,), TASKS, levels=1, task_experts=2, shared_experts=3, units=4)
    b = mtl.builders.cgc((5,), TASKS, task_experts=2, shared_experts=3, units=4)
    assert [w.shape for w in a.weights] == [w.shape for w in b.weights]
    b.set_weights(a.get_weights())
    one, other = a.predict(x, verbose=0), b.predict(x, verbose=0)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert "cgc_level1_gate" not in {layer.name for layer in b.layers}, (
        "the last level has no shared gate"
    )


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ple_has_the_number_of_parameters_of_the_formula(levels):
    tasks, own, shared, units, size = 2, 3, 2, 4, 5
    model = mtl.builders.ple(
        (size,), TASKS, levels=levels, task_experts=own, shared_experts=shared, units=units
    )
    count = tasks * (units + 1)
    for level in range(levels):
        d = size if level == 0 else units
        count += (tasks * own + shared) * (d + 1) * units + tasks * d * (own + shared)
        count += d * (tasks * own + shared) if level < levels - 1 else 0
    assert model.count_params() == count


def test_own_experts_of_the_last_level_are_their_tasks_alone():
    model = mtl.builders.ple((5,), TASKS, levels=2, units=4, name="p")
    model.compile("sgd", balancer="cagrad")
    shared = set(model.balancing_report().shared)
    assert "p_level2_experts/kernel" in shared and "p_level1_gate/kernel" in shared
    # Through the shared gate the first level's experts of one task serve the other; the last
    # level's do not.
    assert "p_level1_cost_experts/kernel" in shared
    assert (
        not {
            "p_level2_cost_experts/kernel",
            "p_level2_cost_gate/kernel",
            "p_level1_cost_gate/kernel",
        }
        & shared
    )


# ------------------------------------------------------------------ DSelect-k
@pytest.mark.parametrize("experts", [1, 3, 4, 8])
@pytest.mark.parametrize("per_example", [False, True])
def test_selecting_gates_sum_to_one(experts, per_example):
    x = np.random.default_rng(0).standard_normal((7, 5)).astype("float32")
    layer = mtl.layers.DSelectKGate(experts, k=min(2, experts), per_example=per_example)
    gate = np.asarray(layer(x))
    assert gate.shape == (7, experts) and gate.min() >= 0
    np.testing.assert_allclose(gate.sum(1), 1.0, rtol=1e-5)


def test_a_gate_whose_bits_are_set_selects_the_experts_of_these_codes():
    layer = mtl.layers.DSelectKGate(8, k=2)
    layer.build((None, 5))
    # Bits, lowest first: expert 3 = 1 1 0 and expert 4 = 0 0 1; the mixture is the softmax of (0,
    # log 3).
    layer.z.assign([1, 1, -1, -1, -1, 1])
    layer.w.assign([0.0, np.log(3.0)])
    gate = np.asarray(layer(np.zeros((1, 5), "float32")))[0]
    np.testing.assert_allclose(gate, np.eye(8)[3] * 0.25 + np.eye(8)[4] * 0.75, atol=1e-6)


@pytest.mark.large
def test_after_training_with_the_regularizer_at_most_k_experts_are_left():
    x, y = table_data(64)
    model = mtl.builders.dselect_k(
        (5,), TASKS, experts=6, k=2, units=4, penalty_weight=1.0, name="d"
    )
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=150, batch_size=64, verbose=0)
    for task in model.task_names:
        gate = np.asarray(model.get_layer(f"d_{task}_gate")(x))
        np.testing.assert_allclose(gate.sum(1), 1.0, rtol=1e-5)
        assert (gate[0] > 1e-4).sum() <= 2, gate[0]


def test_static_gates_have_the_papers_number_of_parameters():
    model = mtl.builders.dselect_k((5,), TASKS, experts=6, k=2, units=4)
    assert model.count_params() == 6 * (5 + 1) * 4 + 2 * 2 * (3 + 1) + 2 * 5


@pytest.mark.parametrize("places", [(), (6,), (3, 2)], ids=["vectors", "sequences", "maps"])
def test_experts_and_mixtures_are_dense_layers_weighed_by_a_gate_at_every_place(places):
    # Against float64, written with an axis of its own for the experts.
    rng = np.random.default_rng(0)
    x, weights = (
        rng.standard_normal((4, *places, 5)).astype("float32"),
        _softmax(rng.standard_normal((4, 3))),
    )
    layer = mtl.layers.Experts(3, 2)
    outputs = layer(x)
    kernel, bias = (
        layer.kernel.numpy().reshape(5, 3, 2).astype("float64"),
        rng.standard_normal((3, 2)),
    )
    layer.bias.assign(bias.ravel())
    apart = np.maximum(np.einsum("r...i,ieo->r...eo", x, kernel) + bias, 0)
    outputs = layer(x)
    assert outputs.shape == (4, *places, 6)
    np.testing.assert_allclose(outputs, apart.reshape(4, *places, 6), rtol=1e-4, atol=1e-5)
    expected = np.einsum("re,r...eo->r...o", weights, apart)
    gate = weights.astype("float32")
    np.testing.assert_allclose(
        mtl.layers.Mixture()([outputs, gate]), expected, rtol=1e-4, atol=1e-5
    )
    # The same where the sizes of the places are known only when data come.
    inputs = keras.Input((*(None for _ in places), 6)), keras.Input((3,))
    free = keras.Model(inputs, mtl.layers.Mixture()(list(inputs)))
    assert free.output.shape == (None, *(None for _ in places), 2)
    np.testing.assert_allclose(
        free.predict([np.asarray(outputs), gate], verbose=0), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"experts": 0}, "at least 1, got 0"),
        ({"units": 0}, "`units` should be a whole number >= 1.*Received: units=0"),
        ({"inputs": {"tokens": (4,)}}, "hold `vocabulary_size`"),
        ({"tasks": [TASKS[0], TASKS[0]]}, "share the name 'cost'"),
        ({"backbone": "ml"}, "Did you mean 'mlp'"),
        (
            {"units": (64, 32)},
            "`units` should be one whole number.*Experts have one layer: for more, give a backbone",
        ),
        ({"units": "64"}, "`units` should be a whole number >= 1, or a list.*Received: units='64'"),
        ({"backbone_options": {"widths": (8,)}}, "`backbone_options` should be left out"),
        ({"inputs": (6, 2)}, "`backbone` should be given for these inputs"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        mtl.builders.mmoe(**{"inputs": (5,), "tasks": TASKS, **arguments})


def test_a_gate_for_other_experts_is_refused_by_the_layers_name():
    experts, gate = mtl.layers.Experts(3, 4)(keras.Input((5,))), keras.Input((5,))
    with pytest.raises(
        ValueError, match="Layer 'mix': a gate for 5 experts meets outputs of width 12"
    ):
        mtl.layers.Mixture(name="mix")([experts, gate])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mtl.builders.ple((5,), TASKS, levels=0), "'ple' needs levels >= 1, got 0"),
        (
            lambda: mtl.builders.cgc((5,), TASKS, shared_experts=0),
            "'cgc' needs shared_experts >= 1",
        ),
        (lambda: mtl.builders.dselect_k((5,), TASKS, experts=2, k=3), "1 <= k <= experts"),
        (lambda: mtl.builders.dselect_k((5,), TASKS, gamma=0), "gamma > 0"),
    ],
)
def test_impossible_numbers_of_experts_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
