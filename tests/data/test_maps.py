"""Masks, depth maps and normals as files, against arrays."""

import numpy as np
import pytest
from PIL import Image

import mtl_keras as mtl
from mtl_keras.data import DataError
from mtl_keras.data.folders import maps

T = mtl.tasks


def _save(folder, name, values, mode=None, palette=None):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, values)
        return path
    picture = (
        Image.fromarray(values, mode) if mode is None else Image.fromarray(values).convert(mode)
    )
    if palette is not None:
        picture = Image.fromarray(values, "P")
        picture.putpalette(palette)
    picture.save(path)
    return path


CLASSES = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], "uint8")


@pytest.mark.parametrize("palette", [None, [0, 0, 0, 128, 0, 0, 0, 128, 0] + [9] * 759])
def test_gray_and_palette_masks_hold_class_numbers_and_255_is_no_label(tmp_path, palette):
    path = _save(tmp_path, "mask.png", CLASSES, palette=palette)
    reader = maps.MapReader(T.Segmentation("mask", 3), (2, 4))
    reader.survey([path])
    expected = np.where(CLASSES == 255, -1, CLASSES.astype(int))[..., None]
    assert (reader(path) == expected).all() and reader(path).dtype == np.int32
    # Twice as large: each pixel twice.
    large = maps.MapReader(T.Segmentation("mask", 3), (4, 8))(path)
    assert (large[..., 0] == expected[..., 0].repeat(2, 0).repeat(2, 1)).all()


def test_silhouettes_are_drawn_with_1_or_with_255(tmp_path):
    task = T.Segmentation("mask")
    with_255 = _save(tmp_path, "a.png", np.array([[0, 255]], "uint8"))
    with_1 = _save(tmp_path, "b.png", np.array([[0, 1, 255]], "uint8"))
    bits = _save(tmp_path, "c.png", np.array([[0, 255]], "uint8"), "1")
    soft = _save(tmp_path, "d.png", np.array([[0, 51, 255]], "uint8"))
    empty = _save(tmp_path, "e.png", np.array([[0, 0]], "uint8"))
    for path, expected in (
        (with_255, [0, 1]),
        (with_1, [0, 1, -1]),
        (bits, [0, 1]),
        (soft, [0, 0.2, 1]),
    ):
        reader = maps.MapReader(task, (1, len(expected)))
        # Empty masks before it say nothing.
        reader.survey([empty] * 40 + [path])
        np.testing.assert_allclose(reader(path)[0, :, 0], expected)
    reader = maps.MapReader(task, (1, 3))
    reader.survey([with_255])
    with pytest.raises(ValueError, match=r"b\.png: the mask of task 'mask' holds 1"):
        reader(with_1)


def test_masks_that_do_not_fit_are_refused_by_name(tmp_path):
    from_one = _save(tmp_path, "one.png", np.array([[1, 2, 3]], "uint8"))
    color = _save(tmp_path, "color.png", np.zeros((2, 2, 3), "uint8"))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for path, message in (
        (from_one, r"one\.png: the mask of task 'mask' holds 3; .* They seem to count from 1\."),
        (color, r"color\.png is a mask in color. Give `mask_values`"),
        (text, r"text\.png is no picture"),
    ):
        with pytest.raises(DataError, match=message):
            maps.MapReader(T.Segmentation("mask", 3), (1, 3)).survey([path])


def test_values_and_colors_are_named_as_classes(tmp_path):
    task = T.Segmentation("mask", 2, labels=["ground", "pet"])
    trimap = _save(tmp_path, "trimap.png", np.array([[1, 2, 3]], "uint8"))
    reader = maps.MapReader(task, (1, 3), {1: "pet", 2: "ground", 3: -1})
    assert reader(trimap)[0, :, 0].tolist() == [1, 0, -1]
    colors = np.array([[[255, 0, 0], [0, 0, 0], [0, 0, 255]]], "uint8")
    color = _save(tmp_path, "color.png", colors)
    values = {(255, 0, 0): 1, (0, 0, 0): 0}
    with pytest.raises(ValueError, match=r"holds \(0, 0, 255\), which `mask_values` does not name"):
        maps.MapReader(task, (1, 3), values)(color)
    reader = maps.MapReader(task, (1, 3), {**values, (0, 0, 255): -1})
    assert reader(color)[0, :, 0].tolist() == [1, 0, -1]
    with pytest.raises(DataError, match="there is no label 'cat'. Labels: ground, pet"):
        maps.MapReader(task, (1, 3), {1: "cat"})
    with pytest.raises(DataError, match="classes from 0 to 1, or -1 for no label. Received: 7"):
        maps.MapReader(task, (1, 3), {1: 7})


def test_depth_is_in_the_tasks_unit_and_zero_is_no_depth(tmp_path):
    millimeters = np.array([[0, 1500], [65535, 20]], "uint16")
    expected = np.array([[np.nan, 1.5], [65.535, 0.02]])
    reader = maps.MapReader(T.Depth("depth", unit="m"), (2, 2), scale=0.001)
    np.testing.assert_allclose(
        reader(_save(tmp_path, "depth.png", millimeters))[..., 0], expected, rtol=1e-6
    )
    meters = _save(tmp_path, "depth.npy", (millimeters / 1000).astype("float32"))
    reader = maps.MapReader(T.Depth("depth"), (2, 2))
    np.testing.assert_allclose(reader(meters)[..., 0], expected, rtol=1e-6)
    color = _save(tmp_path, "color.png", np.zeros((2, 2, 3), "uint8"))
    with pytest.raises(ValueError, match=r"color\.png: a depth map should have one channel"):
        reader(color)


def test_normals_are_bytes_around_the_middle(tmp_path):
    colors = np.array([[[255, 128, 128], [0, 0, 0], [128, 128, 255]]], "uint8")
    labels = maps.MapReader(T.Normals("normals"), (1, 3))(_save(tmp_path, "n.png", colors))
    np.testing.assert_allclose(labels[0, 0], [1, 0, 0], atol=0.01)
    assert np.isnan(labels[0, 1]).all()
    np.testing.assert_allclose(labels[0, 2], [0, 0, 1], atol=0.01)


def test_patterns_name_a_picture_s_files_and_tell_masks_from_pictures():
    assert maps.expand_pattern("m/{stem}.png", "cats/1.jpg") == "m/1.png"
    assert maps.expand_pattern("m/{path}_x.png", "cats/1.jpg") == "m/cats/1_x.png"
    assert maps.expand_pattern("{folder}/m/{name}", "cats/1.jpg") == "cats/m/1.jpg"
    files = ["cats/1.jpg", "m/1.png", "m/cats/2.png"]
    assert maps.pattern_files("m/{path}.png", files) == {"m/1.png", "m/cats/2.png"}
    with pytest.raises(DataError, match="should be a path with"):
        maps.check_pattern("mask", "masks/1.png")
    with pytest.raises(DataError, match="should be a path with"):
        maps.check_pattern("mask", "masks/{id}.png")
