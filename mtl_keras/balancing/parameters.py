"""Hyper-parameters of balancers: which ones a class has, and whole numbers of any kind."""

from __future__ import annotations

import difflib
import inspect
import numbers
from collections.abc import Iterable
from typing import Any

__all__ = ["check_parameters", "parameters_of", "whole_number"]


def parameters_of(cls: type) -> list[str] | None:
    """The names that a class's constructor takes, those that it passes on to its base classes
    included.

    Returns:
        A list of str, or None where the constructor takes any keyword and nobody knows which ones
        it means.
    """
    names: list[str] = []
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        passes_on = False
        for parameter in list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                passes_on = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in names:
                names.append(parameter.name)
        if not passes_on:
            return names
        if not owner.__module__.startswith("mtl_keras."):
            # Somebody else's constructor may take out what it likes before it passes on the rest.
            return None
        if "options_of" in vars(owner):
            return names + [
                name for name in parameters_of(vars(owner)["options_of"]) or () if name not in names
            ]
    return None


def check_parameters(cls: Any, arguments: Iterable[str]) -> None:
    """Refuse keyword arguments that a balancer does not have.

    Raises:
        TypeError: an unknown one; the class's own are listed.
    """
    known = parameters_of(cls)
    if known is None:
        return
    for name in arguments:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        has = f"Its parameters are: {', '.join(known)}." if known else "It has none."
        raise TypeError(
            f"{cls.__name__} (balancer '{cls.name}') has no parameter `{name}`.{hint} {has}"
        )


def whole_number(balancer: Any, argument: str, value: Any, least: int = 0) -> int:
    """A whole number as Python's int; those of NumPy are whole numbers too.

    Raises:
        ValueError: something else, or a number below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"{type(balancer).__name__}: {argument} must be a whole number >= {least}, got "
            f"{value!r}."
        )
    return int(value)
