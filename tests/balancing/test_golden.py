"""Every registered method against values from solutions made without it, in float64.

Vectors of the Gram methods: closed forms, an enumeration of supports (mgda), SciPy's SLSQP on the
primal problem (cagrad), its NNLS (upgrad, dualproj), its BFGS and Nelder-Mead (nash_mtl, fairgrad),
an SVD (aligned_mtl), and loops over vectors.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from properties import PROPERTIES

import mtl_keras as mtl
from mtl_keras import balancing
from mtl_keras.balancing.catalog import citation

J2 = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
J3 = np.array([[1, 2, -1, 0.5], [-2, 0.5, 1, 1], [0.3, -1, 2, -0.2]])

# The update for J2, and for J3 (None where the order is random).
VECTORS = {
    "mgda": ((0, 1, 1), (0.2053303, 0.4840766, 0.5991223, 0.2877227)),
    "ema": ((0, 1, 1), (0.2053303, 0.4840766, 0.5991223, 0.2877227)),
    "pcgrad": ((0.584795, 3.80117, 3.80117), None),
    "gradvac": ((0.584795, 3.80117, 3.80117), None),
    "cagrad": ((0.1468027, 0.9632993, 0.9632993), (0.07308772, 0.608412, 0.7207805, 0.4084914)),
    "fairgrad": ((0.02795233, 0.7068305, 0.7068305), (0.1336211, 0.5857082, 0.7048437, 0.3772089)),
    "nash_mtl": ((0.054153, 0.706069, 0.706069), (0.06075094, 0.5891597, 0.7000995, 0.3988244)),
    "upgrad": ((0.292398, 1.900585, 1.900585), (0.01655607, 0.8694236, 0.9604837, 0.5959367)),
    "dualproj": ((0.555556, 1.111111, 1.111111), (-0.2333333, 0.5, 0.6666667, 0.4333333)),
    "config": ((0.158809, 2.070607, 2.070607), (0.5826753, 1.505261, 1.779191, 0.8950692)),
    "imtl_g": ((0.076697, 1, 1), (0.1926941, 0.4977984, 0.5883888, 0.2960046)),
    "imtl": ((0.076697, 1, 1), (0.1926941, 0.4977984, 0.5883888, 0.2960046)),
    "aligned_mtl": ((0.426558, 1.934666, 1.934666), (0.09378192, 1.341225, 1.650574, 0.9311924)),
    "krum": ((1, 1, 1), (-0.85, -0.25, 1.5, 0.4)),
    "sdmgrad": ((4.846154, 1, 1), (0.1769231, -0.6538462, 1.692308, -0.05384615)),
    "modo": ((0.95, 1, 1), (-0.2308753, 0.50054, 0.6656867, 0.4327113)),
    # One number agrees in sign in all rows and is summed; the others keep the rows of one sign.
    "graddrop": (None, None),
    "trimmed_mean": ((1, 1, 1), (0.3, 0.5, 1, 0.5)),
    # First step from zeros: 0.5 g, then w = (.5, .5) - 0.1 * 0.25 G (.5, .5), projected: (.575,
    # .425) after centring.
    "moco": ((-0.125, 0.5, 0.5), None),
    # 0.1 g_i, each as long as the longest: 0.1 * (g_1 * sqrt(38 / 18) + g_2).
    "db_mtl": ((0.1 * (6 - 4 * np.sqrt(38 / 18)), *[0.1 * (1 + np.sqrt(38 / 18))] * 2), None),
    "excess_mtl": ((2, 2, 2), (-0.7, 1.5, 2, 1.3)),
    # g_1 + g_2 (0.7 sqrt(18 / 38) + 0.3).
    "metabalance": (
        (-4 + 6 * (0.7 * np.sqrt(18 / 38) + 0.3), *[1.3 + 0.7 * np.sqrt(18 / 38)] * 2),
        None,
    ),
}
# Weights for losses (0.5, 2, 8) at the start.
LOSSES = np.array([0.5, 2.0, 8.0])
WEIGHTS = {
    "equal": (1, 1, 1),
    "static": (1, 1, 1),
    "uncertainty": (0.5, 0.5, 0.5),
    "imtl_l": (1, 1, 1),
    "dwa": (1, 1, 1),
    # mean 2, over 3 L.
    "gls": (4 / 3, 1 / 3, 1 / 12),
    "log_loss": (2, 0.5, 0.125),
    # (1/L) over the sum of 1/L.
    "famo": (2 / 2.625, 0.5 / 2.625, 0.125 / 2.625),
    # softmax(L / 0.3) / 3.
    "stch": tuple(np.exp((LOSSES - 8) / 0.3) / np.exp((LOSSES - 8) / 0.3).sum() / 3),
    "chebyshev": (0, 0, 1 / 3),
    # u = (1, 1, 1) / sqrt 3; off the line: L - 3.5, of length sqrt(31.5).
    "pbi": tuple(1 / np.sqrt(3) + 5 * (LOSSES - 3.5) / np.sqrt(31.5)),
    "auto_lambda": (0.1, 0.1, 0.1),
    "gradnorm": (1, 1, 1),
    "rlw": None,
}


def test_every_method_has_a_docstring_with_citation_a_config_a_golden_value_and_a_row_of_properties():
    names = set(balancing.names())
    assert names == set(VECTORS) | set(WEIGHTS) and not set(VECTORS) & set(WEIGHTS)
    assert names == set(PROPERTIES)
    for name in names:
        cls = type(balancing.get(name))
        assert len(inspect.cleandoc(cls.__doc__).splitlines()) > 2, name
        assert citation(cls), f"{name}: no citation under 'Reference:'"
        balancer = balancing.get(name)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(balancer))
        assert type(again) is cls and again.get_config() == balancer.get_config(), name


@pytest.mark.parametrize("name", VECTORS)
def test_updates_are_those_of_independent_solutions(name):
    for jacobian, expected in zip((J2, J3), VECTORS[name], strict=True):
        if expected is not None:
            np.testing.assert_allclose(balancing.get(name).aggregate(jacobian), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        (balancing.CAGrad(c=0.4, rescale=0), (0.346803, 1.163299, 1.163299)),
        (balancing.CAGrad(c=0.4, rescale=1), (0.298968, 1.002844, 1.002844)),
        (balancing.CAGrad(c=0.4, rescale=2), (0.247716, 0.830928, 0.830928)),
        (balancing.CAGrad(c=0.5, rescale=0), (0.183503, 1.204124, 1.204124)),
        (balancing.CAGrad(c=0.5, rescale=2), (0.122336, 0.802749, 0.802749)),
        (balancing.NashMTL(max_norm=None), (0.076584, 0.998533, 0.998533)),
        (balancing.FairGrad(alpha=0.5, max_norm=None), (0.181043, 1.268221, 1.268221)),
        (balancing.FairGrad(alpha=2, max_norm=None), (0.031274, 0.790817, 0.790817)),
        (balancing.AlignedMTL("rmse"), (2 * 0.576376, 2 * 2.614172, 2 * 2.614172)),
        (balancing.AlignedMTL("median"), (2 * 0.213279, 2 * 0.967333, 2 * 0.967333)),
        # ||g||^2 = 18, 38; min-norm point of the unit rows is their mean: weights proportional to 1
        # / ||g||, then 1/2 each.
        (balancing.MGDA("l2"), (1, 1, 1)),
    ],
)
def test_published_settings(balancer, expected):
    np.testing.assert_allclose(balancer.aggregate(J2), expected, atol=2e-6)


@pytest.mark.large
def test_gradient_sign_dropout_of_the_golden_rows():
    """P = (1 + 2 / 10) / 2 for the first number: 6 with probability 0.6, else -4; the others agree
    and are summed."""
    balancer = balancing.GradDrop(gradients="parameters")
    found = np.array([balancer.aggregate(J2) for _ in range(400)])
    assert set(found[:, 0]) == {-4.0, 6.0}
    assert abs((found[:, 0] == 6).mean() - 0.6) < 0.08
    assert (found[:, 1:] == 2).all()
    leaky = balancing.GradDrop(gradients="parameters", leak=1.0)
    np.testing.assert_allclose(leaky.aggregate(J2), J2.sum(0))


def _built(name):
    balancer = balancing.get(name)
    balancer.build([mtl.tasks.Regression(n) for n in "abc"])
    return balancer


@pytest.mark.parametrize("name", [n for n in WEIGHTS if WEIGHTS[n] is not None and n != "gradnorm"])
def test_weights_of_known_losses(name):
    losses, there = tf.constant(LOSSES, tf.float32), tf.constant([True] * 3)
    np.testing.assert_allclose(
        _built(name).weigh(losses, there), WEIGHTS[name], rtol=1e-5, atol=1e-12
    )


def test_random_weights_are_a_softmax_of_their_draws():
    losses, there = tf.constant(LOSSES, tf.float32), tf.constant([True] * 3)
    for name in ("normal", "uniform"):
        balancer = balancing.RLW(name)
        balancer.build([mtl.tasks.Regression(n) for n in "abc"])
        draw = keras.random.normal if name == "normal" else keras.random.uniform
        seed = keras.random.SeedGenerator(0)
        for _ in range(3):
            raw = np.asarray(draw((3,), seed=seed), "float64")
            weights = balancer.weigh(losses, there)
            np.testing.assert_allclose(weights, np.exp(raw) / np.exp(raw).sum(), rtol=1e-5)
            balancer.update(losses, there, 0.1, weights=weights)


def test_gradnorm_first_steps_follow_the_closed_form():
    """Two steps by hand: sign of the excess times the norm, Adam, and the sum put back to T."""
    balancer = _built(balancing.GradNorm(alpha=0.5))
    gram = np.diag([4.0, 1.0, 9.0]).astype("float32")
    there = tf.constant([True] * 3)
    first = tf.constant(LOSSES, tf.float32)
    np.testing.assert_allclose(balancer.weigh(first, there, tf.constant(gram)), [1, 1, 1])
    balancer.update(first, there, 0.1, tf.constant(gram))
    norms, w = np.array([2.0, 1.0, 3.0]), np.ones(3)
    twin, optimizer = keras.Variable(w), keras.optimizers.Adam(0.025)
    second = np.array([0.5, 1.0, 2.0])
    for ratio in (np.ones(3), second / LOSSES):
        scaled = w * norms
        target = scaled.mean() * (ratio / ratio.mean()) ** 0.5
        optimizer.apply([tf.constant(np.sign(scaled - target) * norms, tf.float32)], [twin])
        w = np.maximum(twin.numpy(), 1e-4)
        w = w * 3 / w.sum()
        twin.assign(w)
        if ratio[0] == 1 and ratio[2] == 1:
            np.testing.assert_allclose(balancer.task_weights.numpy(), w, rtol=1e-5)
            balancer.update(tf.constant(second, tf.float32), there, 0.1, tf.constant(gram))
    np.testing.assert_allclose(balancer.task_weights.numpy(), w, rtol=1e-5)


def test_famo_learns_from_how_much_each_log_loss_fell():
    """One step of the authors' update, by hand, for both ways to look."""
    losses, there = tf.constant(LOSSES, tf.float32), tf.constant([True] * 3)
    after = np.array([0.25, 1.9, 8.0])
    fall = np.log(LOSSES) - np.log(after)
    z = np.ones(3) / 3
    gradient = z * (fall - z @ fall)
    twin, optimizer = keras.Variable(np.zeros(3)), keras.optimizers.Adam(0.025, epsilon=1e-8)
    optimizer.apply([tf.constant(gradient, tf.float32)], [twin])
    for observe in ("same_batch", "next_batch"):
        balancer = _built(balancing.FAMO(decay=0.0, observe=observe))
        weights = np.asarray(balancer.weigh(losses, there))
        assert np.isclose(weights.sum(), 1) and (weights > 0).all()
        balancer.update(losses, there, 0.1, weights=weights)
        if observe == "same_batch":
            balancer.observe_updated_losses(tf.constant(after, tf.float32), there)
        else:
            balancer.update(tf.constant(after, tf.float32), there, 0.1)
        np.testing.assert_allclose(balancer.logits.numpy(), twin.numpy(), rtol=1e-3)


def test_dwa_weighs_by_the_ratio_of_the_last_two_means():
    balancer, there = _built("dwa"), tf.constant([True] * 3)
    for means in ([4.0, 2.0, 1.0], [2.0, 2.0, 0.9]):
        for factor in (0.5, 1.5):
            balancer.update(tf.constant(means) * factor, there, 0.1)
        balancer.epoch_end()
    ratio = np.array([0.5, 1.0, 0.9]) / 2
    np.testing.assert_allclose(
        balancer.weigh(None, there), 3 * np.exp(ratio) / np.exp(ratio).sum(), rtol=1e-5
    )
    windowed = _built(balancing.DWA(window=2))
    for means in ([4.0, 2.0, 1.0], [2.0, 2.0, 0.9]):
        for factor in (0.5, 1.5):
            windowed.update(tf.constant(means) * factor, there, 0.1)
    np.testing.assert_allclose(windowed.weigh(None, there), balancer.weigh(None, there), rtol=1e-6)


def test_stch_multi_task_form_goes_from_log_losses_to_noted_ones():
    balancer, there = _built(balancing.STCH(form="mtl", warmup=1)), tf.constant([True] * 3)
    losses = tf.constant(LOSSES, tf.float32)
    for epoch, mean in enumerate(([9.0, 9.0, 9.0], [1.0, 2.0, 4.0])):
        np.testing.assert_allclose(balancer.weigh(losses, there), 1 / LOSSES, rtol=1e-5)
        balancer.update(tf.constant(mean), there, 0.1)
        balancer.epoch_end()
        assert epoch < 2
    relative = LOSSES / np.array([1.0, 2.0, 4.0])
    # mu = 1: T log sum(L / noted).
    np.testing.assert_allclose(
        balancer.total(losses, None, there), 3 * np.log(relative.sum()), rtol=1e-5
    )
    np.testing.assert_allclose(
        balancer.weigh(losses, there), 3 * relative / relative.sum() / LOSSES, rtol=1e-5
    )


def test_moco_and_excess_mtl_second_steps_by_hand():
    balancer = balancing.MoCo()
    balancer.aggregate(J2)
    balancer._steps.assign([1.0, 1.0])
    found = np.asarray(balancer.aggregate(-J2))
    y, w = 0.5 * J2, np.array([0.575, 0.425])
    w_one = np.array([0.5, 0.5]) - 0.1 * (0.5 * J2) @ (0.5 * J2).T @ np.array([0.5, 0.5])
    w = w_one + (1 - w_one.sum()) / 2
    beta = 0.5 / np.sqrt(2)
    y = y - beta * (y + J2)
    step = w - 0.1 / np.sqrt(2) * y @ y.T @ w
    step = step + (1 - step.sum()) / 2
    np.testing.assert_allclose(found, step @ y, rtol=1e-5)

    excess = balancing.ExcessMTL(step=0.5)
    excess.aggregate(J2)
    first = (J2**2 / np.sqrt(J2**2 + 1e-7)).sum(1)
    second = (4 * J2**2 / np.sqrt(5 * J2**2 + 1e-7)).sum(1)
    w = np.exp(0.5 * second / first)
    np.testing.assert_allclose(excess.aggregate(2 * J2), 2 * w / w.sum() @ (2 * J2), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("CAGrad", {"c": -0.1}, "c must be"),
        ("CAGrad", {"rescale": 3}, "rescale must be"),
        ("CAGrad", {"update_every": 0}, "update_every must be"),
        ("CAGrad", {"gradients": "layer"}, "gradients must be"),
        ("CAGrad", {"gradient_groups": -1}, "gradient_groups must be"),
        ("MGDA", {"normalize": "l1"}, "normalize must be"),
        ("NashMTL", {"normalize": "mean"}, "normalize must be"),
        ("FairGrad", {"alpha": 0}, "alpha must be"),
        ("Krum", {"outliers": -1}, "outliers must be"),
        ("Krum", {"selected": 0}, "selected must be"),
        ("SDMGrad", {"lam": -1}, "lam must be"),
        ("SDMGrad", {"momentum": 1}, "momentum must be"),
        ("SDMGrad", {"gradients": "representation"}, "for several batches"),
        ("MoDo", {"gamma": 0}, "gamma must be"),
        ("EMA", {"decay": 1}, "decay must be"),
        ("EMA", {"balancer": "graddrop"}, "no weights of its own"),
        ("DWA", {"temperature": 0}, "temperature must be"),
        ("DWA", {"window": 0}, "window must be"),
        ("FAMO", {"learning_rate": 0}, "learning_rate must be"),
        ("FAMO", {"observe": "twice"}, "observe must be"),
        ("GradNorm", {"alpha": -1}, "alpha must be"),
        ("PBI", {"theta": -1}, "theta must be"),
        ("Chebyshev", {"preferences": {"a": 0}}, "preference of task 'a' must be"),
        ("STCH", {"form": "mtl", "preferences": {"a": 1}}, "takes no preferences"),
        ("GradDrop", {"leak": 2}, "leak must be"),
        ("TrimmedMean", {"trim": -1}, "trim must be"),
        ("MoCo", {"beta": 0}, "beta must be"),
        ("DBMTL", {"beta": 1}, "beta must be"),
        ("ExcessMTL", {"step": 0}, "step must be"),
        ("MetaBalance", {"relax": 2}, "relax must be"),
        ("MetaBalance", {"adjust": "A"}, "adjust must be"),
        ("AutoLambda", {"initial": 0}, "initial must be"),
    ],
)
def test_settings_out_of_range_are_refused_in_the_constructor(name, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(balancing, name)(**options)


@pytest.mark.parametrize(
    "balancer",
    [
        balancing.MetaBalance("z"),
        balancing.AutoLambda(primary=["z"]),
        balancing.GradDrop(leak={"z": 1.0}),
    ],
)
def test_settings_of_tasks_that_are_not_there_are_refused(balancer):
    with pytest.raises(ValueError, match="'z'. Known: a, b, c"):
        balancer.build([mtl.tasks.Regression(n) for n in "abc"])


def test_the_docs_name_every_method():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    missing = [name for name in balancing.names() if f"`{name}`" not in text]
    assert not missing
