"""One training step: what missing labels, loss weights and replicas do to it, exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    balancer_named,
    image_data,
    image_model,
    large_but,
    same,
    table_data,
    table_model,
)

import mtl_keras as mtl


def _trained(model, x, y, **options):
    fit = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, **{**fit, **options})
    return model.get_weights()


def _twin(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def _plain(model):
    """The same network as a plain Keras model."""
    return keras.Model(model.input, model.output)


LOSSES = {"cost": "mse", "sold": "binary_crossentropy"}


# ------------------------------------------------------------------ like plain Keras where nothing is missing
def test_training_equals_plain_keras():
    x, y = table_data(rows=30)  # 30 rows in batches of 8: the last batch is smaller
    ours, theirs = table_model(), None
    theirs = _plain(_twin(ours))
    ours.compile(keras.optimizers.Adam(0.01))
    theirs.compile(keras.optimizers.Adam(0.01), loss=LOSSES)
    history = ours.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history
    expected = theirs.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history
    same(ours.get_weights(), theirs.get_weights())
    # The task losses are means over labels; Keras's are means over batches, in which the small one
    # counts too much.
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        np.add(history["cost_loss"], history["sold_loss"]), history["loss"], rtol=1e-5
    )


def test_plain_keras_arguments_and_loss_weights_equal_plain_keras():
    x, y = table_data()
    ours = table_model()
    theirs = _plain(_twin(ours))
    arguments = {
        "loss": LOSSES,
        "loss_weights": {"cost": 0.25, "sold": 2.0},
        "metrics": {"cost": ["mae"]},
    }
    ours.compile("sgd", **arguments)
    theirs.compile("sgd", **arguments)
    same(_trained(ours, x, y), _trained(theirs, x, y))
    mine, yours = ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0, return_dict=True)
    assert set(yours) <= set(mine)
    for key, value in yours.items():
        np.testing.assert_allclose(mine[key], value, rtol=1e-5)


def test_sample_weights_equal_plain_keras():
    x, y = table_data()
    weight = {
        "cost": np.linspace(0.5, 2, 32, dtype="float32"),
        "sold": np.linspace(2, 0.1, 32, dtype="float32"),
    }
    ours = table_model()
    theirs = _plain(_twin(ours))
    ours.compile("sgd")
    theirs.compile("sgd", loss=LOSSES)
    same(_trained(ours, x, y, sample_weight=weight), _trained(theirs, x, y, sample_weight=weight))


def test_added_losses_are_part_of_the_total():
    x, y = table_data()
    inputs = keras.Input((5,))
    trunk = keras.Model(
        inputs, keras.layers.Dense(4, kernel_regularizer="l2", name="trunk")(inputs)
    )
    ours = mtl.builders.hard_sharing((5,), table_model().tasks, backbone=trunk)
    theirs = _plain(_twin(ours))
    ours.compile("sgd")
    theirs.compile("sgd", loss=LOSSES)
    same(_trained(ours, x, y), _trained(theirs, x, y))
    np.testing.assert_allclose(
        ours.evaluate(x, y, verbose=0)["loss"],
        theirs.evaluate(x, y, verbose=0, return_dict=True)["loss"],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "reduction", large_but(("mean_with_sample_weight",), ["sum", "mean_with_sample_weight"])
)
def test_a_losss_own_reduction_is_kept(reduction):
    x, y = table_data()
    loss = {
        "cost": keras.losses.MeanSquaredError(reduction=reduction),
        "sold": "binary_crossentropy",
    }
    weight = {"cost": np.linspace(0.5, 2, 32, dtype="float32"), "sold": np.ones(32, "float32")}
    ours = table_model()
    theirs = _plain(_twin(ours))
    ours.compile(keras.optimizers.SGD(1e-3), loss=loss)
    theirs.compile(keras.optimizers.SGD(1e-3), loss=loss)
    same(_trained(ours, x, y, sample_weight=weight), _trained(theirs, x, y, sample_weight=weight))


# ------------------------------------------------------------------ loss weights are live
def test_loss_weights_change_without_compiling_again():
    x, y = table_data()
    live, fixed = table_model(), None
    fixed = _twin(live)
    live.compile(keras.optimizers.SGD(0.1))
    before = live.get_weights()
    live.fit(x, y, batch_size=32, epochs=1, verbose=0)
    live.set_weights(before)
    live.loss_weights["cost"].assign(0.0)
    fixed.compile(keras.optimizers.SGD(0.1), loss_weights={"cost": 0.0})
    live.fit(x, y, batch_size=32, epochs=1, verbose=0)
    fixed.fit(x, y, batch_size=32, epochs=1, verbose=0)
    same(live.get_weights(), fixed.get_weights())


def test_a_users_variable_is_the_loss_weight():
    x, y = table_data()
    weight = keras.Variable(1.0, trainable=False)
    model = table_model()
    model.compile("sgd", loss_weights={"cost": weight})
    first = model.evaluate(x, y, verbose=0)
    weight.assign(3.0)
    second = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(second["loss"], first["loss"] + 2 * first["cost_loss"], rtol=1e-5)
    np.testing.assert_allclose(second["cost_loss"], first["cost_loss"], rtol=1e-6)


# ------------------------------------------------------------------ missing labels
def test_the_loss_averages_over_labels_that_are_there():
    x, y = table_data()
    y["cost"][::2] = np.nan
    model = table_model()
    model.compile("sgd")
    logs = model.evaluate(x, y, batch_size=32, verbose=0)
    error = model.predict(x, verbose=0)["cost"][:, 0] - y["cost"]
    np.testing.assert_allclose(logs["cost_loss"], np.nanmean(error**2), rtol=1e-5)
    np.testing.assert_allclose(logs["cost_mae"], np.nanmean(np.abs(error)), rtol=1e-5)


def test_missing_by_nan_by_sentinel_and_by_weight_are_the_same():
    x, y = table_data()
    gone = np.arange(32) % 3 == 0
    marked = {
        "cost": np.where(gone, np.nan, y["cost"]).astype("float32"),
        "sold": np.where(gone, -1, y["sold"]),
    }
    weights = {name: (~gone).astype("float32") for name in y}
    first = table_model()
    second = _twin(first)
    for model in (first, second):
        model.compile("sgd")
    same(_trained(first, x, marked), _trained(second, x, y, sample_weight=weights), rtol=1e-6)
    ours, theirs = (
        first.evaluate(x, marked, verbose=0),
        second.evaluate(x, y, sample_weight=weights, verbose=0),
    )
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, err_msg=key)


def test_a_row_without_a_label_has_no_part_in_that_tasks_gradient():
    """Labels of half the rows missing: the task's update is that of the other half alone, bit for
    bit the same loss."""
    x, y = table_data(rows=16)
    y = {"cost": y["cost"], "sold": np.full(16, -1)}
    half = {"cost": y["cost"].copy(), "sold": y["sold"]}
    half["cost"][8:] = np.nan
    first = table_model()
    second = _twin(first)
    for model in (first, second):
        model.compile("sgd")
    a = _trained(first, x, half, batch_size=16, epochs=1)
    b = _trained(second, x[:8], {k: v[:8] for k, v in y.items()}, batch_size=8, epochs=1)
    same(a, b)


# Random weights of three tasks are other draws than those of two; a test of their own holds them to
# the tasks that are there.
@pytest.mark.parametrize(
    "balancer",
    large_but(
        ("uncertainty", "cagrad"),
        [name for name in mtl.balancing.names() if name not in ("rlw", "graddrop")],
    ),
)
def test_a_task_that_is_absent_from_a_batch_changes_nothing_for_the_others(balancer):
    """The update with an absent task is the update of a model that never had it; bit for bit
    without solvers."""
    x, y = table_data()
    y["age"] = (x[:, 0] - 2 * x[:, 1]).astype("float32")
    tasks = [
        mtl.tasks.Regression("cost", hidden=0),
        mtl.tasks.Binary("sold", hidden=0),
        mtl.tasks.Regression("age", hidden=0),
    ]
    three, two = table_model(tasks), table_model([tasks[0].copy(), tasks[2].copy()])
    by_name = {v.path: v for v in three.variables}
    for v in two.variables:
        v.assign(by_name[v.path])
    of_three, of_two = {**y, "sold": np.full(32, -1)}, {k: y[k] for k in ("cost", "age")}
    three.compile("sgd", balancer=balancer_named(balancer, x, of_three))
    two.compile("sgd", balancer=balancer_named(balancer, x, of_two))
    exact = three.balancer.strategy == "losses" and balancer not in (
        "famo",
        "pbi",
        "stch",
        "gls",
    )
    _trained(three, x, of_three)
    _trained(two, x, of_two)
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    for v in two.variables:
        np.testing.assert_allclose(v.numpy(), by_name[v.path].numpy(), **tolerance)


def test_a_task_of_which_no_label_was_seen_reports_nan():
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="uncertainty")
    logs = model.evaluate(x, {"cost": y["cost"], "sold": np.full(32, -1)}, verbose=0)
    assert np.isnan(logs["sold_loss"]) and np.isnan(logs["sold_auc"])
    assert np.isfinite(logs["loss"]) and np.isfinite(logs["cost_loss"])
    np.testing.assert_allclose(logs["loss"], logs["cost_loss"], rtol=1e-6)


def test_a_loss_that_is_infinite_on_rows_without_a_label_does_no_harm():
    x, y = table_data()

    def loss(target, output):
        return keras.ops.log(keras.ops.abs(target[:, 0])) * output[:, 0]

    y["cost"][:5] = np.nan  # filled with 0, of which the log is -inf
    model = table_model()
    model.compile("sgd", loss={"cost": loss})
    model.fit(x, y, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_missing_pixels_are_left_out():
    x, y = image_data()
    y["mask"][:, :8] = -1
    model = image_model()
    model.compile("sgd")
    logs = model.evaluate(x, y, batch_size=24, verbose=0)
    p = np.clip(model.predict(x, verbose=0)["mask"][:, 8:, :, 0], 1e-7, 1 - 1e-7)
    t = y["mask"][:, 8:]
    np.testing.assert_allclose(
        logs["mask_loss"], -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), rtol=1e-4
    )


def test_a_loss_that_returns_one_number_is_refused_by_the_tasks_name():
    x, y = table_data()
    model = table_model()
    model.compile("sgd", loss={"cost": lambda target, output: keras.ops.mean(output)})
    with pytest.raises(ValueError, match="loss of task 'cost' returns one number"):
        model.fit(x, y, verbose=0)


# ------------------------------------------------------------------ what is logged
class _BatchLogs(keras.callbacks.Callback):
    """What callbacks are told after every batch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append(dict(logs))

    on_test_batch_end = on_train_batch_end


def _uneven_labels():
    """Labels of which the replicas see unequal numbers, and one of them none at all."""
    x, y = table_data(22)
    y["cost"] = 3 * y["cost"]
    y["cost"][[0, 1, 2, 3, 9]] = np.nan
    y["sold"][4:8] = -1
    return x, y


def _check_replicas(balancer, monitor=False, **options):
    """Two replicas have the weights, the balancer's state and the logs of one device."""
    x, y = _uneven_labels()
    one = table_model()
    # The default all-reduce of TensorFlow 2.21 mixes up the collectives of several strategies in
    # one process.
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        two = table_model()
        two.compile(keras.optimizers.SGD(0.1), balancer=balancer_named(balancer, x, y), **options)
    two.set_weights(one.get_weights())
    one.compile(keras.optimizers.SGD(0.1), balancer=balancer_named(balancer, x, y), **options)
    logs = []
    for model in (one, two):
        batches = _BatchLogs()
        callbacks = [batches, mtl.callbacks.BalanceMonitor()] if monitor else [batches]
        fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
        history = model.fit(x, y, validation_data=(x, y), callbacks=callbacks, **fit).history
        epoch = {name: values[0] for name, values in history.items()}
        logs.append([epoch, model.evaluate(x, y, batch_size=8, verbose=0), *batches.rows])
    same(one.get_weights(), two.get_weights())
    same(one.balancer.variables, two.balancer.variables)
    for ours, theirs in zip(*logs, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_allclose(theirs[key], ours[key], rtol=1e-5, atol=1e-6, err_msg=key)
    epoch, evaluated = logs[1][:2]
    output = {name: values.ravel() for name, values in one.predict(x, verbose=0).items()}
    np.testing.assert_allclose(
        evaluated["cost_loss"], np.nanmean((output["cost"] - y["cost"]) ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(
        epoch["val_cost_mae"], np.nanmean(np.abs(output["cost"] - y["cost"])), rtol=1e-5
    )
    known = y["sold"] >= 0
    right = (output["sold"][known] > 0.5) == y["sold"][known]
    np.testing.assert_allclose(evaluated["sold_accuracy"], np.mean(right), rtol=1e-5)
    assert (
        not any(key.endswith("balanced_loss") for key in evaluated)
        and "val_balanced_loss" not in epoch
    )


@pytest.mark.parametrize(
    ("balancer", "options"),
    [
        ("equal", {"monitor": True}),
        pytest.param("uncertainty", {}, marks=pytest.mark.large),
        pytest.param("uncertainty", {"steps_per_execution": 2}, marks=pytest.mark.large),
        pytest.param("cagrad", {"monitor": True}, marks=pytest.mark.large),
    ],
)
def test_two_replicas_do_and_log_what_one_device_does(balancer, options):
    """Updates; losses, metrics and the monitor's means, of training and of evaluation, after every
    batch and every epoch. Replicas see unequal numbers of labels."""
    _check_replicas(balancer, **options)


@pytest.mark.large
@pytest.mark.parametrize("balancer", mtl.balancing.names())
def test_two_replicas_do_and_log_what_one_device_does_with_every_balancer(balancer):
    _check_replicas(balancer, monitor=True)


@pytest.mark.large
def test_an_evaluation_between_two_batches_leaves_the_training_logs_as_they_are():
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="uncertainty")

    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert "balanced_loss" in logs and "balanced_loss" not in self.model.evaluate(
                x, y, verbose=0
            )

    history = model.fit(x, y, epochs=2, callbacks=[Evaluate()], verbose=0).history
    assert len(history["balanced_loss"]) == 2 and "balanced_loss" in model.get_metrics_result()
    assert "balanced_loss" not in model.test_on_batch(x, y, return_dict=True)
    names = model.evaluate(x, y, verbose=0)
    assert len(model.evaluate(x, y, verbose=0, return_dict=False)) == len(names)


def _two_sources():
    """48 rows, of which the first half lacks one task and the second half the other."""
    x, y = table_data(48)
    y["cost"] = 3 * y["cost"]
    y["cost"][:24] = np.nan
    y["sold"][24:] = -1
    return x, y


@pytest.mark.parametrize("batch_size", [5, pytest.param(24, marks=pytest.mark.large)])
def test_the_total_is_the_weighted_sum_of_the_tasks_means_whatever_the_batches(batch_size):
    x, y = _two_sources()
    inputs = keras.Input((5,))
    trunk = keras.Model(
        inputs,
        keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1), name="trunk")(inputs),
    )
    model = mtl.builders.hard_sharing((5,), table_model().tasks, backbone=trunk)
    model.compile(keras.optimizers.SGD(0.0), loss_weights={"cost": 0.5, "sold": 2.0})
    history = model.fit(
        x,
        y,
        batch_size=batch_size,
        validation_data=(x, y),
        validation_batch_size=batch_size,
        verbose=0,
    ).history
    output = {
        name: values.ravel().astype("float64")
        for name, values in model.predict(x, verbose=0).items()
    }
    cost = np.nanmean((output["cost"] - y["cost"]) ** 2)
    p, t = output["sold"][:24], y["sold"][:24]
    sold = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    added = 0.1 * np.sum(model.get_layer("trunk").get_weights()[0].astype("float64") ** 2)
    for prefix in ("", "val_"):
        np.testing.assert_allclose(history[f"{prefix}cost_loss"][0], cost, rtol=1e-5)
        np.testing.assert_allclose(history[f"{prefix}sold_loss"][0], sold, rtol=1e-5)
        np.testing.assert_allclose(
            history[f"{prefix}loss"][0], 0.5 * cost + 2 * sold + added, rtol=1e-5
        )
    evaluated = model.evaluate(x, y, batch_size=batch_size, verbose=0)
    np.testing.assert_allclose(evaluated["loss"], 0.5 * cost + 2 * sold + added, rtol=1e-5)


def test_the_total_is_under_the_weights_that_each_batch_had():
    x, y = table_data(32)
    model = table_model()
    model.compile(keras.optimizers.SGD(0.0), loss={"sold": None})

    class Fade(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.loss_weights["cost"].assign([1.0, 0.25, 0.0, 3.0][batch])

    error = (model.predict(x, verbose=0)["cost"][:, 0] - y["cost"]).astype("float64") ** 2
    history = model.fit(x, y, batch_size=8, shuffle=False, callbacks=[Fade()], verbose=0).history
    np.testing.assert_allclose(history["cost_loss"][0], error.mean(), rtol=1e-5)
    expected = np.mean(np.repeat([1.0, 0.25, 0.0, 3.0], 8) * error)
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [5, 32])
def test_a_loss_that_divides_by_the_sum_of_weights_does_so_over_all_batches(batch_size):
    x, y = table_data()
    weight = np.linspace(0.1, 3, 32).astype("float32")
    model = table_model()
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.SGD(0.0), loss={"cost": loss, "sold": None})
    logs = model.evaluate(
        x, y, sample_weight={"cost": weight, "sold": weight}, batch_size=batch_size, verbose=0
    )
    error = (model.predict(x, verbose=0)["cost"][:, 0] - y["cost"]).astype("float64") ** 2
    np.testing.assert_allclose(logs["cost_loss"], np.average(error, weights=weight), rtol=1e-5)


def test_a_total_over_no_label_at_all_is_not_zero():
    """0 would be the best loss there is."""
    x, _ = table_data()
    model = table_model()
    model.compile("sgd")
    nothing = {"cost": np.full(32, np.nan, "float32"), "sold": np.full(32, -1)}
    assert np.isnan(model.evaluate(x, nothing, verbose=0)["loss"])


def test_frozen_networks_are_refused():
    x, y = table_data()
    model = table_model()
    model.trainable = False
    model.compile("sgd")
    with pytest.raises(ValueError, match="no trainable variables"):
        model.fit(x, y, verbose=0)
