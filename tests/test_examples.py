"""The tutorials run from raw files to the phone's snippet, and the notebooks are the scripts."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "examples"
_SPEC = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make_notebooks.py")
make_notebooks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_notebooks)
SCRIPTS = make_notebooks.scripts()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebooks_are_the_scripts(script):
    written = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert written == make_notebooks.notebook_of(script), "run `python examples/make_notebooks.py`"


@pytest.mark.large
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_ends_with_a_file_for_the_phone(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.rglob("*.tflite")) and list(tmp_path.rglob("*.kt"))


@pytest.mark.large
def test_a_notebook_runs_cell_by_cell(tmp_path):
    """The others have the same cells as their scripts, which run above."""
    notebook = nbformat.read(FOLDER / "several_data_sets.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    assert list(tmp_path.rglob("*.tflite"))
