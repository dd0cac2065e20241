"""Balancers by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.runtime.names import (
    full_name,
    is_same_class,
    refuse_taken_name,
    unknown_name,
)

__all__ = ["get", "names", "register", "register_list", "warn_unregistered"]

BalancerClass = TypeVar("BalancerClass", bound=Balancer)

_BALANCERS: dict[str, type[Balancer]] = {}
#: The class that a list of balancers becomes.
_LIST_CLASSES: list[Callable[[Sequence[Any]], Balancer]] = []
_PACKAGE = "mtl_keras"


def register(name: str) -> Callable[[type[BalancerClass]], type[BalancerClass]]:
    """Class decorator: make a balancer known by `name`, here and to Keras's serialization.

    The same class (same module, same name) may be registered again, as when a notebook's cell runs
    twice.

    Raises:
        ValueError: the name, or the class's own name, is that of another class. Saved models find a
            balancer by its class's name.

    Examples:
        >>> @mtl.balancing.register("half")
        ... class Half(mtl.balancing.Balancer):
        ...     def weigh(self, losses, present, gram=None):
        ...         return keras.ops.full_like(losses, 0.5)
    """

    def decorate(cls: type[BalancerClass]) -> type[BalancerClass]:
        if not (isinstance(cls, type) and issubclass(cls, Balancer)):
            raise ValueError(
                f"`register` takes subclasses of `mtl.balancing.Balancer`. Received: {cls!r}."
            )
        refuse_taken_name("Balancer", name, _BALANCERS.get(name), cls)
        saved_name = f"{_PACKAGE}>{cls.__name__}"
        other = keras.saving.get_registered_object(saved_name)
        if other is not None and not is_same_class(other, cls):
            raise ValueError(
                f"Class name {cls.__name__!r} is taken by {full_name(other)}: saved models could "
                f"not tell the two apart. "
                f"Give {full_name(cls)} another name."
            )
        cls.name = name
        _BALANCERS[name] = cls
        keras.saving.register_keras_serializable(_PACKAGE)(cls)
        return cls

    return decorate


def register_list(cls: type[BalancerClass]) -> type[BalancerClass]:
    """Class decorator: make `get` turn a list of balancers into a `cls`."""
    _LIST_CLASSES.append(cls)
    return cls


def warn_unregistered(balancer: Balancer) -> None:
    """Say of a balancer, or of a part of one, that a saved model which has it can't be loaded
    without more ado."""
    for part in (balancer, *balancer.parts):
        cls = type(part)
        if keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls:
            continue
        warnings.warn(
            f"Balancer class {full_name(cls)} is not registered: the model trains, but a saved "
            f"one can't be loaded. Write "
            f'`@mtl.balancing.register("a_name")` above the class, or load with '
            f"`custom_objects={{'{cls.__name__}': "
            f"{cls.__name__}}}`.",
            stacklevel=3,
        )


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_BALANCERS)


def get(balancer: Any, **parameters: Any) -> Balancer:
    """A balancer from its name, its class, its config, a list of a loss weighting and a second
    method, or itself.

    Args:
        balancer: name ("cagrad"), class, `Balancer`, list of two of these, None for "equal", or a
            dict: one with "name" and hyper-parameters, or what
                `keras.saving.serialize_keras_object` made.
        **parameters: hyper-parameters, where a name or a class is given.

    Raises:
        ValueError: nobody knows the name (close ones are listed), or a hyper-parameter is out of
            range.
        TypeError: nothing of these, or a hyper-parameter that the method does not have; its own are
            listed.

    Examples:
        >>> mtl.balancing.get("cagrad", c=0.4)
        >>> mtl.balancing.get({"name": "cagrad", "c": 0.4})
    """
    if balancer is None:
        balancer = "equal"
    if isinstance(balancer, str):
        if balancer not in _BALANCERS:
            raise ValueError(unknown_name("balancer", balancer, _BALANCERS))
        return _BALANCERS[balancer](**parameters)
    if isinstance(balancer, type) and issubclass(balancer, Balancer):
        return balancer(**parameters)
    if isinstance(balancer, dict):
        return _from_dict(balancer, parameters)
    if parameters and isinstance(balancer, (Balancer, list, tuple)):
        raise TypeError(
            f"Hyper-parameters ({', '.join(parameters)}) go with a name or a class; {balancer!r} "
            f"has its own already."
        )
    if isinstance(balancer, Balancer):
        return balancer
    if isinstance(balancer, (list, tuple)):
        return get(balancer[0]) if len(balancer) == 1 else _LIST_CLASSES[-1](balancer)
    raise TypeError(f"A balancer is given by name or as a Balancer, got {balancer!r}.")


def _from_dict(config: dict[str, Any], parameters: dict[str, Any]) -> Balancer:
    if "class_name" in config:
        if parameters:
            raise TypeError(
                f"Hyper-parameters ({', '.join(parameters)}) belong into the config's own "
                f'"config".'
            )
        balancer = keras.saving.deserialize_keras_object(config)
        if not isinstance(balancer, Balancer):
            raise TypeError(f"The config is of {type(balancer).__name__}, which is no balancer.")
        return balancer
    config = {**config, **parameters}
    name = config.pop("name", None)
    if not isinstance(name, str):
        raise TypeError(
            'A dict that describes a balancer should have its "name" and hyper-parameters, such as '
            f'{{"name": "cagrad", "c": 0.4}}. Received: {config if name is None else name!r}.'
        )
    return get(name, **config)
