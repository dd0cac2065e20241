"""Every task: its labels, loss, metrics, decoder, config, held to what defines them."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.tasks.bounding_box import BoxLoss, box_iou
from mtl_keras.tasks.regression import ScaledError

TASKS = [
    mtl.tasks.Binary("t", loss_weight=0.5, threshold=0.3),
    mtl.tasks.Classification("t", num_classes=4, labels=list("abcd"), hidden=0, dropout=0.2),
    mtl.tasks.Regression("t", size=2, mean=3.0, scale=2.0, low=-5, high=9, unit="m", error="huber"),
    mtl.tasks.BoundingBox("t", hidden=3, channels=2, metrics=["mae"]),
    mtl.tasks.Segmentation(
        "t", num_classes=3, labels=list("xyz"), loss="sparse_categorical_crossentropy"
    ),
]


def _target(task, y):
    target, present = task.target(keras.ops.convert_to_tensor(np.asarray(y)))
    return np.asarray(target), np.asarray(present)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_metrics_are_fresh_and_have_a_direction(task):
    first, second = task.new_metrics()[0], task.new_metrics()[0]
    assert first.metric is not second.metric
    assert first.higher_is_better == (first.name not in ("mae", "mean_absolute_error"))


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "much"])
def test_bad_loss_weights_are_refused_by_the_tasks_name(weight):
    with pytest.raises(ValueError, match="loss weight of task 'digit'"):
        mtl.tasks.Classification("digit", num_classes=3, loss_weight=weight)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mtl.tasks.Classification("t", num_classes=1), "at least 2 classes"),
        (
            lambda: mtl.tasks.Classification("t", num_classes=3, labels=["a"]),
            "3 classes but 1 labels",
        ),
        (lambda: mtl.tasks.Regression("t", scale=0), "scale must be > 0"),
        (lambda: mtl.tasks.Regression("t", low=1, high=0), "low must be below high"),
        (lambda: mtl.tasks.Regression("t", error="l3"), "error must be one of"),
        (lambda: mtl.tasks.Segmentation("t", num_classes=0), "at least 1 class"),
    ],
)
def test_impossible_tasks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ------------------------------------------------------------------ classes
def test_class_targets_and_missing_labels():
    task = mtl.tasks.Classification("t", num_classes=4)
    target, present = _target(task, np.array([2.0, np.nan, -1.0, 0.0]))
    assert target.tolist() == [2, 0, 0, 0]
    assert present.tolist() == [True, False, False, True]
    target, present = _target(task, np.array([[3], [-1]]))
    assert target.tolist() == [3, 0] and present.tolist() == [True, False]


def test_classification_loss_is_stable_for_extreme_logits():
    task = mtl.tasks.Classification("t", num_classes=3)
    import tensorflow as tf

    logits = tf.Variable([[200.0, 0.0, -200.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(task.loss.call(tf.constant([2]), task.activate(logits)))
    # Softmax rounds to 0 for class 2; the loss must be the cross entropy of the logits, 400, with a
    # gradient.
    np.testing.assert_allclose(loss, 400.0, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[1.0, 0.0, -1.0]], atol=1e-6)


def test_class_decoding_names_the_class():
    task = mtl.tasks.Classification("t", num_classes=3, labels=["cat", "dog", "owl"])
    assert task.decode(np.array([[0.1, 0.7, 0.2]])) == [{"label": "dog", "probability": 0.7}]


def test_binary_decoding_uses_the_threshold():
    decoded = mtl.tasks.Binary("t", threshold=0.3).decode(np.array([[0.4], [0.2]]))
    assert [d["label"] for d in decoded] == [True, False]


# ------------------------------------------------------------------ numbers
def test_regression_works_in_the_users_unit():
    task = mtl.tasks.Regression("t").fit_to(np.array([10.0, 20.0, np.nan, 30.0]))
    assert task.mean == 20 and np.isclose(task.scale, np.std([10, 20, 30]))
    output = np.asarray(task.activate(keras.ops.convert_to_tensor([[1.0]])))
    np.testing.assert_allclose(output, [[20 + task.scale]], rtol=1e-6)
    # One standard deviation off costs 1, whatever the unit.
    np.testing.assert_allclose(
        task.loss.call(keras.ops.convert_to_tensor([[20.0]]), output), [1.0], rtol=1e-5
    )


def test_regression_clips_labels_and_decoded_values():
    task = mtl.tasks.Regression("t", low=-60, high=180)
    target, present = _target(task, np.array([-100.0, 500.0, np.nan]))
    assert target[:2, 0].tolist() == [-60, 180] and present.tolist() == [True, True, False]
    assert task.decode(np.array([[999.0]])) == [180.0]


def test_counts_on_a_log_scale_come_back_as_counts():
    task = mtl.tasks.Regression("t", log=True)
    target, _ = _target(task, np.array([0.0, 7.0]))
    np.testing.assert_allclose(target[:, 0], np.log1p([0, 7]), rtol=1e-6)
    np.testing.assert_allclose(task.decode(target), [0, 7], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("error", "expected"), [("mse", 9.0), ("mae", 3.0), ("huber", 2.5)])
def test_scaled_error_is_the_error_of_scaled_values(error, expected):
    value = ScaledError(error, scale=2.0).call(
        keras.ops.convert_to_tensor([[6.0]]), keras.ops.convert_to_tensor([[0.0]])
    )
    np.testing.assert_allclose(value, [expected])


# ------------------------------------------------------------------ boxes
def test_iou_of_known_boxes():
    a = keras.ops.convert_to_tensor(
        [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]]
    )
    b = keras.ops.convert_to_tensor(
        [[0.5, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0], [0.2, 0.2, 0.2, 0.2]]
    )
    np.testing.assert_allclose(box_iou(a, b), [0.5, 0.0, 0.0], atol=1e-7)


def test_box_loss_is_zero_at_the_label_and_has_a_gradient_far_away():
    import tensorflow as tf

    truth = tf.constant([[0.1, 0.1, 0.3, 0.3]])
    np.testing.assert_allclose(BoxLoss().call(truth, truth), [0.0], atol=1e-6)
    guess = tf.Variable([[0.7, 0.7, 0.9, 0.9]])
    with tf.GradientTape() as tape:
        loss = BoxLoss(iou_weight=0.5).call(truth, guess)
    np.testing.assert_allclose(loss, [0.6 + 0.5], rtol=1e-5)
    assert (tape.gradient(loss, guess).numpy() > 0).all()


# ------------------------------------------------------------------ maps
def test_segmentation_targets_keep_missing_pixels_apart():
    y = np.array([[[0, 1], [-1, 1]]])
    target, present = _target(mtl.tasks.Segmentation("t"), y)
    assert target.shape == (1, 2, 2, 1) and target[0, 1, 0, 0] == 0
    assert present.tolist() == [[[True, True], [False, True]]]
    target, _ = _target(mtl.tasks.Segmentation("t", num_classes=2), y[..., None])
    assert target.shape == (1, 2, 2)


# ------------------------------------------------------------------ labels that can't be right
@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (mtl.tasks.Classification("t", num_classes=3), np.array([0, 3]), "hold 3.0.*0 to 2"),
        (mtl.tasks.Classification("t", num_classes=3), np.array([0.5]), "whole numbers"),
        (mtl.tasks.Classification("t", num_classes=3), np.eye(4), "shape"),
        (mtl.tasks.Classification("t", num_classes=3), np.array(["a"]), "dtype"),
        (mtl.tasks.Binary("t"), np.array([2]), "0 to 1"),
        (mtl.tasks.Regression("t"), np.array([np.inf]), "finite"),
        (mtl.tasks.Regression("t", log=True), np.array([-1.0]), "counts"),
        (mtl.tasks.Regression("t", size=2), np.zeros((4, 3)), "shape"),
        (mtl.tasks.BoundingBox("t"), np.array([[0, 0, 20.0, 30.0]]), "0 to 1"),
        (mtl.tasks.BoundingBox("t"), np.array([[0.5, 0, 0.1, 1.0]]), "right < left"),
        (mtl.tasks.Segmentation("t"), np.full((1, 2, 2), 255), "0 to 1"),
        (mtl.tasks.Segmentation("t"), np.zeros((4, 4)), "shape"),
    ],
)
def test_wrong_labels_are_refused(task, labels, words):
    with pytest.raises(ValueError, match=words) as error:
        task.check_labels(labels)
    assert "'t'" in str(error.value)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.kind)
def test_missing_labels_pass_the_check_and_are_known_as_missing(task):
    labels = task.missing(2, (None, 4, 4, 3))
    task.check_labels(labels)
    assert not _target(task, labels)[1].any()


def test_baselines_are_the_best_constant_answers():
    share = mtl.tasks.Classification("t", num_classes=3).baseline(np.array([0, 0, 1, -1]))
    np.testing.assert_allclose(share, [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(
        mtl.tasks.Binary("t").baseline(np.array([1, 0, 0, 0, np.nan])), [0.25]
    )
    np.testing.assert_allclose(
        mtl.tasks.Regression("t", high=4).baseline(np.array([0, 2, 100, np.nan])), [2.0]
    )
    boxes = np.array([[0, 0, 0.5, 0.5], [0.2, 0, 0.5, 0.5], [0.1, 0, 0.5, 1.0]])
    np.testing.assert_allclose(mtl.tasks.BoundingBox("t").baseline(boxes), [0.1, 0, 0.5, 0.5])
    np.testing.assert_allclose(
        mtl.tasks.Segmentation("t").baseline(np.array([[[1, 0]], [[1, -1]]]))[..., 0], [[1, 0]]
    )


def test_a_users_head_loss_and_metrics_are_used():
    def head(features):
        return keras.layers.Dense(1, name="my_own")(features["stage1"])

    task = mtl.tasks.Regression("cost", head=head, loss="mae", metrics=["mse"])
    model = mtl.builders.hard_sharing(
        (3,), [task], backbone="mlp", backbone_options={"widths": (4,)}
    )
    assert model.get_layer("my_own")
    model.compile("sgd")
    logs = model.evaluate(
        np.zeros((2, 3), "float32"), {"cost": np.array([1.0, 3.0], "float32")}, verbose=0
    )
    prediction = model.predict(np.zeros((2, 3), "float32"), verbose=0)["cost"][:, 0]
    np.testing.assert_allclose(logs["cost_loss"], np.abs(prediction - [1, 3]).mean(), rtol=1e-5)
    assert "cost_mean_squared_error" in logs or "cost_mse" in logs
