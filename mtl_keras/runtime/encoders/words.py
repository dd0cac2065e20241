"""What a word is, in every script, and what all tokenizers share."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "check_rules",
    "check_texts",
    "count_learned_ids",
    "normalize_text",
    "pad_ids",
    "split_words",
]


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
    """ "letter", "digit", "single" (a token of its own), "mark" (part of what it follows),
    "ignored", or "" between words."""
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


def normalize_text(text: str, lower: bool = True) -> str:
    """Unicode's compatibility form (NFKC), and without upper case: what looks alike is alike."""
    text = unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFKC", text.casefold()) if lower else text


def split_words(text: str, rules: str = "unicode") -> list[str]:
    """The words of a text, in lower case.

    Args:
        text: str.
        rules: "unicode": NFKC and case folding, then runs of letters with their marks, runs of
            digits, and each symbol (such as an emoji) alone. Of scripts without spaces (Chinese,
            Japanese, Thai, Lao, Khmer, Burmese) each letter is a word. "ascii": runs of a to z and
            of 0 to 9; anything else is between words.

    Returns:
        list of str. For texts in ASCII the two rules agree.
    """
    if rules == "ascii" or text.isascii():
        return _ASCII_WORD.findall(text.lower())
    tokens: list[str] = []
    before = ""
    for character in normalize_text(text):
        kind = _character_kind(character)
        if kind == "ignored":
            continue
        if kind == "mark":
            if before:
                tokens[-1] += character
            continue
        if kind == before and kind in ("letter", "digit"):
            tokens[-1] += character
        elif kind:
            tokens.append(character)
        before = kind
    return tokens


def check_texts(texts: Iterable[Any]) -> Iterable[str]:
    """Texts as str; one text in place of a list, and what is no text, are refused."""
    is_table = isinstance(texts, Mapping) and any(np.ndim(value) for value in texts.values())
    if isinstance(texts, (str, bytes)) or is_table:
        raise TypeError(f"Texts should come in a list. Received: {texts!r}.")
    for i, text in enumerate(texts):
        if isinstance(text, bytes):
            text = text.decode()
        if not isinstance(text, str):
            raise TypeError(
                f"Texts should be str; number {i} is not. Received: {text!r}. Give '' where a "
                f"text is missing."
            )
        yield text


def check_rules(rules: str) -> str:
    if rules not in _RULES:
        raise ValueError(
            f"`rules` should be one of {', '.join(map(repr, _RULES))}. Received: {rules!r}."
        )
    return rules


def count_learned_ids(size: int) -> int:
    """The number of learned ids: all but padding and unknown."""
    if int(size) < 2:
        raise ValueError(f"`size` should be at least 2, for padding and unknown. Received: {size}.")
    return int(size) - 2


def pad_ids(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], "int32").reshape(
        -1, length
    )
