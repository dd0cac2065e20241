"""Mixtures of experts: shared experts, and gates that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.common import attach_head, check_tasks, make_backbone, make_inputs, stages_of
from mtl_keras.layers import Experts, Gate, Mixture
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["mmoe", "omoe"]


def mmoe(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable | keras.Model | None = None,
    *,
    experts: int = 4,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    backbone_options: Mapping[str, Any] | None = None,
    encoder: Any = None,
    name: str = "mmoe",
) -> MultiTaskModel:
    """Experts shared by all tasks, and for each task a gate that weighs them row by row.

    Task k's head sees `sum_e softmax(W_k x)_e expert_e(x)`. The experts are dense layers over the last axis of the
    backbone's deepest stage, computed as one matrix product; over feature maps they are pointwise convolutions, and the gates
    see the maps' mean. Heads that take earlier stages get these as they are.

    Args:
        inputs: shape of one row, for example `(10,)`; a `keras.Input`; or a dict of these by name.
        tasks: list of `Task`.
        backbone: name (`mtl.backbones`), function of the symbolic inputs, or any `keras.Model`. None lets the experts see
            the input itself, as in the paper.
        experts: int >= 1. How many. With one, it is hard sharing with a dense layer more.
        units: int >= 1. Width of each expert.
        activation: of the experts. Defaults to "relu".
        gate_bias: bool. Defaults to False, as in the paper.
        backbone_options, encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel` with one output a task. Beyond backbone and heads it has `experts (features + 1) units` parameters
        in the experts and `tasks features experts` in the gates.

    Raises:
        ValueError: no experts or units; what `hard_sharing` refuses.

    Example:
        >>> model = mtl.builders.mmoe((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], experts=8, units=16)

    Reference:
        Ma, Zhao, Yi, Chen, Hong, Chi, "Modeling Task Relationships in Multi-task Learning with Multi-gate
        Mixture-of-Experts", KDD 2018.
    """
    return _gated(inputs, tasks, backbone, backbone_options, encoder, name, experts, units, activation, gate_bias, one=False)


def omoe(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable | keras.Model | None = None,
    *,
    experts: int = 4,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    backbone_options: Mapping[str, Any] | None = None,
    encoder: Any = None,
    name: str = "omoe",
) -> MultiTaskModel:
    """As `mmoe`, with one gate for all tasks: the baseline of its paper.

    Args:
        inputs, tasks, backbone, experts, units, activation, gate_bias, backbone_options, encoder, name: as in `mmoe`.

    Raises:
        ValueError: as `mmoe`.

    Example:
        >>> model = mtl.builders.omoe((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], experts=8, units=16)

    Reference:
        Ma et al., KDD 2018 (OMoE); Jacobs, Jordan, Nowlan, Hinton, "Adaptive Mixtures of Local Experts", Neural Computation
        1991.
    """
    return _gated(inputs, tasks, backbone, backbone_options, encoder, name, experts, units, activation, gate_bias, one=True)


def _gated(inputs, tasks, backbone, backbone_options, encoder, name, experts, units, activation, gate_bias, one):
    tasks = check_tasks(tasks)
    if backbone is None:
        inputs = make_inputs(inputs, backbone)
        if not isinstance(inputs, keras.KerasTensor) or not inputs.dtype.startswith("float"):
            raise ValueError(
                f"Builder '{name}' without a backbone takes one input of numbers; give a backbone that joins them."
            )
        stages = {"stage1": inputs}
        taken: set[str] = set()
    else:
        inputs = backbone.input if isinstance(backbone, keras.Model) else make_inputs(inputs, backbone)
        trunk = make_backbone(backbone, inputs, backbone_options)
        stages = stages_of(trunk)
        taken = {layer.name for layer in trunk.layers}
    for task in tasks:
        if task.name in taken:
            raise ValueError(f"Task '{task.name}' has the name of a layer of the backbone. Rename the task.")
    deepest = list(stages)[-1]
    features = stages[deepest]
    made = Experts(experts, units, activation, name=f"{name}_experts")(features)
    shared_gate = Gate(experts, gate_bias, name=f"{name}_gate")(features) if one else None
    if one:
        mixed = Mixture(name=f"{name}_mixture")([made, shared_gate])
    outputs = {}
    for task in tasks:
        if not one:
            gate = Gate(experts, gate_bias, name=f"{name}_{task.name}_gate")(features)
            mixed = Mixture(name=f"{name}_{task.name}_mixture")([made, gate])
        outputs[task.name] = attach_head(task, {**stages, deepest: mixed}, inputs)
    representation = [] if backbone is None else [t._keras_history.operation.name for t in stages.values()]
    return MultiTaskModel(inputs, outputs, encoder=encoder, representation=representation, name=name)
