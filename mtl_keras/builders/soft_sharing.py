"""Soft sharing: a network per task, tied by a penalty or by layers between their stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import finish, match_shape, start
from mtl_keras.builders.streams import build_parallel_streams
from mtl_keras.layers import (
    BlockIdentity,
    CrossStitch,
    MutualInformation,
    StageMixture,
    SubspaceStitch,
    WeightTie,
)
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

if TYPE_CHECKING:
    from mtl_keras.builders.common import Base
    from mtl_keras.builders.streams import AtStage

__all__ = ["cross_stitch", "nddr", "sluice", "soft_sharing"]


@builder
def soft_sharing(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    penalty: str = "l2",
    penalty_weight: float = 0.01,
    split_after: str | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A network per task, pulled together by a penalty on corresponding layers.

    With `penalty_weight=0` the networks are independent; as it grows they become alike. No variable
    is shared unless `split_after` keeps the first stages in common, so balancers that compare
    gradients have nothing to look at without it.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`. A backbone
            given as a model, or with pretrained weights, is copied with its weights.
        penalty: "l2" (squared distance between weights, a mean over pairs), "trace" (nuclear norm
            of the stacked weights), "pairwise_trace" (nuclear norm of each pair's difference), or
            "mutual_information" (one minus the squared correlation of corresponding channels at
            each stage). Defaults to "l2".
        penalty_weight: float >= 0. Factor of the penalty. Defaults to 0.01. For T tasks a published
            lambda on the sum over pairs of squared distances is `penalty_weight = lambda T (T - 1)
            / 2`; see `mtl.layers.WeightTie` for the other forms.
        split_after: str or None. Stage up to which all tasks use one network.

    Returns:
        `MultiTaskModel`; its layers have the backbone's names with `_<task>`.

    Raises:
        ValueError: an unknown penalty or stage, a negative weight; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.soft_sharing((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")],
        ...     penalty="trace", penalty_weight=1e-3)

    References:
        Duong, Cohn, Bird, Cook, ACL 2015 (l2); Yang & Hospedales, ICLR workshop 2017 (trace norm).
        The mutual-information penalty follows from the Gaussian formula in
        `mtl.layers.MutualInformation`.
    """
    known = (*WeightTie.KINDS, "mutual_information")
    if penalty not in known:
        raise ValueError(f"Unknown penalty {penalty!r}. Known: {', '.join(known)}.")
    base = start(inputs, tasks, backbone, **shared)
    if not penalty_weight >= 0:
        raise ValueError(f"`penalty_weight` must be >= 0, got {penalty_weight}.")
    tie, at_stage = None, None
    if penalty == "mutual_information":

        def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
            return _between(MutualInformation(penalty_weight, name=f"{base.name}_{stage}"), tensors)

    streams = _streams(base, split_after, at_stage)
    if penalty in WeightTie.KINDS:
        graph = keras.Model(
            base.inputs,
            {f"{t}_{s}": x for t, f in zip(base.names, streams, strict=True) for s, x in f.items()},
        )
        trained = {layer.name for layer in graph.layers if layer.trainable_variables}
        groups = [[f"{layer.name}_{task}" for task in base.names] for layer in base.trunk.layers]
        tie = WeightTie(
            penalty, penalty_weight, [group for group in groups if trained.issuperset(group)]
        )
    # Not one representation: each task has its own.
    return finish(base, _by_task(base, streams), tie=tie)


@builder
def cross_stitch(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    self_weight: float = 0.9,
    per_channel: bool = True,
    split_after: str | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A network per task, joined after every stage by learned linear mixtures of their features.

    Args:
        inputs, tasks, backbone, split_after, backbone_options, encoder, name: as in `soft_sharing`.
        self_weight: float. Factor with which each network starts on its own features; the rest of 1
            is spread over the others. 1 starts as independent networks. Defaults to 0.9.
        per_channel: bool. A factor a channel, as in the paper's best setting. Defaults to True.

    Returns:
        `MultiTaskModel`. Beyond the networks it has `tasks^2` factors a channel (or a stage) at
        every stage.

    Raises:
        ValueError: streams of different shapes, an unknown stage; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.cross_stitch((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")])

    Note:
        The paper starts from trained single-task networks and gives the factors a learning rate 100
        to 1000 times larger. Here all learn at one rate; give a trained backbone as a `keras.Model`
        to start from its weights.

    Reference:
        Misra, Shrivastava, Gupta, Hebert, "Cross-stitch Networks for Multi-task Learning", CVPR
        2016.
    """
    base = start(inputs, tasks, backbone, **shared)

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        return _between(CrossStitch(self_weight, per_channel, name=f"{base.name}_{stage}"), tensors)

    streams = _streams(base, split_after, at_stage)
    return finish(base, _by_task(base, streams))


@builder
def sluice(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    subspaces: int = 2,
    self_weight: float = 0.9,
    penalty_weight: float = 0.01,
    split_after: str | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A network per task, joined after every stage by mixtures of subspaces, with a mixture of all
    stages for each head.

    In place of the deepest stage a head sees the sum of all stages, each brought to the deepest
    one's shape (mean over places, then a linear layer) and weighed by a learned factor that starts
    at 0.9 for the deepest.

    Args:
        inputs, tasks, backbone, split_after, backbone_options, encoder, name: as in `soft_sharing`.
        subspaces: int >= 1. Into how many parts each stage's channels are cut; it must divide them.
            Defaults to 2.
        self_weight: float. Starting factor of a subspace for itself. Defaults to 0.9.
        penalty_weight: float >= 0. Factor of the penalty that keeps a network's subspaces apart.
            Defaults to 0.01.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a number of subspaces that does not divide the channels; what `cross_stitch`
            refuses.

    Examples:
        >>> model = mtl.builders.sluice((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")], subspaces=2)

    Note:
        In the paper all layers have one shape, so that stages are added as they are, and the
        penalty is on weights.

    Reference:
        Ruder, Bingel, Augenstein, Sogaard, "Latent Multi-task Architecture Learning", AAAI 2019.
    """
    base = start(inputs, tasks, backbone, **shared)

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        return _between(
            SubspaceStitch(subspaces, self_weight, penalty_weight, name=f"{base.name}_{stage}"),
            tensors,
        )

    streams = _streams(base, split_after, at_stage)
    for task, stream in zip(base.names, streams, strict=True):
        stream[base.deepest] = _all_stages(stream, f"{base.name}_{task}")
    return finish(base, _by_task(base, streams))


@builder
def nddr(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    self_weight: float = 0.9,
    normalize: bool = True,
    split_after: str | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A network per task; after every stage each goes on with all networks' features, side by side
    and reduced by a learned linear layer (1 x 1 convolution) and batch normalization.

    Args:
        inputs, tasks, backbone, split_after, backbone_options, encoder, name: as in `soft_sharing`.
        self_weight: float. Each reduction starts as this factor times its own features plus an even
            share of the others'. 1 starts as independent networks. Defaults to 0.9.
        normalize: bool. Batch normalization after the reduction. Defaults to True.

    Returns:
        `MultiTaskModel`. Beyond the networks it has `tasks^2 channels^2 + tasks channels`
        parameters a stage, and four a channel and task with normalization.

    Raises:
        ValueError: as `cross_stitch`.

    Examples:
        >>> model = mtl.builders.nddr((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")])

    Reference:
        Gao, Ma, Zhao, Liu, Yuille, "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural
        Discriminative Dimensionality Reduction", CVPR 2019.
    """
    base = start(inputs, tasks, backbone, **shared)
    count = len(base.tasks)

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        if all(x is tensors[0] for x in tensors):
            return tensors
        features = keras.layers.Concatenate(name=f"{base.name}_{stage}")(tensors)
        reduced = []
        for i, (task, x) in enumerate(zip(base.names, tensors, strict=True)):
            part = f"{base.name}_{stage}_{task}"
            kernel = BlockIdentity(i, count, self_weight)
            if len(x.shape) == 4:
                y = keras.layers.Conv2D(x.shape[-1], 1, kernel_initializer=kernel, name=part)(
                    features
                )
            else:
                y = keras.layers.Dense(x.shape[-1], kernel_initializer=kernel, name=part)(features)
            if normalize:
                y = keras.layers.BatchNormalization(
                    momentum=0.95, epsilon=1e-5, name=f"{part}_norm"
                )(y)
            reduced.append(y)
        return reduced

    streams = _streams(base, split_after, at_stage)
    return finish(base, _by_task(base, streams))


def _streams(base: Base, split_after: str | None, at_stage: AtStage | None) -> list[dict[str, Any]]:
    return build_parallel_streams(
        base.trunk,
        base.names,
        copy_weights=base.pretrained,
        split_after=split_after,
        at_stage=at_stage,
    )


def _between(layer: Any, tensors: list[Any]) -> list[Any]:
    """The layer on the streams, unless they are still one."""
    return tensors if all(x is tensors[0] for x in tensors) else layer(tensors)


def _by_task(base: Base, streams: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return dict(zip(base.names, streams, strict=True))


def _all_stages(stages: Mapping[str, Any], name: str) -> Any:
    """The deepest stage and all others in its shape, weighed."""
    items = list(stages.items())
    deepest = items[-1][1]
    parts = [match_shape(x, deepest, f"{name}_{stage}") for stage, x in items[:-1]] + [deepest]
    return StageMixture(name=f"{name}_stages")(parts)
