import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from mtl_keras import zoo
from mtl_keras.cli import main
from mtl_keras.data import fashion_scenes


def run(monkeypatch, capsys, *arguments):
    """Run a command as the shell would; returns its exit code, output and error output."""
    monkeypatch.setattr(sys, "argv", ["mtl-keras", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


def test_zoo_list_names_every_entry(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "zoo", "list")
    assert code == 0 and all(name in out for name in zoo.list_models())


@pytest.mark.parametrize("name", zoo.list_models())
def test_zoo_info_shows_the_card(monkeypatch, capsys, name):
    code, out, _ = run(monkeypatch, capsys, "zoo", "info", name)
    assert code == 0 and "Data" in out and "license" in out
    code, out, _ = run(monkeypatch, capsys, "zoo", "info", name, "--json")
    assert code == 0 and json.loads(out)["name"] == name


def test_an_unknown_entry_is_one_line_with_the_close_ones(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "zoo", "info", "fashion_scenes")
    assert (
        code == 1
        and err.startswith("mtl-keras: Unknown zoo entry")
        and "Did you mean 'fashion_scene'" in err
    )
    assert len(err.strip().splitlines()) == 1


def test_zoo_export_copies_checked_files(monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "zoo", "export", "flights", "--out", tmp_path / "f")
    assert code == 0 and str(tmp_path / "f") in out
    assert (tmp_path / "f" / "model.tflite").exists() and (
        tmp_path / "f" / "saved_model" / "saved_model.pb"
    ).exists()


@pytest.mark.large
def test_predict_reads_a_picture(monkeypatch, capsys, tmp_path):
    x, y = next(iter(fashion_scenes("test", 4)))
    Image.fromarray((x[0, ..., 0].numpy() * 255).round().astype("uint8")).save(
        tmp_path / "scene.png"
    )
    code, out, _ = run(
        monkeypatch, capsys, "predict", "fashion_scene", tmp_path / "scene.png", "--json"
    )
    assert code == 0
    row = json.loads(out)[0]
    assert row["item"]["label"] == "ankle boot" and int(y["item"][0]) == 9
    box = [row["box"][side] for side in ("left", "top", "right", "bottom")]
    assert np.abs(np.array(box) - y["box"][0].numpy()).max() < 0.1
    assert len(row["mask"]["rows"]) == 40
    code, out, _ = run(monkeypatch, capsys, "predict", "fashion_scene", tmp_path / "scene.png")
    assert code == 0 and "ankle boot" in out


def test_predict_reads_sentences(monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch,
        capsys,
        "predict",
        "gloss",
        "a small domesticated carnivorous mammal",
        "move fast by using the feet",
        "--json",
    )
    rows = json.loads(out)
    assert (
        code == 0
        and rows[0]["part_of_speech"]["label"] == "noun"
        and rows[0]["supersense"]["label"] == "noun.animal"
    )
    assert rows[1]["part_of_speech"]["label"] == "verb"


def test_predict_reads_a_table(monkeypatch, capsys, tmp_path):
    encoder = zoo.load("flights").encoder
    names = [*encoder.numeric, *encoder.categorical]
    row = dict.fromkeys(names, "") | {"hour": "17", "carrier": "UA", "origin": "EWR"}
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join(row.values()) + "\n")
    code, out, _ = run(monkeypatch, capsys, "predict", "flights", tmp_path / "t.csv", "--json")
    found = json.loads(out)[0]
    assert (
        code == 0
        and 0 <= found["cancelled"]["probability"] <= 1
        and -60 <= found["arrival_delay"] <= 180
    )


def test_predict_takes_raw_flights_as_the_recipe_does(monkeypatch, capsys, tmp_path):
    """Raw rows give what the network says of the columns that pandas makes of them."""
    import pandas as pd

    from mtl_keras.data.flights import CATEGORICAL, NUMERIC

    model = zoo.load("flights")
    date = pd.Timestamp("2013-07-04")
    known = {"hour": 17, "minute": 30, "carrier": "UA", "origin": "EWR", "temp": 80.1}
    raw = {"year": 2013, "month": "07", "day": 4, **known, "wind_dir": 90}
    (tmp_path / "raw.csv").write_text(
        "\ufeff" + ",".join(raw) + "\n" + ",".join(map(str, raw.values())) + "\n", "utf-8"
    )
    code, out, err = run(monkeypatch, capsys, "predict", "flights", tmp_path / "raw.csv", "--json")
    assert code == 0, err
    angle = 2 * np.pi * 17.5 / 24
    row = dict.fromkeys(NUMERIC, np.nan) | dict.fromkeys(CATEGORICAL) | known
    row |= {
        "day_of_year": date.dayofyear,
        "weekday": date.weekday(),
        "month": 7,
        "wind_sin": 1.0,
        "wind_cos": 0.0,
    }
    row |= {"hour_sin": np.sin(angle), "hour_cos": np.cos(angle)}
    expected = model.predict(
        model.encoder.encode({name: [value] for name, value in row.items()}), verbose=0
    )
    answer = json.loads(out)[0]
    assert answer["late"]["probability"] == pytest.approx(float(expected["late"][0, 0]), abs=1e-5)
    assert answer["arrival_delay"] == pytest.approx(
        float(expected["arrival_delay"][0, 0]), abs=1e-3
    )
    (tmp_path / "few.csv").write_text("year,month\n2013,7\n")
    code, _, err = run(monkeypatch, capsys, "predict", "flights", tmp_path / "few.csv")
    assert code == 1 and "lacks the columns day, hour, minute" in err


@pytest.mark.parametrize("form", ["keras", "tflite"])
def test_predict_takes_a_model_of_ones_own(monkeypatch, capsys, tmp_path, form):
    import keras

    import mtl_keras as mtl

    tasks = [mtl.tasks.Regression("cost", hidden=4), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing(
        (4,), tasks, "mlp", backbone_options={"widths": (8,)}, name="shop"
    )
    x = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    file = tmp_path / f"shop.{form}"
    model.save(file) if form == "keras" else mtl.export.tflite(model, file)
    np.savez(tmp_path / "x.npz", **{model.inputs[0].name: x})
    np.save(tmp_path / "x.npy", x)
    expected = model.predict(x, verbose=0)
    for data in ("x.npz", "x.npy"):
        code, out, err = run(monkeypatch, capsys, "predict", file, tmp_path / data, "--json")
        assert code == 0, err
        rows = json.loads(out)
        np.testing.assert_allclose(
            [row["cost"] for row in rows], expected["cost"][:, 0], rtol=1e-4, atol=1e-5
        )
        assert [row["sold"]["label"] for row in rows] == (expected["sold"][:, 0] >= 0.5).tolist()
    assert run(monkeypatch, capsys, "predict", file, tmp_path / "x.npz")[0] == 0
    code, _, err = run(monkeypatch, capsys, "predict", file, "a sentence")
    assert code == 1 and "no encoder" in err
    np.savez(tmp_path / "y.npz", y=x)
    np.save(tmp_path / "y.npy", x[:, :2])
    for data, words in (
        ("y.npz", "should hold"),
        ("y.npy", "should have shape"),
        ("z.npy", "no file"),
    ):
        code, _, err = run(monkeypatch, capsys, "predict", file, tmp_path / data)
        assert code == 1 and words in err and len(err.strip().splitlines()) == 1
    assert keras.config.floatx() == "float32"


def test_predict_of_a_plain_keras_model_prints_its_outputs(monkeypatch, capsys, tmp_path):
    import keras

    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    model = keras.Model(
        [b, a], [keras.layers.Dense(1, name="p")(a), keras.layers.Dense(2, name="q")(b)]
    )
    model.save(tmp_path / "plain.keras")
    rng = np.random.default_rng(0)
    x = {"a": rng.random((2, 2), "float32"), "b": rng.random((2, 3), "float32")}
    np.savez(tmp_path / "x.npz", **x)
    code, out, err = run(
        monkeypatch, capsys, "predict", tmp_path / "plain.keras", tmp_path / "x.npz", "--json"
    )
    assert code == 0, err
    expected = model.predict([x["b"], x["a"]], verbose=0)
    for row, p, q in zip(json.loads(out), *expected, strict=True):
        np.testing.assert_allclose(list(row.values())[1:][0], p, rtol=1e-5)
        np.testing.assert_allclose(list(row.values())[1:][1], q, rtol=1e-5)
    code, _, err = run(monkeypatch, capsys, "predict", tmp_path / "none.keras", "x")
    assert code == 1 and "no file" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "fashion_scene", "nowhere.png"], "no file nowhere.png"),
        (["predict", "flights", "a.csv", "b.csv"], "one CSV file"),
        (["zoo", "train", "flight"], "Did you mean 'flights'"),
        (["data", "fetch", "glos"], "Did you mean 'gloss'"),
        (["data", "fetch", "gloss", "--from", "."], "needs the file data.noun"),
    ],
)
def test_what_a_user_can_mend_is_said_in_one_line(monkeypatch, capsys, arguments, words):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 1 and words in err and "Traceback" not in err


def test_a_picture_that_is_none_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "x.png").write_text("no")
    code, _, err = run(monkeypatch, capsys, "predict", "fashion_scene", tmp_path / "x.png")
    assert code == 1 and "is not a picture" in err


def test_balancers_are_listed_with_what_they_need_and_who_published_them_at_80_columns(
    monkeypatch, capsys
):
    from mtl_keras import balancing

    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(monkeypatch, capsys, "balancers")
    lines = out.splitlines()
    assert code == 0 and max(map(len, lines)) <= 80 and "…" not in out
    rows = {line.split()[0]: line for line in lines if line and not line.startswith(" ")}
    assert set(balancing.names()) <= set(rows)
    assert len(lines) <= 3 * len(balancing.names()), "a method takes a line or two"
    assert "Gram matrix" in rows["pcgrad"] and "Yu et al., NeurIPS" in rows["pcgrad"]
    assert "held-out" in rows["auto_lambda"] and "Navon et al., ICML" in rows["log_loss"]


def test_a_balancer_is_shown_with_its_whole_citation(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "balancers", "cagrad")
    assert (
        code == 0
        and "Conflict-Averse Gradient Descent for Multi-task Learning" in out
        and "T backward" in out
    )
    code, _, err = run(monkeypatch, capsys, "balancers", "cagrd")
    assert code == 1 and "Did you mean 'cagrad'" in err


def test_inspect_tells_what_a_file_is(tmp_path, capsys, monkeypatch):
    import json
    import sys

    import mtl_keras as mtl
    from mtl_keras.cli import main

    tasks = [
        mtl.tasks.Classification("kind", 2, labels=["cup", "hat"], hidden=0),
        mtl.tasks.Regression("age", unit="years"),
    ]
    model = mtl.builders.hard_sharing((3,), tasks, "mlp", backbone_options={"widths": (4,)})
    mtl.export.tflite(model, tmp_path / "m.tflite")
    monkeypatch.setattr(sys, "argv", ["mtl-keras", "inspect", str(tmp_path / "m.tflite"), "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["outputs"]) == ["kind", "age"] and facts["tasks"][1]["unit"] == "years"
    monkeypatch.setattr(sys, "argv", ["mtl-keras", "inspect", str(tmp_path / "m.tflite")])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "cup, hat" in printed and "FULLY_CONNECTED" in printed


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a small trained network in a `.keras` file, and data for it in a `.npz`
    file."""
    import keras
    import numpy as np

    import mtl_keras as mtl

    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Regression("cost", hidden=4), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing(
        (4,), tasks, "mlp", backbone_options={"widths": (8,)}, name="shop"
    )
    x = np.random.default_rng(0).standard_normal((64, 4)).astype("float32")
    y = {"cost": x[:, 0], "sold": (x[:, 1] > 0).astype("int32")}
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(x, y, epochs=10, verbose=0)
    folder = tmp_path_factory.mktemp("shop")
    model.save(folder / "shop.keras")
    np.savez(folder / "data.npz", **{model.inputs[0].name: x}, **y)
    return folder


@pytest.fixture
def saved(shop, tmp_path):
    """A copy of these files, to write beside."""
    return shutil.copytree(shop, tmp_path, dirs_exist_ok=True)


@pytest.mark.large
def test_export_of_a_saved_model_with_a_gate(monkeypatch, capsys, saved):
    import mtl_keras as mtl

    monkeypatch.setenv("COLUMNS", "200")
    data = ["--calibration", saved / "data.npz", "--evaluate", saved / "data.npz"]
    code, out, err = run(
        monkeypatch, capsys, "export", saved / "shop.keras", "--out", saved / "m.tflite", "--quantization", "int8", *data,
        "--max-drop", "cost=0.5", "--keep-float", "cost", "--signatures", "heads",
        "--snippets", "kotlin,js", "--web", "--decode", "sold",
    )  # fmt: skip
    assert code == 0, err
    assert all((saved / name).is_file() and name in out for name in ("m.kt", "m.js", "m.html"))
    assert "r2" in out and "delegate partition" in out
    file = mtl.export.TFLiteModel(saved / "m.tflite")
    assert file.signatures == ["serving_default", "predict_cost", "predict_sold"] and file.facts[
        "in_float"
    ] == ["cost"]
    assert list(file.outputs) == ["cost", "sold", "sold_decoded"]
    code, _, err = run(
        monkeypatch, capsys, "export", saved / "shop.keras", "--out", saved / "n.tflite", "--quantization", "int8", *data,
        "--max-drop=-1",
    )  # fmt: skip
    assert code == 1 and "loses more than allowed" in err and not (saved / "n.tflite").exists()


@pytest.mark.large
def test_export_to_other_forms_and_of_the_zoo(monkeypatch, capsys, saved, tmp_path):
    code, _, err = run(
        monkeypatch,
        capsys,
        "export",
        saved / "shop.keras",
        "--to",
        "split",
        "--out",
        saved / "parts",
    )
    assert code == 0 and sorted(p.name for p in (saved / "parts").iterdir()) == [
        "backbone.tflite", "cost.tflite", "sold.tflite",
    ], err  # fmt: skip
    code, _, err = run(
        monkeypatch,
        capsys,
        "export",
        saved / "shop.keras",
        "--to",
        "saved_model",
        "--out",
        saved / "served",
    )
    assert code == 0 and (saved / "served" / "saved_model.pb").is_file(), err
    monkeypatch.chdir(tmp_path)
    code, _, err = run(
        monkeypatch, capsys, "export", "fashion_scene", "--quantization", "int8", "--task", "item"
    )
    assert code == 0 and list(tmp_path.glob("*_int8.tflite")), err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "coreml"], "--to is tflite, saved_model, split, onnx or openvino"),
        (["--to", "saved_model", "--quantization", "int8"], "writes float32"),
        (["--to", "split", "--io", "int8"], "--to split has no --io"),
        (["--quantization", "int8"], "give `calibration`"),
        (["--quantization", "int8", "--calibration", "none.npz"], "none.npz is not there"),
        (["--max-drop", "a lot"], "--max-drop is a number"),
        (["--snippets", "kotlin,rust"], "--snippets knows kotlin,swift,cpp,js,python, got rust"),
        (["--web", "--batch", "2"], "leave out --batch"),
        (["--raw", "480"], "--raw is HEIGHTxWIDTH"),
        (["--raw", "4x4"], "no picture of fixed size"),
        (["--decode", "costs"], "Unknown task in `decode`: 'costs'"),
        (["--to", "split", "--web"], "--to split has no --web"),
    ],
)
def test_export_says_in_one_line_what_does_not_go(monkeypatch, capsys, saved, arguments, words):
    code, _, err = run(
        monkeypatch, capsys, "export", saved / "shop.keras", "--out", saved / "m.tflite", *arguments
    )
    assert code == 1 and words in err and len(err.strip().splitlines()) == 1
    assert (
        run(monkeypatch, capsys, "export", "shup.keras")[2]
        .strip()
        .endswith("shup.keras is not there.")
    )


@pytest.mark.large
def test_benchmark_prints_and_draws(monkeypatch, capsys, saved):
    import json

    import keras

    import mtl_keras as mtl

    mtl.export.tflite(keras.saving.load_model(saved / "shop.keras"), saved / "m.tflite")
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = run(
        monkeypatch,
        capsys,
        "benchmark",
        saved / "m.tflite",
        "--runs",
        "3",
        "--plot",
        saved / "m.png",
    )
    assert code == 0 and "median ms" in out and (saved / "m.png").stat().st_size > 1000, err
    code, out, err = run(
        monkeypatch, capsys, "benchmark", saved / "m.tflite", "--runs", "3", "--json"
    )
    assert code == 0 and json.loads(out)["rows"][0]["file"] == "m.tflite", err
