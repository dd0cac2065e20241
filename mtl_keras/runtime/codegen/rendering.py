"""From the description of a file to source code: one template per language."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from mtl_keras.runtime.codegen.identifiers import identifiers, literal, plain

__all__ = ["render"]


def render(language: str, description: dict[str, Any]) -> str:
    """Source code in a language, from the description that `describe_file` gives."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "plain": plain,
        "literal": functools.partial(literal, language=language),
    }
    text = environment.get_template(f"{language}.j2").render(**_spell_names(description, language))
    return re.sub(r"\n{3,}", "\n\n" if language != "python" else "\n\n\n", text)


def _spell_names(description: dict[str, Any], language: str) -> dict[str, Any]:
    """The description with the names that inputs (`param`) and heads (`field`) have in a
    language."""
    sides: dict[str, Any] = {}
    for side, key in (("inputs", "param"), ("outputs", "field")):
        words = identifiers([entry["name"] for entry in description[side]], language)
        sides[side] = [{**entry, key: words[entry["name"]]} for entry in description[side]]
    text = description["text"]
    if text:
        text = {
            **text,
            "param": next(
                entry["param"] for entry in sides["inputs"] if entry["name"] == text["name"]
            ),
        }
    return {**description, **sides, "text": text}
