"""Write the notebooks from the scripts: `python examples/make_notebooks.py`.

A script is the source. `# %%` begins a cell, and `# %% [markdown]` one of text.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parent


def notebook_of(script: Path) -> str:
    """A script's cells as a notebook, in JSON."""
    cells = []
    for kind, body in re.findall(
        r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script.read_text(encoding="utf-8"), re.M | re.S
    ):
        if kind:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
            cells.append(nbformat.v4.new_markdown_cell(text.strip(), id=f"cell-{len(cells)}"))
        else:
            cells.append(nbformat.v4.new_code_cell(body.strip(), id=f"cell-{len(cells)}"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return nbformat.writes(notebook) + "\n"


def scripts() -> list[Path]:
    """The tutorials."""
    return sorted(path for path in FOLDER.glob("*.py") if path != Path(__file__))


if __name__ == "__main__":
    for path in scripts():
        path.with_suffix(".ipynb").write_text(notebook_of(path), encoding="utf-8")
