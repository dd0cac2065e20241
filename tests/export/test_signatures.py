"""One file, several ways to call it; a backbone and its heads in files of their own."""

import numpy as np
import pytest
from helpers import large_but

import mtl_keras as mtl
from mtl_keras.graph import split
from mtl_keras.runtime import flatbuffer


@pytest.mark.large
@pytest.mark.parametrize("quantization", large_but((None,), [None, "dynamic", "int8"]))
def test_one_head_or_the_features_once_and_heads_from_them(trained, tmp_path, quantization):
    from ai_edge_litert.interpreter import Interpreter

    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "all.tflite", quantization, calibration=x, signatures="all")
    file = mtl.export.TFLiteModel(tmp_path / "all.tflite")
    heads = ["kind", "box", "mask"]
    expected = [
        "serving_default",
        "features",
        *(f"{h}_from_features" for h in heads),
        *(f"predict_{h}" for h in heads),
    ]
    assert sorted(file.signatures) == sorted(expected) and file.signatures[0] == "serving_default"
    whole = file.run({"image": x[:8]})
    features = file.run({"image": x[:8]}, "features")
    assert list(features) == model.representation
    tolerance = 1e-5 if quantization in (None, "dynamic") else 0.05
    for head in heads:
        alone = file.run({"image": x[:8]}, f"predict_{head}")
        assert list(alone) == [head]
        np.testing.assert_allclose(alone[head], whole[head], atol=tolerance)
        takes = file._runner(f"{head}_from_features").get_input_details()
        onward = file.run({name: features[name] for name in takes}, f"{head}_from_features")
        # All of them do as well: a head leaves alone what others need.
        np.testing.assert_array_equal(
            file.run(features, f"{head}_from_features")[head], onward[head]
        )
        np.testing.assert_allclose(onward[head], whole[head], atol=2 * tolerance)
    # Clients without signatures run the first graph, and see its heads in the tasks' order.
    assert [
        d["name"] for d in Interpreter(str(tmp_path / "all.tflite")).get_output_details()
    ] == heads
    assert file.predict({"image": x[:2]}, "predict_kind")["kind"][0].keys() == {
        "label",
        "probability",
    }


@pytest.mark.large
def test_weights_are_stored_once_also_in_int8(tmp_path):
    from helpers import image_data, image_model

    model, (x, _) = image_model(widths=(64, 128)), image_data()
    reports = {
        s: mtl.export.tflite(model, tmp_path / "m.tflite", "int8", x, signatures=s)
        for s in ("default", "heads")
    }
    alone, several = reports["default"], reports["heads"]
    assert several.size < 1.4 * alone.size and alone.single_size is None
    assert several.single_size == pytest.approx(alone.size, rel=0.02)
    assert several.to_dict()["single_signature_bytes"] == several.single_size


@pytest.mark.large
@pytest.mark.parametrize("kept", [["box"], ["kind", "box", "mask"]])
def test_heads_in_float_leave_the_trunk_in_int8_in_every_signature(tmp_path, kept):
    """In `predict_box` everything leads to the box alone; the trunk is shared all the same."""
    from helpers import image_data, image_model

    model, (x, _) = image_model(widths=(64, 128)), image_data()
    options = {"quantization": "int8", "calibration": x, "keep_float": kept}
    path = tmp_path / "m.tflite"
    report = mtl.export.tflite(model, path, signatures="all", **options)
    assert report.size < 1.4 * report.single_size
    assert report.single_size == pytest.approx(
        mtl.export.tflite(model, path, **options).size, rel=0.02
    )
    assert report.single_size < 0.6 * mtl.export.tflite(model, path).size


@pytest.mark.large
def test_a_file_can_be_left_with_its_first_signature(tmp_path):
    """Loops refer to graphs of their own, which stay with it."""
    tasks = [mtl.tasks.Classification("kind", num_classes=3), mtl.tasks.Regression("cost")]
    model = mtl.builders.hard_sharing(
        (7,), tasks, backbone="lstm", backbone_options={"vocabulary_size": 20, "units": 6}
    )
    mtl.export.tflite(model, tmp_path / "m.tflite", signatures="heads")
    (tmp_path / "n.tflite").write_bytes(
        flatbuffer.first_alone((tmp_path / "m.tflite").read_bytes())
    )
    both = [mtl.export.TFLiteModel(tmp_path / f"{name}.tflite") for name in "mn"]
    x = {next(iter(both[0].inputs)): np.arange(14).reshape(2, 7).astype("int32")}
    a, b = (file.run(x) for file in both)
    assert both[1].signatures == ["serving_default"] and all(
        np.array_equal(a[name], b[name]) for name in a
    )


def test_signatures_that_a_file_lacks_are_named(trained, exported):
    path, _ = exported(quantization=None)
    with pytest.raises(ValueError, match=r"Unknown signature 'predict_kind'.*serving_default"):
        mtl.export.TFLiteModel(path).run({"image": trained[1]}, "predict_kind")


@pytest.mark.large
def test_a_model_of_several_streams_has_no_features(tmp_path):
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3, hidden=0),
        mtl.tasks.Regression("cost", hidden=0),
    ]
    model = mtl.builders.cross_stitch(
        (6,), tasks, backbone="mlp", backbone_options={"widths": (8, 8)}
    )
    with pytest.raises(
        ValueError, match="names no representation that its heads share.*signatures='heads'"
    ):
        mtl.export.tflite(model, tmp_path / "m.tflite", signatures="all")
    with pytest.raises(ValueError, match="names no representation"):
        mtl.export.split(model, tmp_path / "parts")
    mtl.export.tflite(model, tmp_path / "m.tflite", signatures="heads")
    assert mtl.export.TFLiteModel(tmp_path / "m.tflite").signatures == [
        "serving_default",
        "predict_cost",
        "predict_kind",
    ]
    assert not (tmp_path / "parts").exists()


@pytest.mark.large
def test_saved_models_have_the_same_signatures(trained, tmp_path):
    import tensorflow as tf

    model, x, _ = trained
    mtl.export.saved_model(model, tmp_path / "all")
    signatures = tf.saved_model.load(str(tmp_path / "all")).signatures
    features = signatures["features"](image=tf.constant(x[:5]))
    whole = signatures["serving_default"](image=tf.constant(x[:5]))
    for head in ("kind", "box", "mask"):
        np.testing.assert_allclose(
            signatures[f"predict_{head}"](image=tf.constant(x[:5]))[head], whole[head], atol=1e-6
        )
        takes = signatures[f"{head}_from_features"].structured_input_signature[1]
        onward = signatures[f"{head}_from_features"](**{name: features[name] for name in takes})
        np.testing.assert_allclose(onward[head], whole[head], atol=1e-5)
    mtl.export.saved_model(model, tmp_path / "one", signatures="default")
    assert set(tf.saved_model.load(str(tmp_path / "one")).signatures) == {"serving_default"}


@pytest.mark.parametrize("quantization", large_but((None,), [None, "int8"]))
def test_a_backbone_and_its_heads_in_files_of_their_own(trained, tmp_path, quantization):
    model, x, _ = trained
    reports = mtl.export.split(
        model, tmp_path / "parts", quantization, calibration=x, tasks=["kind", "mask"]
    )
    assert list(reports) == ["backbone", "kind", "mask"]
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        "backbone.tflite",
        "kind.tflite",
        "mask.tflite",
    ]
    features = mtl.export.TFLiteModel(tmp_path / "parts" / "backbone.tflite").run({"image": x})
    expected = model.predict(x, verbose=0)
    for head in ("kind", "mask"):
        file = mtl.export.TFLiteModel(tmp_path / "parts" / f"{head}.tflite")
        found = file.run({name: features[name] for name in file.inputs})
        np.testing.assert_allclose(
            found[head], expected[head], atol=1e-5 if quantization is None else 0.1
        )
        assert [task["name"] for task in file.tasks] == [head]
    assert mtl.export.TFLiteModel(tmp_path / "parts" / "backbone.tflite").tasks == []


@pytest.mark.large
def test_a_split_that_fails_leaves_what_was_there(trained, tmp_path):
    model, x, _ = trained
    mtl.export.split(model, tmp_path / "parts")
    before = {p.name: p.read_bytes() for p in (tmp_path / "parts").iterdir()}
    with pytest.raises(ValueError, match="not finite"):
        mtl.export.split(model, tmp_path / "parts", "int8", calibration=np.full_like(x, np.nan))
    assert {p.name: p.read_bytes() for p in (tmp_path / "parts").iterdir()} == before


@pytest.mark.large
@pytest.mark.parametrize("feed", large_but((True,), [True, False]))
def test_heads_at_several_depths_start_from_the_features_of_this_model(tmp_path, feed):
    """A backbone's layers were called once before they were fed with predictions: that call is not
    the model's."""
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3, hidden=0),
        mtl.tasks.Regression("cost", hidden=0),
    ]
    model = mtl.builders.hierarchical(
        (6,),
        tasks,
        backbone="mlp",
        backbone_options={"widths": (8, 7)},
        task_stages={"kind": "stage1"},
        feed_predictions=feed,
    )
    x = np.random.default_rng(0).standard_normal((16, 6)).astype("float32")
    trunk, heads, more = split(model, model.representation)
    whole = model.predict(x, verbose=0)
    parts = heads.predict(list(trunk.predict(x, verbose=0).values()), verbose=0)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-6)
    mtl.export.tflite(model, tmp_path / "m.tflite", samples=x, signatures="all")
    assert (
        not more
        and "cost_from_features" in mtl.export.TFLiteModel(tmp_path / "m.tflite").signatures
    )
