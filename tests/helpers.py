"""Small networks and small data for tests."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.testing import table_data, table_model

__all__ = [
    "ONE_OF_EACH",
    "balancer_named",
    "image_data",
    "image_model",
    "image_tasks",
    "large_but",
    "ruined_model",
    "same",
    "table_data",
    "table_model",
]


def image_tasks():
    """Three tasks of three kinds."""
    return [
        mtl.tasks.Classification("kind", num_classes=3, hidden=8),
        mtl.tasks.BoundingBox("box", hidden=8, channels=4),
        mtl.tasks.Segmentation("mask", channels=4),
    ]


def image_model(tasks=None, **options):
    options = {"widths": (4, 8), "depth": 1, **options}
    return mtl.builders.hard_sharing((16, 16, 1), tasks or image_tasks(), backbone_options=options)


def image_data(rows=24, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 16, 16, 1), "float32")
    corner = rng.random((rows, 2)) * 0.5
    y = {
        "kind": rng.integers(0, 3, rows).astype("int32"),
        "box": np.concatenate([corner, corner + 0.4], -1).astype("float32"),
        "mask": rng.integers(0, 2, (rows, 16, 16)).astype("int32"),
    }
    return x, y


def ruined_model():
    """A network with one hidden unit three hundred times the others, undone behind: 256 values
    leave the others none."""
    tasks = [mtl.tasks.Regression("cost", hidden=8), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing(
        (4,), tasks, backbone="mlp", backbone_options={"widths": (16,)}
    )
    # How much is ruined depends on the first weights: these do not follow Keras's seed.
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) == 2:
            variable.assign(rng.normal(0, np.sqrt(2 / variable.shape[0]), variable.shape))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (256, 4)).astype("float32")
    y = {
        "cost": x @ np.array([1.0, -2.0, 0.5, 0.3], "float32"),
        "sold": (x[:, 0] > 0).astype("int32"),
    }
    for task, wanted in (("cost", y["cost"]), ("sold", 4.0 * y["sold"] - 2)):
        hidden = keras.Model(model.inputs, model.get_layer(f"{task}_hidden").output)(x).numpy()
        solved = np.linalg.lstsq(np.c_[hidden, np.ones(256)], wanted, rcond=None)[0]
        model.get_layer(f"{task}_linear").set_weights([solved[:-1, None], solved[-1:]])
    hidden, linear = model.get_layer("cost_hidden"), model.get_layer("cost_linear")
    (kernel, bias), (onward, shift) = hidden.get_weights(), linear.get_weights()
    factors = np.where(
        np.arange(8) == np.abs(onward[:, 0] * kernel.max(0)).argmax(), 300.0, 1.0
    ).astype("float32")
    hidden.set_weights([kernel * factors, bias * factors])
    linear.set_weights([onward / factors[:, None], shift])
    model.compile(keras.optimizers.Adam(0.003))
    return model, x, y


#: One of each way to balance, for the default run; the others run with `--run-large`.
ONE_OF_EACH = (
    "uncertainty",
    "gradnorm",
    "famo",
    "cagrad",
    "graddrop",
    "sdmgrad",
    "auto_lambda",
)


def large_but(quick, values):
    """Values of a parameter; all but the quick ones are large tests."""
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.large)
        for value in values
    ]


def balancer_named(name, x, y):
    """A balancer by name; held-out data for the one that needs it."""
    if name != "auto_lambda":
        return mtl.balancing.get(name)
    held_out = tf.data.Dataset.from_tensor_slices(
        (x[::-1], {k: v[::-1] for k, v in y.items()})
    ).batch(8)
    return mtl.balancing.AutoLambda(held_out, learning_rate=0.01)


def same(a, b, **tolerance):
    """Assert that two lists of weights are alike."""
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})
