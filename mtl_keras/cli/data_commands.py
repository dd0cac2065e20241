"""Commands on data sets: `mtl-keras data fetch`, `list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtl_keras.cli.completion import complete_sources

__all__ = ["data_app"]

data_app = typer.Typer(help="Data sets that the zoo trains on.", no_args_is_help=True)


@data_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="flights or gloss", autocompletion=complete_sources)],
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder with the files, if you already have them.")
    ] = None,
) -> None:
    """Get a data set with ordinary package clients (no root), check it, and keep it."""
    from mtl_keras.data import sources

    print(f"{name}: {sources.fetch(name, folder, keep=True)}")


@data_app.command("list")
def list_sources() -> None:
    """The data sets, their licenses, and whether they are downloaded."""
    from mtl_keras.data import sources
    from mtl_keras.runtime.tables import print_table

    bundled = ("fashion_scene", "14,000 photographs of Fashion-MNIST", "MIT", "bundled", "yes")
    fetched = [
        (
            source.name,
            source.about,
            source.license,
            source.package,
            "yes" if sources.is_cached(source.name) else "no",
        )
        for source in sources.sources().values()
    ]
    print_table(("name", "what", "license", "package", "downloaded"), [bundled, *fetched])
