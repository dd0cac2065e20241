"""A loop of one's own takes the steps that `fit` takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import same, table_data, table_model

import mtl_keras as mtl
from mtl_keras import balancing

BATCH, ROWS = 16, 48
# These need more than one batch and its losses, and say so.
REFUSED = ("auto_lambda", "sdmgrad", "modo")
QUICK = ("uncertainty", "cagrad", "moco")


def _losses(model, x, y):
    out = model(x, training=True)
    sold = keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
    return {
        "cost": tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
        "sold": tf.reduce_mean(sold),
    }


def _batches(x, y):
    for start in range(0, ROWS, BATCH):
        part = slice(start, start + BATCH)
        yield x[part], {name: labels[part] for name, labels in y.items()}


def _balancer(name):
    if name == "graddrop":
        return balancing.GradDrop(gradients="parameters")
    if name == "gradnorm":
        return balancing.GradNorm(layer="mlp_stage1_dense")
    return balancing.get(name)


def _own_loop(model, balancer, x, y, optimizer, steps=None, **options):
    variables = model.trainable_variables
    for inputs, labels in _batches(x, y):
        with tf.GradientTape(persistent=True) as tape:
            losses = _losses(model, inputs, labels)
        gradients = mtl.training.balanced_gradients(
            balancer, tape, losses, variables, optimizer=optimizer, **options
        )
        optimizer.apply(gradients, variables)
        if balancer.observes_updated_losses:
            mtl.training.observe_updated_losses(balancer, _losses(model, inputs, labels))


def _agrees(name, balancer=None, other=None):
    x, y = table_data(ROWS)
    one, two = table_model(), table_model()
    two.set_weights(one.get_weights())
    one.compile(keras.optimizers.Adam(0.02), balancer=balancer or _balancer(name))
    one.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    own = other or _balancer(name)
    options = {"tasks": two.tasks}
    if name == "gradnorm":
        layer = next(layer for layer in two.layers if layer.name == "mlp_stage1_dense")
        options["shared"] = layer.trainable_variables
    _own_loop(two, own, x, y, keras.optimizers.Adam(0.02), **options)
    own.epoch_end()
    same(one.get_weights(), two.get_weights(), rtol=1e-4, atol=1e-5)
    same(one.balancer.variables, own.variables, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_three_steps_are_those_of_fit(name):
    _agrees(name)


@pytest.mark.large
@pytest.mark.parametrize("name", [n for n in balancing.names() if n not in (*QUICK, *REFUSED)])
def test_three_steps_of_every_other_method_are_those_of_fit(name):
    _agrees(name)


@pytest.mark.large
@pytest.mark.parametrize(
    "make",
    [
        lambda: balancing.CAGrad(update_every=2),
        lambda: balancing.NashMTL(gradient_groups=2),
        lambda: balancing.UPGrad(scale_heads=True),
        lambda: balancing.get(["uncertainty", "gradvac"]),
        lambda: balancing.get([balancing.Static({"cost": 0.3}), "moco"]),
    ],
)
def test_settings_and_lists_hold_in_a_loop_too(make):
    _agrees("", make(), make())


@pytest.mark.large
def test_it_works_in_a_graph():
    x, y = table_data(ROWS)
    one, two = table_model(), table_model()
    two.set_weights(one.get_weights())
    _own_loop(one, balancing.MoCo(), x, y, keras.optimizers.SGD(0.1))
    balancer, optimizer = balancing.MoCo(), keras.optimizers.SGD(0.1)
    optimizer.build(two.trainable_variables)

    @tf.function
    def step(inputs, cost, sold):
        with tf.GradientTape(persistent=True) as tape:
            out = two(inputs, training=True)
            losses = {
                "cost": tf.reduce_mean((out["cost"][:, 0] - cost) ** 2),
                "sold": tf.reduce_mean(keras.losses.binary_crossentropy(sold, out["sold"])),
            }
        gradients = mtl.training.balanced_gradients(balancer, tape, losses, two.trainable_variables)
        optimizer.apply(gradients, two.trainable_variables)

    for inputs, labels in _batches(x, y):
        step(
            tf.constant(inputs),
            tf.constant(labels["cost"]),
            tf.constant(labels["sold"][:, None].astype("float32")),
        )
    same(one.get_weights(), two.get_weights(), rtol=1e-4, atol=1e-5)


def test_an_absent_task_takes_no_part_as_in_fit():
    """Batches in which a whole task has no label: the steps, and the state, of `fit` on the same
    rows."""
    x, y = table_data(ROWS)
    y["sold"][BATCH : 2 * BATCH] = -1
    one, two = table_model(), table_model()
    two.set_weights(one.get_weights())
    one.compile(keras.optimizers.SGD(0.1), balancer="cagrad")
    one.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    balancer, optimizer = balancing.get("cagrad"), keras.optimizers.SGD(0.1)
    for number, (inputs, labels) in enumerate(_batches(x, y)):
        with tf.GradientTape(persistent=True) as tape:
            losses = _losses(two, inputs, labels)
            if number == 1:
                losses.pop("sold")
        gradients = mtl.training.balanced_gradients(balancer, tape, losses, two.trainable_variables)
        optimizer.apply(gradients, two.trainable_variables)
    same(one.get_weights(), two.get_weights(), rtol=1e-4, atol=1e-5)


def test_plain_tensorflow_variables_of_any_name_work():
    """MGDA of two quadratic functions, by hand: the weights of the point of least norm are the
    same."""
    rng = np.random.default_rng(0)
    shared, head = tf.Variable(rng.standard_normal(3)), tf.Variable(2.0, dtype="float64")
    a, b = rng.standard_normal((2, 3))
    for name in ("mgda", "trimmed_mean"):
        with tf.GradientTape(persistent=True) as tape:
            losses = {
                "a": tf.reduce_sum((shared - a) ** 2),
                "b": head * tf.reduce_sum((shared - b) ** 2),
            }
        gradients = mtl.training.balanced_gradients(
            balancing.get(name), tape, losses, [shared, head]
        )
        one, two = 2 * (shared.numpy() - a), 4 * (shared.numpy() - b)
        share = (
            0.5
            if name == "trimmed_mean"
            else np.clip(two @ (two - one) / ((one - two) @ (one - two)), 0, 1)
        )
        np.testing.assert_allclose(
            gradients[0], share * one + (1 - share) * two, rtol=1e-5, atol=1e-8
        )
        own = ((shared.numpy() - b) ** 2).sum()
        np.testing.assert_allclose(
            gradients[1], own * (1.0 if name == "trimmed_mean" else 1 - share), rtol=1e-5, atol=1e-8
        )


def test_regularization_is_not_balanced():
    v = tf.Variable([1.0, 2.0])
    with tf.GradientTape(persistent=True) as tape:
        losses = {"a": v[0] ** 2 + v[1], "b": v[1] ** 2 + v[0]}
        penalty = 10.0 * tf.reduce_sum(v)
    plain = mtl.training.balanced_gradients(balancing.get("mgda"), tape, losses, [v])[0]
    more = mtl.training.balanced_gradients(
        balancing.get("mgda"), tape, losses, [v], regularization=penalty
    )[0]
    np.testing.assert_allclose(more - plain, [10.0, 10.0], rtol=1e-5)


def _call(balancer, losses=None, persistent=True, **options):
    v, own = tf.Variable([1.0, 2.0]), tf.Variable(1.0)
    with tf.GradientTape(persistent=persistent) as tape:
        both = {"a": v[0] ** 2 + v[1], "b": v[1] ** 2 + v[0]}
        alone = {"a": v[0] * 1.0, "b": own * 1.0}
    losses = {"both": both, "alone": alone, "wrong": {**both, "c": both["a"]}, "none": {"a": None}}[
        losses or "both"
    ]
    return mtl.training.balanced_gradients(balancer, tape, losses, [v, own], **options)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: _call("cagrad"), TypeError, "lives as long as the loop"),
        (lambda: _call(balancing.get("cagrad"), persistent=False), ValueError, "persistent=True"),
        (
            lambda: _call(balancing.get("cagrad"), "alone"),
            ValueError,
            "no two of the losses reach the same one",
        ),
        (lambda: _call(balancing.get("cagrad"), "none"), ValueError, "at least one"),
        (
            lambda: _call(balancing.get("cagrad"), "wrong", tasks=["a", "b"]),
            ValueError,
            "Unknown task in `losses`: 'c'",
        ),
        (
            lambda: _call(balancing.get("graddrop")),
            ValueError,
            r"GradDrop\(gradients='parameters'\)",
        ),
        (lambda: _call(balancing.get("imtl_l")), ValueError, "give `optimizer=`"),
        (lambda: _call(balancing.get("gradnorm")), ValueError, r"shared=\[layer.kernel\]"),
        (lambda: _call(balancing.get("sdmgrad")), ValueError, "3 batches a step"),
        (lambda: _call(balancing.get("auto_lambda")), ValueError, "held out"),
    ],
)
def test_what_can_not_work_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_method_that_looks_again_says_when_it_was_not_shown_the_losses():
    balancer = balancing.get("famo")
    _call(balancer)
    with pytest.raises(ValueError, match="observe_updated_losses"):
        _call(balancer)
    mtl.training.observe_updated_losses(balancer, {"a": tf.constant(0.5), "b": tf.constant(3.0)})
    before = balancer.logits.numpy()
    _call(balancer)
    assert before[0] != before[1]
    with pytest.raises(ValueError, match="no state yet"):
        mtl.training.observe_updated_losses(balancing.get("famo"), {})


def test_a_step_that_is_not_finite_moves_no_state():
    for name in ("moco", "famo"):
        balancer = balancing.FAMO(observe="next_batch") if name == "famo" else balancing.get(name)
        v = tf.Variable([1.0, 2.0])
        for scale in (1.0, 1.0, float("inf"), 1.0):
            before = [s.numpy() for s in balancer.variables]
            with tf.GradientTape(persistent=True) as tape:
                losses = {"a": scale * (v[0] ** 2 + v[1] ** 2), "b": v[1] ** 2 + v[0] ** 2}
            mtl.training.balanced_gradients(balancer, tape, losses, [v])
            if not np.isfinite(scale):
                for old, new in zip(before, balancer.variables, strict=True):
                    np.testing.assert_array_equal(old, new.numpy())
        assert all(np.isfinite(s.numpy()).all() for s in balancer.variables)
