import numpy as np
import pytest

from mtl_keras.data import scenes
from mtl_keras.data.sources import DataError, sha256


def _first(**options):
    x, y = next(iter(scenes.fashion_scenes("test", **{"batch_size": 64, **options})))
    return x.numpy(), {name: value.numpy() for name, value in y.items()}


def test_the_bundled_file_is_the_one_its_checksum_names_and_small():
    assert sha256(scenes.BUNDLED) == scenes.SHA256
    assert scenes.BUNDLED.stat().st_size <= 7_000_000
    data = scenes.fashion()
    assert data["train_images"].shape == (12000, 28, 28) and data["test_images"].shape == (
        2000,
        28,
        28,
    )
    assert set(np.unique(data["test_labels"])) == set(range(10))


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "cut.npz").write_bytes(scenes.BUNDLED.read_bytes()[:1000])
    monkeypatch.setattr(scenes, "BUNDLED", tmp_path / "cut.npz")
    scenes.fashion.cache_clear()
    with pytest.raises(DataError, match="missing or damaged"):
        scenes.fashion()


def test_scenes_depend_on_seed_and_number_only():
    x, _y = _first()
    again, _ = _first(batch_size=16)
    other, _ = _first(seed=1)
    np.testing.assert_array_equal(x[:16], again)
    assert not np.array_equal(x, other)


def test_the_box_is_the_silhouettes_and_the_item_is_larger_than_any_fragment():
    x, y = _first()
    assert x.min() >= 0 and x.max() <= 1
    for mask, box in zip(y["mask"][..., 0], y["box"], strict=True):
        rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
        expected = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / scenes.CANVAS
        np.testing.assert_allclose(box, expected, atol=1e-6)
        # Items are drawn in frames of at least 20 pixels; fragments are at most 10 wide and high.
        assert max(box[2] - box[0], box[3] - box[1]) * scenes.CANVAS > scenes._FRAGMENT_LARGEST


def test_there_is_clutter_outside_the_item():
    x, y = _first()
    outside = (x[..., 0] > 0.05) & (y["mask"][..., 0] == 0)
    assert (outside.sum((1, 2)) > 0).mean() > 0.9


def test_silhouettes_keep_dark_spots_inside_and_nothing_outside():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 5:20, 5:20] = 200
    image[0, 10:12, 10:12] = 0  # a dark spot
    found = scenes.silhouettes(image)[0]
    assert found[5:20, 5:20].all() and found.sum() == 15 * 15


def test_an_unscaled_item_is_drawn_as_it_is():
    import tensorflow as tf

    image = np.random.default_rng(0).random((1, 28, 28, 1)).astype("float32")
    framed = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    drawn = scenes._draw(
        tf, framed, [0], tf.constant([3.0]), tf.constant([7.0]), tf.constant([28.0])
    )[0]
    np.testing.assert_allclose(drawn[3:31, 7:35], image[0], atol=1e-5)
    assert drawn.numpy()[:3].max() == 0 and drawn.numpy()[:, 35:].max() == 0


@pytest.mark.large
def test_training_passes_see_every_item_once_and_new_scenes_each_time():
    data = scenes.fashion_scenes("train", batch_size=50, limit=100)
    batches = [(x.numpy(), y["item"].numpy()) for x, y in data.take(4)]
    first = np.sort(np.concatenate([b[1] for b in batches[:2]]))
    second = np.sort(np.concatenate([b[1] for b in batches[2:]]))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(batches[0][0], batches[2][0])


def test_train_and_validation_share_no_item():
    images = scenes.fashion()["train_images"]
    assert len(images[:-1000]) + len(images[-1000:]) == 12000
    assert int(scenes.fashion_scenes("validation", 100).cardinality()) == 10


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="Split must be one of"):
        scenes.fashion_scenes("dev")
