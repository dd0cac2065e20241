"""The zoo: multi-head networks by name, pretrained on real data, loaded offline.

from mtl_keras import zoo
model = zoo.load("fashion_scene")
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_keras.runtime.names import unknown_name

__all__ = ["build", "export", "info", "list_models", "load", "path", "recipe", "train"]

# Names only: listing the zoo must not import TensorFlow, nor read any recipe.
_RECIPES = ("fashion_scene", "flights", "gloss")


def list_models() -> list[str]:
    """The names of all entries."""
    return sorted(_RECIPES)


def recipe(name: str) -> Any:
    """The recipe of this name.

    Raises:
        ValueError: an unknown name. The message lists close names.
    """
    _check(name)
    return importlib.import_module(f"mtl_keras.zoo.{name}").RECIPE


def path(name: str) -> Path:
    """The folder of an entry's artifacts: weights, SavedModel, TFLite files, card."""
    _check(name)
    package: Any = importlib.util.find_spec("mtl_keras.saved_models")
    return Path(next(iter(package.submodule_search_locations))) / name


def info(name: str) -> dict[str, Any]:
    """An entry's card: data, license, tasks, recipe, scores of every artifact, sums of every file.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: the entry was not trained yet.
    """
    card = path(name) / "card.json"
    if not card.is_file():
        raise FileNotFoundError(
            f"'{name}' has no trained artifacts yet. Make them with `mtl-keras zoo train {name}`."
        )
    return json.loads(card.read_text())


def build(name: str) -> Any:
    """An entry's network with fresh weights.

    Its encoder (vocabulary, means) is the shipped one.
    """
    from mtl_keras.runtime import encoders
    from mtl_keras.zoo import loading

    entry = recipe(name)
    loading.verify(path(name), "encoder.json")
    return entry.build(
        encoder=encoders.encoder_from_json((path(name) / "encoder.json").read_text())
    )


def load(name: str, folder: str | os.PathLike[str] | None = None) -> Any:
    """An entry's network with its pretrained weights, from the package's own files.

    Args:
        name: str.
        folder: artifacts of your own training (`zoo.train(..., out=folder)`); None takes the
            shipped ones.

    Returns:
        `MultiTaskModel`, not compiled; its `encoder` makes its input from raw data.

    Raises:
        ValueError: an unknown name. The message lists close names.
        ArtifactError: a file is missing, truncated or changed.
    """
    from mtl_keras.zoo import loading

    return loading.load_weights(recipe(name), Path(folder) if folder is not None else path(name))


def export(name: str, out: str | os.PathLike[str]) -> Path:
    """Copy an entry's SavedModel, TFLite files, encoder and card to a folder, checked against the
    card.

    To export in other ways, load the entry: `mtl.export.tflite(zoo.load(name), ...)`.

    Raises:
        ValueError: an unknown name. The message lists close names.
        ArtifactError: a file is missing, truncated or changed.
    """
    from mtl_keras.zoo import loading

    return loading.copy(path(name), Path(out))


def train(
    name: str,
    out: str | os.PathLike[str] | None = None,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    say: Any = print,
) -> Any:
    """Train an entry from scratch with its single-task twins, score everything, and write all
    artifacts.

    Args:
        name: str.
        out: folder for the artifacts. Defaults to `runs/<name>` in the working folder.
        seeds: list of int. Each trains the network and its twins; the first one's network is kept.
        epochs: int. None takes the recipe's.
        say: function that takes a line of progress.

    Returns:
        The trained `MultiTaskModel` of the first seed.

    Raises:
        DataError: the data are not downloaded (`mtl-keras data fetch NAME`).
    """
    from mtl_keras.runtime.files import check_folder, check_writable
    from mtl_keras.zoo import artifacts, training

    entry = recipe(name)
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise ValueError("At least one seed is needed.")
    out = Path(out) if out is not None else Path("runs") / name
    check_folder(out, artifacts.foreign)
    check_writable(out)
    prepared = entry.prepare()
    model, results = training.evidence(entry, prepared, seeds, epochs, say)
    command = ["mtl-keras", "zoo", "train", name, *(f"--seed={seed}" for seed in seeds)]
    if epochs is not None:
        command.append(f"--epochs={epochs}")
    run = {"seeds": seeds, "epochs": epochs or entry.epochs, "command": shlex.join(command)}
    artifacts.write(entry, prepared, model, results, run, out)
    say(f"{name}: artifacts and card in {out}")
    return model


def _check(name: str) -> None:
    if name not in _RECIPES:
        raise ValueError(unknown_name("zoo entry", name, _RECIPES))
