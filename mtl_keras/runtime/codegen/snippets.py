"""Ready calls of one exported file, in the languages of applications."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mtl_keras.runtime.codegen.description import describe_file
from mtl_keras.runtime.codegen.rendering import render
from mtl_keras.runtime.codegen.text_rules import unicode_tables
from mtl_keras.runtime.files import atomic_write, check_file
from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.tflite_model import TFLiteModel
from mtl_keras.version import __version__

__all__ = ["LANGUAGES", "snippets"]

#: By language, the ending of its files.
LANGUAGES = {"kotlin": ".kt", "swift": ".swift", "cpp": ".h", "js": ".js", "python": ".py"}


def snippets(
    path: str | os.PathLike[str],
    languages: Sequence[str] = tuple(LANGUAGES),
    folder: str | os.PathLike[str] | None = None,
) -> dict[str, Path]:
    """Write a ready call of a file for each language: its inputs and heads by name, shapes, scales,
    labels, and decoding.

    Where the model has a tokenizer, the call has it too: `<stem>_text.txt` beside it holds the
    vocabulary and the rules of Unicode, and every language turns a sentence into the numbers that
    Python's `encode` gives. C++, whose library knows no Unicode, reads `<stem>_unicode.txt` as
    well.

    Args:
        path: a `.tflite` file that `mtl.export.tflite` wrote with `batch=1`.
        languages: of "kotlin", "swift", "cpp", "js", "python".
        folder: where they go, named after the file. None takes the file's folder.

    Returns:
        dict of language to the file that was written.

    Raises:
        ExportError: a file that can't be read, of another origin, or for more than one row; a text
            of somebody else's where one would go.
        ValueError: an unknown language.

    Examples:
        >>> mtl.export.snippets("out/model.tflite", ["kotlin", "swift"])
    """
    for language in languages:
        if language not in LANGUAGES:
            raise ValueError(unknown_name("language", language, list(LANGUAGES)))
    path = Path(path)
    description = describe_file(TFLiteModel(path))
    folder = path.parent if folder is None else Path(folder)
    targets = {
        language: folder / f"{description['stem']}{LANGUAGES[language]}" for language in languages
    }
    texts = {target: render(language, description) for language, target in targets.items()}
    if description["text"]:
        texts[folder / description["text"]["file"]] = description["text"]["content"]
        if "cpp" in targets:
            texts[folder / description["text"]["unicode"]] = unicode_tables(__version__)
    for target in texts:
        check_file(target, text=True)
    for target, text in texts.items():
        with atomic_write(target) as fresh:
            fresh.write_bytes(text.encode())
    return targets
