"""From a Keras model to a SavedModel with endpoints whose inputs and outputs go by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.export import decoded
from mtl_keras.export.models import input_specs, pack_inputs
from mtl_keras.graph import ancestors, split
from mtl_keras.quiet import quiet

__all__ = ["SIGNATURES", "Endpoint", "endpoints", "write_archive"]

#: What `signatures=` takes: all heads at once; also each alone; also the shared features, and heads
#: from them.
SIGNATURES = ("default", "heads", "features", "all")


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
        outputs = self.call(
            **{name: keras.ops.convert_to_tensor(inputs[name]) for name in self.specs}
        )
        return {name: np.asarray(outputs[name]) for name in self.outputs}


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
        signatures: "default"; "heads" adds `predict_<head>`; "features" adds `features`, and
            `<head>_from_features`; "all" adds both.
        batch: size, or None for any.
        decode: tasks whose decoded answers `serving_default` gives too, behind the heads.

    Raises:
        ValueError: unknown `signatures`, or "features" for a model whose builder names no shared
            representation.
    """
    if signatures not in SIGNATURES:
        raise ValueError(
            f"`signatures` is one of {', '.join(map(repr, SIGNATURES))}, got {signatures!r}."
        )
    specs, heads = input_specs(model, batch), list(model.output)

    def whole(keep: Sequence[str], **inputs: Any) -> dict[str, Any]:
        outputs = model(pack_inputs(model, inputs), training=False)
        return {name: outputs[name] for name in keep}

    def with_decoded(**inputs: Any) -> dict[str, Any]:
        outputs = whole(heads, **inputs)
        return outputs | {
            f"{name}{decoded.SUFFIX}": decoded.decode(model, name, outputs[name]) for name in decode
        }

    everything = (*heads, *(f"{name}{decoded.SUFFIX}" for name in decode))
    all_endpoints = [Endpoint("serving_default", specs, everything, with_decoded)]
    if signatures in ("heads", "all"):
        all_endpoints += [
            Endpoint(f"predict_{name}", specs, (name,), functools.partial(whole, [name]))
            for name in heads
        ]
    if signatures in ("features", "all"):
        all_endpoints += _from_features(model, batch, specs)
    return all_endpoints


def _from_features(
    model: keras.Model, batch: int | None, specs: Mapping[str, keras.InputSpec]
) -> list[Endpoint]:
    names = list(getattr(model, "representation", ()))
    if not names:
        raise ValueError(
            f"Model '{model.name}' names no representation that its heads share (builders of "
            f"several streams have none), so "
            "there are no `features` to run once. Use signatures='heads'."
        )
    trunk, heads, more = split(model, names)

    def features(**inputs: Any) -> dict[str, Any]:
        return dict(trunk(pack_inputs(model, inputs), training=False))

    def head(name: str, **inputs: Any) -> dict[str, Any]:
        return {name: heads([inputs[n] for n in everything], training=False)[name]}

    taken = {}
    for name, tensor in trunk.output.items():
        shape, dtype = tuple(tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype)
        taken[name] = keras.InputSpec(shape=(batch, *shape), dtype=dtype, name=name)
    everything = {**taken, **specs} if more else taken
    feature_endpoints = [Endpoint("features", specs, tuple(names), features)]
    for name in model.output:
        # A head may use some of the shared tensors only.
        used = {id(x) for x in ancestors([heads.output[name]])}
        here = [n for n, t in zip(everything, heads.inputs, strict=True) if id(t) in used]
        call = _filled(functools.partial(head, name), everything)
        feature_endpoints.append(
            Endpoint(f"{name}_from_features", {n: everything[n] for n in here}, (name,), call)
        )
    return feature_endpoints


def _filled(head: Callable[..., Any], specs: Mapping[str, keras.InputSpec]) -> Callable[..., Any]:
    """A head that takes what it uses; the rest of the heads' inputs are zeros that nothing
    reads."""

    def call(**inputs: Any) -> Any:
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
    """Write a SavedModel with these endpoints (default: `serving_default` alone), and return
    them."""
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
    # Not `keras.export.ExportArchive`: it stores every variable twice (as `variables` and as
    # `_all_variables`).
    module = tf.Module()
    module.held = [variable.value for variable in model.variables]
    with quiet():
        tf.saved_model.save(module, str(path), signatures=functions)
    return made
