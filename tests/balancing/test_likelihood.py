"""Weighting by uncertainty reads the likelihood of the loss that is trained with."""

import warnings

import keras
import numpy as np
import pytest
from helpers import table_model

import mtl_keras as mtl
from mtl_keras import balancing
from mtl_keras.balancing.likelihood import likelihood_of
from mtl_keras.tasks.regression import ScaledError

# (factor of the loss, slope of s), by Kendall et al.'s derivation: exp(-s) L a + c s.
FORMS = {"gaussian": (0.5, 0.5), "categorical": (1.0, 0.5), "laplace": (1.0, 1.0)}


def absolute_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


def _form(model, task):
    """Factor and slope, measured on the balancer: weights at s = 0, and what s adds to the
    total."""
    balancer = model.balancer
    number, count = balancer.task_names.index(task), len(balancer.task_names)
    present = keras.ops.ones((count,), "bool")
    zeros = keras.ops.zeros((count,))
    factor = float(np.asarray(balancer.weigh(zeros, present))[number])
    state = balancer.log_variance.numpy()
    balancer.log_variance.assign(np.eye(count)[number])
    slope = float(balancer.total(zeros, balancer.weigh(zeros, present), present))
    balancer.log_variance.assign(state)
    return factor, slope


@pytest.mark.parametrize(
    ("loss", "likelihood"),
    [
        (None, "gaussian"),
        ("mae", "laplace"),
        ("mse", "gaussian"),
        ("huber", "laplace"),
        (keras.losses.MeanAbsoluteError(), "laplace"),
        (keras.losses.MeanSquaredLogarithmicError(), "gaussian"),
        (keras.losses.LogCosh(), "laplace"),
        (keras.losses.Poisson(), "categorical"),
        (ScaledError("mae", 2.0), "laplace"),
        (ScaledError("mse", 2.0), "gaussian"),
    ],
)
def test_the_form_is_that_of_the_compiled_loss(loss, likelihood):
    model = table_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("sgd", loss={} if loss is None else {"cost": loss}, balancer="uncertainty")
    assert _form(model, "cost") == pytest.approx(FORMS[likelihood])
    assert _form(model, "sold") == pytest.approx(FORMS["categorical"])


def test_a_loss_given_to_the_task_counts_as_one_given_to_compile():
    tasks = [
        mtl.tasks.Regression("cost", loss="mae"),
        mtl.tasks.BoundingBox("box", loss=keras.losses.MeanSquaredError()),
    ]
    model = mtl.builders.hard_sharing(
        (8, 8, 1), tasks, backbone_options={"widths": (4,), "depth": 1}
    )
    model.compile("sgd", balancer="uncertainty")
    assert _form(model, "cost") == pytest.approx(FORMS["laplace"]) and _form(
        model, "box"
    ) == pytest.approx(FORMS["gaussian"])


def test_chains_and_saved_models_read_it_too(tmp_path):
    model = table_model()
    model.compile("sgd", loss={"cost": "mae"}, balancer=["uncertainty", "pcgrad"])
    assert model.balancer.parts[0]._scale[0] == FORMS["laplace"][0]
    model.compile("sgd", loss={"cost": "mae"}, balancer="uncertainty")
    model.save(tmp_path / "m.keras")
    assert _form(keras.saving.load_model(tmp_path / "m.keras"), "cost") == pytest.approx(
        FORMS["laplace"]
    )


def test_an_unknown_loss_is_named_and_can_be_declared():
    model = table_model()
    with pytest.warns(UserWarning, match=r"'cost' \(its loss is absolute_error\).*likelihoods="):
        model.compile("sgd", loss={"cost": absolute_error}, balancer="uncertainty")
    declared = balancing.Uncertainty(likelihoods={"cost": "laplace"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("sgd", loss={"cost": absolute_error}, balancer=declared)
        assert _form(model, "cost") == pytest.approx(FORMS["laplace"])

        def mine(y_true, y_pred):
            return absolute_error(y_true, y_pred)

        mine.likelihood = "laplace"
        model.compile("sgd", loss={"cost": mine}, balancer="uncertainty")
        assert _form(model, "cost") == pytest.approx(FORMS["laplace"])
    again = balancing.get(keras.saving.serialize_keras_object(declared))
    assert again.likelihoods == {"cost": "laplace"}


@pytest.mark.parametrize(
    ("likelihoods", "words"),
    [
        ({"cost": "normal"}, "must be one of gaussian, laplace, categorical"),
        ({"costs": "laplace"}, "'cost'"),
    ],
)
def test_impossible_likelihoods_are_refused(likelihoods, words):
    with pytest.raises(ValueError, match=words):
        table_model().compile("sgd", balancer=balancing.Uncertainty(likelihoods=likelihoods))


def test_every_tasks_own_loss_has_the_likelihood_of_its_task():
    tasks = [
        mtl.tasks.Classification("a", num_classes=3),
        mtl.tasks.Binary("b"),
        mtl.tasks.Regression("c", error="mae"),
        mtl.tasks.BoundingBox("d"),
        mtl.tasks.MultiLabel("e", num_labels=3),
        mtl.tasks.Ordinal("f", num_classes=4),
        mtl.tasks.Segmentation("g"),
        mtl.tasks.Depth("h"),
        mtl.tasks.Normals("i"),
        mtl.tasks.Keypoints("j", num_points=2),
        mtl.tasks.Embedding("l"),
    ]
    for task in tasks:
        assert likelihood_of(task, task.loss) == task.likelihood, task.name
