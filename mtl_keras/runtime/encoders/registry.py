"""Every class of encoders by its name, and encoders as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

    EncoderClass = TypeVar("EncoderClass", bound=type)

__all__ = [
    "ENCODERS",
    "encoder_from_dict",
    "encoder_from_json",
    "encoder_to_dict",
    "encoder_to_json",
    "register_encoder",
]

#: Every class of encoders by its name: what `encoder_to_json` writes, and exported files name, is
#: looked up here.
ENCODERS: dict[str, Any] = {}


def register_encoder(cls: EncoderClass) -> EncoderClass:
    """Class decorator: make objects of `cls` survive `encoder_to_json`, and travel in exported
    files.

    Args:
        cls: class with `kind` ("image", "sound", "text" or "table": what it takes), `encode`, `get_config`
            and `from_config`, whose config is plain values.

    Returns:
        `cls`. To be saved inside a `.keras` file it also needs
        `keras.saving.register_keras_serializable`.

    Raises:
        ValueError: another class of this name is registered.

    Examples:
        >>> @mtl.data.register_encoder
        ... class Syllables: ...
    """
    if ENCODERS.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(
            f"An encoder of the name '{cls.__name__}' is registered already. Rename the class."
        )
    return cls


def encoder_to_dict(encoder: Any) -> dict[str, Any]:
    """An encoder's class and config, as exported files carry them.

    Raises:
        ValueError: an encoder whose class is not registered.
    """
    name = type(encoder).__name__
    if ENCODERS.get(name) is not type(encoder):
        raise ValueError(
            f"Encoder '{name}' is not registered: put `@mtl.data.register_encoder` above its class."
        )
    return {"class": name, "config": encoder.get_config()}


def encoder_from_dict(description: Mapping[str, Any]) -> Any:
    """The encoder that `encoder_to_dict` described.

    Raises:
        ValueError: a class that is not registered here.
    """
    if description["class"] not in ENCODERS:
        raise ValueError(
            f"Encoder '{description['class']}' is not registered. Import the module that "
            f"registers it. "
            f"Registered encoders: {', '.join(ENCODERS)}."
        )
    return ENCODERS[description["class"]].from_config(dict(description["config"]))


# Before files named the class there was one for each kind.
_CLASS_OF_KIND = {"image": "ImageEncoder", "text": "WordTokenizer", "table": "TableEncoder"}


def encoder_to_json(encoder: Any) -> str:
    """An encoder as JSON, for cards and for devices without Keras.

    Raises:
        ValueError: an encoder whose class is not registered.
    """
    description = encoder_to_dict(encoder)
    return json.dumps(
        {"kind": encoder.kind, "class": description["class"], **description["config"]}
    )


def encoder_from_json(text: str) -> Any:
    """The encoder that `encoder_to_json` wrote, in this version or an earlier one.

    Raises:
        ValueError: a class that is not registered here.
    """
    config = json.loads(text)
    kind = config.pop("kind")
    return encoder_from_dict(
        {"class": config.pop("class", _CLASS_OF_KIND.get(kind, kind)), "config": config}
    )
