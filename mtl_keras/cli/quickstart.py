"""The quickstart: training, evaluation and export on real pictures, in under three minutes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import analysis, export
from mtl_keras.callbacks import Progress
from mtl_keras.export.models import inputs_by_name
from mtl_keras.runtime.files import atomic_write, check_writable
from mtl_keras.runtime.tables import print_table
from mtl_keras.zoo import training
from mtl_keras.zoo.fashion_scene import RECIPE

__all__ = ["run"]


def run(
    out: str | os.PathLike[str] = "quickstart", epochs: int = 6, seed: int = 0
) -> dict[str, Any]:
    """Train `fashion_scene` from scratch, evaluate it, export it, and run the int8 file on the test
    pictures.

    Leaves `saved_model/`, `model.tflite`, `model_int8.tflite`, `model.keras`, `results.json` and
    `predictions.png` in `out`.

    Args:
        out: folder.
        epochs: int. Passes over the 11,000 training pictures.
        seed: int.

    Returns:
        What `results.json` holds.

    Raises:
        ExportError: a folder that can't be written to (said before the training), or a file that
            fails its comparison.
    """
    from rich.console import Console

    console = Console()
    out = Path(out)
    start = time.perf_counter()
    check_writable(out / "results.json")
    console.print(
        "[bold]1/4[/] A network with three heads, trained from scratch on photographs of "
        "Fashion-MNIST"
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
    on_device = export.run_tflite(out / "model_int8.tflite", inputs_by_name(model, x))
    scores["model_int8.tflite"] = analysis.score(model.tasks, on_device, labels)

    results = {
        "scores": scores,
        "files": {name: report.to_dict() for name, report in reports.items()},
        "parameters": model.count_params(),
        "epochs": epochs,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 1),
    }
    with atomic_write(out / "results.json") as fresh:
        fresh.write_text(json.dumps(results, indent=1) + "\n")
    with atomic_write(out / "predictions.png") as fresh:
        _draw_predictions(fresh, model, x, labels, outputs, on_device)
    _print_results(console, scores, reports)
    _print_next_steps(console, out, results["seconds"])
    return results


def _print_next_steps(console: Any, out: Path, seconds: float) -> None:
    programs = _program_folder()
    mtl_keras, python = programs / "mtl-keras", programs / "python"
    load_entry = (
        "from mtl_keras import zoo; model = zoo.load('fashion_scene'); print(model.task_names)"
    )
    load_file = (
        f"import mtl_keras, keras; keras.saving.load_model('{out / 'model.keras'}').summary()"
    )
    console.print(
        f"\nAll files are in [bold]{out}/[/] ({seconds:.0f} s). Look at "
        f"{out / 'predictions.png'}, then try:\n"
        f"  {mtl_keras} zoo list\n"
        f"  {mtl_keras} zoo info fashion_scene\n"
        f'  {python} -c "{load_entry}"\n'
        f'  {python} -c "{load_file}"',
        highlight=False,
        soft_wrap=True,
    )


def _program_folder() -> Path:
    """The folder of this Python's programs as a user would type it."""
    folder = Path(sys.executable).parent
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _print_results(
    console: Any, scores: Mapping[str, Mapping[str, float]], reports: Mapping[str, Any]
) -> None:
    rows = [
        [metric, *(f"{values[metric]:.3f}" for values in scores.values())]
        for metric in scores["keras"]
    ]
    print_table(
        ("metric", *scores), rows, title="2,000 test pictures", left=["metric"], console=console
    )
    for report in reports.values():
        worst = max(report.heads, key=lambda head: head.largest)
        console.print(
            f"{report.format}: {report.size / 1000:.0f} kB, largest difference from Keras "
            f"{worst.largest:.1g} ({worst.name})"
        )


def _draw_predictions(
    path: Path, model: Any, x: Any, labels: Any, outputs: Any, on_device: Any, columns: int = 8
) -> None:
    """Draw test pictures with their predictions: float in the first row, int8 in the second."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * columns, 5), layout="constrained")
    axes = figure.subplots(2, columns)
    files = (("Keras, float32", outputs), ("TFLite, int8", on_device))
    for row, (title, predictions) in enumerate(files):
        for column in range(columns):
            truth = {task: labels[task][column] for task in ("item", "box", "mask")}
            prediction = {task: predictions[task][column] for task in truth}
            _draw_picture(
                axes[row][column],
                x[column, ..., 0],
                truth,
                prediction,
                model.task("item").labels,
            )
        axes[row][0].set_ylabel(title)
    figure.suptitle(
        "Predicted and true class; predicted box (red) and silhouette (cyan), the true ones dotted",
        fontsize=10,
    )
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_picture(
    axis: Any,
    picture: np.ndarray,
    truth: Mapping[str, Any],
    prediction: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """One picture with true and predicted class, box and silhouette."""
    from matplotlib.patches import Rectangle

    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    # Box
    for box, color, style in ((truth["box"], "white", ":"), (prediction["box"], "tab:red", "-")):
        left, top, right, bottom = np.asarray(box) * len(picture) - 0.5
        edges: dict[str, Any] = {"fill": False, "color": color, "linestyle": style}
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, **edges))
    # Silhouette
    dotted = {"colors": "white", "linewidths": 0.8, "linestyles": ":"}
    axis.contour(truth["mask"][..., 0], levels=[0.5], **dotted)
    axis.contour(prediction["mask"][..., 0], levels=[0.5], colors="tab:cyan", linewidths=1)
    # Class
    label, guess = names[int(truth["item"])], names[int(np.argmax(prediction["item"]))]
    color = "green" if guess == label else "red"
    axis.set_title(f"{guess}\n(is: {label})", fontsize=9, color=color)
    axis.set_xticks([])
    axis.set_yticks([])
