"""The model is Keras: everything that Keras does with a functional model works, and names hold
throughout."""

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


def test_outputs_are_a_flat_dict_named_by_the_tasks():
    model = image_model()
    assert list(model.output) == ["kind", "box", "mask"] == model.task_names
    for name, tensor in model.output.items():
        assert tensor._keras_history.operation.name == name
    x, _ = image_data(rows=2)
    assert {k: v.shape for k, v in model.predict(x, verbose=0).items()} == {
        "kind": (2, 3),
        "box": (2, 4),
        "mask": (2, 16, 16, 1),
    }
    assert isinstance(model, keras.Model) and model.get_layer("box").task.name == "box"


def test_any_graph_that_ends_in_task_outputs_is_a_model():
    x = keras.Input((4,), name="x")
    cost = mtl.tasks.Regression("cost")
    model = mtl.MultiTaskModel(x, {"cost": mtl.tasks.TaskOutput(cost)(keras.layers.Dense(1)(x))})
    model.compile("sgd")
    model.fit(np.zeros((4, 4), "float32"), {"cost": np.zeros(4, "float32")}, verbose=0)
    assert model.tasks == [cost]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x, t: [mtl.tasks.TaskOutput(t)(x)], "dict of task name"),
        (lambda x, t: {"cost": keras.layers.Dense(1)(x)}, "must come from `mtl.tasks.TaskOutput`"),
        (lambda x, t: {"price": mtl.tasks.TaskOutput(t)(x)}, "Key and task must agree"),
        (lambda x, t: {"a": {"cost": mtl.tasks.TaskOutput(t)(x)}}, "must come from"),
    ],
)
def test_outputs_that_are_no_tasks_are_refused(make, words):
    x = keras.Input((1,))
    with pytest.raises(ValueError, match=words):
        mtl.MultiTaskModel(x, make(x, mtl.tasks.Regression("cost")))


# ------------------------------------------------------------------ saving
@pytest.mark.parametrize("balancer", large_but(("uncertainty",), mtl.balancing.names()))
def test_save_load_and_continue_equals_never_having_stopped(balancer, tmp_path):
    """Bit for bit, with the optimizer's and the balancer's state."""
    x, y = table_data()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model = table_model()
    model.compile("adam", balancer=balancer_named(balancer, x, y))
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "m.keras")
    model.fit(x, y, epochs=2, **options)
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert type(loaded) is mtl.MultiTaskModel and loaded.balancer.name == balancer
    loaded.balancer.data = model.balancer.data  # a file can't hold a data set
    loaded.fit(x, y, epochs=2, **options)
    same(model.get_weights(), loaded.get_weights(), rtol=0, atol=0)
    same(model.balancer.variables, loaded.balancer.variables, rtol=0, atol=0)
    same(
        [v.value for v in model.optimizer.variables],
        [v.value for v in loaded.optimizer.variables],
        rtol=0,
        atol=0,
    )


def test_what_is_saved_is_all_there(tmp_path):
    encoder = mtl.data.WordTokenizer(["one", "two"], length=4)
    task = mtl.tasks.Classification("topic", num_classes=2, labels=["x", "y"], loss_weight=0.5)
    options = {"vocabulary_size": len(encoder), "embedding_dim": 3, "units": 2}
    model = mtl.builders.hard_sharing(
        {"tokens": (4,)}, [task], backbone="bilstm", backbone_options=options, encoder=encoder
    )
    model.compile("sgd", loss_weights={"topic": 0.25}, metrics={"topic": ["accuracy"]})
    model.loss_weights["topic"].assign(0.125)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.task("topic").labels == ["x", "y"]
    assert loaded.representation == model.representation != []
    x = loaded.encoder.encode(["two one three"])
    assert x.tolist() == [[3, 2, 1, 0]]
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["topic"], model.predict(x, verbose=0)["topic"]
    )
    assert float(loaded.loss_weights["topic"].numpy()) == 0.125


def test_weights_files_carry_the_balancers_state(tmp_path):
    x, y = table_data()
    first = table_model()
    first.compile("adam", balancer="uncertainty")
    first.fit(x, y, verbose=0)
    first.save_weights(tmp_path / "a.weights.h5")
    second = table_model()
    second.load_weights(tmp_path / "a.weights.h5")  # not compiled: the state is left in the file
    second.compile("adam", balancer="uncertainty")
    assert second.balancer.log_variance.numpy().tolist() == [0, 0]
    second.load_weights(tmp_path / "a.weights.h5")
    same(first.balancer.variables, second.balancer.variables, rtol=0, atol=0)
    second.compile("adam", balancer="equal")
    second.load_weights(tmp_path / "a.weights.h5")  # another method: its own state, which is none


def test_a_call_that_says_nothing_is_inference():
    """In Keras 3.15 a `Resizing` layer notes `training=True` in the graph, and all behind it trains
    when nobody says."""
    import keras

    def trunk(x):
        x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(
            keras.layers.Resizing(8, 8, name="smaller")(x)
        )
        return keras.layers.BatchNormalization(name="norm")(x)

    tasks = [
        mtl.tasks.Classification("kind", num_classes=3),
        mtl.tasks.Segmentation("mask", channels=4),
    ]
    model = mtl.builders.hard_sharing((16, 16, 3), tasks, backbone=trunk)
    x = np.random.default_rng(0).random((4, 16, 16, 3)).astype("float32")
    before = model.get_weights()
    whole, said = model(x), model.predict(x, verbose=0)
    same([whole[name] for name in said], [said[name] for name in said], atol=1e-6)
    same(model.get_weights(), before, rtol=0, atol=0)
    model(x, training=True)
    assert np.abs(model.get_layer("norm").moving_mean.numpy()).max() > 0
    # Inside another network it trains as that one does, and heads alone have no fault of their own.
    outer = keras.Sequential([keras.Input((16, 16, 3)), model])
    before = model.get_layer("norm").moving_mean.numpy()
    outer(x, training=False)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, before)
    outer(x, training=True)
    assert (model.get_layer("norm").moving_mean.numpy() != before).any()
    mask = keras.Model(model.get_layer("norm").output, model.output["mask"])
    before = mask.get_weights()
    mask(np.random.default_rng(1).random((4, 8, 8, 4)).astype("float32"))
    same(mask.get_weights(), before, rtol=0, atol=0)


def test_clone_model_keeps_class_tasks_and_compilation():
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="uncertainty")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert type(clone) is mtl.MultiTaskModel and clone.task_names == model.task_names
    assert (
        clone.compiled
        and clone.balancer.name == "uncertainty"
        and clone.balancer is not model.balancer
    )
    np.testing.assert_array_equal(
        clone.predict(x, verbose=0)["cost"], model.predict(x, verbose=0)["cost"]
    )
    clone.fit(x, y, verbose=0)


# ------------------------------------------------------------------ Keras features
@pytest.mark.large
def test_backup_and_restore_goes_on_where_it_was_killed(tmp_path):
    x, y = table_data()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole = table_model()
    killed = keras.models.clone_model(whole)
    killed.set_weights(whole.get_weights())
    start = whole.get_weights()
    whole.compile("adam", balancer="uncertainty")
    whole.fit(x, y, epochs=4, **options)

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    killed.compile("adam", balancer="uncertainty")
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        killed.fit(x, y, epochs=4, callbacks=[backup, Kill()], **options)
    resumed = table_model()
    resumed.set_weights(start)
    resumed.compile("adam", balancer="uncertainty")
    resumed.fit(
        x, y, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")], **options
    )
    same(whole.get_weights(), resumed.get_weights(), rtol=0, atol=0)
    same(whole.balancer.variables, resumed.balancer.variables, rtol=0, atol=0)


def test_early_stopping_and_checkpoints_go_by_a_tasks_metric(tmp_path):
    x, y = table_data()
    model = table_model()
    model.compile(keras.optimizers.SGD(0.0))
    direction = model.metric_directions["sold_auc"]
    stop = keras.callbacks.EarlyStopping(
        "val_sold_auc", mode=direction, patience=1, restore_best_weights=True
    )
    keep = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "val_cost_mae", mode="min", save_best_only=True
    )
    history = model.fit(x, y, validation_data=(x, y), epochs=6, callbacks=[stop, keep], verbose=0)
    assert len(history.history["loss"]) == 2 and direction == "max"
    assert keras.saving.load_model(tmp_path / "best.keras").task_names == ["cost", "sold"]


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        pytest.param({"steps_per_execution": 3}, marks=pytest.mark.large),
        pytest.param({"jit_compile": True}, marks=pytest.mark.large),
    ],
)
def test_ways_to_run_a_step_give_the_same_weights(options):
    x, y = table_data(rows=40)
    plain = table_model()
    other = keras.models.clone_model(plain)
    other.set_weights(plain.get_weights())
    for model, extra in ((plain, {}), (other, options)):
        model.compile(keras.optimizers.Adam(0.01), balancer="uncertainty", **extra)
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    same(plain.get_weights(), other.get_weights(), rtol=1e-4, atol=1e-5)
    same(plain.balancer.variables, other.balancer.variables, rtol=1e-4, atol=1e-5)


def test_mixed_precision_trains_with_float32_heads():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = image_data()
    model = image_model()
    assert model.get_layer("small_cnn_stage1_block1_conv").compute_dtype == "float16"
    assert all(tensor.dtype == "float32" for tensor in model.output.values())
    model.compile("adam", balancer="uncertainty")
    before = model.get_weights()
    history = model.fit(x, y, epochs=2, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        pytest.param(
            lambda: keras.optimizers.SGD(0.01, use_ema=True), marks=pytest.mark.large, id="ema"
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(0.01, gradient_accumulation_steps=2),
            marks=pytest.mark.large,
            id="accumulation",
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(0.01, clipnorm=0.5), marks=pytest.mark.large, id="clipnorm"
        ),
    ],
)
def test_features_of_keras_optimizers_work_as_in_plain_keras(optimizer):
    x, y = table_data()
    ours = table_model()
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    theirs = keras.Model(theirs.input, theirs.output)
    ours.compile(optimizer())
    theirs.compile(optimizer(), loss={"cost": "mse", "sold": "binary_crossentropy"})
    for model in (ours, theirs):
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    same(ours.get_weights(), theirs.get_weights())


def test_fit_takes_tf_data_and_reports_every_task():
    x, y = image_data()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    model = image_model()
    model.compile("adam", balancer="uncertainty")
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    expected = {"loss", "balanced_loss", "val_loss"}
    for name in (
        "kind_loss",
        "kind_accuracy",
        "box_loss",
        "box_iou",
        "mask_loss",
        "mask_iou",
        "mask_pixel_accuracy",
    ):
        expected |= {name, f"val_{name}"}
    assert set(history) == expected


def test_evaluate_returns_a_dict_or_the_list_of_keras():
    x, y = table_data()
    model = table_model()
    model.compile("sgd")
    logs = model.evaluate(x, y, verbose=0)
    assert logs["cost_r2"] <= 1
    assert isinstance(model.evaluate(x, y, verbose=0, return_dict=False), list)


def test_train_on_batch_works():
    x, y = table_data()
    model = table_model()
    model.compile("sgd")
    assert "cost_loss" in model.train_on_batch(x, y, return_dict=True)


def test_decode_speaks_each_tasks_language():
    model = image_model()
    x, _ = image_data(rows=2)
    decoded = model.decode(model.predict(x, verbose=0))
    assert set(decoded["kind"][0]) == {"label", "probability"}
    assert set(decoded["box"][1]) == {"left", "top", "right", "bottom"}
    assert decoded["mask"][0].shape == (16, 16) and decoded["mask"][0].dtype == bool
    with pytest.raises(ValueError, match="Unknown task in `outputs`"):
        model.decode({"nobody": np.zeros(3)})


# ------------------------------------------------------------------ bad arguments, before any training
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"loss": {"costs": "mse"}}, "Did you mean 'cost'"),
        ({"loss": ["mse", "mse"]}, "by task name, not by position"),
        ({"loss": {"cost": None, "sold": None}}, "nothing is left to train"),
        ({"loss_weights": {"costs": 1.0}}, "Did you mean 'cost'"),
        ({"loss_weights": {"cost": -1.0}}, "task 'cost' must be finite and >= 0"),
        ({"loss_weights": {"cost": float("nan")}}, "task 'cost'"),
        ({"loss_weights": [1.0, 2.0]}, "dict of task name"),
        ({"loss_weights": {"cost": keras.Variable([1.0, 2.0])}}, "must be a scalar"),
        ({"metrics": {"costs": "mae"}}, "Did you mean 'cost'"),
        ({"balancer": "equall"}, "Did you mean 'equal'"),
    ],
)
def test_bad_compile_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        table_model().compile("sgd", **arguments)


def test_a_task_without_loss_is_switched_off():
    x, y = table_data()
    model = table_model()
    head = model.get_layer("sold_linear").get_weights()
    model.compile("sgd", loss={"sold": None})
    history = model.fit(x, y, verbose=0).history
    assert "sold_loss" not in history
    same(head, model.get_layer("sold_linear").get_weights(), rtol=0, atol=0)


_BAD_LABELS = {
    "lacking": (lambda y: {"cost": y["cost"]}, "lack 'sold'.*mtl.data.complete"),
    "unknown": (lambda y: {**y, "sould": y["sold"]}, "Did you mean 'sold'"),
    "range": (lambda y: {**y, "sold": y["sold"] + 5}, "task 'sold' hold"),
    "shape": (lambda y: {**y, "cost": np.zeros((32, 4))}, "task 'cost' have shape"),
    "dtype": (lambda y: {**y, "cost": np.array(["a"] * 32)}, "dtype"),
    # What follows can't be put into a tf.data.Dataset in the first place.
    "list": (lambda y: [y["cost"], y["sold"]], "dict by task name"),
    "length": (lambda y: {**y, "sold": y["sold"][:3]}, "differ in length"),
}
_WAYS = [(bad, way) for bad in _BAD_LABELS for way in ("arrays", "validation", "evaluate")]
_WAYS += [(bad, "dataset") for bad in _BAD_LABELS if bad not in ("list", "length")]


@pytest.mark.parametrize(("bad", "way"), _WAYS)
def test_bad_labels_are_refused_before_the_first_step(bad, way):
    x, y = table_data()
    change, words = _BAD_LABELS[bad]
    labels = change(y)
    model = table_model()
    model.compile("sgd")
    before = model.get_weights()
    with pytest.raises(ValueError, match=words):
        if way == "arrays":
            model.fit(x, labels, verbose=0)
        elif way == "validation":
            model.fit(x, y, validation_data=(x, labels), verbose=0)
        elif way == "evaluate":
            model.evaluate(x, labels, verbose=0)
        else:
            model.fit(tf.data.Dataset.from_tensor_slices((x, labels)).batch(8), verbose=0)
    same(before, model.get_weights(), rtol=0, atol=0)


def test_bad_sample_weights_are_refused():
    x, y = table_data()
    model = table_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match="sample weights of cost must be finite"):
        model.fit(x, y, sample_weight={"cost": np.full(32, -1.0)}, verbose=0)


def test_using_an_uncompiled_model_says_so():
    with pytest.raises(ValueError, match="not compiled"):
        _ = table_model().loss_weights
