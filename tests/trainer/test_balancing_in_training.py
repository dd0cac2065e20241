"""What a balancer may ask of the trainer, and what the trainer tells of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_model, large_but, same, table_data, table_model

import mtl_keras as mtl
from mtl_keras import balancing
from mtl_keras.graph.reach import Reach

TABLE = {"batch_size": 16, "shuffle": False, "verbose": 0}


def _twins(make=table_model):
    one = make()
    two = make()
    two.set_weights(one.get_weights())
    return one, two


def _fit(model, balancer, epochs=1, data=None, optimizer=None, **compiled):
    x, y = data or table_data()
    model.compile(optimizer or keras.optimizers.SGD(0.1), balancer=balancer, **compiled)
    return model.fit(x, y, epochs=epochs, **TABLE).history


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("cagrad", 1),
        pytest.param("nash_mtl", 2, marks=pytest.mark.large),
        pytest.param("pcgrad", 9, marks=pytest.mark.large),
        pytest.param("imtl", 3, marks=pytest.mark.large),
    ],
)
def test_two_passes_make_the_same_step_as_one(name, passes):
    one, two = _twins(lambda: table_model(widths=(8, 6)))
    _fit(one, balancing.get(name), 2)
    cls = type(balancing.get(name))
    _fit(two, cls(gradient_groups=passes), 2)
    same(one.get_weights(), two.get_weights(), rtol=1e-4, atol=1e-5)
    same(one.balancer.variables, two.balancer.variables, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"gradient_groups": 1}, marks=pytest.mark.large),
        pytest.param({"gradients": "representation"}, marks=pytest.mark.large),
    ],
)
def test_amortized_weights_are_those_of_the_last_solution(options):
    """update_every=3: weights of steps 0 and 3, with plain weighted gradients between."""
    x, y = table_data(64)
    model, twin = _twins()
    model.compile(keras.optimizers.SGD(0.1), balancer=balancing.CAGrad(update_every=3, **options))
    model.fit(x, y, epochs=1, **TABLE)
    balancer = balancing.CAGrad(**options)
    weights = None
    for step in range(4):
        part = slice(16 * step, 16 * step + 16)
        data = (x[part], {k: v[part] for k, v in y.items()})
        if step % 3 == 0:
            probe = table_model()
            probe.set_weights(twin.get_weights())
            amortized = balancing.CAGrad(update_every=2, **options)  # keeps what it found
            _fit(probe, amortized, data=data)
            weights = amortized.cached_weights.numpy()
        with tf.GradientTape(persistent=True) as tape:
            out = twin(data[0], training=True)
            losses = [
                tf.reduce_mean((out["cost"][:, 0] - data[1]["cost"]) ** 2),
                tf.reduce_mean(
                    keras.losses.binary_crossentropy(
                        data[1]["sold"][:, None].astype("float32"), out["sold"]
                    )
                ),
            ]
        rows = [tape.gradient(loss, twin.trainable_variables) for loss in losses]
        for variable, *pair in zip(twin.trainable_variables, *rows, strict=True):
            factors = weights if all(g is not None for g in pair) else np.ones(2)
            variable.assign_sub(
                0.1 * sum(f * g for f, g in zip(factors, pair, strict=True) if g is not None)
            )
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)
    assert balancer.update_every == 1 and float(model.balancer.steps.numpy()) == 1


@pytest.mark.large
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"update_every": 2}, marks=pytest.mark.large),
        pytest.param({"gradients": "representation"}, marks=pytest.mark.large),
        {"gradients": "representation", "update_every": 2},
    ],
)
def test_cheaper_gradients_make_the_same_update_on_replicas(options):
    x, y = table_data()
    y["cost"][:5] = np.nan
    one = table_model()
    weights = one.get_weights()
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        two = table_model()
        two.compile(keras.optimizers.SGD(0.1), balancer=balancing.GradVac(**options))
    two.set_weights(weights)
    one.compile(keras.optimizers.SGD(0.1), balancer=balancing.GradVac(**options))
    for model in (one, two):
        model.fit(x, y, epochs=2, **TABLE)
    same(one.get_weights(), two.get_weights())
    same(one.balancer.variables, two.balancer.variables)


@pytest.mark.parametrize("name", large_but(("config",), ["mgda", "cagrad", "config"]))
def test_representation_gradients_are_taken_where_the_heads_begin(name):
    """Against gradients by hand at the one shared tensor, flattened with the batch; then the
    weighted losses' step."""
    x, y = table_data(16)
    model, twin = _twins()
    balancer = type(balancing.get(name))(gradients="representation")
    _fit(model, balancer, data=(x, y))
    (layer,) = twin.representation
    trunk = keras.Model(twin.input, twin.get_layer(layer).output)
    heads = keras.Model(twin.get_layer(layer).output, twin.output)
    with tf.GradientTape(persistent=True) as tape:
        z = trunk(x, training=True)
        tape.watch(z)
        out = heads(z, training=True)
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        ]
    rows = np.stack([tape.gradient(loss, z).numpy().ravel() for loss in losses]).astype("float64")
    weights = np.asarray(balancing.get(name).weights(rows @ rows.T))
    own = weights if balancer.scales_heads else np.ones(2)
    parts = [tape.gradient(loss, twin.trainable_variables) for loss in losses]
    for variable, *pair in zip(twin.trainable_variables, *parts, strict=True):
        factors = weights if all(g is not None for g in pair) else own
        variable.assign_sub(
            0.1 * sum(f * g for f, g in zip(factors, pair, strict=True) if g is not None)
        )
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize(
    "balancer",
    [
        pytest.param(balancing.MGDA(gradients="representation"), marks=pytest.mark.large),
        balancing.GradDrop(seed=1),
    ],
)
def test_representations_of_several_tensors_train(balancer):
    """Heads that take different stages of one trunk: what leads from one stage to the next belongs
    to the trunk."""
    x, y = image_data(24)
    model = image_model()
    assert len(model.representation) > 1
    model.compile("adam", balancer=balancer)
    history = model.fit(x, y, epochs=6, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]
    trunk, heads = model._compiled.sides(model.trainable_variables)
    assert {id(v) for v in trunk}.isdisjoint(id(v) for v in heads)
    assert len(trunk) + len(heads) == len(model.trainable_variables)


@pytest.mark.large
def test_gradient_sign_dropout_that_lets_all_through_is_the_plain_sum():
    one, two = _twins()
    _fit(one, balancing.GradDrop(leak=1.0), 2)
    _fit(two, "equal", 2)
    same(one.get_weights(), two.get_weights(), rtol=1e-4)


def test_gradient_sign_dropout_masks_the_representation_by_its_definition():
    """One row, so that the sign of the activation times the gradient is each number's own; then
    what arrives at the bias."""
    x, y = table_data(1)
    y = {"cost": y["cost"], "sold": y["sold"]}
    model = table_model()
    trunk = model.get_layer(model.representation[0])
    model.compile(keras.optimizers.SGD(1.0), balancer=balancing.GradDrop(seed=5))
    before = model.get_layer("mlp_stage1_dense").bias.numpy() if hasattr(model, "x") else trunk
    del before
    dense = next(layer for layer in model.layers if layer.name == "mlp_stage1_dense")
    bias = dense.bias.numpy()
    heads = keras.Model(trunk.output, model.output)
    z = keras.Model(model.input, trunk.output)(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        out = heads(z)
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        ]
    rows = np.stack([tape.gradient(loss, z).numpy()[0] for loss in losses])
    h = np.sign(z.numpy()[0]) * rows
    size = np.abs(h).sum(0)
    purity = 0.5 * (1 + h.sum(0) / np.where(size > 0, size, 1))
    draws = keras.random.uniform((8,), seed=keras.random.SeedGenerator(5)).numpy()
    mask = ((purity > draws) & (h > 0)) | ((purity < draws) & (h < 0))
    model.fit(x, y, verbose=0)
    arrives = (mask * rows).sum(0) * (z.numpy()[0] > 0)
    np.testing.assert_allclose(bias - dense.bias.numpy(), arrives, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ lists
@pytest.mark.large
def test_a_list_weighs_the_losses_and_then_their_gradients():
    """With fixed first weights it is the second method on a model with these loss weights."""
    one, two = _twins()
    _fit(one, [balancing.Static({"cost": 0.3, "sold": 2.0}), balancing.CAGrad(c=0.4)], 2)
    _fit(two, balancing.CAGrad(c=0.4), 2, loss_weights={"cost": 0.3, "sold": 2.0})
    same(one.get_weights(), two.get_weights(), rtol=1e-5)


def test_a_list_learns_in_both_places_and_is_saved(tmp_path):
    x, y = table_data()
    model = table_model()
    model.compile("adam", balancer=["uncertainty", "gradvac"])
    model.fit(x, y, epochs=2, **TABLE)
    first, last = model.balancer.parts
    assert np.abs(first.log_variance.numpy()).min() > 0 and last.targets.numpy()[0, 1] != 0
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.balancer.name == "chain"
    same(loaded.balancer.variables, model.balancer.variables, rtol=0, atol=0)


@pytest.mark.large
def test_a_weighting_goes_before_a_method_with_a_state_of_the_gradients_size():
    one, two = _twins()
    _fit(one, [balancing.Static({"cost": 0.5}), balancing.MoCo()], 2)
    _fit(two, balancing.MoCo(), 2, loss_weights={"cost": 0.5, "sold": 1.0})
    same(one.get_weights(), two.get_weights(), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["cagrad", "uncertainty"], "'cagrad' does more"),
        (["equal", "gls", "mgda"], "one method more, got 3"),
        (["equal", "famo"], "'famo' can't be the second"),
        (["equal", "uncertanty"], "Did you mean 'uncertainty'"),
    ],
)
def test_lists_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        table_model().compile("sgd", balancer=given)


# ------------------------------------------------------------------ which variables
def test_shared_variables_are_those_whose_gradients_are_there():
    """The graph's answer against the gradients themselves, in a network with a stopped and an
    unused branch."""
    x = keras.Input((4,), name="x")
    trunk = keras.layers.Dense(6, activation="relu", name="trunk")(x)
    second = keras.layers.BatchNormalization(name="second_norm")(
        keras.layers.Dense(5, name="second")(trunk)
    )
    stopped = keras.ops.stop_gradient(keras.layers.Dense(3, name="stopped")(second))
    tasks = [mtl.tasks.Regression(n) for n in "abc"]
    a = keras.layers.Dense(1, name="a_out")(keras.layers.Concatenate()([trunk, stopped]))
    b = keras.layers.Dense(1, name="b_out")(second)
    c = keras.layers.Dense(1, name="c_out")(keras.layers.Dense(2, name="alone")(x))
    model = mtl.MultiTaskModel(
        x, {t.name: mtl.tasks.TaskOutput(t)(z) for t, z in zip(tasks, (a, b, c), strict=True)}
    )
    reach = Reach(model, list("abc"))
    with tf.GradientTape(persistent=True) as tape:
        out = model(np.ones((2, 4), "float32"), training=True)
        sums = {name: tf.reduce_sum(out[name]) for name in "abc"}
    for variable in model.trainable_variables:
        expected = [n for n in "abc" if tape.gradient(sums[n], variable.value) is not None]
        assert reach.tasks_of(variable) == expected, variable.path
    assert [v.path for v in reach.shared] == ["trunk/kernel", "trunk/bias"]


def test_the_report_says_what_is_shared(capsys):
    model = image_model()
    model.compile("adam", balancer="cagrad")
    report = model.balancing_report()
    shown = capsys.readouterr().out
    assert "cagrad" in shown and "small_cnn" in "".join(report.shared)
    roles = {row[0]: row[3] for row in report.rows}
    assert roles[report.shared[0]] == "shared" and any(role == "head" for role in roles.values())
    for path in report.shared:
        assert path.split("/")[-2] in shown
    tasks = {row[0]: row[2] for row in report.rows}
    assert set(tasks[report.shared[0]]) == {"kind", "box", "mask"}


def test_shared_variables_can_be_narrowed():
    """The Gram matrix is then that of the chosen variables; the weights hold for all shared
    ones."""
    x, y = table_data(16)
    make = lambda: table_model(widths=(8, 6))  # noqa: E731
    model, twin = _twins(make)
    with tf.GradientTape(persistent=True) as tape:
        out = twin(x, training=True)
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        ]
    rows = [tape.gradient(loss, twin.trainable_variables) for loss in losses]
    chosen = [i for i, v in enumerate(twin.trainable_variables) if "stage2_dense/kernel" in v.path]
    flat = np.stack([row[chosen[0]].numpy().ravel() for row in rows]).astype("float64")
    weights = np.asarray(balancing.get("mgda").weights(flat @ flat.T))
    _fit(model, "mgda", data=(x, y), shared=["stage2_dense/kernel"])
    for variable, *pair in zip(twin.trainable_variables, *rows, strict=True):
        variable.assign_sub(
            0.1 * sum(w * g for w, g in zip(weights, pair, strict=True) if g is not None)
        )
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)
    assert model.balancing_report().shared == ["mlp_stage2_dense/kernel"]
    with pytest.raises(ValueError, match="Unknown shared variables: 'nothing'"):
        model.compile("sgd", balancer="mgda", shared="nothing")
    with pytest.raises(ValueError, match="'equal' looks at losses only"):
        model.compile("sgd", shared="stage2")


# ------------------------------------------------------------------ other data
@pytest.mark.large
@pytest.mark.parametrize("name", large_but(("MoDo",), ["SDMGrad", "MoDo"]))
def test_double_sampling_takes_its_products_from_other_batches(name):
    """With data of its own: J1 J2^T from there, the step on the training batch."""
    x, y = table_data(16)
    x1, y1 = table_data(32, seed=3)
    model, twin = _twins()
    data = tf.data.Dataset.from_tensor_slices((x1, y1)).batch(16)
    _fit(model, getattr(balancing, name)(data=data), data=(x, y))

    def rows(x, y):
        with tf.GradientTape(persistent=True) as tape:
            out = twin(x, training=True)
            losses = [
                tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
                tf.reduce_mean(
                    keras.losses.binary_crossentropy(
                        y["sold"][:, None].astype("float32"), out["sold"]
                    )
                ),
            ]
        return [tape.gradient(loss, twin.trainable_variables) for loss in losses]

    def flat(found):
        return np.stack(
            [np.concatenate([row[i].numpy().ravel() for i in (0, 1)]) for row in found]
        ).astype("float64")

    halves = [
        rows(x1[part], {k: v[part] for k, v in y1.items()})
        for part in (slice(0, 16), slice(16, 32))
    ]
    weights = np.asarray(getattr(balancing, name)().weights(flat(halves[0]) @ flat(halves[1]).T))
    own = rows(x, y)
    for i, (variable, *pair) in enumerate(zip(twin.trainable_variables, *own, strict=True)):
        factors = weights if i in (0, 1) else np.ones(2)
        variable.assign_sub(
            0.1 * sum(f * g for f, g in zip(factors, pair, strict=True) if g is not None)
        )
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)


@pytest.mark.large
def test_batches_too_small_to_cut_are_refused():
    x, y = table_data(2)
    model = table_model()
    model.compile("sgd", balancer="sdmgrad")
    with pytest.raises(Exception, match="cuts each batch into 3 parts"):
        model.fit(x, y, verbose=0)


@pytest.mark.large
def test_auto_lambda_follows_the_finite_difference_of_a_linear_model():
    """One step, against the formula in NumPy: virtual step, held-out gradient, and losses at both
    sides."""
    rng = np.random.default_rng(0)
    x, held = (
        rng.standard_normal((8, 3)).astype("float32"),
        rng.standard_normal((8, 3)).astype("float32"),
    )
    y = {n: rng.standard_normal(8).astype("float32") for n in "ab"}
    y_held = {n: rng.standard_normal(8).astype("float32") for n in "ab"}
    inputs = keras.Input((3,))
    shared = keras.layers.Dense(1, use_bias=False, name="line")(inputs)
    tasks = [mtl.tasks.Regression(n) for n in "ab"]
    model = mtl.MultiTaskModel(
        inputs,
        {
            t.name: mtl.tasks.TaskOutput(t)(keras.layers.Identity(name=f"{t.name}_id")(shared))
            for t in tasks
        },
    )
    data = tf.data.Dataset.from_tensor_slices((held, y_held)).batch(8)
    balancer = balancing.AutoLambda(data, primary=["a"], initial=0.5, learning_rate=0.1)
    model.compile(keras.optimizers.SGD(0.2), balancer=balancer)
    w = model.get_layer("line").kernel.numpy()[:, 0].astype("float64")

    def gradient(w, x, y):
        return 2 * x.T @ (x @ w - y) / len(x)

    ahead = w - 0.2 * 0.5 * (gradient(w, x, y["a"]) + gradient(w, x, y["b"]))
    d = gradient(ahead, held, y_held["a"])
    eps = 0.01 / np.linalg.norm(d)
    slopes = [
        -0.2
        * (np.mean((x @ (w + eps * d) - y[n]) ** 2) - np.mean((x @ (w - eps * d) - y[n]) ** 2))
        / (2 * eps)
        for n in "ab"
    ]
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    # Adam's first step has the size of the learning rate, against the sign of the slope.
    np.testing.assert_allclose(
        balancer.task_weights.numpy(), 0.5 - 0.1 * np.sign(slopes), rtol=1e-4
    )
    np.testing.assert_allclose(balancer._adam._first.numpy(), 0.1 * np.array(slopes), rtol=2e-3)


# ------------------------------------------------------------------ what is refused
def test_what_a_method_lacks_is_said_at_compile():
    model = table_model()
    with pytest.raises(ValueError, match="held out from training, and has none"):
        model.compile("sgd", balancer="auto_lambda")
    with pytest.raises(ValueError, match="must be a batched tf.data.Dataset"):
        model.compile("sgd", balancer=balancing.SDMGrad(data=np.zeros((3, 5))))
    with pytest.raises(ValueError, match="loss of task 'cost' .CosineSimilarity. can be negative"):
        model.compile("sgd", loss={"cost": keras.losses.CosineSimilarity()}, balancer="gls")
    with pytest.raises(ValueError, match="Unknown shared layer.*Did you mean 'mlp_stage1_dense'"):
        model.compile("sgd", balancer=balancing.GradNorm(layer="mlp_stage1_dens"))
    x = keras.Input((2,))
    h = keras.layers.Dense(3)(x)
    tasks = [mtl.tasks.Regression(n) for n in "ab"]
    bare = mtl.MultiTaskModel(
        x, {t.name: mtl.tasks.TaskOutput(t)(keras.layers.Dense(1)(h)) for t in tasks}
    )
    for balancer in ("graddrop", balancing.MGDA(gradients="representation")):
        with pytest.raises(
            ValueError, match="needs a representation that the tasks \\('a', 'b'\\) share"
        ):
            bare.compile("sgd", balancer=balancer)


@pytest.mark.parametrize("eagerly", large_but((False,), [False, True]))
def test_losses_that_are_not_finite_name_the_task_and_the_step_and_are_not_learned_from(eagerly):
    x, y = table_data(48)
    x = x.copy()
    x[36, 0] = np.inf  # third batch
    model = table_model()
    model.compile("sgd", run_eagerly=eagerly)
    with pytest.raises(ValueError, match="training step 3 the loss of task 'cost' is not finite"):
        model.fit(x, y, **TABLE)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert int(model.optimizer.iterations.numpy()) == 2


def test_negative_losses_are_refused_by_methods_that_take_logarithms():
    x, y = table_data()

    def loss(target, output):
        return output[:, 0] * 0 - 1.0

    model = table_model()
    model.compile("sgd", loss={"cost": loss}, balancer="log_loss")
    with pytest.raises(
        ValueError, match="step 1 the loss of task 'cost' is negative.*'log_loss' needs positive"
    ):
        model.fit(x, y, **TABLE)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: balancing.get("uncertainty"), id="uncertainty"),
        pytest.param(lambda: balancing.get("gradvac"), id="gradvac", marks=pytest.mark.large),
        pytest.param(lambda: balancing.get("moco"), id="moco", marks=pytest.mark.large),
        pytest.param(lambda: balancing.get("famo"), id="famo", marks=pytest.mark.large),
        pytest.param(
            lambda: balancing.CAGrad(update_every=2), id="update_every", marks=pytest.mark.large
        ),
    ],
)
def test_a_step_that_mixed_precision_skips_moves_no_state(make):
    keras.config.set_dtype_policy("mixed_float16")
    x, y = table_data()
    model = table_model()
    model.compile(keras.optimizers.SGD(0.01), balancer=make())
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(1e30)  # overflows float16
    before = [v.numpy() for k, v in model.balancer._state.items() if k != "steps"]
    weights = model.get_weights()
    model.fit(x, y, batch_size=32, verbose=0)
    after = [v.numpy() for k, v in model.balancer._state.items() if k != "steps"]
    same(before, after, rtol=0, atol=0)
    same(weights, model.get_weights(), rtol=0, atol=0)


# ------------------------------------------------------------------ second looks
@pytest.mark.large
def test_famo_looks_again_without_leaving_a_trace():
    """Dropout and batch statistics of the second pass are those of the first; running means move
    once."""

    def make():
        def backbone(inputs):
            x = keras.layers.Dense(8, name="d")(inputs)
            x = keras.layers.BatchNormalization(name="norm")(x)
            return keras.layers.Dropout(0.5, seed=3, name="drop")(x)

        tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
        return mtl.builders.hard_sharing((5,), tasks, backbone=backbone)

    x, y = table_data(16)
    one, two = _twins(make)
    _fit(one, "famo", data=(x, y))
    _fit(two, "equal", data=(x, y))
    same(
        [v.numpy() for v in one.non_trainable_variables],
        [v.numpy() for v in two.non_trainable_variables],
        rtol=0,
        atol=0,
    )
    # With a learning rate of 0 nothing falls, and the logits stay where they are.
    model = make()
    _fit(model, balancing.FAMO(decay=0.0), optimizer=keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(model.balancer.logits.numpy(), 0, atol=1e-6)


# ------------------------------------------------------------------ seen
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: "cagrad", id="cagrad", marks=pytest.mark.large),
        pytest.param(lambda: "uncertainty", id="uncertainty"),
        pytest.param(lambda: "moco", id="moco", marks=pytest.mark.large),
        pytest.param(
            lambda: balancing.MGDA(update_every=2), id="update_every", marks=pytest.mark.large
        ),
        pytest.param(
            lambda: balancing.MGDA(gradients="representation"),
            id="representation",
            marks=pytest.mark.large,
        ),
    ],
)
def test_the_monitor_shows_weights_norms_and_cosines(make, tmp_path):
    x, y = table_data()
    picture = tmp_path / "balance.png"
    model = table_model()
    model.compile(keras.optimizers.SGD(0.05), balancer=make())
    monitor = mtl.callbacks.BalanceMonitor(picture)
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), callbacks=[monitor], **TABLE
    ).history
    for key in (
        "cost_weight",
        "sold_weight",
        "cost_gradient_norm",
        "sold_gradient_norm",
        "cosine_cost_sold",
    ):
        assert np.isfinite(history[key]).all(), key
        assert f"val_{key}" not in history
    assert (np.abs(history["cosine_cost_sold"]) <= 1).all()
    assert picture.read_bytes()[:4] == b"\x89PNG"
    again = model.fit(x, y, **TABLE).history
    assert "cost_weight" not in again  # the monitor is gone with its fit


@pytest.mark.large
def test_the_monitors_numbers_are_those_of_the_gradients():
    x, y = table_data(16)
    model, twin = _twins()
    model.compile(keras.optimizers.SGD(0.1), balancer="mgda")
    history = model.fit(x, y, callbacks=[mtl.callbacks.BalanceMonitor()], **TABLE).history
    with tf.GradientTape(persistent=True) as tape:
        out = twin(x, training=True)
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(
                keras.losses.binary_crossentropy(y["sold"][:, None].astype("float32"), out["sold"])
            ),
        ]
    shared = twin.trainable_variables[:2]
    rows = np.stack(
        [
            np.concatenate([g.numpy().ravel() for g in tape.gradient(loss, shared)])
            for loss in losses
        ]
    )
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(history["cost_gradient_norm"], norms[0], rtol=1e-4)
    np.testing.assert_allclose(
        history["cosine_cost_sold"], rows[0] @ rows[1] / norms.prod(), rtol=1e-4
    )
    weights = np.asarray(balancing.get("mgda").weights(rows @ rows.T))
    np.testing.assert_allclose(
        [history["cost_weight"][0], history["sold_weight"][0]], weights, rtol=1e-4, atol=1e-6
    )


@pytest.mark.large
@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": True}])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: balancing.CAGrad(update_every=2), id="update_every", marks=pytest.mark.large
        ),
        pytest.param(
            lambda: balancing.MGDA(gradients="representation"),
            id="representation",
            marks=pytest.mark.large,
        ),
        pytest.param(lambda: "graddrop", id="graddrop", marks=pytest.mark.large),
        pytest.param(lambda: "moco", id="moco", marks=pytest.mark.large),
        pytest.param(lambda: "famo", id="famo", marks=pytest.mark.large),
        pytest.param(lambda: "gradnorm", id="gradnorm"),
        pytest.param(lambda: ["uncertainty", "fairgrad"], id="list", marks=pytest.mark.large),
    ],
)
def test_all_of_it_also_runs_eagerly_and_under_xla(make, options):
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer=make(), **options)
    assert np.isfinite(model.fit(x, y, **TABLE).history["loss"]).all()


def test_the_table_of_methods_is_complete():
    entries = {entry.name: entry for entry in balancing.list_balancers()}
    assert sorted(entries) == balancing.names()
    assert entries["mgda"].kind == "Gram matrix" and "T backward" in entries["mgda"].cost
    assert entries["famo"].cost == "1 backward, 1 forward"
    assert "NeurIPS 2018" in entries["mgda"].citation
    assert {entry.kind for entry in entries.values()} == {
        "losses only",
        "Gram matrix",
        "gradients",
        "validation data",
    }


@pytest.mark.large
def test_tensorboard_shows_what_the_monitor_sees(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="mgda")
    callbacks = [
        mtl.callbacks.BalanceMonitor(),
        keras.callbacks.TensorBoard(tmp_path, write_graph=False),
    ]
    model.fit(x, y, callbacks=callbacks, **TABLE)
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {
        "epoch_cost_weight",
        "epoch_sold_gradient_norm",
        "epoch_cosine_cost_sold",
        "epoch_cost_loss",
    } <= tags
