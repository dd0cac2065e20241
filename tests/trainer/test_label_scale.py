"""Labels far from the unit of a regression head are warned of before training."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_model, large_but, table_data, table_model

import mtl_keras as mtl
from mtl_keras.data import LabelScaleWarning


def _warnings(task, labels, as_dataset=False, model=None, **options):
    x, y = table_data(len(labels))
    model = model or table_model([task, mtl.tasks.Binary("sold", hidden=0)])
    if not model.compiled:
        model.compile("adam", **options)
    y = {task.name: labels, "sold": y["sold"]}
    data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(16),) if as_dataset else (x, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data, verbose=0)
    return [w for w in caught if issubclass(w.category, LabelScaleWarning)]


RNG = np.random.default_rng(0)
FAR = {
    "prices": RNG.normal(2e5, 8e4, 32),
    "ages": RNG.normal(45, 12, 32),
    "minutes": RNG.normal(3, 40, 32),
    "rates": RNG.uniform(1e-4, 3e-4, 32),
}
NEAR = {
    "standardized": RNG.standard_normal(32),
    "shares": RNG.random(32),
    "grades": RNG.integers(0, 11, 32).astype(float),
    "shares of some percent": RNG.normal(0.03, 0.02, 32),
    "zero or one": RNG.integers(0, 2, 32).astype(float),
    "all the same": np.full(32, 3.0),
    "none at all": np.full(32, np.nan),
}


@pytest.mark.parametrize("name", large_but(["prices"], FAR))
def test_labels_far_from_unit_scale_are_warned_of_with_the_mend(name):
    labels = FAR[name].astype("float32")
    labels[::7] = np.nan
    task = mtl.tasks.Regression("cost", hidden=0)
    (warning,) = _warnings(task, labels)
    text = str(warning.message)
    assert "task 'cost'" in text and 'Regression("cost", ...).fit_to(labels)' in text
    assert f"mean {np.nanmean(labels):.4g}" in text
    assert warning.filename == __file__, "the warning points at the user's call of `fit`"
    assert not _warnings(task.fit_to(labels), labels)


@pytest.mark.large
@pytest.mark.parametrize("name", NEAR)
def test_sensible_labels_are_not_warned_of(name):
    assert not _warnings(mtl.tasks.Regression("cost", hidden=0), NEAR[name].astype("float32"))


@pytest.mark.large
def test_data_sets_are_looked_at_by_their_first_batch():
    task = mtl.tasks.Regression("cost", hidden=0)
    assert len(_warnings(task, FAR["prices"].astype("float32"), as_dataset=True)) == 1
    assert not _warnings(task, NEAR["grades"].astype("float32"), as_dataset=True)


def test_a_network_that_answers_in_that_range_is_not_warned_of():
    """One that was trained before, or whose last layer starts at the labels' mean."""
    labels = FAR["prices"].astype("float32")
    task = mtl.tasks.Regression("cost", hidden=0)
    model = table_model([task, mtl.tasks.Binary("sold", hidden=0)])
    kernel, bias = model.get_layer("cost_linear").get_weights()
    model.get_layer("cost_linear").set_weights([kernel, bias + 2e5])
    assert not _warnings(task, labels, model=model)


@pytest.mark.large
def test_losses_without_a_unit_and_log_scales_are_not_warned_of():
    counts = RNG.integers(0, 50_000, 32).astype("float32")
    task = mtl.tasks.Regression("cost", hidden=0)
    assert not _warnings(task, counts + 1, loss={"cost": "mean_absolute_percentage_error"})
    assert not _warnings(mtl.tasks.Regression("cost", hidden=0, log=True), counts % 100)
    assert _warnings(task, counts, loss={"cost": "mae"})


@pytest.mark.large
def test_depths_in_millimeters_are_warned_of():
    x, _ = image_data(8)
    depth = RNG.uniform(500, 4000, (8, 16, 16, 1)).astype("float32")
    for scale, count in ((1.0, 1), (2000.0, 0)):
        model = image_model([mtl.tasks.Depth("depth", scale=scale, channels=4)])
        model.compile("adam")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, {"depth": depth}, verbose=0)
        told = [str(w.message) for w in caught if issubclass(w.category, LabelScaleWarning)]
        assert len(told) == count and all('Depth("depth", scale=' in text for text in told)
