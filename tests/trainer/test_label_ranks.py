"""Labels of shape `(rows,)` and `(rows, 1)` mean the same, one after the other too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl

ROWS = 16
X = np.random.default_rng(0).standard_normal((ROWS, 5)).astype("float32")
FLAT = {"cost": X[:, 0] * 2, "sold": (X[:, 1] > 0).astype("int32")}
COLUMN = {name: value[:, None] for name, value in FLAT.items()}
MIXED = {"cost": FLAT["cost"], "sold": COLUMN["sold"]}


def compiled(balancer="equal", **options):
    keras.utils.set_random_seed(3)
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    model = mtl.builders.hard_sharing((5,), tasks, "mlp", backbone_options={"widths": (6,)})
    model.compile(keras.optimizers.SGD(0.1), balancer=balancer, **options)
    return model


def as_dataset(y):
    return tf.data.Dataset.from_tensor_slices((X, y)).batch(ROWS // 2)


WAYS = {
    "arrays": lambda model, y: (
        model.fit(X, y, batch_size=ROWS // 2, shuffle=False, verbose=0).history
    ),
    "dataset": lambda model, y: model.fit(as_dataset(y), verbose=0).history,
    "batch": lambda model, y: model.train_on_batch(X, y, return_dict=True),
}
METRICS = {"cost": ["mae"], "sold": ["accuracy", keras.metrics.AUC(name="auc")]}


@pytest.mark.large
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"metrics": METRICS}], ids=["own", "compiled metrics"])
def test_ranks_may_change_between_calls(way, options):
    """The weights and the logs are those of labels of one rank all along."""
    results = []
    for sources in ([FLAT, FLAT, FLAT, FLAT], [FLAT, COLUMN, MIXED, FLAT]):
        model = compiled(**options)
        logs = [WAYS[way](model, y) for y in sources]
        evaluated = [model.evaluate(X, y, verbose=0) for y in sources]
        on_batch = [model.test_on_batch(X, y, return_dict=True) for y in sources]
        results.append((logs, evaluated, on_batch, [v.numpy() for v in model.variables]))
    (logs, evaluated, on_batch, weights), other = results[0], results[1]
    for before, after in zip(
        [*logs, *evaluated, *on_batch], [*other[0], *other[1], *other[2]], strict=True
    ):
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, rtol=1e-5, err_msg=name)
    for before, after in zip(weights, other[3], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-7)
    # Held to the definition as well.
    error = np.abs(model.predict(X, verbose=0)["cost"].ravel() - FLAT["cost"]).mean()
    np.testing.assert_allclose(model.evaluate(X, MIXED, verbose=0)["cost_mae"], error, rtol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize(("balancer", "replicas"), [("equal", 1), ("cagrad", 1), ("equal", 2)])
def test_ranks_may_change_under_strategies_and_several_steps_per_execution(balancer, replicas):
    devices = [f"CPU:{i}" for i in range(replicas)]
    results = []
    for sources in ([FLAT, FLAT], [FLAT, COLUMN]):
        with tf.distribute.MirroredStrategy(devices).scope():
            model = compiled(balancer, steps_per_execution=3 - replicas, metrics=METRICS)
        logs = [model.fit(as_dataset(y), verbose=0).history for y in sources]
        results.append((logs, [v.numpy() for v in model.trainable_variables]))
    for before, after in zip(results[0][0], results[1][0], strict=True):
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, rtol=1e-4, err_msg=name)
    for before, after in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_a_step_is_traced_once_for_each_set_of_ranks():
    model = compiled()
    traces = []
    step = model.train_step
    model.train_step = lambda data: (traces.append(1), step(data))[1]
    for y in (FLAT, COLUMN, FLAT, COLUMN, FLAT):
        model.fit(X, y, batch_size=ROWS, verbose=0)
    assert len(traces) == 2
