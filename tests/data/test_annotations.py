"""COCO and Pascal VOC files against labels that are computed by hand, and masks against
independent decoders."""

import numpy as np
import pytest
from annotation_files import IMAGES, write_coco, write_voc

import mtl_keras as mtl
from mtl_keras.data import DataError
from mtl_keras.data.annotations import labels as annotation_labels
from mtl_keras.data.annotations import rasters

T = mtl.tasks


@pytest.fixture
def coco(tmp_path):
    return mtl.data.read_coco(write_coco(tmp_path / "coco.json"))


def _labels(annotations, task, aspect, files, size=(4, 4)):
    part = annotation_labels.annotation_field(task, aspect, annotations, files, size)
    return part.load(np.arange(len(files)))


FILES = ["a.png", "sub/b.png", "empty.png", None]


def test_coco_boxes_are_parts_of_the_picture_and_categories_are_numbered_by_their_ids(coco):
    assert coco.categories == ["cat", "dog"]
    task = T.Detection("objects", 2)
    labels = _labels(coco, task, "boxes", FILES)
    assert labels.shape == (4, 2, 5)
    np.testing.assert_allclose(
        labels[0], [[0.25, 0.25, 0.75, 0.75, 1], [0, 0, 0.1, 0.1, 0]], rtol=1e-6
    )
    # A crowd is no object of its own; a picture without objects has a label, one that the file
    # does not list has none.
    np.testing.assert_allclose(labels[1], [[0, 0, 0.5, 1, 0], [0, 0, 0, 0, -1]])
    assert (labels[2, :, 4] == -1).all() and np.isnan(labels[3]).all()
    task.check_labels(labels)


def test_coco_labels_of_every_other_kind(coco):
    box = _labels(coco, T.BoundingBox("box"), "box", FILES)
    np.testing.assert_allclose(box[:2], [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.5, 1]])
    assert np.isnan(box[2:]).all()
    points = _labels(coco, T.Keypoints("pose", 2, labels=["nose", "tail"]), "points", FILES)
    np.testing.assert_allclose(points[0, 0], [0.3, 0.3])
    assert np.isnan(points[0, 1]).all() and np.isnan(points[1:]).all()
    tags = _labels(coco, T.MultiLabel("tags", 2), "categories", FILES)
    assert tags.tolist() == [[1, 1], [1, 0], [0, 0], [-1, -1]]
    assert _labels(coco, T.Binary("dog"), "dog", FILES).tolist() == [1, 0, 0, -1]
    count = _labels(coco, T.Regression("count"), "count", FILES)
    assert count[:3].tolist() == [2, 1, 0] and np.isnan(count[3])
    one_class = _labels(coco, T.Classification("kind", 2), "category", FILES[1:])
    assert one_class.tolist() == [0, -1, -1]
    with pytest.raises(DataError, match=r"a\.png holds objects of several categories \(cat, dog\)"):
        _labels(coco, T.Classification("kind", 2), "category", FILES)


def test_coco_masks_hold_a_category_per_pixel(coco):
    task = T.Segmentation("mask", 3, labels=["background", "cat", "dog"])
    labels = _labels(coco, task, "masks", FILES, (20, 40))
    expected = np.zeros((20, 40), int)
    expected[5:15, 10:30] = 2
    expected[:2, :4] = 1  # an object without an outline covers its box
    assert (labels[0, ..., 0] == expected).all()
    assert (labels[3] == -1).all()
    # The crowd of the same category covers more than the object.
    silhouette = _labels(coco, T.Segmentation("any"), "silhouette", FILES, (10, 10))
    assert silhouette[1, ..., 0].sum() == 9 * 9 + 5
    # Without a background class, what nothing covers has no label.
    bare = T.Segmentation("mask", 2)
    labels = _labels(coco, bare, "masks", ["a.png"], (20, 40))
    assert set(np.unique(labels)) == {-1, 0, 1}


def test_names_of_the_task_choose_categories(coco):
    only_dogs = T.Detection("objects", 1, labels=["dog"])
    labels = _labels(coco, only_dogs, "boxes", FILES)
    assert labels[0, :, 4].tolist() == [0] and labels[1, :, 4].tolist() == [-1]
    with pytest.raises(DataError, match="the label 'bird', which is no category"):
        _labels(coco, T.Detection("objects", 1, labels=["bird"]), "boxes", FILES)
    with pytest.raises(DataError, match="has 3 classes, and .* has 2 categories: cat, dog"):
        _labels(coco, T.Detection("objects", 3), "boxes", FILES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": []}, "annotation 1 has category_id 70, which the file does not list"),
        ({"images": IMAGES[1:]}, "annotation 1 has image_id 11"),
        ({"images": [{"id": 1}]}, "its list 'images' should hold entries with id, file_name"),
        ({"annotations": 3}, "its list 'annotations'"),
    ],
)
def test_a_broken_coco_file_is_refused_by_name(tmp_path, changes, message):
    path = write_coco(tmp_path / "coco.json", **changes)
    with pytest.raises(DataError, match=rf"coco\.json.*{message}"):
        mtl.data.read_coco(path)


def test_bad_boxes_are_problems_of_their_picture(tmp_path):
    annotations = [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [4, 4, 20, 2]},
        {"id": 2, "image_id": 6, "category_id": 3, "bbox": [4, 4, 0, 2]},
        {"id": 3, "image_id": 11, "category_id": 3, "bbox": [-0.5, 0, 40.9, 20]},
    ]
    coco = mtl.data.read_coco(write_coco(tmp_path / "c.json", annotations=annotations))
    assert list(coco.problems) == ["sub/b.png"]
    assert "annotation 1: the box (0.4, 0.4, 2.4, 0.6)" in coco.problems["sub/b.png"]
    assert coco.remarks == ["1 boxes without width or height are left out."]
    assert coco.pictures["a.png"].objects[0].box == (0, 0, 1, 1)


# ------------------------------------------------------------------ Pascal VOC
def test_voc_boxes_count_from_one_and_hold_their_last_pixel(tmp_path):
    write_voc(
        tmp_path / "1.xml",
        r"C:\photos\1.jpg",
        [("dog", (1, 1, 50, 25), False), ("cat", (51, 26, 100, 50), True)],
    )
    write_voc(tmp_path / "2.xml", "", [("cat", (11, 6, 20, 10), False)])
    voc = mtl.data.read_voc(tmp_path)
    assert voc.categories == ["cat", "dog"] and list(voc.pictures) == ["1.jpg", "2"]
    assert [item.box for item in voc.pictures["1.jpg"].objects] == [(0, 0, 0.5, 0.5)]
    np.testing.assert_allclose(voc.pictures["2"].objects[0].box, (0.1, 0.1, 0.2, 0.2))
    assert voc.remarks == ["1 objects marked as difficult are left out."]
    assert mtl.data.read_voc(tmp_path, difficult=True).objects == 3


def test_voc_boxes_of_tools_that_count_from_zero(tmp_path):
    write_voc(tmp_path / "1.xml", "1.jpg", [("dog", (0, 0, 50, 25), False)])
    write_voc(tmp_path / "2.xml", "2.jpg", [("dog", (10, 5, 60, 25), False)])
    voc = mtl.data.read_voc(tmp_path)
    assert voc.pictures["2.jpg"].objects[0].box == (0.1, 0.1, 0.6, 0.5)


def test_a_broken_voc_file_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="should hold Pascal VOC files"):
        mtl.data.read_voc(tmp_path)
    (tmp_path / "1.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"1\.xml can't be read as XML"):
        mtl.data.read_voc(tmp_path)
    write_voc(tmp_path / "1.xml", "1.jpg", [("dog", ("x", 1, 2, 3), False)])
    with pytest.raises(DataError, match="object 'dog' should have a box with xmin"):
        mtl.data.read_voc(tmp_path)
    write_voc(tmp_path / "1.xml", "1.jpg", [("dog", (1, 1, 2, 300), False)])
    assert "outside the picture" in mtl.data.read_voc(tmp_path).problems["1.jpg"]
    write_voc(tmp_path / "1.xml", "1.jpg", [], size=None)
    with pytest.raises(DataError, match="does not say the picture's width"):
        mtl.data.read_voc(tmp_path)


# ------------------------------------------------------------------ masks
def encode_rle(mask):
    """COCO's run lengths as text, straight from the format's description."""
    flat = mask.T.reshape(-1).astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, len(flat)]).tolist()
    lengths = [0, *lengths] if flat[0] else lengths
    letters = []
    for position, length in enumerate(lengths):
        value = length - lengths[position - 2] if position > 2 else length
        more = True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            letters.append(chr(48 + group + 32 * more))
    return lengths, "".join(letters)


def test_run_lengths_are_decoded_as_an_independent_encoder_wrote_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((rng.integers(1, 40), rng.integers(1, 40))) < rng.random()
        lengths, text = encode_rle(mask)
        for counts in (lengths, text, text.encode()):
            assert (rasters.decode_rle(counts, mask.shape) == mask).all()
    # Long runs need several letters each.
    mask = np.zeros((300, 200), bool)
    mask[50:250, 20:180] = True
    assert (rasters.decode_rle(encode_rle(mask)[1], mask.shape) == mask).all()
    with pytest.raises(ValueError, match="add up to the picture's 12 pixels. Received: 5"):
        rasters.decode_rle([2, 3], (3, 4))


def _is_inside(point, corners):
    """The even-odd rule, edge by edge."""
    x, y = point
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def test_polygons_cover_the_pixels_whose_center_they_hold():
    rng = np.random.default_rng(1)
    for corners in (3, 4, 7):
        polygon = rng.uniform(-2, 14, (corners, 2))
        mask = rasters.fill_polygon(polygon, (10, 12), (15, 9))
        scaled = polygon * [9 / 12, 15 / 10]
        expected = [
            [_is_inside((column + 0.5, row + 0.5), scaled) for column in range(9)]
            for row in range(15)
        ]
        assert (mask == expected).all()


def test_maps_are_resized_by_the_nearest_pixel():
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 255, (7, 11)).astype("uint8")
    for size in ((14, 22), (3, 5), (20, 9)):
        pillow = Image.fromarray(values).resize(size[::-1], Image.Resampling.NEAREST)
        assert (rasters.resize_nearest(values, size) == np.asarray(pillow)).all()
