"""The quickstart: the whole road once, on real pictures, in under three minutes."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import analysis, export
from mtl_keras.export.archive import by_name
from mtl_keras.runtime.files import atomic_write, check_writable
from mtl_keras.training import Progress
from mtl_keras.zoo import training
from mtl_keras.zoo.fashion_scene import RECIPE

__all__ = ["run"]


def run(
    out: str | os.PathLike[str] = "quickstart", epochs: int = 6, seed: int = 0
) -> dict[str, Any]:
    """Train `fashion_scene` from scratch, evaluate it, export it, and run the int8 file on the test pictures.

    Leaves `saved_model/`, `model.tflite`, `model_int8.tflite`, `model.keras`, `results.json` and `predictions.png` in
    `out`.

    Args:
        out: folder.
        epochs: int. Passes over the 11,000 training pictures.
        seed: int.

    Returns:
        What `results.json` holds.

    Raises:
        ExportError: a folder that can't be written to (said before the training), or a file that fails its comparison.
    """
    from rich.console import Console

    console, out, begun = Console(), Path(out), time.perf_counter()
    check_writable(out / "results.json")
    console.print(
        "[bold]1/4[/] A network with three heads, trained from scratch on photographs of Fashion-MNIST"
    )
    prepared = RECIPE.prepare()
    model = training.fit(
        RECIPE, prepared, seed, epochs=epochs, callbacks=[Progress("fashion_scene", console)]
    )
    console.print(
        f"      {model.count_params():,} parameters, shared by: {', '.join(model.task_names)}"
    )

    console.print(
        "[bold]2/4[/] 2,000 test pictures, beside the best answers that don't look at the picture"
    )
    x, labels = analysis.collect(prepared.test)
    outputs = training.predict(model, x)
    scores = {
        "trivial": analysis.trivial(model.tasks, prepared.train_labels, labels),
        "keras": analysis.score(model.tasks, outputs, labels),
    }

    console.print(
        "[bold]3/4[/] Files: SavedModel, TFLite float and int8; each loaded again and compared"
    )
    model.save(out / "model.keras")
    reports = {
        "saved_model": export.saved_model(model, out / "saved_model", samples=x),
        "model.tflite": export.tflite(model, out / "model.tflite", samples=x),
        "model_int8.tflite": export.tflite(
            model, out / "model_int8.tflite", "int8", calibration=prepared.train(seed), samples=x
        ),
    }

    console.print("[bold]4/4[/] The int8 file on the test pictures, in the runtime that phones use")
    on_device = export.run_tflite(out / "model_int8.tflite", by_name(model, x))
    scores["model_int8.tflite"] = analysis.score(model.tasks, on_device, labels)

    results = {
        "scores": scores,
        "files": {name: report.to_dict() for name, report in reports.items()},
        "parameters": model.count_params(),
        "epochs": epochs,
        "seed": seed,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    with atomic_write(out / "results.json") as fresh:
        fresh.write_text(json.dumps(results, indent=1) + "\n")
    with atomic_write(out / "predictions.png") as fresh:
        _picture(fresh, model, x, labels, outputs, on_device)
    _table(console, scores, reports)
    here = _beside_python()
    console.print(
        f"\nAll of it is in [bold]{out}/[/] ({results['seconds']:.0f} s). Look at {out / 'predictions.png'}, then try:\n"
        f"  {here / 'mtl-keras'} zoo list\n"
        f"  {here / 'mtl-keras'} zoo info fashion_scene\n"
        f"  {here / 'python'} -c \"from mtl_keras import zoo; model = zoo.load('fashion_scene'); print(model.task_names)\"\n"
        f"  {here / 'python'} -c \"import mtl_keras, keras; keras.saving.load_model('{out / 'model.keras'}').summary()\"",
        highlight=False,
        soft_wrap=True,
    )
    return results


def _beside_python() -> Path:
    """The folder of this Python's programs as a user would type it."""
    folder = Path(sys.executable).parent
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _table(console, scores, reports):
    from rich.table import Table

    table = Table(title="2,000 test pictures")
    table.add_column("metric")
    for column in scores:
        table.add_column(column, justify="right")
    for name in scores["keras"]:
        table.add_row(name, *(f"{found[name]:.3f}" for found in scores.values()))
    console.print(table)
    for report in reports.values():
        worst = max(report.heads, key=lambda head: head.largest)
        console.print(
            f"{report.format}: {report.size / 1000:.0f} kB, largest difference from Keras {worst.largest:.1g} ({worst.name})"
        )


def _picture(
    path: Path, model: Any, x: Any, labels: Any, outputs: Any, on_device: Any, columns: int = 8
) -> None:
    """Test pictures with true and predicted class, box and silhouette: float in the first row, int8 in the second."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names = model.task("item").labels
    size = x.shape[1]
    figure = Figure(figsize=(2 * columns, 5), layout="constrained")
    axes = figure.subplots(2, columns)
    for row, (title, found) in enumerate(
        (("Keras, float32", outputs), ("TFLite, int8", on_device))
    ):
        for column in range(columns):
            axis = axes[row][column]
            axis.imshow(x[column, ..., 0], cmap="gray", vmin=0, vmax=1)
            for box, colour, style in (
                (labels["box"][column], "white", ":"),
                (found["box"][column], "tab:red", "-"),
            ):
                left, top, right, bottom = np.asarray(box) * size - 0.5
                axis.add_patch(
                    Rectangle(
                        (left, top),
                        right - left,
                        bottom - top,
                        fill=False,
                        color=colour,
                        linestyle=style,
                    )
                )
            axis.contour(
                labels["mask"][column, ..., 0],
                levels=[0.5],
                colors="white",
                linewidths=0.8,
                linestyles=":",
            )
            axis.contour(
                found["mask"][column, ..., 0], levels=[0.5], colors="tab:cyan", linewidths=1
            )
            truth, guess = (
                names[int(labels["item"][column])],
                names[int(np.argmax(found["item"][column]))],
            )
            axis.set_title(
                f"{guess}\n(is: {truth})", fontsize=9, color="green" if guess == truth else "red"
            )
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row][0].set_ylabel(title)
    figure.suptitle(
        "Predicted and true class; predicted box (red) and silhouette (cyan), the true ones dotted",
        fontsize=10,
    )
    FigureCanvasAgg(figure).print_png(str(path))
