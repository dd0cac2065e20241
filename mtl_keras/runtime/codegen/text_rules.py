"""How a tokenizer reads text, as tables that a few lines of any language can follow.

A tokenizer of `mtl_keras.data` is Python. What it does is asked of it here, character by character:
what a character becomes, and what it joins. The answers, its vocabulary, and the form of Unicode
that it normalizes to stand in one text file, which snippets of every language read; they then give
the same numbers, whatever version of Unicode a phone has.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtl_keras.runtime.encoders import CharTokenizer, HashingTokenizer, WordTokenizer
from mtl_keras.runtime.files import MARK, ExportError

if TYPE_CHECKING:
    from typing import Literal

    Form = Literal["NFKC", "NFC", "none"]

__all__ = ["TextRules", "rules_of", "unicode_tables"]

#: Classes of characters: a word of its own; goes on with the word before it; is passed over. 1 and
#: more join their own kind.
_ALONE, _MARK_CLASS, _SKIPPED = 0, -1, -2
_PROBE = 10**9

#: What a file is held to before it is written: scripts, case, ligatures, marks, and what stands
#: between words.
_SAMPLES = (
    "The quick brown fox's 12 jumps — over 3.5 lazy "
    "dogs!", "", "   ", "a", "don't stop_now", "snake_case x1y2",
    "Straße GRÖSSE größe Grüße", "ΟΔΟΣ Οδός σοφός", "Москва и Санкт-Петербург 2024", "東京タワーに行きました。",
    "我爱北京天安门", "안녕하세요 세계", "สวัสดีชาวโลก", "नमस्ते दुनिया", "مرحبا بالعالم ١٢٣", "שלום עולם", "İstanbul ığdır",
    "ﬁne ﬂow ½ ² Å Ⅷ", "e\u0301te\u0301 cafe\u0301 café", "ｆｕｌｌ ｗｉｄｔｈ １２", "naïve co\u00adoperate zero\u200bwidth",
    "emoji 👍🏽 ok", "q\u0307\u0323 q\u0323\u0307", "가나다 \u1100\u1161", "Ǆ ǅ ẞ ŉ", "tab\tnew\nline\u2028end", "ÀÉÎõü ĲŊ",
    "ព្រះ ລາວ မြန်မာ", "𝔘𝔫𝔦 𝟙𝟚",
)  # fmt: skip


@dataclass(frozen=True)
class TextRules:
    """What turns a sentence into numbers.

    Attributes:
        kind: "word" (words of a vocabulary), "char" (letters of an alphabet) or "hash" (checksums
            of words).
        form: of Unicode that text is brought to first, and again where characters became others:
            "NFKC", "NFC" or "none".
        length: numbers a sentence; 0 behind the last.
        size: of "hash": how many numbers there are.
        fold: what characters become, where they change.
        classes: `(first, last, class)` of characters, in order; what is in none parts words.
        vocabulary: words, or letters, with the numbers 2, 3, ...
    """

    kind: str
    form: Form
    length: int
    size: int
    fold: Mapping[str, str]
    classes: Sequence[tuple[int, int, int]]
    vocabulary: Sequence[str]

    def encode(self, sentence: str) -> list[int]:
        """The numbers of a sentence, by these tables alone: what snippets do."""
        text = self._normalized("".join(self.fold.get(c, c) for c in self._normalized(sentence)))
        ids = {entry: number for number, entry in enumerate(self.vocabulary, 2)}
        if self.kind == "char":
            numbers = [ids.get(c, 1) for c in text]
        elif self.kind == "hash":
            numbers = [
                1 + zlib.crc32(word.encode()) % (self.size - 1) for word in self._words(text)
            ]
        else:
            numbers = [ids.get(word, 1) for word in self._words(text)]
        numbers = numbers[: self.length]
        return numbers + [0] * (self.length - len(numbers))

    def _normalized(self, text: str) -> str:
        return text if self.form == "none" else unicodedata.normalize(self.form, text)

    def _words(self, text: str) -> list[str]:
        words: list[str] = []
        before = None
        for c in text:
            now = next(
                (kind for first, last, kind in self.classes if first <= ord(c) <= last), None
            )
            if now == _SKIPPED:
                continue
            if (
                now is not None
                and before is not None
                and (now == _MARK_CLASS or (now == before and now != _ALONE))
            ):
                words[-1] += c
            elif now is not None and now != _MARK_CLASS:
                words.append(c)
                before = now
            else:
                before = None
        return words

    def write(self, version: str) -> str:
        """The file: a head, then each table behind its number of lines. Characters are hexadecimal
        numbers."""
        fold = [" ".join(f"{ord(c):x}" for c in (key, *value)) for key, value in self.fold.items()]
        classes = [f"{first:x} {last:x} {kind}" for first, last, kind in self.classes]
        entries = (
            [f"{ord(c):x}" for c in self.vocabulary]
            if self.kind == "char"
            else list(self.vocabulary)
        )
        lines = [
            f"{MARK} {version}: text rules 1",
            f"{self.kind} {self.form} {self.length} {self.size}",
        ]
        for table in (fold, classes, entries):
            lines += [str(len(table)), *table]
        return "\n".join(lines) + "\n"


def rules_of(encoder: Any) -> TextRules:
    """The tables of a tokenizer, held to its own answers.

    Raises:
        ExportError: a tokenizer of another kind, or one whose rules these tables can't say.
    """
    kinds = {WordTokenizer: "word", CharTokenizer: "char", HashingTokenizer: "hash"}
    kind = kinds.get(type(encoder))
    if kind is None:
        raise ExportError(f"{type(encoder).__name__} has no form outside Python.")
    config = encoder.get_config()
    chosen = tuple((key, config[key]) for key in ("rules", "lower", "normalize") if key in config)
    form, fold, classes = _char_tables(chosen) if kind == "char" else _word_tables(chosen)
    vocabulary = list(config.get("alphabet", ()))
    if kind == "word":
        vocabulary = _spelled(config["vocabulary"], dict(chosen))
    rules = TextRules(
        kind, form, int(config["length"]), int(config.get("size", 0)), fold, classes, vocabulary
    )
    for sample in (*_SAMPLES, " ".join(vocabulary[:200])):
        if rules.encode(sample) != encoder.encode([sample])[0].tolist():
            raise ExportError(
                f"{type(encoder).__name__} reads {sample[:40]!r} in a way that its tables do not."
            )
    return rules


def _spelled(vocabulary: Sequence[str], chosen: Mapping[str, Any]) -> list[str]:
    """Words as sentences will spell them; of those that are alike the first counts."""
    spelled: list[str] = []
    for word in vocabulary:
        parts = WordTokenizer.fit([word], _PROBE, 1, **chosen).vocabulary
        if "\n" in word and parts != [word]:
            raise ExportError(f"WordTokenizer: the word {word!r} holds the end of a line.")
        spelled.append(parts[0] if len(parts) == 1 else word)
    seen: set[str] = set()
    # No word is a space.
    return [" " if word in seen or seen.add(word) else word for word in spelled]  # type: ignore[func-returns-value]


def _characters(form: Form) -> list[str]:
    """All characters that text in this form can hold."""
    characters = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i <= 0xDFFF]
    known = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co")]
    return known if form == "none" else [c for c in known if unicodedata.is_normalized(form, c)]


def _form(same: Any) -> Form:
    """The form of Unicode: `same` says whether two texts are read alike."""
    if not same("e\u0301", "\u00e9"):
        return "none"
    return "NFKC" if same("\ufb01", "fi") else "NFC"


@functools.cache
def _word_tables(
    chosen: tuple[tuple[str, Any], ...],
) -> tuple[Form, dict[str, str], tuple[tuple[int, int, int], ...]]:
    """Form, changes and classes of characters, of tokenizers with these settings."""

    def words(*sentences: str) -> set[str]:
        return set(WordTokenizer.fit(sentences, _PROBE, 1, **dict(chosen)).vocabulary)

    form = _form(lambda a, b: words(a) == words(b) != set())
    characters = _characters(form)
    # No mark makes one character with a "q".
    alone, after = words(*characters), words(*(f"q{c}" for c in characters))
    changed = [c for c in characters if c not in alone and f"q{c}" not in after]
    # A code of letters around each: where it comes out whole, the character is passed over.
    codes = {
        c: "q" + "".join(chr(98 + int(d)) for d in f"{i:07d}") + "q" for i, c in enumerate(changed)
    }
    across = words(*(f"{code}{c}z" for c, code in codes.items()))
    skipped = {c for c in changed if f"{codes[c]}z" in across}
    # Most of the rest parts words; hundreds at a time that give no word need no look at each.
    fold = {}
    rest = [c for c in changed if c not in skipped]
    chunks = [rest[i : i + 256] for i in range(0, len(rest), 256)]
    for c in (c for chunk in chunks if words(*chunk) for c in chunk):
        if len(becomes := words(c)) == 1:
            word = becomes.pop()
            # "İ" may become a letter and something that parts words.
            fold[c] = (
                word
                if f"{word}q" in words(f"{c}q") or f"q{word}" not in words(f"q{c}")
                else f"{word} "
            )
    kinds = _classes([c for c in characters if c not in fold], words, alone, after)
    rules = TextRules(
        "word",
        form,
        100,
        0,
        fold,
        _ranges(kinds | dict.fromkeys(skipped, _SKIPPED)),
        sorted(words(*_SAMPLES)),
    )
    reader = WordTokenizer(rules.vocabulary, rules.length, **dict(chosen))
    for sample in _SAMPLES:
        if rules.encode(sample) != reader.encode([sample])[0].tolist():
            raise ExportError(f"WordTokenizer reads {sample!r} in a way that tables do not.")
    return form, fold, tuple(rules.classes)


def _classes(
    characters: Sequence[str], words: Any, alone: set[str], after: set[str]
) -> dict[str, int]:
    """Classes of characters by what they join."""
    kinds: dict[str, int] = {}
    left = []
    for c in characters:
        if c in alone:
            left.append(c)
        elif f"q{c}" in after:
            kinds[c] = _MARK_CLASS
    twice = words(*(c + c for c in left))
    kinds |= {c: _ALONE for c in left if c + c not in twice}
    left = [c for c in left if c + c in twice]
    number = 0
    while left:
        # Those that join the first one left, on both sides, are its class.
        number, head = number + 1, left[0]
        right, before = words(*(head + c for c in left)), words(*(c + head for c in left))
        kinds |= {c: number for c in left if head + c in right and c + head in before}
        left = [c for c in left if c not in kinds]
        if number > 50:
            raise ExportError("The tokenizer's rules can't be told by classes of characters.")
    return kinds


def _ranges(kinds: Mapping[str, int]) -> tuple[tuple[int, int, int], ...]:
    ranges: list[list[int]] = []
    for code, kind in sorted((ord(c), kind) for c, kind in kinds.items()):
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == kind:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, kind])
    return tuple((first, last, kind) for first, last, kind in ranges)


@functools.cache
def _char_tables(
    chosen: tuple[tuple[str, Any], ...],
) -> tuple[Form, dict[str, str], tuple[tuple[int, int, int], ...]]:
    """Form and changes of characters, of tokenizers with these settings; letters have no
    classes."""
    settings = dict(chosen)

    def letters(*texts: str) -> str:
        return CharTokenizer.fit(texts, 1, _PROBE, **settings).alphabet

    form = _form(lambda a, b: letters(a) == letters(b))
    characters = _characters(form)
    unchanged = set(letters(*characters))
    fold = {}
    for c in characters:
        if c in unchanged:
            continue
        alphabet = letters(c)
        numbers = CharTokenizer(alphabet, 32, **settings).encode([c])[0]
        fold[c] = "".join(alphabet[number - 2] for number in numbers if number)
    return form, fold, ()


# ------------------------------------------------------------------ for languages whose library knows no Unicode
@functools.cache
def unicode_tables(version: str) -> str:
    """What bringing text to NFC or NFKC takes: decompositions, orders of marks, and pairs that
    become one.

    Hangul goes by arithmetic. Decompositions are whole ones, canonical behind "=", others (NFKC)
    behind "~".
    """
    whole, orders, pairs = [], [], []
    for c in _characters("none"):
        if 0xAC00 <= ord(c) <= 0xD7A3:
            continue
        canonical, compatible = (unicodedata.normalize(form, c) for form in ("NFD", "NFKD"))
        for sign, value in (("=", canonical), ("~", compatible)):
            if value != c and (sign == "=" or value != canonical):
                whole.append(f"{sign} {ord(c):x} " + " ".join(f"{ord(d):x}" for d in value))
        if order := unicodedata.combining(c):
            orders.append(f"{ord(c):x} {order}")
        parts = unicodedata.decomposition(c).split()
        if (
            len(parts) == 2
            and not parts[0].startswith("<")
            and unicodedata.normalize("NFC", c) == c
        ):
            pairs.append(" ".join(part.lower().lstrip("0") for part in parts) + f" {ord(c):x}")
    lines = [f"{MARK} {version}: Unicode {unicodedata.unidata_version}"]
    for table in (whole, orders, pairs):
        lines += [str(len(table)), *table]
    return "\n".join(lines) + "\n"
