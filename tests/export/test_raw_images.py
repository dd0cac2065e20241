"""Pictures as cameras give them, in the file."""

import keras
import numpy as np
import pytest
from helpers import image_model, same

import mtl_keras as mtl
from mtl_keras.export import with_raw_images


def _pictures(rows, height, width, channels=1):
    return (
        np.random.default_rng(0).integers(0, 256, (rows, height, width, channels)).astype("uint8")
    )


def _bilinear(picture, height, width):
    """In float64: the value of each new pixel's center between its four neighbors (half-pixel
    centers, edges repeated)."""

    def places(new, old):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    (y0, y1, fy), (x0, x1, fx) = places(height, picture.shape[0]), places(width, picture.shape[1])
    picture, fy, fx = picture.astype("float64"), fy[:, None, None], fx[None, :, None]
    top = picture[y0][:, x0] * (1 - fx) + picture[y0][:, x1] * fx
    return top * (1 - fy) + (picture[y1][:, x0] * (1 - fx) + picture[y1][:, x1] * fx) * fy


def test_bytes_are_resized_and_scaled_as_said():
    x = _pictures(2, 9, 21, 3)
    found = np.asarray(mtl.layers.RawImage((12, 14), scale=0.5, offset=-3)(x))
    expected = np.stack([_bilinear(picture, 12, 14) for picture in x]) * 0.5 - 3
    np.testing.assert_allclose(found, expected, atol=1e-3)
    same([mtl.layers.RawImage((9, 21))(x)], [x / np.float32(255)])


def test_the_network_behind_is_the_same_one():
    model = image_model()
    raw = with_raw_images(model, (20, 30))
    x = _pictures(3, 20, 30)
    resized = np.stack([_bilinear(picture, 16, 16) for picture in x]) / 255
    found, expected = raw.predict(x, verbose=0), model.predict(resized.astype("float32"), verbose=0)
    assert (
        list(found) == list(expected) == model.task_names
        and raw.representation == model.representation
    )
    same([found[k] for k in found], [expected[k] for k in found], rtol=1e-4, atol=1e-5)
    assert {id(v) for v in raw.variables} >= {id(v) for v in model.variables}


@pytest.mark.large
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_files_take_bytes(trained, tmp_path, quantization):
    model, _, _ = trained
    raw = with_raw_images(model, (24, 20), scale=2 / 255)
    x = _pictures(32, 24, 20)
    report = mtl.export.tflite(raw, tmp_path / "m.tflite", quantization, calibration=x)
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    assert file.inputs["image"]["dtype"] == "uint8" and file.inputs["image"]["shape"] == [
        1,
        24,
        20,
        1,
    ]
    assert report.ops["RESIZE_BILINEAR"] >= 1
    found, expected = file.run({"image": x}), raw.predict(x, verbose=0)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() < (1e-5 if quantization is None else 0.1)
    assert mtl.export.snippets(tmp_path / "m.tflite", ["python"])["python"].is_file()


def test_other_inputs_stay_and_it_is_saved(tmp_path):
    image, table = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="table")
    h = keras.layers.Concatenate()([keras.layers.Flatten()(image), table])
    cost = mtl.tasks.Regression("cost")
    model = mtl.MultiTaskModel(
        {"image": image, "table": table},
        {"cost": mtl.tasks.TaskOutput(cost)(keras.layers.Dense(1)(h))},
    )
    raw = with_raw_images(model)
    x = {"image": _pictures(2, 8, 8, 3), "table": np.ones((2, 4), "float32")}
    raw.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    expected = model.predict({**x, "image": x["image"] / np.float32(255)}, verbose=0)
    same([loaded.predict(x, verbose=0)["cost"]], [expected["cost"]])


def test_the_scale_is_the_encoders():
    encoder = mtl.data.ImageEncoder((16, 16), channels=1, scale=1 / 127.5)
    model = image_model()
    model = mtl.MultiTaskModel(model.input, model.output, encoder=encoder)
    raw = with_raw_images(model)
    assert raw.get_layer("image_raw").scale == pytest.approx(1 / 127.5) and raw.encoder is None


def test_errors():
    with pytest.raises(ValueError, match="no picture"):
        with_raw_images(
            mtl.builders.hard_sharing((5,), [mtl.tasks.Regression("cost")], backbone="mlp")
        )
    with pytest.raises(ValueError, match=r"Unknown picture input 'imagg'.*image"):
        with_raw_images(image_model(), input="imagg")
    with pytest.raises(ValueError, match="size is"):
        mtl.layers.RawImage((3,))
