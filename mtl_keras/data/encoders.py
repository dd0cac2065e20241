"""Encoders: from what a person has (a picture file, a sentence, a table row) to what a network takes.

They are plain Python and NumPy, are saved inside the model, and run where neither Keras nor TensorFlow is installed; only
their registration, so that a saved model brings them back, needs Keras.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["CharTokenizer", "HashingTokenizer", "ImageEncoder", "TableEncoder", "WordTokenizer"]

#: Every class of encoders by its name: what `to_json` writes, and exported files name, is looked up here.
ENCODERS: dict[str, type] = {}


def register(cls: type) -> type:
    """Class decorator: make objects of `cls` survive `to_json`, and travel in exported files.

    Args:
        cls: class with `kind` ("image", "text" or "table": what it takes), `encode`, `get_config` and `from_config`, whose
            config is plain values.

    Returns:
        `cls`. To be saved inside a `.keras` file it also needs `keras.saving.register_keras_serializable`.

    Raises:
        ValueError: another class of this name is registered.

    Example:
        >>> @mtl.data.encoders.register
        ... class Syllables: ...
    """
    if ENCODERS.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(
            f"An encoder of the name '{cls.__name__}' is registered already. Rename the class."
        )
    return cls


@register
class ImageEncoder:
    """Picture files or arrays to float images of one size.

    Args:
        size: `(height, width)`.
        channels: 1 (grey) or 3 (colour).
        scale: float. Factor on byte values. Defaults to 1/255.
        name: str. The network's input.
    """

    kind = "image"

    def __init__(
        self, size: Sequence[int], channels: int = 3, scale: float = 1 / 255, name: str = "image"
    ):
        if channels not in (1, 3):
            raise ValueError(f"ImageEncoder takes 1 or 3 channels, got {channels}.")
        self.size, self.channels, self.scale, self.name = (
            tuple(int(s) for s in size),
            channels,
            float(scale),
            name,
        )

    def encode(self, images: Iterable[Any]) -> np.ndarray:
        """Images to `(rows, height, width, channels)`, float32.

        Photographs are turned as their camera noted (EXIF orientation).

        Args:
            images: paths of picture files, `PIL.Image` objects, or arrays `(height, width)` or `(height, width, channels)`:
                integers from 0 to 255, booleans, or real numbers from 0 to 1. Real numbers of which one of this call is
                above 1 are taken as byte values, 0 to 255.

        Raises:
            ValueError: a file that is no picture or is damaged; an array of another shape or range.
            TypeError: one path in place of a list.
        """
        from PIL import Image

        if isinstance(images, (str, bytes)):
            raise TypeError(f"`images` should be a list of pictures. Received: {images!r}.")
        images = list(images)
        real = [
            image
            for image in images
            if isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.size
        ]
        factor = 255.0 if all(image.max() <= 1 for image in real) else 1.0
        rows = np.empty((len(images), *self.size, self.channels), "float32")
        for i, image in enumerate(images):
            picture = (
                _from_array(image, factor) if isinstance(image, np.ndarray) else _from_file(image)
            )
            picture = picture.convert("L" if self.channels == 1 else "RGB")
            if picture.size != self.size[::-1]:
                picture = picture.resize(self.size[::-1], Image.Resampling.BILINEAR)
            rows[i] = np.asarray(picture, "float32").reshape(rows.shape[1:]) * self.scale
        return rows

    def get_config(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "channels": self.channels,
            "scale": self.scale,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageEncoder:
        return cls(**config)


def _from_array(array: np.ndarray, factor: float) -> Any:
    """A picture from an array; `factor` brings real numbers to byte values."""
    from PIL import Image

    plane = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if plane.ndim != 2 and (plane.ndim != 3 or plane.shape[-1] not in (3, 4)):
        raise ValueError(
            "A picture's array should have the shape (height, width) or (height, width, channels) with 1, 3 or 4 channels. "
            f"Received: {array.shape}."
        )
    if plane.dtype.kind == "b":
        plane = plane * 255
    elif plane.dtype.kind == "f":
        plane = np.rint(plane * factor)
    if plane.size and not (plane.min() >= 0 and plane.max() <= 255):
        raise ValueError(
            "A picture's array should hold integers from 0 to 255 or real numbers from 0 to 1. Received: values from "
            f"{array.min()} to {array.max()}, dtype {array.dtype}."
        )
    return Image.fromarray(plane.astype("uint8"))


def _from_file(source: Any) -> Any:
    """A picture from a path (or a `PIL.Image`), upright, with 8 bits a channel."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        picture = source if isinstance(source, Image.Image) else Image.open(source)
    except UnidentifiedImageError:
        raise ValueError(f"{source} is not a picture that can be read (PNG, JPEG, ...).") from None
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            # Pillow would cut 16 bits off at 255, and make all but the darkest places white.
            picture = Image.fromarray(np.rint(np.asarray(picture) / 257).astype("uint8"))
        picture.load()
    except OSError as error:
        raise ValueError(f"{source} is damaged: {error}.") from None
    return picture


# What words were in the first version: networks that learned them keep them.
_ASCII_WORD = re.compile(r"[a-z]+|[0-9]+")
# Scripts that put no spaces between words, by the beginnings of their letters' names in Unicode.
_WITHOUT_SPACES = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TAI",
    "NEW TAI",
    "IDEOGRAPHIC",
)
_RULES = ("unicode", "ascii")


@functools.lru_cache(maxsize=65536)
def _character_kind(character: str) -> str:
    """ "letter", "digit", "single" (a token of its own), "mark" (part of what it follows), "ignored", or "" between words."""
    category = unicodedata.category(character)
    if category[0] == "M":
        return "mark"
    if category[0] == "L":
        if not unicodedata.name(character, "").startswith(_WITHOUT_SPACES):
            return "letter"
        # Signs of repetition and length belong to the letter before them.
        return "mark" if category == "Lm" else "single"
    if category[0] == "N":
        return "digit"
    if category == "So":
        return "single"
    # Joiners and soft hyphens are inside words; the space of no width is between them.
    return "ignored" if category == "Cf" and character != "\u200b" else ""


def _normalized(text: str, lower: bool = True) -> str:
    """Unicode's compatibility form (NFKC), and without upper case: what looks alike is alike."""
    text = unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFKC", text.casefold()) if lower else text


def words(text: str, rules: str = "unicode") -> list[str]:
    """The words of a text, in lower case.

    Args:
        text: str.
        rules: "unicode": NFKC and case folding, then runs of letters with their marks, runs of digits, and each symbol (such
            as an emoji) alone. Of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each letter is a
            word. "ascii": runs of a to z and of 0 to 9; anything else is between words.

    Returns:
        list of str. For texts in ASCII the two rules agree.
    """
    if rules == "ascii" or text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    before = ""
    for character in _normalized(text):
        kind = _character_kind(character)
        if kind == "ignored":
            continue
        if kind == "mark":
            if before:
                found[-1] += character
            continue
        if kind == before and kind in ("letter", "digit"):
            found[-1] += character
        elif kind:
            found.append(character)
        before = kind
    return found


def _texts(texts: Iterable[Any]) -> Iterable[str]:
    """Texts as str; one text in place of a list, and what is no text, are refused."""
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"Texts should come in a list. Received: {texts!r}.")
    for i, text in enumerate(texts):
        if isinstance(text, bytes):
            text = text.decode()
        if not isinstance(text, str):
            raise TypeError(
                f"Texts should be str; number {i} is not. Received: {text!r}. Give '' where a text is missing."
            )
        yield text


def _check_rules(rules: str) -> str:
    if rules not in _RULES:
        raise ValueError(
            f"`rules` should be one of {', '.join(map(repr, _RULES))}. Received: {rules!r}."
        )
    return rules


def _check_size(size: int) -> int:
    """The number of learned ids: all but padding and unknown."""
    if int(size) < 2:
        raise ValueError(f"`size` should be at least 2, for padding and unknown. Received: {size}.")
    return int(size) - 2


@register
class WordTokenizer:
    """Sentences to rows of word ids: 0 is padding (at the end), 1 a word that the vocabulary lacks.

    Args:
        vocabulary: list of str. The words with ids 2, 3, ...
        length: int. Ids a row; longer sentences are cut.
        name: str. The network's input.
        rules: "unicode" or "ascii": what a word is, as in `mtl.data.encoders.words`. Defaults to "unicode"; tokenizers that
            were saved before there was a choice are "ascii", which their networks learned.
    """

    kind = "text"

    def __init__(
        self, vocabulary: Sequence[str], length: int, name: str = "tokens", rules: str = "unicode"
    ):
        self.vocabulary, self.length, self.name = list(vocabulary), int(length), name
        self.rules = _check_rules(rules)
        self._ids: dict[str, int] = {}
        for i, word in enumerate(self.vocabulary, 2):
            parts = words(word, self.rules)
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
        count, rules = _check_size(size), _check_rules(rules)
        counts = Counter(word for sentence in _texts(sentences) for word in words(sentence, rules))
        return cls(
            sorted(counts, key=lambda word: (-counts[word], word))[:count], length, name, rules
        )

    def __len__(self) -> int:
        return len(self.vocabulary) + 2

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = [
            [self._ids.get(word, 1) for word in words(s, self.rules)[: self.length]]
            for s in _texts(sentences)
        ]
        return _padded(rows, self.length)

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


@register
class CharTokenizer:
    """Texts to rows of letter ids: 0 is padding (at the end), 1 a letter that the alphabet lacks.

    Args:
        alphabet: str. The letters with ids 2, 3, ...
        length: int. Ids a row; longer texts are cut.
        lower: bool. Take letters without upper case. Defaults to True.
        name: str. The network's input.
        normalize: bool. Bring texts to Unicode's form NFKC, in which what looks alike is alike, and with `lower` fold case
            as Unicode does. Defaults to True; tokenizers that were saved before there was a choice do neither.

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
    ):
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
            if self.normalize and _normalized(letter, self.lower) != letter
        ]
        if never:
            raise ValueError(
                f"CharTokenizer: {''.join(never)!r} of the alphabet cannot occur in normalized texts. Write them as "
                f"{_normalized(''.join(never), self.lower)!r}, or set lower=False or normalize=False."
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
        """A tokenizer with the `size` - 2 most frequent letters (ties in their order in Unicode)."""
        spelled = cls("", length, lower, name, normalize)._spelled
        count = _check_size(size)
        counts = Counter(letter for text in _texts(texts) for letter in spelled(text))
        letters = sorted(counts, key=lambda letter: (-counts[letter], letter))[:count]
        return cls("".join(letters), length, lower, name, normalize)

    def _spelled(self, text: str) -> str:
        if self.normalize:
            return _normalized(text, self.lower)
        return text.lower() if self.lower else text

    def __len__(self) -> int:
        return len(self.alphabet) + 2

    def encode(self, texts: Iterable[str]) -> np.ndarray:
        """Texts to `(rows, length)`, int32."""
        rows = [
            [self._ids.get(letter, 1) for letter in self._spelled(text)[: self.length]]
            for text in _texts(texts)
        ]
        return _padded(rows, self.length)

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


@register
class HashingTokenizer:
    """Sentences to rows of word ids without a vocabulary: a word's id is 1 plus its checksum (CRC-32) modulo `size` - 1.

    Nothing has to be learned or stored, no word is unknown, and different words may share an id. The checksum is the same on
    every machine and in every language's standard library.

    Args:
        size: int >= 2. Number of ids, padding (0) included.
        length: int. Ids a row; longer sentences are cut.
        name: str. The network's input.
        rules: "unicode" or "ascii", as in `WordTokenizer`.
    """

    kind = "text"

    def __init__(self, size: int, length: int, name: str = "tokens", rules: str = "unicode"):
        if int(size) < 2:
            raise ValueError(f"HashingTokenizer needs at least 2 ids, got {size}.")
        self.size, self.length, self.name = int(size), int(length), name
        self.rules = _check_rules(rules)

    def __len__(self) -> int:
        return self.size

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences to `(rows, length)`, int32."""
        rows = []
        for sentence in _texts(sentences):
            spelled = words(sentence, self.rules)[: self.length]
            rows.append([1 + zlib.crc32(word.encode()) % (self.size - 1) for word in spelled])
        return _padded(rows, self.length)

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "length": self.length, "name": self.name, "rules": self.rules}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HashingTokenizer:
        return cls(**{"rules": "ascii", **config})


def _padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], "int32").reshape(
        -1, length
    )


@register
class TableEncoder:
    """Columns of a table to a block of numbers and a block of category ids.

    A number that is missing becomes its column's mean; a category that was not seen, or is missing, gets id 0.

    Args:
        numeric: dict of column to `[mean, variance]`.
        categorical: dict of column to its known values, as strings.
    """

    kind = "table"

    def __init__(
        self, numeric: Mapping[str, Sequence[float]], categorical: Mapping[str, Sequence[str]]
    ):
        self.numeric = {k: [float(v) for v in stats] for k, stats in numeric.items()}
        self.categorical = {k: [str(v) for v in values] for k, values in categorical.items()}
        self._ids = {
            k: {_text(v): i for i, v in enumerate(values, 1)}
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
                    f"Column '{name}' holds no number: it has no mean. Leave it out, or name it as categorical."
                )
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
            columns = [
                [self._ids[name].get(_text(v), 0) for v in table[name]] for name in self.categorical
            ]
            found["categorical"] = np.array(columns, "int32").T.copy()
        return found

    def get_config(self) -> dict[str, Any]:
        return {"numeric": self.numeric, "categorical": self.categorical}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TableEncoder:
        return cls(**config)


def _text(value: Any) -> str:
    """A category's name: missing is empty, 3.0 is "3", and letters with marks have one spelling (NFC)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return ""
        if float(value).is_integer():
            return str(int(value))
    return unicodedata.normalize("NFC", str(value))


def to_dict(encoder: Any) -> dict[str, Any]:
    """An encoder's class and config, as exported files carry them.

    Raises:
        ValueError: an encoder whose class is not registered.
    """
    name = type(encoder).__name__
    if ENCODERS.get(name) is not type(encoder):
        raise ValueError(
            f"Encoder '{name}' is not registered: put `@mtl.data.encoders.register` above its class."
        )
    return {"class": name, "config": encoder.get_config()}


def from_dict(facts: Mapping[str, Any]) -> Any:
    """The encoder that `to_dict` described.

    Raises:
        ValueError: a class that is not registered here.
    """
    if facts["class"] not in ENCODERS:
        raise ValueError(
            f"Encoder '{facts['class']}' is not known here. Import the module that registers it. Known: {', '.join(ENCODERS)}."
        )
    return ENCODERS[facts["class"]].from_config(dict(facts["config"]))


# Before files named the class there was one for each kind.
_CLASS_OF_KIND = {"image": "ImageEncoder", "text": "WordTokenizer", "table": "TableEncoder"}


def to_json(encoder: Any) -> str:
    """An encoder as JSON, for cards and for devices without Keras.

    Raises:
        ValueError: an encoder whose class is not registered.
    """
    facts = to_dict(encoder)
    return json.dumps({"kind": encoder.kind, "class": facts["class"], **facts["config"]})


def from_json(text: str) -> Any:
    """The encoder that `to_json` wrote, in this version or an earlier one.

    Raises:
        ValueError: a class that is not registered here.
    """
    config = json.loads(text)
    kind = config.pop("kind")
    return from_dict(
        {"class": config.pop("class", _CLASS_OF_KIND.get(kind, kind)), "config": config}
    )
