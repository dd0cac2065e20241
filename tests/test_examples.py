"""The scripts of `examples/` run from raw files to the phone's snippet."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.large
def test_a_table_becomes_a_file_for_the_phone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = _load("table").main(tmp_path / "run", epochs=6)
    scores = results["scores"]
    assert scores["model"]["pressure_mae"] < scores["constant"]["pressure_mae"]
    assert scores["model"]["diabetes_auc"] > 0.7
    for name in ("model_int8.tflite", "model_int8.kt", "report.md", "pictures/saliency.png"):
        assert (tmp_path / "run" / name).is_file(), name
