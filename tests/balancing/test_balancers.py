"""The balancers, held to their formulas and to what every balancer promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import same, table_data, table_model

import mtl_keras as mtl
from mtl_keras import balancing

TASKS = [
    mtl.tasks.Regression("cost"),
    mtl.tasks.Classification("kind", num_classes=3),
    mtl.tasks.Regression("age", error="mae"),
]


def _built(balancer):
    balancer = balancing.get(balancer)
    balancer.build(TASKS)
    return balancer


def _tensors(losses, present=(True, True, True)):
    return tf.constant(losses, tf.float32), tf.constant(present)


def test_equal_is_the_plain_sum():
    balancer = _built("equal")
    losses, present = _tensors([3.0, 5.0, 7.0])
    weights = balancer.weigh(losses, present)
    assert np.asarray(weights).tolist() == [1, 1, 1]
    assert float(balancer.total(losses, weights, present)) == 15


def test_static_weights_are_live():
    balancer = _built(balancing.Static({"cost": 0.7, "kind": 0.0}))
    losses, present = _tensors([1.0, 1.0, 1.0])
    np.testing.assert_allclose(balancer.weigh(losses, present), [0.7, 0.0, 1.0])
    balancer.task_weights.assign([2.0, 3.0, 4.0])
    np.testing.assert_allclose(balancer.weigh(losses, present), [2, 3, 4])
    assert balancer.current() == {"cost": 2.0, "kind": 3.0, "age": 4.0}


@pytest.mark.parametrize("weights", [{"cost": -1}, {"cost": float("nan")}])
def test_static_refuses_bad_weights(weights):
    with pytest.raises(ValueError, match="task 'cost'"):
        balancing.Static(weights)


def test_static_refuses_unknown_tasks():
    with pytest.raises(ValueError, match="Did you mean 'cost'"):
        _built(balancing.Static({"costs": 1.0}))


def test_uncertainty_follows_the_formula_of_each_likelihood():
    balancer = _built(balancing.Uncertainty(initial=0.4))
    losses, present = _tensors([3.0, 5.0, 7.0])
    weights = np.asarray(balancer.weigh(losses, present))
    np.testing.assert_allclose(weights, np.exp(-0.4) * np.array([0.5, 1, 1]), rtol=1e-6)
    expected = np.exp(-0.4) * (1.5 + 5 + 7) + 0.4 * (0.5 + 0.5 + 1)
    np.testing.assert_allclose(balancer.total(losses, weights, present), expected, rtol=1e-6)


@pytest.mark.large
def test_uncertainty_reaches_its_optimum_at_a_fixed_loss():
    balancer = _built(balancing.Uncertainty(learning_rate=0.05))
    losses, present = _tensors([0.2, 3.0, 8.0])
    for _ in range(600):
        balancer.update(losses, present, 0.0)
    # d/ds of each form is zero at s = log L, log 2L, log L.
    np.testing.assert_allclose(balancer.log_variance.numpy(), np.log([0.2, 6.0, 8.0]), atol=1e-3)


def test_uncertainty_total_may_be_negative_and_s_stays_within_its_limit():
    balancer = _built(balancing.Uncertainty(learning_rate=1.0, limit=2.0))
    losses, present = _tensors([0.0, 0.0, 0.0])
    for _ in range(10):
        balancer.update(losses, present, 0.0)
    assert balancer.log_variance.numpy().tolist() == [-2, -2, -2]
    assert float(balancer.total(losses, balancer.weigh(losses, present), present)) < 0


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"initial": 11}, {"learning_rate": 0}, {"limit": float("nan")}]
)
def test_uncertainty_refuses_impossible_settings(options):
    with pytest.raises(ValueError, match="Uncertainty"):
        balancing.Uncertainty(**options)


def test_the_vector_adam_is_adam():
    values = np.array([1.0, -2.0, 3.0], "float32")
    balancer = balancing.Balancer()
    state = balancer.add_state("s", values)
    ours = mtl.balancing.balancer.VectorAdam(balancer, state)
    theirs, optimizer = keras.Variable(values), keras.optimizers.Adam(0.01)
    for step in range(5):
        gradient = tf.constant([0.3, -1.0, 0.1]) * (step + 1)
        ours.step(gradient, tf.constant([True] * 3), 0.01)
        optimizer.apply([gradient], [theirs])
    np.testing.assert_allclose(state.numpy(), theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [("unsertainty", "Did you mean 'uncertainty'"), ("zzz", "Known: aligned_mtl")],
)
def test_unknown_balancers_list_the_close_ones(given, words):
    with pytest.raises(ValueError, match=words):
        balancing.get(given)


def test_a_balancer_is_nothing_else():
    with pytest.raises(TypeError, match="by name or as a Balancer"):
        balancing.get(3)


@pytest.mark.large
def test_static_in_training_equals_loss_weights():
    x, y = table_data()
    first = table_model()
    second = keras.models.clone_model(first)
    second.set_weights(first.get_weights())
    first.compile("sgd", balancer=balancing.Static({"cost": 0.3, "sold": 2.0}))
    second.compile("sgd", loss_weights={"cost": 0.3, "sold": 2.0})
    for model in (first, second):
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    same(first.get_weights(), second.get_weights())


def test_uncertainty_in_training_equals_a_hand_written_loop():
    """One optimizer over the network and the log variances, as in the paper, step by step."""
    x, y = table_data()
    model = table_model()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    model.compile(keras.optimizers.Adam(0.01), balancer="uncertainty")
    model.fit(x, y, epochs=3, batch_size=32, shuffle=False, verbose=0)

    s = keras.Variable([0.0, 0.0])
    optimizer = keras.optimizers.Adam(0.01)
    for _ in range(3):
        with tf.GradientTape() as tape:
            out = twin(x, training=True)
            mse = tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2)
            bce = tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            )
            total = 0.5 * tf.exp(-s[0]) * mse + 0.5 * s[0] + tf.exp(-s[1]) * bce + 0.5 * s[1]
        variables = [*twin.trainable_variables, s]
        optimizer.apply(tape.gradient(total, variables), variables)
    same(model.get_weights(), twin.get_weights(), rtol=1e-4)
    np.testing.assert_allclose(model.balancer.log_variance.numpy(), s.numpy(), rtol=1e-4)
