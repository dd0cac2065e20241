"""Funnels: tasks in sequence, such as click, then conversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import Base, finish, layer_sizes, start
from mtl_keras.layers import InformationTransfer, OrderCalibrator, ProbabilityProduct
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Binary, Task, TaskOutput
from mtl_keras.tasks.task import vector

__all__ = ["aitm", "esmm"]


@builder
def esmm(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    units: int | Sequence[int] = (64,),
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Entire-space model of a funnel: each step's output is the probability of having come that
    far.

    For tasks `[click, conversion]`: `click = pCTR`, `conversion = pCTCVR = pCTR * pCVR`. Both are
    defined, and supervised, on every impression, so that the conversion rate learns without the
    bias of clicked samples. The product is taken on logits. The rate among those who clicked,
    `pCVR`, is the quotient of the two outputs.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`. The tasks
            are `Binary`, in the funnel's order; two or more.
        units: int, or list of int. Hidden layers of each step's tower on the backbone's deepest
            stage. Defaults to (64,).

    Returns:
        `MultiTaskModel`. Labels of a later step are 1 only where the earlier one's are.

    Raises:
        ValueError: fewer than two tasks, a task that is not `Binary`; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.esmm((20,), [mtl.tasks.Binary("click"), mtl.tasks.Binary("conversion")])

    Reference:
        Ma, Zhao, Huang, Wang, Hu, Zhu, Gai, "Entire Space Multi-Task Model: An Effective Approach
        for Estimating Post-Click Conversion Rate", SIGIR 2018.
    """
    base = _funnel(inputs, tasks, backbone, **shared)
    units = layer_sizes("units", units, base.name)
    outputs: dict[str, Any] = {}
    before = None
    for task in base.tasks:
        x = _tower(base, task.name, units)
        logit = layers.Dense(1, name=f"{task.name}_linear")(x)
        if before is not None:
            logit = ProbabilityProduct(name=f"{task.name}_product")([before, logit])
        before = logit
        outputs[task.name] = TaskOutput(task)(logit)
    return finish(
        base,
        {},
        outputs=outputs,
        representation=base.representation[-1:],
    )


@builder
def aitm(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    units: int | Sequence[int] = (64,),
    penalty_weight: float = 0.6,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Adaptive information transfer along a funnel: each step attends to what the step before
    passes on and to its own features, and a calibrator keeps later steps less probable than earlier
    ones.

    Step t: `z_1 = q_1`, `z_t = attention(relu(W z_(t-1)), q_t)` with the tower's features `q_t`;
        `p_t = sigmoid(w_t z_t)`.

    Args:
        inputs, tasks, backbone, units, backbone_options, encoder, name: as in `esmm`.
        penalty_weight: float >= 0. Factor of the calibrator's penalty `max(p_t - p_(t-1), 0)`.
            Defaults to 0.6, as in the paper.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: as `esmm`; a negative weight; no hidden layers.

    Examples:
        >>> steps = [mtl.tasks.Binary(s) for s in ("click", "application", "approval")]
        >>> model = mtl.builders.aitm((20,), steps)

    Reference:
        Xi, Chen, Yan, Zhang, Zhu, Zhuang, Chen, "Modeling the Sequential Dependence among Audience
        Multi-step Conversions with Multi-task Learning in Targeted Display Advertising", KDD 2021.
    """
    base = _funnel(inputs, tasks, backbone, **shared)
    units = layer_sizes("units", units, base.name)
    if not units:
        raise ValueError(f"Builder '{base.name}' needs at least one hidden layer in `units`.")
    logits, before = [], None
    for task in base.tasks:
        z = _tower(base, task.name, units)
        if before is not None:
            passed = layers.Dense(units[-1], activation="relu", name=f"{task.name}_passed")(before)
            z = InformationTransfer(units[-1], name=f"{task.name}_transfer")([passed, z])
        before = z
        logits.append(layers.Dense(1, name=f"{task.name}_linear")(z))
    ordered = OrderCalibrator(penalty_weight, name=f"{base.name}_calibrator")(logits)
    outputs = {
        task.name: TaskOutput(task)(logit) for task, logit in zip(base.tasks, ordered, strict=True)
    }
    return finish(
        base,
        {},
        outputs=outputs,
        representation=base.representation[-1:],
    )


def _funnel(
    inputs: Any, tasks: Sequence[Task], backbone: Any, **shared: Unpack[SharedArguments]
) -> Base:
    """The beginning of a funnel: two or more `Binary` tasks without heads of their own."""
    base = start(inputs, tasks, backbone, **shared)
    if len(base.tasks) < 2:
        raise ValueError(
            f"Builder '{base.name}' takes two or more tasks in the funnel's order, got "
            f"{len(base.tasks)}."
        )
    for task in base.tasks:
        if not isinstance(task, Binary):
            raise ValueError(
                f"Builder '{base.name}' takes Binary tasks (it happened, or not); task "
                f"'{task.name}' is a "
                f"{type(task).__name__}."
            )
        if task._head is not None:
            raise ValueError(
                f"Builder '{base.name}' makes the heads itself; task '{task.name}' brings a head "
                f"of its own."
            )
    return base


def _tower(base: Base, task: str, units: Sequence[int]) -> Any:
    x = vector(base.stages, task)
    for i, width in enumerate(units, 1):
        x = layers.Dense(width, activation="relu", name=f"{task}_tower{i}")(x)
    return x
