"""Ranges that are measured, set right, and only then used; heads and layers in float."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.export import flatbuffer, same_scale


def _coupled(link):
    """Two heads, of which one is made of the other by an operator that has one scale for all its tensors."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    h = keras.layers.Dense(4, name="h")(x)
    if link == "select":
        y = keras.ops.where(h > 0, h, keras.ops.zeros_like(h))
    elif link == "maximum":
        y = keras.ops.maximum(h, 0.5)
    else:
        y = keras.ops.concatenate([h, 1000.0 * keras.layers.Dense(2, name="g")(x)], axis=-1)
    return keras.Model(x, {"y": y, "z": h})


@pytest.mark.parametrize("link", ["select", "concat", "maximum"])
@pytest.mark.parametrize("io", ["float32", "int8"])
def test_no_head_gets_another_heads_scale(tmp_path, link, io):
    """Alone, the converter gives `z` the range of `y`: it loses its negative half, or all."""
    model = _coupled(link)
    x = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, samples=x, io=io)
    z = next(head for head in report.heads if head.name == "z")
    assert z.largest < 0.03 * z.spread and z.clipped == 0
    expected = model.predict(x, verbose=0)
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"x": x})
    assert np.abs(found["z"] - expected["z"]).max() < 0.03 * np.ptp(expected["z"])
    assert np.abs(found["y"] - expected["y"]).max() < 0.03 * np.ptp(expected["y"])


def test_the_range_of_a_regression_head_covers_all_calibration_outputs(tmp_path):
    """Moving averages of ranges, another quantizer's default, cut off what few rows reach."""
    keras.utils.set_random_seed(1)
    model = mtl.builders.hard_sharing((6,), [mtl.tasks.Regression("cost", hidden=4)], backbone="mlp")
    x = np.random.default_rng(0).standard_normal((200, 6)).astype("float32")
    x[77] *= 8
    y = model.predict(x, verbose=0)["cost"]
    head = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, samples=x).heads[0]
    assert head.low <= y.min() + 2 * head.scale and head.high >= y.max() - 2 * head.scale
    assert head.high - head.low < 1.1 * (max(y.max(), 0) - min(y.min(), 0))
    assert head.scale == pytest.approx((head.high - head.low) / 255)


def _float_tensors(path):
    """Names of the operators' outputs that are float, without softmaxes, which stay in float at the end of a head."""
    model = flatbuffer.read(path.read_bytes())
    graph = model.subgraphs[0]
    return [graph.tensors[op.outputs[0]].name.decode() for kind, op in same_scale.operators_of(model, graph)
            if graph.tensors[op.outputs[0]].type == 0 and kind not in ("DEQUANTIZE", "SOFTMAX")]  # fmt: skip


def test_chosen_heads_stay_in_float_and_are_nearer_to_keras(trained, tmp_path):
    model, x, _ = trained
    whole = mtl.export.tflite(model, tmp_path / "whole.tflite", "int8", calibration=x)
    mixed = mtl.export.tflite(model, tmp_path / "mixed.tflite", "int8", calibration=x, keep_float=["box", "mask"])
    names = _float_tensors(tmp_path / "mixed.tflite")
    assert names and all("box" in name or "mask" in name for name in names)
    assert {"box", "mask"} <= {name.rsplit("/", 1)[-1] for name in names} | set(names)
    assert not _float_tensors(tmp_path / "whole.tflite")
    errors = [{head.name: head.mean for head in report.heads} for report in (whole, mixed)]
    assert errors[1]["box"] < errors[0]["box"] and errors[1]["mask"] < errors[0]["mask"]
    assert {head.name: head.scale is None for head in mixed.heads} == {"kind": True, "box": True, "mask": True}
    assert {head.name: head.scale is None for head in whole.heads} == {"kind": True, "box": False, "mask": False}
    assert mtl.export.TFLiteModel(tmp_path / "mixed.tflite").facts["in_float"] == ["box", "mask"]


def test_a_chosen_layer_stays_in_float(trained, tmp_path):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, keep_float=["kind_hidden"])
    names = _float_tensors(tmp_path / "m.tflite")
    assert len(names) == 1 and "kind_hidden" in names[0]


def test_layers_whose_names_begin_alike_are_told_apart(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    y = x
    for name in ("dense", "dense_1", "dense_1_1"):
        y = keras.layers.Dense(5, activation="relu", name=name)(y)
    model = keras.Model(x, {"y": keras.layers.Dense(2, name="y")(y)})
    data = np.random.default_rng(0).standard_normal((16, 4)).astype("float32")
    for name in ("dense", "dense_1", "dense_1_1"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=data, keep_float=[name])
        (found,) = _float_tensors(tmp_path / "m.tflite")
        place = ["dense", "dense_1", "dense_1_1"].index(name)
        graph = flatbuffer.read((tmp_path / "m.tflite").read_bytes()).subgraphs[0]
        order = [graph.tensors[op.outputs[0]].name.decode() for op in graph.operators if len(op.inputs) == 3]
        assert order.index(found) == place


def test_a_percentile_narrows_what_a_single_value_would_stretch(tmp_path):
    """One row of a hundred makes an inner tensor a hundred times larger: all others then share a few steps."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    h = keras.layers.Dense(16, activation="relu", name="h")(x)
    model = keras.Model(x, {"y": keras.layers.Dense(1, activation="tanh", name="y")(h)})
    data = np.random.default_rng(0).uniform(-1, 1, (100, 4)).astype("float32")
    spiked = np.concatenate([data, np.full((1, 4), 100.0, "float32")])
    steps = {}
    for percentile in (None, 98.0):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", spiked, data, percentile=percentile)
        graph = flatbuffer.read((tmp_path / "m.tflite").read_bytes()).subgraphs[0]
        (hidden,) = (t for t in graph.tensors if list(t.shape) == [1, 16] and b"Relu" in t.name)
        steps[percentile] = float(hidden.quantization.scale[0])
    assert steps[98.0] < 0.05 * steps[None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep_float": ["bix"]}, "Unknown task or layer in `keep_float`: 'bix'"),
        ({"keep_float": "box"}, r"keep_float=\['box'\]"),
        ({"keep_float": ["box"], "io": "int8"}, "goes with io='float32'"),
        ({"keep_float": ["box"], "quantization": "dynamic"}, "goes with quantization='int8'"),
        ({"percentile": 20}, "between 50 and 100"),
        ({"percentile": 99.0, "signatures": "heads"}, "signatures='default'"),
        ({"signatures": "each"}, "`signatures` is one of"),
        ({"signatures": "heads", "quantization": "int16x8"}, "signatures='default'"),
        ({"batch": 0}, "at least 1"),
        ({"on_drop": "ignore"}, "'raise' or 'warn'"),
        ({"quantization": "auto", "io": "int8", "max_drop": 1.0}, "leave out `io`"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, tmp_path, arguments, words):
    model, x, y = trained
    arguments = {"quantization": "int8", "evaluate": (x, y), **arguments}
    with pytest.raises(ValueError, match=words):
        mtl.export.tflite(model, tmp_path / "m.tflite", calibration=x, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_layer_that_the_converter_merged_away_is_named(trained, tmp_path):
    model, x, _ = trained
    with pytest.raises(mtl.export.ExportError, match="Layer 'image' has no operator of its own"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, keep_float=["image"])


def test_a_file_may_be_written_all_the_same_with_a_warning(trained, tmp_path):
    model, x, y = trained
    dark = {"calibration": 0.3 * x, "samples": x, "evaluate": (x, y)}
    with pytest.warns(UserWarning, match="loses more than allowed on 'kind' accuracy"):
        report = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop=0.01, on_drop="warn", **dark)
    assert (tmp_path / "m.tflite").stat().st_size == report.size
    # Each head its own limit, in its own metric's unit.
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"box": 0.5}, **dark)
    with pytest.raises(mtl.export.ExportError, match=r"'mask' iou .*allowed: 0\.2\)") as error:
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"mask": 0.2}, **dark)
    assert error.value.tasks == ["mask"]
    with pytest.raises(ValueError, match="Unknown task in `max_drop`: 'mast'"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"mast": 0.2}, **dark)


def test_auto_keeps_the_heads_in_float_that_need_it(tmp_path):
    """One unit of a hidden layer is a thousand times larger than the others, and weighs as much less: the same function, of
    which int8, with one scale for all units, loses the others. The other head stays in int8."""
    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Regression("cost", hidden=8), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing((4,), tasks, backbone="mlp", backbone_options={"widths": (16,)})
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (256, 4)).astype("float32")
    y = {"cost": x @ np.array([1.0, -2.0, 0.5, 0.3], "float32"), "sold": (x[:, 0] > 0).astype("int32")}
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=20, verbose=0)
    hidden, linear = model.get_layer("cost_hidden"), model.get_layer("cost_linear")
    (kernel, bias), (onward, shift) = hidden.get_weights(), linear.get_weights()
    factor = np.where(np.arange(8) == np.abs(onward[:, 0] * kernel.max(0)).argmax(), 1000.0, 1.0).astype("float32")
    hidden.set_weights([kernel * factor, bias * factor])
    linear.set_weights([onward / factor[:, None], shift])
    limits = {"cost": 0.05, "sold": 0.05}
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "auto", x, evaluate=(x, y), max_drop=limits)
    assert [step for step, _ in report.refused] == ["int8"] and "'cost'" in report.refused[0][1]
    assert report.format == "TFLite file (int8, cost in float)"
    assert all(head.drop <= limits[head.name] for head in report.heads)


def test_a_batch_on_request(trained, tmp_path):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, batch=4)
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    assert file.inputs["image"]["shape"] == [4, 16, 16, 1] and file.outputs["mask"]["shape"] == [4, 16, 16, 1]
    # Six rows are a batch and a half: rows come back one for one.
    mtl.export.tflite(model, tmp_path / "one.tflite", "int8", calibration=x)
    one = mtl.export.TFLiteModel(tmp_path / "one.tflite").run({"image": x[:6]})
    for name, value in file.run({"image": x[:6]}).items():
        np.testing.assert_allclose(value, one[name], atol=0.02)


def test_a_last_softmax_stays_in_float_where_heads_are_real_numbers(trained, tmp_path):
    """The CPU delegate has no int8 softmax: with one, the file falls into two parts."""
    model, x, _ = trained
    real = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x)
    whole = mtl.export.tflite(model, tmp_path / "n.tflite", "int8", calibration=x, io="int8")
    assert real.partitions == 1
    assert [report.heads[0].scale for report in (real, whole)] == [None, 1 / 256]
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"image": x})["kind"]
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert np.unique(found * 256 % 1).size > 1
