"""The report of a run: what it reached, as text and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_keras import plot
from mtl_keras.analysis.classes import has_classes
from mtl_keras.runs.folder import RunFolder
from mtl_keras.runs.own_data import has_label

__all__ = ["write_report"]

#: Columns of the table of scores, by their key.
_COLUMNS = {
    "constant": "best constant answer",
    "single_task": "single-task networks",
    "model": "this network",
}


def write_report(
    run: RunFolder,
    model: Any,
    parts: Any,
    history: Mapping[str, Sequence[float]],
    results: Mapping[str, Any],
) -> None:
    """Write pictures and `report.md`.

    Args:
        run: the run's folder.
        model: the best epoch's network.
        parts: the data, with `train`, `validation` and `test`.
        history: logged values, one per epoch.
        results: what `metrics.json` will hold.
    """
    pictures = _draw(run.path / "pictures", model, parts.test, history)
    rows = results["rows"]
    lines = [
        "# Report",
        "",
        f"{rows['train']:,} rows for training, {rows['validation']:,} for validation, "
        f"{rows['test']:,} for the test. {results['parameters']:,} parameters. "
        f"{results['epochs']} epochs, of which epoch {results['best_epoch']} was the best by "
        f"validation; everything below is of that one.",
        "",
        "## Scores on the test part",
        "",
        *_score_table(model, results["scores"]),
        "",
        *_delta_lines(results["delta_m"]),
        "## Curves",
        "",
        f"![Learning curves]({pictures.pop('curves')})",
        "",
        "## Predictions",
        "",
        f"![Predictions beside the truth]({pictures.pop('predictions')})",
        "",
        *(line for name, path in pictures.items() for line in (f"![{name}]({path})", "")),
        "## Files",
        "",
        *_file_table(results["files"]),
        "",
        "## The data",
        "",
        "```text",
        str(parts.train.describe()).rstrip(),
        "```",
        "",
        "## Use it",
        "",
        "```sh",
        f"mtl-keras predict {run.path.name} NEW_ROWS",
        f"mtl-keras export {run.path.name}/model.keras --snippets kotlin,swift",
        "```",
        "",
    ]
    run.write_text("report.md", "\n".join(lines))


def _draw(
    folder: Path, model: Any, test: Any, history: Mapping[str, Sequence[float]]
) -> dict[str, str]:
    """Draw the pictures; return their paths by name, as the report links them."""
    folder.mkdir(parents=True, exist_ok=True)
    directions = model.metric_directions if model.compiled else None
    plot.history(dict(history), folder / "curves.png", directions=directions)
    plot.predictions(model, test, path=folder / "predictions.png")
    names = ["curves", "predictions"]
    classes = [
        task.name
        for task in model.tasks
        if has_classes(task) and has_label(task, test.labels(task.name))
    ]
    if classes:
        plot.confusion(model, test, classes, folder / "confusion.png")
        plot.reliability(model, test, classes, folder / "reliability.png")
        names += ["confusion", "reliability"]
    return {name: f"pictures/{name}.png" for name in names}


def _score_table(model: Any, scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    directions = model.metric_directions if model.compiled else {}
    columns = list(scores)
    lines = [
        "| metric | better | " + " | ".join(_COLUMNS.get(c, f"`{c}`") for c in columns) + " |",
        "|---|---|" + "--:|" * len(columns),
    ]
    for metric in scores["model"]:
        better = {"max": "higher", "min": "lower"}.get(directions.get(metric, ""), "")
        values = " | ".join(_number(scores[column].get(metric)) for column in columns)
        lines.append(f"| {metric} | {better} | {values} |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _delta_lines(delta: Any) -> list[str]:
    if delta is None:
        return []
    if "error" in delta:
        return [f"Δm against the single-task networks can't be told: {delta['error']}", ""]
    return [
        "Against the single-task networks, above 0 is better:",
        "",
        "```text",
        delta["text"],
        "```",
        "",
    ]


def _file_table(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| file | kB | head | largest difference from Keras |",
        "|---|--:|---|--:|",
    ]
    for name, facts in files.items():
        for head, numbers in facts["heads"].items():
            lines.append(
                f"| `{name}` | {facts['bytes'] / 1000:,.0f} | {head} | "
                f"{_number(numbers['largest_error'])} |"
            )
    return lines
