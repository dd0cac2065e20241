"""Weights of rows and of classes, by task name, against plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_model, same, table_data, table_model

import mtl_keras as mtl
from mtl_keras.trainer.weighting import class_weights_by_task, with_class_weights

OPTIONS = {"batch_size": 8, "shuffle": False, "verbose": 0}
LOSSES = {"cost": "mse", "sold": "binary_crossentropy"}


def _pair():
    ours = table_model()
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    theirs = keras.Model(theirs.input, theirs.output)
    ours.compile(keras.optimizers.SGD(0.1))
    theirs.compile(keras.optimizers.SGD(0.1), loss=LOSSES)
    return ours, theirs


class _Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return self.x[rows], {name: labels[rows] for name, labels in self.y.items()}


def test_sample_weights_of_some_tasks_are_ones_for_the_others():
    """In training, in validation, in evaluation; also as the validation part of the same arrays."""
    x, y = table_data()
    weight = np.linspace(0.1, 3, 32).astype("float32")
    ours, theirs = _pair()
    whole = {"cost": np.ones(32, "float32"), "sold": weight}
    history = ours.fit(
        x,
        y,
        sample_weight={"sold": weight},
        validation_data=(x, y, {"sold": list(weight)}),
        **OPTIONS,
    ).history
    expected = theirs.fit(
        x, y, sample_weight=whole, validation_data=(x, y, whole), **OPTIONS
    ).history
    same(ours.get_weights(), theirs.get_weights())
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-5)
    logs = ours.evaluate(x, y, sample_weight={"sold": weight, "cost": None}, verbose=0)
    np.testing.assert_allclose(logs["loss"], history["val_loss"][0], rtol=1e-5)
    logs = ours.test_on_batch(x, y, {"sold": weight}, return_dict=True)
    np.testing.assert_allclose(logs["loss"], history["val_loss"][0], rtol=1e-5)
    history = ours.fit(
        x, y, sample_weight={"sold": weight}, validation_split=0.25, **OPTIONS
    ).history
    expected = theirs.fit(x, y, sample_weight=whole, validation_split=0.25, **OPTIONS).history
    same(ours.get_weights(), theirs.get_weights())
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-5)


def test_class_weights_by_task_are_sample_weights_by_class_whatever_the_data():
    x, y = table_data()
    ours, theirs = _pair()
    start = ours.get_weights()
    of_class = np.where(y["sold"] == 1, 5.0, 0.5).astype("float32")
    theirs.fit(x, y, sample_weight={"cost": np.ones(32, "float32"), "sold": of_class}, **OPTIONS)
    weights = {"sold": {0: 0.5, 1: 5.0}}
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    options = {"shuffle": False, "verbose": 0, "class_weight": weights}
    for data in ((x, y), (dataset,), (_Batches(x, y),), (iter(list(dataset.as_numpy_iterator())),)):
        if not isinstance(data[0], (np.ndarray, tf.data.Dataset, _Batches)):
            data = ((batch for batch in data[0]),)
        ours.set_weights(start)
        ours.fit(*data, batch_size=8 if len(data) == 2 else None, **options)
        same(ours.get_weights(), theirs.get_weights())
    # Both at once are multiplied, where Keras refuses them.
    ours.set_weights(start)
    theirs.set_weights(start)
    of_row = np.linspace(0.1, 3, 32).astype("float32")
    ours.fit(x, y, class_weight=weights, sample_weight={"cost": of_row, "sold": of_row}, **OPTIONS)
    theirs.fit(x, y, sample_weight={"cost": of_row, "sold": of_row * of_class}, **OPTIONS)
    same(ours.get_weights(), theirs.get_weights())


@pytest.mark.large
def test_class_weights_are_gone_in_the_next_call_and_have_no_part_in_validation():
    x, y = table_data()
    ours, theirs = _pair()
    history = ours.fit(
        x, y, class_weight={"sold": {1: 100.0}}, validation_split=0.25, **OPTIONS
    ).history
    tail = (x[24:], {name: labels[24:] for name, labels in y.items()})
    np.testing.assert_allclose(
        history["val_sold_loss"][0], ours.evaluate(*tail, verbose=0)["sold_loss"], rtol=1e-5
    )
    theirs.set_weights(ours.get_weights())
    ours.fit(x, y, **OPTIONS)
    theirs.fit(x, y, **OPTIONS)
    same(ours.get_weights(), theirs.get_weights())
    ours.train_on_batch(x, y, class_weight={"sold": {1: 3.0}})
    of_class = {
        "cost": np.ones(32, "float32"),
        "sold": np.where(y["sold"] == 1, 3.0, 1.0).astype("float32"),
    }
    theirs.train_on_batch(x, y, sample_weight=of_class)
    same(ours.get_weights(), theirs.get_weights())


def test_one_task_takes_class_weights_as_plain_keras_does():
    x, _ = table_data()
    y = np.random.default_rng(0).integers(0, 3, 32)
    ours = table_model([mtl.tasks.Classification("kind", num_classes=3, hidden=0)])
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    theirs = keras.Model(theirs.input, theirs.output["kind"])
    ours.compile(keras.optimizers.SGD(0.1))
    theirs.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    for model in (ours, theirs):
        model.fit(x, y, class_weight={0: 1.0, 2: 4.0}, **OPTIONS)
    same(ours.get_weights(), theirs.get_weights())


def test_classes_of_pixels_and_missing_labels():
    model = image_model(
        [
            mtl.tasks.Segmentation("mask", num_classes=3, channels=4),
            mtl.tasks.Classification("kind", 3),
        ]
    )
    model.compile("sgd")
    rng = np.random.default_rng(0)
    mask = rng.integers(-1, 3, (2, 16, 16)).astype("int32")
    kind = np.array(
        [[0.1, 0.1, 0.8], [1.0, 0.0, 0.0]], "float32"
    )  # probabilities, as soft labels are
    training = model.compiled_tasks
    training.class_weights = class_weights_by_task(
        {"mask": {0: 2.0, 2: 7.0}, "kind": {2: 3.0}}, model
    )
    x = np.zeros((2, 16, 16, 1), "float32")
    _, _, weights = with_class_weights(
        training, (x, {"mask": mask, "kind": kind}, {"mask": np.array([1.0, 10.0])})
    )
    known = mask >= 0
    expected = np.array([2.0, 1.0, 7.0])[mask] * np.array([1.0, 10.0])[:, None, None]
    np.testing.assert_allclose(weights["mask"].numpy()[known], expected[known])
    np.testing.assert_allclose(weights["kind"].numpy(), [3.0, 1.0])
    # A column of labels is as wide as a row of pixels: no class is read from where none is.
    flat = mask[..., None]
    _, _, weights = with_class_weights(training, (x, {"mask": flat, "kind": kind}, None))
    np.testing.assert_allclose(
        weights["mask"].numpy()[known], np.array([2.0, 1.0, 7.0])[mask][known]
    )


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"class_weight": {"solt": {0: 1.0}}}, "Did you mean 'sold'"),
        ({"class_weight": {0: 1.0, 1: 5.0}}, "should say of which task"),
        (
            {"class_weight": {"cost": {0: 1.0}}},
            "labels of task 'cost' .Regression. are none.*sample_weight",
        ),
        (
            {"class_weight": {"sold": {2: 1.0}}},
            "task 'sold' should name classes from 0 to 1. Received: 2",
        ),
        ({"class_weight": {"sold": {1: -1.0}}}, "task 'sold' should be finite and >= 0"),
        ({"class_weight": {"sold": [1.0, 2.0]}}, "task 'sold' should be a dict of class to weight"),
        ({"class_weight": [1.0, 2.0]}, "dict by task name"),
        (
            {"sample_weight": {"sold": np.ones(7)}},
            "weights of sold have shape .7,.; one weight for each of the 32 rows",
        ),
        ({"sample_weight": {"solt": np.ones(32)}}, "Did you mean 'sold'"),
    ],
)
def test_weights_that_make_no_sense_are_refused(argument, words):
    x, y = table_data()
    model = table_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match=words):
        model.fit(x, y, verbose=0, **argument)


@pytest.mark.large
def test_arguments_by_position_are_those_of_keras():
    x, y = table_data()
    ours, theirs = _pair()
    for model in (ours, theirs):
        model.fit(x, y, 8, 1, 0, None, 0.25, None, False)
    same(ours.get_weights(), theirs.get_weights())
    assert isinstance(ours.evaluate(x, y, 8, 0), dict)
    with pytest.raises(TypeError, match="`epochs` came twice"):
        ours.fit(x, y, 8, 1, epochs=2)
