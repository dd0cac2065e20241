"""From a Keras model to a SavedModel with endpoints whose inputs and outputs go by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.builders.branching import count_copies, prune
from mtl_keras.export import decoded
from mtl_keras.export.models import functional
from mtl_keras.export.training_aware import float_twin, is_quantization_aware
from mtl_keras.graph import ancestors, output_of, split, sublayers
from mtl_keras.quiet import quiet
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import check_input_name, unknown_name

__all__ = [
    "SIGNATURES",
    "Endpoint",
    "as_float32",
    "by_name",
    "endpoints",
    "feed",
    "input_specs",
    "subset",
    "write_archive",
]

#: What `signatures=` takes: all heads at once; also each alone; also the shared features, and heads from them.
SIGNATURES = ("default", "heads", "features", "all")


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
                f"{error} Rename it, and copy the weights: `renamed.set_weights(model.get_weights())`."
            ) from None
        if batch is not None and None in shape:
            raise ExportError(
                f"Input '{name}' has shape {(batch, *shape)}; a file for a device needs every size fixed. Build the model "
                "with fixed input sizes."
            )
        specs[name] = keras.InputSpec(
            shape=(batch, *shape), dtype=keras.backend.standardize_dtype(tensor.dtype), name=name
        )
    return specs


def feed(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Inputs by name in the structure that the model was built with."""
    return keras.tree.map_structure(lambda tensor: inputs[tensor.name], model.input)


def by_name(model: keras.Model, x: Any) -> dict[str, np.ndarray]:
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


@dataclass(frozen=True)
class Endpoint:
    """One way to call an exported model.

    Attributes:
        name: of the signature.
        specs: inputs by name, with the batch size.
        outputs: names, in order.
        call: takes tensors by name, gives a dict; for inference.
    """

    name: str
    specs: Mapping[str, keras.InputSpec]
    outputs: tuple[str, ...]
    call: Callable[..., dict[str, Any]]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keras's own answer to arrays by name."""
        found = self.call(
            **{name: keras.ops.convert_to_tensor(inputs[name]) for name in self.specs}
        )
        return {name: np.asarray(found[name]) for name in self.outputs}


def endpoints(
    model: keras.Model,
    signatures: str = "default",
    batch: int | None = None,
    decode: Sequence[str] = (),
) -> list[Endpoint]:
    """The endpoints that `signatures` asks for; `serving_default`, all heads, comes first.

    `training=False` is passed on purpose: Keras's own export leaves augmentation layers active.

    Args:
        model: functional model with a flat dict of outputs.
        signatures: "default"; "heads" adds `predict_<head>`; "features" adds `features`, and `<head>_from_features`; "all"
            adds both.
        batch: size, or None for any.
        decode: tasks whose decoded answers `serving_default` gives too, behind the heads.

    Raises:
        ValueError: unknown `signatures`, or "features" for a model whose builder names no shared representation.
    """
    if signatures not in SIGNATURES:
        raise ValueError(
            f"`signatures` is one of {', '.join(map(repr, SIGNATURES))}, got {signatures!r}."
        )
    specs, heads = input_specs(model, batch), list(model.output)

    def whole(keep: Sequence[str], **inputs):
        found = model(feed(model, inputs), training=False)
        return {name: found[name] for name in keep}

    def with_decoded(**inputs):
        found = whole(heads, **inputs)
        return found | {
            f"{name}{decoded.SUFFIX}": decoded.decode(model, name, found[name]) for name in decode
        }

    everything = (*heads, *(f"{name}{decoded.SUFFIX}" for name in decode))
    made = [Endpoint("serving_default", specs, everything, with_decoded)]
    if signatures in ("heads", "all"):
        made += [
            Endpoint(f"predict_{name}", specs, (name,), functools.partial(whole, [name]))
            for name in heads
        ]
    if signatures in ("features", "all"):
        made += _from_features(model, batch, specs)
    return made


def _from_features(
    model: keras.Model, batch: int | None, specs: Mapping[str, keras.InputSpec]
) -> list[Endpoint]:
    names = list(getattr(model, "representation", ()))
    if not names:
        raise ValueError(
            f"Model '{model.name}' names no representation that its heads share (builders of several streams have none), so "
            "there are no `features` to run once. Use signatures='heads'."
        )
    trunk, heads, more = split(model, names)

    def features(**inputs):
        return dict(trunk(feed(model, inputs), training=False))

    def head(name: str, **inputs):
        return {name: heads([inputs[n] for n in everything], training=False)[name]}

    taken = {}
    for name, tensor in trunk.output.items():
        shape, dtype = tuple(tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype)
        taken[name] = keras.InputSpec(shape=(batch, *shape), dtype=dtype, name=name)
    everything = {**taken, **specs} if more else taken
    made = [Endpoint("features", specs, tuple(names), features)]
    for name in model.output:
        # A head may use some of the shared tensors only.
        used = {id(x) for x in ancestors([heads.output[name]])}
        here = [n for n, t in zip(everything, heads.inputs, strict=True) if id(t) in used]
        call = _filled(functools.partial(head, name), everything)
        made.append(
            Endpoint(f"{name}_from_features", {n: everything[n] for n in here}, (name,), call)
        )
    return made


def _filled(head: Callable[..., Any], specs: Mapping[str, keras.InputSpec]) -> Callable[..., Any]:
    """A head that takes what it uses; the rest of the heads' inputs are zeros that nothing reads."""

    def call(**inputs):
        rows = keras.ops.shape(next(iter(inputs.values())))[0]
        rest = {
            n: keras.ops.zeros((rows, *s.shape[1:]), s.dtype)
            for n, s in specs.items()
            if n not in inputs
        }
        return head(**inputs, **rest)

    return call


def write_archive(
    model: keras.Model, path: Path, batch: int | None = None, made: Sequence[Endpoint] | None = None
) -> list[Endpoint]:
    """Write a SavedModel with these endpoints (default: `serving_default` alone), and return them."""
    import tensorflow as tf

    made = endpoints(model, batch=batch) if made is None else list(made)
    functions = {}
    for endpoint in made:
        signature = {
            name: tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in endpoint.specs.items()
        }
        functions[endpoint.name] = tf.function(
            endpoint.call, autograph=False
        ).get_concrete_function(**signature)
    # Not `keras.export.ExportArchive`: it stores every variable twice (as `variables` and as `_all_variables`).
    module = tf.Module()
    module.held = [variable.value for variable in model.variables]
    with quiet():
        tf.saved_model.save(module, str(path), signatures=functions)
    return made


def as_float32(model: keras.Model) -> keras.Model:
    """The model itself, or, where a layer computes in half precision, its copy in float32 with the same weights."""
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


def notes(model: keras.Model) -> list[str]:
    """What a report says of what `subset` leaves out."""
    copies = count_copies(functional(model))
    if copies is None:
        return []
    used, total = copies
    return [
        f"learned branches: the file holds the {used} of {total} copies of stages that a task follows"
    ]


def subset(model: keras.Model, tasks: Sequence[str] | None) -> keras.Model:
    """The model with some of its tasks only, in their order in the model; layers and inputs that no kept task uses are gone.

    Of a quantization-aware model, its float network; of a network with learned branches, the tree: every export begins
    here.

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
    kept = (
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
    return type(model)(kept, outputs, name=model.name, **facts)
