"""The vocabulary of the builders: one word per concept, and the arguments that all of them take."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

from mtl_keras.runtime.names import unknown_name

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

__all__ = ["VOCABULARY", "SharedArguments", "Unpack", "builder"]

Builder = TypeVar("Builder", bound=Callable[..., Any])

#: Every argument of a builder, and its one meaning in all builders that take it. A builder with a
#: word that is missing here fails its test: take a word that is here, or add one with its meaning.
VOCABULARY = {
    # Shared by all builders
    "inputs": "shape of one row, a `keras.Input`, or a dict of these",
    "tasks": "list of `Task`",
    "backbone": "name, function of the symbolic inputs, or any `keras.Model`; None takes a default",
    "backbones": "a `backbone` per modality",
    "backbone_options": "arguments of the backbone's function",
    "encoder": "makes the network's input from raw data; saved with the model",
    "name": "the model's name",
    # Layers that the builder adds
    "units": "width of the dense layers that the builder adds; a list where it adds several",
    "channels": "width of the convolutions that the builder adds",
    "activation": "activation of the layers that the builder adds",
    "normalize": "whether batch normalization follows them",
    # Stages of the backbone
    "stages": "stages after which the builder adds its layers",
    "task_stages": "the stage at which a task is supervised, by task name; default: the deepest",
    "split_after": "last stage that all tasks share, where each task has its own network",
    "feed_predictions": "whether the next stages see what a low-level task predicts",
    # Experts and gates
    "experts": "number of experts that every gate weighs",
    "task_experts": "number of experts that one task has for itself",
    "shared_experts": "number of experts that all tasks have beside their own",
    "levels": "number of extraction layers, one behind the other",
    "k": "number of experts that a gate uses at most",
    "gate_bias": "whether gates have a bias",
    "per_example": "whether gates depend on the row",
    "gamma": "width of the gates' smooth step",
    # Penalties
    "penalty": "kind of penalty: a name",
    "penalty_weight": "factor >= 0 of the penalty that the builder adds to the loss",
    # Mixtures between the tasks' networks
    "self_weight": "factor of its own features with which each network starts",
    "per_channel": "whether mixtures have a factor per channel",
    "subspaces": "number of parts into which a stage's channels are cut",
    # Variants
    "adapter": "kind of adapter: a name",
    "factorization": "kind of factorization: a name",
    "rank": "rank of the kernels' own axes",
    "task_rank": "rank of the tasks' axis",
    # Branches
    "branches": "number of copies of every stage",
    "temperature": "first temperature of the samples",
    "temperature_decay": "factor on the temperature per step",
    "min_temperature": "lowest temperature",
    "warmup_steps": "steps before choices begin",
    "seed": "seed of the samples",
    # Several inputs
    "fusion": "how modalities are joined: a name",
    "fusion_units": "width of the dense layers in which modalities are joined; a list for several",
    "optional": "modalities that a row may lack",
    "modality_dropout": "share of the rows that lack an optional modality while training",
    "stems": "what stands between a task's input and the trunk: a backbone, or one per task",
    "stem_options": "arguments of the stems' function",
}


class SharedArguments(TypedDict, total=False):
    """Keyword arguments that every builder takes and hands on.

    A signature ends in `**shared: Unpack[SharedArguments]`, which editors and type checkers spell
        out;
    `inspect.signature`, and so `help` and notebooks, show them one by one. They are documented
    once, in `mtl.builders.hard_sharing`."""

    backbone_options: Mapping[str, Any] | None
    encoder: Any
    name: str


def builder(function: Builder) -> Builder:
    """Mark a function as a builder: its `name` defaults to the function's, its signature is spelled
    out.

    Args:
        function: takes `inputs`, `tasks`, a backbone, arguments of its own, and
            `**shared: Unpack[SharedArguments]`.

    Raises:
        TypeError: when it is called with an argument that it does not take; the message names those
            that it takes.
    """
    signature = _complete_signature(function)

    @functools.wraps(function)
    def build(*args: Any, **kwargs: Any) -> Any:
        for argument in kwargs:
            if argument not in signature.parameters:
                raise TypeError(
                    unknown_name(
                        f"argument of builder '{function.__name__}':",
                        argument,
                        list(signature.parameters),
                    )
                )
        return function(*args, **{"name": function.__name__, **kwargs})

    build.__signature__ = signature  # type: ignore[attr-defined]
    return build  # type: ignore[return-value]


def _complete_signature(function: Callable[..., Any]) -> inspect.Signature:
    """A builder's signature with the shared arguments in the place of `**shared`."""
    signature = inspect.signature(function)
    *builder_parameters, _ = signature.parameters.values()
    annotations = {
        # As text, as those of the function are.
        argument: getattr(annotation, "__forward_arg__", annotation)
        for argument, annotation in SharedArguments.__annotations__.items()
    }
    defaults = {"backbone_options": None, "encoder": None, "name": function.__name__}
    shared = [
        inspect.Parameter(
            argument,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=annotations[argument],
        )
        for argument, default in defaults.items()
    ]
    return signature.replace(parameters=[*builder_parameters, *shared])
