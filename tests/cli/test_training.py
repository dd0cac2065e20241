"""`mtl-keras train`, `init` and `predict` on a table as people have it."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from mtl_keras.cli import training_road
from mtl_keras.cli.predicting import predict
from mtl_keras.cli.training_road import TrainRequest


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Semicolons, decimal commas, umlauts, and missing labels; in the working folder."""
    rng = np.random.default_rng(0)
    lines = ["patient;Größe;Gewicht;Ort;Blutdruck;diabetes"]
    for i in range(120):
        size, weight = rng.uniform(150, 200), rng.uniform(50, 120)
        pressure = "" if i % 6 == 0 else f"{80 + 0.5 * weight + rng.normal(0, 2):.1f}"
        sick = "?" if i % 7 == 0 else "ja" if weight + rng.normal(0, 5) > 85 else "nein"
        town = ("Köln", "Bonn")[i % 2]
        cells = [f"p{i // 3}", f"{size:.1f}", f"{weight:.2f}", town, pressure, sick]
        lines.append(";".join(cells).replace(".", ","))
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "mtl_keras", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.mark.large
def test_a_table_becomes_a_run_and_answers_rows(table):
    targets = ["--target", "diabetes:binary", "--target", "Blutdruck:regression"]
    options = [
        "--group",
        "patient",
        "--epochs",
        "3",
        "--baselines",
        "--quantization",
        "int8",
        "--out",
        "run",
    ]
    done = _run("train", "patients.csv", *targets, *options)
    assert "Report: run/report.md" in done.stdout and "diabetes_auc" in done.stdout
    metrics = json.loads((table / "run" / "metrics.json").read_text())
    files = {"model.tflite", "model_int8.tflite"}
    assert set(metrics["scores"]) == {"constant", "single_task", "model", *files}
    assert metrics["delta_m"]["by_task"].keys() == {"diabetes", "Blutdruck"}
    assert "Δm" in done.stdout
    assert metrics["scores"]["model"]["diabetes_auc"] > 0.6
    # No patient is on two sides.
    split = json.loads((table / "run" / "split.json").read_text())
    patients = [{(int(name.split(":")[1]) - 2) // 3 for name in part} for part in split.values()]
    assert not patients[0] & patients[1] and not patients[0] & patients[2]
    again = _run("train", "patients.csv", *targets, *options, check=False)
    assert again.returncode == 1 and "run holds a finished run" in again.stderr
    # New rows, of which some values are missing.
    (table / "new.csv").write_text("Ort,Gewicht,Größe\nBonn,110.5,180\nTrier,,\n", encoding="utf-8")
    rows = json.loads(_run("predict", "run", "new.csv", "--json").stdout)
    assert [row["input"] for row in rows] == ["new.csv:2", "new.csv:3"]
    assert rows[0]["diabetes"]["probability"] > rows[1]["diabetes"]["probability"]
    _run("predict", "run", "new.csv", "--csv", "answers.csv")
    with open(table / "answers.csv", newline="", encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    assert float(answers[0]["Blutdruck"]) == pytest.approx(rows[0]["Blutdruck"])
    assert list(answers[0]) == ["input", "diabetes", "diabetes_probability", "Blutdruck"]


@pytest.mark.large
def test_a_run_on_texts_reads_new_texts_from_its_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (["lovely", "great", "kind", "tasty"], ["awful", "cold", "rude", "slow"])
    rng = np.random.default_rng(0)
    lines = ["review,positive"]
    for i in range(80):
        text = " ".join([*rng.choice(words[i % 2], 3), *rng.choice(["the", "soup", "was"], 3)])
        lines.append(f'"{text}, number {i}",{"no" if i % 2 else "yes"}')
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    options = {"epochs": 4, "verbose": False, "batch_size": 8}
    request = TrainRequest(tmp_path / "reviews.csv", ["positive"], text=["review"], options=options)
    training_road.run(request)
    (tmp_path / "new.csv").write_text('id,review\n7,"kind, great"\n8,rude awful slow\n')
    rows = predict("run", ["new.csv"], as_json=True)
    assert rows[0]["positive"]["probability"] > rows[1]["positive"]["probability"]
    assert predict("run", ["kind great"])[0]["positive"] == pytest.approx(rows[0]["positive"])
    (tmp_path / "other.csv").write_text("id,words\n7,kind\n")
    with pytest.raises(ValueError, match="the column 'review'"):
        predict("run", ["other.csv"])


@pytest.mark.large
def test_the_script_does_what_the_command_does(table):
    request = TrainRequest(
        table / "patients.csv",
        ["diabetes:binary", "Blutdruck"],
        table / "run",
        group="patient",
        leave_out=["Ort"],
        options={"epochs": 2, "verbose": False},
    )
    results = training_road.run(request)
    text = training_road.script(request)
    names = {"__name__": "script"}
    exec(compile(text.replace(str(table / "run"), str(table / "other")), "train.py", "exec"), names)
    names["main"]()
    other = json.loads((table / "other" / "metrics.json").read_text())
    assert other["scores"]["model"] == pytest.approx(results["scores"]["model"], rel=1e-5)
    assert other["settings"] == results["settings"]


def test_the_script_names_tasks_and_options(table):
    request = TrainRequest(
        table / "patients.csv",
        ["diabetes:binary", "Blutdruck:regression", "Ort:classification"],
        group="patient",
        backbone="deep_cross",
        options={"epochs": 2, "augment": ["column_noise"]},
    )
    text = training_road.script(request)
    for line in (
        'mtl.tasks.Binary("diabetes"): "diabetes",',
        'mtl.tasks.Regression("Blutdruck", scale="fit"): "Blutdruck",',
        'mtl.tasks.Classification("Ort", num_classes=2, labels=["Bonn", "Köln"]): "Ort",',
        'seed=0, by="group")',
        'backbone="deep_cross")',
        'epochs=2, augment=["column_noise"]',
    ):
        assert line in text, text
    assert max(map(len, text.splitlines())) <= 180
    training_road.write_script(request, table / "train.py")
    with pytest.raises(Exception, match=r"train\.py is there already"):
        training_road.write_script(request, table / "train.py")
    compile((table / "train.py").read_text(encoding="utf-8"), "train.py", "exec")


def test_options_that_do_not_fit_are_refused(table):
    path = table / "patients.csv"
    with pytest.raises(ValueError, match="--group and --time"):
        TrainRequest(path, group="patient", time="Ort")
    with pytest.raises(ValueError, match="--size is not for tables"):
        TrainRequest(path, size=64).data_options  # noqa: B018
    with pytest.raises(ValueError, match="--leave-out is not for folders"):
        TrainRequest(table, leave_out=["a"]).data_options  # noqa: B018
