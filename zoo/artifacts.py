"""Writing what a recipe leaves behind: weights, SavedModel, TFLite files, golden outputs, and the
card."""

from __future__ import annotations

import json
import platform
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import analysis, export
from mtl_keras.data.sources import sha256
from mtl_keras.export.models import inputs_by_name
from mtl_keras.runtime import encoders
from mtl_keras.runtime.files import atomic_write
from mtl_keras.version import __version__
from mtl_keras.zoo import card as cards
from mtl_keras.zoo import loading
from mtl_keras.zoo.base import Prepared, Recipe
from mtl_keras.zoo.training import judged, predict

__all__ = ["refresh", "rewrite_card", "write"]

_GOLDEN_ROWS = 8


def write(
    recipe: Recipe,
    prepared: Prepared,
    model: Any,
    results: dict[str, Any],
    run: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write all artifacts of a trained network: the folder is written completely or not at all.

    Args:
        results: the scores of `training.evidence`.
        run: seeds, epochs and the command, for the card.

    Returns:
        The card.
    """
    x, labels = analysis.collect(prepared.test)
    tasks = model.tasks
    with atomic_write(folder) as fresh:
        fresh.mkdir()
        plain = recipe.build(encoder=prepared.encoder)
        plain.set_weights(model.get_weights())
        plain.save_weights(fresh / "model.weights.h5")
        (fresh / "encoder.json").write_text(encoders.encoder_to_json(prepared.encoder) + "\n")
        quantized = f"model_{recipe.quantization}.tflite"
        reports = {
            "saved_model": export.saved_model(
                plain, fresh / "saved_model", samples=prepared.test, signatures="default"
            ),
            "model.tflite": export.tflite(plain, fresh / "model.tflite", samples=prepared.test),
            quantized: export.tflite(
                plain,
                fresh / quantized,
                recipe.quantization,
                calibration=prepared.train(0),
                samples=prepared.test,
            ),
        }
        keras_outputs = predict(plain, x)
        scores = {"keras": analysis.score(tasks, keras_outputs, labels)}
        inputs = inputs_by_name(plain, x)
        for file in ("model.tflite", quantized):
            scores[file] = analysis.score(tasks, export.run_tflite(fresh / file, inputs), labels)
        golden: dict[str, Any] = {
            f"input_{name}": value[:_GOLDEN_ROWS] for name, value in inputs.items()
        }
        golden |= {f"output_{name}": value[:_GOLDEN_ROWS] for name, value in keras_outputs.items()}
        np.savez_compressed(fresh / "golden.npz", **golden)
        files = sorted(f for f in fresh.rglob("*") if f.is_file())
        card = {
            "name": recipe.name,
            "summary": recipe.summary,
            "version": 1,
            "made": date.today().isoformat(),
            "made_with": {
                "mtl_keras": __version__,
                **{p: metadata.version(p) for p in ("tensorflow", "keras", "ai-edge-litert")},
                "python": platform.python_version(),
            },
            "license": "Apache-2.0 (weights and code)",
            "data": dict(recipe.data),
            "tasks": [{**task.card(), "loss_weight": task.loss_weight} for task in tasks],
            "inputs": {
                t.name: {"shape": list(t.shape[1:]), "dtype": str(t.dtype)} for t in plain.inputs
            },
            "parameters": plain.count_params(),
            "recipe": {
                "epochs": run["epochs"],
                "batch_size": recipe.batch_size,
                "optimizer": "AdamW, cosine schedule with one epoch of warm-up",
                "learning_rate": recipe.learning_rate,
                "weight_decay": recipe.weight_decay,
                "balancer": "equal",
                "seeds": run["seeds"],
                "shipped_seed": run["seeds"][0],
                "command": run["command"],
            },
            "test_rows": len(next(iter(labels.values()))),
            "scores": scores,
            "evidence": results,
            "exports": {file: report.to_dict() for file, report in reports.items()},
            "quantization": {"file": quantized, "why": recipe.why_quantization},
            "notes": list(recipe.notes),
            "files": {
                str(f.relative_to(fresh)): {"bytes": f.stat().st_size, "sha256": sha256(f)}
                for f in files
            },
        }
        for name, text in _card_files(card).items():
            (fresh / name).write_text(text)
    return card


def _card_files(card: dict[str, Any]) -> dict[str, str]:
    """The card as the files that a folder holds."""
    return {
        "card.json": json.dumps(card, indent=1, sort_keys=False) + "\n",
        "README.md": cards.markdown(card),
    }


def rewrite_card(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write a folder's card again from its own numbers. Nothing is trained or exported.

    For maintainers, after a change of how scores are compared or of the card's form:
    `python -m mtl_keras.zoo.artifacts`.

    Returns:
        The card.
    """
    card = loading.verify(folder)
    card["evidence"] = judged(card["evidence"], recipe.tasks())
    for name, text in _card_files(card).items():
        with atomic_write(folder / name) as fresh:
            fresh.write_text(text)
    return card


def foreign(folder: Path) -> list[str]:
    """What stands in a folder and is not in the card of an earlier training."""
    try:
        written = set(json.loads((folder / "card.json").read_text())["files"]) | {
            "card.json",
            "README.md",
        }
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    return sorted(
        str(f.relative_to(folder))
        for f in folder.rglob("*")
        if f.is_file() and str(f.relative_to(folder)) not in written
    )


def refresh(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write a folder's files again from its own weights, with today's exporter; the evidence of the
    training stays.

    For maintainers, after a change of the exporter or of the card's form.
    """
    card = loading.verify(folder)
    model = loading.load_weights(recipe, folder)
    run = {key: card["recipe"][key] for key in ("seeds", "epochs", "command")}
    return write(
        recipe, recipe.prepare(), model, judged(card["evidence"], recipe.tasks()), run, folder
    )


if __name__ == "__main__":
    from mtl_keras import zoo

    for _name in zoo.list_models():
        rewrite_card(zoo.recipe(_name), zoo.path(_name))
        print(f"{_name}: card written anew from its own numbers")
