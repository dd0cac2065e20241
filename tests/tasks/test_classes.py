"""Weights of classes, smoothed and focal losses, and labels that are probabilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.tasks.classes import class_weights_from_counts

T = mtl.tasks
RNG = np.random.default_rng(0)


def loss_of(task, labels, output):
    """The task's own loss of each label, from probabilities."""
    target, _ = task.target(keras.ops.convert_to_tensor(labels))
    return np.asarray(task.loss.call(target, keras.ops.convert_to_tensor(output.astype("float32"))))


def simplex(*shape):
    p = RNG.uniform(0.05, 1, shape)
    return p / p.sum(-1, keepdims=True)


def test_weights_are_those_of_the_published_formulas():
    counts = np.array([900.0, 90, 10])
    np.testing.assert_allclose(class_weights_from_counts(counts, "balanced"), 1000 / (3 * counts))
    effective = (1 - 0.999) / (1 - 0.999**counts)
    np.testing.assert_allclose(
        class_weights_from_counts(counts, "effective"), 3 * effective / effective.sum(), rtol=1e-9
    )
    # beta = 0 weighs all alike; towards 1 it is inverse frequency; a class that never occurs weighs
    # 1.
    np.testing.assert_allclose(class_weights_from_counts(counts, "effective", 0.0), 1.0)
    inverse = (1 / counts) / (1 / counts).sum() * 3
    np.testing.assert_allclose(
        class_weights_from_counts(counts, "effective", 1 - 1e-9), inverse, rtol=1e-5
    )
    for kind in ("balanced", "effective"):
        assert class_weights_from_counts([5, 0, 5], kind).tolist() == pytest.approx([1, 1, 1])
    assert (class_weights_from_counts([1e9, 1.0], "effective", 0.9999) > 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_keras_and_of_the_definition(smoothing, gamma):
    options = {"label_smoothing": smoothing, "focal_gamma": gamma}
    p, labels = simplex(6, 3), np.arange(6) % 3
    found = loss_of(T.Classification("kind", 3, **options), labels, p)
    shares = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    np.testing.assert_allclose(found, -(shares * (1 - p) ** gamma * np.log(p)).sum(-1), rtol=1e-5)
    theirs = keras.losses.CategoricalFocalCrossentropy(
        1.0, gamma, label_smoothing=smoothing, reduction=None
    )
    np.testing.assert_allclose(found, theirs(np.eye(3)[labels], p), rtol=1e-4)
    # Soft labels are the mean of hard ones, weighed by the label.
    soft = simplex(6, 3)
    each = np.stack(
        [loss_of(T.Classification("kind", 3, **options), np.full(6, c), p) for c in range(3)], -1
    )
    np.testing.assert_allclose(
        loss_of(T.Classification("kind", 3, **options), soft, p), (soft * each).sum(-1), rtol=1e-4
    )

    q, yes = RNG.uniform(0.05, 0.95, (6, 1)), np.arange(6) % 2
    found = loss_of(T.Binary("sold", **options), yes, q).ravel()
    t = yes * (1 - smoothing) + smoothing / 2
    q = q[:, 0]
    expected = -(t * (1 - q) ** gamma * np.log(q) + (1 - t) * q**gamma * np.log(1 - q))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = loss_of(
        T.MultiLabel("tags", 2, **options), np.stack([yes, 1 - yes], -1), np.stack([q, q], -1)
    )
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_losses_have_finite_gradients_where_the_answer_is_certain(gamma):
    for task, size in (
        (T.Classification("kind", 3, focal_gamma=gamma), 3),
        (T.Binary("sold", focal_gamma=gamma), 1),
    ):
        output = mtl.tasks.TaskOutput(task)
        x = tf.Variable(np.full((2, size), 80.0) * np.eye(2, size))
        with tf.GradientTape() as tape:
            target, _ = task.target(keras.ops.convert_to_tensor(np.array([0, 1])))
            loss = tf.reduce_sum(task.loss.call(target, output(x)))
        assert np.isfinite(loss.numpy()) and np.isfinite(tape.gradient(loss, x).numpy()).all()


def tasks_and_labels():
    """By kind: a task with these weights, hard labels with a missing one, and the class of each
    label (flat)."""
    return {
        "classification": (
            lambda **o: T.Classification("y", 3, hidden=0, **o),
            np.array([0, 0, 0, 1, 2, 0, -1, 1]),
        ),
        "binary": (lambda **o: T.Binary("y", hidden=0, **o), np.array([0, 0, 0, 1, 0, 0, -1, 0])),
        "token_tagging": (
            lambda **o: T.TokenTagging(
                "y",
                3,
                head=lambda f: keras.layers.Reshape((2, 3))(keras.layers.Dense(6)(last(f))),
                **o,
            ),
            np.array([[0, 0], [0, 1], [2, -1], [0, 0], [0, 0], [1, 1], [-1, -1], [0, 2]]),
        ),
        "segmentation": (
            lambda **o: T.Segmentation(
                "y",
                3,
                head=lambda f: keras.layers.Reshape((1, 2, 3))(keras.layers.Dense(6)(last(f))),
                **o,
            ),
            np.array([[0, 0], [0, 1], [2, -1], [0, 0], [0, 0], [1, 1], [-1, -1], [0, 2]])[:, None],
        ),
    }


def last(features):
    return list(features.values())[-1] if isinstance(features, dict) else features


X = RNG.standard_normal((8, 4)).astype("float32")


def network(task):
    keras.utils.set_random_seed(2)
    model = mtl.builders.hard_sharing(
        (4,), [task], "mlp", backbone_options={"widths": (5,), "normalize": False}
    )
    model.compile(keras.optimizers.SGD(0.2), run_eagerly=True)
    return model


def expected_loss(model, labels, weights):
    """The mean over labels of weight times cross entropy, in float64."""
    p = np.asarray(model(X)["y"], "float64")
    p = np.concatenate([1 - p, p], -1) if p.shape[-1] == 1 else p
    p, flat = p.reshape(-1, p.shape[-1]), labels.reshape(-1)
    known = flat >= 0
    picked = -np.log(p[np.arange(len(flat)), np.maximum(flat, 0)])
    return (np.asarray(weights)[np.maximum(flat, 0)] * picked)[known].mean()


@pytest.mark.parametrize("kind", ["classification", "binary", "token_tagging", "segmentation"])
def test_a_label_counts_as_often_as_its_class_weighs(kind):
    make, labels = tasks_and_labels()[kind]
    size = 2 if kind == "binary" else 3
    weights = [1.0, 5.0, 0.5][:size]
    model = network(make(class_weights={1: 5.0, **({2: 0.5} if size == 3 else {})}))
    found = model.evaluate(X, {"y": labels}, verbose=0)["y_loss"]
    assert found == pytest.approx(expected_loss(model, labels, weights), rel=1e-5)


@pytest.mark.parametrize("form", ["arrays", "data set", "sequence", "counted"])
def test_classes_are_counted_in_the_labels_of_the_first_fit(form, tmp_path):
    make, labels = tasks_and_labels()["classification"]
    model = network(make(class_weights="balanced"))
    expected = [7 / (3 * 4), 7 / (3 * 2), 7 / 3]
    data = tf.data.Dataset.from_tensor_slices((X, {"y": labels})).batch(3)
    if form == "arrays":
        model.fit(X, {"y": labels}, verbose=0)
    elif form == "data set":
        model.fit(data, verbose=0)
    elif form == "sequence":
        batches = list(data.as_numpy_iterator())

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return len(batches)

            def __getitem__(self, i):
                return batches[i]

        model.fit(Batches(), verbose=0)
    else:
        with pytest.raises(ValueError, match=r"Task 'y'.*count_classes"):
            model.train_on_batch(X, {"y": labels})
        assert model.count_classes({"y": labels})["y"].tolist() == [4, 2, 1]
        model.train_on_batch(X, {"y": labels})
    np.testing.assert_allclose(model.get_layer("y").class_weights.numpy(), expected, rtol=1e-6)
    if form == "arrays":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.get_layer("y").class_weights.numpy(), expected, rtol=1e-6)
        found = loaded.evaluate(X, {"y": labels}, verbose=0)["y_loss"]
        assert found == pytest.approx(expected_loss(loaded, labels, expected), rel=1e-5)


def test_labels_that_are_not_trained_on_are_not_counted():
    make, _ = tasks_and_labels()["classification"]
    model = network(make(class_weights="balanced"))
    # The last half is for validation, and row 3 has no weight.
    weight = np.array([1, 1, 1, 0, 1, 1, 1, 1], "float32")
    model.fit(
        X,
        {"y": np.array([0, 0, 2, 1, 1, 1, 1, 1])},
        validation_split=0.5,
        sample_weight=weight,
        verbose=0,
    )
    np.testing.assert_allclose(
        model.get_layer("y").class_weights.numpy(), [3 / 4, 1, 3 / 2], rtol=1e-6
    )


def test_fit_to_counts_beforehand():
    labels = np.array([0, 0, 0, 1, -1])
    task = T.Binary("y", class_weights="balanced").fit_to(labels)
    np.testing.assert_allclose(task.class_weights, [4 / 6, 4 / 2])
    again = T.Binary.from_config(task.get_config())
    np.testing.assert_allclose(again.class_weights, task.class_weights)
    tags = T.MultiLabel("tags", 2, class_weights="balanced").fit_to(
        np.array([[1, 0], [0, 0], [0, -1], [0, 1]])
    )
    np.testing.assert_allclose(tags.class_weights, [[4 / 6, 4 / 2], [3 / 4, 3 / 2]])


def test_the_weight_of_a_label_of_many_is_that_of_its_yes():
    task = T.MultiLabel("y", 2, labels=["a", "b"], hidden=0, class_weights={"b": 4.0})
    model = network(task)
    labels = np.array([[1, 1], [0, 1], [0, 0], [1, -1], [0, 1], [1, 0], [0, 0], [1, 1]])
    p, known = np.asarray(model(X)["y"], "float64"), labels >= 0
    each = -np.where(labels == 1, np.log(p), np.log(1 - p)) * np.where(
        (labels == 1) & [False, True], 4.0, 1.0
    )
    assert model.evaluate(X, {"y": labels}, verbose=0)["y_loss"] == pytest.approx(
        each[known].mean(), rel=1e-5
    )


SOFT = {
    "classification": lambda p: p(8, 3),
    "binary": lambda p: RNG.uniform(0, 1, 8),
    "token_tagging": lambda p: p(8, 2, 3),
    "segmentation": lambda p: p(8, 1, 2, 3),
}


@pytest.mark.parametrize("kind", SOFT)
def test_soft_labels_are_learned_as_shares_of_hard_ones(kind):
    make, _ = tasks_and_labels()[kind]
    soft = SOFT[kind](simplex).astype("float32")
    soft[3] = np.nan
    weights = {1: 3.0}
    model = network(make(class_weights=weights))
    p = np.asarray(model(X)["y"], "float64")
    shares = soft.astype("float64")
    if kind == "binary":
        p, shares = np.concatenate([1 - p, p], -1), np.stack([1 - shares, shares], -1)
    w = np.ones(p.shape[-1])
    w[1] = 3.0
    known = np.isfinite(shares).all(-1)
    each = -(shares * np.log(p)).sum(-1) * (shares * w).sum(-1)
    found = model.evaluate(X, {"y": soft}, verbose=0)
    assert found["y_loss"] == pytest.approx(each[known].mean(), rel=1e-4)
    accuracy = next(v for name, v in found.items() if "accuracy" in name)
    assert accuracy == pytest.approx((p.argmax(-1) == shares.argmax(-1))[known].mean(), abs=1e-6)


def test_fractions_and_class_numbers_are_mixed_without_loss():
    tasks = [
        T.Binary("sold", hidden=0),
        T.Classification("kind", 3, hidden=0),
        T.Regression("cost", hidden=0),
    ]
    model = mtl.builders.hard_sharing((4,), tasks, "mlp", backbone_options={"widths": (4,)})
    soft = {"sold": np.full(8, 0.7, "float32"), "kind": simplex(8, 3).astype("float32")}
    sources = [soft, {"sold": np.arange(8) % 2, "kind": np.arange(8) % 3}, {"cost": X[:, 0]}]
    data = [tf.data.Dataset.from_tensor_slices((X, y)).batch(8) for y in sources]
    batches = [y for _, y in mtl.data.mix(data, model).as_numpy_iterator()]
    assert len(batches) == 3
    by_first = {float(y["sold"].ravel()[0]): y for y in batches}
    np.testing.assert_allclose(by_first[np.float32(0.7)]["kind"], soft["kind"])
    np.testing.assert_allclose(by_first[0.0]["kind"], np.eye(3)[np.arange(8) % 3])
    missing = by_first[-1.0]
    assert (
        np.isnan(missing["kind"]).all()
        and not np.asarray(tasks[1].target(missing["kind"])[1]).any()
    )


def test_levels_may_be_soft():
    model = network(T.Ordinal("y", 3, hidden=0))
    soft = simplex(8, 3).astype("float32")
    above = np.asarray(model(X)["y"], "float64")
    share = np.stack([soft[:, 1:].sum(-1), soft[:, 2]], -1)
    each = -(share * np.log(above) + (1 - share) * np.log(1 - above)).mean(-1)
    assert model.evaluate(X, {"y": soft}, verbose=0)["y_loss"] == pytest.approx(
        each.mean(), rel=1e-4
    )
    hard = model.evaluate(X, {"y": np.arange(8) % 3}, verbose=0)["y_loss"]
    assert model.evaluate(X, {"y": np.eye(3)[np.arange(8) % 3]}, verbose=0)[
        "y_loss"
    ] == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: T.Classification("y", 3, class_weights="balance"),
            "'balanced', 'effective', a dict or a list",
        ),
        (
            lambda: T.Classification("y", 3, class_weights={3: 2.0}),
            "class in `class_weights` of task 'y'",
        ),
        (
            lambda: T.Classification(
                "y", 3, labels=["cat", "dog", "fox"], class_weights={"dgo": 2}
            ),
            "Did you mean 'dog'",
        ),
        (lambda: T.Classification("y", 3, class_weights=[1, 2]), r"of shape \(3,\)"),
        (lambda: T.Binary("y", class_weights={1: -2.0}), "finite numbers >= 0"),
        (lambda: T.Binary("y", label_smoothing=1.0), "`label_smoothing` should be in"),
        (lambda: T.MultiLabel("y", 3, focal_gamma=-1), "`focal_gamma` should be >= 0"),
        (lambda: T.Segmentation("y", 3, beta=1.0), "`beta` should be in"),
        (lambda: T.Binary("y", loss="mse", focal_gamma=2.0), "`loss` replaces it"),
        (lambda: T.Binary("y").fit_to([0, 1]), "no class weights to count"),
        (
            lambda: T.Binary("y", class_weights="balanced").fit_to([-1]),
            "no label is there to count",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (T.Classification("y", 3), np.full((2, 3), 0.5), "add up to 1"),
        (T.Classification("y", 3), np.array([[1.5, -0.5, 0.0]]), "probabilities from 0 to 1"),
        (T.Classification("y", 3), np.ones((2, 4)), r"\(rows, 1\) or \(rows, 3\)"),
        (T.Binary("y"), np.array([0.2, 1.2]), "or a probability from 0 to 1"),
        (T.TokenTagging("y", 3), np.full((2, 4, 3), 0.5), "add up to 1"),
        (T.Ordinal("y", 3), np.full((2, 3), 0.5), "add up to 1"),
    ],
)
def test_soft_labels_that_are_no_probabilities_are_refused(task, labels, message):
    with pytest.raises(ValueError, match=message):
        task.check_labels(labels)


def test_options_are_saved_with_the_task():
    task = T.Classification("y", 3, class_weights={0: 2.0}, label_smoothing=0.1, focal_gamma=1.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(task))
    assert again.get_config() == task.get_config()
    assert (again.label_smoothing, again.focal_gamma, again.class_weights.tolist()) == (
        0.1,
        1.5,
        [2, 1, 1],
    )
