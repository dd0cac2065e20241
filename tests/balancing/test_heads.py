"""What heads get: their gradients as they are, or times the tasks' weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import same, table_data, table_model

import mtl_keras as mtl
from mtl_keras import balancing

GRAM = [
    n
    for n in balancing.names()
    if isinstance(balancing.get(n), balancing.GramBalancer) and n not in ("ema", "moco")
]
GRAM = [n for n in GRAM if balancing.get(n).strategy in ("gram", "samples")]


def _options(way):
    return {
        "plain": {},
        "update_every": {"update_every": 2},
        "gradient_groups": {"gradient_groups": 1},
        "upper": {"gradients": "representation"},
    }[way]


def _head_factors(model, x, y):
    """By how much each head's bias moves, over its plain gradient: the factor of the task's own
    head."""
    with tf.GradientTape(persistent=True) as tape:
        out = model(x, training=True)
        losses = {
            "cost": tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            "sold": tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        }
    biases = {
        name: next(v for v in model.trainable_variables if v.path == f"{name}_linear/bias")
        for name in losses
    }
    gradients = {name: tape.gradient(losses[name], bias).numpy() for name, bias in biases.items()}
    before = {name: bias.numpy() for name, bias in biases.items()}
    model.fit(x, y, batch_size=len(x), verbose=0)
    return np.array([((before[n] - biases[n].numpy()) / gradients[n])[0] for n in losses])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("krum", "plain"),
        ("cagrad", "update_every"),
        pytest.param("mgda", "gradient_groups", marks=pytest.mark.large),
        pytest.param("upgrad", "upper", marks=pytest.mark.large),
    ],
)
@pytest.mark.parametrize("scale", [True, pytest.param(False, marks=pytest.mark.large)])
def test_heads_get_what_was_asked_for(name, way, scale):
    """True: the task's weight, as `weights` gives it for the same gradients. False: 1."""
    x, y = table_data(16)
    model = table_model()
    balancer = balancing.get(name, scale_heads=scale, **_options(way))
    model.compile(keras.optimizers.SGD(1.0), balancer=balancer)
    factors = _head_factors(model, x, y)
    if not scale:
        np.testing.assert_allclose(factors, [1.0, 1.0], rtol=1e-3)
    elif name == "krum":
        np.testing.assert_allclose(factors, [0.5, 0.5], rtol=1e-3)  # of two tasks, both count
    elif name == "mgda":
        assert factors.min() >= -1e-4 and factors.sum() == pytest.approx(1.0, rel=1e-3)
    else:
        assert np.abs(factors - 1.0).max() > 0.01


@pytest.mark.parametrize("name", GRAM)
def test_every_gram_method_takes_the_option_and_saves_it(name):
    for choice in (True, False, np.bool_(True)):
        balancer = balancing.get(name, scale_heads=choice)
        assert balancer.scales_heads is bool(choice)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(balancer))
        assert again.scales_heads is bool(choice)
    with pytest.raises(ValueError, match="scale_heads must be True, False or None"):
        balancing.get(name, scale_heads="yes")


def test_defaults_are_those_of_the_authors_code():
    """Where the authors' code has heads at all; krum, upgrad and dualproj as TorchJD's multi-task
    backward pass."""
    scaled = {n for n in GRAM if balancing.get(n).scales_heads}
    assert scaled == {"mgda", "nash_mtl"}
    assert (
        balancing.EMA("krum").scales_heads is False
        and balancing.EMA("nash_mtl").scales_heads is True
    )


@pytest.mark.large
def test_krum_trains_the_heads_that_it_did_not_select():
    """Three regressions, five seeds: with scaled heads one of three left 1.0 of its variance
    unexplained."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 6)).astype("float32")
    mixing = rng.standard_normal((6, 3))
    y = {name: np.tanh(x @ mixing[:, i]).astype("float32") for i, name in enumerate("abc")}
    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Regression(name, hidden=0) for name in "abc"]
    model = mtl.builders.hard_sharing(
        (6,), tasks, backbone="mlp", backbone_options={"widths": (24,), "normalize": False}
    )
    no_metrics = {name: [] for name in "abc"}
    model.compile(keras.optimizers.SGD(0.1), balancer="krum", metrics=no_metrics)
    model.fit(x, y, epochs=12, batch_size=32, verbose=0)
    outputs = model.predict(x, verbose=0)
    for name, truth in y.items():
        assert np.mean((outputs[name][:, 0] - truth) ** 2) / np.var(truth) < 0.75, name


@pytest.mark.large
def test_a_list_of_methods_scales_heads_by_both():
    one, two = table_model(), table_model()
    two.set_weights(one.get_weights())
    x, y = table_data(16)
    first = balancing.Static({"cost": 0.5})
    for model, balancer, weights in (
        (one, [first, balancing.MGDA(scale_heads=False)], None),
        (two, balancing.MGDA(scale_heads=False), {"cost": 0.5, "sold": 1.0}),
    ):
        model.compile(keras.optimizers.SGD(0.1), balancer=balancer, loss_weights=weights)
        model.fit(x, y, batch_size=16, verbose=0)
    same(one.get_weights(), two.get_weights(), rtol=1e-5)
