"""Weightings that follow from the losses alone, held to their objectives."""

import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras import balancing


def _built(balancer, tasks=3):
    balancer = balancing.get(balancer)
    balancer.build([mtl.tasks.Regression(name) for name in "abcdefgh"[:tasks]])
    return balancer


LOSSES = tf.constant([0.5, 2.0, 8.0])
THERE = tf.constant([True, True, True])


@pytest.mark.parametrize(
    "balancer",
    [
        "gls",
        "log_loss",
        balancing.STCH(mu=0.7),
        balancing.STCH(0.3, {"b": 2.0}, {"c": 7.5}),
        "imtl_l",
    ],
)
@pytest.mark.parametrize("present", [[True, True, True], [True, False, True]])
def test_weights_are_the_gradient_of_the_total(balancer, present):
    balancer = _built(balancer)
    present = tf.constant(present)
    losses = tf.Variable(tf.where(present, LOSSES, 0.0))
    with tf.GradientTape() as tape:
        weights = balancer.weigh(losses, present)
        total = balancer.total(losses, tf.stop_gradient(weights), present)
    expected = tf.where(present, weights, 0.0)
    np.testing.assert_allclose(tape.gradient(total, losses), expected, rtol=1e-5, atol=1e-7)


def test_known_totals():
    assert float(_built("gls").total(LOSSES, None, THERE)) == pytest.approx(2.0)
    assert float(_built("log_loss").total(LOSSES, None, THERE)) == pytest.approx(np.log(8.0))
    small = _built(balancing.STCH(mu=1e-3))
    assert float(small.total(LOSSES, None, THERE)) == pytest.approx(8.0 / 3, rel=1e-5)


def test_gls_does_not_see_how_a_loss_is_scaled():
    balancer = _built("gls")
    scaled = LOSSES * tf.constant([1e3, 1.0, 1e-3])
    a = np.asarray(balancer.weigh(LOSSES, THERE) * LOSSES)
    b = np.asarray(balancer.weigh(scaled, THERE) * scaled)
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", ["gls", "log_loss", "stch", "imtl_l"])
def test_solved_tasks_have_finite_weights(name):
    assert np.isfinite(_built(name).weigh(tf.zeros(3), THERE)).all()


@pytest.mark.large
def test_smooth_chebyshev_reaches_the_middle_of_a_concave_front_where_sums_find_only_the_ends():
    """f = 1 - exp(-|x -+ 1/sqrt d|^2) (Lin et al., Pareto multi-task learning, NeurIPS 2019), d =
    20."""
    d = 20

    def ends(balancer, start):
        x = tf.Variable(tf.fill([d], start))
        balancer = _built(balancer, tasks=2)
        there = tf.constant([True, True])
        for _ in range(800):
            with tf.GradientTape() as tape:
                f = tf.stack(
                    [1 - tf.exp(-tf.reduce_sum((x - sign / d**0.5) ** 2)) for sign in (1.0, -1.0)]
                )
                objective = tf.reduce_sum(tf.stop_gradient(balancer.weigh(f, there)) * f)
            x.assign_sub(0.05 * tape.gradient(objective, x))
        return f.numpy()

    total = ends("equal", 0.02)
    assert total.min() < 0.05 and total.max() > 0.9
    middle = ends(balancing.STCH(mu=0.05), 0.02)
    assert abs(middle[0] - middle[1]) < 0.05 and middle.max() < 0.7


def _drawn(balancer, losses, present):
    """The weights of one step."""
    weights = balancer.weigh(losses, present)
    balancer.update(losses, present, 0.1, weights=weights)
    return weights


@pytest.mark.parametrize("distribution", ["normal", "uniform", "bernoulli"])
def test_random_weights_lie_on_the_simplex_of_the_tasks_that_are_there(distribution):
    balancer = _built(balancing.RLW(distribution))
    present = tf.constant([True, False, True])
    draws = np.array([_drawn(balancer, LOSSES, present) for _ in range(40)])
    np.testing.assert_allclose(draws.sum(1), 1.0, rtol=1e-5)
    assert (draws[:, 1] == 0).all() and draws[:, 0].std() > 0.05
    again = _built(balancing.RLW(distribution))
    np.testing.assert_array_equal(draws[0], again.weigh(LOSSES, present))


def test_random_weights_are_those_of_the_paper():
    balancer = _built(balancing.RLW("normal", seed=4), tasks=2)
    draws = np.array([_drawn(balancer, LOSSES[:2], THERE[:2]) for _ in range(400)])
    # softmax of two standard normals: the log ratio has mean 0 and variance 2.
    ratio = np.log(draws[:, 0] / draws[:, 1])
    assert abs(ratio.mean()) < 0.25 and 1.5 < ratio.var() < 2.6


def test_imtl_l_brings_losses_to_one_scale():
    balancer = _built(balancing.IMTLL(learning_rate=0.05))
    for _ in range(600):
        balancer.update(LOSSES, THERE, 0.0)
    np.testing.assert_allclose(np.asarray(balancer.weigh(LOSSES, THERE) * LOSSES), 1.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: balancing.STCH(mu=0), "mu must be"),
        (lambda: balancing.STCH(preferences={"a": -1}), "preference of task 'a'"),
        (
            lambda: _built(balancing.STCH(reference={"zz": 0.0})),
            "Unknown task in `reference` of balancer 'stch'",
        ),
        (lambda: balancing.RLW("cauchy"), "distribution must be"),
        (lambda: balancing.IMTLL(learning_rate=-1), "learning_rate must be"),
        (lambda: balancing.IMTLL(limit=0), "limit must be"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
