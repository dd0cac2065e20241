"""The commands as a shell runs them: processes of their own, in which nobody imported our classes
before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras import zoo

PROGRAM = str(Path(sys.executable).parent / "mtl-keras")


def shell(*arguments, folder=None, program=(PROGRAM,), **environment):
    environment = {**os.environ, "COLUMNS": "80", **environment}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # the user has not heard of it
    return subprocess.run(
        [*program, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model in a `.keras` and a `.tflite` file, and its inputs."""
    folder = tmp_path_factory.mktemp("shop")
    keras.utils.set_random_seed(0)
    tasks = [mtl.tasks.Regression("cost", hidden=4), mtl.tasks.Binary("sold", hidden=4)]
    model = mtl.builders.hard_sharing(
        (4,), tasks, "mlp", backbone_options={"widths": (8,)}, name="shop"
    )
    model.save(folder / "shop.keras")
    np.savez(
        folder / "x.npz",
        **{
            model.inputs[0].name: np.random.default_rng(0)
            .standard_normal((40, 4))
            .astype("float32")
        },
    )
    return folder


def test_a_saved_model_is_exported_by_a_process_that_imports_nothing_else(folder):
    done = shell("export", "shop.keras", "--out", "shop.tflite", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and list(mtl.export.TFLiteModel(folder / "shop.tflite").outputs) == [
        "cost",
        "sold",
    ]


def test_inspect_says_what_it_has_to_say_and_nothing_else():
    done = shell("inspect", zoo.path("flights") / "model.tflite")
    assert done.returncode == 0 and done.stderr == "" and "arrival_delay" in done.stdout


def test_a_mistake_is_one_line_on_standard_error(tmp_path):
    done = shell("zoo", "info", "flight")
    assert (
        done.returncode == 1
        and done.stdout == ""
        and done.stderr.startswith("mtl-keras: Unknown zoo entry")
    )
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_shell_completes_names():
    words = {
        "_MTL_KERAS_COMPLETE": "complete_bash",
        "COMP_WORDS": "mtl-keras zoo info fl",
        "COMP_CWORD": "3",
    }
    assert shell(**words).stdout.split() == ["flights"]
    words |= {"COMP_WORDS": "mtl-keras ex", "COMP_CWORD": "1"}
    assert shell(**words).stdout.split() == ["export"]


@pytest.mark.parametrize("name", ["mtl-keras.py", "my-mtl-keras"])
@pytest.mark.large
def test_a_script_of_somebody_elses_whatever_its_name_loads_models(folder, tmp_path, name):
    code = f"import keras, mtl_keras\nprint(keras.saving.load_model({str(folder / 'shop.keras')!r}).task_names)\n"
    (tmp_path / name).write_text(code)
    done = shell(tmp_path / name, program=(sys.executable,))
    assert done.stdout.strip() == "['cost', 'sold']", done.stderr


@pytest.mark.large
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["balancers"], "NeurIPS"),
        (["balancers", "cagrad"], "Conflict-Averse"),
        (["zoo", "list"], "fashion_scene"),
        (["zoo", "info", "gloss"], "license"),
        (["zoo", "export", "flights", "--out", "files"], "files"),
        (["data", "list"], "Fashion"),
        (["predict", "gloss", "a small domesticated carnivorous mammal"], "noun"),
        (["predict", "shop.keras", "x.npz"], "row 40"),
        (["predict", "shop.tflite", "x.npz", "--json"], "row 40"),
        (["export", "shop.keras", "--to", "saved_model", "--out", "served"], "served"),
        (["export", "shop.keras", "--to", "split", "--out", "parts"], "parts"),
        (
            [
                "export",
                "shop.keras",
                "--quantization",
                "int8",
                "--calibration",
                "x.npz",
                "--out",
                "int8.tflite",
            ],
            "int8",
        ),
        (["export", "flights", "--quantization", "dynamic"], "dynamic"),
        (["inspect", "shop.tflite", "--json"], "cost"),
        (["benchmark", "shop.tflite", "--runs", "3"], "median"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_command_runs_in_a_process_of_its_own_and_says_nothing_else(folder, arguments, words):
    if not (folder / "shop.tflite").exists():
        mtl.export.tflite(keras.saving.load_model(folder / "shop.keras"), folder / "shop.tflite")
    done = shell(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and words.lower() in done.stdout.lower()


@pytest.mark.large
def test_the_module_is_the_command(folder):
    done = shell(
        "predict",
        "shop.keras",
        "x.npz",
        "--json",
        folder=folder,
        program=(sys.executable, "-m", "mtl_keras"),
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    rows = json.loads(done.stdout)
    model = keras.saving.load_model(folder / "shop.keras")
    with np.load(folder / "x.npz") as file:
        expected = model.predict(file[model.inputs[0].name], verbose=0)
    np.testing.assert_allclose(
        [row["cost"] for row in rows], expected["cost"][:, 0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.large
def test_a_budget_that_nothing_meets_is_a_report_on_request(folder):
    x = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
    name = next(iter(np.load(folder / "x.npz")))
    labels = {"cost": x[:, :1], "sold": (x[:, 1:2] > 0).astype("float32")}
    np.savez(folder / "held_out.npz", **{name: x}, **labels)
    words = ["export", "shop.keras", "--quantization", "auto", "--calibration", "x.npz"]
    words += ["--evaluate", "held_out.npz", "--max-drop", "0.5", "--out", "none.tflite"]
    done = shell(*words, "--max-bytes", 10, "--on-drop", "report", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "not written" in done.stdout
    assert "the budget is 10" in " ".join(done.stdout.split())
    assert not (folder / "none.tflite").exists()
    done = shell(*words, "--max-bytes", 10, folder=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("mtl-keras: No quantization loses at most")
    done = shell(*words, "--max-bytes", 1_000_000, "--max-ms", 1000, folder=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "none.tflite").exists()


def test_the_budget_and_what_happens_then_reach_the_export(folder, monkeypatch):
    from typer.testing import CliRunner

    from mtl_keras.cli.app import app

    calls = []

    def record(*args, **options):
        calls.append(options)
        return mtl.export.ExportReport("TFLite file (none)", [], passed=False)

    monkeypatch.setattr(mtl.export, "tflite", record)
    words = ["export", str(folder / "shop.keras"), "--quantization", "auto"]
    words += ["--max-bytes", "2000", "--max-ms", "1.5", "--on-drop", "report", "--snippets", "cpp"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert calls[0]["budget"] == {"bytes": 2000, "ms": 1.5}
    assert calls[0]["on_drop"] == "report"
    result = CliRunner().invoke(app, [*words, "--to", "onnx"])
    assert result.exit_code != 0
    assert len(calls) == 1
