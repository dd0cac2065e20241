"""Answers that the file decodes itself."""

import keras
import numpy as np
import pytest
from helpers import large_but, table_model

import mtl_keras as mtl
from mtl_keras.export import ExportError
from mtl_keras.export import decoded as inside
from mtl_keras.runtime import decoding

TASKS = [
    mtl.tasks.Classification("kind", num_classes=4, hidden=0),
    mtl.tasks.Binary("sold", hidden=0, threshold=0.4),
    mtl.tasks.MultiLabel("tags", num_labels=3, hidden=0),
    mtl.tasks.Ordinal("size", num_classes=4, hidden=0),
    mtl.tasks.Regression("count", log=True, low=0, high=2, hidden=0),
    mtl.tasks.BoundingBox("box", hidden=4, channels=2),
    mtl.tasks.Segmentation("mask", channels=2),
    mtl.tasks.Segmentation("parts", num_classes=3, channels=2),
    mtl.tasks.Keypoints("joints", num_points=2, channels=2),
]
NAMES = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    model = mtl.builders.hard_sharing(
        (16, 24, 1), TASKS, backbone_options={"widths": (4, 8), "depth": 1}
    )
    for variable in model.trainable_variables:
        # Answers that differ between rows.
        variable.assign(2 * variable)
    bright = np.linspace(0.1, 4, 24).reshape(-1, 1, 1, 1)
    return model, (bright * np.random.default_rng(0).random((24, 16, 24, 1))).astype("float32")


@pytest.mark.parametrize("quantization", large_but((None,), [None, "int8"]))
def test_the_file_says_what_its_heads_mean(network, tmp_path, quantization):
    model, x = network
    mtl.export.tflite(model, tmp_path / "m.tflite", quantization, x, samples=x, decode=NAMES[::-1])
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    assert list(file.outputs) == [*NAMES, *(f"{name}_decoded" for name in NAMES)]
    raw = file.run({"image": x})
    found = {name: raw[f"{name}_decoded"] for name in NAMES}
    for name in ("kind", "sold", "tags", "size", "mask", "parts"):
        assert found[name].dtype == np.int32
    answers = {task.name: decoding.decode(task.facts(), raw[task.name]) for task in TASKS}
    assert found["kind"].tolist() == [answer["label"] for answer in answers["kind"]]
    assert found["size"].tolist() == [answer["label"] for answer in answers["size"]]
    assert np.array_equal(found["parts"], answers["parts"])
    same = {"sold": [a["label"] for a in answers["sold"]], "mask": answers["mask"]}
    same["tags"] = [
        [i in [t["label"] for t in answer] for i in range(3)] for answer in answers["tags"]
    ]
    for name, expected in same.items():
        # A threshold may fall between two values of an int8 tensor.
        assert np.mean(found[name] != np.asarray(expected)) <= (
            0 if quantization is None else 0.02
        ), name
    np.testing.assert_allclose(
        found["count"][:, 0], answers["count"], atol=1e-4 if quantization is None else 0.1
    )
    np.testing.assert_allclose(
        found["box"], raw["box"] * [24, 16, 24, 16], atol=1e-4 if quantization is None else 0.5
    )
    np.testing.assert_allclose(
        found["joints"], raw["joints"] * [24, 16], atol=1e-4 if quantization is None else 0.5
    )
    assert len(set(found["kind"].tolist())) > 1 or len(np.unique(found["parts"])) > 1


def test_a_file_whose_answers_are_not_its_heads_is_refused(network):
    model, x = network
    raw = model.predict(x, verbose=0)["kind"]
    inside.agree(model, "kind", raw, raw.argmax(-1), exact=True)
    with pytest.raises(ExportError, match="'kind_decoded' is not what head 'kind' says"):
        inside.agree(model, "kind", raw, (raw.argmax(-1) + 1) % 4, exact=False)


def test_errors(network, tmp_path):
    model, x = network
    with pytest.raises(ValueError, match=r"Unknown task in `decode`: 'kinds'.*kind"):
        mtl.export.tflite(model, tmp_path / "m.tflite", decode=["kinds"])
    with pytest.raises(ValueError, match=r"decode=\['kind'\]"):
        mtl.export.tflite(model, tmp_path / "m.tflite", decode="kind")
    with pytest.raises(ValueError, match="io='float32'"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", x, decode=["kind"], io="int8")
    depth = mtl.builders.hard_sharing(
        (16, 16, 1),
        [mtl.tasks.Depth("far", channels=2)],
        backbone_options={"widths": (4,), "depth": 1},
    )
    with pytest.raises(ValueError, match=r"'far' \(depth\) is decoded outside"):
        mtl.export.tflite(depth, tmp_path / "m.tflite", decode=["far"])
    assert not list(tmp_path.iterdir())
    assert inside.check(table_model(), ["sold", "cost"]) == ["cost", "sold"]
