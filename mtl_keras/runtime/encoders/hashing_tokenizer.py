"""Sentences to checksums of their words."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder
from mtl_keras.runtime.encoders.words import (
    check_rules,
    check_texts,
    pad_ids,
    split_words,
)

__all__ = ["HashingTokenizer"]


@register_encoder
class HashingTokenizer:
    """Sentences to rows of word ids without a vocabulary: a word's id is 1 plus its checksum
    (CRC-32) modulo `size` - 1.

    Nothing has to be learned or stored, no word is unknown, and different words may share an id.
    The checksum is the same on every machine and in every language's standard library.

    Args:
        size: int >= 2. Number of ids, padding (0) included.
        length: int. Ids per row. Longer sentences are cut.
        name: str. Name of the network's input.
        rules: "unicode" or "ascii", as in `WordTokenizer`.
    """

    kind = "text"

    def __init__(
        self, size: int, length: int, name: str = "tokens", rules: str = "unicode"
    ) -> None:
        if int(size) < 2:
            raise ValueError(f"HashingTokenizer needs at least 2 ids, got {size}.")
        self.size, self.length, self.name = int(size), int(length), name
        self.rules = check_rules(rules)

    def __len__(self) -> int:
        return self.size

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = []
        for sentence in check_texts(sentences):
            spelled = split_words(sentence, self.rules)[: self.length]
            rows.append([1 + zlib.crc32(word.encode()) % (self.size - 1) for word in spelled])
        return pad_ids(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "length": self.length, "name": self.name, "rules": self.rules}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HashingTokenizer:
        return cls(**{"rules": "ascii", **config})

    def __repr__(self) -> str:
        return (
            f"HashingTokenizer(ids={self.size}, length={self.length}, name={self.name!r}); longer "
            f"texts are cut, words may share an id"
        )
