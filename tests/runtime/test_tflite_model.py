"""Files that tell what they are, run where there is neither Keras nor TensorFlow."""

import json

import numpy as np
import pytest
from helpers import image_data

import mtl_keras as mtl
from mtl_keras.export import TFLiteModel


def _file(path, **options):
    tasks = [
        mtl.tasks.Classification("kind", 3, labels=["cup", "hat", "shoe"], hidden=4),
        mtl.tasks.Regression("age", unit="years", mean=30.0, scale=10.0, low=0, high=99, hidden=0),
        mtl.tasks.BoundingBox("box", hidden=4, channels=2),
        mtl.tasks.MultiLabel("marks", 2, labels=["old", "new"], threshold=0.1, hidden=0),
    ]
    encoder = mtl.data.ImageEncoder((16, 16), channels=1)
    sizes = {"widths": (4, 8), "depth": 1}
    model = mtl.builders.hard_sharing((16, 16, 1), tasks, backbone_options=sizes, encoder=encoder)
    x, _ = image_data(8)
    mtl.export.tflite(model, path, calibration=x, **options)
    return model, x


@pytest.mark.parametrize(
    "options", [{}, {"quantization": "int8", "io": "int8"}], ids=["float", "whole int8"]
)
def test_a_file_decodes_as_its_tasks_do(tmp_path, options):
    model, x = _file(tmp_path / "m.tflite", **options)
    runner = TFLiteModel(tmp_path / "m.tflite")
    assert [task["name"] for task in runner.tasks] == model.task_names == list(runner.outputs)
    raw = runner.run({"image": x})
    assert list(raw) == model.task_names and all(
        value.dtype == np.float32 for value in raw.values()
    )
    assert runner.predict({"image": x}) == model.decode(raw)
    assert runner.predict({"image": x})["kind"][0]["label"] in ("cup", "hat", "shoe")
    picture = np.full((20, 20), 128, "uint8")
    np.testing.assert_array_equal(runner.encoder.encode([picture]), model.encoder.encode([picture]))
    facts = runner.describe()
    assert facts["mtl_keras"] == mtl.__version__ and list(facts["inputs"]) == ["image"]
    assert facts["inputs"]["image"]["range"] == [pytest.approx(x.min()), pytest.approx(x.max())]
    assert facts["quantization"] == options.get("quantization", "float32")
    json.dumps(facts)


def test_it_runs_and_decodes_without_keras_and_tensorflow(tmp_path, without):
    _, x = _file(tmp_path / "m.tflite", quantization="int8")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import json
import numpy as np
import mtl_keras
from mtl_keras.export import TFLiteModel
model = TFLiteModel({str(tmp_path / "m.tflite")!r})
print(json.dumps(model.predict({{'image': np.load({str(tmp_path / "x.npy")!r})}})))
assert mtl_keras.export.TFLiteModel is TFLiteModel
"""
    done = without(["tensorflow", "keras", "torch"], code)
    assert done.returncode == 0, done.stderr[-2000:]
    here = TFLiteModel(tmp_path / "m.tflite").predict({"image": x})
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


def test_a_file_of_others_runs_with_raw_outputs(tmp_path):
    import keras
    import tensorflow as tf

    inputs = keras.Input((3,), name="x")
    plain = keras.Model(inputs, {"y": keras.layers.Dense(2, name="y")(inputs)})
    function = tf.function(lambda x: plain(x)).get_concrete_function(
        tf.TensorSpec((1, 3), tf.float32, name="x")
    )
    module = tf.Module()
    module.held = [v.value for v in plain.variables]
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": function})
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    (tmp_path / "m.tflite").write_bytes(content)
    runner = TFLiteModel(tmp_path / "m.tflite")
    assert runner.tasks == [] and runner.encoder is None
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(
        runner.predict({"x": x})["y"], plain.predict(x, verbose=0)["y"], rtol=1e-5
    )


@pytest.mark.large
@pytest.mark.parametrize("key", ["predict", None])
def test_files_without_our_signature_run_and_are_inspected(tmp_path, key):
    """Of others: a signature by another name, or none at all."""
    from mtl_keras.runtime import flatbuffer

    _, x = _file(tmp_path / "m.tflite")
    ours = TFLiteModel(tmp_path / "m.tflite")
    content = flatbuffer.read((tmp_path / "m.tflite").read_bytes())
    content.metadata = []
    if key is None:
        content.signatureDefs = []
        for graph in content.subgraphs:
            for i in (*graph.inputs, *graph.outputs):
                graph.tensors[i].name = b"serving_default_" + bytes(graph.tensors[i].name) + b":0"
    else:
        content.signatureDefs[0].signatureKey = key.encode()
    (tmp_path / "other.tflite").write_bytes(flatbuffer.write(content))
    other = TFLiteModel(tmp_path / "other.tflite")
    assert other.signatures == ([] if key is None else [key])
    told = other.describe()
    assert (
        set(told["inputs"]) == {"image"}
        and set(told["outputs"]) == set(ours.outputs)
        and told["operators"]
    )
    found, expected = other.run({"image": x}), ours.run({"image": x})
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(ValueError, match="Unknown signature 'serving_default'"):
        other.run({"image": x}, "serving_default")
    assert (
        mtl.export.benchmark(tmp_path / "other.tflite", runs=1, rounds=1).rows[0]["median_ms"] > 0
    )


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    """A float file that tests read and do not change."""
    path = tmp_path_factory.mktemp("plain") / "m.tflite"
    _file(path)
    return path


@pytest.mark.parametrize("cut", [b"", b"not a model at all", None])
def test_foreign_and_truncated_files_are_one_clear_error(plain_file, tmp_path, cut):
    whole = plain_file.read_bytes()
    (tmp_path / "bad.tflite").write_bytes(whole[: len(whole) // 3] if cut is None else cut)
    with pytest.raises(mtl.export.ExportError, match=r"bad.tflite"):
        TFLiteModel(tmp_path / "bad.tflite")
    with pytest.raises(mtl.export.ExportError, match="can't be read"):
        TFLiteModel(tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ({}, "Input 'image' is missing"),
        ({"imagee": np.zeros((1, 16, 16, 1))}, "Did you mean 'image'"),
        ({"image": np.zeros((1, 8, 16, 1))}, r"has shape \(1, 8, 16, 1\)"),
        ({"image": np.zeros((0, 16, 16, 1))}, "at least one"),
        ({"image": np.full((1, 16, 16, 1), "a")}, "dtype"),
    ],
)
def test_unfit_inputs_are_refused(plain_file, x, words):
    with pytest.raises(ValueError, match=words):
        TFLiteModel(plain_file).run(x)


def test_every_kind_of_task_has_a_decoder_or_stays_raw():
    from mtl_keras.runtime import decoding

    kinds = {
        getattr(mtl.tasks, name).kind
        for name in mtl.tasks.__all__
        if hasattr(getattr(mtl.tasks, name), "kind")
    }
    assert kinds - set(decoding.DECODERS) == {"task", "normals", "embedding"}
    assert len(decoding.decode({"kind": "of tomorrow"}, np.zeros((3, 2)))) == 3
