import re

import keras
import numpy as np
import pytest
from helpers import image_model, large_but

import mtl_keras as mtl
from mtl_keras.export import ladder
from mtl_keras.export.converter import int4
from mtl_keras.export.options import QUANTIZATIONS
from mtl_keras.export.report import Rung, compare
from mtl_keras.runtime import measure

#: Int4 ruins the box of a network as small as these; tests/export/test_int4.py holds it on others.
KINDS = [kind for kind in QUANTIZATIONS if kind not in int4.BLOCKS]


def _text_model():
    tasks = [
        mtl.tasks.Classification("zz_topic", num_classes=3, hidden=0),
        mtl.tasks.Regression("age", hidden=0),
    ]
    options = {"vocabulary_size": 30, "embedding_dim": 8, "units": 4}
    return mtl.builders.hard_sharing(
        {"tokens": (6,)}, tasks, backbone="bilstm", backbone_options=options
    )


def _table_model():
    tasks = [
        mtl.tasks.Binary("sold", hidden=4),
        mtl.tasks.Regression("cost", mean=100.0, scale=50.0, hidden=0),
    ]
    options = {"widths": (8,), "cardinalities": [3, 4], "mean": [0.0] * 5, "variance": [1.0] * 5}
    inputs = {"numeric": (5,), "categorical": (2,)}
    return mtl.builders.hard_sharing(inputs, tasks, backbone="mlp", backbone_options=options)


def _inputs(model, rows=24):
    rng = np.random.default_rng(0)
    ranges = {"tokens": 30, "categorical": 3}
    found = {}
    for tensor in model.inputs:
        shape = (rows, *tensor.shape[1:])
        if tensor.name in ranges:
            found[tensor.name] = rng.integers(0, ranges[tensor.name], shape).astype("int32")
        else:
            found[tensor.name] = rng.standard_normal(shape).astype("float32")
    return found


@pytest.mark.parametrize("make", large_but([image_model], [image_model, _text_model, _table_model]))
def test_float_files_agree_with_keras_for_images_text_and_tables(make, tmp_path):
    model = make()
    inputs = _inputs(model)
    report = mtl.export.tflite(model, tmp_path / "m.tflite", samples=inputs)
    assert report.size == (tmp_path / "m.tflite").stat().st_size
    found = mtl.export.run_tflite(tmp_path / "m.tflite", inputs)
    expected = model.predict(mtl.export.models.pack_inputs(model, inputs), verbose=0)
    for name in model.task_names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("quantization", large_but((None, "float16", "dynamic", "int8"), KINDS))
def test_names_order_and_batch_in_every_kind_of_file(exported, quantization):
    """Names of signature and tensors are the tasks', in the tasks' order; the converter alone gives
    neither."""
    from ai_edge_litert.interpreter import Interpreter

    path, report = exported(quantization=quantization)
    interpreter = Interpreter(model_path=str(path))
    assert [d["name"] for d in interpreter.get_output_details()] == ["kind", "box", "mask"]
    inputs = interpreter.get_input_details()
    assert [(d["name"], d["shape"].tolist(), d["dtype"]) for d in inputs] == [
        ("image", [1, 16, 16, 1], np.float32)
    ]
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature["inputs"] == ["image"] and set(signature["outputs"]) == {"kind", "box", "mask"}
    assert not any("Flex" in op for op in report.ops) and "CONV_2D" in report.ops


@pytest.mark.parametrize(
    "options",
    [
        *(
            pytest.param(
                {"quantization": kind},
                id=str(kind),
                marks=[pytest.mark.large] if kind != "int8" else [],
            )
            for kind in KINDS
        ),
        {"quantization": "int8", "io": "int8"},
        pytest.param({"quantization": "int8", "keep_float": ["box"]}, marks=pytest.mark.large),
        pytest.param({"signatures": "all"}, marks=pytest.mark.large),
        pytest.param({"quantization": "int8", "signatures": "all"}, marks=pytest.mark.large),
        pytest.param({"decode": ["kind", "box"]}, marks=pytest.mark.large),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_another_client_sees_the_same_names_and_answers(trained, exported, options):
    """`CompiledModel` gives outputs by their places: the first signature's are the heads, in the
    tasks' order."""
    from ai_edge_litert.compiled_model import CompiledModel

    from mtl_keras.quiet import quiet

    x = trained[1]
    path, _ = exported(**options)
    file = mtl.export.TFLiteModel(path)
    with quiet():
        compiled = CompiledModel.from_file(str(path))
        signatures = compiled.get_signature_list()
        names = list(file.outputs)
        assert next(iter(signatures)) == "serving_default" and names[:3] == ["kind", "box", "mask"]
        assert signatures["serving_default"]["outputs"] == names and signatures["serving_default"][
            "inputs"
        ] == ["image"]
        given, told = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
        detail = file.inputs["image"]
        row = (
            x[:1]
            if not detail["scale"]
            else np.clip(np.round(x[:1] / detail["scale"]) + detail["zero_point"], -128, 127)
        )
        given[0].write(np.ascontiguousarray(row.astype(detail["dtype"])))
        compiled.run_by_index(0, given, told)
        for buffer, (name, value) in zip(told, file.run({"image": x[:1]}).items(), strict=True):
            out = file.outputs[name]
            raw = buffer.read(int(value.size), np.dtype(out["dtype"])).reshape(value.shape)
            real = (
                (raw.astype("float32") - out["zero_point"]) * out["scale"] if out["scale"] else raw
            )
            # Two builds of XNNPACK may round the same number differently.
            step = (
                1.01 * out["scale"]
                if out["scale"]
                else 0.02
                if options.get("quantization")
                else 1e-5
            )
            np.testing.assert_allclose(real, value, atol=step, err_msg=name)


def test_int8_costs_each_heads_metric_little(trained, exported):
    model, x, y = trained
    path, report = exported(quantization="int8")
    assert report.ops.get("QUANTIZE") and report.ops.get("DEQUANTIZE")
    outputs = mtl.export.run_tflite(path, {"image": x})
    before = mtl.analysis.score(model.tasks, model.predict(x, verbose=0), y)
    after = mtl.analysis.score(model.tasks, outputs, y)
    for name in ("kind_accuracy", "box_iou", "mask_iou"):
        assert after[name] >= before[name] - 0.02, name


@pytest.mark.large
def test_smaller_files_are_smaller(trained, tmp_path):
    _model, x, _ = trained
    wide = image_model(widths=(32, 64))
    sizes = {
        q: mtl.export.tflite(wide, tmp_path / "m.tflite", q, calibration=x).size for q in KINDS
    }
    assert (
        sizes["int8"] < 0.6 * sizes[None]
        and sizes["dynamic"] < 0.6 * sizes[None]
        and sizes["float16"] < 0.7 * sizes[None]
    )


def test_it_runs_where_there_is_only_the_runtime_and_numpy(trained, exported, tmp_path, without):
    x, path = trained[1], exported(quantization="int8")[0]
    np.save(tmp_path / "x.npy", x[:1])
    code = f"""
import numpy as np
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(model_path={str(path)!r}).get_signature_runner('serving_default')
np.savez({str(tmp_path / "out.npz")!r}, **run(image=np.load({str(tmp_path / "x.npy")!r})))
"""
    done = without(["tensorflow", "keras", "mtl_keras"], code)
    assert done.returncode == 0, done.stderr[-2000:]
    here = mtl.export.run_tflite(path, {"image": x[:1]})
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == {"kind", "box", "mask"}
        for name in found:
            np.testing.assert_array_equal(found[name], here[name])


def test_a_mixed_precision_model_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = image_model()
    keras.config.set_dtype_policy("float32")
    report = mtl.export.tflite(model, tmp_path / "m.tflite")
    assert max(h.largest for h in report.heads) < 1e-5


def test_the_report_has_what_a_card_needs(exported, capsys):
    _, report = exported(quantization=None)
    facts = report.to_dict()
    assert facts["bytes"] == report.size and set(facts["heads"]) == {"kind", "box", "mask"}
    report.show()
    assert "max error" in capsys.readouterr().out


# ------------------------------------------------------------------ what must not pass
def test_a_layer_that_has_no_builtin_operator_is_refused_and_no_file_is_left(tmp_path):
    @keras.saving.register_keras_serializable("test")
    class Odd(keras.layers.Layer):
        def call(self, x):
            return keras.ops.cast(keras.ops.argmax(x, axis=-1, keepdims=True), "float32")

    model = mtl.builders.hard_sharing(
        (4,), [mtl.tasks.Regression("cost", hidden=0)], backbone=lambda x: Odd(name="odd")(x)
    )
    (tmp_path / "m.tflite").write_bytes(b"good")
    with pytest.raises(
        mtl.export.ExportError, match=r"can't be converted .*layer 'odd' \(Odd\) needs BitwiseAnd: "
    ):
        mtl.export.tflite(model, tmp_path / "m.tflite")
    assert (tmp_path / "m.tflite").read_bytes() == b"good" and len(list(tmp_path.iterdir())) == 1


def test_everything_that_has_no_builtin_operator_is_named_with_what_would_do(tmp_path):
    def trunk(x):
        x = keras.layers.Conv2D(4, 3, name="stem")(x)
        x = keras.layers.Resizing(8, 8, interpolation="bicubic", name="larger")(x)
        x = keras.layers.Lambda(keras.ops.erfinv, name="odd")(keras.layers.Activation("tanh")(x))
        return keras.layers.GlobalAveragePooling2D()(x)

    model = mtl.builders.hard_sharing((6, 6, 1), [mtl.tasks.Regression("cost")], backbone=trunk)
    with pytest.raises(mtl.export.ExportError) as caught:
        mtl.export.tflite(model, tmp_path / "m.tflite")
    told = str(caught.value)
    assert re.search(
        r"layer 'larger' \(Resizing\) needs ResizeBicubic: use interpolation=\"bilinear\"", told
    )
    assert (
        re.search(r"layer 'odd' \(Lambda\) needs Erfinv: replace it", told)
        and "loc(" not in told
        and len(told) < 500
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: {**out, "kind": out["kind"] + 0.01}, "Head 'kind' .* differs from Keras"),
        (lambda out: {**out, "mask": out["mask"] * np.nan}, "'mask' .* not finite"),
        (lambda out: {"kind": out["kind"], "box": out["box"]}, "no head 'mask'"),
        (lambda out: {**out, "kind": out["kind"][:, :2]}, "'kind' .* has shape"),
        (lambda out: {**out, "kind": np.repeat(out["kind"][:1], 64, 0)}, "'kind' .* is dead"),
    ],
)
def test_a_file_that_is_not_the_model_is_refused(trained, change, words):
    model, x, _ = trained
    outputs = model.predict(x, verbose=0)
    compare(model, {"image": x}, outputs, 1e-5, "file")
    with pytest.raises(mtl.export.ExportError, match=words):
        compare(model, {"image": x}, change(outputs), None if "dead" in words else 1e-5, "file")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quantization": "int3"}, "Unknown quantization"),
        ({"quantization": "int8"}, "give `calibration`"),
        ({"path": "m.lite"}, "must end in .tflite"),
        ({"quantization": "int8", "calibration": np.zeros((2, 3), "float32")}, "model takes"),
    ],
)
def test_bad_arguments_are_refused(trained, tmp_path, arguments, words):
    arguments = {"path": "m.tflite", **arguments}
    with pytest.raises(ValueError, match=words):
        mtl.export.tflite(trained[0], tmp_path / arguments.pop("path"), **arguments)
    assert not list(tmp_path.iterdir())


def test_recurrent_layers_in_int8_are_refused_by_name_before_the_converter_crashes(tmp_path):
    model = _text_model()
    with pytest.raises(
        mtl.export.ExportError, match=r"Layer '\w*bilstm\w*' is recurrent.*'dynamic'"
    ):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=_inputs(model))
    assert not list(tmp_path.iterdir())
    assert (
        mtl.export.tflite(model, tmp_path / "m.tflite", "dynamic", samples=_inputs(model)).ops[
            "WHILE"
        ]
        == 2
    )


def test_an_input_whose_size_is_open_is_refused(tmp_path):
    model = mtl.builders.hard_sharing(
        (None, None, 1), [mtl.tasks.Classification("kind", num_classes=2)]
    )
    with pytest.raises(mtl.export.ExportError, match="every size fixed"):
        mtl.export.tflite(model, tmp_path / "m.tflite")


# ------------------------------------------------------------------ some tasks, whole integers, a gate a head
@pytest.mark.large
def test_a_file_for_some_tasks_lacks_what_only_the_others_use(trained, tmp_path):
    model, x, _ = trained
    whole = mtl.export.tflite(model, tmp_path / "all.tflite")
    some = mtl.export.tflite(model, tmp_path / "some.tflite", tasks=["box", "kind"])
    assert [head.name for head in some.heads] == ["kind", "box"] and some.size < whole.size
    assert "RESIZE_BILINEAR" in whole.ops and "RESIZE_BILINEAR" not in some.ops
    found = mtl.export.run_tflite(tmp_path / "some.tflite", {"image": x[:4]})
    expected = model.predict(x[:4], verbose=0)
    assert set(found) == {"kind", "box"}
    np.testing.assert_allclose(found["box"], expected["box"], rtol=1e-4, atol=1e-5)
    assert mtl.export.saved_model(model, tmp_path / "saved", tasks="mask").heads[0].name == "mask"
    with pytest.raises(ValueError, match="Did you mean 'mask'"):
        mtl.export.tflite(model, tmp_path / "no.tflite", tasks=["mast"])


def test_inputs_that_no_exported_task_uses_are_left_out(tmp_path):
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    model = mtl.builders.multi_input(
        {"cost": (5,), "sold": (5,)}, tasks, backbone_options={"widths": (4,)}
    )
    mtl.export.tflite(model, tmp_path / "m.tflite", tasks=["sold"])
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"sold_input": np.ones((2, 5), "float32")})
    assert set(found) == {"sold"}


@pytest.mark.parametrize(
    ("io", "dtype"),
    [("int8", np.int8), pytest.param("uint8", np.uint8, marks=pytest.mark.large)],
)
def test_whole_integer_files_take_and_give_integers_and_runs_apply_their_scales(
    exported, io, dtype
):
    from ai_edge_litert.interpreter import Interpreter

    path, report = exported(quantization="int8", io=io)
    interpreter = Interpreter(model_path=str(path))
    details = interpreter.get_input_details() + interpreter.get_output_details()
    assert {d["dtype"] for d in details} == {dtype}
    assert [d["name"] for d in interpreter.get_output_details()] == ["kind", "box", "mask"]
    _, floats = exported(quantization="int8")
    for whole, plain in zip(report.heads, floats.heads, strict=True):
        assert whole.largest <= plain.largest + 0.01


@pytest.mark.large
def test_finer_activations_are_nearer_to_keras(exported):
    errors = {
        q: np.mean([head.mean for head in exported(quantization=q)[1].heads])
        for q in ("int8", "int16x8")
    }
    assert errors["int16x8"] < 0.5 * errors["int8"]


@pytest.mark.large
def test_the_report_has_each_tasks_metric_before_and_after(trained, tmp_path, capsys):
    model, x, y = trained
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", "int8", calibration=x, evaluate=(x, y), max_drop=0.05
    )
    before = mtl.analysis.score(model.tasks, model.predict(x, verbose=0), y)
    after = mtl.analysis.score(
        model.tasks, mtl.export.run_tflite(tmp_path / "m.tflite", {"image": x}), y
    )
    for head, metric in zip(report.heads, ("accuracy", "iou", "iou"), strict=True):
        assert head.metric == metric and head.before == pytest.approx(
            before[f"{head.name}_{metric}"]
        )
        assert head.after == pytest.approx(after[f"{head.name}_{metric}"])
        assert head.drop == pytest.approx(head.before - head.after) and head.drop <= 0.05
    report.show()
    assert (
        "metric" in capsys.readouterr().out and report.to_dict()["heads"]["box"]["metric"] == "iou"
    )


def test_a_file_that_loses_too_much_is_not_written_and_the_head_is_named(trained, tmp_path):
    model, x, y = trained
    (tmp_path / "m.tflite").write_bytes(b"good")
    # Calibrated on pictures in the dark, what is bright is clipped.
    dark = 0.3 * x
    with pytest.raises(
        mtl.export.ExportError, match=r"loses more than allowed on .*'mask' iou 0\.\d+ -> 0\.\d+"
    ):
        mtl.export.tflite(
            model,
            tmp_path / "m.tflite",
            "int8",
            calibration=dark,
            samples=x,
            evaluate=(x, y),
            max_drop=0.01,
        )
    assert (tmp_path / "m.tflite").read_bytes() == b"good" and len(list(tmp_path.iterdir())) == 1


def test_clipping_is_counted():
    from mtl_keras.export.report import _clipped

    reference = np.linspace(-1, 1, 201).astype("float32")
    assert _clipped(reference, reference, 2.0) == 0.0
    assert _clipped(np.clip(reference, -1, 0.5), reference, 2.0) == pytest.approx(48 / 201)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quantization": "int16x8"}, "int16x8 needs typical inputs"),
        ({"io": "int8"}, "with quantization='int8'"),
        (
            {
                "io": "int4",
                "quantization": "int8",
                "calibration": np.zeros((1, 16, 16, 1), "float32"),
            },
            "got 'int4'",
        ),
        ({"max_drop": 0.1}, "give `evaluate`"),
        ({"tasks": []}, "`tasks` is empty"),
        ({"evaluate": np.zeros((1, 16, 16, 1), "float32")}, "held-out data with labels"),
        (
            {"evaluate": (np.zeros((1, 16, 16, 1), "float32"), {"kind": np.zeros(1)})},
            "no labels for task 'box'",
        ),
    ],
)
def test_more_bad_arguments_are_refused(trained, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        mtl.export.tflite(trained[0], tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.large
def test_auto_takes_what_passes_and_says_why_not_the_others(trained, tmp_path, capsys, monkeypatch):
    model, x, y = trained
    monkeypatch.setattr(ladder, "KINDS", ("int8", "dynamic", "float32"))
    # By size alone, in this test: the machine may be busy.
    monkeypatch.setattr(measure, "quick", lambda path: (1, 1.0, "cpu"))
    # Calibrated on pictures in the dark, int8 activations clip; files with real-valued activations
    # do not.
    hard = mtl.export.tflite(
        model, tmp_path / "m.tflite", "auto", 0.3 * x, x, evaluate=(x, y), max_drop=0.01
    )
    assert hard.format == "TFLite file (dynamic)" and hard.path.stat().st_size == hard.size
    assert {step.split(" with ")[0] for step, _ in hard.refused} <= {"int8"}
    assert all("loses more than allowed" in reason for _, reason in hard.refused)
    assert {"int8", "dynamic", "float32"} <= {rung.name for rung in hard.rungs}
    hard.show()
    assert "partitions" in capsys.readouterr().out
    before = (tmp_path / "m.tflite").read_bytes()
    impossible = {"max_drop": -1.0, "calibration": x, "evaluate": (x, y)}
    monkeypatch.setattr(ladder, "KINDS", ("dynamic", "float32"))
    with pytest.raises(mtl.export.ExportError, match="No quantization loses at most -1.0.*float32"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "auto", **impossible)
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "auto", on_drop="report", **impossible)
    assert (
        not report.passed
        and report.path is None
        and [step for step, _ in report.refused] == ["dynamic", "float32"]
    )
    assert all(head.metric is not None for head in report.heads) and "rungs" in report.to_dict()
    report.show()
    small = {"max_drop": 1.0, "calibration": x, "evaluate": (x, y), "budget": {"bytes": 100}}
    with pytest.raises(mtl.export.ExportError, match="bytes, and the budget is 100"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "auto", **small)
    assert (tmp_path / "m.tflite").read_bytes() == before
    with pytest.raises(ValueError, match="give `evaluate`, `max_drop`"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "auto", calibration=x)


@pytest.mark.large
def test_a_file_that_loses_too_much_may_be_a_report(trained, tmp_path):
    model, x, y = trained
    report = mtl.export.tflite(
        model, tmp_path / "m.tflite", evaluate=(x, y), max_drop=-1.0, on_drop="report"
    )
    assert (
        not report.passed
        and report.path is None
        and "loses more than allowed" in report.refused[0][1]
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("budget", "order"),
    [
        # A transformer in int8: larger than "dynamic" and four times slower. int16x8 has no fast
        # kernels.
        ({}, ["dynamic", "float16", "float32", "int8", "int16x8"]),
        ({"bytes": 300}, ["dynamic", "float32", "float16", "int8", "int16x8"]),
        ({"ms": 50.0}, ["dynamic", "int8", "int16x8", "float16", "float32"]),
    ],
)
def test_files_come_in_the_order_of_what_they_cost(budget, order):
    sizes = {
        "int8": (110, 4.0),
        "int16x8": (115, 17.0),
        "dynamic": (100, 1.0),
        "float16": (210, 1.9),
        "float32": (400, 1.1),
    }
    rungs = [Rung(name, size, ms) for name, (size, ms) in sizes.items()]
    names = [rung.name for rung in ladder.in_order(rungs, budget)]
    assert names == order
    assert (
        ladder.beyond_budget(rungs[0], {"bytes": 109, "ms": 5})
        == "110 bytes, and the budget is 109"
    )
    assert ladder.beyond_budget(rungs[0], {"ms": 3}) == "4.00 ms a call here, and the budget is 3"
    assert ladder.beyond_budget(rungs[0], {"bytes": 110, "ms": 4}) is None


def test_an_ordinary_network_gets_int8_although_a_measurement_wavers():
    rungs = [Rung("float32", 400, 1.0), Rung("int8", 110, 1.4), Rung("dynamic", 120, 1.0)]
    assert ladder.in_order(rungs, {})[0].name == "int8"
