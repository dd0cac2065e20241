"""Networks side by side: what they are at their limits, and what ties them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, table_data

import mtl_keras as mtl

TASKS = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
MLP = {"backbone": "mlp", "backbone_options": {"widths": (8, 6), "normalize": False}}
B = mtl.builders


def _alone(model, task):
    """A network for one task with the weights that its stream has in a model of several."""
    alone = mtl.builders.hard_sharing((5,), [t for t in TASKS if t.name == task], **MLP)
    for layer in alone.layers:
        twin = layer.name if layer.name.startswith(task) else f"{layer.name}_{task}"
        if layer.weights:
            layer.set_weights(model.get_layer(twin).get_weights())
    return alone


@pytest.mark.parametrize(
    "make",
    [
        lambda: B.soft_sharing((5,), TASKS, penalty_weight=0.0, **MLP),
        lambda: B.cross_stitch((5,), TASKS, self_weight=1.0, **MLP),
        lambda: B.cross_stitch((5,), TASKS, self_weight=1.0, per_channel=False, **MLP),
        lambda: B.nddr((5,), TASKS, self_weight=1.0, normalize=False, **MLP),
        lambda: B.nddr((5,), TASKS, self_weight=1.0, normalize=True, **MLP),
    ],
    ids=["soft_sharing", "cross_stitch", "cross_stitch a pair", "nddr", "nddr normalized"],
)
def test_at_identity_the_networks_are_independent(make):
    model, (x, _) = make(), table_data()
    out = model.predict(x, verbose=0)
    for task in model.task_names:
        np.testing.assert_allclose(
            _alone(model, task).predict(x, verbose=0)[task], out[task], rtol=1e-4, atol=1e-4
        )
    # Different starts: copies of one initialization would not be independent.
    a, b = (model.get_layer(f"mlp_stage1_dense_{t}").kernel.numpy() for t in model.task_names)
    assert np.abs(a - b).max() > 0.01


@pytest.mark.large
def test_without_a_penalty_training_is_that_of_independent_networks():
    x, y = table_data()
    model = B.soft_sharing((5,), TASKS, penalty_weight=0.0, **MLP)
    alone = {task: _alone(model, task) for task in model.task_names}
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    for task, single in alone.items():
        single.compile(keras.optimizers.SGD(0.1))
        single.fit(x, {task: y[task]}, epochs=3, batch_size=8, shuffle=False, verbose=0)
        found = model.get_layer(f"mlp_stage1_dense_{task}").kernel.numpy()
        np.testing.assert_allclose(
            single.get_layer("mlp_stage1_dense").kernel.numpy(), found, rtol=1e-4, atol=1e-6
        )


def _spread(model):
    a, b = (
        model.get_layer(f"mlp_stage1_dense_{t}").kernel.numpy().ravel() for t in model.task_names
    )
    return np.linalg.norm(a - b) / np.sqrt(np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.large
def test_networks_are_pulled_together_as_the_weight_grows():
    x, y = table_data()
    apart = []
    for weight in (0.0, 0.5):
        keras.utils.set_random_seed(3)
        model = B.soft_sharing((5,), TASKS, penalty="l2", penalty_weight=weight, **MLP)
        model.compile(keras.optimizers.Adam(0.02))
        model.fit(x, y, epochs=40, batch_size=32, verbose=0)
        apart.append(_spread(model))
    assert apart[1] < 0.3 * apart[0], apart


def test_the_trace_norm_lets_the_smallest_direction_die_first():
    # Along its gradient all singular values fall alike, so that the smallest reaches 0 while others
    # are left.
    model = B.soft_sharing((5,), TASKS, penalty="trace", penalty_weight=1.0, **MLP)
    kernels = [model.get_layer(f"mlp_stage1_dense_{t}").kernel for t in model.task_names]

    def singular():
        return np.linalg.svd(np.stack([k.numpy().ravel() for k in kernels]), compute_uv=False)

    first = singular()
    optimizer = keras.optimizers.SGD(float(first[1]) / 20)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = model.losses[0]
        variables = model.trainable_variables
        pairs = zip(tape.gradient(loss, variables), variables, strict=True)
        optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])
    last = singular()
    np.testing.assert_allclose(first[0] - last[0], first[1], rtol=1e-3)
    assert last[1] < 1e-2 * first[1] < last[0]


@pytest.mark.large
def test_features_tell_more_of_each_other_as_the_weight_grows():
    x, y = table_data(64)
    found = []
    for weight in (0.0, 100.0):
        keras.utils.set_random_seed(3)
        model = B.soft_sharing(
            (5,), TASKS, penalty="mutual_information", penalty_weight=weight, **MLP
        )
        model.compile(keras.optimizers.Adam(0.02))
        model.fit(x, y, epochs=40, batch_size=64, verbose=0)
        layers = [model.get_layer(f"mlp_stage1_relu_{t}").output for t in model.task_names]
        a, b = keras.Model(model.input, layers).predict(x, verbose=0)
        live = (a.std(0) > 1e-6) & (b.std(0) > 1e-6)
        found.append(
            np.mean([np.corrcoef(a[:, i], b[:, i])[0, 1] ** 2 for i in np.flatnonzero(live)])
        )
    assert found[1] > 0.7 and found[0] < 0.5, found


def test_penalties_are_what_their_formulas_say():
    model = B.soft_sharing((5,), TASKS, penalty_weight=0.5, **MLP)
    layers = ("mlp_stage1_dense", "mlp_stage2_dense")
    pairs = [
        [model.get_layer(f"{layer}_{t}").get_weights() for t in model.task_names]
        for layer in layers
    ]
    expected = 0.5 * sum(
        np.sum((a - b) ** 2) for one, two in pairs for a, b in zip(one, two, strict=True)
    )
    np.testing.assert_allclose(float(model.losses[0]), expected, rtol=1e-5)
    model = B.soft_sharing((5,), TASKS, penalty="trace", penalty_weight=0.5, **MLP)
    stacked = [
        np.stack(
            [np.ravel(model.get_layer(f"{layer}_{t}").get_weights()[i]) for t in model.task_names]
        )
        for layer in ("mlp_stage1_dense", "mlp_stage2_dense")
        for i in (0, 1)
    ]
    expected = 0.5 * sum(np.linalg.svd(rows, compute_uv=False).sum() for rows in stacked)
    np.testing.assert_allclose(float(model.losses[0]), expected, rtol=1e-5)


def test_the_pairwise_trace_norm_is_that_of_numpy_and_so_is_its_gradient():
    rng = np.random.default_rng(0)
    inputs = keras.Input((5,))
    names = [f"d{i}" for i in range(3)]
    model = keras.Model(inputs, [keras.layers.Dense(4, name=name)(inputs) for name in names])
    tie = mtl.layers.WeightTie("pairwise_trace", 0.5, [names])
    for name in names:
        model.get_layer(name).set_weights([rng.standard_normal((5, 4)), rng.standard_normal(4)])
    with tf.GradientTape() as tape:
        value = tie(model)
    kernels, biases = zip(
        *(map(np.float64, model.get_layer(name).get_weights()) for name in names), strict=True
    )
    expected, gradient = 0.0, np.zeros((5, 4))
    for i in range(3):
        for j in range(i + 1, 3):
            u, s, v = np.linalg.svd(kernels[i] - kernels[j], full_matrices=False)
            expected += 0.5 * (s.sum() + np.linalg.norm(biases[i] - biases[j]))
            gradient += 0.5 * (u @ v) * (i == 0)
    np.testing.assert_allclose(float(value), expected, rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(value, model.get_layer("d0").kernel.value), gradient, rtol=1e-3, atol=1e-4
    )
    # Networks that are alike cost nothing and are not moved, also in graph mode.
    for name in names:
        model.get_layer(name).set_weights([np.ones((5, 4)), np.ones(4)])

    @tf.function
    def still():
        with tf.GradientTape() as tape:
            value = tie(model)
        return value, tape.gradient(value, model.get_layer("d1").kernel.value)

    value, gradient = still()
    assert float(value) == 0 and np.all(np.asarray(gradient) == 0)


@pytest.mark.large
def test_the_pairwise_trace_norm_trains_and_is_saved_with_the_model(tmp_path):
    x, _ = image_data(4)
    options = {"widths": (2, 3), "depth": 1}
    tasks = [mtl.tasks.Binary("cat", hidden=0), mtl.tasks.Binary("dog", hidden=0)]
    model = B.soft_sharing(
        (16, 16, 1), tasks, penalty="pairwise_trace", penalty_weight=0.1, backbone_options=options
    )
    expected = 0.0
    for group in model.tie.groups:
        for a, b in zip(
            *(model.get_layer(name).trainable_variables for name in group), strict=True
        ):
            difference = np.float64(a.numpy() - b.numpy())
            expected += (
                0.1
                * np.linalg.svd(
                    difference.reshape(-1, difference.shape[-1]), compute_uv=False
                ).sum()
            )
    np.testing.assert_allclose(float(model.losses[0]), expected, rtol=1e-4)
    model.compile("adam")
    labels = {"cat": np.arange(4) % 2, "dog": np.arange(4) // 2}
    assert np.isfinite(model.train_on_batch(x, labels, return_dict=True)["loss"])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_allclose(float(loaded.losses[0]), float(model.losses[0]), rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_published_factors_of_l2_are_the_multiples_that_the_docs_say(count):
    rng = np.random.default_rng(count)
    weights = rng.standard_normal((count, 6))
    inputs = keras.Input((3,))
    names = [f"d{i}" for i in range(count)]
    model = keras.Model(
        inputs, [keras.layers.Dense(2, use_bias=False, name=name)(inputs) for name in names]
    )
    for name, w in zip(names, weights, strict=True):
        model.get_layer(name).set_weights([w.reshape(3, 2)])
    lam = 0.3
    pairs = lam * sum(
        np.sum((weights[i] - weights[j]) ** 2) for i in range(count) for j in range(i)
    )
    center = lam * np.sum((weights - weights.mean(0)) ** 2)
    for weight, expected in (
        (lam * count * (count - 1) / 2, pairs),
        (lam * (count - 1) / 2, center),
    ):
        np.testing.assert_allclose(
            float(mtl.layers.WeightTie("l2", weight, [names])(model)), expected, rtol=1e-5
        )


def test_the_nuclear_norm_has_the_gradient_of_its_singular_vectors():
    from mtl_keras.layers.ties import _nuclear

    rows = tf.Variable(np.random.default_rng(0).standard_normal((3, 7)).astype("float32"))
    with tf.GradientTape() as tape:
        value = _nuclear(rows)
    u, s, v = np.linalg.svd(rows.numpy(), full_matrices=False)
    np.testing.assert_allclose(value, s.sum(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(value, rows), u @ v, atol=1e-4)
    # Rows that are alike: one singular value, and a gradient that is finite.
    alike = tf.Variable(np.ones((3, 4), "float32"))
    with tf.GradientTape() as tape:
        value = _nuclear(alike)
    np.testing.assert_allclose(value, np.sqrt(12), rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(value, alike), np.full((3, 4), 1 / np.sqrt(12)), atol=1e-5
    )


def test_a_tie_is_saved_and_cloned_with_its_model(tmp_path):
    x, _ = table_data(4)
    model = B.soft_sharing((5,), TASKS, penalty="trace", penalty_weight=0.2, **MLP)
    model.compile("sgd")
    model.save(tmp_path / "m.keras")
    for other in (keras.saving.load_model(tmp_path / "m.keras"), keras.models.clone_model(model)):
        other.set_weights(model.get_weights())
        assert other.tie.get_config() == model.tie.get_config()
        np.testing.assert_allclose(float(other.losses[0]), float(model.losses[0]), rtol=1e-6)
        np.testing.assert_array_equal(
            other.predict(x, verbose=0)["cost"], model.predict(x, verbose=0)["cost"]
        )


def test_what_lies_before_the_split_is_one_and_shared():
    model = B.soft_sharing((5,), TASKS, split_after="stage1", **MLP)
    model.compile("sgd", balancer="cagrad")
    assert model.balancing_report().shared == ["mlp_stage1_dense/kernel", "mlp_stage1_dense/bias"]
    names = {layer.name for layer in model.layers}
    assert {"mlp_stage1_dense", "mlp_stage2_dense_cost", "mlp_stage2_dense_sold"} <= names
    assert "mlp_stage1_dense_cost" not in names


def test_no_variable_of_separate_networks_is_shared_and_gradient_methods_say_so():
    model = B.soft_sharing((5,), TASKS, **MLP)
    with pytest.raises(ValueError, match="no two tasks of this model share any.*split_after"):
        model.compile("sgd", balancer="cagrad")
    with pytest.raises(ValueError, match="not compiled"):
        _ = model.compiled_tasks


def test_stitches_follow_their_formula_and_belong_to_their_target():
    layer = mtl.layers.CrossStitch(self_weight=0.7)
    x = [np.random.default_rng(i).random((4, 3, 2)).astype("float32") for i in range(3)]
    y = layer(x)
    np.testing.assert_allclose(y[1], 0.7 * x[1] + 0.15 * (x[0] + x[2]), rtol=1e-5)
    layer.alpha[0].assign(np.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(
        layer(x)[0],
        sum(a * b for a, b in zip(x, np.arange(6.0).reshape(3, 2), strict=True)),
        rtol=1e-5,
    )
    model = B.cross_stitch((5,), TASKS, **MLP, name="s")
    model.compile("sgd", balancer="cagrad")
    shared = model.balancing_report().shared
    # Each task's last mixture is its own; the first stage's mixtures reach both.
    assert {"s_stage1/alpha_0", "s_stage1/alpha_1"} <= set(shared)
    assert not {"s_stage2/alpha_0", "s_stage2/alpha_1"} & set(shared)


def test_the_number_of_parameters_is_that_of_the_formulas():
    heads, trunk = 2 * 7, 2 * ((5 * 8 + 8) + (8 * 6 + 6))
    assert B.soft_sharing((5,), TASKS, **MLP).count_params() == trunk + heads
    assert B.cross_stitch((5,), TASKS, **MLP).count_params() == trunk + heads + 4 * (8 + 6)
    assert (
        B.cross_stitch((5,), TASKS, per_channel=False, **MLP).count_params()
        == trunk + heads + 4 * 2
    )
    plain = B.nddr((5,), TASKS, normalize=False, **MLP).count_params()
    assert plain == trunk + heads + sum(4 * w * w + 2 * w for w in (8, 6))
    assert B.nddr((5,), TASKS, **MLP).count_params() == plain + 2 * 4 * (8 + 6)
    # Subspace mixtures (tasks subspaces)^2 a stage; stages for the heads: a linear layer 8 -> 6 and
    # two factors a task.
    assert B.sluice((5,), TASKS, **MLP).count_params() == trunk + heads + 2 * 16 + 2 * (
        (8 * 6 + 6) + 2
    )


def test_subspaces_are_mixed_and_their_overlap_is_penalized():
    layer = mtl.layers.SubspaceStitch(subspaces=2, self_weight=1.0, penalty_weight=2.0)
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((6, 4)).astype("float32") for _ in range(2)]
    same = layer(x, training=True)
    np.testing.assert_allclose(same[0], x[0], rtol=1e-6)
    expected = 0.0
    for one in x:
        a, b = (c / np.linalg.norm(c, axis=0) for c in (one[:, :2], one[:, 2:]))
        expected += 2.0 * np.mean((a.T @ b) ** 2)
    np.testing.assert_allclose(sum(float(v) for v in layer.losses), expected, rtol=1e-5)
    # A factor from the second stream's last subspace to the first stream's first.
    alpha = layer.alpha[0].numpy()
    alpha[0, 3] = 0.5
    layer.alpha[0].assign(alpha)
    np.testing.assert_allclose(layer(x)[0][:, :2], x[0][:, :2] + 0.5 * x[1][:, 2:], rtol=1e-5)


def test_a_pretrained_backbone_is_copied_with_its_weights():
    x, _ = image_data(4)
    inputs = keras.Input((16, 16, 1), name="image")
    trunk = mtl.backbones.small_cnn(inputs, widths=(4,), depth=1)
    tasks = [mtl.tasks.Classification("kind", 3, hidden=0), mtl.tasks.Binary("cat", hidden=0)]
    model = B.cross_stitch(None, tasks, trunk, self_weight=1.0)
    expected = trunk.predict(x, verbose=0)["stage1"]
    for task in ("kind", "cat"):
        part = keras.Model(
            model.input, model.get_layer(f"small_cnn_stage1_block1_relu_{task}").output
        )
        np.testing.assert_allclose(part.predict(x, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: B.soft_sharing((5,), TASKS, penalty="l1", **MLP),
            "Unknown penalty 'l1'. Known: l2, trace",
        ),
        (lambda: B.soft_sharing((5,), TASKS, penalty_weight=-1, **MLP), "must be >= 0, got -1"),
        (
            lambda: B.cross_stitch((5,), TASKS, split_after="stage9", **MLP),
            "split_after: .*'stage9'.*stage1, stage2",
        ),
        (
            lambda: B.sluice((5,), TASKS, subspaces=4, **MLP),
            "'sluice_stage2' cuts 6 channels into 4 subspaces",
        ),
        (lambda: B.nddr((5,), [TASKS[0], TASKS[0]], **MLP), "share the name 'cost'"),
        (
            lambda: mtl.layers.CrossStitch(name="s")([np.ones((2, 3)), np.ones((2, 4))]),
            "Layer 's' joins streams of one shape",
        ),
        (lambda: mtl.layers.CrossStitch(name="s")(np.ones((2, 3))), "takes a list of tensors"),
    ],
)
def test_bad_input_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
