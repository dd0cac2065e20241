"""A network that learns where tasks part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.builders.common import finish, start
from mtl_keras.builders.streams import bypassed, lockstep
from mtl_keras.layers import BranchChoice, BranchPath
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["branches", "learned_branching"]


def learned_branching(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable | keras.Model = "small_cnn",
    *,
    branches: int | None = None,
    temperature: float = 5.0,
    decay: float = 0.999,
    lowest: float = 0.1,
    warm_up: int = 0,
    seed: int | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    encoder: Any = None,
    name: str = "learned_branching",
) -> MultiTaskModel:
    """Several copies of every stage; each copy learns which copy of the stage before it follows, each task which copy of the
    last it ends on. What is left at inference is a tree, or a forest.

    Choices are samples of the Gumbel-softmax while training, and the most probable parent at inference: nothing is random
    there. `mtl.builders.branches(model)` shows the tree. Heads see the stages on their own path.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        branches: int >= 1. Copies of every stage. Defaults to the number of tasks.
        temperature, decay, lowest: floats. The samples' temperature starts here, and falls by this factor a step down to the
            lowest. Default to 5, 0.999, 0.1.
        warm_up: int. Steps during which all parents count alike, so that copies learn something before they are chosen.
        seed: int or None. Of the samples.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: settings out of range; a backbone with ways around its stages; what `hard_sharing` refuses.

    Example:
        >>> model = mtl.builders.learned_branching((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")])
        >>> mtl.builders.branches(model)["cat"]
        ['stage1 0', 'stage2 0', 'stage3 0']

    Reference:
        Guo, Lee, Ulbricht, "Learning to Branch for Multi-Task Learning", ICML 2020.
    """
    base = start(inputs, tasks, backbone, backbone_options)
    count = len(base.tasks) if branches is None else int(branches)
    if count < 1:
        raise ValueError(f"Builder '{name}' needs at least one branch, got {branches}.")
    around = bypassed(base.trunk)
    if around:
        raise ValueError(
            f"Builder '{name}' chooses what each stage goes on with, and in this backbone something goes around "
            f"{', '.join(around)} (states of a recurrent layer, a parallel branch). Take a backbone whose stages follow each "
            "other, for example small_cnn, resnet, text_cnn, transformer or mlp."
        )
    settings = {"temperature": temperature, "decay": decay, "lowest": lowest, "warm_up": warm_up}
    copies: dict[str, list[Any]] = {}
    shares: list[Any] = []

    def at_stage(stage, tensors):
        copies[stage] = tensors
        children = len(base.tasks) if stage == base.deepest else count
        own_seed = None if seed is None else seed + len(copies)
        *chosen, share = BranchChoice(children, stage=stage, seed=own_seed, name=f"{name}_{stage}", **settings)(tensors)
        shares.append(share)
        if stage != base.deepest:
            return chosen
        ends.update(zip(base.names, chosen, strict=True))
        return tensors

    ends: dict[str, Any] = {}
    suffixes = [f"branch{i}" for i in range(count)]
    lockstep(base.trunk, suffixes, at_stage=at_stage, copy_weights=base.pretrained)
    features: dict[str, dict[str, Any]] = {task: {} for task in base.names}
    for level, stage in enumerate(list(base.stages)[:-1]):
        # Decoders of maps also look at earlier stages: at the copies on their task's path.
        path = BranchPath(name=f"{name}_{stage}_path")([shares[:level:-1], copies[stage]])
        for task, x in zip(base.names, path, strict=True):
            features[task][stage] = x
    for task in base.names:
        features[task][base.deepest] = ends[task]
    return finish(base, features, name=name, encoder=encoder)


def branches(model: MultiTaskModel) -> dict[str, list[str]]:
    """By task, the copies of each stage that its head follows at inference, from the first stage to the deepest.

    Raises:
        ValueError: a model that `learned_branching` did not build.
    """
    choices = [layer for layer in model.layers if isinstance(layer, BranchChoice)]
    if not choices:
        raise ValueError(f"Model '{model.name}' has no branches to show; `learned_branching` builds such models.")
    parents = [[int(np.argmax(row.numpy())) for row in layer.logits] for layer in choices]
    found = {}
    for i, task in enumerate(model.task_names):
        path, child = [], i
        for layer, chosen in zip(reversed(choices), reversed(parents), strict=True):
            child = chosen[child]
            path.append(f"{layer.stage} {child}")
        found[task] = path[::-1]
    return found
