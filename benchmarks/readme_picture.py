"""The README's picture: what a shipped network predicts in Keras and in int8, and which parts its
tasks share.

    python benchmarks/readme_picture.py

Test scenes of `fashion_scene`, drawn in order, none chosen. Writes docs/images/fashion_scene.png.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import mtl_keras as mtl
from mtl_keras import zoo

SCENES = 6
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "fashion_scene.png"


def draw_scene(axis, image, outputs, labels, names):
    """One scene with the predicted box, silhouette and class; the true ones are dotted."""
    size = image.shape[0]
    axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    for box, color, style in ((labels["box"], "white", ":"), (outputs["box"], "tab:red", "-")):
        left, top, right, bottom = np.asarray(box) * size - 0.5
        frame = Rectangle((left, top), right - left, bottom - top, fill=False)
        frame.set(edgecolor=color, linestyle=style)
        axis.add_patch(frame)
    axis.contour(outputs["mask"][..., 0], levels=[0.5], colors="tab:cyan", linewidths=1)
    truth, guess = names[int(labels["item"])], names[int(np.argmax(outputs["item"]))]
    color = "tab:green" if guess == truth else "tab:red"
    axis.set_title(guess if guess == truth else f"{guess} (is: {truth})", fontsize=8, color=color)
    axis.set(xticks=[], yticks=[])


def draw_sharing(axis, report):
    """A bar per task: the parameters that it shares, and those of its own."""
    starts = dict.fromkeys(report.tasks, 0)
    for users in sorted(report.parameters, key=lambda users: (-len(users), users)):
        if not users:
            continue
        label = "shared by all" if len(users) == len(report.tasks) else f"{', '.join(users)} alone"
        count = report.parameters[users]
        lefts = [starts[task] for task in users]
        axis.barh(list(users), [count] * len(users), left=lefts, label=f"{label}: {count:,}")
        for task in users:
            starts[task] += count
    axis.set_title("parameters", fontsize=8)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k")
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)


def main() -> None:
    model = zoo.load("fashion_scene")
    data = mtl.data.fashion_scenes("test", batch_size=SCENES)
    images, labels = next(iter(data))[:2]
    images = np.asarray(images)
    labels = {task: np.asarray(values) for task, values in labels.items()}
    file = zoo.path("fashion_scene") / "model_int8.tflite"
    rows = {
        "Keras, float32": model.predict(images, verbose=0),
        "TFLite, int8": mtl.export.run_tflite(file, {model.inputs[0].name: images}),
    }

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    grid = figure.add_gridspec(2, SCENES + 2)
    for row, (title, outputs) in enumerate(rows.items()):
        for column in range(SCENES):
            axis = figure.add_subplot(grid[row, column])
            answer = {task: values[column] for task, values in outputs.items()}
            truth = {task: values[column] for task, values in labels.items()}
            draw_scene(axis, images[column], answer, truth, model.task("item").labels)
            if column == 0:
                axis.set_ylabel(title, fontsize=9)
    draw_sharing(figure.add_subplot(grid[:, SCENES:]), model.summary_sharing())
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
