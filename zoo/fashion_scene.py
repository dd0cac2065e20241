"""`fashion_scene`: what is the item, where is it, and which pixels are it.

Three tasks of three kinds on one small picture, from the images that come with the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl_keras import builders
from mtl_keras.data import ImageEncoder, fashion_scenes
from mtl_keras.data.scenes import CANVAS, ITEMS, fashion
from mtl_keras.tasks import BoundingBox, Classification, Segmentation
from mtl_keras.zoo.base import Prepared, Recipe

if TYPE_CHECKING:
    import numpy as np

    from mtl_keras.model import MultiTaskModel
    from mtl_keras.tasks import Task

__all__ = ["RECIPE"]


class FashionScene(Recipe):
    def tasks(self) -> list[Task]:
        return [
            Classification("item", num_classes=10, labels=ITEMS, dropout=0.3),
            BoundingBox("box", loss_weight=2.0),
            Segmentation("mask"),
        ]

    def build(self, tasks: Sequence[Task] | None = None, encoder: Any = None) -> MultiTaskModel:
        return builders.hard_sharing(
            inputs=(CANVAS, CANVAS, 1),
            tasks=tasks or self.tasks(),
            backbone="small_cnn",
            backbone_options={"widths": (24, 48, 96), "depth": 2, "dropout": 0.1},
            encoder=encoder or ImageEncoder((CANVAS, CANVAS), channels=1),
            name=self.name,
        )

    def prepare(self) -> Prepared:
        # The trivial baselines learn from one scene of each training item.
        _, labels = zip(*fashion_scenes("train", 512, shuffle=False), strict=True)
        return Prepared(
            train=lambda seed: fashion_scenes("train", self.batch_size, seed=seed),
            steps=(len(fashion()["train_labels"]) - 1000) // self.batch_size,
            validation=fashion_scenes("validation", 250),
            test=fashion_scenes("test", 250),
            train_labels={name: _joined(labels, name) for name in labels[0]},
            encoder=ImageEncoder((CANVAS, CANVAS), channels=1),
        )


def _joined(batches: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    import numpy as np

    return np.concatenate([batch[name].numpy() for batch in batches])


RECIPE = FashionScene(
    name="fashion_scene",
    summary="picture: item of clothing (10 classes), its box, its silhouette",
    data={
        "source": "Fashion-MNIST (Zalando), the first 12,000 training and 2,000 test images, "
        "bundled with the package",
        "license": "MIT",
        "citation": "Xiao, Rasul, Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning "
        "Algorithms, 2017 (arXiv 1708.07747)",
        "split": "11,000 items to train on, 1,000 to look at, 2,000 to test; each scene composed "
        "with a fixed seed",
    },
    epochs=12,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=1e-3,
    notes=(
        "Scenes are composed: one photograph on a black 40 x 40 canvas with fragments of others.",
    ),
)
