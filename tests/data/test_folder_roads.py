"""From a folder of files to the device: labels, split, training, a saved model, a TFLite file, and
what the shell predicts of a file."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
from PIL import Image

import mtl_keras as mtl

T = mtl.tasks


def _predict(model, file):
    """What `mtl-keras predict` says of one file."""
    command = [sys.executable, "-m", "mtl_keras", "predict", str(model), str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (row,) = json.loads(done.stdout)
    return row


def _check_files(model, data, tmp_path, paths):
    """The saved model, the TFLite file and the shell answer alike about files."""
    model.save(tmp_path / "model.keras")
    mtl.export.tflite(model, tmp_path / "model.tflite")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.encoder.get_config() == data.encoder.get_config()
    x = loaded.encoder.encode(paths)
    expected = model.predict(x, verbose=0)
    lite = mtl.runtime.TFLiteModel(tmp_path / "model.tflite")
    assert type(lite.encoder) is type(data.encoder)
    result = lite.run({lite.encoder.name: lite.encoder.encode(paths)})
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values, atol=1e-4)
        np.testing.assert_allclose(loaded.predict(x, verbose=0)[name], values, atol=1e-6)
    said = [_predict(tmp_path / f"model.{ending}", paths[0]) for ending in ("keras", "tflite")]
    return expected, said


@pytest.mark.large
def test_pictures_with_a_table_from_the_folder_to_the_shell(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["name,color,share,box_left,box_top,box_right,box_bottom,day"]
    (tmp_path / "photos/masks").mkdir(parents=True)
    for number in range(64):
        left, top = rng.integers(2, 14, 2)
        width, height = rng.integers(10, 16, 2)
        channel = number % 3
        picture = rng.integers(0, 60, (30, 40, 3))
        picture[top : top + height, left : left + width, channel] = 240
        mask = np.zeros((30, 40), "uint8")
        mask[top : top + height, left : left + width] = 255
        Image.fromarray(picture.astype("uint8")).save(tmp_path / f"photos/{number}.png")
        if number % 4:
            Image.fromarray(mask).save(tmp_path / f"photos/masks/{number}.png")
        color = ("red", "green", "blue")[channel] if number % 5 else ""
        edges = f"{left},{top},{left + width},{top + height}"
        lines.append(f"{number}.png,{color},{width * height / 1200:.4f},{edges},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = mtl.data.from_folder(
        tmp_path / "photos",
        tmp_path / "labels.csv",
        [
            T.Classification("color", 3),
            T.Regression("share", scale="fit"),
            T.BoundingBox("box"),
            T.Segmentation("mask"),
        ],
        size=32,
        masks={"mask": "masks/{stem}.png"},
        box_format="ltrb_pixels",
    )
    train, validation, test = data.split(0.5, 0.25, 0.25, seed=0)
    model = mtl.builders.hard_sharing(
        data.inputs, data.tasks, backbone_options={"widths": (8, 16), "depth": 1}
    )
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(
        train.batch(8), validation_data=validation.batch(8), epochs=2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
    assert model.encoder is data.encoder
    paths = [tmp_path / "photos" / name for name in test.row_names]
    expected, said = _check_files(model, data, tmp_path, paths)
    # The data set's batches hold the same pixels as the encoder makes of the files.
    from_batches = model.predict(test.batch(8), verbose=0)
    for name, values in expected.items():
        np.testing.assert_allclose(from_batches[name], values, atol=1e-5)
    labels = ["blue", "green", "red"]
    for row in said:
        assert row["color"]["label"] == labels[int(expected["color"][0].argmax())]
        np.testing.assert_allclose(row["share"], expected["share"][0, 0], atol=1e-3)


@pytest.mark.large
def test_sounds_in_class_folders_from_the_folder_to_the_shell(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        kind = ("low", "high")[number % 2]
        time = np.arange(rng.integers(3000, 5000)) / 8000
        tone = np.sin(2 * np.pi * (300 if kind == "low" else 2500) * time)
        path = tmp_path / "sounds" / kind / f"{number}.{'wav' if number % 3 else 'flac'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * tone + rng.normal(0, 0.02, len(time)), 8000)
    data = mtl.data.from_folder(
        tmp_path / "sounds", tasks={"pitch": "folder"}, sample_rate=8000, seconds=0.5
    )
    train, test = data.split(0.75, 0.25, seed=0)
    model = mtl.builders.hard_sharing(
        data.inputs, data.tasks, backbone_options={"widths": (4, 8), "depth": 1}
    )
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(train.batch(6), epochs=2, verbose=0)
    paths = [tmp_path / "sounds" / name for name in test.row_names]
    expected, said = _check_files(model, data, tmp_path, paths)
    for row in said:
        assert row["pitch"]["label"] == ["high", "low"][int(expected["pitch"][0].argmax())]
