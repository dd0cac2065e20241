"""Balancers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.names import unknown_name

__all__ = ["get", "names", "register"]

_BALANCERS: dict[str, type[Balancer]] = {}


def register(name: str) -> Callable[[type[Balancer]], type[Balancer]]:
    """Class decorator: make a balancer known by `name`, here and to Keras's serialization.

    Raises:
        ValueError: the name is taken by another class.
    """

    def decorate(cls: type[Balancer]) -> type[Balancer]:
        if name in _BALANCERS and _BALANCERS[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"Balancer name {name!r} is taken by {_BALANCERS[name].__name__}.")
        cls.name = name
        _BALANCERS[name] = cls
        return keras.saving.register_keras_serializable("mtl_keras")(cls)

    return decorate


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_BALANCERS)


def get(balancer: Any) -> Balancer:
    """A balancer from its name, its class, its config, a list of a loss weighting and a second method, or itself.

    Raises:
        ValueError: nobody knows the name; close ones are listed.
        TypeError: nothing of these.
    """
    if balancer is None:
        return _BALANCERS["equal"]()
    if isinstance(balancer, Balancer):
        return balancer
    if isinstance(balancer, str):
        if balancer not in _BALANCERS:
            raise ValueError(unknown_name("balancer", balancer, _BALANCERS))
        return _BALANCERS[balancer]()
    if isinstance(balancer, type) and issubclass(balancer, Balancer):
        return balancer()
    if isinstance(balancer, (list, tuple)):
        from mtl_keras.balancing.chain import Chain

        return get(balancer[0]) if len(balancer) == 1 else Chain(balancer)
    if isinstance(balancer, dict):
        return keras.saving.deserialize_keras_object(balancer)
    raise TypeError(f"A balancer is given by name or as a Balancer, got {balancer!r}.")
