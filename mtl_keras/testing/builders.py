"""The harness of builders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.model import MultiTaskModel
from mtl_keras.testing.checks import (
    check_absent_task,
    check_exports,
    check_gradients,
    check_saving,
    check_step,
    expect,
)

__all__ = ["run_builder_test"]


def run_builder_test(
    builder: Callable[..., MultiTaskModel],
    arguments: Mapping[str, Any],
    x: Any,
    y: Mapping[str, Any],
    *,
    balancers: Sequence[Any] = ("uncertainty", "cagrad"),
    export: Sequence[str] = (),
) -> MultiTaskModel:
    """Hold a builder to what every builder promises.

    The promises: one output per task, named and ordered like the tasks; layers with names of their
    own; finite gradients for every trainable variable; a training step with each balancer (methods
    that work on gradients are refused where no variable is shared); a task without labels changes
    nothing that is its own; the model is rebuilt from its config, saved, and loaded in safe mode
    with the same numbers; files for the phone, where they are asked for.

    Args:
        builder: function that returns a `MultiTaskModel`.
        arguments: dict of the builder's arguments, `tasks` among them.
        x: a batch of inputs: array, or dict by input name. A few rows are enough.
        y: dict of task name to the labels of these rows.
        balancers: names or `Balancer` objects; the model takes a training step with each.
        export: precisions to export to, such as `("float32", "int8")`. Takes seconds for each.

    Returns:
        The trained model.

    Raises:
        AssertionError: which promise is broken, and where.

    Examples:
        >>> import numpy as np
        >>> tasks = [mtl.tasks.Regression("cost"), mtl.tasks.Binary("sold")]
        >>> x, y = mtl.testing.table_data(rows=8)
        >>> model = mtl.testing.run_builder_test(
        ...     mtl.builders.hard_sharing, {"inputs": (5,), "tasks": tasks, "backbone": "mlp"}, x, y)
    """
    subject = f"Builder {getattr(builder, '__name__', builder)!r}"
    model = builder(**arguments)

    # Names
    expect(isinstance(model, MultiTaskModel), subject, "it returns a `MultiTaskModel`", type(model))
    tasks = [task.name for task in arguments["tasks"]]
    expect(
        list(model.output) == tasks == model.task_names,
        subject,
        "there is one output for each task, in the tasks' order",
        f"Outputs: {list(model.output)}; tasks: {tasks}.",
    )
    layers = {layer.name for layer in model.layers}
    unknown = [name for name in model.representation if name not in layers]
    expect(
        not unknown, subject, "`representation` names layers of the model", f"Unknown: {unknown}."
    )

    # Training
    own_variables = check_gradients(subject, model, x)
    for balancer in balancers:
        _compile(subject, model, balancer)
        check_step(f"{subject}, balancer {balancer!r}", model, x, y)
    if len(tasks) > 1:
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        for name in tasks:
            check_absent_task(subject, model, x, y, name, own_variables[name])

    # Files
    _check_rebuilt(subject, model, x)
    check_saving(subject, model, x)
    check_exports(subject, model, x, export)
    return model


def _compile(subject: str, model: MultiTaskModel, balancer: Any) -> None:
    """Compile with a balancer, or without one where it works on gradients and no variable is
    shared."""
    # One step each: tracing it would take longer than the step.
    options: dict[str, Any] = {"optimizer": "adam", "run_eagerly": True}
    try:
        model.compile(balancer=balancer, **options)
    except ValueError as error:
        expect("no two tasks of this model share any" in str(error), subject, str(error))
        model.compile(**options)


def _check_rebuilt(subject: str, model: MultiTaskModel, x: Any) -> None:
    """The config makes the same network, up to its weights."""
    copy = type(model).from_config(model.get_config())
    shapes = [tuple(w.shape) for w in model.weights]
    expect(
        [tuple(w.shape) for w in copy.weights] == shapes,
        subject,
        "the network made from its config has the same weights",
    )
    copy.set_weights(model.get_weights())
    outputs, again = model(x, training=False), copy(x, training=False)
    for name in model.task_names:
        expect(
            np.array_equal(outputs[name], again[name]),
            subject,
            "the network made from its config gives the same numbers",
            f"Output '{name}' differs.",
        )
