"""Data that do not fit the network are refused before any work, with what would do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl


@pytest.fixture(scope="module")
def network():
    """A picture in the encoder's scale, and words of a vocabulary of ten."""
    tasks = [mtl.tasks.Regression("cost", hidden=0)]

    def trunk(inputs):
        words = keras.layers.Embedding(10, 4, name="embedding")(inputs["words"])
        seen = keras.layers.Conv2D(4, 3, name="conv")(inputs["image"])
        pool = [keras.layers.GlobalAveragePooling1D()(words), keras.layers.GlobalAveragePooling2D()(seen)]
        return keras.layers.Concatenate(name="both")(pool)

    inputs = {"image": keras.Input((6, 6, 1), name="image"), "words": keras.Input((5,), dtype="int32", name="words")}
    encoder = mtl.data.ImageEncoder((6, 6), 1, name="image")
    return mtl.builders.hard_sharing(inputs, tasks, backbone=trunk, encoder=encoder)


def _fit(rows=4):
    rng = np.random.default_rng(0)
    return {"image": rng.random((rows, 6, 6, 1), "float32"), "words": rng.integers(0, 10, (rows, 5)).astype("int32")}


def test_what_fits_is_taken_from_arrays_and_data_sets(network, tmp_path):
    x = _fit()
    for data in (x, (x, {"cost": np.zeros(4)}), tf.data.Dataset.from_tensor_slices(x).batch(3), [x["image"], x["words"]]):
        report = mtl.export.tflite(network, tmp_path / "m.tflite", "int8", calibration=data)
        assert [head.name for head in report.heads] == ["cost"]
    whole = {**x, "words": x["words"].astype("float64")}
    assert mtl.export.tflite(network, tmp_path / "m.tflite", calibration=None, samples=whole).heads[0].largest < 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "Inputs image are missing"),
        ({"image": np.zeros((0, 6, 6, 1), "float32"), "words": np.zeros((0, 5), "int32")}, "empty: at least one row"),
        (
            {"image": np.zeros((4, 6, 7, 1), "float32")},
            r"have shape \(4, 6, 7, 1\); the model takes \(None, 6, 6, 1\)",
        ),
        ({"image": np.full((4, 6, 6, 1), np.nan, "float32")}, "'image' hold values that are not finite"),
        ({"image": np.full((4, 6, 6, 1), "a")}, "'image' have dtype <U1; the model takes float32"),
        ({"image": _fit()["image"] * 255}, r"'image' go from .* to 2.*encoder makes go from 0 to 1.*encoder.encode"),
        ({"image": np.zeros((4, 6, 6, 1), "float32")}, "never change: 'image' is always 0"),
        ({"words": np.full((4, 5), 0.5)}, "'words' hold fractions; the model takes int32"),
        ({"words": np.full((4, 5), 10)}, "'words' go from 10 to 10; the model takes a vocabulary of 10: 0 to 9"),
        ({"words": np.full((4, 5), -1)}, "'words' go from -1 to -1"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(network, tmp_path, change, words):
    data = {name: value for name, value in {**_fit(), **change}.items() if value is not None}
    (tmp_path / "m.tflite").write_bytes(b"good")
    with pytest.raises(ValueError, match=words):
        mtl.export.tflite(network, tmp_path / "m.tflite", "int8", calibration=data)
    assert (tmp_path / "m.tflite").read_bytes() == b"good" and len(list(tmp_path.iterdir())) == 1


def test_bytes_are_bytes(tmp_path):
    raw = mtl.export.with_raw_images(mtl.builders.hard_sharing((6, 6, 1), [mtl.tasks.Regression("cost")]), (8, 8))
    with pytest.raises(ValueError, match="'image' go from 0 to 300; the model takes uint8: 0 to 255"):
        mtl.export.tflite(raw, tmp_path / "m.tflite", samples=np.full((2, 8, 8, 1), 300) * [[[[1]]], [[[0]]]])
