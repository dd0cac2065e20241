"""Encoders: from what a person has (a picture file, a sentence, a table row) to what a network takes.

They are plain Python and NumPy, are saved inside the model, and run where neither Keras nor TensorFlow is installed; only
their registration, so that a saved model brings them back, needs Keras.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["CharTokenizer", "HashingTokenizer", "ImageEncoder", "TableEncoder", "WordTokenizer"]


class ImageEncoder:
    """Picture files or arrays to float images of one size.

    Args:
        size: `(height, width)`.
        channels: 1 (grey) or 3 (colour).
        scale: float. Factor on byte values. Defaults to 1/255.
        name: str. The network's input.
    """

    kind = "image"

    def __init__(self, size: Sequence[int], channels: int = 3, scale: float = 1 / 255, name: str = "image"):
        if channels not in (1, 3):
            raise ValueError(f"ImageEncoder takes 1 or 3 channels, got {channels}.")
        self.size, self.channels, self.scale, self.name = tuple(int(s) for s in size), channels, float(scale), name

    def encode(self, images: Iterable[Any]) -> np.ndarray:
        """Images, given as paths or byte arrays, to `(rows, height, width, channels)`, float32.

        Raises:
            ValueError: a file that is no picture.
        """
        from PIL import Image, UnidentifiedImageError

        rows = []
        for image in images:
            if isinstance(image, np.ndarray):
                image = Image.fromarray(image.squeeze().astype("uint8"))
            else:
                try:
                    image = Image.open(image)
                except UnidentifiedImageError:
                    raise ValueError(f"{image} is not a picture that can be read (PNG, JPEG, ...).") from None
            image = image.convert("L" if self.channels == 1 else "RGB")
            if image.size != self.size[::-1]:
                image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
            rows.append(np.asarray(image, "float32").reshape(*self.size, self.channels) * self.scale)
        return np.stack(rows).astype("float32")

    def get_config(self) -> dict[str, Any]:
        return {"size": list(self.size), "channels": self.channels, "scale": self.scale, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageEncoder:
        return cls(**config)


_WORD = re.compile(r"[a-z]+|[0-9]+")


class WordTokenizer:
    """Sentences to rows of word ids: 0 is padding (at the end), 1 a word that the vocabulary lacks.

    Args:
        vocabulary: list of str. The words with ids 2, 3, ...
        length: int. Ids a row; longer sentences are cut.
        name: str. The network's input.
    """

    kind = "text"

    def __init__(self, vocabulary: Sequence[str], length: int, name: str = "tokens"):
        self.vocabulary, self.length, self.name = list(vocabulary), int(length), name
        self._ids = {word: i for i, word in enumerate(self.vocabulary, 2)}

    @classmethod
    def fit(cls, sentences: Iterable[str], size: int, length: int, name: str = "tokens") -> WordTokenizer:
        """A tokenizer with the `size` - 2 most frequent words (ties in alphabetical order)."""
        counts = Counter(word for sentence in sentences for word in _WORD.findall(sentence.lower()))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]
        return cls(words, length, name)

    def __len__(self) -> int:
        return len(self.vocabulary) + 2

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = [[self._ids.get(word, 1) for word in _WORD.findall(s.lower())][: self.length] for s in sentences]
        return _padded(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "length": self.length, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WordTokenizer:
        return cls(**config)


class CharTokenizer:
    """Texts to rows of letter ids: 0 is padding (at the end), 1 a letter that the alphabet lacks.

    Args:
        alphabet: str. The letters with ids 2, 3, ...
        length: int. Ids a row; longer texts are cut.
        lower: bool. Take letters as lower case. Defaults to True.
        name: str. The network's input.
    """

    kind = "text"

    def __init__(self, alphabet: str, length: int, lower: bool = True, name: str = "tokens"):
        self.alphabet, self.length, self.lower, self.name = str(alphabet), int(length), bool(lower), name
        self._ids = {letter: i for i, letter in enumerate(self.alphabet, 2)}
        if len(self._ids) != len(self.alphabet):
            raise ValueError(f"CharTokenizer: the alphabet holds a letter twice: {self.alphabet!r}.")

    @classmethod
    def fit(
        cls, texts: Iterable[str], length: int, size: int = 256, lower: bool = True, name: str = "tokens"
    ) -> CharTokenizer:
        """A tokenizer with the `size` - 2 most frequent letters (ties in their order in Unicode)."""
        counts = Counter(letter for text in texts for letter in (text.lower() if lower else text))
        letters = sorted(counts, key=lambda letter: (-counts[letter], letter))[: size - 2]
        return cls("".join(letters), length, lower, name)

    def __len__(self) -> int:
        return len(self.alphabet) + 2

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        """Texts to `(rows, length)`, int32."""
        rows = [[self._ids.get(c, 1) for c in (text.lower() if self.lower else text)[: self.length]] for text in texts]
        return _padded(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "length": self.length, "lower": self.lower, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CharTokenizer:
        return cls(**config)


class HashingTokenizer:
    """Sentences to rows of word ids without a vocabulary: a word's id is 1 plus its checksum (CRC-32) modulo `size` - 1.

    Nothing has to be learned or stored, no word is unknown, and different words may share an id. The checksum is the same on
    every machine and in every language's standard library.

    Args:
        size: int >= 2. Number of ids, padding (0) included.
        length: int. Ids a row; longer sentences are cut.
        name: str. The network's input.
    """

    kind = "text"

    def __init__(self, size: int, length: int, name: str = "tokens"):
        if int(size) < 2:
            raise ValueError(f"HashingTokenizer needs at least 2 ids, got {size}.")
        self.size, self.length, self.name = int(size), int(length), name

    def __len__(self) -> int:
        return self.size

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = []
        for sentence in sentences:
            words = _WORD.findall(sentence.lower())[: self.length]
            rows.append([1 + zlib.crc32(word.encode()) % (self.size - 1) for word in words])
        return _padded(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "length": self.length, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HashingTokenizer:
        return cls(**config)


def _padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], "int32").reshape(-1, length)


class TableEncoder:
    """Columns of a table to a block of numbers and a block of category ids.

    A number that is missing becomes its column's mean; a category that was not seen, or is missing, gets id 0.

    Args:
        numeric: dict of column to `[mean, variance]`.
        categorical: dict of column to its known values, as strings.
    """

    kind = "table"

    def __init__(self, numeric: Mapping[str, Sequence[float]], categorical: Mapping[str, Sequence[str]]):
        self.numeric = {k: [float(v) for v in stats] for k, stats in numeric.items()}
        self.categorical = {k: [str(v) for v in values] for k, values in categorical.items()}
        self._ids = {k: {v: i for i, v in enumerate(values, 1)} for k, values in self.categorical.items()}

    @classmethod
    def fit(cls, table: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str]) -> TableEncoder:
        """Measure means, variances and known values on `table`, a dict of columns."""
        stats = {}
        for name in numeric:
            column = np.asarray(table[name], float)
            column = column[np.isfinite(column)]
            stats[name] = [float(column.mean()), float(column.var()) or 1.0]
        values = {name: sorted({_text(v) for v in table[name]} - {""}) for name in categorical}
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
        lacking = [name for name in (*self.numeric, *self.categorical) if name not in table]
        if lacking:
            raise ValueError(f"The table lacks the columns {', '.join(lacking)}.")
        found = {}
        if self.numeric:
            columns = []
            for name, (mean, _) in self.numeric.items():
                column = np.asarray(table[name], float)
                columns.append(np.where(np.isfinite(column), column, mean))
            found["numeric"] = np.stack(columns, -1).astype("float32")
        if self.categorical:
            columns = [[self._ids[name].get(_text(v), 0) for v in table[name]] for name in self.categorical]
            found["categorical"] = np.array(columns, "int32").T.copy()
        return found

    def get_config(self) -> dict[str, Any]:
        return {"numeric": self.numeric, "categorical": self.categorical}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TableEncoder:
        return cls(**config)


def _text(value: Any) -> str:
    """A category's name: missing is empty, and 3.0 is "3"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


_KINDS = {cls.kind: cls for cls in (ImageEncoder, WordTokenizer, TableEncoder)}


def to_json(encoder: Any) -> str:
    """An encoder as JSON, for cards and for devices without Keras."""
    return json.dumps({"kind": encoder.kind, **encoder.get_config()})


def from_json(text: str) -> Any:
    """The encoder that `to_json` wrote."""
    config = json.loads(text)
    return _KINDS[config.pop("kind")](**config)
