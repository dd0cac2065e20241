"""Data sets of TensorFlow Datasets, by mocks: no network."""

import sys

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data.tfds.adapters import ADAPTERS

tfds = pytest.importorskip("tensorflow_datasets")


def _mocked(name, *args, **options):
    with tfds.testing.mock_data(num_examples=12):
        data = mtl.data.from_tfds(name, *args, **options)
        return data, data.arrays()


def _rows(name, feature, count):
    """One feature of the mocked rows: what a mock holds hangs on what is read beside it."""
    with tfds.testing.mock_data(num_examples=count):
        decoders = tfds.decode.PartialDecoding({feature: True})
        return list(tfds.data_source(name, split="train", decoders=decoders))


def test_pictures_with_two_labels():
    data, (x, y) = _mocked("cifar100", size=32)
    assert data.kind == "image" and x["image"].shape == (12, 32, 32, 3)
    assert [task.num_classes for task in data.tasks] == [100, 20]
    rows = _rows("cifar100", "label", 12)
    assert y["fine"].ravel().tolist() == [int(row["label"]) for row in rows]
    rows = _rows("cifar100", "image", 12)
    np.testing.assert_allclose(
        x["image"], np.stack([row["image"] for row in rows]) / 255, atol=1e-6
    )


#: What a mock can't hold: numbers are random, and so are the lengths of texts.
CASES = {
    "ag_news_subset": ("text", {"topic": "classification"}),
    "caltech_birds2011": (
        "image",
        {"species": "classification", "box": "bounding_box", "mask": "segmentation"},
    ),
    "celeb_a": ("image", {"smiling": "binary", "male": "binary"}),
    "cityscapes": ("image", {"classes": "segmentation"}),
    "dsprites": ("image", {"shape": "classification", "x_position": "classification"}),
    "imdb_reviews": ("text", {"sentiment": "classification"}),
    "mtl_keras/fashion_scenes": (
        "image",
        {"item": "classification", "box": "bounding_box", "mask": "segmentation"},
    ),
    "mtl_keras/flights": ("table", {"arrival_delay": "regression"}),
    "mtl_keras/gloss": ("text", {"supersense": "classification", "synonyms": "regression"}),
    "movielens/100k-ratings": ("table", {"rating": "regression", "gender": "binary"}),
    "nyu_depth_v2": ("image", {"depth": "depth"}),
    "oxford_iiit_pet": (
        "image",
        {
            "breed": "classification",
            "species": "classification",
            "mask": "segmentation",
            "head": "bounding_box",
        },
    ),
    "qm9": ("table", {"mu": "regression", "Cv": "regression"}),
    "speech_commands": ("sound", {"command": "classification"}),
}


@pytest.mark.large
@pytest.mark.parametrize("name", CASES)
def test_every_adapter_gives_inputs_and_labels(name):
    kind, tasks = CASES[name]
    data, (x, y) = _mocked(name, size=16)
    assert data.kind in (kind, "mixed") and len(data) == 12
    assert {task_name: data.task(task_name).kind for task_name in tasks} == tasks
    for task in data.tasks:
        task.check_labels(y[task.name])
    for values in x.values():
        assert len(values) == 12 and np.isfinite(values).all()
    if "mask" in tasks:
        assert y["mask"].shape == (12, 16, 16, 1)


def test_every_adapter_is_tried():
    names = {name if name in ADAPTERS else name.split("/")[0] for name in CASES}
    assert names | {"cifar100"} == set(ADAPTERS)


@pytest.mark.large
def test_our_own_scenes_are_prepared_and_read_back(tmp_path):
    data = mtl.data.from_tfds(
        "mtl_keras/fashion_scenes", split="validation", size=40, data_dir=str(tmp_path)
    )
    assert len(data) == 1000 and data.task("mask").num_classes == 1
    ours = mtl.data.fashion_scenes("validation", 64, shuffle=False)
    images = np.concatenate([x for x, _ in ours.as_numpy_iterator()])
    items = np.concatenate([y["item"] for _, y in ours.as_numpy_iterator()])
    boxes = np.concatenate([y["box"] for _, y in ours.as_numpy_iterator()])
    masks = np.concatenate([y["mask"] for _, y in ours.as_numpy_iterator()])
    x, y = data.arrays()
    # TFDS shuffles rows as it writes them: match them by their pictures.
    row_of_image = {
        np.rint(image * 255).astype(int).tobytes(): row for row, image in enumerate(images)
    }
    rows = [row_of_image[np.rint(image * 255).astype(int).tobytes()] for image in x["image"]]
    assert sorted(rows) == list(range(1000))
    np.testing.assert_array_equal(y["item"].ravel(), items[rows])
    np.testing.assert_allclose(y["box"], boxes[rows], atol=1e-6)
    np.testing.assert_array_equal(y["mask"], masks[rows])


def test_boxes_turn_and_masks_begin_at_zero():
    with tfds.testing.mock_data(num_examples=6):
        data = mtl.data.from_tfds(
            "oxford_iiit_pet", {"mask": "segmentation_mask", "head": "head_bbox"}, size=8
        )
        masks, boxes = data.labels("mask"), data.labels("head")
    for row, mask in zip(_rows("oxford_iiit_pet", "segmentation_mask", 6), masks, strict=True):
        raw = row["segmentation_mask"][..., 0].astype(int)
        # The middle of each cell of 8 x 8.
        picked = raw[np.ix_(*[((np.arange(8) + 0.5) * n / 8).astype(int) for n in raw.shape])]
        expected = np.where((picked >= 1) & (picked <= 3), picked - 1, -1)
        np.testing.assert_array_equal(mask[..., 0], expected)
    # TFDS knows the names of these classes without its files.
    breeds = mtl.tasks.Classification("breed", 37)
    with tfds.testing.mock_data(num_examples=3):
        pets = mtl.data.from_tfds("oxford_iiit_pet", {"kind": "species", breeds: "label"}, size=8)
    assert pets.task("kind").num_classes == 2 and len(pets.labels("breed")) == 3
    for row, box in zip(_rows("oxford_iiit_pet", "head_bbox", 6), boxes, strict=True):
        top, left, bottom, right = row["head_bbox"]
        if bottom > top and right > left:
            np.testing.assert_allclose(box, [left, top, right, bottom])
        else:
            assert np.isnan(box).all()


@pytest.mark.parametrize(
    ("name", "tasks", "words"),
    [
        ("cifar1000", {"label": "label"}, "has no data set 'cifar1000'"),
        ("cifar100", {"fine": "labels"}, "Did you mean 'label'"),
        ("mnist", None, "needs `tasks`"),
        ("caltech_birds2010", {"mask": "segmentation_mask"}, "can't be guessed.*Segmentation"),
    ],
)
def test_what_can_not_be_loaded_is_refused(name, tasks, words):
    with tfds.testing.mock_data(num_examples=2), pytest.raises(mtl.data.DataError, match=words):
        mtl.data.from_tfds(name, tasks)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(mtl.data.DataError, match=r'pip install "mtl_keras\[tfds\]"'):
        mtl.data.from_tfds("cifar100")
