"""The network that is exported: the chosen tasks, in float32, with real weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.branching import count_copies, prune
from mtl_keras.export.compression.training_aware import float_twin, is_quantization_aware
from mtl_keras.export.models import functional
from mtl_keras.graph import ancestors, output_of, sublayers
from mtl_keras.runtime.names import unknown_name

__all__ = ["as_float32", "describe_omissions", "subset"]


def as_float32(model: keras.Model) -> keras.Model:
    """The model itself, or, where a layer computes in half precision, its copy in float32 with the
    same weights."""
    policies = {layer.dtype_policy.name for layer in sublayers(model)}
    if not any(_is_half(name) for name in policies):
        return model
    config = _without_mixed(model.get_config())
    copy = type(model).from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _is_half(policy: str) -> bool:
    return policy.startswith("mixed_") or policy in ("float16", "bfloat16")


def _without_mixed(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            name = config["config"]["name"]
            return {**config, "config": {"name": "float32" if _is_half(name) else name}}
        # Inputs have a dtype, not a policy.
        as_float = {"dtype": "float32"} if config.get("dtype") in ("float16", "bfloat16") else {}
        return {key: _without_mixed(value) for key, value in config.items()} | as_float
    if isinstance(config, (list, tuple)):
        return type(config)(_without_mixed(value) for value in config)
    return config


def describe_omissions(model: keras.Model) -> list[str]:
    """What a report says of what `subset` leaves out."""
    copies = count_copies(functional(model))
    if copies is None:
        return []
    used, total = copies
    return [
        f"learned branches: the file holds the {used} of {total} copies of stages that a task "
        f"follows"
    ]


def subset(model: keras.Model, tasks: Sequence[str] | None) -> keras.Model:
    """The model with some of its tasks only, in their order in the model; layers and inputs that no
    kept task uses are gone.

    Of a quantization-aware model, its float network; of a network with learned branches, the tree:
    every export begins here.

    Raises:
        ValueError: no task, or one that the model does not have.
    """
    model = functional(model)
    if is_quantization_aware(model):
        model = float_twin(model)
    if count_copies(model) is not None:
        model = prune(model)
    if any(
        keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
        for tensor in model.inputs
    ):
        # In half precision throughout: rows are taken in float32 too.
        model = as_float32(model)
    if tasks is None:
        return model
    chosen = [tasks] if isinstance(tasks, str) else list(tasks)
    known = list(model.output)
    for name in chosen:
        if name not in known:
            raise ValueError(unknown_name("task in `tasks`:", name, known))
    if not chosen:
        raise ValueError(f"`tasks` is empty; the model has {', '.join(known)}.")
    outputs = {name: tensor for name, tensor in model.output.items() if name in chosen}
    used = {id(x) for x in ancestors(outputs.values())}
    inputs = {tensor.name: tensor for tensor in model.inputs if id(tensor) in used}
    model_input = (
        inputs
        if isinstance(model.input, Mapping) and len(inputs) > 1
        else next(iter(inputs.values()))
    )
    facts: dict[str, Any] = (
        {"encoder": model.encoder} if getattr(model, "encoder", None) is not None else {}
    )
    shared = [
        name for name in getattr(model, "representation", ()) if id(output_of(model, name)) in used
    ]
    if shared:
        facts["representation"] = shared
    return type(model)(model_input, outputs, name=model.name, **facts)
