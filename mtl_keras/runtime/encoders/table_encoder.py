"""Table columns to numbers and category ids."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.cells import MISSING, is_missing, to_numbers
from mtl_keras.runtime.encoders.registry import register_encoder

__all__ = ["TableEncoder"]

#: Values of a category that are printed.
_SHOWN = 4


@register_encoder
class TableEncoder:
    """Columns of a table to a block of numbers and a block of category ids.

    A number that is missing becomes its column's mean; a category that was not seen, or is missing,
    gets id 0. Printing an encoder shows what it does with each column.

    Args:
        numeric: dict of column to `[mean, variance]`.
        categorical: dict of column to its known values, as strings.
        decimal: "." or ",". Decimal mark of numbers that come as text, such as cells of a CSV file.
            Defaults to ".".
        missing: list of str. Texts that say that there is no value.

    Examples:
        >>> encoder = mtl.data.TableEncoder({"age": [50.0, 100.0]}, {"city": ["Bergen", "Oslo"]})
        >>> encoder.encode({"age": ["61", "?"], "city": ["Oslo", "Rome"]})["categorical"].tolist()
        [[2], [0]]
        >>> print(encoder)
        TableEncoder of 2 columns
          age   number: mean 50, standard deviation 10; a missing one becomes the mean
          city  category: 2 values (Bergen, Oslo); id 0 if missing or not among them
    """

    kind = "table"

    def __init__(
        self,
        numeric: Mapping[str, Sequence[float]],
        categorical: Mapping[str, Sequence[str]],
        decimal: str = ".",
        missing: Sequence[str] = MISSING,
    ) -> None:
        if decimal not in (".", ","):
            raise ValueError(f"`decimal` should be '.' or ','. Received: {decimal!r}.")
        self.numeric = {k: [float(v) for v in stats] for k, stats in numeric.items()}
        self.categorical = {k: [str(v) for v in values] for k, values in categorical.items()}
        self.decimal, self.missing = decimal, list(missing)
        self._ids = {
            k: {category_name(v): i for i, v in enumerate(values, 1)}
            for k, values in self.categorical.items()
        }

    @classmethod
    def fit(
        cls,
        table: Mapping[str, Any],
        numeric: Sequence[str],
        categorical: Sequence[str],
        decimal: str = ".",
        missing: Sequence[str] = MISSING,
    ) -> TableEncoder:
        """Measure means, variances and known values on `table`, a dict of columns.

        Args:
            table: dict of column to its values: numbers, or texts as a CSV file has them.
            numeric: names of the columns of numbers.
            categorical: names of the columns of categories.
            decimal, missing: as in the class.

        Raises:
            ValueError: a column of numbers without any number, or with other values.
        """
        encoder = cls({}, {}, decimal, missing)
        stats = {}
        for name in numeric:
            column = encoder._numbers(name, table[name])
            column = column[np.isfinite(column)]
            if not column.size:
                raise ValueError(
                    f"Column '{name}' holds no number: it has no mean. Leave it out, or name it "
                    f"as categorical."
                )
            stats[name] = [float(column.mean()), float(column.var()) or 1.0]
        values = {
            name: sorted({encoder._category(v) for v in table[name]} - {""}) for name in categorical
        }
        return cls(stats, values, decimal, missing)

    @property
    def mean(self) -> list[float]:
        return [stats[0] for stats in self.numeric.values()]

    @property
    def variance(self) -> list[float]:
        return [stats[1] for stats in self.numeric.values()]

    @property
    def cardinalities(self) -> list[int]:
        return [len(values) + 1 for values in self.categorical.values()]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that `encode` takes."""
        return [*self.numeric, *self.categorical]

    def encode(self, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """A dict of columns to `{"numeric": (rows, numbers), "categorical": (rows, columns)}`.

        Args:
            table: dict of column to its values: numbers, or texts as a CSV file has them. Other
                columns are left out.

        Raises:
            ValueError: a column is missing, or holds something else than numbers.
        """
        missing = [name for name in self.columns if name not in table]
        if missing:
            raise ValueError(f"The table lacks the columns {', '.join(missing)}.")
        blocks = {}
        if self.numeric:
            columns: list[Any] = []
            for name, (mean, _) in self.numeric.items():
                column = self._numbers(name, table[name])
                columns.append(np.where(np.isfinite(column), column, mean))
            blocks["numeric"] = np.stack(columns, -1).astype("float32")
        if self.categorical:
            columns = [
                [self._ids[name].get(self._category(v), 0) for v in table[name]]
                for name in self.categorical
            ]
            blocks["categorical"] = np.array(columns, "int32").T.copy()
        return blocks

    def _numbers(self, name: str, cells: Any) -> np.ndarray:
        numbers, others = to_numbers(cells, self.decimal, self.missing)
        if others.any():
            row = int(np.argmax(others))
            raise ValueError(
                f"Column '{name}' should hold numbers. Received: {cells[row]!r} in row {row + 1}."
            )
        return numbers

    def _category(self, value: Any) -> str:
        return "" if is_missing(value, self.missing) else category_name(value)

    def get_config(self) -> dict[str, Any]:
        return {
            "numeric": self.numeric,
            "categorical": self.categorical,
            "decimal": self.decimal,
            "missing": self.missing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TableEncoder:
        return cls(**config)

    def __repr__(self) -> str:
        width = max(map(len, self.columns), default=0)
        lines = [f"TableEncoder of {len(self.columns)} columns"]
        for name, (mean, variance) in self.numeric.items():
            lines.append(
                f"  {name:<{width}}  number: mean {mean:.4g}, standard deviation "
                f"{math.sqrt(variance):.4g}; a missing one becomes the mean"
            )
        for name, values in self.categorical.items():
            some = ", ".join(values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
            lines.append(
                f"  {name:<{width}}  category: {len(values)} values ({some}); id 0 if missing or "
                f"not among them"
            )
        return "\n".join(lines)


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
    return unicodedata.normalize("NFC", str(value).strip())
