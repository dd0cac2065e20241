"""This library's own decoders as source code, for snippets in Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

from mtl_keras.runtime import decoding

__all__ = ["decoders_as_source", "to_python"]

#: Functions that decoders call, before those that call them.
_HELPERS = (
    decoding._names,
    decoding._overlap,
    decoding.is_bio,
    decoding.spans,
    decoding._detect_objects,
)


def to_python(tasks: dict[str, Any]) -> str:
    """The tasks as a literal of Python, a line per task."""
    lines = [f"    {name!r}: {task!r}," for name, task in tasks.items()]
    return "\n".join(["{", *lines, "}"])


def decoders_as_source(kinds: Collection[str]) -> dict[str, Any]:
    """The decoders that a file with these kinds of tasks needs.

    Returns:
        dict with `decoders_python`, the source code, and `functions_python`, pairs of kind and
        function name.
    """
    used = {kind: decoding.DECODERS[kind] for kind in sorted(kinds) if kind in decoding.DECODERS}
    functions = list(dict.fromkeys(used.values()))
    sources = [inspect.getsource(f) for f in (*_list_helpers(functions), *functions)]
    source = "\n\n".join(text.rstrip() + "\n" for text in sources)
    # Plain functions: annotations name types that only this library imports.
    source = re.sub(
        r"^def (\w+)\((.*)\) -> [^\n]+:$",
        lambda match: f"def {match[1]}({_without_types(match[2])}):",
        source,
        flags=re.M,
    )
    source = re.sub(r"(\w+): list\[dict\[str, Any\]\] = \[\]", r"\1 = []", source)
    return {
        "decoders_python": source,
        "functions_python": [(kind, function.__name__) for kind, function in used.items()],
    }


def _list_helpers(functions: Collection[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """The helpers that these functions call, directly or through one another."""
    text = "".join(inspect.getsource(function) for function in functions)
    called: list[Callable[..., Any]] = []
    for helper in reversed(_HELPERS):
        if re.search(rf"(?<!def )\b{helper.__name__}\(", text):
            called.insert(0, helper)
            text += inspect.getsource(helper)
    return called


def _without_types(arguments: str) -> str:
    return ", ".join(part.split(":")[0].strip() for part in re.split(r",(?![^\[]*\])", arguments))
