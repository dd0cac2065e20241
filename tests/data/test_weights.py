"""Weights of classes, tasks and rows against their formulas, and what training makes of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_model, table_model

import mtl_keras as mtl

T = mtl.tasks


def _by_hand(counts, method, beta=0.999):
    """The published formulas, class by class."""
    n, k = sum(counts), sum(count > 0 for count in counts)
    if method == "inverse":
        return [n / (k * count) if count else 1.0 for count in counts]
    raw = [(1 - beta) / (1 - beta**count) if count else 0.0 for count in counts]
    return [value * k / sum(raw) if value else 1.0 for value in raw]


@pytest.mark.parametrize("method", ["inverse", "effective_number"])
def test_classes_of_every_kind_weigh_by_their_counts(method):
    tasks = [
        T.Classification("kind", 4),
        T.Binary("sold"),
        T.Ordinal("grade", 4),
        T.Segmentation("mask", 3),
        T.Segmentation("shape"),
        T.MultiLabel("tag", 2),
        T.Regression("cost"),
    ]
    mask = np.array([[[0, 0, 1], [-1, 2, 0]], [[0, 0, 0], [1, 1, -1]]])
    y = {
        "kind": np.array([0, 0, 0, 1, 2, 2, -1]),
        "sold": np.array([1.0, 0.0, 0.0, np.nan, 0.0]),
        "grade": np.array([3, 0, 0, 1, -1, 3, 3]),
        "mask": mask,
        "shape": np.array([[[0, 1, 1], [-1, 1, 0]]]),
        "tag": np.array([[1, 0], [0, 0], [0, -1], [0, 1]]),
        "cost": np.array([1.0, 2.0]),
    }
    counts = {"kind": [3, 1, 2, 0], "sold": [3, 1], "grade": [2, 1, 0, 3], "mask": [6, 3, 1]}
    counts["shape"] = [2, 3]
    weights = mtl.data.class_weights(y, tasks, method)
    assert set(weights) == {*counts, "tag"}
    for name, count in counts.items():
        np.testing.assert_allclose(list(weights[name].values()), _by_hand(count, method), rtol=1e-9)
    for label, count in enumerate([[3, 1], [2, 1]]):
        np.testing.assert_allclose(weights["tag"][label], _by_hand(count, method), rtol=1e-9)


def test_data_sets_in_batches_count_as_their_arrays():
    x, y = image_data(rows=10)
    model = image_model()
    whole = mtl.data.class_weights(y, model)
    batched = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    assert mtl.data.class_weights(batched, model) == whole
    data = mtl.data.from_arrays(x, y, model.tasks)
    assert mtl.data.class_weights(data, model) == whole


def test_fit_takes_the_weights_and_the_loss_is_weighed():
    """`fit(class_weight=)` gives the step that the weighted loss gives, label by label."""
    tags = T.MultiLabel("tag", 3, labels=["a", "b", "c"], hidden=0)
    x = np.random.default_rng(0).standard_normal((12, 5)).astype("float32")
    y = np.array([[1, 0, 0], [0, 0, 1], [0, 0, -1]] * 4)
    model = table_model([tags])
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    weights = mtl.data.class_weights({"tag": y}, model)
    before = [w.copy() for w in model.get_weights()]
    expected = {}
    with tf.GradientTape() as tape:
        p = model(x)["tag"]
        table = tf.constant([weights["tag"][label] for label in range(3)], "float32")
        known = y >= 0
        yes = np.where(known, y, 0).astype("float32")
        each = -(table[:, 1] * yes * tf.math.log(p) + table[:, 0] * (1 - yes) * tf.math.log(1 - p))
        loss = tf.reduce_sum(each * known) / known.sum()
    for variable, gradient in zip(
        model.trainable_variables,
        tape.gradient(loss, [v.value for v in model.trainable_variables]),
        strict=True,
    ):
        expected[variable.path] = variable.numpy() - gradient.numpy()
    model.fit(x, {"tag": y}, class_weight=weights, batch_size=12, verbose=0)
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable.numpy(), expected[variable.path], rtol=1e-4, atol=1e-5)
    # By name, and one number for yes.
    model.set_weights(before)
    named = {"tag": {"a": (2.0, 3.0), "b": 4.0}}
    model.train_on_batch(x, {"tag": y}, class_weight=named)
    table = model.compiled_tasks.class_weights["tag"].tolist()
    assert table == [[2, 3], [1, 4], [1, 1]]


@pytest.mark.large
def test_a_weighted_data_set_trains_as_class_and_row_weights_together():
    x, y = image_data(rows=12)
    y["kind"][4:] = 0
    y["box"][3:] = np.nan
    rows = np.linspace(0.5, 2, 12).astype("float32")
    model = image_model()
    data = mtl.data.from_arrays({model.inputs[0].name: x}, y, model.tasks).weighted(
        classes="inverse", rows=rows
    )
    _, _, weights = data.arrays()
    table = mtl.data.class_weights(y, model)
    kinds = np.array([table["kind"][int(kind)] for kind in y["kind"]])
    np.testing.assert_allclose(weights["kind"], kinds * rows, rtol=1e-6)
    pixels = np.vectorize(table["mask"].get)(y["mask"])
    np.testing.assert_allclose(weights["mask"], pixels * rows[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(weights["box"], rows, rtol=1e-6)
    (batch,) = data.batch(12)
    for name, weight in weights.items():
        np.testing.assert_allclose(batch[2][name], weight, rtol=1e-6)
    model.compile("sgd", run_eagerly=True)
    logs = model.evaluate(data.batch(5), verbose=0)
    p = np.asarray(model(x)["kind"], "float64")[np.arange(12), y["kind"]]
    assert logs["kind_loss"] == pytest.approx(np.mean(-np.log(p) * kinds * rows), rel=1e-4)
    # Weights multiply, and rows that are selected keep theirs.
    twice = data[3:6].weighted(rows={"box": np.full(3, 2.0)})
    np.testing.assert_allclose(twice.arrays()[2]["box"], 2 * rows[3:6], rtol=1e-6)


def test_rare_tasks_and_rows_with_rare_labels_weigh_more():
    tasks = [T.Regression("often"), T.Regression("seldom"), T.Binary("never")]
    y = {
        "often": np.arange(8.0),
        "seldom": np.array([1.0, 2.0, *[np.nan] * 6]),
        "never": np.full(8, -1),
    }
    weights = mtl.data.task_weights(y, tasks)
    # 1/8 and 1/2, scaled to a mean of 1.
    assert weights == pytest.approx({"often": 0.4, "seldom": 1.6, "never": 1.0})
    rows = mtl.data.row_weights(y, tasks)
    raw = np.array([1.0] * 2 + [0.4] * 6)
    np.testing.assert_allclose(rows, raw / raw.mean(), rtol=1e-6)
    effective = mtl.data.task_weights(y, tasks, "effective_number", beta=0.5)
    ratio = (0.5 / (1 - 0.5**2)) / (0.5 / (1 - 0.5**8))
    assert effective["seldom"] / effective["often"] == pytest.approx(ratio)
    data = mtl.data.from_arrays(np.zeros((8, 2)), y, tasks).weighted(rows="inverse")
    np.testing.assert_allclose(data.arrays()[2]["seldom"], rows, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y, t: mtl.data.class_weights(y, t, "invers"), "Did you mean 'inverse'"),
        (lambda y, t: mtl.data.class_weights(y, t, beta=1.0), "`beta` should be in"),
        (lambda y, t: mtl.data.class_weights({"cost": y["cost"]}, t), "No task over classes"),
        (lambda y, t: mtl.data.class_weights({"kinds": y["kind"]}, t), "Did you mean 'kind'"),
        (lambda y, t: mtl.data.task_weights({"cost": [np.nan]}, t), "No row has a label"),
    ],
)
def test_what_can_not_be_weighed_is_refused(call, words):
    y = {"kind": np.array([0, 1]), "cost": np.array([0.0, 1.0])}
    with pytest.raises(ValueError, match=words):
        call(y, [T.Classification("kind", 2), T.Regression("cost")])


# ------------------------------------------------------------------ classes that a source does not label
def _gradient(task, y, output):
    """The gradient of the task's loss, as the trainer takes it, with respect to its output."""
    output = tf.Variable(output)
    with tf.GradientTape() as tape:
        target, present = task.target(tf.convert_to_tensor(y))
        values = task.loss.call(target, output.value())
        loss = tf.reduce_sum(tf.where(present, values, tf.zeros_like(values)))
    return tape.gradient(loss, output).numpy()


def test_unlabelled_classes_have_no_gradient():
    rng = np.random.default_rng(0)
    tags = T.MultiLabel("tag", 3, labels=["cat", "dog", "horse"])
    y = mtl.data.only_labelled({"tag": rng.integers(0, 2, (4, 3))}, [tags], ["cat", "dog"])["tag"]
    gradient = _gradient(tags, y, rng.uniform(0.1, 0.9, (4, 3)).astype("float32"))
    assert (gradient[:, 2] == 0).all() and (gradient[:, :2] != 0).all()

    mask = T.Segmentation("mask", 3, labels=["background", "liver", "kidney"])
    pixels = rng.integers(0, 3, (2, 4, 4))
    y = mtl.data.only_labelled({"mask": pixels}, [mask], {"mask": ["liver", 2]})["mask"]
    np.testing.assert_array_equal(y, np.where(pixels == 0, -1, pixels))
    output = rng.dirichlet(np.ones(3), (2, 4, 4)).astype("float32")
    gradient = _gradient(mask, y, output)
    assert (gradient[pixels == 0] == 0).all() and (gradient[pixels > 0] != 0).any(-1).all()
    soft = np.eye(3, dtype="float32")[pixels]
    hidden = mtl.data.only_labelled({"mask": soft}, [mask], {"mask": [1, 2]})["mask"]
    np.testing.assert_array_equal(np.asarray(mask.target(hidden)[1]), pixels > 0)
    # Labels without a sign get one.
    unsigned = mtl.data.only_labelled({"mask": pixels.astype("uint8")}, [mask], {"mask": [1, 2]})
    np.testing.assert_array_equal(unsigned["mask"], y)


def test_unlabelled_objects_are_neither_there_nor_absent():
    rng = np.random.default_rng(0)
    task = T.Detection("things", 3, labels=["cat", "dog", "horse"])
    objects = np.zeros((3, 2, 5), "float32")
    objects[..., :4], objects[..., 4] = [0.2, 0.2, 0.7, 0.6], -1
    objects[0, :, 4], objects[2] = [0, 2], np.nan
    y = mtl.data.only_labelled({"things": objects}, [task], ["cat", "dog"])["things"]
    task.check_labels(y)
    assert np.asarray(task.target(y)[1]).tolist() == [True, True, False]
    output = rng.uniform(0.1, 0.9, (3, 4, 4, 7)).astype("float32")
    gradient = _gradient(task, y, output)
    assert (gradient[..., 2] == 0).all() and (gradient[2] == 0).all()
    assert (gradient[:2, ..., :2] != 0).all()
    # The loss of the other classes is that of images which have nothing of the third.
    only_two = np.where(objects[..., 4:] == 2, np.float32([0, 0, 0, 0, -1]), objects)
    np.testing.assert_allclose(
        gradient[..., :2], _gradient(task, only_two, output)[..., :2], rtol=1e-5
    )
    # The metric counts no prediction of the third class as wrong.
    metric = task.new_metrics()[0].metric
    metric.update_state(task.target(y)[0][:2], output[:2])
    assert metric.wrong.numpy()[2].sum() == 0 and metric.wrong.numpy()[:2].sum() > 0


def test_a_mixture_hides_what_its_sources_do_not_label():
    task = T.MultiLabel("tag", 2, labels=["cat", "dog"])
    x = np.zeros((4, 5), "float32")
    y = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    data = {"cats": (x, {"tag": y}), "both": (x + 1, {"tag": y})}
    as_streams = {name: tf.data.Dataset.from_tensor_slices(part) for name, part in data.items()}
    for sources in (data, as_streams):
        stream = mtl.data.mix(sources, [task], labelled={"cats": ["cat"]}, batch_size=4)
        for x_batch, labels in stream:
            is_hidden = labels["tag"].numpy()[:, 1] == -1
            assert (
                is_hidden.all() == (x_batch.numpy()[0, 0] == 0)
                and is_hidden.any() == is_hidden.all()
            )
    dataset = mtl.data.from_arrays(x, {"tag": y}, [task])
    hidden = mtl.data.only_labelled(dataset, [task], ["dog"])
    np.testing.assert_array_equal(hidden.labels("tag")[:, 0], -1)
    (batch,) = hidden.batch(4)
    np.testing.assert_array_equal(batch[1]["tag"], hidden.labels("tag"))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["cat", "cow"], "of which task"),
        ({"tags": ["cat"]}, "Did you mean 'tag'"),
        ({"tag": ["cow"]}, "class of task 'tag'"),
        ({"cost": [1]}, "has no classes"),
        ({"plain": [3]}, "from 0 to 2"),
    ],
)
def test_unlabelled_classes_are_named_exactly(classes, words):
    tasks = [
        T.MultiLabel("tag", 2, labels=["cat", "dog"]),
        T.Regression("cost"),
        T.Classification("plain", 3),
    ]
    with pytest.raises(ValueError, match=words):
        mtl.data.only_labelled({"tag": np.zeros((1, 2))}, tasks, classes)
