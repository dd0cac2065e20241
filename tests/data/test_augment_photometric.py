"""Colors, blur and erased rectangles, held to their definitions."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

import mtl_keras as mtl
from mtl_keras.data import augment

T = mtl.tasks
ROWS = 6
TASK = [T.Binary("any")]


def pictures(size=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.3, 0.7, (ROWS, size, size, 3)).astype("float32")


def run(step, x, **options):
    return augment.Augmenter([step], TASK, **options)(x, {"any": np.zeros(len(x))})[0].numpy()


def color(**strengths):
    none = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    return augment.Color(**{**none, **strengths})


def test_without_strength_nothing_changes():
    x = pictures()
    np.testing.assert_allclose(run(color(), x), x, atol=1e-6)
    np.testing.assert_allclose(run(augment.Blur((0, 0), 1.0), x), x, atol=1e-6)
    np.testing.assert_array_equal(run(augment.Erase(probability=0.0), x), x)


def test_brightness_adds_one_number_per_picture():
    off = run(color(brightness=0.2), pictures()) - pictures()
    assert np.ptp(off.reshape(ROWS, -1), axis=1).max() < 1e-6
    assert np.abs(off).max() <= 0.2 + 1e-6 and np.ptp(off[:, 0, 0, 0]) > 0.05


def test_contrast_keeps_the_mean_and_scales_the_spread():
    x = pictures()
    new = run(color(contrast=0.4), x)
    np.testing.assert_allclose(new.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-6)
    ratio = new.std((1, 2, 3)) / x.std((1, 2, 3))
    assert (ratio >= 0.6).all() and (ratio <= 1.4).all() and np.ptp(ratio) > 0.1


LUMA = np.array([0.299, 0.587, 0.114])


def test_saturation_and_hue_keep_brightness_and_gray():
    x = 0.5 + 0.5 * (pictures() - 0.5)  # far from where colors are clipped
    new = run(color(saturation=0.5, hue=0.3), x)
    np.testing.assert_allclose(new @ LUMA, x @ LUMA, atol=1e-5)
    assert np.abs(new - x).max() > 0.02
    gray = np.repeat(x[..., :1], 3, axis=-1)
    np.testing.assert_allclose(run(color(saturation=0.5, hue=0.3), gray), gray, atol=1e-5)


def test_a_third_of_the_circle_turns_red_into_green_or_blue():
    """Rotation by a third exchanges the channels, up to brightness."""
    red = np.tile(np.float32([0.7, 0.3, 0.3]), (ROWS, 4, 4, 1))
    from mtl_keras.data.augment.photometric import _turn_colors

    for turn, channel in ((1 / 3, 1), (-1 / 3, 2)):
        new = _turn_colors(tf.constant(red), 1.0, turn).numpy()[0, 0, 0]
        assert new.argmax() == channel
        expected = {1: 1 / 3, 2: 2 / 3}[channel]
        assert colorsys.rgb_to_hsv(*new)[0] == pytest.approx(expected, abs=0.01)


def test_blur_is_a_gaussian():
    x = pictures()
    new = run(augment.Blur((1.3, 1.3), 1.0), x)
    expected = ndimage.gaussian_filter(x, (0, 1.3, 1.3, 0), mode="nearest", radius=(0, 4, 4, 0))
    np.testing.assert_allclose(new, expected, atol=1e-5)


def test_erase_hides_one_rectangle_of_the_given_area_under_the_mean():
    x = pictures(40)
    new = run(augment.Erase((0.1, 0.2), probability=1.0), x)
    for before, after in zip(x, new, strict=True):
        changed = np.abs(before - after).max(-1) > 0
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        hidden = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_allclose(hidden - before.mean((0, 1)), 0, atol=1e-5)
        assert 0.07 < hidden[..., 0].size / 1600 < 0.24


def test_erase_hides_labels_where_it_hides_the_picture():
    rng = np.random.default_rng(0)
    rows, size = 64, 20
    tasks = [
        T.Segmentation("mask"),
        T.Keypoints("points", 1),
        T.BoundingBox("box"),
        T.Detection("objects"),
        T.Depth("depth"),
        T.Classification("kind", 2),
    ]
    corner = rng.uniform(0, 0.7, (rows, 2))
    box = np.concatenate([corner, corner + 0.3], -1).astype("float32")
    # A ramp: every erased pixel differs from the mean.
    x = np.tile(np.linspace(0, 1, size * size).reshape(1, size, size, 1), (rows, 1, 1, 1))
    y = {
        "mask": np.ones((rows, size, size), "uint8"),
        "points": rng.random((rows, 1, 2)),
        "box": box,
        "objects": np.insert(box, 4, 0, axis=1)[:, None],
        "depth": np.ones((rows, size, size, 1)),
        "kind": np.arange(rows) % 2,
    }
    step = augment.Erase((0.2, 0.6), (1, 1), probability=0.8)
    new_x, new = augment.Augmenter([step], tasks, value_range=(0, 1))(x.astype("float32"), y)
    hidden = np.abs(new_x.numpy() - x)[..., 0] > 1e-6
    np.testing.assert_array_equal(new["mask"].numpy() == -1, hidden)
    np.testing.assert_array_equal(np.isnan(new["depth"].numpy()[..., 0]), hidden)
    np.testing.assert_array_equal(new["kind"], y["kind"])
    edges = np.arange(size + 1) / size
    for i in range(rows):
        column, row = (y["points"][i, 0] * size).astype(int)
        assert np.isnan(new["points"][i]).all() == hidden[i, row, column]
        shares = [
            np.clip(
                np.minimum(edges[1:], box[i, 2 + a]) - np.maximum(edges[:-1], box[i, a]), 0, None
            )
            for a in (0, 1)
        ]
        covered = (np.outer(shares[1], shares[0]) * hidden[i]).sum() / 0.09
        if abs(covered - 0.75) < 0.01:
            continue
        assert np.isnan(new["box"][i]).all() == (covered > 0.75)
        assert (new["objects"][i, 0, 4] == -1) == (covered > 0.75)
        if covered < 0.75:
            np.testing.assert_array_equal(new["box"][i], box[i])


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [
        ("float32", (-1, 1)),
        ("uint8", None),
        pytest.param("float32", (0, 1), marks=pytest.mark.large),
        pytest.param("float32", (0, 255), marks=pytest.mark.large),
        pytest.param("float16", None, marks=pytest.mark.large),
    ],
)
def test_dtype_and_range_are_kept(dtype, value_range):
    low, high = value_range or ((0, 255) if dtype == "uint8" else (0, 1))
    x = (low + (high - low) * np.random.default_rng(0).random((ROWS, 16, 16, 3))).astype(dtype)
    strong = augment.Color(1.0, 1.0, 1.0, 0.5)
    steps = ["flip", augment.Rotate(90), strong, "blur", "erase"]
    y = {"any": np.zeros(ROWS)}
    new, _ = augment.Augmenter(steps, TASK, value_range=value_range)(x, y)
    new = new.numpy()
    assert new.dtype == dtype and new.shape == x.shape
    slack = 1e-6 * (high - low)
    assert new.min() >= low - slack and new.max() <= high + slack
    assert new.min() < low + 0.05 * (high - low)  # black, where nothing was
    flat = np.full((ROWS, 16, 16, 3), high, dtype)
    turned = augment.Augmenter([augment.Rotate(90)], TASK, value_range=value_range)(flat, y)[0]
    nearest = np.where(np.abs(turned.numpy() - low) < 0.5 * (high - low), low, high)
    np.testing.assert_allclose(turned, nearest, rtol=1e-6)
    assert len(np.unique(nearest)) == 2


def test_pictures_outside_of_the_range_are_refused_with_the_mend():
    y = {"any": np.zeros(ROWS)}
    for x in (255 * pictures(), 2 * pictures() - 1.5, np.full((ROWS, 8, 8, 3), np.nan, "float32")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="value_range"):
            augment.Augmenter(["color"], TASK)(x, y)
    encoder = mtl.data.ImageEncoder((24, 24), scale=1.0)
    augment.Augmenter(["color"], TASK, encoder=encoder)(255 * pictures(), y)
