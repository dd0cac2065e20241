"""Funnels, modalities, and a domain of its own for each task."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl

B = mtl.builders
STEPS = [mtl.tasks.Binary(name, hidden=0) for name in ("click", "basket", "bought")]
SMALL = {"backbone_options": {"widths": (6,), "normalize": False}, "units": (4,)}
NUMBERS = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]


def _rows(n=32, size=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, size)).astype("float32")


# ------------------------------------------------------------------ ESMM
def test_later_steps_are_products_of_the_rates_before():
    x = _rows()
    model = B.esmm((5,), STEPS, **SMALL)
    linear = [model.get_layer(f"{t.name}_linear").output for t in STEPS]
    logits = keras.Model(model.input, linear).predict(x, verbose=0)
    rates = [1 / (1 + np.exp(-z.astype("float64"))) for z in logits]
    out = model.predict(x, verbose=0)
    expected = np.cumprod(np.stack(rates), axis=0)
    for i, task in enumerate(STEPS):
        np.testing.assert_allclose(out[task.name], expected[i], rtol=1e-5)
    assert (out["bought"] <= out["basket"]).all() and (out["basket"] <= out["click"]).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 200.0])
def test_the_product_is_exact_on_logits_and_keeps_its_gradient(scale):
    rng = np.random.default_rng(0)
    a, b = (scale * rng.standard_normal((50, 1)) for _ in range(2))
    layer = mtl.layers.ProbabilityProduct()
    ta, tb = tf.Variable(a.astype("float32")), tf.Variable(b.astype("float32"))
    with tf.GradientTape() as tape:
        logit = layer([ta, tb])
        log_p = -tf.nn.softplus(-logit)
    # log(sigmoid(a) sigmoid(b)) in float64.
    expected = -np.logaddexp(0, -a) - np.logaddexp(0, -b)
    np.testing.assert_allclose(log_p, expected, rtol=1e-4, atol=1e-6)
    gradient = tape.gradient(log_p, ta)
    np.testing.assert_allclose(
        gradient, 1 / (1 + np.exp(np.clip(a, -700, 700))), rtol=1e-3, atol=1e-6
    )


def test_the_second_loss_reaches_both_towers_and_the_first_only_its_own():
    model = B.esmm((5,), STEPS[:2], **SMALL)
    model.compile("sgd", balancer="cagrad")
    shared = set(model.balancing_report().shared)
    assert "click_tower1/kernel" in shared and "basket_tower1/kernel" not in shared


# ------------------------------------------------------------------ AITM
@pytest.mark.large
def test_the_calibrator_orders_the_probabilities():
    # Labels that ask for the contrary: the second step happens more often than the first.
    x = _rows(64)
    y = {"click": np.zeros(64), "basket": np.ones(64)}
    apart = []
    for weight in (0.0, 20.0):
        keras.utils.set_random_seed(1)
        model = B.aitm((5,), STEPS[:2], penalty_weight=weight, **SMALL)
        model.compile(keras.optimizers.Adam(0.02))
        model.fit(x, y, epochs=60, batch_size=64, verbose=0)
        out = model.predict(x, verbose=0)
        apart.append(float(np.mean(np.maximum(out["basket"] - out["click"], 0))))
    assert apart[0] > 0.5 and apart[1] < 0.05


def test_the_calibrators_penalty_is_its_formula():
    layer = mtl.layers.OrderCalibrator(penalty_weight=0.6)
    logits = [_rows(8, 1, seed=i) for i in range(3)]
    same = layer(logits, training=True)
    np.testing.assert_array_equal(same[1], logits[1])
    p = [1 / (1 + np.exp(-z)) for z in logits]
    expected = 0.6 * np.mean(np.maximum(p[1] - p[0], 0) + np.maximum(p[2] - p[1], 0))
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-5)
    layer(logits, training=False)
    assert not layer.losses


def test_information_is_taken_by_attention():
    layer = mtl.layers.InformationTransfer(3)
    u, w = _rows(4, 6, 1), _rows(4, 6, 2)
    out = layer([u, w])
    key, query, value = (np.asarray(v) for v in (layer.key, layer.query, layer.value))
    scores = np.stack([((z @ key) * (z @ query)).sum(-1) / np.sqrt(3) for z in (u, w)])
    weights = np.exp(scores) / np.exp(scores).sum(0)
    expected = weights[0][:, None] * (u @ value) + weights[1][:, None] * (w @ value)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ several modalities
def _cross(fusion="early", **options):
    inputs = {"photo": (8, 8, 1), "row": (5,)}
    backbones = {"photo": "small_cnn", "row": "mlp"}
    sizes = {"photo": {"widths": (4,), "depth": 1}, "row": {"widths": (4,)}}
    return B.cross_modal(
        inputs,
        NUMBERS,
        backbones,
        fusion=fusion,
        units=8,
        fusion_units=(8,),
        backbone_options=sizes,
        name="x",
        **options,
    )


@pytest.mark.parametrize("fusion", ["early", "late", "attention"])
def test_without_a_modality_its_input_has_no_effect_and_a_learned_vector_stands_in(fusion):
    model = _cross(fusion, optional=("photo",))
    rng = np.random.default_rng(0)
    x = {"photo": rng.random((4, 8, 8, 1)).astype("float32"), "row": _rows(4)}
    full = model.predict(B.complete_inputs(model, x), verbose=0)["cost"]
    absent = model.predict(B.complete_inputs(model, {"row": x["row"]}), verbose=0)["cost"]
    other = model.predict({**x, "photo_present": np.zeros((4, 1), "float32")}, verbose=0)["cost"]
    np.testing.assert_array_equal(absent, other)
    assert np.abs(full - absent).max() > 1e-6
    model.get_layer("x_photo_default").default.assign(np.full(8, 5.0))
    assert (
        np.abs(
            model.predict(B.complete_inputs(model, {"row": x["row"]}), verbose=0)["cost"] - absent
        ).max()
        > 1e-6
    )
    np.testing.assert_array_equal(
        model.predict(B.complete_inputs(model, x), verbose=0)["cost"], full
    )


def test_the_stand_in_learns_by_dropping_the_modality_while_training():
    layer = mtl.layers.ModalityDefault(modality_dropout=0.5, seed=0)
    x, there = np.ones((2000, 1), "float32"), np.ones((2000, 1), "float32")
    kept = np.asarray(layer([x, there], training=True)) == 1.0
    assert 0.45 < kept.mean() < 0.55
    assert (np.asarray(layer([x, there], training=False)) == 1.0).all()


def test_two_modalities_may_have_the_same_backbone_and_tables_several_inputs():
    model = B.cross_modal(
        {"left": (5,), "right": {"numeric": (3,), "categorical": (2,)}},
        NUMBERS,
        {"left": "mlp", "right": "mlp"},
        backbone_options={"right": {"cardinalities": [3, 4]}},
    )
    assert sorted(model.input) == ["categorical", "left", "numeric"]
    x = {"left": _rows(2), "numeric": _rows(2, 3), "categorical": np.ones((2, 2), "int32")}
    assert model.predict(x, verbose=0)["cost"].shape == (2, 1)


def test_fused_features_are_the_representation_and_early_layers_are_shared():
    for fusion in ("early", "late", "attention"):
        model = _cross(fusion)
        model.compile("sgd", balancer=mtl.balancing.MGDA(gradients="representation"))
        assert "x_photo_vector/kernel" in model.balancing_report().shared


# ------------------------------------------------------------------ a domain for each task
def test_each_task_sees_its_own_input_through_one_trunk():
    shapes = {"cost": (5,), "sold": (5,)}
    model = B.multi_input(shapes, NUMBERS, backbone_options={"widths": (6,), "normalize": False})
    x = {"cost_input": _rows(4, seed=1), "sold_input": _rows(4, seed=2)}
    out = model.predict(x, verbose=0)
    changed = model.predict({**x, "sold_input": _rows(4, seed=3)}, verbose=0)
    np.testing.assert_array_equal(out["cost"], changed["cost"])
    assert np.abs(out["sold"] - changed["sold"]).max() > 1e-6
    assert model.count_params() == (5 * 6 + 6) + 2 * (6 + 1)
    model.compile("sgd", balancer="cagrad")
    assert set(model.balancing_report().shared) == {
        "mlp_stage1_dense/kernel",
        "mlp_stage1_dense/bias",
    }


def test_stems_bring_domains_of_any_shape_to_the_trunk():
    model = B.multi_input(
        {"cost": (8, 8, 1), "sold": (6,)},
        NUMBERS,
        stems={"cost": "small_cnn", "sold": "text_cnn"},
        units=4,
        stem_options={
            "cost": {"widths": (4,), "depth": 1},
            "sold": {"vocabulary_size": 9, "filters": 2},
        },
    )
    x = {"cost_input": np.ones((2, 8, 8, 1), "float32"), "sold_input": np.ones((2, 6), "int32")}
    assert {k: v.shape for k, v in model.predict(x, verbose=0).items()} == {
        "cost": (2, 1),
        "sold": (2, 1),
    }
    assert model.input["sold_input"].dtype == "int32"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: B.esmm((5,), STEPS[:1]), "two or more tasks"),
        (lambda: B.esmm((5,), NUMBERS), "takes Binary tasks .*'cost' is a Regression"),
        (lambda: B.aitm((5,), STEPS, units=()), "at least one hidden layer"),
        (lambda: B.aitm((5,), STEPS, penalty_weight=-1), "penalty_weight >= 0, got -1"),
        (lambda: _cross("middle"), "Unknown fusion 'middle'. Known: attention, early, late"),
        (lambda: _cross(optional=("foto",)), "Did you mean 'photo'"),
        (
            lambda: B.cross_modal({"row": (5,), "note": (3,)}, NUMBERS, {"row": "mlp"}),
            "Modality 'note' has no backbone",
        ),
        (
            lambda: B.cross_modal({"cost": (5,)}, NUMBERS, {"cost": "mlp"}),
            "Task 'cost' has the name of an input",
        ),
        (
            lambda: B.complete_inputs(
                _cross(optional=("photo",)), {"photo": np.ones((1, 8, 8, 1))}
            ),
            "Input 'row' is missing",
        ),
        (lambda: B.complete_inputs(_cross(), {"rows": _rows(1)}), "Did you mean 'row'"),
        (
            lambda: B.multi_input({"cost": (5,), "sold": (4,)}, NUMBERS),
            "'cost' has .*5.*'sold' .*4.*Give `stems`",
        ),
        (lambda: B.multi_input({"cost": (5,)}, NUMBERS), "Task 'sold' has no input of its own"),
        (
            lambda: B.multi_input({"cost": (5,), "sold": (5,), "sole": (5,)}, NUMBERS),
            "Did you mean 'sold'",
        ),
        (
            lambda: B.multi_input({"cost": (5,), "sold": (5,)}, NUMBERS, stems={"cost": "mlp"}),
            "'sold' has no stem",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
