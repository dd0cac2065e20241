"""Commands on `.tflite` files: `mtl-keras benchmark`, `inspect`. They need no Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["benchmark", "inspect"]


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
    from mtl_keras.runtime import benchmark as run

    report = run(files, threads=threads or [1], runs=runs, singles=single or [])
    if as_json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        report.show()
    if plot is not None:
        report.plot(plot)


def inspect(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a .tflite file takes, gives, and says of itself: tasks, labels, units, operators."""
    from mtl_keras.runtime import TFLiteModel

    description = TFLiteModel(file).describe()
    if as_json:
        print(json.dumps(description, indent=1))
    else:
        _print_description(file, description)


def _print_description(file: Path, description: Mapping[str, Any]) -> None:
    from rich.console import Console

    from mtl_keras.runtime.tables import print_table

    console = Console()
    quantization = description.get("quantization", "not from mtl_keras")
    console.print(f"{file}: {description['bytes']:,} bytes, {quantization}", highlight=False)
    tasks = {task["name"]: task for task in description.get("tasks", ())}
    rows = [
        _describe_tensor(side, name, tensor, tasks.get(name, {}))
        for side in ("input", "output")
        for name, tensor in description[f"{side}s"].items()
    ]
    columns = ("tensor", "name", "shape", "dtype", "scale", "zero point", "task")
    print_table(columns, rows, console=console)
    if len(description["signatures"]) > 1:
        console.print("signatures: " + ", ".join(description["signatures"]), highlight=False)
    operators = [f"{name} {count}" for name, count in description["operators"].items()]
    console.print("operators: " + ", ".join(operators), highlight=False)


def _describe_tensor(
    side: str, name: str, tensor: Mapping[str, Any], task: Mapping[str, Any]
) -> tuple[str, ...]:
    is_scaled = bool(tensor["scale"])
    properties = ", ".join(
        f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in task.items()
        if key != "name" and value not in (None, "")
    )
    return (
        side,
        name,
        "x".join(map(str, tensor["shape"])),
        tensor["dtype"],
        f"{tensor['scale']:.4g}" if is_scaled else "",
        str(tensor["zero_point"]) if is_scaled else "",
        properties,
    )
