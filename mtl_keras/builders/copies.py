"""Copies of a backbone's layers: trained values go along, random first values are drawn anew for
each copy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.graph import own_variables, sublayers

__all__ = ["LayerCopies", "copy_values", "is_trained"]


class LayerCopies:
    """Makes copies of a trunk's layers.

    A layer is as it was drawn where its initializers give its values once more; Keras's
    initializers give the same values every time they are asked. The copies of such a layer keep the
    values that they drew themselves, so that no two copies start alike. Everything else was
    trained, loaded or adapted, and the copies start from it.

    A layer whose initializers are not its attributes cannot be asked. It counts as the rest of the
    trunk: as drawn where other layers are and none is trained, otherwise as trained.

    Args:
        trunk: functional model, whose layers are copied.
        everything: bool. Copy all values, random first values too.
    """

    def __init__(self, trunk: keras.Model, everything: bool = False) -> None:
        self.everything = everything
        self._copies: dict[tuple[int, str], keras.layers.Layer] = {}
        self._has_values: set[tuple[int, str]] = set()
        evidence = [
            _was_redrawn(layer, v) for layer in sublayers(trunk) for v in own_variables(layer)
        ]
        self._presumed_trained = False in evidence or True not in evidence

    def copy(self, layer: keras.layers.Layer, suffix: str) -> keras.layers.Layer:
        """The layer's copy of this suffix, always the same one."""
        key = id(layer), suffix
        if key not in self._copies:
            self._copies[key] = type(layer).from_config(
                {**layer.get_config(), "name": f"{layer.name}_{suffix}"}
            )
        return self._copies[key]

    def carry_values(self, layer: keras.layers.Layer, suffix: str) -> None:
        """Bring trained values into a copy, once it is built."""
        key = id(layer), suffix
        if key in self._has_values:
            return
        self._has_values.add(key)
        for part, copied in zip(sublayers(layer), sublayers(self._copies[key]), strict=True):
            if own_variables(part) and (self.everything or self._holds_trained(part, copied)):
                _copy_own_values(part, copied)

    def _holds_trained(self, layer: keras.layers.Layer, copied: keras.layers.Layer) -> bool:
        is_unknown = False
        for variable, fresh in zip(own_variables(layer), own_variables(copied), strict=True):
            was_redrawn = _was_redrawn(layer, variable)
            if was_redrawn or np.array_equal(_value(variable), _value(fresh)):
                continue
            # Values that are not drawn at random are equal in all copies until someone changes
            # them.
            if (
                was_redrawn is False
                or not variable.trainable
                or _initializer(layer, variable) is not None
            ):
                return True
            is_unknown = True
        return is_unknown and self._presumed_trained


def copy_values(layer: keras.layers.Layer, copied: keras.layers.Layer) -> None:
    """Give a copy of a layer, both built, the layer's values."""
    for part, other in zip(sublayers(layer), sublayers(copied), strict=True):
        if own_variables(part):
            _copy_own_values(part, other)


def _copy_own_values(layer: keras.layers.Layer, copied: keras.layers.Layer) -> None:
    # Not `set_weights`: some layers compute from their variables, such as an adapted
    # `Normalization`.
    values: dict[str, Any] = {}
    layer.save_own_variables(values)
    copied.load_own_variables({key: ops.convert_to_numpy(value) for key, value in values.items()})


def is_trained(layer: keras.layers.Layer) -> bool:
    """Whether a layer holds weights that its initializers do not draw."""
    return any(
        _was_redrawn(part, v) is False for part in sublayers(layer) for v in own_variables(part)
    )


def _was_redrawn(layer: keras.layers.Layer, variable: Any) -> bool | None:
    """Whether the variable's random initializer draws its value once more; None where none can be
    asked."""
    initializer = _initializer(layer, variable)
    # A seed generator gives other values every time.
    if not isinstance(getattr(initializer, "seed", None), int):
        return None
    drawn = initializer(tuple(variable.shape), dtype=variable.dtype)
    return np.array_equal(_value(variable), np.asarray(ops.convert_to_numpy(drawn)))


def _initializer(layer: keras.layers.Layer, variable: Any) -> Any:
    """What a layer's attributes say about a variable's first value, by Keras's rule for their
    names, or None."""
    name = variable.name
    # "kernel" and, in separable and recurrent layers, "depthwise" for "depthwise_kernel". A
    # depthwise layer calls its kernel "kernel".
    for stem in (name, name.rsplit("_", 1)[0], *(["depthwise"] if name == "kernel" else [])):
        initializer = getattr(layer, f"{stem}_initializer", None)
        if initializer is not None:
            return initializer
    return None


def _value(variable: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable.value))
