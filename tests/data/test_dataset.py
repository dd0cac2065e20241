"""`TaskDataset`, its fields, and its batches."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.data import ArrayField, DataError, FunctionField, TaskDataset

ROWS = 20
PRICE, KIND = mtl.tasks.Regression("price"), mtl.tasks.Classification("kind", 3)


@pytest.fixture
def data():
    x = {"numeric": np.arange(ROWS * 2, dtype="float32").reshape(ROWS, 2)}
    return mtl.data.from_arrays(x, {"price": np.arange(ROWS) * 10.0}, [PRICE, KIND])


def test_a_task_without_labels_is_filled_with_its_missing_value(data):
    assert data.labels("kind").tolist() == [[-1]] * ROWS
    x, y = data.arrays()
    assert set(x) == {"numeric"} and set(y) == {"price", "kind"}


def test_rows_are_selected_by_slices_numbers_and_bools(data):
    for rows in (slice(3, 9, 2), np.array([7, 3, 3]), np.arange(ROWS) % 4 == 1, 5):
        part = data[rows]
        expected = np.atleast_1d(np.arange(ROWS)[rows])
        np.testing.assert_array_equal(part.labels("price"), expected * 10.0)
        np.testing.assert_array_equal(part.arrays()[0]["numeric"][:, 0], expected * 2)
        assert list(part.row_names) == [f"row {row}" for row in expected]
    np.testing.assert_array_equal(data[5:][2:].labels("price"), np.arange(7, ROWS) * 10.0)


def test_batches_hold_each_row_once_and_keep_inputs_beside_labels(data):
    batches = data.batch(6, shuffle=True, seed=3)
    assert int(batches.cardinality()) == 4
    orders = []
    for _ in range(2):
        seen = []
        for x, y in batches:
            np.testing.assert_array_equal(x["numeric"][:, 0] * 5, y["price"])
            seen += y["price"].numpy().tolist()
        assert sorted(seen) == (np.arange(ROWS) * 10.0).tolist()
        orders.append(seen)
    assert orders[0] != orders[1]
    # The seed and the number of the epoch are all that the order depends on.
    for epoch, order in enumerate(orders):
        again = data.batch(6, shuffle=True, seed=3, initial_epoch=epoch)
        assert np.concatenate([y["price"] for _, y in again]).tolist() == order
    assert int(data.batch(6, drop_remainder=True).cardinality()) == 3


def test_only_the_training_part_is_shuffled_by_default(data):
    train, test = data.split(0.5, 0.5)

    def order(part):
        return np.concatenate([y["price"] for _, y in part.batch(4)])

    np.testing.assert_array_equal(order(test), test.labels("price"))
    np.testing.assert_array_equal(order(data), data.labels("price"))
    assert order(train).tolist() != train.labels("price").tolist()
    assert sorted(order(train)) == sorted(train.labels("price"))


def test_weights_are_a_vector_or_a_dict_by_task():
    x, y = np.ones((4, 2)), {"price": np.arange(4.0)}
    rows = np.array([1.0, 2.0, 3.0, 4.0])
    _, _, w = mtl.data.from_arrays(x, y, [PRICE, KIND], sample_weight=rows).arrays()
    np.testing.assert_array_equal(w, rows)
    weights = {"": rows, "price": rows}
    _, _, w = mtl.data.from_arrays(x, y, [PRICE, KIND], sample_weight=weights).arrays()
    np.testing.assert_array_equal(w["price"], rows**2)
    np.testing.assert_array_equal(w["kind"], rows)
    part = mtl.data.from_arrays(x, y, [PRICE, KIND], sample_weight={"price": rows})
    (_, _, w) = next(iter(part.batch(4)))
    np.testing.assert_array_equal(w["kind"], np.ones(4))


def test_rows_of_functions_are_read_in_parallel_and_in_order():
    barrier = threading.Barrier(4, timeout=10)

    def read(row):
        barrier.wait()  # passes only where four rows are being read at once
        return np.full((2,), row)

    field = FunctionField(read, 8, (2,), threads=4)
    np.testing.assert_array_equal(field.load(np.arange(8))[:, 0], np.arange(8))


def test_lazy_rows_are_read_for_their_batch_only():
    reads = []

    def read(row):
        reads.append(row)
        return np.full((3,), row)

    field = FunctionField(read, 1000, (3,))
    data = TaskDataset.from_parts(
        [PRICE], inputs={"numeric": field}, labels={"price": np.arange(1000.0)}
    )
    assert not reads
    part = data[::-1]
    for x, y in part.batch(5).take(2):
        np.testing.assert_array_equal(x["numeric"][:, 0], y["price"])
    assert max(reads, default=0) == 999 and len(reads) < 1000


def test_a_row_that_cannot_be_read_is_named():
    def read(row):
        raise ValueError("not a picture")

    field = FunctionField(read, 3, (2,), row_names=["a/x.jpg", "a/y.jpg", "b/z.jpg"])
    with pytest.raises(DataError, match=r"b/z.jpg could not be read: not a picture"):
        field.load(np.array([2]))
    data = TaskDataset.from_parts([PRICE], inputs={"numeric": field}, labels={})
    with pytest.raises(tf.errors.OpError, match=r"a/x.jpg could not be read: not a picture"):
        list(data.batch(1))
    wide = FunctionField(lambda row: np.zeros(3), 3, (2,), row_names=["a", "b", "c"])
    with pytest.raises(DataError, match=r"b should have shape \(2,\). Received: \(3,\)"):
        wide.load(np.array([1]))


def test_what_fit_sees_is_what_arrays_hold(data):
    train, test = data.split(0.75, 0.25)
    model = mtl.builders.hard_sharing(data.inputs, data.tasks, backbone_options={"widths": (4,)})
    model.compile("adam")
    model.fit(train.batch(5), validation_data=test.batch(5), epochs=2, verbose=0)
    by_batch = model.evaluate(test.batch(100), verbose=0, return_dict=True)
    at_once = model.evaluate(*test.arrays(), batch_size=100, verbose=0, return_dict=True)
    assert by_batch.keys() == at_once.keys()
    for name, value in by_batch.items():
        np.testing.assert_allclose(value, at_once[name], rtol=1e-5)


def test_one_picture_input_is_a_dict_too():
    images = np.random.default_rng(0).random((6, 8, 8, 3))
    data = mtl.data.from_arrays(images, {"kind": np.arange(6) % 3}, [KIND])
    assert data.kind == "image" and list(data.inputs) == ["image"]
    options = {"widths": (4,), "depth": 1}
    model = mtl.builders.hard_sharing(data.inputs, data.tasks, backbone_options=options)
    model.compile("adam")
    model.fit(data.batch(3), verbose=0)
    assert model.predict(data.batch(3), verbose=0)["kind"].shape == (6, 3)


def test_a_bad_set_is_refused():
    x = np.ones((4, 2))
    with pytest.raises(DataError, match="at least one task"):
        mtl.data.from_arrays(x, {}, [])
    with pytest.raises(DataError, match="same number of rows"):
        mtl.data.from_arrays(x, {"price": np.ones(3)}, [PRICE])
    with pytest.raises(DataError, match="at least one row"):
        mtl.data.from_arrays(x[:0], {"price": np.ones(0)}, [PRICE])
    with pytest.raises(DataError, match="unknown|no task|price"):
        mtl.data.from_arrays(x, {"prise": np.ones(4)}, [PRICE])
    with pytest.raises(DataError, match="'kind' hold 3"):
        mtl.data.from_arrays(x, {"kind": [1, 2, 3, 3]}, [KIND])
    with pytest.raises(DataError, match="Fractions should be"):
        mtl.data.from_arrays(x, {"price": np.ones(4)}, [PRICE]).split(0.8, 0.8)


def test_array_fields_hold_numbers():
    with pytest.raises(DataError, match="should hold numbers"):
        ArrayField(["a", "b"])
    assert ArrayField(np.zeros((2, 3))).dtype == "float32"


@pytest.mark.large
def test_batches_run_under_a_strategy(data):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = mtl.builders.hard_sharing(
            data.inputs, data.tasks, backbone_options={"widths": (4,), "normalize": False}
        )
        model.compile(keras.optimizers.SGD(0.0))
    model.fit(data.batch(10), verbose=0)


class _Seen(keras.callbacks.Callback):
    """Loss of each batch: with weights that stand still, it tells which rows a batch holds."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def test_a_training_that_goes_on_sees_the_orders_that_would_have_followed(data):
    model = mtl.builders.hard_sharing(data.inputs, data.tasks)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)

    def losses(batches, **epochs):
        seen = _Seen()
        model.fit(batches, callbacks=[seen], verbose=0, **epochs)
        return seen.losses

    whole = losses(data.batch(8, shuffle=True, seed=1), epochs=3)
    again = losses(data.batch(8, shuffle=True, seed=1), initial_epoch=1, epochs=3)
    np.testing.assert_allclose(again, whole[3:], rtol=1e-5)
    assert len(set(np.round(whole, 3))) > 6
    batches = data.batch(8, shuffle=True, seed=1)
    first = next(iter(batches))[1]
    second = next(iter(batches))[1]  # a look at the first batch is no epoch
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
