"""Any Keras model as a backbone: taken apart into its layers where that can be saved, else one
nested layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import tree

from mtl_keras.graph import has_graph, has_own_config, is_functional, layer_of, reapply

__all__ = ["as_trunk", "on_inputs"]


def as_trunk(model: keras.Model, inputs: Any = None) -> keras.Model:
    """A functional model that computes what `model` computes, with the model's own layers and
    weights.

    A `Sequential` and a functional model are taken apart: their layers become layers of the
    multi-task network. Two kinds stay whole, as one nested layer: a subclass of `keras.Model` that
    computes in a `call` of its own, and a functional subclass whose layers do not come back from
    their configs one by one (KerasHub's vision transformer, for example).

    Args:
        model: any model that can be called on symbolic tensors, built or not.
        inputs: symbolic tensor, dict of these, or None. A model with inputs of its own needs none;
            sizes that its own inputs leave open are taken from here.

    Returns:
        Functional model. Each of its outputs is made by a layer of its own.

    Raises:
        ValueError: no inputs where the model has none of its own; inputs that do not fit the
            model's own; an answer that is no tensor and no list or dict of tensors.
    """
    model_inputs = _own_inputs(model)
    if model_inputs is None and inputs is None:
        raise ValueError(
            f"`inputs` should be the shape of one row, because the backbone '{model.name}' has no "
            f"inputs of its own yet. "
            "Received: inputs=None."
        )
    return _computed(
        model,
        model_inputs,
        inputs if model_inputs is None else _fitted_inputs(model.name, model_inputs, inputs),
    )


def on_inputs(model: keras.Model, inputs: Any) -> keras.Model:
    """As `as_trunk`, for a model that a backbone's function built apart from the inputs that it was
    called with.

    Raises:
        ValueError: inputs that do not fit the model's own; what `as_trunk` refuses.
    """
    model_inputs = _own_inputs(model)
    if model_inputs is None:
        return _computed(model, None, inputs)
    flat = tree.flatten(model_inputs)
    _fitted_inputs(model.name, model_inputs, inputs)
    tensors = inputs if isinstance(inputs, Mapping) else {flat[0].name: inputs}
    if len(flat) == 1:
        tensors = {flat[0].name: next(iter(tensors.values()))}
    return _computed(
        model, model_inputs, tree.map_structure(lambda tensor: tensors[tensor.name], model_inputs)
    )


def _computed(model: keras.Model, own: Any, tensors: Any) -> keras.Model:
    """What the model computes for these symbolic tensors, as a functional model."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        x = next(iter(tree.flatten(tensors)))
        for layer in model.layers:
            x = layer(x)
        return keras.Model(tensors, x, name=model.name)
    if is_functional(model):
        flat = (
            model
            if tensors is own
            else keras.Model(tensors, reapply(model, tensors), name=model.name)
        )
        if not has_own_config(model):
            return flat
        flat = keras.Model(tensors, flat.output, name=model.name)
        if _comes_back(flat):
            return flat
    return _nested(model, tensors)


def _own_inputs(model: keras.Model) -> Any:
    """The model's symbolic inputs in its own structure, or None where it has no graph yet."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0] if getattr(model, "inputs", None) else None
    # Any model has `input` once it was called on symbolic tensors; only a functional model's is
    # part of its definition.
    return model.input if has_graph(model) else None


def _fitted_inputs(name: str, own: Any, inputs: Any) -> Any:
    """The model's own inputs; new ones of the same names where `inputs` fixes sizes, or a batch
    size has to go."""
    flat = tree.flatten(own)
    sizes = _sizes_by_name(name, flat, inputs)
    shapes = {}
    for tensor in flat:
        shape, wanted = tuple(tensor.shape[1:]), sizes.get(tensor.name, tuple(tensor.shape[1:]))
        if len(shape) != len(wanted) or any(
            None not in (a, b) and a != b for a, b in zip(shape, wanted, strict=False)
        ):
            raise ValueError(
                f"`inputs` should fit the backbone '{name}', whose input '{tensor.name}' takes "
                f"rows of shape {shape}. "
                f"Received: {wanted}."
            )
        shapes[tensor.name] = tuple(
            b if a is None else a for a, b in zip(shape, wanted, strict=True)
        )
    if all(
        tensor.shape[0] is None and tuple(tensor.shape[1:]) == shapes[tensor.name]
        for tensor in flat
    ):
        return own

    def renewed(tensor: Any) -> Any:
        optional = getattr(layer_of(tensor), "optional", False)
        # Keras numbers the inputs that nobody named: such a name would become that of the exported
        # file's input.
        label = "inputs" if tensor.name.startswith("keras_tensor") else tensor.name
        return keras.Input(shapes[tensor.name], dtype=tensor.dtype, name=label, optional=optional)

    return tree.map_structure(renewed, own)


def _sizes_by_name(name: str, own: list[Any], inputs: Any) -> dict[str, tuple[int | None, ...]]:
    """Shapes of rows by the names of the model's own inputs."""
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        inputs = {"inputs": inputs}
    shapes = {key: tuple(tensor.shape[1:]) for key, tensor in inputs.items()}
    if len(own) == 1 and len(shapes) == 1:
        return {own[0].name: next(iter(shapes.values()))}
    names = [tensor.name for tensor in own]
    if set(shapes) != set(names):
        raise ValueError(
            f"`inputs` should name the inputs of the backbone '{name}', {', '.join(names)}. "
            f"Received: {', '.join(shapes)}."
        )
    return shapes


def _comes_back(flat: keras.Model) -> bool:
    """Whether the layers of a graph can be made again from their configs, each alone, as loading
    does."""
    try:
        # Variables without values: this asks only whether the layers can be made.
        with keras.StatelessScope(initialize_variables=False):
            copy = keras.Model.from_config(flat.get_config())
    except Exception:
        # Whatever a class raises here, it would raise when the network is loaded.
        return False
    return [tuple(v.shape) for v in copy.variables] == [tuple(v.shape) for v in flat.variables]


def _nested(model: keras.Model, tensors: Any) -> keras.Model:
    """A functional model with `model` as one layer; its outputs in a structure of stages."""
    outputs = model(tensors)
    stages = outputs if isinstance(outputs, (Mapping, list, tuple)) else [outputs]
    items = (
        dict(stages)
        if isinstance(stages, Mapping)
        else {f"stage{i}": x for i, x in enumerate(stages, 1)}
    )
    if not items or not all(isinstance(x, keras.KerasTensor) for x in items.values()):
        raise ValueError(
            f"The backbone '{model.name}' should return a tensor, or a list or dict of tensors, "
            f"one a stage. Received: "
            f"{ {key: type(x).__name__ for key, x in items.items()} or 'nothing' }."
        )
    if len(items) > 1:
        # A layer of its own for each: what heads share is found by its layer's name.
        items = {
            key: keras.layers.Identity(name=f"{model.name}_{key}")(x) for key, x in items.items()
        }
    return keras.Model(tensors, items, name=f"{model.name}_trunk")
