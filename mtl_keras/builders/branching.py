"""A network that learns where tasks part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import finish, start
from mtl_keras.builders.copies import copy_values
from mtl_keras.builders.streams import build_parallel_streams, find_bypassed_stages
from mtl_keras.graph import layer_of, nodes, output_index
from mtl_keras.layers import BranchChoice, BranchPath
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task, TaskOutput

__all__ = ["branches", "count_copies", "learned_branching", "prune"]


@builder
def learned_branching(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    branches: int | None = None,
    temperature: float = 5.0,
    temperature_decay: float = 0.999,
    min_temperature: float = 0.1,
    warmup_steps: int = 0,
    seed: int | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Several copies of every stage; each copy learns which copy of the stage before it follows,
    each task which copy of the last it ends on.

    Choices are samples of the Gumbel-softmax while training, and the most probable parent at
    inference: nothing is random there. The model goes on to hold and to compute all copies.
    `mtl.builders.branches(model)` shows the tree that was learned, and `mtl.builders.prune(model)`
    gives it as a network of its own, to train further. `mtl.export` writes the tree alone. Heads
    see the stages on their own path.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        branches: int >= 1. Copies of every stage. Defaults to the number of tasks.
        temperature, temperature_decay, min_temperature: floats. The samples' temperature starts at
            the first, and falls by the second as a factor per step, down to the third. Default to
            5, 0.999, 0.1.
        warmup_steps: int. Steps during which all parents count alike, so that copies learn
            something before they are chosen. Defaults to 0.
        seed: int or None. Of the samples.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: settings out of range; a backbone in which learned features go around a stage
            (the states of recurrent layers, parallel branches, the pyramid `fpn`); what
            `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.learned_branching((32, 32, 3), [mtl.tasks.Binary("cat"), mtl.tasks.Binary("dog")])
        >>> mtl.builders.branches(model)["cat"]
        ['stage1 0', 'stage2 0', 'stage3 0']

    Reference:
        Guo, Lee, Ulbricht, "Learning to Branch for Multi-Task Learning", ICML 2020.
    """
    base = start(inputs, tasks, backbone, **shared)
    count = len(base.tasks) if branches is None else int(branches)
    if count < 1:
        raise ValueError(f"Builder '{base.name}' needs at least one branch, got {branches}.")
    around = find_bypassed_stages(base.trunk)
    if around:
        raise ValueError(
            f"Builder '{base.name}' chooses what each stage goes on with, and in this backbone "
            f"something goes around "
            f"{', '.join(around)} (states of a recurrent layer, a parallel branch, or a pyramid, "
            f"whose stages are outputs "
            "only). Take a backbone whose stages follow each other, for example small_cnn, "
            "resnet, text_cnn, transformer or "
            "mlp."
        )
    settings: dict[str, Any] = {
        "temperature": temperature,
        "temperature_decay": temperature_decay,
        "min_temperature": min_temperature,
        "warmup_steps": warmup_steps,
    }
    copies: dict[str, list[Any]] = {}
    shares: list[Any] = []

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        copies[stage] = tensors
        children = len(base.tasks) if stage == base.deepest else count
        own_seed = None if seed is None else seed + len(copies)
        *chosen, share = BranchChoice(
            children, stage=stage, seed=own_seed, name=f"{base.name}_{stage}", **settings
        )(tensors)
        shares.append(share)
        if stage != base.deepest:
            return chosen
        ends.update(zip(base.names, chosen, strict=True))
        return tensors

    ends: dict[str, Any] = {}
    suffixes = [f"branch{i}" for i in range(count)]
    build_parallel_streams(base.trunk, suffixes, at_stage=at_stage, copy_weights=base.pretrained)
    features: dict[str, dict[str, Any]] = {task: {} for task in base.names}
    for level, stage in enumerate(list(base.stages)[:-1]):
        # Decoders of maps also look at earlier stages: at the copies on their task's path.
        path = BranchPath(name=f"{base.name}_{stage}_path")([shares[level:][::-1], copies[stage]])
        for task, x in zip(base.names, path, strict=True):
            features[task][stage] = x
    for task in base.names:
        features[task][base.deepest] = ends[task]
    return finish(base, features)


def branches(model: MultiTaskModel) -> dict[str, list[str]]:
    """By task, the copies of each stage that its head follows at inference, from the first stage to
    the deepest.

    Raises:
        ValueError: a model that `learned_branching` did not build.
    """
    parents = _parents(model)
    paths = {}
    for i, task in enumerate(model.task_names):
        path, child = [], i
        for layer, chosen in reversed(parents.items()):
            child = chosen[child]
            path.append(f"{layer.stage} {child}")
        paths[task] = path[::-1]
    return paths


def count_copies(model: keras.Model) -> tuple[int, int] | None:
    """How many copies of stages heads follow at inference, and how many the model holds.

    Returns:
        `(used, total)`, or None for a model without choices: of another builder, or pruned already.
    """
    if not any(isinstance(layer, BranchChoice) for layer in model.layers):
        return None
    used = total = 0
    copies: set[int] | None = None
    for layer, chosen in reversed(_parents(model).items()):
        copies = set(chosen) if copies is None else {chosen[child] for child in copies}
        used += len(copies)
        total += layer.parents
    return used, total


def prune(model: MultiTaskModel) -> MultiTaskModel:
    """The tree that `learned_branching` has learned, without the copies that no task follows.

    It answers as the model does at inference. Its layers are copies, with the model's weights and
    names; training one does not change the other. Copies that several tasks follow are there once,
    so that the tree costs between one network and a network for each task.

    Args:
        model: model of `learned_branching`, trained or loaded.

    Returns:
        `MultiTaskModel`, not compiled: an optimizer's state belongs to the variables of the model
        that was trained.

    Raises:
        ValueError: a model that `learned_branching` did not build.

    Examples:
        >>> tasks = [mtl.tasks.Classification("digit", num_classes=10), mtl.tasks.BoundingBox("box")]
        >>> model = mtl.builders.learned_branching((32, 32, 3), tasks)
        >>> model.compile("adam")
        >>> model.fit(images, {"digit": digits, "box": boxes})
        >>> tree = mtl.builders.prune(model)
        >>> tree.compile("adam")

    Note:
        Exports prune by themselves: their files hold the tree.
    """
    choices = _Choices(model)
    needed = choices.needed_nodes()
    tensors = {id(tensor): tensor for tensor in model.inputs}
    copies: dict[int, Any] = {}
    for node in nodes(model):
        if id(node) not in needed:
            continue
        layer = node.operation
        is_layer = isinstance(layer, keras.layers.Layer)
        if id(layer) not in copies:
            copies[id(layer)] = _copy_layer(layer) if is_layer else layer
        args, kwargs = node.arguments.fill_in(
            {id(x): tensors[id(choices.resolve(x))] for x in node.input_tensors}
        )
        outputs = keras.tree.flatten(copies[id(layer)](*args, **kwargs))
        if is_layer:
            copy_values(layer, copies[id(layer)])
        tensors.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})
    heads = {task: tensors[id(tensor)] for task, tensor in model.output.items()}
    if not isinstance(model, MultiTaskModel):
        return keras.Model(model.input, heads, name=model.name)
    return MultiTaskModel(model.input, heads, encoder=model.encoder, name=model.name)


class _Choices:
    """What a model of `learned_branching` has chosen, as a view on its graph."""

    def __init__(self, model: MultiTaskModel) -> None:
        self.model = model
        self.parents = _parents(model)
        self.node_behind = {id(tensor): node for node in nodes(model) for tensor in node.outputs}

    def resolve(self, tensor: Any) -> Any:
        """What stands for a tensor once nothing is left to choose."""
        while id(tensor) in self.node_behind:
            node = self.node_behind[id(tensor)]
            index = output_index(tensor)
            if isinstance(node.operation, BranchChoice):
                tensor = node.input_tensors[self.parents[node.operation][index]]
            elif isinstance(node.operation, BranchPath):
                shares, copies = node.arguments.args[0]
                for share in shares:
                    index = self.parents[layer_of(share)][index]
                tensor = copies[index]
            else:
                break
        return tensor

    def needed_nodes(self) -> set[int]:
        """Ids of the calls that the model's outputs need."""
        needed: set[int] = set()
        waiting = list(self.model.output.values())
        while waiting:
            node = self.node_behind.get(id(self.resolve(waiting.pop())))
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                waiting += node.input_tensors
        return needed


def _copy_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, TaskOutput):
        # The task itself: a loss that is nobody's registered object does not come back from a
        # config.
        return TaskOutput(
            layer.task, tie=layer.tie, activated=layer.activated, separate=layer.separate
        )
    return type(layer).from_config(layer.get_config())


def _parents(model: MultiTaskModel) -> dict[BranchChoice, list[int]]:
    """By choice, from the first stage to the deepest, the parent that each of its children follows
    at inference.

    Raises:
        ValueError: a model without choices.
    """
    choices = [layer for layer in model.layers if isinstance(layer, BranchChoice)]
    if not choices:
        raise ValueError(
            f"Model '{model.name}' has no branches to show; `learned_branching` builds such models."
        )
    return {
        layer: [int(np.argmax(keras.ops.convert_to_numpy(row))) for row in layer.logits]
        for layer in choices
    }
