"""Heads of absent tasks stand still, with what the optimizer remembers of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import same, table_data, table_model

import mtl_keras as mtl

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "clipnorm": lambda: keras.optimizers.Adam(0.01, clipnorm=0.1),
}


def _half_absent(rows=64):
    """Batches of 8, every second of which lacks one task."""
    x, y = table_data(rows)
    y["sold"][np.arange(rows) // 8 % 2 == 1] = -1
    return x, y


def _head(model, task):
    return [v.numpy() for v in model.trainable_variables if task in v.path]


def _memory(model, task):
    return [v.numpy() for v in model.optimizer.variables if task in v.path]


def _steps_without_gradients(model, optimizer, x, y):
    """Plain Keras, batch by batch: an absent task's loss is not there, so that its head has no
    gradient at all."""
    optimizer.build(model.trainable_variables)
    for start in range(0, len(x), 8):
        rows = slice(start, start + 8)
        with tf.GradientTape() as tape:
            output = model(x[rows], training=True)
            loss = tf.reduce_mean((output["cost"][:, 0] - y["cost"][rows]) ** 2)
            if (y["sold"][rows] >= 0).all():
                target = tf.cast(y["sold"][rows][:, None], tf.float32)
                loss += tf.reduce_mean(keras.losses.binary_crossentropy(target, output["sold"]))
        gradients = tape.gradient(loss, model.trainable_variables)
        pairs = [
            (g, v)
            for g, v in zip(gradients, model.trainable_variables, strict=True)
            if g is not None
        ]
        optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])


def _check_against_plain_keras(optimizer, **options):
    x, y = _half_absent()
    model = table_model()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    model.compile(optimizer(), **options)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    theirs = optimizer()
    _steps_without_gradients(twin, theirs, x, y)
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)
    same(
        [v.numpy() for v in model.optimizer.variables],
        [v.numpy() for v in theirs.variables],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["adamw"])
def test_alternating_training_is_that_of_heads_without_gradients(name):
    _check_against_plain_keras(OPTIMIZERS[name])


@pytest.mark.large
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_alternating_training_is_that_of_heads_without_gradients_with_every_optimizer(name):
    _check_against_plain_keras(OPTIMIZERS[name])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"run_eagerly": True}, marks=pytest.mark.large),
        pytest.param({"jit_compile": True}, marks=pytest.mark.large),
        pytest.param({"steps_per_execution": 3}, marks=pytest.mark.large),
    ],
)
def test_alternating_training_is_the_same_in_every_way_of_running(options):
    _check_against_plain_keras(OPTIMIZERS["adam"], **options)


def _fit_twice(model, balancer=None, optimizer=None, batch_size=8, **options):
    """Train with labels of both tasks, then without those of one; what its head and memory were
    between the two."""
    x, y = table_data()
    model.compile(
        optimizer or keras.optimizers.AdamW(0.01, weight_decay=0.1), balancer=balancer, **options
    )
    model.fit(x, y, batch_size=batch_size, verbose=0)
    before = _head(model, "sold"), _memory(model, "sold"), _head(model, "cost")
    model.fit(x, {"cost": y["cost"], "sold": np.full(32, -1)}, batch_size=batch_size, verbose=0)
    return before


def _assert_idle(model, before):
    head, memory, other = before
    assert head and len(memory) >= len(head)
    same(_head(model, "sold"), head, rtol=0, atol=0)
    same(_memory(model, "sold"), memory, rtol=0, atol=0)
    assert any((a != b).any() for a, b in zip(_head(model, "cost"), other, strict=True))


@pytest.mark.parametrize(
    "balancer",
    [
        "cagrad",
        pytest.param("uncertainty", marks=pytest.mark.large),
        pytest.param("gradnorm", marks=pytest.mark.large),
        pytest.param("moco", marks=pytest.mark.large),
        pytest.param("sdmgrad", marks=pytest.mark.large),
        pytest.param("graddrop", marks=pytest.mark.large),
    ],
)
def test_an_absent_head_stands_still_bit_for_bit(balancer):
    model = table_model()
    _assert_idle(model, _fit_twice(model, balancer))


@pytest.mark.large
def test_an_absent_head_stands_still_on_replicas():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = table_model()
        before = _fit_twice(model)
    _assert_idle(model, before)


@pytest.mark.large
def test_an_absent_head_stands_still_under_a_loss_scale():
    keras.config.set_dtype_policy("mixed_float16")
    model = table_model()
    _assert_idle(model, _fit_twice(model))


def test_what_two_of_three_tasks_share_moves_when_one_of_them_is_there():
    x = keras.Input((5,))
    trunk = keras.layers.Dense(6, activation="relu", name="trunk")(x)
    pair = keras.layers.Dense(4, activation="relu", name="pair")(trunk)
    tasks = [mtl.tasks.Regression(name, hidden=0) for name in "abc"]
    heads = [
        keras.layers.Dense(1, name=f"{name}_linear")(h)
        for name, h in zip("abc", (trunk, pair, pair), strict=True)
    ]
    outputs = {
        task.name: mtl.tasks.TaskOutput(task)(head) for task, head in zip(tasks, heads, strict=True)
    }
    model = mtl.MultiTaskModel(x, outputs)
    model.compile(keras.optimizers.Adam(0.01))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((16, 5)).astype("float32")
    y = {name: rng.standard_normal(16).astype("float32") for name in "abc"}
    nothing = np.full(16, np.nan, "float32")
    model.fit(features, y, batch_size=8, verbose=0)

    def moved(labels):
        before = {v.path: v.numpy() for v in model.trainable_variables}
        model.fit(features, labels, batch_size=8, verbose=0)
        return {
            v.path.split("/")[0]
            for v in model.trainable_variables
            if (before[v.path] != v.numpy()).any()
        }

    assert moved({**y, "b": nothing}) == {"trunk", "pair", "a_linear", "c_linear"}
    assert moved({"a": y["a"], "b": nothing, "c": nothing}) == {"trunk", "a_linear"}


@pytest.mark.large
def test_a_penalty_on_the_weights_is_a_gradient():
    """A regularized head follows its penalty where it has no label; nothing else of it moves."""
    model = table_model(
        [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", head=_regularized)]
    )
    (kernel, bias), _, _ = _fit_twice(model, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    new_kernel, new_bias = _head(model, "sold")
    assert (kernel != new_kernel).all()
    np.testing.assert_array_equal(bias, new_bias)


def _regularized(features):
    x = list(features.values())[-1] if isinstance(features, dict) else features
    return keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.1), name="sold_linear")(
        x
    )


@pytest.mark.large
def test_gradients_gathered_over_several_batches_still_arrive():
    """The task is absent in the last of two batches: the step takes what the first one gathered."""
    x, y = _half_absent(32)
    model = table_model()
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    model.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(twin.trainable_variables)
    for start in (0, 16):
        gathered = []
        for rows in (slice(start, start + 8), slice(start + 8, start + 16)):
            with tf.GradientTape() as tape:
                output = twin(x[rows], training=True)
                loss = tf.reduce_mean((output["cost"][:, 0] - y["cost"][rows]) ** 2)
                if (y["sold"][rows] >= 0).all():
                    target = tf.cast(y["sold"][rows][:, None], tf.float32)
                    loss += tf.reduce_mean(keras.losses.binary_crossentropy(target, output["sold"]))
            gradients = tape.gradient(loss, twin.trainable_variables)
            pairs = zip(gradients, twin.trainable_variables, strict=True)
            gathered.append([tf.zeros(v.shape) if g is None else g for g, v in pairs])
        optimizer.apply(
            [(a + b) / 2 for a, b in zip(*gathered, strict=True)], twin.trainable_variables
        )
    same(model.get_weights(), twin.get_weights(), rtol=1e-4, atol=1e-5)


@pytest.mark.large
def test_optimizers_by_layer_train_and_stand_still():
    """Keras's `MultiOptimizer` has no learning rate of its own."""
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    model = table_model()
    fast, slow = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer = keras.optimizers.MultiOptimizer(
        lambda variable: fast if "linear" in variable.path else slow
    )
    _assert_idle(model, _fit_twice(model, "uncertainty", optimizer))
