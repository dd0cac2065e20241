"""Ordinary Keras models as multi-task models, and outputs that are probabilities already."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl

X = np.random.default_rng(0).standard_normal((12, 5)).astype("float32")
Y = {"kind": np.arange(12) % 3, "sold": np.arange(12) % 2, "cost": X[:, 0]}


def kind_and_sold():
    return [
        mtl.tasks.Classification("kind", num_classes=3),
        mtl.tasks.Binary("sold"),
        mtl.tasks.Regression("cost"),
    ]


def plain_model(softmax="softmax", sigmoid="sigmoid"):
    keras.utils.set_random_seed(1)
    x = keras.Input((5,), name="row")
    h = keras.layers.Dense(8, activation="relu", name="hidden")(x)
    kind = keras.layers.Dense(3, activation=softmax, name="kind")(h)
    sold = keras.layers.Dense(1, activation=sigmoid, name="sold")(h)
    return keras.Model(
        x, {"kind": kind, "sold": sold, "cost": keras.layers.Dense(1, name="cost")(h)}
    )


def test_the_answers_of_the_keras_model_are_the_answers_of_the_tasks(tmp_path):
    plain = plain_model()
    model = mtl.MultiTaskModel.from_keras(plain, kind_and_sold())
    expected = {name: np.asarray(value) for name, value in plain(X).items()}
    found = model(X)
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), value)
    # It learns as Keras does, from the same losses.
    losses = {"kind": "sparse_categorical_crossentropy", "sold": "bce", "cost": "mse"}
    plain.compile(keras.optimizers.SGD(0.1), losses, run_eagerly=True)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    for each in (plain, model):
        each.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, mtl.MultiTaskModel) and loaded.task_names == ["kind", "sold", "cost"]
    answers = {name: np.asarray(value) for name, value in loaded(X).items()}
    for name, value in model(X).items():
        np.testing.assert_array_equal(answers[name], np.asarray(value))


@pytest.mark.large
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_probabilities_go_to_the_device_as_they_are(quantization, tmp_path):
    model = mtl.MultiTaskModel.from_keras(plain_model(), kind_and_sold())
    answers = {name: np.asarray(value) for name, value in model(X).items()}
    # Each file is compared with the network before the call returns.
    mtl.export.saved_model(model, tmp_path / "saved", samples=X)
    mtl.export.tflite(
        model, tmp_path / "model.tflite", quantization, calibration=np.tile(X, (22, 1)), samples=X
    )
    file = mtl.export.TFLiteModel(tmp_path / "model.tflite").run({"row": X})
    np.testing.assert_allclose(
        file["kind"], answers["kind"], atol=1e-5 if quantization is None else 0.03
    )
    np.testing.assert_allclose(
        file["sold"], answers["sold"], atol=1e-5 if quantization is None else 0.03
    )


def test_the_keras_model_stays_as_it_is():
    plain = plain_model()
    before, names = plain.get_weights(), [layer.name for layer in plain.layers]
    model = mtl.MultiTaskModel.from_keras(plain, kind_and_sold())
    model.compile("sgd", run_eagerly=True)
    model.train_on_batch(X, Y)
    assert [layer.name for layer in plain.layers] == names
    for a, b in zip(before, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logits_get_the_activation_of_their_task():
    plain = plain_model(softmax=None, sigmoid=None)
    model = mtl.MultiTaskModel.from_keras(plain, kind_and_sold())
    logits = {name: np.asarray(value, "float64") for name, value in plain(X).items()}
    power = np.exp(logits["kind"])
    np.testing.assert_allclose(
        np.asarray(model(X)["kind"]), power / power.sum(-1, keepdims=True), rtol=1e-5
    )
    np.testing.assert_allclose(
        np.asarray(model(X)["sold"]), 1 / (1 + np.exp(-logits["sold"])), rtol=1e-5
    )


def test_outputs_go_by_name_also_where_they_are_a_list_or_alone():
    named = plain_model()
    listed = keras.Model(named.input, [named.output["sold"], named.output["kind"]])
    model = mtl.MultiTaskModel.from_keras(listed, {"kind": mtl.tasks.Classification("species", 3)})
    assert model.task_names == ["species"]
    np.testing.assert_array_equal(np.asarray(model(X)["species"]), np.asarray(named(X)["kind"]))
    alone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])
    model = mtl.MultiTaskModel.from_keras(alone, mtl.tasks.Classification("species", 3))
    np.testing.assert_array_equal(np.asarray(model(X)["species"]), np.asarray(alone(X)))


def average_of_members(x):
    members = [
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])
        for _ in range(2)
    ]
    return keras.layers.Average()([member(x) for member in members])


PROBABILITIES = {
    "dense": lambda x: keras.layers.Dense(3, activation="softmax")(x),
    "layer": lambda x: keras.layers.Softmax()(keras.layers.Dense(3)(x)),
    "activation": lambda x: keras.layers.Activation("softmax")(keras.layers.Dense(3)(x)),
    "operation": lambda x: keras.ops.softmax(keras.layers.Dense(3)(x)),
    "nested": lambda x: keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3, activation="softmax")]
    )(x),
    "members": average_of_members,
    "half": lambda x: (
        (keras.ops.softmax(keras.layers.Dense(3)(x)) + keras.ops.softmax(keras.layers.Dense(3)(x)))
        / 2
    ),
    "stacked": lambda x: keras.ops.mean(
        keras.ops.stack([keras.ops.softmax(keras.layers.Dense(3)(x))] * 2), axis=0
    ),
    "task": lambda x: mtl.tasks.TaskOutput(mtl.tasks.Classification("first", 3))(
        keras.layers.Dense(3)(x)
    ),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_a_second_softmax_is_refused_and_probabilities_pass_where_they_are_named(kind):
    x = keras.Input((5,))
    tensor = PROBABILITIES[kind](x)
    task = mtl.tasks.Classification("kind", num_classes=3)
    with pytest.raises(
        ValueError, match=r"Task 'kind' ends in a softmax.*activated=True.*from_keras"
    ):
        mtl.tasks.TaskOutput(task)(tensor)
    model = mtl.MultiTaskModel(x, {"kind": mtl.tasks.TaskOutput(task, activated=True)(tensor)})
    np.testing.assert_allclose(
        np.asarray(model(X)["kind"]), np.asarray(keras.Model(x, tensor)(X)), rtol=1e-6
    )
    np.testing.assert_allclose(np.asarray(model(X)["kind"]).sum(-1), 1, rtol=1e-5)


def test_a_head_that_ends_in_an_activation_is_refused_by_the_builder():
    def head(features):
        return keras.layers.Dense(1, activation="sigmoid")(list(features.values())[-1])

    for task in (
        mtl.tasks.Binary("sold", head=head),
        mtl.tasks.MultiLabel("sold", num_labels=1, head=head),
    ):
        with pytest.raises(ValueError, match="Task 'sold' ends in a sigmoid"):
            mtl.builders.hard_sharing((5,), [task], "mlp", backbone_options={"widths": (4,)})


def test_hidden_layers_may_end_in_what_they_like():
    x = keras.Input((5,))
    gate = keras.layers.Multiply()(
        [keras.layers.Dense(3)(x), keras.layers.Dense(3, activation="sigmoid")(x)]
    )
    task = mtl.tasks.Classification("kind", num_classes=3)
    assert mtl.tasks.TaskOutput(task)(gate).shape == (None, 3)
    cost = mtl.tasks.Regression("cost", mean=5.0)
    assert mtl.tasks.TaskOutput(cost)(keras.layers.Dense(1, activation="sigmoid")(x)).shape == (
        None,
        1,
    )


def test_a_file_from_before_the_check_is_loaded_as_it_is(tmp_path):
    x = keras.Input((5,))
    task = mtl.tasks.Classification("kind", num_classes=3)
    twice = mtl.tasks.TaskOutput(task, activated=False)(
        keras.layers.Dense(3, activation="softmax")(x)
    )
    model = mtl.MultiTaskModel(x, {"kind": twice})
    config = model.get_config()
    end = next(layer for layer in config["layers"] if layer["name"] == "kind")
    del end["config"]["activated"]
    again = mtl.MultiTaskModel.from_config(config)
    assert again.output["kind"].shape == (None, 3)


@pytest.mark.parametrize(
    ("make", "tasks", "message"),
    [
        (
            plain_model,
            [mtl.tasks.Classification("kin", 3)],
            "output of the Keras model.*Did you mean 'kind'",
        ),
        (
            plain_model,
            [mtl.tasks.Classification("kind", 4)],
            r"Output 'kind' has shape \(None, 3\)",
        ),
        (
            plain_model,
            [mtl.tasks.MultiLabel("kind", 3)],
            "comes out of a softmax.*MultiLabel means a sigmoid",
        ),
        (
            lambda: keras.Sequential([keras.layers.Dense(3)]),
            [mtl.tasks.Classification("kind", 3)],
            "functional model",
        ),
        (lambda: np.sin, [mtl.tasks.Classification("kind", 3)], "functional model"),
    ],
)
def test_what_cannot_be_a_multi_task_model_is_refused(make, tasks, message):
    with pytest.raises(ValueError, match=message):
        mtl.MultiTaskModel.from_keras(make(), tasks)


def test_vocabularies_and_statistics_come_along():
    lookup = keras.layers.StringLookup(output_mode="multi_hot")
    lookup.adapt(np.array(["a", "b", "c", "b"]))
    words = keras.Input((2,), dtype="string")
    plain = keras.Model(words, keras.layers.Dense(3, activation="softmax")(lookup(words)))
    model = mtl.MultiTaskModel.from_keras(plain, mtl.tasks.Classification("kind", 3))
    import tensorflow as tf

    x = tf.constant([["a", "c"], ["b", "b"]])
    np.testing.assert_allclose(np.asarray(model(x)["kind"]), np.asarray(plain(x)), rtol=1e-6)
