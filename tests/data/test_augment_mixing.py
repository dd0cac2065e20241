"""MixUp, CutMix and mosaic: a picture shows which rows it is made of, and labels say the same."""

import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.data import augment

T = mtl.tasks
ROWS, SIZE = 8, 40
CLASSES = np.array([0, 1, 2, 0, -1, 1, 2, 2])

ANSWERS = [
    T.Classification("kind", 3),
    T.Ordinal("level", 3),
    T.Binary("yes"),
    T.MultiLabel("tags", 2),
    T.Regression("number"),
]


def answers():
    number = np.arange(ROWS) * 10.0
    number[2] = np.nan
    tags = np.stack([np.arange(ROWS) % 2, np.arange(ROWS) // 2 % 2], -1)
    tags[3, 0] = -1
    return {
        "kind": CLASSES,
        "level": CLASSES[:, None],
        "yes": np.array([0, 1, 1, 0, 1, -1, 0, 1]),
        "tags": tags,
        "number": number.astype("float32"),
    }


def origins():
    """Pictures of which row i is 1 in channel i and 0 elsewhere: a mean says its shares."""
    return np.tile(np.eye(ROWS, dtype="float32")[:, None, None], (1, SIZE, SIZE, 1))


def check_answers(y, new, shares):
    """Labels against the shares `(rows, rows)` of the rows that each new one is made of."""
    counts = shares > 1e-6
    for name in ("kind", "level"):
        missing = counts @ (CLASSES < 0)
        expected = shares @ np.eye(3)[CLASSES]
        np.testing.assert_allclose(new[name][~missing], expected[~missing], atol=1e-5)
        assert (new[name][missing] == -1).all() and missing.any()
    for name in ("yes", "tags", "number"):
        label = y[name].reshape(ROWS, -1).astype(float)
        is_missing = ~np.isfinite(label) | (label < 0)
        missing = (counts.astype(float) @ is_missing) > 0
        expected = shares @ np.where(is_missing, 0, label)
        result = new[name].reshape(ROWS, -1)
        np.testing.assert_allclose(result[~missing], expected[~missing], atol=1e-4)
        assert np.isnan(result[missing]).all() or (result[missing] == -1).all()


@pytest.mark.parametrize(
    "step",
    [
        augment.MixUp(1.0),
        augment.MixUp(0.05, 0.5),
        augment.CutMix(probability=0.7),
        augment.Mosaic(),
    ],
    ids=["mixup", "seldom", "cutmix", "mosaic"],
)
def test_class_labels_are_the_shares_of_their_rows(step):
    y = answers()
    x, new = augment.Augmenter([step], ANSWERS, value_range=(0, 1), seed=2)(origins(), y)
    shares = x.numpy().astype(float).mean(axis=(1, 2))
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-4)
    assert np.abs(shares - np.eye(ROWS)).max() > 0.05
    check_answers(y, {name: label.numpy() for name, label in new.items()}, shares)
    for task in ANSWERS:
        task.check_labels(new[task.name].numpy())


def test_the_share_of_mixup_follows_the_beta_distribution():
    x = np.tile(np.float32([[[[1.0]]], [[[0.0]]]]), (2000, 1, 1, 1))
    task = T.Regression("number")
    step = augment.MixUp(0.4)
    mixed, _ = augment.Augmenter([step], [task])(x, {"number": x[:, 0, 0, 0]})
    values = mixed.numpy().ravel()
    # Half of the partners are alike; of the others the variance is that of Beta(a, a).
    different = values[(values > 0) & (values < 1)]
    assert np.var(different) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)


def boxed():
    """Pictures whose channel i holds, in row i only, the mask of that row's box."""
    rng = np.random.default_rng(3)
    corner = rng.integers(2, 18, (ROWS, 2))
    side = rng.integers(8, 20, (ROWS, 2))
    x = np.zeros((ROWS, SIZE, SIZE, 2 * ROWS), "float32")
    for i in range(ROWS):
        (left, top), (right, bottom) = corner[i], corner[i] + side[i]
        x[i, top:bottom, left:right, i] = 1
        x[i, ..., ROWS + i] = 1
    boxes = np.concatenate([corner, corner + side], -1) / SIZE
    return x, np.concatenate([boxes, np.arange(ROWS)[:, None]], -1).astype("float32")[:, None]


DENSE = [
    T.Detection("objects", ROWS),
    T.Segmentation("row", ROWS),
    T.Depth("depth"),
    T.Normals("normals"),
]


@pytest.mark.parametrize(
    "step",
    [augment.CutMix(), pytest.param(augment.Mosaic(probability=0.8), marks=pytest.mark.large)],
    ids=["cutmix", "mosaic"],
)
def test_objects_and_maps_are_those_that_the_picture_shows(step):
    x, objects = boxed()
    number = np.tile(np.arange(ROWS)[:, None, None], (1, SIZE, SIZE))
    y = {
        "objects": objects,
        "row": number,
        "depth": number[..., None] + 1.0,
        "normals": np.stack([0 * number, 0 * number, 1 + number], -1),
    }
    augmenter = augment.Augmenter([step], DENSE, seed=1, fixed_camera=False)
    new_x, new = augmenter(x, y)
    new_x, new = new_x.numpy(), {name: label.numpy() for name, label in new.items()}
    shown = new_x[..., ROWS:].argmax(-1)
    np.testing.assert_array_equal(new["row"], shown)
    np.testing.assert_array_equal(new["depth"][..., 0], shown + 1)
    np.testing.assert_allclose(new["normals"][..., 2], 1)
    assert len(np.unique(shown)) > 3
    compared = 0
    for i in range(ROWS):
        found = {int(label[4]): label[:4] for label in new["objects"][i] if label[4] >= 0}
        assert set(found) <= set(np.unique(shown[i]))
        for j, box in found.items():
            mask = (new_x[i, ..., j] > 0.5) & (shown[i] == j)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / SIZE
            if j == i and isinstance(step, augment.CutMix):
                # What lies under the window goes on behind it.
                np.testing.assert_allclose(box, objects[i, 0, :4])
                continue
            np.testing.assert_allclose(box, edges, atol=1.01 / SIZE)
            compared += 1
    assert compared >= 3


def test_objects_under_the_window_are_dropped_and_missing_ones_make_all_missing():
    x, objects = boxed()
    objects[5] = np.nan
    step, task = augment.CutMix(), [T.Detection("objects", ROWS)]
    new_x, new = augment.Augmenter([step], task, seed=1)(x, {"objects": objects})
    shown, labels = new_x.numpy()[..., ROWS:].argmax(-1), new["objects"].numpy()
    hidden = 0
    for i in range(ROWS):
        if (shown[i] == 5).any():
            assert np.isnan(labels[i]).all()
            continue
        mask = x[i, ..., i] > 0
        visible = (shown[i][mask] == i).mean()
        assert (i in labels[i, :, 4]) == (visible >= 0.25)
        hidden += visible < 0.25
    assert hidden


def test_masks_of_mixed_pictures_are_probabilities():
    x = origins()
    parts = np.random.default_rng(0).integers(-1, 3, (ROWS, SIZE, SIZE))
    tasks = [T.Segmentation("parts", 3), T.Segmentation("mask")]
    y = {"parts": parts, "mask": np.clip(parts, -1, 1)[..., None]}
    new_x, new = augment.Augmenter([augment.MixUp(1.0)], tasks)(x, y)
    shares, counts = new_x.numpy()[:, 0, 0], new_x.numpy()[:, 0, 0] > 1e-6
    missing = np.einsum("ij,jhw->ihw", counts.astype(int), (parts < 0).astype(int)) > 0
    expected = np.einsum("ij,jhwc->ihwc", shares, np.eye(3)[parts])
    np.testing.assert_allclose(new["parts"].numpy()[~missing], expected[~missing], atol=1e-5)
    assert (new["parts"].numpy()[missing] == -1).all()
    yes = np.einsum("ij,jhw->ihw", shares, (parts >= 1).astype(float))
    np.testing.assert_allclose(new["mask"].numpy()[..., 0][~missing], yes[~missing], atol=1e-5)
    for task in tasks:
        task.check_labels(new[task.name].numpy())


def test_weights_are_mixed_and_a_row_without_a_label_counts_nothing():
    y = {"number": np.arange(ROWS, dtype="float32")}
    weight = np.array([1, 2, 0, 1, 1, 3, 1, 1], "float32")
    tasks, step = [T.Regression("number")], augment.MixUp(1.0)
    x, _, by_task = augment.Augmenter([step], tasks)(origins(), y, {"number": weight})
    _, _, by_row = augment.Augmenter([step], tasks)(origins(), y, weight)
    shares = x.numpy()[:, 0, 0]
    expected = np.where((shares > 1e-6) @ (weight == 0), 0, shares @ weight)
    np.testing.assert_allclose(by_task["number"], expected, atol=1e-5)
    np.testing.assert_allclose(by_row, expected, atol=1e-5)
    assert (expected == 0).sum() > 1


@pytest.mark.large
def test_a_network_trains_on_mixed_labels():
    tasks = [ANSWERS[0], T.Segmentation("mask", 2)]
    y = {"kind": CLASSES, "mask": np.zeros((ROWS, SIZE, SIZE), int)}
    x = np.random.default_rng(0).random((ROWS, SIZE, SIZE, 3)).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    data = augment.apply(dataset, ["mosaic", "cutmix", "mixup"], tasks)
    model = mtl.builders.hard_sharing(
        (SIZE, SIZE, 3), tasks, backbone_options={"widths": (4, 8), "depth": 1}
    )
    model.compile("adam")
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
