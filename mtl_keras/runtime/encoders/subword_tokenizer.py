"""Texts to ids of parts of words, learned by byte-pair encoding."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder
from mtl_keras.runtime.encoders.words import (
    check_texts,
    count_learned_ids,
    pad_ids,
    split_words,
)

__all__ = ["SubwordTokenizer"]

#: Stands before the first letter of each word.
_BEGIN = "▁"
#: Words whose parts are remembered while texts are encoded.
_CACHED = 50_000


@register_encoder
class SubwordTokenizer:
    """Texts to rows of ids of word parts: 0 is padding (at the end), 1 a letter that is not known.

    Frequent words are one part; rare words, and words that training never saw, are several. Words
    are those of `mtl.data.split_words`: Unicode, without upper case. It is learned and encoded in
    plain Python.

    Args:
        letters: list of str. The letters with ids 2, 3, ...
        merges: list of pairs of parts, in the order in which they are joined. The joined parts have
            the ids that follow.
        length: int. Ids per row. Longer texts are cut.
        name: str. Name of the network's input.

    Examples:
        >>> tokenizer = mtl.data.SubwordTokenizer.fit(["low lower lowest"] * 3, size=20, length=8)
        >>> tokenizer.split("lowly")
        ['▁low', 'l', 'y']
        >>> tokenizer.encode(["low slow"]).shape
        (1, 8)

    References:
        Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL
        2016.
    """

    kind = "text"

    def __init__(
        self,
        letters: Sequence[str],
        merges: Sequence[Sequence[str]],
        length: int,
        name: str = "tokens",
    ) -> None:
        self.letters = list(letters)
        self.merges = [(left, right) for left, right in merges]
        self.length, self.name = int(length), name
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._ids: dict[str, int] = {}
        for part in (*self.letters, *(left + right for left, right in self.merges)):
            # Two merges may end in the same part.
            self._ids.setdefault(part, len(self._ids) + 2)
        self._cache: dict[str, list[str]] = {}

    @classmethod
    def fit(
        cls, texts: Iterable[str], size: int, length: int, name: str = "tokens"
    ) -> SubwordTokenizer:
        """Learn parts of words on texts.

        Args:
            texts: list of str.
            size: int >= 2. Number of ids, padding and unknown included. Letters come first, the
                most frequent ones if there are more than ids; then parts, until no pair occurs
                twice.
            length, name: as in the class.

        Returns:
            `SubwordTokenizer`. The same texts give the same parts.
        """
        count = count_learned_ids(size)
        words = Counter(word for text in check_texts(texts) for word in split_words(text))
        frequencies: Counter[str] = Counter()
        for word, number in words.items():
            for letter in _BEGIN + word:
                frequencies[letter] += number
        letters = sorted(frequencies, key=lambda letter: (-frequencies[letter], letter))[:count]
        merges = _learn_merges(words, frozenset(letters), count - len(letters))
        return cls(letters, merges, length, name)

    def __len__(self) -> int:
        return len(self._ids) + 2

    def split(self, text: str) -> list[str]:
        """The parts of a text."""
        return [part for word in split_words(text) for part in self._parts(word)]

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        """Texts to `(rows, length)`, int32."""
        rows = []
        for text in check_texts(texts):
            row: list[int] = []
            for word in split_words(text):
                if len(row) >= self.length:
                    break
                row += [self._ids.get(part, 1) for part in self._parts(word)]
            rows.append(row[: self.length])
        return pad_ids(rows, self.length)

    def _parts(self, word: str) -> list[str]:
        parts = self._cache.get(word)
        if parts is None:
            parts = self._join(list(_BEGIN + word))
            if len(self._cache) < _CACHED:
                self._cache[word] = parts
        return parts

    def _join(self, parts: list[str]) -> list[str]:
        """Join pairs in the order in which they were learned."""
        last = len(self._ranks)
        while len(parts) > 1:
            ranks = [self._ranks.get(pair, last) for pair in itertools.pairwise(parts)]
            best = min(ranks)
            if best == last:
                break
            parts = _merge(parts, self.merges[best])
        return parts

    def get_config(self) -> dict[str, Any]:
        return {
            "letters": self.letters,
            "merges": [list(pair) for pair in self.merges],
            "length": self.length,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SubwordTokenizer:
        return cls(**config)

    def __repr__(self) -> str:
        return (
            f"SubwordTokenizer(ids={len(self)}, letters={len(self.letters)}, "
            f"merges={len(self.merges)}, length={self.length}, name={self.name!r}); longer texts "
            f"are cut, unknown letters get id 1"
        )


def _merge(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Parts with each occurrence of a pair joined, from left to right."""
    merged: list[str] = []
    position = 0
    while position < len(parts):
        if position + 1 < len(parts) and (parts[position], parts[position + 1]) == pair:
            merged.append(parts[position] + parts[position + 1])
            position += 2
        else:
            merged.append(parts[position])
            position += 1
    return merged


def _learn_merges(
    words: Counter[str], letters: frozenset[str], count: int
) -> list[tuple[str, str]]:
    """The `count` pairs that byte-pair encoding joins, most frequent first, ties in the order of
    their letters."""
    # === Words as lists of letters, and where each pair occurs ===
    entries = [(list(_BEGIN + word), number) for word, number in sorted(words.items())]
    numbers = [number for _, number in entries]
    splits = [parts for parts, _ in entries]
    frequencies: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for word, parts in enumerate(splits):
        for pair in itertools.pairwise(parts):
            if pair[0] in letters and pair[1] in letters:
                frequencies[pair] += numbers[word]
                places[pair].add(word)
    queue = [(-number, pair) for pair, number in frequencies.items()]
    heapq.heapify(queue)

    # === Join the most frequent pair; only the words that hold it change ===
    merges: list[tuple[str, str]] = []
    while queue and len(merges) < count:
        negative, pair = heapq.heappop(queue)
        if frequencies[pair] != -negative:
            continue  # an old count of this pair
        if frequencies[pair] < 2:
            break
        merges.append(pair)
        changed: set[tuple[str, str]] = set()
        for word in list(places[pair]):
            before = splits[word]
            after = splits[word] = _merge(before, pair)
            for parts, sign in ((before, -1), (after, 1)):
                for neighbors in itertools.pairwise(parts):
                    if neighbors[0][0] not in letters or neighbors[1][0] not in letters:
                        continue
                    frequencies[neighbors] += sign * numbers[word]
                    changed.add(neighbors)
                    if sign > 0:
                        places[neighbors].add(word)
        frequencies[pair] = 0
        for neighbors in changed - {pair}:
            if frequencies[neighbors] > 0:
                heapq.heappush(queue, (-frequencies[neighbors], neighbors))
    return merges
