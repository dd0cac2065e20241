"""Methods on the Gram matrix: golden values, optimality, identities, properties, and the trainer's
step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import large_but, same, table_data, table_model

from mtl_keras import balancing

GRAM = [n for n in balancing.names() if isinstance(balancing.get(n), balancing.GramBalancer)]
J2 = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def _weights(name, gram, **options):
    return np.asarray(
        balancing.get(name).weights(gram) if not options else options["balancer"].weights(gram)
    )


def _matrices(seed=0):
    """Gram matrices of controlled rank, with duplicated, opposed, zero and badly scaled rows."""
    rng = np.random.default_rng(seed)
    for tasks in (2, 3, 8):
        for rank in (1, tasks):
            jacobian = rng.standard_normal((tasks, rank)) @ rng.standard_normal((rank, 12))
            yield jacobian
            yield jacobian * 10.0 ** rng.uniform(-3, 3, (tasks, 1))
            if tasks > 2:
                changed = jacobian.copy()
                changed[1] = changed[0]
                yield changed
                changed = jacobian.copy()
                changed[2] = 0
                yield changed


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "pcgrad", "aligned_mtl"])
def test_gradients_that_agree_are_combined_as_they_are(name):
    """Orthogonal, equally long gradients: nobody conflicts, nothing to align."""
    weights = _weights(name, 4.0 * np.eye(3))
    np.testing.assert_allclose(
        weights, np.full(3, 1 / 3 if name in ("upgrad", "dualproj") else 1.0), rtol=1e-9
    )


def test_mgda_is_the_point_of_least_norm():
    """At the optimum every gradient's product with the update is at least its square, with equality
    where it has weight."""
    solve = tf.function(lambda gram: balancing.get("mgda").weights(gram))
    for jacobian in _matrices(2):
        gram = jacobian @ jacobian.T
        w = np.asarray(solve(tf.constant(gram)))
        square = w @ gram @ w
        assert (w >= 0).all() and np.isclose(w.sum(), 1)
        assert (gram @ w >= square - 1e-6 * np.diag(gram).min() - 1e-12).all()


def test_upgrad_and_dualproj_are_projections():
    """v >= u, G v >= 0, and (v - u) (G v) = 0: the conditions of optimality, in row-normalized
    coordinates."""
    from mtl_keras.balancing.solvers import dual_cone, masked_cosines

    solve = tf.function(dual_cone)
    for jacobian in _matrices(3):
        cosines, _, live = masked_cosines(jacobian @ jacobian.T, np.ones(len(jacobian), bool))
        start = np.eye(len(jacobian))
        lifted = np.asarray(solve(cosines, tf.constant(start), live))
        alive = np.asarray(live)
        slope, moved = (lifted @ np.asarray(cosines))[:, alive], (lifted - start)[:, alive]
        assert (
            moved[alive].min() >= -1e-9
            and slope[alive].min() >= -1e-9
            and np.abs(moved * slope)[alive].max() < 1e-9
        )


def test_pcgrad_of_two_tasks_is_upgrad_with_preferences_of_one():
    rng = np.random.default_rng(4)
    for _ in range(3):
        gram = (lambda j: j @ j.T)(rng.standard_normal((2, 4)))
        np.testing.assert_allclose(
            _weights("pcgrad", gram), 2 * _weights("upgrad", gram), rtol=1e-6
        )


def test_pcgrad_follows_the_paper_for_any_order():
    """An independent implementation with vectors: the result must be that of one of the possible
    orders."""
    import itertools

    rng = np.random.default_rng(5)
    jacobian = rng.standard_normal((3, 4)) - 0.3
    options = []
    for i in range(3):
        found = []
        for order in itertools.permutations([j for j in range(3) if j != i]):
            g = jacobian[i].copy()
            for j in order:
                dot = g @ jacobian[j]
                if dot < 0:
                    g -= dot / (jacobian[j] @ jacobian[j]) * jacobian[j]
            found.append(g)
        options.append(found)
    sums = [np.sum(choice, axis=0) for choice in itertools.product(*options)]
    balancer = balancing.PCGrad(seed=3)
    for _ in range(5):
        d = np.asarray(balancer.aggregate(jacobian))
        assert min(np.abs(d - s).max() for s in sums) < 1e-6


def test_gradvac_first_step_is_pcgrad_and_its_targets_are_running_means():
    balancer = balancing.GradVac(beta=0.25)
    gram = J2 @ J2.T
    np.testing.assert_allclose(balancer.weights(gram), _weights("pcgrad", gram), rtol=1e-9)
    cosine = gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1])
    np.testing.assert_allclose(balancer.targets.numpy()[0, 1], 0.25 * cosine, rtol=1e-5)
    agree = np.array([[1.0, 0.9], [0.9, 1.0]])
    balancer = balancing.GradVac(beta=1.0)
    balancer.weights(agree)  # the target is now 0.9
    changed = balancer.weights(np.array([[1.0, 0.1], [0.1, 1.0]]))
    # Each row is 1 times itself and a times the other; g1 + a g2 has the target's cosine with g2.
    mixed = np.array([1.0, float(np.asarray(changed)[0]) - 1])
    gram = np.array([[1.0, 0.1], [0.1, 1.0]])
    np.testing.assert_allclose((gram @ mixed)[1] / np.sqrt(mixed @ gram @ mixed), 0.9, rtol=1e-6)


def test_nash_bargains_and_does_not_see_scales():
    rng = np.random.default_rng(6)
    for tasks in (1, 2, 5, 8):
        jacobian = rng.standard_normal((tasks, 12))
        gram = jacobian @ jacobian.T
        balancer = balancing.NashMTL(max_norm=None)
        a = np.asarray(balancer.weights(gram))
        np.testing.assert_allclose(a * (gram @ a), 1.0, rtol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(a @ jacobian), np.sqrt(tasks), rtol=1e-9)
        scales = 10.0 ** rng.uniform(-6, 6, tasks)
        scaled = np.asarray(balancer.weights(gram * scales[:, None] * scales[None, :]))
        np.testing.assert_allclose(scaled * scales, a, rtol=1e-7)


def test_imtl_g_projects_equally_and_config_makes_equal_angles():
    rng = np.random.default_rng(7)
    jacobian = rng.standard_normal((4, 9)) * 10.0 ** rng.uniform(-2, 2, (4, 1))
    units = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
    for name in ("imtl_g", "config"):
        projections = units @ np.asarray(balancing.get(name).aggregate(jacobian))
        np.testing.assert_allclose(projections, projections[0], rtol=1e-7)
    np.testing.assert_allclose(_weights("imtl_g", jacobian @ jacobian.T).sum(), 1.0, rtol=1e-9)


def test_aligned_gradients_are_orthogonal_and_equally_long():
    rng = np.random.default_rng(8)
    jacobian = rng.standard_normal((3, 6))
    gram = jacobian @ jacobian.T
    values, vectors = np.linalg.eigh(gram)
    for scale, s in (("min", values[0]), ("median", values[1]), ("rmse", values.mean())):
        expected = np.sqrt(s) * (vectors / np.sqrt(values)) @ vectors.T @ np.ones(3)
        np.testing.assert_allclose(balancing.AlignedMTL(scale).weights(gram), expected, rtol=1e-8)


@pytest.mark.parametrize("name", GRAM)
def test_one_task_gets_its_gradient_up_to_the_documented_scale(name):
    weight = _weights(name, np.array([[9.0]]))[0]
    # Nash-MTL's update has length 1; FairGrad's a^3 = 1/9 for alpha 2; CAGrad's (1 + c) / (1 +
    # c^2).
    expected = {"nash_mtl": 1 / 3, "fairgrad": 9 ** (-2 / 3), "cagrad": 1.2}.get(name, 1.0)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize("name", GRAM)
def test_an_absent_task_leaves_the_result_of_the_others(name):
    rng = np.random.default_rng(9)
    jacobian = rng.standard_normal((3, 5))
    gram = jacobian @ jacobian.T
    balancer = balancing.get(name)
    balancer.build([type("T", (), {"name": f"t{i}"})() for i in range(3)])
    losses, present = tf.ones(3), tf.constant([True, False, True])
    found = np.asarray(balancer.weigh(losses, present, tf.constant(gram)))
    expected = _weights(name, gram[np.ix_([0, 2], [0, 2])])
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=1e-6)
    assert found[1] == 0


@pytest.mark.parametrize("name", large_but(("pcgrad", "imtl_g"), GRAM))
def test_graphs_and_xla_give_the_same_weights(name):
    gram = tf.constant(J2 @ J2.T)
    eager = _weights(name, gram)
    for jit in (False, True):
        balancer = balancing.get(name)
        balancer.build([type("T", (), {"name": f"t{i}"})() for i in range(2)])
        if jit and name in ("imtl_g", "imtl", "config", "aligned_mtl"):
            continue  # XLA's own eigh is checked through training below
        function = tf.function(
            lambda g, b=balancer: b.weigh(tf.ones(2), tf.constant([True, True]), g), jit_compile=jit
        )
        np.testing.assert_allclose(function(gram), eager, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: balancing.GradVac(beta=0), "beta must be in"),
        (lambda: balancing.AlignedMTL("max"), "scale must be"),
        (lambda: balancing.NashMTL(max_norm=0), "max_norm must be"),
        (lambda: balancing.get("mgda").weights(np.zeros((2, 3))), "is square"),
        (lambda: balancing.get("mgda").aggregate(np.zeros(3)), "one row per task"),
    ],
)
def test_impossible_settings_and_shapes_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ------------------------------------------------------------------ in training
@pytest.mark.parametrize(
    "name",
    large_but(("pcgrad",), [n for n in GRAM if balancing.get(n).strategy != "samples"]),
)
def test_the_trainers_step_is_the_methods_definition(name):
    """One SGD step against gradients taken by hand, flattened, and combined in float64."""
    x, y = table_data()
    model = table_model()
    variables = model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        out = model(x, training=True)
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        ]
    rows = [tape.gradient(loss, variables) for loss in losses]
    shared = [
        i for i, pair in enumerate(zip(*rows, strict=True)) if all(g is not None for g in pair)
    ]
    assert [variables[i].path for i in shared] == [
        "mlp_stage1_dense/kernel",
        "mlp_stage1_dense/bias",
    ]
    flat = np.stack(
        [np.concatenate([row[i].numpy().ravel() for i in shared]) for row in rows]
    ).astype("float64")
    weights = _weights(name, flat @ flat.T)
    heads = weights if balancing.get(name).scales_heads else np.ones(2)
    expected = []
    for i, variable in enumerate(variables):
        factors = weights if i in shared else heads
        step = sum(
            f * row[i].numpy() for f, row in zip(factors, rows, strict=True) if row[i] is not None
        )
        expected.append(variable.numpy() - 0.1 * step)
    model.compile(keras.optimizers.SGD(0.1), balancer=name)
    model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    same([v.numpy() for v in variables], expected, rtol=1e-4, atol=1e-6)


def test_a_model_whose_tasks_share_nothing_is_refused():
    import mtl_keras as mtl

    x = keras.Input((2,))
    tasks = [mtl.tasks.Regression(name) for name in "ab"]
    model = mtl.MultiTaskModel(
        x, {t.name: mtl.tasks.TaskOutput(t)(keras.layers.Dense(1)(x)) for t in tasks}
    )
    with pytest.raises(ValueError, match="no two tasks of this model share any"):
        model.compile("sgd", balancer="mgda")


@pytest.mark.parametrize("name", large_but(("pcgrad",), ["mgda", "pcgrad"]))
def test_embeddings_and_regularization_work(name):
    import mtl_keras as mtl

    def backbone(inputs):
        x = keras.layers.Embedding(10, 4, embeddings_regularizer="l2", name="embedding")(inputs)
        return keras.layers.GlobalAveragePooling1D(name="mean")(x)

    tasks = [mtl.tasks.Regression("a", hidden=0), mtl.tasks.Binary("b", hidden=0)]
    model = mtl.builders.hard_sharing({"tokens": (3,)}, tasks, backbone=backbone)
    model.compile("adam", balancer=name)
    before = model.get_layer("embedding").get_weights()[0]
    rng = np.random.default_rng(0)
    model.fit(
        rng.integers(0, 5, (16, 3)),
        {"a": rng.standard_normal(16), "b": rng.integers(0, 2, 16)},
        verbose=0,
    )
    moved = np.abs(model.get_layer("embedding").get_weights()[0] - before).max(1)
    assert (moved > 0).all()  # ids 5 to 9 by the regularizer alone


def test_mixed_precision_unscales_before_the_gram_matrix():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="nash_mtl")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    history = model.fit(x, y, epochs=3, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]
