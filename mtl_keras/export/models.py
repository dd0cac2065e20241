"""Networks of every kind as one kind: functional, with a flat dict of outputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from mtl_keras.graph import layer_of
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import check_input_name

__all__ = ["functional", "input_specs", "inputs_by_name", "pack_inputs"]


def functional(model: keras.Model) -> keras.Model:
    """The network itself, where it is functional with a flat dict of outputs, or the same layers as
    such a network.

    Outputs of a `Sequential`, a list or a single tensor are named after the layers that make them;
    what a subclass returns, after its keys, or "output", "output_1", ... in order. Inputs of a
    subclass are named after its own names and read as
    float32: where it takes something else, wrap it
        (`keras.Model(keras.Input(..., dtype="int32"), ...)`).

    Raises:
        ExportError: a network that was never called, so that its inputs are unknown; a subclass
            that can't be traced.
    """
    if not isinstance(model, keras.Model):
        raise ExportError(f"A Keras model is needed, got {type(model).__name__}.")
    if isinstance(model, keras.Sequential):
        return _from_sequential(model)
    if not _is_functional(model):
        return _from_subclass(model)
    outputs = model.output
    if isinstance(outputs, Mapping) and all(hasattr(value, "shape") for value in outputs.values()):
        return model
    flat = tree.flatten(outputs)
    names = [layer_of(tensor).name for tensor in flat]
    return keras.Model(model.input, dict(zip(_unique(names), flat, strict=True)), name=model.name)


def _is_functional(model: keras.Model) -> bool:
    try:
        return bool(model.inputs) and model.output is not None
    except (AttributeError, ValueError):
        return False


def _from_sequential(model: keras.Sequential) -> keras.Model:
    if not model.built or not model.inputs:
        raise _never_called(model)
    (tensor,) = model.inputs
    inputs = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
    x = inputs
    for layer in model.layers:
        x = layer(x)
    return keras.Model(inputs, {_spelled(model.layers[-1].name): x}, name=model.name)


def _from_subclass(model: keras.Model) -> keras.Model:
    shapes = model.get_build_config() if model.built else None
    if not shapes:
        raise _never_called(model)
    shapes = shapes.get("input_shape", shapes)
    called = [
        name
        for name in inspect.signature(model.call).parameters
        if name not in ("training", "mask")
    ]
    if isinstance(shapes, Mapping):
        inputs: Any = {
            name: keras.Input(shape[1:], name=name.removesuffix("_shape"))
            for name, shape in shapes.items()
        }
    elif shapes and isinstance(shapes[0], (tuple, list)):
        inputs = [keras.Input(shape[1:], name=f"{called[0]}_{i}") for i, shape in enumerate(shapes)]
    else:
        inputs = keras.Input(shapes[1:], name=called[0])
    try:
        outputs = model(inputs)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"Model '{model.name}' ({type(model).__name__}, a subclass) can't be called on "
            f"symbolic inputs: {reason} Write its "
            "`call` with keras.ops, or give a functional model of it: keras.Model(inputs, "
            "{'name': model(inputs)})."
        ) from error
    if isinstance(outputs, Mapping) and all(hasattr(value, "shape") for value in outputs.values()):
        named = {_spelled(name): value for name, value in outputs.items()}
    else:
        flat = tree.flatten(outputs)
        named = dict(zip(_unique(["output"] * len(flat)), flat, strict=True))
    return keras.Model(inputs, named, name=model.name)


def _never_called(model: keras.Model) -> ExportError:
    return ExportError(
        f"Model '{model.name}' ({type(model).__name__}) was never called, so the shapes of its "
        f"inputs are unknown: call it "
        "once on data (`model(x[:1])`), or begin it with `keras.Input`."
    )


def _spelled(name: str) -> str:
    return re.sub(r"\W+", "_", str(name), flags=re.ASCII)


def _unique(names: Sequence[str]) -> list[str]:
    """Names that formats keep, each once: a layer that gives two outputs, or gives one twice, is
    numbered."""
    unique: list[str] = []
    for name in map(_spelled, names):
        number, fresh = 0, name
        while fresh in unique:
            number += 1
            fresh = f"{name}_{number}"
        unique.append(fresh)
    return unique


def input_specs(model: keras.Model, batch: int | None) -> dict[str, keras.InputSpec]:
    """The model's inputs by name, with this batch size.

    Raises:
        ExportError: an input whose other dimensions are not fixed, where the batch size is.
    """
    specs = {}
    for tensor in model.inputs:
        name, shape = tensor.name, tuple(tensor.shape[1:])
        try:
            check_input_name(name)
        except ValueError as error:
            raise ExportError(
                f"{error} Rename it, and copy the weights: "
                f"`renamed.set_weights(model.get_weights())`."
            ) from None
        if batch is not None and None in shape:
            raise ExportError(
                f"Input '{name}' has shape {(batch, *shape)}; a file for a device needs every "
                f"size fixed. Build the model "
                "with fixed input sizes."
            )
        specs[name] = keras.InputSpec(
            shape=(batch, *shape), dtype=keras.backend.standardize_dtype(tensor.dtype), name=name
        )
    return specs


def pack_inputs(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Inputs by name in the structure that the model was built with."""
    return keras.tree.map_structure(lambda tensor: inputs[tensor.name], model.input)


def inputs_by_name(model: keras.Model, x: Any) -> dict[str, np.ndarray]:
    """A batch in the model's structure, a list, or a dict by name, as a dict by name."""
    names = [tensor.name for tensor in model.inputs]
    if isinstance(x, Mapping):
        lacking = [name for name in names if name not in x]
        if lacking:
            raise ValueError(f"Inputs {', '.join(lacking)} are missing; got {sorted(x)}.")
        return {name: np.asarray(x[name]) for name in names}
    flat = keras.tree.flatten(x)
    if len(flat) != len(names):
        raise ValueError(f"The model has the inputs {', '.join(names)}; got {len(flat)} arrays.")
    return {name: np.asarray(value) for name, value in zip(names, flat, strict=True)}
