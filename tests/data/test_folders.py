"""Folders of files with labels of every kind, against labels computed by hand."""

import numpy as np
import pytest
import soundfile
from annotation_files import write_coco, write_voc
from PIL import Image

import mtl_keras as mtl
from mtl_keras.data import DataError, from_folder

T = mtl.tasks
RNG = np.random.default_rng(0)
TWO = T.Classification("kind", 2)
NAMED = T.Classification("kind", 2, labels=["a", "b"])


def save_picture(path, size=(12, 16), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (*size, 3)).astype("uint8")).save(path, **options)
    return path


def save_table(path, *lines):
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes of two pictures, 12 x 16 pixels."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png"):
        save_picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


def _one_of_all(data, task):
    return data.labels(task).reshape(len(data), -1).tolist()


# ------------------------------------------------------------------ class folders
def test_class_folders_and_pixels_that_the_device_sees_too(photos):
    data = from_folder(photos, size=(8, 10))
    assert data.kind == "image" and list(data.row_names) == [
        "cat/1.png",
        "cat/2.png",
        "dog/1.png",
        "dog/3.png",
    ]
    assert data.tasks[0].labels == ["cat", "dog"]
    assert data.labels("label").tolist() == [0, 0, 1, 1]
    expected = data.encoder.encode([photos / name for name in data.row_names])
    np.testing.assert_array_equal(data.arrays()[0]["image"], expected)
    x, y = next(iter(data.batch(4)))
    np.testing.assert_array_equal(x["image"], expected)
    assert y["label"].numpy().tolist() == [0, 0, 1, 1]
    assert dict(data.inputs) == {"image": (8, 10, 3)} and data.inputs.backbone == "small_cnn"
    assert isinstance(data.encoder, mtl.data.ImageEncoder) and data.encoder.size == (8, 10)


def test_levels_of_folders_are_tasks_of_their_own(tmp_path):
    for name in ("pets/cat/1.png", "pets/dog/1.png", "farm/cow/1.png"):
        save_picture(tmp_path / name)
    data = from_folder(tmp_path, tasks={"place": "folder_1", "animal": "folder_2"}, size=8)
    assert data.labels("place").tolist() == [0, 1, 1]
    assert data.labels("animal").tolist() == [1, 0, 2]
    named = T.Classification("animal", 3, labels=["dog", "cow", "cat"])
    data = from_folder(tmp_path, tasks={named: "folder"}, size=8, group="folder_1")
    assert data.labels("animal").tolist() == [1, 2, 0]
    assert data.groups.tolist() == ["farm", "pets", "pets"]


def test_an_empty_class_folder_is_named(photos):
    (photos / "bird").mkdir()
    with pytest.raises(DataError, match=r"1 class folders of .* hold no file: bird"):
        from_folder(photos)
    data = from_folder(photos, on_bad="skip")
    assert len(data) == 4 and "hold no file: bird" in str(data.describe())


# ------------------------------------------------------------------ tables
TABLE = (
    "picture,kind,weight,tags,is_round,is_red",
    "cat/1.png,a,1.5,red|round,1,0",
    "cat/2,,2.5,round,0,1",
    "photos/dog/1.png,b,,,,1",
    "3,b,4,red;round,1,1",
)


def test_a_table_names_files_with_or_without_folder_and_ending(photos):
    labels = save_table(photos.parent / "labels.csv", *TABLE)
    tasks = {
        T.Classification("kind", 2): "kind",
        T.Regression("weight"): "weight",
        T.MultiLabel("tags", 2, labels=["round", "red"]): "tags",
        T.MultiLabel("looks", 2): ["is_round", "is_red"],
        "folder": "folder",
    }
    data = from_folder(photos, labels, tasks, size=8)
    assert list(data.row_names) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/3.png"]
    assert data.labels("kind").tolist() == [0, -1, 1, 1]
    assert data.task("kind").labels == ["a", "b"]
    np.testing.assert_array_equal(data.labels("weight").ravel(), [1.5, 2.5, np.nan, 4])
    assert data.labels("tags")[[0, 1, 3]].tolist() == [[1, 1], [1, 0], [1, 1]]
    assert np.isnan(data.labels("tags")[2]).all()
    np.testing.assert_array_equal(data.labels("looks"), [[1, 0], [0, 1], [np.nan, 1], [1, 1]])
    assert data.labels("folder").tolist() == [0, 0, 1, 1]
    # Beside the pictures, and as a frame.
    save_table(photos / "inside.csv", *TABLE)
    assert len(from_folder(photos, "inside.csv", tasks, size=8)) == 4


def test_tasks_are_guessed_for_each_column_of_a_frame(photos):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "file": ["cat/1", "cat/2", "dog/1", "dog/3"],
            "kind": ["x", None, "y", "y"],
            "size": [0.5, 1.25, float("nan"), 4.75],
            "tags": ["a|b", "a", None, "b"],
            "xmin": [0, 0.5, 0.1, float("nan")],
            "ymin": [0, 0.5, 0.1, float("nan")],
            "xmax": [1, 0.75, 0.2, float("nan")],
            "ymax": [1, 1.0, 0.9, float("nan")],
        }
    )
    data = from_folder(photos, frame, size=8)
    kinds = {task.name: task.kind for task in data.tasks}
    assert kinds == {
        "box": "bounding_box",
        "kind": "classification",
        "size": "regression",
        "tags": "multi_label",
    }
    np.testing.assert_allclose(data.labels("box")[:2], [[0, 0, 1, 1], [0.5, 0.5, 0.75, 1]])
    assert np.isnan(data.labels("box")[3]).all() and data.labels("kind").tolist() == [0, -1, 1, 1]


def test_groups_times_and_weights_are_columns(photos):
    labels = save_table(
        photos / "labels.csv",
        "file,y,who,day,weight",
        "cat/1,0,ann,2024-01-03,1",
        "cat/2,1,,2024-01-01,2",
        "dog/1,1,bob,2024-01-02,0.5",
        "dog/3,0,ann,2024-01-04,1",
    )
    data = from_folder(
        photos, labels, [T.Binary("y")], size=8, group="who", time="day", weight="weight"
    )
    assert len(set(data.groups)) == 3 and data.groups[0] == data.groups[3] == "ann"
    assert np.argsort(data.times).tolist() == [1, 2, 0, 3]
    assert data.arrays()[2].tolist() == [1, 2, 0.5, 1]
    with pytest.raises(DataError, match="column for `group`: 'whom'.*who"):
        from_folder(photos, labels, [T.Binary("y")], group="whom")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["cat/1,a", "cat/9,b"], {}, r"1 rows of labels\.csv have no file in .*labels\.csv:3 \(cat/9\)"),
        (["cat/1,a", "cat/1,b", "cat/2,a"], {}, r"1 files have several rows in .*: cat/1 \(labels\.csv:2, labels\.csv:3\)"),
        (["1,a", "cat/2,b"], {}, r"The name '1' is that of several files: cat/1\.png, dog/1\.png"),
        (["x,a", "y,b"], {}, r"No column of labels\.csv names the folder's files, such as cat/1\.png"),
        (["x,a", "y,b"], {"file": "picture"}, "column in labels.csv: 'picture'.*file"),
        (["cat/1,a", "cat/2,c"], {"tasks": [NAMED]}, r"labels\.csv:3: task 'kind'.*'c'"),
        (["cat/1,1", "cat/2,2"], {"tasks": [TWO]}, r"labels\.csv:3: classes of task 'kind' seem to be numbered from 1"),
        (["cat/1,1", "cat/2,x"], {"tasks": [T.Regression("kind")]}, r"labels\.csv:3: .*should be a number\. Received: 'x'"),
        (["cat/1,1", "cat/2,2"], {"tasks": [T.Binary("kin")]}, "for task: 'kin'.*kind"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_by_row(photos, lines, options, message):
    labels = save_table(photos / "labels.csv", "file,kind", *lines)
    with pytest.raises(DataError, match=message):
        from_folder(photos, labels, **{"tasks": {"kind": "kind"}, "size": 8, **options})


def test_rows_without_a_file_are_skipped_and_files_without_a_row_are_counted(photos):
    labels = save_table(photos / "labels.csv", "file,kind", "cat/1,a", "cat/2,b", "cat/9,b")
    data = from_folder(photos, labels, {"kind": "kind"}, size=8, on_bad="skip")
    notes = str(data.describe())
    assert len(data) == 2 and "1 rows of labels.csv have no file" in notes
    assert (
        "2 of 4 files have no label in labels.csv and are left out: dog/1.png, dog/3.png" in notes
    )


# ------------------------------------------------------------------ boxes and points
BOX = [2, 3, 10, 9]  # left, top, right, bottom of a picture of 16 x 12 pixels
FRACTIONS = [2 / 16, 3 / 12, 10 / 16, 9 / 12]


@pytest.mark.parametrize(
    ("names", "numbers", "box_format"),
    [
        ("box_left box_top box_right box_bottom", FRACTIONS, None),
        ("xmin ymin xmax ymax", BOX, "ltrb_pixels"),
        ("x y width height", [2 / 16, 3 / 12, 0.5, 0.5], None),
        ("x y w h", [2, 3, 8, 6], "xywh_pixels"),
        ("a b c d", [6, 6, 8, 6], "cxcywh_pixels"),
        ("cx cy w h", [6 / 16, 0.5, 0.5, 0.5], None),
        ("box", ["2 3 10 9"], "ltrb_pixels"),
        ("box", ["[2; 3; 10; 9]"], "ltrb_pixels"),
    ],
)
def test_boxes_in_every_format_are_the_same_box(photos, names, numbers, box_format):
    labels = save_table(
        photos / "labels.csv",
        ",".join(["file", *names.split()]),
        ",".join(["cat/1", *map(str, numbers)]),
        "cat/2" + "," * len(numbers),
    )
    columns = names.split() if names.startswith("a") else None
    tasks = {T.BoundingBox("box"): columns} if columns else [T.BoundingBox("box")]
    data = from_folder(photos, labels, tasks, size=8, box_format=box_format)
    np.testing.assert_allclose(data.labels("box")[0], FRACTIONS, rtol=1e-6)
    assert np.isnan(data.labels("box")[1]).all()


@pytest.mark.parametrize(
    ("numbers", "box_format", "message"),
    [
        (BOX, None, r"labels\.csv:2, task 'box': the box \(2, 3, 10, 9\).*`box_format='ltrb_pixels'`"),
        ([0.5, 0.5, 0.4, 0.25], None, "right < left or bottom < top. All boxes fit `box_format='xywh'`"),
        ([10, 9, 5, 2], "ltrb_pixels", "All boxes fit `box_format='xywh_pixels'`"),
        ([2, 3, 40, 9], "ltrb_pixels", "lies outside the picture"),
        ([0.1, 0.1, 0.2, ""], None, "the box has empty cells"),
        (BOX, "pascal", "`box_format` should be one of ltrb, xywh, cxcywh, ltrb_pixels"),
    ],
)  # fmt: skip
def test_bad_boxes_are_refused_with_their_row_and_a_mend(photos, numbers, box_format, message):
    labels = save_table(
        photos / "labels.csv", "file,xmin,ymin,xmax,ymax", ",".join(["cat/1", *map(str, numbers)])
    )
    with pytest.raises(DataError, match=message):
        from_folder(photos, labels, [T.BoundingBox("box")], size=8, box_format=box_format)


def test_detection_takes_a_row_per_object(photos):
    labels = save_table(
        photos / "labels.csv",
        "file,xmin,ymin,xmax,ymax,class",
        "cat/1,2,3,10,9,cat",
        "cat/1,0,0,16,12,dog",
        "dog/1,,,,,",
    )
    task = T.Detection("things", 2, labels=["cat", "dog"])
    data = from_folder(photos, labels, [task], size=8, box_format="ltrb_pixels")
    np.testing.assert_allclose(
        data.labels("things"),
        [[[*FRACTIONS, 0], [0, 0, 1, 1, 1]], [[0, 0, 0, 0, -1], [0, 0, 0, 0, -1]]],
        rtol=1e-6,
    )
    guessed = from_folder(
        photos,
        labels,
        {"things": ["xmin", "ymin", "xmax", "ymax", "class"]},
        size=8,
        box_format="ltrb_pixels",
    )
    assert guessed.tasks[0].labels == ["cat", "dog"]
    save_table(labels, "file,xmin,ymin,xmax,ymax,class", "cat/1,2,3,10,9,cow")
    with pytest.raises(DataError, match=r"labels\.csv:2: task 'things' has 2 classes .*'cow'"):
        from_folder(photos, labels, [task], size=8, box_format="ltrb_pixels")


def test_points_are_columns_of_x_and_y(photos):
    labels = save_table(
        photos / "labels.csv",
        "file,nose_x,nose_y,tail_x,tail_y",
        "cat/1,0.5,0.25,,",
        "cat/2,0,1,0.75,0.5",
    )
    task = T.Keypoints("points", 2, labels=["nose", "tail"])
    labels_of = from_folder(photos, labels, [task], size=8).labels("points")
    np.testing.assert_array_equal(labels_of[0], [[0.5, 0.25], [np.nan, np.nan]])
    np.testing.assert_array_equal(labels_of[1], [[0, 1], [0.75, 0.5]])
    save_table(labels, "file,points", "cat/1,8 3 16 12")
    pixels = from_folder(photos, labels, [task], size=8, box_format="ltrb_pixels")
    np.testing.assert_allclose(pixels.labels("points")[0], [[0.5, 0.25], [1, 1]])
    with pytest.raises(
        DataError, match=r"labels\.csv:2, task 'points': a point lies outside.*pixels"
    ):
        from_folder(photos, labels, [task], size=8)


# ------------------------------------------------------------------ annotations and maps
def test_coco_and_voc_files_of_a_folder(photos):
    images = [
        {"id": 1, "file_name": "cat/1.png", "width": 16, "height": 12},
        # A picture that was made smaller has the same proportions.
        {"id": 2, "file_name": "dog/3.png", "width": 160, "height": 120},
    ]
    annotations = [{"id": 1, "image_id": 1, "category_id": 70, "bbox": [2, 3, 8, 6]}]
    path = write_coco(photos.parent / "coco.json", images=images, annotations=annotations)
    data = from_folder(photos, path, {"things": "boxes", "dog": "dog", "mask": "masks"}, size=8)
    assert list(data.row_names) == ["cat/1.png", "dog/3.png"]
    np.testing.assert_allclose(data.labels("things")[0], [[*FRACTIONS, 1]], rtol=1e-6)
    assert data.labels("dog").tolist() == [1, 0] and data.task("mask").num_classes == 3
    assert data.labels("mask").shape == (2, 8, 8, 1)
    assert [task.name for task in from_folder(photos, path, size=8).tasks] == ["objects", "points"]

    turned = write_coco(
        photos.parent / "turned.json",
        images=[{"id": 1, "file_name": "cat/1.png", "width": 12, "height": 16}],
        annotations=[],
    )
    with pytest.raises(DataError, match=r"cat/1\.png: the annotations are those of .* 12 x 16"):
        from_folder(photos, turned, size=8)

    (photos / "xml").mkdir()
    for name, animal in (("cat/2", "cat"), ("dog/3", "dog")):
        file = f"{name.replace('/', '_')}.xml"
        write_voc(photos / "xml" / file, "", [(animal, (3, 4, 10, 9), False)], size=None)
        (photos / "xml" / file).rename(photos / "xml" / f"{name[-1]}.xml")
    data = from_folder(photos, "xml", [T.BoundingBox("box")], size=8)
    assert list(data.row_names) == ["cat/2.png", "dog/3.png"]
    np.testing.assert_allclose(data.labels("box"), [FRACTIONS] * 2, rtol=1e-6)


def test_masks_beside_pictures_are_no_pictures_and_may_be_absent(photos):
    mask = np.zeros((12, 16), "uint8")
    mask[3:9, 2:10] = 1
    for name in ("cat/1", "dog/3"):
        path = photos / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    masks = {"mask": "masks/{path}.png"}
    task = T.Segmentation("mask", 2)
    data = from_folder(photos, tasks=[task], masks=masks, size=(12, 16))
    assert len(data) == 4
    assert (data.labels("mask")[0, ..., 0] == mask).all() and (data.labels("mask")[1] == -1).all()
    description = data.describe().tasks[0]
    assert (description.rows, description.share) == (2, 0.5)
    # A picture that the table doesn't know is there for its mask.
    labels = save_table(photos.parent / "labels.csv", "file,y", "cat/1,0", "dog/1,1")
    data = from_folder(photos, labels, [T.Binary("y"), task], masks=masks, size=(12, 16))
    assert list(data.row_names) == ["cat/1.png", "dog/1.png", "dog/3.png"]
    np.testing.assert_array_equal(data.labels("y").ravel(), [0, 1, np.nan])
    assert [(m >= 0).all() for m in data.labels("mask")] == [True, False, True]
    assert [task.kind for task in from_folder(photos, masks=masks, size=8).tasks] == [
        "classification",
        "segmentation",
    ]
    # A column may name the files.
    save_table(labels, "file,seg", "cat/1,masks/cat/1.png", "dog/1,")
    by_column = from_folder(photos, labels, {task: "seg"}, file="file", size=(12, 16))
    assert (by_column.labels("mask")[0, ..., 0] == mask).all()
    with pytest.raises(DataError, match="no picture has a file 'mask/{stem}.png'"):
        from_folder(photos, tasks=[task], masks={"mask": "mask/{stem}.png"})
    with pytest.raises(DataError, match="task in `masks` or `mask_values`: 'maks'"):
        from_folder(photos, tasks={"label": "folder"}, masks={"maks": "masks/{path}.png"})


# ------------------------------------------------------------------ pictures
def test_every_form_of_picture_becomes_what_the_encoder_makes(tmp_path):
    folder = tmp_path / "forms"
    folder.mkdir()
    color = RNG.integers(0, 255, (12, 16, 3)).astype("uint8")
    picture = Image.fromarray(color)
    for ending in ("png", "bmp", "gif", "tif", "webp", "jpg"):
        picture.save(folder / f"color.{ending}")
    picture.convert("L").save(folder / "gray.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(color[..., 0].astype("uint16") * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    labels = save_table(
        tmp_path / "labels.csv", "file,y", *(f"{p.name},{i % 2}" for i, p in enumerate(sorted(folder.iterdir())))
    )  # fmt: skip
    data = from_folder(folder, labels, [T.Binary("y")], size=(16, 12))
    assert len(data) == 12
    expected = data.encoder.encode([folder / name for name in data.row_names])
    np.testing.assert_array_equal(next(iter(data.batch(12)))[0]["image"], expected)
    by_name = dict(zip(data.row_names, expected, strict=True))
    deep, gray = by_name["deep.png"], color[..., 0] / 255
    resized = data.encoder.encode([gray])[0]
    np.testing.assert_allclose(deep, resized, atol=1e-6)
    # The camera's turn is undone: the tall picture stands.
    stands = np.rot90(np.asarray(Image.open(folder / "turned.jpg")), -1) / 255
    np.testing.assert_allclose(by_name["turned.jpg"], stands, atol=1e-6)


def test_damaged_pictures_are_named_or_skipped_and_counted(photos):
    save_picture(photos / "cat/cut.jpg", size=(64, 64))
    cut = photos / "cat/cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-600])
    (photos / "dog/text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cat/cut\.jpg: .*damaged.* 2 files are bad in all"):
        from_folder(photos, size=8)
    data = from_folder(photos, size=8, on_bad="skip")
    assert len(data) == 4 and "2 files are bad and left out, such as cat/cut.jpg" in str(
        data.describe()
    )
    # Damage in the middle shows when the picture is read: it is named then.
    cut.unlink()
    (photos / "dog/text.png").unlink()
    whole = from_folder(photos, size=8)
    path = photos / "cat/2.png"
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cat/2\.png can't be read: .*on_bad"):
        whole.arrays()
    assert len(from_folder(photos, size=8, on_bad="skip")) == 3


def test_copies_have_one_fingerprint(photos):
    (photos / "dog/copy.png").write_bytes((photos / "cat/1.png").read_bytes())
    data = from_folder(photos, size=8)
    prints = dict(zip(data.row_names, data.fingerprints, strict=True))
    assert prints["dog/copy.png"] == prints["cat/1.png"] and len(set(prints.values())) == 4
    assert "dog/copy.png" in str(data.describe())


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_cache_reads_each_picture_once(photos, tmp_path, where, monkeypatch):
    cache = "memory" if where == "memory" else tmp_path / "cache"
    data = from_folder(photos, size=8, cache=cache)
    expected = data.encoder.encode([photos / name for name in data.row_names])
    np.testing.assert_array_equal(data.arrays()[0]["image"], expected)

    def refuse(*_):
        raise AssertionError("read twice")

    with monkeypatch.context() as patch:
        patch.setattr(mtl.data.ImageEncoder, "read_pixels", refuse)
        again = data if where == "memory" else from_folder(photos, size=8, cache=cache)
        np.testing.assert_array_equal(again.arrays()[0]["image"], expected)
        np.testing.assert_array_equal(next(iter(again.batch(4)))[0]["image"], expected)
    # Another size, or a changed file, is read anew.
    assert from_folder(photos, size=4, cache=cache).arrays()[0]["image"].shape == (4, 4, 4, 3)
    save_picture(photos / "cat/1.png", size=(13, 16))
    new = from_folder(photos, size=8, cache=cache).arrays()[0]["image"]
    assert (new[0] != expected[0]).any() and (new[1:] == expected[1:]).all()


def test_a_folder_without_labels_or_files_is_refused(tmp_path, photos):
    with pytest.raises(DataError, match="There is no folder"):
        from_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures, sounds or texts"):
        from_folder(tmp_path / "empty")
    save_picture(tmp_path / "flat/1.png")
    with pytest.raises(DataError, match="has no sub-folders that could be classes"):
        from_folder(tmp_path / "flat")
    with pytest.raises(DataError, match="kind of files: 'picture'.*image"):
        from_folder(photos, kind="picture")
    with pytest.raises(DataError, match="`on_bad` should be"):
        from_folder(photos, on_bad="ignore")
    with pytest.raises(DataError, match=r"There are no labels nothing\.csv"):
        from_folder(photos, "nothing.csv")
    soundfile.write(photos / "cat/1.wav", np.zeros(100), 8000)
    with pytest.raises(DataError, match="holds 4 pictures and 1 sounds. Say which with `kind`"):
        from_folder(photos)
    assert len(from_folder(photos, kind="image")) == 4


# ------------------------------------------------------------------ sounds and texts
def test_sounds_of_a_folder_are_waveforms_of_one_length(tmp_path):
    for number, kind in enumerate(("bark", "meow")):
        for length in (400, 800):
            path = tmp_path / kind / f"{length}.{'wav' if number else 'flac'}"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, RNG.normal(0, 0.1, (length, 2)), 8000)
    data = from_folder(tmp_path, sample_rate=8000)
    assert data.kind == "sound" and dict(data.inputs) == {"waveform": (800,)}
    assert data.inputs.backbone == "log_mel_cnn" and data.inputs.backbone_options == {
        "sample_rate": 8000,
        "hop": 80,
        "window": 240,
    }
    expected = data.encoder.encode([tmp_path / name for name in data.row_names])
    np.testing.assert_array_equal(next(iter(data.batch(4)))[0]["waveform"], expected)
    assert data.labels("label").tolist() == [0, 0, 1, 1]
    short = from_folder(tmp_path, sample_rate=8000, seconds=0.05)
    assert short.arrays()[0]["waveform"].shape == (4, 400)
    assert "2 sounds are longer than 0.05 s and are cut; the longest has 0.1 s" in str(
        short.describe()
    )
    (tmp_path / "bark/text.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"bark/text\.wav: .*not a sound"):
        from_folder(tmp_path, sample_rate=8000)
    assert len(from_folder(tmp_path, sample_rate=8000, on_bad="skip")) == 4


def test_texts_of_a_folder(tmp_path):
    for number, kind in enumerate(("bad", "good") * 3):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{number}.txt").write_text(f"A {kind} film. Nummer {number}: schön")
    data = from_folder(tmp_path)
    assert data.kind == "text" and data.labels("label").tolist() == [0, 0, 0, 1, 1, 1]
    text = (tmp_path / data.row_names[0]).read_text()
    np.testing.assert_array_equal(data.arrays()[0]["tokens"][:1], data.encoder.encode([text]))
    (tmp_path / "bad/9.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"bad/9\.txt: it is no text in UTF-8"):
        from_folder(tmp_path)
