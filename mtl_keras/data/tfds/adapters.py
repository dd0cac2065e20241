"""What TensorFlow Datasets does not say of its own features: which tasks, which classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtl_keras.data.records import Feature

__all__ = ["ADAPTERS", "Adapter"]


@dataclass(frozen=True)
class Adapter:
    """Tasks and features of one data set.

    Attributes:
        tasks: dict of task name to feature, or to several, that `from_tfds` takes by default.
        features: dict of feature to what it is, where TFDS does not say it.
        inputs: names of the inputs, or None for the guess.
    """

    tasks: Mapping[str, Any]
    features: Mapping[str, Feature] = field(default_factory=dict)
    inputs: tuple[str, ...] | None = None


_CITYSCAPES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
_QM9 = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
_DSPRITES = ("shape", "scale", "orientation", "x_position", "y_position")

#: By the data set's name, with its configuration where the name alone does not tell.
ADAPTERS: dict[str, Adapter] = {
    "ag_news_subset": Adapter({"topic": "label"}, inputs=("title", "description")),
    "caltech_birds2011": Adapter(
        {"species": "label", "box": "bbox", "mask": "segmentation_mask"},
        {"segmentation_mask": Feature("map", (None, None, 1), ("background", "bird"))},
    ),
    "celeb_a": Adapter({"smiling": "attributes/Smiling", "male": "attributes/Male"}),
    "cifar100": Adapter({"fine": "label", "coarse": "coarse_label"}),
    "cityscapes": Adapter(
        {"classes": "segmentation_label"},
        {
            "segmentation_label": Feature("map", (1024, 2048, 1), _CITYSCAPES),
            "disparity_map": Feature("depth", (1024, 2048, 1)),
        },
    ),
    "dsprites": Adapter({name: f"label_{name}" for name in _DSPRITES}),
    "imdb_reviews": Adapter({"sentiment": "label"}, inputs=("text",)),
    "mtl_keras/fashion_scenes": Adapter(
        {"item": "item", "box": "box", "mask": "mask"},
        {"mask": Feature("map", (40, 40, 1), ("", "item"))},
    ),
    "mtl_keras/flights": Adapter(
        {"cancelled": "cancelled", "late": "late", "arrival_delay": "arrival_delay"}
    ),
    "mtl_keras/gloss": Adapter(
        {"part_of_speech": "part_of_speech", "supersense": "supersense", "synonyms": "synonyms"}
    ),
    "movielens": Adapter(
        {"rating": "user_rating", "gender": "user_gender"},
        inputs=("bucketized_user_age", "user_occupation_label", "movie_id", "user_id"),
    ),
    "nyu_depth_v2": Adapter(
        {"depth": "depth"}, {"depth": Feature("depth", (480, 640))}, inputs=("image",)
    ),
    "oxford_iiit_pet": Adapter(
        {"breed": "label", "species": "species", "mask": "segmentation_mask", "head": "head_bbox"},
        {
            "segmentation_mask": Feature(
                "map", (None, None, 1), ("pet", "background", "border"), offset=1
            )
        },
    ),
    "qm9": Adapter({name: name for name in _QM9}, inputs=("A", "B", "C", "num_atoms")),
    "speech_commands": Adapter({"command": "label"}),
}
