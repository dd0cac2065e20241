"""Sentences to ids of a vocabulary's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder
from mtl_keras.runtime.encoders.words import (
    check_rules,
    check_texts,
    count_learned_ids,
    pad_ids,
    split_words,
)

__all__ = ["WordTokenizer"]


@register_encoder
class WordTokenizer:
    """Sentences to rows of word ids: 0 is padding (at the end), 1 a word that the vocabulary lacks.

    Args:
        vocabulary: list of str. The words with ids 2, 3, ...
        length: int. Ids per row. Longer sentences are cut.
        name: str. Name of the network's input.
        rules: "unicode" or "ascii": what a word is, as in `mtl.data.split_words`. Defaults to
            "unicode"; tokenizers that were saved before there was a choice are "ascii", which their
            networks learned.
    """

    kind = "text"

    def __init__(
        self, vocabulary: Sequence[str], length: int, name: str = "tokens", rules: str = "unicode"
    ) -> None:
        self.vocabulary, self.length, self.name = list(vocabulary), int(length), name
        self.rules = check_rules(rules)
        self._ids: dict[str, int] = {}
        for i, word in enumerate(self.vocabulary, 2):
            parts = split_words(word, self.rules)
            # As sentences will spell it: "Oslo" is found under "oslo".
            self._ids.setdefault(parts[0] if len(parts) == 1 else word, i)

    @classmethod
    def fit(
        cls,
        sentences: Iterable[str],
        size: int,
        length: int,
        name: str = "tokens",
        rules: str = "unicode",
    ) -> WordTokenizer:
        """A tokenizer with the `size` - 2 most frequent words (ties in alphabetical order)."""
        count, rules = count_learned_ids(size), check_rules(rules)
        counts = Counter(
            word for sentence in check_texts(sentences) for word in split_words(sentence, rules)
        )
        return cls(
            sorted(counts, key=lambda word: (-counts[word], word))[:count], length, name, rules
        )

    def __len__(self) -> int:
        return len(self.vocabulary) + 2

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = [
            [self._ids.get(word, 1) for word in split_words(s, self.rules)[: self.length]]
            for s in check_texts(sentences)
        ]
        return pad_ids(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "length": self.length,
            "name": self.name,
            "rules": self.rules,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WordTokenizer:
        return cls(**{"rules": "ascii", **config})

    def __repr__(self) -> str:
        some = ", ".join(self.vocabulary[:5]) + (", ..." if len(self.vocabulary) > 5 else "")
        return (
            f"WordTokenizer(ids={len(self)}, length={self.length}, name={self.name!r}, words: "
            f"{some}); longer texts are cut, other words get id 1"
        )
