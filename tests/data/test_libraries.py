"""Data sets of tf.data and of Hugging Face."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_tasks

import mtl_keras as mtl


@pytest.mark.parametrize("batch", [None, 4])
def test_rows_of_tf_data_are_those_of_its_arrays(batch):
    x, y = image_data(rows=10)
    weight = np.arange(10, dtype="float32")
    stream = tf.data.Dataset.from_tensor_slices((x, y, weight))
    stream = stream if batch is None else stream.batch(batch)
    data = mtl.data.from_tf_data(stream, image_tasks())
    inputs, labels, weights = data.arrays()
    np.testing.assert_array_equal(inputs["image"], x)
    for name, values in y.items():
        np.testing.assert_array_equal(labels[name].reshape(values.shape), values)
    np.testing.assert_array_equal(weights, weight)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rows: rows.repeat(), "has no end"),
        (lambda rows: rows.take(0), "at least one row"),
        (list, "should be a tf.data.Dataset"),
    ],
)
def test_streams_that_are_no_rows_are_refused(make, words):
    rows = tf.data.Dataset.from_tensor_slices(image_data(rows=2))
    with pytest.raises(mtl.data.DataError, match=words):
        mtl.data.from_tf_data(make(rows), image_tasks())


def _huggingface(columns, features):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features(datasets)))


def test_texts_with_named_classes():
    data = mtl.data.from_huggingface(
        _huggingface(
            {
                "text": ["a good film", "a bad film", "good", "bad end"] * 3,
                "mood": [1, 0, 1, -1] * 3,
                "stars": [5.0, 1.0, None, 2.0] * 3,
            },
            lambda d: {
                "text": d.Value("string"),
                "mood": d.ClassLabel(names=["no", "fine"]),
                "stars": d.Value("float32"),
            },
        ),
        {"mood": "mood", mtl.tasks.Regression("stars"): "stars"},
        tokenizer="words",
    )
    assert data.kind == "text" and data.task("mood").labels == ["no", "fine"]
    assert data.labels("mood").ravel()[:4].tolist() == [1, 0, 1, -1]
    np.testing.assert_array_equal(data.labels("stars").ravel()[:4], [5, 1, np.nan, 2])


def test_pictures_with_several_labels():
    pictures = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3)).astype("uint8")
    from PIL import Image

    data = mtl.data.from_huggingface(
        _huggingface(
            {
                "photo": [Image.fromarray(p) for p in pictures],
                "kind": [0, 2, 1, -1],
                "tags": [[0], [], [1, 2], [2]],
            },
            lambda d: {
                "photo": d.Image(),
                "kind": d.ClassLabel(names=["a", "b", "c"]),
                "tags": d.Sequence(d.ClassLabel(names=["x", "y", "z"])),
            },
        ),
        {"kind": "kind", "tags": "tags"},
        size=6,
    )
    x, y = data.arrays()
    np.testing.assert_allclose(x["image"], pictures / 255, atol=1e-6)
    assert y["kind"].ravel().tolist() == [0, 2, 1, -1]
    assert y["tags"].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_other_objects_of_hugging_face_are_refused():
    with pytest.raises(mtl.data.DataError, match=r"one split.*'train', 'test'"):
        mtl.data.from_huggingface({"train": 1, "test": 2}, {"a": "a"})
    with pytest.raises(mtl.data.DataError, match="known number of rows"):
        mtl.data.from_huggingface([1, 2], {"a": "a"})
