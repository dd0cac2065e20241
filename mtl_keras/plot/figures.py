"""Figures without pyplot: colors that all eyes tell apart, fonts for all scripts, files that are
never half written."""

from __future__ import annotations

import io
import os
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from mtl_keras.runtime.files import atomic_write

__all__ = [
    "COLORS",
    "FADED",
    "RIGHT",
    "TRUTH",
    "WRONG",
    "Picture",
    "class_color",
    "finish",
    "rc",
    "shorten",
    "text_width",
]

#: Okabe & Ito, "Color Universal Design", 2008: told apart by color-blind eyes, too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
RIGHT, WRONG, FADED, TRUTH = "#0072B2", "#D55E00", "#767676", "#000000"

#: The style of all pictures. Names may hold "$", which is no formula there.
_STYLE: Any = {
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "font.size": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
}


class Picture(Figure):
    """A matplotlib figure that notebooks show, whether or not pyplot was ever imported.

    Examples:
        >>> picture = mtl.plot.Picture(figsize=(4, 3))
        >>> line = picture.subplots().plot([1, 2, 4])
        >>> picture._repr_png_()[:4]
        b'\\x89PNG'
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with rc():
            self.savefig(file, format="png", dpi=100)
        return file.getvalue()


@contextmanager
def rc() -> Iterator[None]:
    """The pictures' style, for as long as the block lasts."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # `finish` has said so in a sentence.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def finish(figure: Picture, path: str | os.PathLike[str] | None, dpi: int = 120) -> Picture:
    """Give every text a font that has its letters, and write the file where a path is given.

    Args:
        figure: the picture.
        path: file to write, ".png" (or another format of matplotlib's), or None.
        dpi: int. Dots per inch of the file.

    Returns:
        `figure`.

    Raises:
        ExportError: a file that can't be written.
        ValueError: a file of a format that matplotlib does not write.
    """
    _choose_fonts(figure)
    if path is not None:
        formats = figure.canvas.get_supported_filetypes()
        suffix = Path(path).suffix.lstrip(".").lower()
        if suffix not in formats:
            raise ValueError(
                f"`path` should end in .png (or {', '.join(sorted(formats))}). Received: {path}."
            )
        with rc(), atomic_write(path) as fresh:
            figure.savefig(fresh, dpi=dpi)
    return figure


# === Colors and words ===


def class_color(number: int) -> Any:
    """The color of a class: the first eight are told apart by all eyes."""
    if number < len(COLORS):
        return COLORS[number]
    return matplotlib.colormaps["tab20"](number % 20)


def text_width(text: str) -> int:
    """The width of a text in Latin letters: Chinese, Japanese and Korean letters are two wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shorten(text: str, width: int) -> str:
    """A text of at most `width` Latin letters; what is cut off is an ellipsis."""
    text = " ".join(str(text).split())
    if text_width(text) <= width:
        return text
    while text and text_width(text) > width - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


# === Fonts ===


def _choose_fonts(figure: Figure) -> None:
    """Add fonts behind the default one for letters that it lacks; warn of those that none has."""
    for axis in figure.findobj(lambda part: hasattr(part, "get_ticklabels")):
        axis.get_ticklabels()  # type: ignore[attr-defined]
    texts = [part for part in figure.findobj(Text) if isinstance(part, Text)]
    default = font_manager.findfont("DejaVu Sans")
    absent = {letter for text in texts for letter in text.get_text()} - _letters(default)
    absent = {letter for letter in absent if letter.isprintable()}
    if not absent:
        return
    families = ["DejaVu Sans"]
    for entry in sorted(font_manager.fontManager.ttflist, key=_plainness):
        # The font of last resort has a box for every letter.
        if "LastResort" in entry.name.replace(" ", ""):
            continue
        covered = absent & _letters(entry.fname) if absent else set()
        if covered:
            families.append(entry.name)
            absent -= covered
    for text in texts:
        text.set_fontfamily(families)
    if absent:
        some = " ".join(sorted(absent)[:8])
        warnings.warn(
            f"No font on this machine has the letters {some}: they are drawn as empty boxes. "
            f"Install a font that has them (for example the package fonts-noto-cjk).",
            UserWarning,
            stacklevel=4,
        )


def _plainness(entry: Any) -> tuple[bool, bool, str]:
    """Upright fonts of normal weight come first."""
    return entry.style != "normal", entry.weight not in (400, "normal", "regular"), entry.name


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters that a font has."""
    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))
