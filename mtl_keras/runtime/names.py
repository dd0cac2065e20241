"""Names: what a task may be called, and how a wrong name is answered."""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Iterable

__all__ = [
    "check_input_name",
    "check_task_name",
    "check_task_names",
    "full_name",
    "is_same_class",
    "refuse_taken_name",
    "unknown_name",
]

# Names travel through Keras layers, SavedModel signatures and TFLite tensors. Keras refuses "/",
# TensorFlow rewrites anything that is no identifier character, so only what survives everywhere is
# allowed.
_VALID = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
# Keras reports the total under `loss`, validation results under `val_...`; `serving_default` and
# `serve` are endpoints.
_RESERVED = frozenset(
    {"loss", "lr", "learning_rate", "balanced_loss", "serving_default", "serve", "features"}
)


def check_task_name(name: object) -> str:
    """Return `name` if every format keeps it unchanged, else say why not.

    Raises:
        TypeError: `name` is no string.
        ValueError: Keras, SavedModel, or TFLite would change or refuse the name.
    """
    if not isinstance(name, str):
        raise TypeError(f"A task's name must be a string, got {name!r} ({type(name).__name__}).")
    if not _VALID.match(name):
        raise ValueError(
            f"Task name {name!r} would be changed or refused by Keras, SavedModel or TFLite. Use "
            f"a letter, then "
            "letters, digits and underscores, for example 'arrival_delay'."
        )
    if name in _RESERVED or name.startswith(("val_", "predict_")):
        raise ValueError(
            f"Task name {name!r} is taken: Keras and the exported files use it themselves. Choose "
            f"another, for example "
            f"'{name}_task'."
        )
    return name


def check_input_name(name: str) -> str:
    """Return an input's name if every format keeps it unchanged, else say why not.

    Raises:
        ValueError: TensorFlow would change or refuse the name in a SavedModel and in a TFLite file.
    """
    if not _VALID.match(name):
        raise ValueError(
            f"Input name {name!r} would be changed or refused by SavedModel or TFLite. Use a "
            f"letter, then letters, digits and "
            "underscores, for example 'left_image'."
        )
    if keyword.iskeyword(name) or name == "self":
        raise ValueError(
            f"Input name {name!r} is a word of Python, which TensorFlow takes for no input's "
            f"name. Choose another, for "
            f"example '{name}_input'."
        )
    return name


def check_task_names(names: Iterable[str]) -> list[str]:
    """Check every name, and that no two tasks share one (upper and lower case count as the
    same)."""
    names = [check_task_name(name) for name in names]
    if not names:
        raise ValueError("At least one task is needed, got none.")
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise ValueError(
                f"Two tasks share the name {name!r} (the other is {seen[name.lower()]!r}). Each "
                f"task needs its own: "
                "losses, metrics and exported outputs are addressed by it."
            )
        seen[name.lower()] = name
    for name in names:
        for other in names:
            # `a_loss` of task `a` would be logged under the name of a task's own metric.
            if name != other and name == f"{other}_loss":
                raise ValueError(
                    f"Task name {name!r} collides with the logged loss of task {other!r}. Rename "
                    f"one of them."
                )
    return names


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name nobody knows: the close ones first, then all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}."


def full_name(cls: type) -> str:
    """A class's name with its module's."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_same_class(one: type, other: type) -> bool:
    """Whether two class objects come from the same lines of code, as when a notebook's cell runs
    twice."""
    return full_name(one) == full_name(other)


def refuse_taken_name(kind: str, name: str, owner: type | None, cls: type) -> None:
    """Refuse a registry's name that is another class's.

    Args:
        kind: what is registered, for the message: "Balancer".
        name: the name that `cls` asks for.
        owner: the class that has it, or None.
        cls: the class that is registered.

    Raises:
        ValueError: `owner` is another class than `cls`.
    """
    if owner is not None and not is_same_class(owner, cls):
        raise ValueError(
            f"{kind} name {name!r} is taken by {full_name(owner)}. Register {full_name(cls)} under "
            "another name."
        )
