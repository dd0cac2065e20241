"""What a recipe is: data, network and schedule of one entry of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from mtl_keras.data import batches
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["Recipe"]


@dataclass
class Recipe:
    """One entry of the zoo. A recipe's module makes a subclass that fills in `prepare`, `tasks` and
    `build`.

    Attributes:
        name, summary: of the entry.
        data: where its data come from, for the card: `source`, `license`, `citation`, `split`.
        epochs, batch_size, learning_rate, weight_decay: the schedule: AdamW (Loshchilov & Hutter,
            ICLR 2019), one epoch of warm-up, then a cosine to zero.
        quantization: the second TFLite file, "int8" or "dynamic", and `why_quantization`.
        notes: for the card: what a user should know.
    """

    name: str
    summary: str
    data: Mapping[str, str]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    quantization: str = "int8"
    why_quantization: str = (
        "int8 weights and activations: the smallest file, and the one that integer hardware runs."
    )
    notes: Sequence[str] = field(default_factory=tuple)

    # ------------------------------------------------------------------ filled in by recipes
    def prepare(self) -> Prepared:
        """Load the data, and measure the statistics that the network needs."""
        raise NotImplementedError

    def tasks(self) -> list[Task]:
        """The tasks."""
        raise NotImplementedError

    def build(self, tasks: Sequence[Task] | None = None, encoder: Any = None) -> MultiTaskModel:
        """The network, with fresh weights. `tasks` may be some of the recipe's, for single-task
        twins."""
        raise NotImplementedError

    def columns(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """The encoder's columns from raw rows, where the recipe makes some of them. Tables only."""
        return table

    # ------------------------------------------------------------------ the same for all
    def from_arrays(
        self, parts: Mapping[str, tuple[Any, Mapping[str, Any]]], encoder: Any, rows: int
    ) -> Prepared:
        """Data in memory, ready to train on.

        Args:
            parts: "train", "validation" and "test" to raw inputs and labels.
            encoder: makes the network's input from raw inputs.
            rows: int. Rows per batch of "validation" and "test".
        """
        encoded = {part: (encoder.encode(raw), labels) for part, (raw, labels) in parts.items()}
        x, y = encoded["train"]
        return Prepared(
            train=lambda seed: batches.from_arrays(x, y, self.batch_size, seed),
            steps=len(next(iter(y.values()))) // self.batch_size,
            validation=batches.from_arrays(*encoded["validation"], rows, shuffle=False),
            test=batches.from_arrays(*encoded["test"], rows, shuffle=False),
            train_labels=y,
            encoder=encoder,
        )

    def optimizer(self, steps: int, epochs: int) -> keras.optimizers.Optimizer:
        """The schedule for `epochs` epochs of `steps` steps."""
        total = max(steps * epochs, 2)
        warmup = max(1, min(steps, total // 4))
        rate = keras.optimizers.schedules.CosineDecay(
            self.learning_rate / 20,
            total - warmup,
            warmup_target=self.learning_rate,
            warmup_steps=warmup,
        )
        return keras.optimizers.AdamW(rate, weight_decay=self.weight_decay)


@dataclass
class Prepared:
    """A recipe's data, ready to train on.

    Attributes:
        train: function that takes a seed and returns an endless `tf.data.Dataset` of batches.
        steps: batches per pass.
        validation, test: finite data sets.
        train_labels: all training labels by task, for trivial baselines.
        encoder: what makes the network's input from raw data.
    """

    train: Any
    steps: int
    validation: Any
    test: Any
    train_labels: Mapping[str, Any]
    encoder: Any
