"""The user's whole road: a CSV file, a split, a network, a saved file, a phone's file, raw rows."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import mtl_keras as mtl

ROWS = 400

BUILD = """
import json, sys
import keras, numpy as np
import mtl_keras as mtl

keras.utils.set_random_seed(1)
tasks = [
    mtl.tasks.Binary("diabetes"),
    mtl.tasks.Regression("pressure", scale="fit"),
    mtl.tasks.Classification("grade", 3),
]
data = mtl.data.from_csv("patients.csv", tasks, group="patient", time="visit")
print(data.describe())
split = data.split(0.7, 0.15, 0.15, seed=0)
split.save("split.json")
train, validation, test = split
model = mtl.builders.hard_sharing(
    data.inputs, data.tasks,
    backbone_options={"widths": (32, 16), "units": 8, "text_embedding_dim": 8})
model.compile(keras.optimizers.Adam(0.01))
model.fit(train.batch(32), validation_data=validation.batch(32), epochs=EPOCHS, verbose=0)
scores = model.evaluate(test.batch(64), verbose=0, return_dict=True)
model.save("model.keras")
mtl.export.tflite(model, "model.tflite", calibration=train.arrays()[0])
raw = {name: values[:8].tolist() for name, values in test.columns.items()}
answers = {name: v.tolist() for name, v in model.predict(test[:8].batch(8), verbose=0).items()}
json.dump({"scores": scores, "raw": raw, "answers": answers}, open("answers.json", "w"))
"""

LOAD = """
import json
import keras, numpy as np
import mtl_keras as mtl

saved = json.load(open("answers.json"))
model = keras.saving.load_model("model.keras")
print(model.encoder)
answers = model.predict(model.encoder.encode(saved["raw"]), verbose=0)
for name, values in saved["answers"].items():
    np.testing.assert_allclose(answers[name], values, rtol=1e-4, atol=1e-5)
data = mtl.data.from_csv("patients.csv", [task.copy() for task in model.tasks],
                         group="patient", time="visit")
train, validation, test = mtl.data.Split.load("split.json", data)
again = model.compile("sgd") or model.evaluate(test.batch(64), verbose=0, return_dict=True)
for name, value in saved["scores"].items():
    np.testing.assert_allclose(again[name], value, rtol=1e-3, atol=1e-5)
"""

# Without Keras and TensorFlow, as on a device.
RUN = """
import json, sys
import numpy as np

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras", "tensorflow", "pandas"):
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Block())
from mtl_keras.runtime import TFLiteModel

saved = json.load(open("answers.json"))
model = TFLiteModel("model.tflite")
outputs = model.run(model.encoder.encode(saved["raw"]))
for name, values in saved["answers"].items():
    np.testing.assert_allclose(outputs[name], values, rtol=1e-3, atol=1e-3 * np.abs(values).max())
decoded = model.predict(model.encoder.encode(saved["raw"]))
assert set(decoded["grade"][0]) == {"label", "probability"}
assert decoded["grade"][0]["label"] in ("low", "mid", "high")
"""


def _write_patients(path):
    """A spreadsheet's export with what such files have: marks, decimal commas, gaps, two visits a
    patient, notes with line breaks."""
    rng = np.random.default_rng(0)
    lines = ["patient;age;city;note;visit;ward;diabetes;pressure;grade"]
    words = {"high": "Schmerz stark müde", "mid": "etwas müde gut", "low": "gut munter wohl"}
    for row in range(ROWS):
        age = rng.integers(20, 90)
        grade = rng.choice(["low", "mid", "high"])
        note = " ".join(rng.permutation([*words[grade].split(), "heute", "wieder"]))
        pressure = f"{90 + 0.8 * age + rng.normal(0, 6):.1f}".replace(".", ",")
        sick = "ja" if age + rng.normal(0, 10) > 60 else "nein"
        lines.append(
            f"{row // 2};{age if rng.random() > 0.05 else ''};{rng.choice(['Köln', '東京', 'Москва'])};"
            f'"{note}\nEnde";{rng.integers(1, 28):02d}.03.2024;A;'
            f"{sick if rng.random() > 0.2 else '?'};{pressure if rng.random() > 0.1 else ''};{grade}"
        )
    path.write_text("\n".join(lines) + "\n", "utf-8-sig")


def _run(folder, script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.large
def test_from_a_csv_file_to_raw_rows_on_the_device(tmp_path):
    import json

    _write_patients(tmp_path / "patients.csv")
    out = _run(tmp_path, BUILD.replace("EPOCHS", "25"))
    for line in ("patient    group", "note       text", "ward       constant", "visit      time"):
        assert line.split()[0] in out
    scores = json.loads((tmp_path / "answers.json").read_text())["scores"]
    # What can be known: the grade from the note; pressure and diabetes from the age.
    assert scores["grade_accuracy"] > 0.9
    assert scores["pressure_r2"] > 0.5 and scores["diabetes_auc"] > 0.75
    assert "text column note" in _run(tmp_path, LOAD)
    _run(tmp_path, RUN)


def test_the_road_in_small(tmp_path):
    _write_patients(tmp_path / "patients.csv")
    data = mtl.data.from_csv(
        tmp_path / "patients.csv",
        {"diabetes": "diabetes", "pressure": "pressure", "grade": "grade"},
        group="patient",
        inputs=["age", "city"],
    )
    split = data.split(0.7, 0.3, seed=0)
    split.save(tmp_path / "split.json")
    train, test = mtl.data.Split.load(tmp_path / "split.json", data)
    model = mtl.builders.hard_sharing(data.inputs, data.tasks, backbone_options={"widths": (4,)})
    model.compile("adam")
    model.fit(train.batch(64), verbose=0)
    scores = model.evaluate(test.batch(200), verbose=0, return_dict=True)
    pressure = test.labels("pressure").ravel()
    answers = model.predict(test.batch(200), verbose=0)["pressure"].ravel()
    # Metrics are in the user's unit, over rows with a label.
    error = np.nanmean(abs(answers - pressure))
    assert scores["pressure_mae"] == pytest.approx(error, rel=1e-4)
