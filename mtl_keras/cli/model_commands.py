"""Commands on models: `mtl-keras quickstart`, `balancers`, `predict`, `export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mtl_keras.cli.completion import complete_models

__all__ = ["balancers", "export", "predict", "quickstart"]


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("quickstart"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 6,
    seed: Annotated[int, typer.Option(help="Of weights and data.")] = 0,
) -> None:
    """Train a three-head network on real pictures, export it, and prove the files: under 3 minutes
    on 2 cores."""
    from mtl_keras.cli.quickstart import run

    run(out, epochs=epochs, seed=seed)


def balancers(
    name: Annotated[str | None, typer.Argument(help="One method, with its full citation.")] = None,
) -> None:
    """All balancing methods: what each needs, what a step costs, and who published it."""
    from mtl_keras import balancing
    from mtl_keras.runtime.names import unknown_name
    from mtl_keras.runtime.tables import print_table

    entries = {entry.name: entry for entry in balancing.list_balancers()}
    if name is None:
        rows = [
            (entry.name, entry.needs, entry.cost, _shorten_citation(entry.citation))
            for entry in entries.values()
        ]
        print_table(("name", "needs", "cost of a step", "published"), rows, box="plain")
        print("`mtl-keras balancers NAME` shows a method's full citation.")
    elif name in entries:
        entry = entries[name]
        print(f"kind: {entry.kind}")
        print(f"needs: {entry.needs}")
        print(f"cost of a step: {entry.cost}")
        print(f"published: {entry.citation}")
    else:
        raise ValueError(unknown_name("balancer", name, list(entries)))


def _shorten_citation(citation: str) -> str:
    """`Liu, Liu, Jin, "Conflict-Averse ...", NeurIPS 2021` as `Liu et al., NeurIPS 2021`."""
    # A title is longer than a name in quotes, and notes may stand before the authors and behind the
    # year.
    parts = re.match(r'(.+?)"[A-Z][^"]{12,}"(.*?(?:19|20)\d\d)', citation)
    if not parts:
        return citation
    authors = re.split(r": |\) of ", parts[1])[-1].strip(" ,").split(", ")
    several = len(authors) > 1 or " & " in authors[0] or " and " in authors[0]
    venue = parts[2].strip(" ,.;")
    first = re.split(r" & | and ", authors[0])[0].removesuffix(" et al.").removesuffix(" et al")
    return f"{first}{' et al.' if several or first != authors[0] else ''}, {venue}"


def predict(
    name: Annotated[
        str,
        typer.Argument(
            help="Entry of the zoo, folder of a run, or a .keras or .tflite file of your own.",
            autocompletion=complete_models,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, sentences, or one CSV file, as the model takes; or one .npz of its "
            "inputs."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option("--csv", help="Write the answers to this CSV file.")
    ] = None,
) -> None:
    """Predict on your own input, with a network of the zoo or your own."""
    from mtl_keras.cli.predicting import predict as run

    run(name, inputs, as_json, out)


def export(
    model: Annotated[
        str,
        typer.Argument(help="Entry of the zoo, or a .keras file.", autocompletion=complete_models),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="tflite, saved_model, split (a backbone and a small file per head), onnx, or "
            "openvino."
        ),
    ] = "tflite",
    out: Annotated[
        Path | None, typer.Option(help="File or folder. Default: the model's name.")
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="float16, weights, dynamic, int4, int4_block32, int4_block64, int8, int16x8, or "
            "auto. Default: float32."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help=".npz with inputs by name, or .npy of the one input. Default for the zoo: its "
            "training data."
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
        int | None, typer.Option(min=1, help="auto: largest size of the file.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="auto: longest time of a call, on this machine.")
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
    """Export a network, compare every head with Keras, and print the loss of each head."""
    from mtl_keras.cli.exporting import ExportRequest, parse_max_drop, run

    run(
        ExportRequest(
            model=model,
            to=to,
            out=out,
            quantization=quantization,
            calibration=calibration,
            evaluate=evaluate,
            raw=raw,
            snippets=tuple(snippets.split(",")) if snippets else (),
            web=web,
            layer_errors=layer_errors,
            tasks=task,
            keep_float=keep_float,
            percentile=percentile,
            signatures=signatures,
            io=io,
            batch=batch,
            decode=decode,
            max_drop=parse_max_drop(max_drop or []),
            on_drop=on_drop,
            max_bytes=max_bytes,
            max_ms=max_ms,
        )
    )
