"""Tokenizers fitted on the texts of the training part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.data.sources import DataError
from mtl_keras.runtime.encoders import CharTokenizer, SubwordTokenizer, WordTokenizer, split_words
from mtl_keras.runtime.names import unknown_name

__all__ = ["RawTexts", "fit_tokenizer"]

_KINDS = ("auto", "words", "subwords", "characters")
_IDS = 8000
_LONGEST = 256
#: Share of the words of new texts that may be unknown before parts of words are learned.
_MOST_UNKNOWN = 0.05


def fit_tokenizer(texts: Sequence[str], tokenizer: Any, name: str, size: int = _IDS) -> Any:
    """A tokenizer fitted on texts.

    Args:
        texts: those of the training part.
        tokenizer: "words", "subwords", "characters", "auto", or a tokenizer, which is returned as
            it is, under this input's name.
        name: str. Of the network's input.
        size: int. Number of ids at most.

    Returns:
        tokenizer whose length lets 95 % of the texts pass whole (256 ids at most).

    Raises:
        DataError: an unknown kind of tokenizer; no text holds a word.
    """
    if not isinstance(tokenizer, str):
        if not hasattr(tokenizer, "get_config"):
            raise DataError(
                f"`tokenizer` should be one of {', '.join(_KINDS)}, or a tokenizer of mtl.data. "
                f"Received: {tokenizer!r}."
            )
        return type(tokenizer).from_config({**tokenizer.get_config(), "name": name})
    if tokenizer not in _KINDS:
        raise DataError(unknown_name("tokenizer", tokenizer, _KINDS))
    words = [split_words(text) for text in texts]
    if not any(words):
        raise DataError(f"No text of the training part holds a word (input '{name}').")
    if tokenizer == "auto":
        tokenizer = "subwords" if _unknown_share(words) > _MOST_UNKNOWN else "words"
    if tokenizer == "words":
        return WordTokenizer.fit(texts, size, _length([len(row) for row in words]), name)
    if tokenizer == "characters":
        return CharTokenizer.fit(texts, _length([len(text) for text in texts]), name=name)
    fitted = SubwordTokenizer.fit(texts, size, _LONGEST, name)
    lengths = [len(fitted.split(text)) for text in texts]
    return SubwordTokenizer.from_config({**fitted.get_config(), "length": _length(lengths)})


def _unknown_share(words: Sequence[Sequence[str]]) -> float:
    """Share of the words of every second text that the other texts do not hold."""
    known = {word for row in words[::2] for word in row}
    counts = Counter(word in known for row in words[1::2] for word in row)
    total = sum(counts.values())
    return counts[False] / total if total else 0.0


def _length(lengths: Sequence[int]) -> int:
    return int(np.clip(np.ceil(np.percentile(lengths, 95)), 4, _LONGEST))


class RawTexts:
    """Texts before they are encoded.

    Args:
        texts: list of str, one per row.
        tokenizer: as in `fit_tokenizer`.
        name: str. Of the network's input.
    """

    kind = "text"

    def __init__(self, texts: Sequence[str], tokenizer: Any = "auto", name: str = "tokens") -> None:
        self._texts, self._tokenizer, self._name = list(texts), tokenizer, name

    def fit(self, rows: np.ndarray) -> Any:
        """A tokenizer of these rows."""
        return fit_tokenizer([self._texts[row] for row in rows], self._tokenizer, self._name)

    def encode(self, encoder: Any) -> dict[str, Any]:
        """Token ids of all rows."""
        from mtl_keras.data.fields import ArrayField

        return {self._name: ArrayField(encoder.encode(self._texts))}

    def suggest_backbone(self, encoder: Any) -> tuple[Any, dict[str, Any]]:
        """The builder's default, and the size of the vocabulary."""
        return None, {"vocabulary_size": len(encoder)}

    def select(self, rows: np.ndarray) -> RawTexts:
        """These rows only."""
        return RawTexts([self._texts[row] for row in rows], self._tokenizer, self._name)
