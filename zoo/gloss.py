"""`gloss`: from a dictionary definition to the kind of word that it defines.

Text: three tasks on one bidirectional LSTM, the vocabulary saved in the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mtl_keras import builders
from mtl_keras.data import WordTokenizer
from mtl_keras.data.gloss import PARTS_OF_SPEECH, SUPERSENSES, gloss
from mtl_keras.tasks import Classification, Regression
from mtl_keras.zoo.base import Recipe

if TYPE_CHECKING:
    from mtl_keras.model import MultiTaskModel
    from mtl_keras.tasks import Task
    from mtl_keras.zoo.base import Prepared

__all__ = ["RECIPE"]

WORDS, LENGTH = 8000, 24


class Gloss(Recipe):
    def tasks(self) -> list[Task]:
        return [
            Classification("part_of_speech", num_classes=4, labels=PARTS_OF_SPEECH, hidden=0),
            Classification("supersense", num_classes=45, labels=SUPERSENSES, hidden=0),
            # Center and spread of log(1 + synonyms) on the training labels.
            Regression("synonyms", log=True, mean=0.91, scale=0.34, unit="words"),
        ]

    def build(self, tasks: Sequence[Task] | None = None, encoder: Any = None) -> MultiTaskModel:
        return builders.hard_sharing(
            inputs={"tokens": (encoder.length,)},
            tasks=tasks or self.tasks(),
            backbone="bilstm",
            # The shipped weights were trained with padding read as a token. To train with masks,
            # drop `mask_padding`, and write the weights, the files and the card anew.
            backbone_options={
                "vocabulary_size": len(encoder),
                "embedding_dim": 48,
                "units": 64,
                "dropout": 0.3,
                "mask_padding": False,
            },
            encoder=encoder,
            name=self.name,
        )

    def prepare(self) -> Prepared:
        parts = gloss()
        encoder = WordTokenizer.fit(parts["train"][0], WORDS, LENGTH)
        return self.from_arrays(parts, encoder, 1024)


RECIPE = Gloss(
    name="gloss",
    summary="text: part of speech (4), supersense (45), number of synonyms of a defined word",
    data={
        "source": "WordNet 3.0 (Debian wordnet-base 3.0-37): 117,659 definitions, without their "
        "example sentences",
        "license": "WordNet 3.0 license (permissive)",
        "citation": "Fellbaum (ed.), WordNet: An Electronic Lexical Database, MIT Press 1998; "
        "Princeton University 2006",
        "split": "by synset: 80 % to train on, 5 % to look at, 15 % to test",
    },
    epochs=6,
    batch_size=256,
    learning_rate=3e-3,
    quantization="dynamic",
    why_quantization="int8 weights, float activations: an LSTM's state passes through 24 steps, "
    "and the converter has no "
    "full-integer form of Keras 3's loop.",
)
