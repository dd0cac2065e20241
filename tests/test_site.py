"""The documentation site builds without a warning, and its reference has a page for every public
package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mtl_keras as mtl

ROOT = Path(__file__).parents[1]


def test_the_reference_has_a_page_for_every_public_package():
    pages = {path.stem for path in (ROOT / "docs" / "reference").glob("*.md")}
    packages = {name for name in mtl.__all__ if name[0].islower()}
    assert pages == packages | {"model"}


@pytest.mark.large
def test_the_site_builds_without_a_warning(tmp_path):
    if shutil.which("mkdocs", path=Path(sys.executable).parent) is None:
        pytest.skip('mkdocs is missing: pip install -e ".[docs]"')
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(mkdocs, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference" / "balancing.html").read_text(encoding="utf-8")
    assert 'id="mtl_keras.balancing.CAGrad"' in reference
