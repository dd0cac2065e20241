"""Commands on your own data: `mtl-keras train`, `init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["init", "train"]

Data = Annotated[
    Path, typer.Argument(help="CSV or Parquet file, or a folder of pictures or sounds.")
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        help="Column to predict: COLUMN, or COLUMN:KIND with binary, classification, ordinal or "
        "regression. May be given several times."
    ),
]
Labels = Annotated[
    Path | None, typer.Option(help="Of a folder: CSV, COCO (.json) or Pascal VOC labels.")
]
Group = Annotated[
    str | None, typer.Option(help="Column whose values hold together in splits: a patient.")
]
Time = Annotated[str | None, typer.Option(help="Column of times: the newest rows are the test.")]
Weight = Annotated[str | None, typer.Option(help="Column of the rows' weights.")]
Text = Annotated[list[str] | None, typer.Option(help="Columns of texts.")]
LeaveOut = Annotated[list[str] | None, typer.Option(help="Columns that are no inputs.")]
Size = Annotated[int | None, typer.Option(min=8, help="Of pictures. Default: 160.")]
Backbone = Annotated[str | None, typer.Option(help="Default: what suits the data.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="At most so many. Default: 100.")]
Patience = Annotated[
    int | None, typer.Option(min=1, help="Epochs without a better one before it stops: 10.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Default: 32.")]
LearningRate = Annotated[float | None, typer.Option(help="Of Adam. Default: 0.001.")]
Balancer = Annotated[str | None, typer.Option(help="`mtl-keras balancers` lists them.")]
Augment = Annotated[str | None, typer.Option(help="Steps, such as flip,crop,color.")]
Baselines = Annotated[bool, typer.Option(help="Train single-task networks, too, and tell Δm.")]
Quantization = Annotated[
    str | None, typer.Option(help="A second file: int8, float16, dynamic, ... (see `export`).")
]
Seed = Annotated[int, typer.Option(help="Of splits, weights and orders.")]


def train(
    data: Data,
    target: Target = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("run"),
    labels: Labels = None,
    group: Group = None,
    time: Time = None,
    weight: Weight = None,
    text: Text = None,
    leave_out: LeaveOut = None,
    size: Size = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    patience: Patience = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    balancer: Balancer = None,
    augment: Augment = None,
    baselines: Baselines = False,
    quantization: Quantization = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
) -> None:
    """Train on your own data: best epoch, report with pictures, files for the phone."""
    request = _request(**locals())
    from mtl_keras.cli.training_road import run

    run(request)


def init(
    data: Data,
    target: Target = None,
    out: Annotated[Path, typer.Option(help="Script to write.")] = Path("train.py"),
    labels: Labels = None,
    group: Group = None,
    time: Time = None,
    weight: Weight = None,
    text: Text = None,
    leave_out: LeaveOut = None,
    size: Size = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    patience: Patience = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    balancer: Balancer = None,
    augment: Augment = None,
    baselines: Baselines = False,
    quantization: Quantization = None,
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a script that is there.")
    ] = False,
) -> None:
    """Write the script that does what `train` does, to edit."""
    # The script's run has the usual folder, and asks before it replaces one.
    request = _request(**{**locals(), "out": Path("run"), "overwrite": False})
    from mtl_keras.cli.training_road import write_script

    write_script(request, out, overwrite)
    print(f"Written: {out}. Run it: python {out}")


def _request(
    *,
    data: Path,
    target: list[str] | None,
    out: Path,
    text: list[str] | None,
    leave_out: list[str] | None,
    augment: str | None,
    labels: Path | None,
    group: str | None,
    time: str | None,
    weight: str | None,
    size: int | None,
    backbone: str | None,
    seed: int,
    **options: Any,
) -> Any:
    """What a command was asked for, as a `TrainRequest`. Arguments are those of the command."""
    from mtl_keras.cli.training_road import TrainRequest, check_data

    check_data(data)
    return TrainRequest(
        data,
        target or (),
        out,
        labels=labels,
        group=group,
        time=time,
        weight=weight,
        text=text or (),
        leave_out=leave_out or (),
        size=size,
        backbone=backbone,
        seed=seed,
        options=_chosen(**options, augment=_words(augment)),
    )


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _chosen(**options: Any) -> dict[str, Any]:
    """The options that a user gave."""
    return {name: value for name, value in options.items() if value not in (None, False)}
