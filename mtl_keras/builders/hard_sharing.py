"""Hard parameter sharing: one trunk, left by all tasks at its end, or by each at its own stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import finish, resolve_task_stages, start
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["hard_sharing", "layerwise"]


@builder
def hard_sharing(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """One trunk for all tasks and a head for each (Caruana, "Multitask Learning: A Knowledge-Based
    Source of Inductive Bias", ICML 1993).

    Args:
        inputs: shape of one row, for example `(32, 32, 3)`; a `keras.Input`; or a dict of these by
            name. Where the backbone is a model with inputs of its own: None, or the sizes that
            those leave open.
        tasks: list of `Task`.
        backbone: name (`mtl.backbones`), function of the symbolic inputs, or any `keras.Model`
            (functional, `Sequential`, built or not, or a subclass): its outputs, a tensor or a list
            or dict of stages, are what the heads see. A model given here is used itself, with its
            weights, not copied. None takes the default of the kind of input: "small_cnn" for
            images, "mlp" for tables, "text_cnn" for an input named `tokens`, "log_mel_cnn" for one
            named `waveform`, "frame_cnn" for video.
        backbone_options: dict. Arguments of the backbone's function.
        encoder: object of `mtl.data` that makes this network's input from what a person has; saved
            with the model.
        name: str. The model's name.

    Returns:
        `MultiTaskModel` with one output a task, named like it.

    Raises:
        ValueError: duplicate or invalid task names, an unknown backbone, a task whose name is that
            of a backbone's layer, features that a head can't use.

    Examples:
        >>> model = mtl.builders.hard_sharing(
        ...     inputs=(32, 32, 3), backbone="small_cnn",
        ...     tasks=[mtl.tasks.Classification("digit", num_classes=10, loss_weight=0.7),
        ...            mtl.tasks.BoundingBox("box", loss_weight=0.3)])
        >>> sorted(model.output)
        ['box', 'digit']
    """
    base = start(inputs, tasks, backbone, **shared)
    features = dict.fromkeys(base.names, base.stages)
    return finish(
        base,
        features,
        representation=base.representation,
        separate=False,
    )


@builder
def layerwise(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    task_stages: Mapping[str, str],
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """One trunk that each task leaves at a stage of its own: its head sees that stage and those
    before it.

    A task that needs little depth costs little, and does not shape the layers behind its stage.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        task_stages: dict of task name to the stage after which it leaves. Tasks that are not named
            go to the deepest.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a task or stage that does not exist; a backbone with one stage; what
            `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.layerwise((32, 32, 3), [mtl.tasks.Binary("edge"), mtl.tasks.Binary("cat")],
        ...     task_stages={"edge": "stage1"})

    Reference:
        Shared layers that end at different depths: Sogaard & Goldberg, "Deep multi-task learning
            with low level tasks
        supervised at lower layers", ACL 2016; Ruder, "An Overview of Multi-Task Learning in Deep
        Neural Networks", 2017.
    """
    base = start(inputs, tasks, backbone, **shared)
    stages, stage_of = base.stages, resolve_task_stages(base, task_stages)
    order = list(stages)
    features = {
        task: {s: stages[s] for s in order[: order.index(stage) + 1]}
        for task, stage in stage_of.items()
    }
    return finish(base, features, representation=base.representation)
