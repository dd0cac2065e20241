"""Mixtures of experts: shared experts, and gates that choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import Base, finish, make_inputs, one_size, start
from mtl_keras.data.inputs import Inputs
from mtl_keras.layers import DSelectKGate, Experts, Gate, Mixture
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["cgc", "dselect_k", "mmoe", "omoe", "ple"]

_DEEPER = " Experts have one layer: for more, give a backbone such as 'mlp' in front of them, or `ple` with several `levels`."


@builder
def mmoe(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    experts: int = 4,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Experts shared by all tasks, and for each task a gate that weighs them row by row.

    Task k's head sees `sum_e softmax(W_k x)_e expert_e(x)`. The experts are dense layers over the
    last axis of the backbone's deepest stage, computed as one matrix product; over feature maps
    they are pointwise convolutions, and the gates see the maps' mean. Heads that take earlier
    stages get these as they are.

    Args:
        inputs: shape of one row, for example `(10,)`; a `keras.Input`; or a dict of these by name.
        tasks: list of `Task`.
        backbone: name (`mtl.backbones`), function of the symbolic inputs, or any `keras.Model`.
            None lets the experts see a vector of numbers itself, as in the paper; for other inputs
            it takes the default backbone, as `hard_sharing` does, because experts over single
            pixels would see nothing but a color.
        experts: int >= 1. How many. With one, it is hard sharing with a dense layer more.
        units: int >= 1. Width of each expert.
        activation: of the experts. Defaults to "relu".
        gate_bias: bool. Defaults to False, as in the paper.
        backbone_options, encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel` with one output a task. Beyond backbone and heads it has `experts (features
        + 1) units` parameters in the experts and `tasks features experts` in the gates.

    Raises:
        ValueError: no experts or units, several layers in `units`; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.mmoe((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], experts=8, units=16)

    Reference:
        Ma, Zhao, Yi, Chen, Hong, Chi, "Modeling Task Relationships in Multi-task Learning with
        Multi-gate Mixture-of-Experts", KDD 2018.
    """
    base, features = _start(inputs, tasks, backbone, **shared)
    units = one_size("units", units, base.name, _DEEPER)
    outputs = Experts(experts, units, activation, name=f"{base.name}_experts")(features)
    mixtures = {}
    for task in base.names:
        gate = Gate(experts, gate_bias, name=f"{base.name}_{task}_gate")(features)
        mixtures[task] = Mixture(name=f"{base.name}_{task}_mixture")([outputs, gate])
    return _finish(base, mixtures, [units], activation)


@builder
def omoe(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    experts: int = 4,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """As `mmoe`, with one gate for all tasks: the baseline of its paper.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `mmoe`.
        experts, units, activation, gate_bias: as in `mmoe`.

    Raises:
        ValueError: as `mmoe`.

    Examples:
        >>> model = mtl.builders.omoe((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], experts=8, units=16)

    Reference:
        Ma et al., KDD 2018 (OMoE); Jacobs, Jordan, Nowlan, Hinton, "Adaptive Mixtures of Local
        Experts", Neural Computation 1991.
    """
    base, features = _start(inputs, tasks, backbone, **shared)
    units = one_size("units", units, base.name, _DEEPER)
    outputs = Experts(experts, units, activation, name=f"{base.name}_experts")(features)
    gate = Gate(experts, gate_bias, name=f"{base.name}_gate")(features)
    mixture = Mixture(name=f"{base.name}_mixture")([outputs, gate])
    return _finish(base, dict.fromkeys(base.names, mixture), [units], activation)


@builder
def dselect_k(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    experts: int = 4,
    k: int = 2,
    units: int = 64,
    activation: Any = "relu",
    per_example: bool = False,
    gamma: float = 1.0,
    penalty_weight: float = 1e-6,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """As `mmoe`, with gates that learn to use at most `k` experts each.

    Args:
        inputs, tasks, backbone, experts, units, activation, backbone_options, encoder, name: as in
            `mmoe`.
        k: int. Experts a gate may use in the end. Defaults to 2.
        per_example, gamma, penalty_weight: as in `mtl.layers.DSelectKGate`.

    Returns:
        `MultiTaskModel`. Static gates have `k (ceil(log2 experts) + 1)` parameters each.

    Raises:
        ValueError: k larger than the number of experts; what `mmoe` refuses.

    Examples:
        >>> model = mtl.builders.dselect_k((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], experts=8, k=2)

    Reference:
        Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with
        Applications to Multi-Task Learning", NeurIPS 2021.
    """
    base, features = _start(inputs, tasks, backbone, **shared)
    units = one_size("units", units, base.name, _DEEPER)
    outputs = Experts(experts, units, activation, name=f"{base.name}_experts")(features)
    mixtures = {}
    for task in base.names:
        gate = DSelectKGate(
            experts, k, per_example, gamma, penalty_weight, name=f"{base.name}_{task}_gate"
        )(features)
        mixtures[task] = Mixture(name=f"{base.name}_{task}_mixture")([outputs, gate])
    return _finish(base, mixtures, [units], activation)


@builder
def cgc(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    task_experts: int = 2,
    shared_experts: int = 2,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Customized gate control: experts of each task's own beside shared ones; a task's gate weighs
    its own and the shared.

    Args:
        inputs, tasks, backbone, units, activation, gate_bias, backbone_options, encoder, name: as
            in `mmoe`.
        task_experts: int >= 1. Experts of each task. Defaults to 2.
        shared_experts: int >= 1. Experts that all tasks have beside them. Defaults to 2.

    Returns:
        `MultiTaskModel`. It is `ple` with one level.

    Raises:
        ValueError: as `ple`.

    Examples:
        >>> model = mtl.builders.cgc((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")])

    Reference:
        Tang, Liu, Zhao, Gong, "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning
        (MTL) Model for Personalized Recommendations", RecSys 2020.
    """
    return ple(
        inputs,
        tasks,
        backbone,
        levels=1,
        task_experts=task_experts,
        shared_experts=shared_experts,
        units=units,
        activation=activation,
        gate_bias=gate_bias,
        **shared,
    )


@builder
def ple(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    levels: int = 2,
    task_experts: int = 2,
    shared_experts: int = 2,
    units: int = 64,
    activation: Any = "relu",
    gate_bias: bool = False,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Progressive layered extraction: levels of own and shared experts, and a stream a task and a
    shared one between them.

    At each level the experts of task k see its stream, the shared experts the shared stream. Task
    k's gate, on its stream, weighs its own and the shared experts and makes its next stream; the
    shared gate, on the shared stream, weighs all experts of all tasks and makes the next shared
    stream. All streams begin as the backbone's deepest stage; the last level has no shared gate.

    Args:
        inputs, tasks, backbone, units, activation, gate_bias, backbone_options, encoder, name: as
            in `mmoe`.
        levels: int >= 1. Extraction layers, one behind the other. Defaults to 2.
        task_experts: int >= 1. Experts of each task at each level. Defaults to 2.
        shared_experts: int >= 1. Experts beside them at each level. Defaults to 2.

    Returns:
        `MultiTaskModel`. With T tasks, m own and s shared experts, a level on features of size d
        has `(T m + s)(d + 1) units` parameters in experts, `T d (m + s)` in the tasks' gates, and,
        but for the last level, `d (T m + s)` in the shared gate.

    Raises:
        ValueError: no levels or experts; what `mmoe` refuses.

    Examples:
        >>> model = mtl.builders.ple((100,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")], levels=2)

    Reference:
        Tang, Liu, Zhao, Gong, RecSys 2020.
    """
    base, features = _start(inputs, tasks, backbone, **shared)
    units = one_size("units", units, base.name, _DEEPER)
    for argument, value in (
        ("levels", levels),
        ("task_experts", task_experts),
        ("shared_experts", shared_experts),
    ):
        if value < 1:
            raise ValueError(f"Builder '{base.name}' needs {argument} >= 1, got {value}.")
    streams = dict.fromkeys(base.names, features)
    shared_stream = features
    for level in range(1, levels + 1):
        part = f"{base.name}_level{level}"
        outputs = {
            task: Experts(task_experts, units, activation, name=f"{part}_{task}_experts")(x)
            for task, x in streams.items()
        }
        shared_outputs = Experts(shared_experts, units, activation, name=f"{part}_experts")(
            shared_stream
        )
        # The tasks' gates
        mixtures = {}
        for task, x in streams.items():
            gate = Gate(task_experts + shared_experts, gate_bias, name=f"{part}_{task}_gate")(x)
            both = keras.layers.Concatenate(name=f"{part}_{task}_seen")(
                [outputs[task], shared_outputs]
            )
            mixtures[task] = Mixture(name=f"{part}_{task}_mixture")([both, gate])
        # The shared gate
        if level < levels:
            count = task_experts * len(base.tasks) + shared_experts
            gate = Gate(count, gate_bias, name=f"{part}_gate")(shared_stream)
            everything = keras.layers.Concatenate(name=f"{part}_seen")(
                [*outputs.values(), shared_outputs]
            )
            shared_stream = Mixture(name=f"{part}_mixture")([everything, gate])
        streams = mixtures
    return _finish(base, streams, [units] * levels, activation)


def _start(
    inputs: Any, tasks: Sequence[Task], backbone: Any, **shared: Unpack[SharedArguments]
) -> tuple[Base, Any]:
    """The beginning, and what the experts see: the backbone's deepest stage, or the input
    itself."""
    is_suggested = isinstance(inputs, Inputs) and inputs.backbone is not None
    if backbone is not None or is_suggested or not _is_vector(inputs):
        base = start(inputs, tasks, backbone, **shared)
        return base, base.stages[base.deepest]
    backbone_options = shared.get("backbone_options")
    if backbone_options:
        raise ValueError(
            f"Builder '{shared['name']}': `backbone_options` should be left out where the experts "
            f"see the "
            f"input itself, without a backbone. Received: {dict(backbone_options)}. Give a "
            f"backbone, for "
            "example 'mlp'."
        )
    tensor = make_inputs(inputs, None)
    base = start(tensor, tasks, keras.Model(tensor, {"stage1": tensor}), **shared)
    return base, base.stages[base.deepest]


def _is_vector(inputs: Any) -> bool:
    """Whether an input is one vector of numbers: a shape of one size, or an input of that shape."""
    if isinstance(inputs, Mapping):
        if len(inputs) != 1 or next(iter(inputs)) in ("tokens", "categorical", "waveform"):
            return False
        inputs = next(iter(inputs.values()))
    if isinstance(inputs, keras.KerasTensor):
        return len(inputs.shape) == 2 and inputs.dtype.startswith("float")
    return isinstance(inputs, int) or (isinstance(inputs, (tuple, list)) and len(inputs) == 1)


def _finish(
    base: Base, mixtures: Mapping[str, Any], widths: Sequence[int], activation: Any
) -> MultiTaskModel:
    """The heads, each on its task's mixture in the place of the deepest stage."""
    features = {task: {**base.stages, base.deepest: x} for task, x in mixtures.items()}
    sees_input = base.stages[base.deepest] is base.inputs
    return finish(
        base,
        features,
        representation=() if sees_input else base.representation,
        separate=_one_expert(base, widths, activation) if sees_input else True,
    )


def _one_expert(base: Base, widths: Sequence[int], activation: Any) -> keras.Model:
    """The trunk of a separate network where the experts stand in the backbone's place: one expert
    at every level."""
    x = base.inputs
    for width in widths:
        x = keras.layers.Dense(width, activation=activation, kernel_initializer="zeros")(x)
    return keras.Model(base.inputs, {"stage1": x})
