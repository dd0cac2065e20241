"""Our own data sets as a builder of TensorFlow Datasets: `tfds.load("mtl_keras/gloss")`.

Importing this module registers it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds  # type: ignore[import-untyped]

from mtl_keras.data.flights import CATEGORICAL, NUMERIC, flights
from mtl_keras.data.gloss import PARTS_OF_SPEECH, SUPERSENSES, gloss
from mtl_keras.data.scenes import BUNDLED, CANVAS, ITEMS, fashion_scenes
from mtl_keras.data.sources import DataError, sha256

__all__ = ["MtlKeras"]

#: Of the pictures inside the package. `sources.py` has the checksums of the other files.
BUNDLED_SHA256 = "abf01d4f0f65ead25adbfe96979dc24de2131bbc53e0d0a043f9690a4f3f3af0"
_SPLITS = ("train", "validation", "test")


class MtlKeras(tfds.core.GeneratorBasedBuilder):
    """The data sets of the zoo, one configuration each.

    `fashion_scenes` lies inside the package. `flights` and `gloss` are read from the cache: fetch
    them first, `mtl-keras data fetch flights`. All files are checked by SHA-256.
    """

    name = "mtl_keras"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="fashion_scenes", description="Clothing on a canvas: item, box, silhouette."
        ),
        tfds.core.BuilderConfig(
            name="flights", description="Flights from New York in 2013: cancelled, late, delay."
        ),
        tfds.core.BuilderConfig(
            name="gloss",
            description="Definitions of WordNet: part of speech, supersense, synonyms.",
        ),
    ]

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(_FEATURES[self.builder_config.name]()),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(_ROWS[self.builder_config.name](split))


# ------------------------------------------------------------------ features
def _scene_features() -> dict[str, Any]:
    return {
        "image": tfds.features.Image(shape=(CANVAS, CANVAS, 1)),
        "item": tfds.features.ClassLabel(names=list(ITEMS)),
        "box": tfds.features.BBoxFeature(),
        "mask": tfds.features.Image(shape=(CANVAS, CANVAS, 1)),
    }


def _flight_features() -> dict[str, Any]:
    numbers = dict.fromkeys(NUMERIC, np.float32)
    texts = {name: tfds.features.Text() for name in CATEGORICAL}
    labels = {"cancelled": np.int32, "late": np.int32, "arrival_delay": np.float32}
    return {**numbers, **texts, **labels}


def _gloss_features() -> dict[str, Any]:
    return {
        "text": tfds.features.Text(),
        "part_of_speech": tfds.features.ClassLabel(names=list(PARTS_OF_SPEECH)),
        "supersense": tfds.features.ClassLabel(names=list(SUPERSENSES)),
        "synonyms": np.float32,
    }


_FEATURES = {
    "fashion_scenes": _scene_features,
    "flights": _flight_features,
    "gloss": _gloss_features,
}


# ------------------------------------------------------------------ rows
def _scenes(split: str) -> Iterator[dict[str, Any]]:
    if sha256(BUNDLED) != BUNDLED_SHA256:
        raise DataError(f"{BUNDLED.name} is damaged: install the package again.")
    for images, labels in fashion_scenes(split, 64, shuffle=False).as_numpy_iterator():
        for row, image in enumerate(images):
            left, top, right, bottom = labels["box"][row].tolist()
            yield {
                "image": np.rint(image * 255).astype("uint8"),
                "item": int(labels["item"][row]),
                "box": tfds.features.BBox(ymin=top, xmin=left, ymax=bottom, xmax=right),
                "mask": labels["mask"][row].astype("uint8"),
            }


def _flights(split: str) -> Iterator[dict[str, Any]]:
    columns, labels = flights()[split]
    table = {**columns, **labels}
    for row in range(len(table["late"])):
        yield {
            name: values[row] if name not in CATEGORICAL else str(values[row] or "")
            for name, values in table.items()
        }


def _gloss(split: str) -> Iterator[dict[str, Any]]:
    texts, labels = gloss()[split]
    for row, text in enumerate(texts):
        yield {"text": text, **{name: values[row] for name, values in labels.items()}}


_ROWS = {"fashion_scenes": _scenes, "flights": _flights, "gloss": _gloss}
