"""Names that the shell completes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EntryName", "complete_entries", "complete_models", "complete_sources"]


def complete_entries(incomplete: str) -> list[str]:
    """Entries of the zoo."""
    from mtl_keras import zoo

    return [name for name in zoo.list_models() if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Entries of the zoo, and files of models."""
    folder = Path(incomplete).parent
    files = [*folder.glob("*.keras"), *folder.glob("*.tflite")]
    return [
        *complete_entries(incomplete),
        *(str(file) for file in files if str(file).startswith(incomplete)),
    ]


def complete_sources(incomplete: str) -> list[str]:
    """Data sets."""
    from mtl_keras.data import sources

    return [name for name in sources.sources() if name.startswith(incomplete)]


EntryName = Annotated[
    str,
    typer.Argument(
        help="Entry of the zoo; `mtl-keras zoo list` shows all.", autocompletion=complete_entries
    ),
]
