"""What can be known to be wrong before the first step."""

from __future__ import annotations

from typing import Any

import keras

from mtl_keras.graph.reach import Reach
from mtl_keras.trainer.strategies.held_out import missing_data_message

__all__ = ["check_balancer"]

# Losses of Keras that reach below 0 by their definition.
_SIGNED = (keras.losses.CosineSimilarity,)
_SIGNED_FUNCTIONS = ("cosine_similarity",)


def check_balancer(model: Any, compiled: Any, loading: bool = False) -> None:
    """Refuse a balancer that can't work with this model.

    Args:
        loading: a compiled model is being loaded; data that a file can't hold may come later.

    Raises:
        ValueError: losses that may be negative, no shared representation, no shared variables, no
            held-out data.
    """
    balancer = compiled.balancer
    if balancer.positive:
        for task in compiled.tasks:
            loss = compiled.losses[task.name]
            name = getattr(loss, "__name__", "") or getattr(
                getattr(loss, "fn", None), "__name__", ""
            )
            if isinstance(loss, _SIGNED) or name in _SIGNED_FUNCTIONS:
                raise ValueError(
                    f"Balancer '{balancer.name}' needs positive losses, and the loss of task "
                    f"'{task.name}' "
                    f"({type(loss).__name__}) can be negative. Use another loss, for example one "
                    f"minus the similarity, or "
                    "another balancer."
                )
    if compiled.strategy.requires_data and balancer.data is None and not loading:
        raise ValueError(missing_data_message(balancer))
    if balancer.data is not None and not hasattr(balancer.data, "element_spec"):
        raise ValueError(
            f"The data of balancer '{balancer.name}' must be a batched tf.data.Dataset of "
            f"(inputs, labels), got "
            f"{type(balancer.data).__name__}."
        )
    if not compiled.strategy.uses_gradients:
        if compiled.arguments.get("shared") is not None:
            raise ValueError(
                f"`shared` narrows the variables that a balancer looks at; '{balancer.name}' "
                f"looks at losses only."
            )
        return
    if compiled.strategy.at_representation:
        _check_representation(model, compiled)
    if not compiled.sources:
        raise ValueError(
            f"Balancer '{balancer.name}' weighs gradients of shared variables, and no two tasks "
            f"of this model share any. Use "
            "a balancer that looks at losses, or a builder that shares variables (`split_after` "
            "where networks are separate)."
        )


def _check_representation(model: Any, compiled: Any) -> None:
    balancer = compiled.balancer
    tasks = ", ".join(f"'{task.name}'" for task in compiled.tasks)
    if not model.representation:
        raise ValueError(
            f"Balancer '{balancer.name}' with gradients='representation' needs a representation "
            f"that the tasks ({tasks}) "
            "share, and this model names none. Use gradients='parameters', a builder that names "
            "one, or "
            "`MultiTaskModel(..., representation=[layer names])`."
        )
    known = {layer.name for layer in model.layers} | {
        op.name for op in getattr(model, "operations", ())
    }
    for name in model.representation:
        if name not in known:
            raise ValueError(
                f"The representation names layer '{name}', which the model does not have."
            )
    past = Reach(model, [task.name for task in compiled.tasks], stop=model.representation)
    trunk = {id(v) for v in compiled.trunk.trainable_variables}
    for task in compiled.tasks:
        round_about = [
            v.path for v in past.variables if id(v) in trunk and task.name in past.tasks_of(v)
        ]
        if round_about and compiled.strategy.changes_gradients:
            raise ValueError(
                f"Balancer '{balancer.name}' changes gradients at the representation, but task "
                f"'{task.name}' also reaches "
                f"{round_about[0]} around it. Use gradients='parameters'."
            )
