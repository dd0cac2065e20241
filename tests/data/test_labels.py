import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_model, table_data, table_model

import mtl_keras as mtl


def test_a_dict_of_arrays_is_completed_with_missing_labels():
    x, y = image_data(rows=6)
    model = image_model()
    full = mtl.data.complete({"kind": y["kind"]}, model)
    assert set(full) == {"kind", "box", "mask"}
    assert (
        np.isnan(full["box"]).all()
        and full["mask"].shape == (6, 16, 16, 1)
        and (full["mask"] == -1).all()
    )
    model.compile("sgd")
    history = model.fit(x, full, verbose=0).history
    assert np.isfinite(history["loss"]).all() and np.isnan(history["box_iou"]).all()


def test_a_data_set_is_completed_and_trains_as_the_labels_that_are_there():
    x, y = table_data()
    model = table_model()
    data = tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]})).batch(8)
    full = mtl.data.complete(data, model)
    model.compile("sgd")
    logs = model.evaluate(full, verbose=0)
    expected = model.evaluate(
        x, mtl.data.complete({"cost": y["cost"]}, model), batch_size=8, verbose=0
    )
    np.testing.assert_allclose(logs["cost_loss"], expected["cost_loss"], rtol=1e-6)
    assert np.isnan(logs["sold_loss"])


def test_sample_weights_stay_with_a_completed_data_set():
    x, y = table_data(rows=8)
    weight = np.arange(8, dtype="float32")
    data = tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]}, weight)).batch(8)
    _, labels, kept = next(iter(mtl.data.complete(data, table_model())))
    assert set(labels) == {"cost", "sold"} and kept.numpy().tolist() == weight.tolist()


@pytest.mark.large
def test_two_data_sets_with_one_task_each_train_one_model():
    x, y = table_data()
    model = table_model()
    first = tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]})).batch(8).repeat()
    second = tf.data.Dataset.from_tensor_slices((x, {"sold": y["sold"][:, None]})).batch(8).repeat()
    stream = mtl.data.mix([first, second], model, weights=[0.5, 0.5], seed=3)
    kinds = [bool(np.isnan(labels["cost"]).all()) for _, labels in stream.take(200)]
    assert 60 < sum(kinds) < 140
    model.compile("adam")
    before = model.evaluate(x, y, verbose=0)
    model.fit(stream, steps_per_epoch=60, epochs=5, verbose=0)
    after = model.evaluate(x, y, verbose=0)
    assert after["cost_loss"] < before["cost_loss"] and after["sold_loss"] < before["sold_loss"]


# ------------------------------------------------------------------ mixing
def _numbered(count, task, first=0, weight=None):
    """Batches of one row, numbered in their first column."""
    x = np.zeros((count, 5), "float32")
    x[:, 0] = np.arange(first, first + count)
    label = {"cost": np.zeros(count, "float32"), "sold": np.zeros(count, "int32")}[task]
    parts = (x, {task: label}) if weight is None else (x, {task: label}, weight)
    return tf.data.Dataset.from_tensor_slices(parts).batch(1)


def _epoch(stream):
    return [int(batch[0][0, 0]) for batch in stream]


def test_a_mixture_ends_with_the_shortest_in_its_share_and_says_its_length():
    stream = mtl.data.mix([_numbered(4, "cost"), _numbered(9, "sold", 100)], table_model())
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 8
    assert sorted(order) == [0, 1, 2, 3, 100, 101, 102, 103]
    # One of the first to three of the second: the second is used up first, with 3 of the first.
    stream = mtl.data.mix(
        [_numbered(4, "cost"), _numbered(9, "sold", 100)], table_model(), weights=[1, 3]
    )
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 12
    assert sorted(order) == [0, 1, 2, *range(100, 109)]


def test_a_mixture_can_end_with_the_longest_and_the_others_start_anew():
    stream = mtl.data.mix(
        [_numbered(2, "cost"), _numbered(5, "sold", 100)], table_model(), ends="longest"
    )
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 10
    assert sorted(order) == [0, 0, 0, 1, 1, *range(100, 105)]


def test_each_epoch_has_another_order_and_a_seed_has_the_same_orders():
    def epochs(seed):
        stream = mtl.data.mix(
            [_numbered(10, "cost"), _numbered(10, "sold", 100)], table_model(), seed=seed
        )
        return [_epoch(stream) for _ in range(3)]

    first = epochs(0)
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == sorted(first[0]) for order in first)
    assert first == epochs(0) != epochs(1)


def test_endless_data_sets_make_an_endless_stream_or_follow_the_finite_one():
    model = table_model()
    finite, endless = _numbered(3, "cost"), _numbered(2, "sold", 100).repeat()
    assert (
        int(mtl.data.mix([endless, endless], model).cardinality()) == tf.data.INFINITE_CARDINALITY
    )
    assert (
        int(mtl.data.mix([finite, endless], model, ends="longest").cardinality())
        == tf.data.INFINITE_CARDINALITY
    )
    assert sorted(_epoch(mtl.data.mix([finite, endless], model))) == [0, 1, 2, 100, 100, 101]
    stream = mtl.data.mix([endless, endless], model)
    assert _epoch(stream.take(40)) != _epoch(stream.take(40)) or _epoch(stream.take(40)) != _epoch(
        stream.take(40)
    )


def test_sample_weights_go_through_a_mixture_and_rows_without_weigh_one():
    weight = np.array([2.0, 3.0, 4.0], "float32")
    stream = mtl.data.mix(
        [_numbered(3, "cost", weight=weight), _numbered(3, "sold", 100)], table_model()
    )
    weights = {int(x[0, 0]): w.numpy().tolist() for x, _, w in stream}
    assert weights == {0: [2.0], 1: [3.0], 2: [4.0], 100: [1.0], 101: [1.0], 102: [1.0]}
    by_task = mtl.data.mix(
        [
            _numbered(3, "cost", weight={"cost": weight[:, None]}),
            _numbered(3, "sold", 100, weight=weight),
        ],
        table_model(),
    )
    weights = {
        int(x[0, 0]): {k: float(v.numpy().item()) for k, v in w.items()} for x, _, w in by_task
    }
    assert weights[1] == {"cost": 3.0, "sold": 1.0} and weights[102] == {"cost": 4.0, "sold": 4.0}


def test_a_weighted_mixture_evaluates_as_the_rows_with_their_weights():
    x, y = table_data(rows=16)
    weight = np.linspace(0.5, 2, 16).astype("float32")
    model = table_model()
    model.compile("sgd", run_eagerly=True)
    parts = [
        tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]}, weight)).batch(16),
        tf.data.Dataset.from_tensor_slices((x, {"sold": y["sold"]})).batch(16),
    ]
    logs = model.evaluate(mtl.data.mix(parts, model), verbose=0)
    plain = model.evaluate(
        x,
        mtl.data.complete({"cost": y["cost"]}, model),
        sample_weight=weight,
        batch_size=16,
        verbose=0,
    )
    np.testing.assert_allclose(logs["cost_loss"], plain["cost_loss"], rtol=1e-5)
    unweighted = model.evaluate(x, y, batch_size=16, verbose=0)
    assert abs(logs["cost_loss"] - unweighted["cost_loss"]) > 1e-3
    np.testing.assert_allclose(logs["sold_loss"], unweighted["sold_loss"], rtol=1e-5)


def test_probabilities_and_missing_numbers_survive_a_mixture():
    tasks = [
        mtl.tasks.Binary("sold", hidden=0),
        mtl.tasks.Classification("kind", num_classes=3, hidden=0),
    ]
    model = table_model(tasks)
    x = np.zeros((3, 5), "float32")
    share = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [-1, -1, -1]], "float32")
    yes = np.array([0.7, np.nan, 0.0], "float32")
    first = tf.data.Dataset.from_tensor_slices((x, {"sold": yes, "kind": share})).batch(3)
    second = tf.data.Dataset.from_tensor_slices((x + 1, {"kind": np.array([2, -1, 0])})).batch(3)
    labels = {int(x[0, 0]): y for x, y in mtl.data.mix([first, second], model)}
    np.testing.assert_array_equal(labels[0]["sold"][:, 0], yes)
    np.testing.assert_array_equal(labels[0]["kind"], share)
    np.testing.assert_array_equal(labels[1]["kind"].numpy()[[0, 2]], [[0, 0, 1], [1, 0, 0]])
    assert (
        not model.task("sold")
        .target(keras.ops.convert_to_tensor(labels[1]["sold"]))[1]
        .numpy()
        .any()
    )
    assert model.task("kind").target(labels[1]["kind"])[1].numpy().tolist() == [True, False, True]


def test_keras_does_not_warn_of_a_mixtures_end(recwarn):
    model = table_model()
    model.compile("sgd", run_eagerly=True)
    model.fit(
        mtl.data.mix([_numbered(2, "cost"), _numbered(2, "sold")], model), epochs=2, verbose=0
    )
    assert not [w for w in recwarn if "ran out of data" in str(w.message)]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (list, {}, "at least one data set"),
        (lambda: [_numbered(2, "cost")] * 2, {"weights": [1.0]}, "2 numbers >= 0"),
        (lambda: [_numbered(2, "cost")] * 2, {"weights": [0, 0]}, "not all of them 0"),
        (lambda: [_numbered(2, "cost")], {"ends": "never"}, "'shortest' or 'longest'"),
        (lambda: [_numbered(2, "cost").take(0)], {}, "should have batches"),
        (
            lambda: [_numbered(2, "cost").filter(lambda x, y: True)],
            {"ends": "longest"},
            "assert_cardinality",
        ),
        (
            lambda: [_numbered(2, "cost"), _numbered(2, "sold").map(lambda x, y: ({"a": x}, y))],
            {},
            "same inputs.*data set 1",
        ),
        (lambda: [_numbered(2, "cost").unbatch()], {}, "'cost' come row by row: batch"),
    ],
)
def test_what_can_not_be_mixed_is_refused(make, options, words):
    with pytest.raises(ValueError, match=words):
        mtl.data.mix(make(), table_model(), **options)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"costs": np.zeros(3)}, ValueError, "Did you mean 'cost'"),
        ({}, ValueError, "No task has labels"),
        ([np.zeros(3)], TypeError, "dict of arrays or a tf.data.Dataset"),
        (
            tf.data.Dataset.from_tensor_slices(np.zeros((4, 5))).batch(2),
            ValueError,
            "gives no labels",
        ),
    ],
)
def test_what_can_not_be_completed_is_refused(data, error, words):
    with pytest.raises(error, match=words):
        mtl.data.complete(data, table_model())
