"""Rows of a table with texts: numbers, categories and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_keras.runtime.cells import is_missing
from mtl_keras.runtime.encoders.registry import (
    encoder_from_dict,
    encoder_to_dict,
    register_encoder,
)
from mtl_keras.runtime.encoders.table_encoder import TableEncoder

__all__ = ["MixedEncoder"]


@register_encoder
class MixedEncoder:
    """Columns of a table to numbers, category ids, and token ids of texts.

    Args:
        table: `TableEncoder` of the columns of numbers and categories, or None.
        texts: dict of column to its tokenizer. Their names are the names of the network's inputs.

    Raises:
        ValueError: no text column; two tokenizers of one name.

    Examples:
        >>> words = mtl.data.WordTokenizer(["big", "small"], length=4, name="title_tokens")
        >>> table = mtl.data.TableEncoder({"rooms": [3.0, 1.0]}, {})
        >>> encoder = mtl.data.MixedEncoder(table, {"title": words})
        >>> blocks = encoder.encode({"rooms": [2, 5], "title": ["Big", "small flat"]})
        >>> blocks["title_tokens"].tolist()
        [[2, 0, 0, 0], [3, 1, 0, 0]]
    """

    kind = "table"

    def __init__(self, table: TableEncoder | None, texts: Mapping[str, Any]) -> None:
        self.table, self.texts = table, dict(texts)
        names = [tokenizer.name for tokenizer in self.texts.values()]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"`texts` should hold at least one tokenizer, each with a name of its own. "
                f"Received: names {names}."
            )

    @property
    def numeric(self) -> dict[str, list[float]]:
        """Columns of numbers, with mean and variance."""
        return {} if self.table is None else self.table.numeric

    @property
    def categorical(self) -> dict[str, list[str]]:
        """Columns of categories, with their known values."""
        return {} if self.table is None else self.table.categorical

    @property
    def columns(self) -> list[str]:
        """Names of the columns that `encode` takes."""
        return [*([] if self.table is None else self.table.columns), *self.texts]

    def encode(self, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """A dict of columns to a dict of the network's inputs.

        Raises:
            ValueError: a column is missing, or holds something else than numbers.
        """
        missing = [name for name in self.columns if name not in table]
        if missing:
            raise ValueError(f"The table lacks the columns {', '.join(missing)}.")
        blocks = {} if self.table is None else self.table.encode(table)
        for column, tokenizer in self.texts.items():
            texts = ["" if is_missing(text) else str(text) for text in table[column]]
            blocks[tokenizer.name] = tokenizer.encode(texts)
        return blocks

    def get_config(self) -> dict[str, Any]:
        return {
            "table": None if self.table is None else encoder_to_dict(self.table),
            "texts": {column: encoder_to_dict(part) for column, part in self.texts.items()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MixedEncoder:
        table = config["table"]
        texts = {column: encoder_from_dict(part) for column, part in config["texts"].items()}
        return cls(None if table is None else encoder_from_dict(table), texts)

    def __repr__(self) -> str:
        lines = [] if self.table is None else [repr(self.table)]
        lines += [f"text column {column}: {part!r}" for column, part in self.texts.items()]
        return "\n".join(lines)
