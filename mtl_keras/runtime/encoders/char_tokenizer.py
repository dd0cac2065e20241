"""Texts to ids of an alphabet's letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder
from mtl_keras.runtime.encoders.words import (
    check_texts,
    count_learned_ids,
    normalize_text,
    pad_ids,
)

__all__ = ["CharTokenizer"]


@register_encoder
class CharTokenizer:
    """Texts to rows of letter ids: 0 is padding (at the end), 1 a letter that the alphabet lacks.

    Args:
        alphabet: str. The letters with ids 2, 3, ...
        length: int. Ids per row. Longer texts are cut.
        lower: bool. Take letters without upper case. Defaults to True.
        name: str. Name of the network's input.
        normalize: bool. Bring texts to Unicode's form NFKC, in which what looks alike is alike, and
            with `lower` fold case as Unicode does. Defaults to True; tokenizers that were saved
            before there was a choice do neither.

    Raises:
        ValueError: a letter twice; a letter that no normalized text can hold.
    """

    kind = "text"

    def __init__(
        self,
        alphabet: str,
        length: int,
        lower: bool = True,
        name: str = "tokens",
        normalize: bool = True,
    ) -> None:
        self.alphabet, self.length, self.lower, self.name = (
            str(alphabet),
            int(length),
            bool(lower),
            name,
        )
        self.normalize = bool(normalize)
        self._ids = {letter: i for i, letter in enumerate(self.alphabet, 2)}
        if len(self._ids) != len(self.alphabet):
            raise ValueError(
                f"CharTokenizer: the alphabet holds a letter twice: {self.alphabet!r}."
            )
        never = [
            letter
            for letter in self.alphabet
            if self.normalize and normalize_text(letter, self.lower) != letter
        ]
        if never:
            raise ValueError(
                f"CharTokenizer: {''.join(never)!r} of the alphabet cannot occur in normalized "
                f"texts. Write them as "
                f"{normalize_text(''.join(never), self.lower)!r}, or set lower=False or "
                f"normalize=False."
            )

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        length: int,
        size: int = 256,
        lower: bool = True,
        name: str = "tokens",
        normalize: bool = True,
    ) -> CharTokenizer:
        """A tokenizer with the `size` - 2 most frequent letters (ties in their order in
        Unicode)."""
        spelled = cls("", length, lower, name, normalize)._spelled
        count = count_learned_ids(size)
        counts = Counter(letter for text in check_texts(texts) for letter in spelled(text))
        letters = sorted(counts, key=lambda letter: (-counts[letter], letter))[:count]
        return cls("".join(letters), length, lower, name, normalize)

    def _spelled(self, text: str) -> str:
        if self.normalize:
            return normalize_text(text, self.lower)
        return text.lower() if self.lower else text

    def __len__(self) -> int:
        return len(self.alphabet) + 2

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        """Texts to `(rows, length)`, int32."""
        rows = [
            [self._ids.get(letter, 1) for letter in self._spelled(text)[: self.length]]
            for text in check_texts(texts)
        ]
        return pad_ids(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        config = {
            "alphabet": self.alphabet,
            "length": self.length,
            "lower": self.lower,
            "name": self.name,
        }
        return {**config, "normalize": self.normalize}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CharTokenizer:
        return cls(**{"normalize": False, **config})

    def __repr__(self) -> str:
        return (
            f"CharTokenizer(ids={len(self)}, length={self.length}, name={self.name!r}, letters: "
            f"{self.alphabet[:30]!r}); longer texts are cut, other letters get id 1"
        )
