"""Table columns to numbers and category ids."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder

__all__ = ["TableEncoder"]


@register_encoder
class TableEncoder:
    """Columns of a table to a block of numbers and a block of category ids.

    A number that is missing becomes its column's mean; a category that was not seen, or is missing,
    gets id 0.

    Args:
        numeric: dict of column to `[mean, variance]`.
        categorical: dict of column to its known values, as strings.
    """

    kind = "table"

    def __init__(
        self, numeric: Mapping[str, Sequence[float]], categorical: Mapping[str, Sequence[str]]
    ) -> None:
        self.numeric = {k: [float(v) for v in stats] for k, stats in numeric.items()}
        self.categorical = {k: [str(v) for v in values] for k, values in categorical.items()}
        self._ids = {
            k: {category_name(v): i for i, v in enumerate(values, 1)}
            for k, values in self.categorical.items()
        }

    @classmethod
    def fit(
        cls, table: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str]
    ) -> TableEncoder:
        """Measure means, variances and known values on `table`, a dict of columns.

        Raises:
            ValueError: a column of numbers without any number.
        """
        stats = {}
        for name in numeric:
            column = np.asarray(table[name], float)
            column = column[np.isfinite(column)]
            if not column.size:
                raise ValueError(
                    f"Column '{name}' holds no number: it has no mean. Leave it out, or name it "
                    f"as categorical."
                )
            stats[name] = [float(column.mean()), float(column.var()) or 1.0]
        values = {
            name: sorted({category_name(v) for v in table[name]} - {""}) for name in categorical
        }
        return cls(stats, values)

    @property
    def mean(self) -> list[float]:
        return [stats[0] for stats in self.numeric.values()]

    @property
    def variance(self) -> list[float]:
        return [stats[1] for stats in self.numeric.values()]

    @property
    def cardinalities(self) -> list[int]:
        return [len(values) + 1 for values in self.categorical.values()]

    def encode(self, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """A dict of columns to `{"numeric": (rows, numbers), "categorical": (rows, columns)}`.

        Raises:
            ValueError: a column is missing.
        """
        missing = [name for name in (*self.numeric, *self.categorical) if name not in table]
        if missing:
            raise ValueError(f"The table lacks the columns {', '.join(missing)}.")
        blocks = {}
        if self.numeric:
            columns: list[Any] = []
            for name, (mean, _) in self.numeric.items():
                column = np.asarray(table[name], float)
                columns.append(np.where(np.isfinite(column), column, mean))
            blocks["numeric"] = np.stack(columns, -1).astype("float32")
        if self.categorical:
            columns = [
                [self._ids[name].get(category_name(v), 0) for v in table[name]]
                for name in self.categorical
            ]
            blocks["categorical"] = np.array(columns, "int32").T.copy()
        return blocks

    def get_config(self) -> dict[str, Any]:
        return {"numeric": self.numeric, "categorical": self.categorical}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TableEncoder:
        return cls(**config)


def category_name(value: Any) -> str:
    """A category's name: missing is empty, 3.0 is "3", and letters with marks have one spelling
    (NFC)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return ""
        if float(value).is_integer():
            return str(int(value))
    return unicodedata.normalize("NFC", str(value))
