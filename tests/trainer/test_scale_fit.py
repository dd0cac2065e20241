"""`scale="fit"`: measured on the training labels, in the user's unit outside."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl

RNG = np.random.default_rng(0)
X = RNG.random((64, 3)).astype("float32")
Y = {"price": 5e4 + 2e4 * X[:, 0], "sold": (X[:, 1] > 0.5).astype("float32")}
Y["price"][::5] = np.nan


def _model(price, **compile_options):
    keras.utils.set_random_seed(3)
    tasks = [price, mtl.tasks.Binary("sold", hidden=0)]
    model = mtl.builders.hard_sharing((3,), tasks, backbone_options={"widths": (4,)})
    model.compile("sgd", **compile_options)
    return model


def _fit_to():
    return mtl.tasks.Regression("price").fit_to(Y["price"])


def _unfitted():
    return mtl.tasks.Regression("price", scale="fit")


@pytest.mark.parametrize("form", ["arrays", pytest.param("dataset", marks=pytest.mark.large)])
def test_fit_measures_what_fit_to_measures(form):
    expected, model = _model(_fit_to()), _model(_unfitted())
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    arguments = (
        {"x": X, "y": Y, "batch_size": 16, "shuffle": False} if form == "arrays" else {"x": data}
    )
    histories = [m.fit(**arguments, epochs=2, verbose=0).history for m in (expected, model)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
    np.testing.assert_allclose(
        model.predict(X, verbose=0)["price"], expected.predict(X, verbose=0)["price"], rtol=1e-6
    )
    assert not model.task("price").needs_fit


@pytest.mark.large
def test_what_was_measured_is_saved(tmp_path):
    task = _unfitted()
    model = _model(task)
    model.save(tmp_path / "before.keras")
    assert keras.saving.load_model(tmp_path / "before.keras").task("price").needs_fit
    model.fit(X, Y, verbose=0)
    # The user's own task is no part of the model.
    assert task.needs_fit and task.scale == 1.0
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0)["price"], model.predict(X, verbose=0)["price"], rtol=1e-6
    )
    scores = [m.evaluate(X, Y, verbose=0, return_dict=True) for m in (model, loaded)]
    for name, value in scores[0].items():
        np.testing.assert_allclose(scores[1][name], value, rtol=1e-5)


@pytest.mark.large
def test_validation_rows_are_not_measured():
    model = _model(_unfitted())
    model.fit(X, Y, validation_split=0.25, verbose=0)
    assert model.task("price").mean == pytest.approx(np.nanmean(Y["price"][:48]))


@pytest.mark.large
def test_a_second_fit_keeps_the_scale():
    model = _model(_unfitted())
    model.fit(X, Y, verbose=0)
    mean = model.task("price").mean
    model.fit(X, {**Y, "price": Y["price"] + 1e4}, verbose=0)
    assert model.task("price").mean == mean


def test_nothing_trains_with_a_scale_that_nobody_measured():
    model = _model(_unfitted())
    for call in (
        lambda: model.train_on_batch(X, Y),
        lambda: model.evaluate(X, Y, verbose=0),
        lambda: model.fit(iter([(X, Y)]), verbose=0, steps_per_epoch=1),
        lambda: model.fit(tf.data.Dataset.from_tensors((X, Y)).repeat(), verbose=0),
    ):
        with pytest.raises(ValueError, match=r"scale='fit'"):
            call()
    with pytest.raises(ValueError, match="no label is there"):
        model.fit(X, {**Y, "price": np.full(64, np.nan)}, verbose=0)
    with pytest.raises(ValueError, match=r"`scale` should be a number > 0, or 'fit'"):
        mtl.tasks.Regression("price", scale="auto")


def test_depth_takes_the_median():
    depths = RNG.uniform(2, 9, (4, 8, 8, 1))
    depths[0, 0] = np.nan
    task = mtl.tasks.Depth("depth", scale="fit")
    assert task.needs_fit and task.fit_to(depths).scale == pytest.approx(np.nanmedian(depths))
    model = mtl.builders.hard_sharing(
        (8, 8, 3), [task], backbone_options={"widths": (4,), "depth": 1}
    )
    model.compile("sgd")
    model.fit(RNG.random((4, 8, 8, 3)), {"depth": depths}, verbose=0)
    assert model.task("depth").scale == pytest.approx(np.nanmedian(depths))
