"""Loading artifacts: every file is checked against the checksum on its card before it is used.

Imports neither Keras nor TensorFlow.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mtl_keras.data.sources import sha256
from mtl_keras.runtime import encoders

__all__ = ["ArtifactError", "copy", "load_weights", "read_card", "verify"]


class ArtifactError(RuntimeError):
    """An artifact that is missing, damaged, or differs from its card."""


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a folder of artifacts.

    Raises:
        ArtifactError: the card is missing or damaged.
    """
    path = folder / "card.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{folder} holds no trained artifacts (no card.json).") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is damaged: {error}.") from None


def verify(folder: Path, only: str | None = None) -> dict[str, Any]:
    """Check the files of a folder against the checksums on its card, and return the card.

    Args:
        only: name of one file; None checks all.

    Raises:
        ArtifactError: a file is missing, truncated or changed.
    """
    card = read_card(folder)
    for name, entry in card["files"].items():
        if only is not None and name != only:
            continue
        path = folder / name
        if not path.is_file():
            raise ArtifactError(
                f"{path} is missing. Install the package again, or make it: "
                f"{card['recipe']['command']}"
            )
        size = path.stat().st_size
        if size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise ArtifactError(
                f"{path} is damaged: {size} bytes, expected {entry['bytes']}, or another SHA-256 "
                f"than its card's. Install "
                f"the package again, or make it: {card['recipe']['command']}"
            )
    return card


def load_weights(recipe: Any, folder: Path) -> Any:
    """The recipe's network with the weights of a folder of artifacts, checked first."""
    verify(folder, "model.weights.h5")
    verify(folder, "encoder.json")
    model = recipe.build(encoder=encoders.encoder_from_json((folder / "encoder.json").read_text()))
    model.load_weights(folder / "model.weights.h5")
    return model


def copy(folder: Path, out: Path) -> Path:
    """Copy the SavedModel, the TFLite files and the card to `out`, checked; files of the same names
    are replaced."""
    card = verify(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name in [*card["files"], "card.json", "README.md"]:
        if name.startswith("saved_model/") or name.endswith((".tflite", ".json", ".md")):
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}.new")
            shutil.copyfile(folder / name, fresh)
            fresh.replace(target)
    return out
