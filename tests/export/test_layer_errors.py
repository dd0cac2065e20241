"""Which layer loses the accuracy: a layer ruined on purpose is the one that is named."""

import keras
import numpy as np
import pytest
from helpers import image_data, image_model, ruined_model

import mtl_keras as mtl


@pytest.fixture(scope="module")
def ruined():
    keras.utils.set_random_seed(1)
    model, x, _y = ruined_model()
    return model, x


@pytest.mark.large
def test_the_ruined_layer_is_named_and_its_head_in_float_mends_it(ruined):
    model, x = ruined
    report = mtl.export.layer_errors(model, "int8", x[:128], x[128:192])
    worst = report.worst(1)[0]
    assert worst.layer == "cost_hidden" and worst.error > 0.4
    assert report.heads["cost"] > 0.2 and report.heads["sold"] < 0.1
    head = next(entry for entry in report.layers if entry.layer == "cost")
    assert head.heads["cost"] < 0.3 * report.heads["cost"]


@pytest.mark.large
def test_the_heads_errors_are_those_of_the_files(ruined, tmp_path):
    """Against two files written and run apart, in float64."""
    model, x = ruined
    report = mtl.export.layer_errors(model, "weights", samples=x[:32])
    for kind in (None, "weights"):
        mtl.export.tflite(model, tmp_path / f"{kind}.tflite", kind)
    exact, rounded = (
        mtl.export.run_tflite(tmp_path / f"{kind}.tflite", {"numeric": x[:32]})
        for kind in (None, "weights")
    )
    for name, value in report.heads.items():
        left, right = np.float64(exact[name]), np.float64(rounded[name])
        np.testing.assert_allclose(
            value, np.sqrt(np.mean((left - right) ** 2)) / left.std(), rtol=0.02, atol=1e-4
        )


@pytest.mark.large
def test_float_files_have_no_error_beyond_rounding():
    model = image_model()
    x, _ = image_data(8)
    report = mtl.export.layer_errors(model, "float16", samples=x)
    names = [layer.name for layer in model.layers]
    assert report.layers and all(entry.error < 0.01 for entry in report.layers)
    assert all(entry.layer in names for entry in report.layers)


@pytest.mark.large
def test_it_prints_and_refuses(ruined, capsys):
    model, x = ruined
    mtl.export.layer_errors(model, "int8", x[:64], try_float=1).show()
    text = capsys.readouterr().out
    assert "cost_hidden" in text and "with one layer in float" in text
    with pytest.raises(ValueError, match="one kind of quantized file"):
        mtl.export.layer_errors(model, "auto", x)
    with pytest.raises(ValueError, match="calibration"):
        mtl.export.layer_errors(model, "int8")
