"""What a file says of itself in the standard words, read by the numbers of the schema.

`benchmarks/edge_clients.py` hands such files to MediaPipe.
"""

import zipfile

import numpy as np
import pytest
from flatbuffers import number_types, table
from helpers import image_data, image_model

import mtl_keras as mtl
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.metadata import STANDARD


class Read:
    """A table of a flatbuffer; fields by their numbers in metadata_schema.fbs."""

    def __init__(self, data, place=None):
        whole = table.Table(data, 0)
        self.table = table.Table(
            data, whole.Get(number_types.UOffsetTFlags, 0) if place is None else place
        )

    def _at(self, field):
        return self.table.Offset(4 + 2 * field)

    def has(self, field):
        return bool(self._at(field))

    def text(self, field):
        return (
            self.table.String(self._at(field) + self.table.Pos).decode()
            if self._at(field)
            else None
        )

    def number(self, field, flags=number_types.Uint8Flags):
        return self.table.Get(flags, self._at(field) + self.table.Pos) if self._at(field) else 0

    def one(self, field):
        return Read(self.table.Bytes, self.table.Indirect(self._at(field) + self.table.Pos))

    def union(self, field):
        found = table.Table(self.table.Bytes, 0)
        self.table.Union(found, self._at(field))
        return Read(self.table.Bytes, found.Pos)

    def many(self, field):
        start, count = self.table.Vector(self._at(field)), self.table.VectorLen(self._at(field))
        return [Read(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def numbers(self, field, flags=number_types.Float32Flags):
        return list(self.table.GetVectorAsNumpy(flags, self._at(field)))


def standard(path):
    model = flatbuffer.read(path.read_bytes())
    entries = [entry for entry in model.metadata if flatbuffer.text(entry.name) == STANDARD]
    assert len(entries) == 1
    data = bytes(bytearray(model.buffers[entries[0].buffer].data))
    assert data[4:8] == b"M001"
    found = Read(data)
    (main,) = found.many(3)
    return found, main.many(2), main.many(3)


def labels(path, tensor):
    (file,) = tensor.many(6)
    assert file.number(2) == 2  # TENSOR_AXIS_LABELS
    return zipfile.ZipFile(path).read(file.text(0)).decode().splitlines()


def test_pictures_boxes_and_labels_in_standard_words(tmp_path):
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3, labels=["cat", "dög", "a\nfox"]),
        mtl.tasks.BoundingBox("box"),
        mtl.tasks.MultiLabel("tags", num_labels=2, threshold=0.25),
        mtl.tasks.Binary("new", threshold=0.75),
        mtl.tasks.Regression("age"),
    ]
    encoder = mtl.data.ImageEncoder((16, 16), 3, name="image")
    model = mtl.builders.hard_sharing((16, 16, 3), tasks, encoder=encoder)
    path = tmp_path / "m.tflite"
    mtl.export.tflite(model, path)
    found, (image,), heads = standard(path)
    assert (
        found.text(0) == model.name
        and "kind, box, tags, new, age" in found.text(1)
        and found.text(7) == "1.0.0"
    )
    assert image.text(0) == "image" and image.one(3).number(0) == 2  # ImageProperties
    assert image.one(3).union(1).number(0) == 1  # RGB
    (unit,) = image.many(4)
    assert unit.number(0) == 1  # NormalizationOptions
    mean, std = (unit.union(1).numbers(i)[0] for i in (0, 1))
    assert mean == 0 and std == pytest.approx(255)
    assert [head.text(0) for head in heads] == model.task_names
    kind, box, tags, new, age = heads
    assert labels(path, kind) == ["cat", "dög", "a fox"] and labels(path, tags) == ["0", "1"]
    assert (
        box.one(3).number(0) == 3 and box.one(3).union(1).number(1) == 1
    )  # BoundingBoxProperties, BOUNDARIES
    assert box.one(3).union(1).numbers(0, number_types.Uint32Flags) == [0, 1, 2, 3]
    for head, threshold in ((tags, 0.25), (new, 0.75)):
        (unit,) = head.many(4)
        assert (
            unit.number(0) == 3 and unit.union(1).number(0, number_types.Float32Flags) == threshold
        )
    assert age.one(3).number(0) == 1 and age.text(1).startswith("regression")
    assert sorted(zipfile.ZipFile(path).namelist()) == ["kind_labels.txt", "tags_labels.txt"]


@pytest.mark.large
def test_pixels_follow_the_calibration_where_there_is_no_encoder(tmp_path):
    model = image_model()
    x = image_data()[0] * 3 - 1
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x)
    (unit,) = standard(tmp_path / "m.tflite")[1][0].many(4)
    mean, std = (unit.union(1).numbers(i)[0] for i in (0, 1))
    np.testing.assert_allclose(
        [(0 - mean) / std, (255 - mean) / std], [x.min(), x.max()], rtol=1e-4
    )
    # No range, no encoder: nothing is claimed.
    mtl.export.tflite(model, tmp_path / "n.tflite")
    assert not standard(tmp_path / "n.tflite")[1][0].has(4)
    raw = mtl.export.with_raw_images(model, (20, 24))
    mtl.export.tflite(raw, tmp_path / "r.tflite", decode=["kind"])
    _, (image,), heads = standard(tmp_path / "r.tflite")
    (unit,) = image.many(4)
    assert [unit.union(1).numbers(i)[0] for i in (0, 1)] == [0, 1]
    assert heads[-1].text(0) == "kind_decoded" and heads[-1].text(1) == "kind, decoded"


@pytest.mark.large
def test_files_with_several_signatures_and_of_a_split(tmp_path):
    model = image_model()
    mtl.export.tflite(model, tmp_path / "a.tflite", signatures="all")
    assert [head.text(0) for head in standard(tmp_path / "a.tflite")[2]] == model.task_names
    assert [
        task["name"] for task in mtl.export.TFLiteModel(tmp_path / "a.tflite").tasks
    ] == model.task_names
    assert zipfile.ZipFile(tmp_path / "a.tflite").infolist()[0].date_time[0] == 1980
    mtl.export.split(model, tmp_path / "parts")
    assert labels(
        tmp_path / "parts/kind.tflite", standard(tmp_path / "parts/kind.tflite")[2][0]
    ) == ["0", "1", "2"]
    assert not zipfile.is_zipfile(tmp_path / "parts/backbone.tflite")
