"""Ranges that are measured, set right, and only then used; heads and layers in float."""

import keras
import numpy as np
import pytest
from helpers import large_but

import mtl_keras as mtl
from mtl_keras.export import ladder
from mtl_keras.export.converter import quantization as quantizing
from mtl_keras.export.converter import same_scale
from mtl_keras.export.report import compare
from mtl_keras.runtime import flatbuffer
from mtl_keras.tasks import TaskOutput


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


@pytest.mark.parametrize(
    ("link", "io"),
    [
        ("concat", "float32"),
        *(
            pytest.param(link, io, marks=pytest.mark.large)
            for link in ("select", "concat", "maximum")
            for io in ("float32", "int8")
            if (link, io) != ("concat", "float32")
        ),
    ],
)
def test_no_head_gets_another_heads_scale(tmp_path, link, io):
    """Alone, the converter gives `z` the range of `y`: it loses its negative half, or all."""
    model = _coupled(link)
    x = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", "int8", calibration=x, samples=x, io=io
    )
    z = next(head for head in report.heads if head.name == "z")
    assert z.largest < 0.03 * z.spread and z.clipped == 0
    expected = model.predict(x, verbose=0)
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"x": x})
    assert np.abs(found["z"] - expected["z"]).max() < 0.03 * np.ptp(expected["z"])
    assert np.abs(found["y"] - expected["y"]).max() < 0.03 * np.ptp(expected["y"])


def test_the_range_of_a_regression_head_covers_all_calibration_outputs(tmp_path):
    """Moving averages of ranges, another quantizer's default, cut off what few rows reach."""
    keras.utils.set_random_seed(1)
    model = mtl.builders.hard_sharing(
        (6,), [mtl.tasks.Regression("cost", hidden=4)], backbone="mlp"
    )
    x = np.random.default_rng(0).standard_normal((200, 6)).astype("float32")
    x[77] *= 8
    y = model.predict(x, verbose=0)["cost"]
    head = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, samples=x).heads[
        0
    ]
    assert head.low <= y.min() + 2 * head.scale and head.high >= y.max() - 2 * head.scale
    assert head.high - head.low < 1.1 * (max(y.max(), 0) - min(y.min(), 0))
    assert head.scale == pytest.approx((head.high - head.low) / 255)


def _float_tensors(path):
    """Names of the operators' outputs that are float, without softmaxes, which stay in float at the end of a head."""
    model = flatbuffer.read(path.read_bytes())
    graph = model.subgraphs[0]
    return [graph.tensors[op.outputs[0]].name.decode() for kind, op in same_scale.operators_of(model, graph)
            if graph.tensors[op.outputs[0]].type == 0 and kind not in ("DEQUANTIZE", "SOFTMAX")]  # fmt: skip


def test_chosen_heads_stay_in_float_and_are_nearer_to_keras(trained, exported, tmp_path):
    model, x, _ = trained
    whole_path, whole = exported(quantization="int8")
    mixed = mtl.export.tflite(
        model, tmp_path / "mixed.tflite", "int8", calibration=x, keep_float=["box", "mask"]
    )
    names = _float_tensors(tmp_path / "mixed.tflite")
    assert names and all("box" in name or "mask" in name for name in names)
    assert {"box", "mask"} <= {name.rsplit("/", 1)[-1] for name in names} | set(names)
    assert not _float_tensors(whole_path)
    errors = [{head.name: head.mean for head in report.heads} for report in (whole, mixed)]
    assert errors[1]["box"] < errors[0]["box"] and errors[1]["mask"] < errors[0]["mask"]
    assert {head.name: head.scale is None for head in mixed.heads} == {
        "kind": True,
        "box": True,
        "mask": True,
    }
    assert {head.name: head.scale is None for head in whole.heads} == {
        "kind": True,
        "box": False,
        "mask": False,
    }
    assert mtl.export.TFLiteModel(tmp_path / "mixed.tflite").facts["in_float"] == ["box", "mask"]


@pytest.mark.large
def test_a_chosen_layer_stays_in_float(trained, tmp_path):
    model, x, _ = trained
    mtl.export.tflite(
        model, tmp_path / "m.tflite", "int8", calibration=x, keep_float=["kind_hidden"]
    )
    names = _float_tensors(tmp_path / "m.tflite")
    assert len(names) == 1 and "kind_hidden" in names[0]


@pytest.mark.large
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
        order = [
            graph.tensors[op.outputs[0]].name.decode()
            for op in graph.operators
            if len(op.inputs) == 3
        ]
        assert order.index(found) == place


@pytest.mark.large
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
        ({"on_drop": "ignore"}, "'raise', 'warn' or 'report'"),
        ({"budget": {"bytes": 1000}}, "`budget` goes with quantization='auto'"),
        ({"quantization": "auto", "max_drop": 1.0, "budget": {"kb": 1}}, '"bytes", "ms" or both'),
        ({"quantization": "auto", "max_drop": 1.0, "budget": {"ms": 0}}, "positive numbers"),
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
        report = mtl.export.tflite(
            model, tmp_path / "m.tflite", "int8", max_drop=0.01, on_drop="warn", **dark
        )
    assert (tmp_path / "m.tflite").stat().st_size == report.size


@pytest.mark.large
def test_each_head_has_its_own_limit_in_its_own_metrics_unit(trained, tmp_path):
    model, x, y = trained
    dark = {"calibration": 0.3 * x, "samples": x, "evaluate": (x, y)}
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"box": 0.5}, **dark)
    with pytest.raises(mtl.export.ExportError, match=r"'mask' iou .*allowed: 0\.2\)") as error:
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"mask": 0.2}, **dark)
    assert error.value.tasks == ["mask"]
    with pytest.raises(ValueError, match="Unknown task in `max_drop`: 'mast'"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", max_drop={"mast": 0.2}, **dark)


@pytest.mark.large
def test_auto_keeps_the_heads_in_float_that_need_it(tmp_path, monkeypatch):
    """One unit of a hidden layer is a thousand times larger than the others, and weighs as much less: the same function, of
    which int8, with one scale for all units, loses the others. The other head stays in int8."""
    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Regression("cost", hidden=8), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing(
        (4,), tasks, backbone="mlp", backbone_options={"widths": (16,)}
    )
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (256, 4)).astype("float32")
    y = {
        "cost": x @ np.array([1.0, -2.0, 0.5, 0.3], "float32"),
        "sold": (x[:, 0] > 0).astype("int32"),
    }
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, y, epochs=20, verbose=0)
    hidden, linear = model.get_layer("cost_hidden"), model.get_layer("cost_linear")
    (kernel, bias), (onward, shift) = hidden.get_weights(), linear.get_weights()
    factor = np.where(
        np.arange(8) == np.abs(onward[:, 0] * kernel.max(0)).argmax(), 1000.0, 1.0
    ).astype("float32")
    hidden.set_weights([kernel * factor, bias * factor])
    linear.set_weights([onward / factor[:, None], shift])
    limits = {"cost": 0.05, "sold": 0.05}
    # Whatever is smaller or faster here: int8 first.
    monkeypatch.setattr(ladder, "KINDS", ("int8", "float32"))
    monkeypatch.setattr(
        ladder,
        "in_order",
        lambda rungs, budget: sorted(rungs, key=lambda rung: not rung.name.startswith("int8")),
    )
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", "auto", x, evaluate=(x, y), max_drop=limits
    )
    assert [step for step, _ in report.refused] == ["int8"] and "'cost'" in report.refused[0][1]
    assert report.format == "TFLite file (int8, cost in float)"
    assert all(head.drop <= limits[head.name] for head in report.heads)


def test_a_batch_on_request(trained, exported, tmp_path):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, batch=4)
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    assert file.inputs["image"]["shape"] == [4, 16, 16, 1] and file.outputs["mask"]["shape"] == [
        4,
        16,
        16,
        1,
    ]
    # Six rows are a batch and a half: rows come back one for one.
    one = mtl.export.TFLiteModel(exported(quantization="int8")[0]).run({"image": x[:6]})
    for name, value in file.run({"image": x[:6]}).items():
        np.testing.assert_allclose(value, one[name], atol=0.02)


def test_a_last_softmax_stays_in_float_where_heads_are_real_numbers(trained, exported):
    """The CPU delegate has no int8 softmax: with one, the file falls into two parts."""
    path, real = exported(quantization="int8")
    _, whole = exported(quantization="int8", io="int8")
    assert real.partitions == 1
    assert [report.heads[0].scale for report in (real, whole)] == [None, 1 / 256]
    found = mtl.export.run_tflite(path, {"image": trained[1]})["kind"]
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert np.unique(found * 256 % 1).size > 1


# ------------------------------------------------------------------ heads with an offset, heads with a small unit
def _offset_heads():
    """Heads around numbers that are large beside what moves in them, and one of a small unit; each answers to the inputs."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    h = keras.layers.Dense(12, activation="relu", name="h")(x)
    tasks = [
        mtl.tasks.Regression("pressure", mean=101325.0, scale=800.0, hidden=0),
        mtl.tasks.Regression("year", mean=1984.6, scale=4.0, hidden=0),
        mtl.tasks.Regression("weak", mean=5e-9, scale=1e-8, hidden=0),
        mtl.tasks.Regression("cost", hidden=0),
    ]
    outputs = {
        t.name: TaskOutput(t)(keras.layers.Dense(1, name=f"{t.name}_linear")(h)) for t in tasks
    }
    # Two numbers of one head, of which one moves a thousand times farther.
    pair = keras.layers.Dense(2, name="pair_linear")(h)
    outputs["pair"] = keras.layers.Rescaling([1000.0, 1.0], [0.0, 30.0], name="pair")(pair)
    return keras.Model(x, outputs), np.random.default_rng(0).standard_normal((96, 6)).astype(
        "float32"
    )


def _left(found, expected):
    """What is left of what moves in each number of a head, in float64."""
    error = np.mean(np.square(found.astype("float64") - expected), axis=0)
    return (1 - error / np.var(expected.astype("float64"), axis=0)).min()


@pytest.mark.parametrize(
    "quantization", large_but(("int8",), ["float16", "int8", "weights", "dynamic"])
)
def test_no_quantization_ruins_a_head_for_its_unit(tmp_path, quantization):
    """float16 ends at 65504 and has steps of 1 at 1985; the range of an int8 tensor holds zero."""
    model, x = _offset_heads()
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", quantization, calibration=x[:64], samples=x[64:]
    )
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"x": x[64:]})
    expected = model.predict(x[64:], verbose=0)
    for name, value in expected.items():
        assert _left(found[name], value) > 0.95, name
    for head in report.heads:
        assert head.fidelity > 0.95
    if quantization == "int8":
        # The offset alone stays in float: the layers are in int8.
        assert report.ops["FULLY_CONNECTED"] == 6 and not any(
            "MatMul" in n for n in _float_tensors(tmp_path / "m.tflite")
        )


def test_whole_integers_can_not_hold_an_offset_and_say_so(tmp_path):
    model, x = _offset_heads()
    with pytest.raises(
        mtl.export.ExportError, match=r"Head '(year|pair)' .*(ruined|dead).*|Head 'year'"
    ) as error:
        mtl.export.tflite(
            model, tmp_path / "m.tflite", "int8", calibration=x[:64], samples=x[64:], io="int8"
        )
    assert error.value.tasks and not list(tmp_path.iterdir())


def test_what_float16_can_not_hold_stays_in_float32_and_is_named(tmp_path):
    x = keras.Input((16,), name="x")
    model = keras.Model(
        x, {n: keras.layers.Dense(8, name=n)(x) for n in ("large", "plain", "small", "mixed")}
    )
    rng = np.random.default_rng(0)
    units = {"large": 1e5, "plain": 1.0, "small": 1e-7, "mixed": np.array([1.0] * 7 + [1e-8])}
    for name, unit in units.items():
        model.get_layer(name).set_weights(
            [rng.standard_normal((16, 8)) * unit, np.full(8, 70000.0)]
        )
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "float16")
    for name in ("large", "small", "mixed"):
        assert any(name in tensor for tensor in report.in_float32), name
    assert (
        not any("plain" in tensor for tensor in report.in_float32) and report.ops["DEQUANTIZE"] == 1
    )
    data = rng.standard_normal((8, 16)).astype("float32")
    found, expected = (
        mtl.export.run_tflite(tmp_path / "m.tflite", {"x": data}),
        model.predict(data, verbose=0),
    )
    for name in units:
        np.testing.assert_allclose(
            found[name], expected[name], atol=1e-2 if name == "plain" else 0, rtol=1e-5
        )
    assert report.to_dict()["in_float32"] == report.in_float32


def test_a_small_head_is_held_as_tightly_as_any(tmp_path):
    model, x = _offset_heads()
    outputs = model.predict(x, verbose=0)
    compare(model, {"x": x}, outputs, 1e-5, "file")
    for name in outputs:
        off = {**outputs, name: outputs[name] + 0.01 * np.std(outputs[name])}
        with pytest.raises(mtl.export.ExportError, match=f"Head '{name}' .* differs"):
            compare(model, {"x": x}, off, 1e-5, "file")
        stuck = {**outputs, name: np.broadcast_to(outputs[name].mean(0), outputs[name].shape)}
        with pytest.raises(mtl.export.ExportError, match=f"Head '{name}' .*(dead|ruined)"):
            compare(model, {"x": x}, stuck, None, "file")


# ------------------------------------------------------------------ tensors that one scale ties together
def _trunk(link):
    """A narrow tensor of the trunk that a head uses alone, and a link to a wide one."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    narrow = keras.layers.Dense(6, activation="relu", name="narrow")(x)
    wide = keras.layers.Rescaling(1e3, name="larger")(
        keras.layers.Dense(6, activation="relu", name="wide")(x)
    )
    if link == "sigmoid":
        # A sigmoid has a scale of its own, MAXIMUM none for it: the quantizer gives up without a word.
        head = keras.layers.Dense(6, activation="sigmoid", name="a")(x)
        return keras.Model(
            x,
            {
                "a": head,
                "b": wide,
                "c": keras.ops.concatenate([head, wide], axis=-1),
                "d": keras.ops.maximum(head, wide),
            },
        )
    both = keras.layers.Concatenate(name="both")([narrow, wide])
    if link == "twice":
        both = keras.layers.Concatenate(name="more")([both, keras.ops.maximum(narrow, wide)])
    return keras.Model(
        x,
        {"a": keras.layers.Dense(1, name="a")(narrow), "b": keras.layers.Dense(1, name="b")(both)},
    )


@pytest.mark.parametrize("link", large_but(("concat",), ["concat", "twice", "sigmoid"]))
def test_a_trunk_tensor_keeps_its_scale_beside_a_link_to_a_wide_one(tmp_path, link):
    model = _trunk(link)
    x = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, samples=x)
    found, expected = (
        mtl.export.run_tflite(tmp_path / "m.tflite", {"x": x}),
        model.predict(x, verbose=0),
    )
    for name in expected:
        assert np.abs(found[name] - expected[name]).max() < 0.03 * np.ptp(expected[name]), name


def test_a_tensor_that_is_overwritten_keeps_its_own_range(tmp_path):
    """TensorFlow's calibration reads what MUL has written over its input: a hundred times the range."""
    x = keras.Input((4,), name="x")
    h = keras.layers.Dense(4, activation="relu", name="h")(x)
    scaled = keras.layers.Rescaling(100.0, name="scaled")(h)
    model = keras.Model(
        x, {"y": keras.layers.Dense(2, name="y")(keras.layers.Softmax(name="soft")(scaled))}
    )
    data = np.random.default_rng(0).uniform(-1, 1, (48, 4)).astype("float32")
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=data, samples=data)
    graph = flatbuffer.read((tmp_path / "m.tflite").read_bytes()).subgraphs[0]
    (hidden,) = (
        t for t in graph.tensors if list(t.shape) == [1, 4] and b"Relu" in t.name and t.type == 9
    )
    largest = keras.Model(x, h).predict(data, verbose=0).max()
    assert float(hidden.quantization.scale[0]) == pytest.approx(largest / 255, rel=0.01)


@pytest.mark.large
def test_what_the_quantizer_fails_on_is_named_and_auto_goes_on(trained, tmp_path, monkeypatch):
    model, x, y = trained

    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(quantizing, "_quantized", fail)
    with pytest.raises(
        mtl.export.ExportError,
        match=r"no int8 form .*it gives no reason.*'\w+'.*quantization='dynamic'",
    ):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x)
    monkeypatch.setattr(ladder, "KINDS", ("int8", "dynamic"))
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", "auto", x, evaluate=(x, y), max_drop=0.2
    )
    assert report.format == "TFLite file (dynamic)" and report.refused[0][0] == "int8"


@pytest.mark.large
def test_a_file_that_does_not_run_is_an_export_error(trained, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Node number 3 (CONV_2D) failed to prepare: kind_hidden")

    monkeypatch.setattr(mtl.export.TFLiteModel, "run", fail)
    with pytest.raises(
        mtl.export.ExportError,
        match="can't be made or run, at layer 'kind_hidden'.*failed to prepare",
    ):
        mtl.export.tflite(trained[0], tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
