"""Low-level tasks at low stages, and what they predict fed upward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import attach_head, finish, match_shape, resolve_task_stages, start
from mtl_keras.builders.streams import build_parallel_streams, is_continued
from mtl_keras.graph import layer_of
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["hierarchical"]


@builder
def hierarchical(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    task_stages: Mapping[str, str],
    feed_predictions: bool = True,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """One trunk; a low-level task is supervised at its stage, and the next stages see what it
    predicts.

    After a stage with tasks the trunk goes on with `features + sum_t W_t prediction_t`, places
    aligned (a map is resized to the stage, a vector is added everywhere). Followed by the next
    linear layer this is that layer on features and predictions side by side. Gradients of later
    tasks flow back through the predictions.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        task_stages: dict of task name to its stage. Tasks that are not named are at the deepest.
        feed_predictions: bool. False supervises low stages without feeding predictions upward
            (Sogaard & Goldberg). Defaults to True (JMT).

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a task or stage that does not exist; a backbone with one stage; with
            `feed_predictions`, a stage from which no other stage is computed (those of `fpn`); what
            `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.hierarchical((32, 32, 3), [mtl.tasks.Segmentation("edges"), mtl.tasks.Binary("cat")],
        ...     task_stages={"edges": "stage2"})

    References:
        Sogaard & Goldberg, "Deep multi-task learning with low level tasks supervised at lower
        layers", ACL 2016; Hashimoto, Xiong, Tsuruoka, Socher, "A Joint Many-Task Model", EMNLP
        2017. JMT's successive regularization, which needs training in turns, is not part of it.
    """
    base = start(inputs, tasks, backbone, **shared)
    stage_of = resolve_task_stages(base, task_stages)
    for task, stage in stage_of.items():
        if feed_predictions and stage != base.deepest and not is_continued(base.trunk, stage):
            raise ValueError(
                f"Builder '{base.name}' feeds what task '{task}' predicts at '{stage}' to the "
                f"stages behind it, and in this "
                f"backbone no other stage is computed from '{stage}': its stages are outputs "
                f"only, as those of the pyramid "
                "'fpn' are. Take a backbone whose stages follow each other, or give "
                "feed_predictions=False."
            )
    outputs: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    by_name = {task.name: task for task in base.tasks}

    def at_stage(stage: str, tensors: list[Any]) -> list[Any]:
        x = tensors[0]
        seen[stage] = x
        stage_tasks = [task for task, task_stage in stage_of.items() if task_stage == stage]
        for task in stage_tasks:
            outputs[task] = attach_head(by_name[task], seen, base.inputs)
        if not feed_predictions or stage == base.deepest:
            return tensors
        parts = [x]
        for task in stage_tasks:
            parts.append(match_shape(outputs[task], x, f"{base.name}_{task}"))
            if len(parts[-1].shape) == 2 and len(x.shape) == 3:
                parts[-1] = keras.layers.Reshape(
                    (1, x.shape[-1]), name=f"{base.name}_{task}_everywhere"
                )(parts[-1])
        return (
            tensors if len(parts) == 1 else [keras.layers.Add(name=f"{base.name}_{stage}")(parts)]
        )

    build_parallel_streams(base.trunk, ["trunk"], copy_layers=False, at_stage=at_stage)
    return finish(base, {}, outputs=outputs, representation=_layers(seen))


def _layers(seen: Mapping[str, Any]) -> list[str]:
    return [layer_of(tensor).name for tensor in seen.values()]
