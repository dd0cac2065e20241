"""Commands on the zoo: `mtl-keras zoo list`, `info`, `train`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtl_keras.cli.completion import EntryName

__all__ = ["zoo_app"]

zoo_app = typer.Typer(help="Networks by name: list, show, train, export.", no_args_is_help=True)


@zoo_app.command("list")
def list_entries() -> None:
    """All entries, with their scores."""
    from mtl_keras import zoo
    from mtl_keras.runtime.tables import print_table

    print_table(
        ("name", "what it does", "parameters", "metric that judges each task"),
        [_describe_entry(name) for name in zoo.list_models()],
    )


def _describe_entry(name: str) -> tuple[str, str, str, str]:
    from mtl_keras import zoo

    try:
        card = zoo.info(name)
    except FileNotFoundError:
        return name, "not trained yet", "", ""
    metrics = card["evidence"]["judged_by"]
    scores = card["scores"]["keras"]
    lines = "\n".join(f"{metric} {scores[metric]:.3f}" for metric in metrics)
    return name, card["summary"], f"{card['parameters']:,}", lines


@zoo_app.command("info")
def show_card(
    name: EntryName,
    as_json: Annotated[bool, typer.Option("--json", help="The card as JSON.")] = False,
) -> None:
    """An entry's card: data, license, recipe, and the scores of every file."""
    from mtl_keras import zoo

    if as_json:
        zoo.info(name)
        print((zoo.path(name) / "card.json").read_text(), end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    zoo.info(name)
    Console().print(Markdown((zoo.path(name) / "README.md").read_text()))


@zoo_app.command("train")
def train(
    name: EntryName,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the artifacts. Default: runs/NAME.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="May be given several times; the first one's network is kept."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
) -> None:
    """Train an entry and its single-task twins from scratch, and write all artifacts and the
    card."""
    from mtl_keras import zoo

    zoo.train(name, out=out, seeds=seed or [0], epochs=epochs)


@zoo_app.command("export")
def copy_files(
    name: EntryName,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: the entry's name.")] = None,
) -> None:
    """Copy an entry's SavedModel and TFLite files, checked against the card, to your folder."""
    from mtl_keras import zoo

    folder = zoo.export(name, out if out is not None else Path(name))
    print(f"{name}: SavedModel, TFLite files and card in {folder}")
