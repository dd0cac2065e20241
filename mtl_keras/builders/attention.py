"""Attention and gates: task-specific masks on a shared trunk, and features that tasks take from
each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import (
    Base,
    check_stage,
    finish,
    match_shape,
    one_size,
    repeat_like,
    start,
)
from mtl_keras.builders.streams import build_parallel_streams
from mtl_keras.graph import layer_of, nodes
from mtl_keras.layers import FiLM, MaskPadding
from mtl_keras.layers.resized import has_size_of, resize_like
from mtl_keras.layers.sequences import mask_of
from mtl_keras.model import MultiTaskModel
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task

__all__ = ["adapters", "mtan", "task_gated"]

_ADAPTERS = ("residual", "film")


@builder
def mtan(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A shared trunk, and for each task and stage a soft mask over the trunk's features.

    At stage j: `mask = sigmoid(BN(W2 relu(BN(W1 [u_j; f(attended_(j-1))]))))`, `attended_j = mask *
        p_j`; `p_j` are the
    stage's features, `u_j` those of its first activation that has their shape, and `f` a 3 x 3
    convolution (a dense layer for vectors) with batch normalization and ReLU, and a resize to the
    stage's places.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel`; each head sees its attended stages.

    Raises:
        ValueError: what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.mtan((32, 32, 3), [mtl.tasks.Segmentation("mask"), mtl.tasks.Binary("cat")])

    Reference:
        Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019. There `f`
        pools by 2 where a stage halves the size; resizing also serves stages of other ratios.
    """
    base = start(inputs, tasks, backbone, **shared)
    first = _first_activations(base)
    features: dict[str, dict[str, Any]] = {}
    for task in base.names:
        attended: dict[str, Any] = {}
        before = None
        for stage, p in base.stages.items():
            part, width = f"{base.name}_{stage}_{task}", p.shape[-1]
            x = first[stage]
            if before is not None:
                passed = _block(before, width, 3, f"{part}_f")
                passed = passed if has_size_of(passed, p) else match_shape(passed, p, f"{part}_f")
                x = layers.Concatenate(name=f"{part}_join")([x, passed])
            x = _block(x, width, 1, f"{part}_a")
            x = _linear(x, width, 1, f"{part}_b")
            x = layers.BatchNormalization(momentum=0.95, name=f"{part}_b_norm")(x)
            mask = layers.Activation("sigmoid", name=f"{part}_mask")(x)
            before = attended[stage] = layers.Multiply(name=part)([mask, p])
        features[task] = attended
    ends = {*base.representation, *(layer_of(x).name for x in first.values())}
    return finish(base, features, representation=sorted(ends))


@builder
def task_gated(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    channels: int = 32,
    stages: Sequence[str] | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Relations between tasks as attention between their features: each task takes from the others
    what its gate lets in.

    At a stage: features of task k, `F_k = relu(BN(conv(stage)))`, and `G_k = sigmoid(conv(F_k))`;
        what its head sees is
    `F_k + G_k * sum_(j != k) conv_j(F_j)`. With several stages the deeper one's result goes up: it
    is resized and laid beside the stage before `F_k` is made.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        channels: int. Channels of the tasks' features. Defaults to 32.
        stages: list of str. Where tasks meet; one stage as in PAD-Net, several as in MTI-Net.
            Defaults to the deepest.

    Returns:
        `MultiTaskModel`; heads see their own features at these stages, the trunk's elsewhere.

    Raises:
        ValueError: an unknown stage, no channels; what `hard_sharing` refuses.

    Examples:
        >>> tasks = [mtl.tasks.Segmentation("parts", num_classes=5), mtl.tasks.Segmentation("outline")]
        >>> model = mtl.builders.task_gated((32, 32, 3), tasks, stages=["stage2", "stage3"])

    Note:
        PAD-Net and MTI-Net also supervise first predictions made from `F_k`; here the last heads
        alone are supervised.

    References:
        Xu, Ouyang, Wang, Sebe, "PAD-Net", CVPR 2018 (its attention-guided message passing);
        Vandenhende, Georgoulis, Van Gool, "MTI-Net", ECCV 2020 (several scales).
    """
    base = start(inputs, tasks, backbone, **shared)
    channels = one_size("channels", channels, base.name)
    chosen = [base.deepest] if stages is None else list(stages)
    for stage in chosen:
        check_stage(base.stages, stage, "`stages`")
    features = {task: dict(base.stages) for task in base.names}
    deeper: dict[str, Any] = {}
    for stage in [s for s in reversed(base.stages) if s in chosen]:
        x, own_features = base.stages[stage], {}
        for task in base.names:
            part, y = f"{base.name}_{stage}_{task}", x
            if task in deeper:
                y = layers.Concatenate(name=f"{part}_join")(
                    [x, _at_size_of(deeper[task], x, channels, f"{part}_up")]
                )
            own_features[task] = _block(y, channels, 3, f"{part}_own")
        messages = {
            task: _linear(own_features[task], channels, 3, f"{base.name}_{stage}_{task}_give")
            for task in base.names
        }
        for task in base.names:
            part, others = (
                f"{base.name}_{stage}_{task}",
                [messages[t] for t in base.names if t != task],
            )
            if others:
                gate = layers.Activation("sigmoid", name=f"{part}_gate")(
                    _linear(own_features[task], channels, 3, f"{part}_look")
                )
                message = (
                    layers.Add(name=f"{part}_others")(others) if len(others) > 1 else others[0]
                )
                passed = layers.Multiply(name=f"{part}_take")([gate, message])
                features[task][stage] = layers.Add(name=part)([own_features[task], passed])
            else:
                features[task][stage] = own_features[task]
            deeper[task] = features[task][stage]
    return finish(base, features, representation=base.representation)


@builder
def adapters(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    adapter: str = "residual",
    units: int = 16,
    stages: Sequence[str] | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """One trunk, whose features each task changes after every stage by a few parameters of its own.

    All start as hard sharing. The stages behind the first adapter run once a task, on the same
    weights: sharing is in parameters, not in computation, and batch normalization there sees the
    tasks' features in turn.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        adapter: "residual" (`x + W2 relu(W1 x)`, pointwise, W2 starting at 0) or "film" (a factor
            and an offset a channel).
        units: int >= 1. Width of the residual adapters' bottleneck. Defaults to 16.
        stages: list of str. After which stages adapters stand. Defaults to all.

    Returns:
        `MultiTaskModel`. A residual adapter has `(channels + 1) units + (units + 1) channels`
        parameters, FiLM `2 channels`.

    Raises:
        ValueError: an unknown adapter or stage; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.adapters((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")], adapter="film")

    References:
        Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS
        2017; Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019
        (bottleneck); Perez et al., AAAI 2018 (FiLM).
    """
    base = start(inputs, tasks, backbone, **shared)
    units = one_size("units", units, base.name)
    if adapter not in _ADAPTERS:
        raise ValueError(f"Builder '{base.name}': " + unknown_name("adapter", adapter, _ADAPTERS))
    for stage in stages or ():
        check_stage(base.stages, stage, "`stages`")

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        if stages is not None and stage not in stages:
            return tensors
        return [
            _adapter(adapter, units, x, f"{base.name}_{stage}_{t}")
            for t, x in zip(base.names, tensors, strict=True)
        ]

    streams = build_parallel_streams(base.trunk, base.names, copy_layers=False, at_stage=at_stage)
    return finish(base, dict(zip(base.names, streams, strict=True)))


def _adapter(adapter: str, units: int, x: Any, part: str) -> Any:
    if adapter == "film":
        return FiLM(name=part)(x)
    y = _linear(x, units, 1, f"{part}_down")
    y = layers.ReLU(name=f"{part}_relu")(y)
    zero = {"kernel_initializer": "zeros"}
    return layers.Add(name=part)([x, _linear(y, x.shape[-1], 1, f"{part}_up", **zero)])


def _linear(x: Any, width: int, kernel: int, name: str, **options: Any) -> Any:
    """A convolution over maps (and sequences, where the kernel is wider than 1), else a dense
    layer."""
    if len(x.shape) == 4:
        return layers.Conv2D(width, kernel, padding="same", name=name, **options)(x)
    if len(x.shape) == 3 and kernel > 1:
        return _sequence_convolution(x, width, kernel, name, **options)
    return layers.Dense(width, name=name, **options)(x)


def _sequence_convolution(x: Any, width: int, kernel: int, name: str, **options: Any) -> Any:
    """A convolution over a sequence, whose Keras mask holds behind it; at padding it reads zeros,
    as beyond the end."""
    mask = mask_of(x)
    convolution = layers.Conv1D(width, kernel, padding="same", name=name, **options)
    if mask is None:
        return convolution(x)
    x = MaskPadding(keras_mask=False, name=f"{name}_zeros")([x, mask])
    return MaskPadding(name=f"{name}_mask")([convolution(x), mask])


def _block(x: Any, width: int, kernel: int, name: str) -> Any:
    x = _linear(x, width, kernel, f"{name}_linear", use_bias=False)
    x = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _at_size_of(x: Any, target: Any, width: int, name: str) -> Any:
    """A deeper result at the places of an earlier stage."""
    if has_size_of(x, target):
        return x
    if len(target.shape) == 4 and len(x.shape) == 4:
        return resize_like(x, target, name=name)
    if len(target.shape) == 3 and len(x.shape) == 2:
        return repeat_like(x, target, name=name)
    return match_shape(x, target, name)


def _first_activations(base: Base) -> dict[str, Any]:
    """For each stage the first activation behind the stage before that has the stage's shape; else
    the stage itself."""
    activations: dict[str, Any] = {}
    waiting = iter(nodes(base.trunk))
    for stage, end in base.stages.items():
        last = layer_of(end)
        for node in waiting:
            tensor = node.outputs[0]
            is_activation = isinstance(node.operation, (layers.ReLU, layers.Activation))
            if is_activation and tuple(tensor.shape) == tuple(end.shape):
                activations.setdefault(stage, tensor)
            if node.operation is last:
                break
        activations.setdefault(stage, end)
    return activations
