"""Dictionary definitions of WordNet, and what kind of word each defines."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mtl_keras.data.sources import fetch

__all__ = ["PARTS_OF_SPEECH", "SUPERSENSES", "gloss"]

PARTS_OF_SPEECH = ["noun", "verb", "adjective", "adverb"]
_FILES = {"data.noun": 0, "data.verb": 1, "data.adj": 2, "data.adv": 3}

#: WordNet's 45 lexicographer files, in its own order (lexnames(5WN)).
SUPERSENSES = [
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute", "noun.body",
    "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group", "noun.location",
    "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process",
    "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time", "verb.body", "verb.change",
    "verb.cognition", "verb.communication", "verb.competition", "verb.consumption", "verb.contact", "verb.creation",
    "verb.emotion", "verb.motion", "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather",
    "adj.ppl",
]  # fmt: skip


def gloss(
    folder: str | os.PathLike[str] | None = None, seed: int = 0
) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """Definitions (without example sentences, which contain the word itself), split by synset.

    Args:
        folder: where WordNet's `data.*` files are; None takes the cache
            (`mtl-keras data fetch gloss`).
        seed: int. Of the split.

    Returns:
        dict of "train" (80 %), "validation" (5 %) and "test" (15 %) to `(definitions, labels)`.
        Labels: `part_of_speech` (0 to 3), `supersense` (0 to 44), `synonyms` (how many words share
            the definition, 1 or more).

    Raises:
        DataError: the files are not there or damaged.
    """
    data_folder = fetch("gloss", folder, download=False)
    definitions, rows = [], []
    for file, part in _FILES.items():
        for line in (data_folder / file).read_text("utf-8").splitlines():
            if line.startswith("  "):
                continue  # the license
            header, _, text = line.partition(" | ")
            fields = header.split(" ", 4)
            definitions.append(text.split('; "')[0].strip())
            rows.append((part, int(fields[1]), int(fields[3], 16)))
    labels = np.array(rows)
    order = np.random.RandomState(seed).permutation(len(definitions))
    test, validation = int(0.15 * len(order)), int(0.20 * len(order))
    parts = {
        "test": order[:test],
        "validation": order[test:validation],
        "train": order[validation:],
    }
    return {
        name: (
            [definitions[i] for i in chosen],
            {
                "part_of_speech": labels[chosen, 0].astype("int32"),
                "supersense": labels[chosen, 1].astype("int32"),
                "synonyms": labels[chosen, 2].astype("float32"),
            },
        )
        for name, chosen in parts.items()
    }
