"""The program `mtl-keras`: its groups of commands, and how it ends.

A command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mtl_keras.cli.data_commands import data_app
from mtl_keras.cli.file_commands import benchmark, inspect
from mtl_keras.cli.model_commands import balancers, export, predict, quickstart
from mtl_keras.cli.training_commands import init, train
from mtl_keras.cli.zoo_commands import zoo_app
from mtl_keras.quiet import mute_native_code

__all__ = ["app", "main"]

app = typer.Typer(
    help="Multi-task learning for Keras 3: a zoo of multi-head networks, training, export to "
    "phones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (quickstart, train, init, predict, export, benchmark, inspect, balancers):
    app.command()(_command)
app.add_typer(zoo_app, name="zoo")
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from mtl_keras.version import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run a command. An error that the user can correct is one line, without a traceback."""
    mute_native_code()
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("MTL_KERAS_DEBUG"):
            raise
        print(f"mtl-keras: {error}", file=sys.stderr)
        sys.exit(1)
