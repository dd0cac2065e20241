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
