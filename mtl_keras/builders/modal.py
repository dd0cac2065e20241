"""Several inputs: modalities of one thing, or a domain of its own for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from mtl_keras import backbones as known_backbones
from mtl_keras.builders.common import (
    attach_head,
    check_tasks,
    default_backbone,
    layer_sizes,
    make_backbone,
    one_size,
    stages_of,
)
from mtl_keras.builders.streams import lockstep
from mtl_keras.graph import has_graph
from mtl_keras.layers import ModalityAttention, ModalityDefault
from mtl_keras.model import MultiTaskModel
from mtl_keras.names import unknown_name
from mtl_keras.tasks import Task
from mtl_keras.tasks.task import vector

__all__ = ["complete_inputs", "cross_modal", "multi_input"]

_FUSIONS = ("early", "late", "attention")
_PRESENT = "_present"


def cross_modal(
    inputs: Mapping[str, Any],
    tasks: Sequence[Task],
    backbones: Mapping[str, Any],
    *,
    fusion: str = "early",
    units: int = 64,
    shared: int | Sequence[int] = (64,),
    optional: Sequence[str] = (),
    drop: float = 0.1,
    backbone_options: Mapping[str, Mapping[str, Any]] | None = None,
    encoder: Any = None,
    name: str = "cross_modal",
) -> MultiTaskModel:
    """Image, text, sound, table: an encoder each, fused, then layers that all tasks share, then the heads.

    Each modality's deepest features, as a vector, are brought to `units` by a linear layer with ReLU.

    - "early": the vectors side by side go through the shared layers.
    - "late": each vector goes through layers of its own, and the results are averaged just before the heads.
    - "attention": the vectors attend to each other, are averaged by learned attention, and go through the shared layers.

    Args:
        inputs: dict of modality to the shape of one row, a `keras.Input`, or (for tables) a dict of these by name.
        tasks: list of `Task`, whose heads take vectors.
        backbones: dict of modality to a backbone's name, function or model.
        fusion: "early", "late" or "attention".
        units: int >= 1.
        shared: int, or list of int. Widths of the shared layers.
        optional: modalities that a row may lack. Each brings an input more, `<modality>_present`, shape `(rows, 1)`: 1 where
            the modality is there, 0 where a learned vector takes its place (what stands in the input then has no effect).
            `mtl.builders.complete_inputs(model, x)` fills in what a batch lacks.
        drop: float. Part of the rows that lack an optional modality while training. Defaults to 0.1.
        backbone_options: dict of modality to its backbone's arguments.
        encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a modality without a backbone, an unknown fusion or modality, names of layers that collide.

    Example:
        >>> model = mtl.builders.cross_modal(
        ...     {"photo": (32, 32, 3), "title": (20,)}, [mtl.tasks.Binary("sold"), mtl.tasks.Regression("price")],
        ...     backbones={"photo": "small_cnn", "title": "bilstm"}, optional=["photo"],
        ...     backbone_options={"title": {"vocabulary_size": 1000}})

    References:
        Ngiam et al., "Multimodal Deep Learning", ICML 2011 (early and late fusion); Neverova, Wolf, Taylor, Nebout,
        "ModDrop", TPAMI 2016 (dropping modalities while training).
    """
    tasks = check_tasks(tasks)
    if fusion not in _FUSIONS:
        raise ValueError(f"Unknown fusion {fusion!r}. Known: {', '.join(_FUSIONS)}.")
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError("`inputs` is a dict of modality to shape.")
    units, shared = one_size("units", units, name), layer_sizes("shared", shared, name)
    for given, what in (
        (backbones, "backbones"),
        (optional, "optional"),
        (backbone_options or {}, "backbone_options"),
    ):
        for modality in given:
            if modality not in inputs:
                raise ValueError(unknown_name(f"modality in `{what}`:", modality, list(inputs)))
    for modality in inputs:
        if modality not in backbones:
            raise ValueError(f"Modality '{modality}' has no backbone. Give one in `backbones`.")
    made: dict[str, Any] = {}
    vectors = []
    for modality, shape in inputs.items():
        options = dict((backbone_options or {}).get(modality, {}))
        own, model = _encoder(modality, shape, backbones[modality], options)
        for tensor in keras.tree.flatten(own):
            made[tensor.name] = tensor
        x = vector(stages_of(model), f"{name}_{modality}")
        x = layers.Dense(units, activation="relu", name=f"{name}_{modality}_vector")(x)
        if modality in optional:
            flag = keras.Input((1,), name=f"{modality}{_PRESENT}")
            made[flag.name] = flag
            x = ModalityDefault(drop, name=f"{name}_{modality}_default")([x, flag])
        vectors.append((modality, x))
    fused = _fuse(vectors, fusion, shared, name)
    taken = {layer.name for layer in keras.Model(made, fused).layers}
    for task in tasks:
        if task.name in taken:
            raise ValueError(
                f"Task '{task.name}' has the name of an input or a layer. Rename the task."
            )
    outputs = {task.name: attach_head(task, {"stage1": fused}, made) for task in tasks}
    representation = [fused._keras_history.operation.name]
    inputs = made if len(made) > 1 else next(iter(made.values()))
    return MultiTaskModel(
        inputs, outputs, encoder=encoder, representation=representation, name=name
    )


def complete_inputs(model: keras.Model, x: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of a `cross_modal` model, with zeros for optional modalities that are not given and flags for all.

    Args:
        model: model with inputs `<modality>_present`.
        x: dict of input name to array. Flags that are given are kept.

    Raises:
        ValueError: an input that is not optional is missing, or is unknown.

    Example:
        >>> model.predict(mtl.builders.complete_inputs(model, {"title": tokens}))  # the photo is missing
    """
    specs = {tensor.name: tensor for tensor in model.inputs}
    optional = {name[: -len(_PRESENT)] for name in specs if name.endswith(_PRESENT)}
    for name in x:
        if name not in specs:
            raise ValueError(unknown_name("input", name, list(specs)))
    rows = len(next(iter(x.values()))) if x else 0
    if not rows:
        raise ValueError("At least one input with at least one row is needed.")
    found = {}
    for name, tensor in specs.items():
        if name in x:
            found[name] = np.asarray(x[name])
        elif name.endswith(_PRESENT):
            found[name] = np.full((rows, 1), float(name[: -len(_PRESENT)] in x), "float32")
        elif name in optional:
            found[name] = np.zeros((rows, *tensor.shape[1:]), tensor.dtype)
        else:
            raise ValueError(
                f"Input '{name}' is missing, and the model was not built to do without it (`optional`)."
            )
    return found


def multi_input(
    inputs: Mapping[str, Any],
    tasks: Sequence[Task],
    backbone: str | Callable | keras.Model | None = None,
    *,
    stems: Any = None,
    units: int = 64,
    backbone_options: Mapping[str, Any] | None = None,
    stem_options: Mapping[str, Any] | None = None,
    encoder: Any = None,
    name: str = "multi_input",
) -> MultiTaskModel:
    """Each task has an input domain of its own, and one trunk serves all.

    A batch brings rows of every domain; those of one index have nothing to do with each other. The trunk runs once a task,
    on the same weights; its batch normalization sees the domains in turn.

    Args:
        inputs: dict of task name to the shape of one row of its input. The model's inputs are named `<task>_input`.
        tasks: list of `Task`, one for each input.
        backbone: the trunk: name, function or model with one input. None takes "mlp" behind stems, otherwise the default of
            the inputs' kind, as `hard_sharing` does.
        stems: a backbone, or a dict of task name to one: what stands, with weights of its own, between a task's input and
            the trunk. Its deepest features, as a vector, are brought to `units`. None puts the trunk on the inputs, which
            then have one shape.
        units: int >= 1. Size of what stems hand to the trunk.
        backbone_options: arguments of the trunk's function.
        stem_options: arguments of the stems' function, or a dict of task name to these where stems are a dict.
        encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a task without an input or an input without a task, inputs of different shapes without stems.

    Example:
        >>> model = mtl.builders.multi_input(
        ...     {"digit": (28, 28, 1), "letter": (28, 28, 1)}, backbone="small_cnn",
        ...     tasks=[mtl.tasks.Classification("digit", 10), mtl.tasks.Classification("letter", 26)])

    Reference:
        Multi-source training with a common network: Caruana, "Multitask Learning", 1997; Collobert & Weston, ICML 2008.
    """
    tasks = check_tasks(tasks)
    names = [task.name for task in tasks]
    if not isinstance(inputs, Mapping):
        raise ValueError("`inputs` is a dict of task name to the shape of its input.")
    for given in inputs:
        if given not in names:
            raise ValueError(unknown_name("task in `inputs`:", given, names))
    for task in names:
        if task not in inputs:
            raise ValueError(f"Task '{task}' has no input of its own. Give one in `inputs`.")
    if backbone is None:
        backbone = (
            "mlp" if stems is not None else default_backbone(inputs[names[0]], backbone_options)
        )
    made, seen = {}, []
    for task in names:
        stem = stems.get(task) if isinstance(stems, Mapping) else stems
        reader = backbone if stem is None else stem
        kind = known_backbones.INPUT_NAMES.get(reader) if isinstance(reader, str) else None
        tensor = _one(f"{task}_input", inputs[task], kind)
        made[tensor.name] = tensor
        if stem is not None:
            options = dict(stem_options or {})
            options = dict(options.get(task, {})) if isinstance(stems, Mapping) else options
            if isinstance(stem, str):
                options.setdefault("name", f"{stem}_{task}")
            if isinstance(stem, keras.Model):
                raise ValueError(
                    f"Stem of task '{task}': give a name or a function; a model brings inputs of its own."
                )
            stages = stages_of(make_backbone(stem, tensor, options))
            tensor = layers.Dense(units, name=f"{name}_{task}_stem")(
                vector(stages, f"{name}_{task}")
            )
        elif stems is not None:
            raise ValueError(f"Task '{task}' has no stem. Give one in `stems`, or none at all.")
        seen.append(tensor)
    for task, tensor in zip(names, seen, strict=True):
        if tuple(tensor.shape) != tuple(seen[0].shape) or tensor.dtype != seen[0].dtype:
            raise ValueError(
                f"The trunk takes inputs of one shape; task '{names[0]}' has {tuple(seen[0].shape)}, task '{task}' "
                f"{tuple(tensor.shape)}. Give `stems` that bring them to one size."
            )
    template = keras.Input(seen[0].shape[1:], dtype=seen[0].dtype, name=f"{name}_features")
    if isinstance(backbone, keras.Model):
        trunk = (
            backbone if has_graph(backbone) else make_backbone(backbone, template, backbone_options)
        )
        if len(trunk.inputs) != 1 or tuple(trunk.inputs[0].shape[1:]) != tuple(template.shape[1:]):
            raise ValueError(
                f"The trunk takes {[tuple(t.shape) for t in trunk.inputs]}; the tasks bring {tuple(template.shape)}."
            )
    else:
        trunk = make_backbone(backbone, template, backbone_options)
    streams = lockstep(trunk, names, inputs=seen, own=False)
    outputs = {
        task.name: attach_head(task, stages, made[f"{task.name}_input"])
        for task, stages in zip(tasks, streams, strict=True)
    }
    inputs = made if len(made) > 1 else next(iter(made.values()))
    return MultiTaskModel(inputs, outputs, encoder=encoder, name=name)


def _one(name: str, value: Any, kind: str | None) -> Any:
    if isinstance(value, keras.KerasTensor):
        return value
    shape = (value,) if isinstance(value, int) else tuple(value)
    return keras.Input(shape, dtype="int32" if kind == "tokens" else "float32", name=name)


def _encoder(
    modality: str, shape: Any, backbone: Any, options: dict[str, Any]
) -> tuple[Any, keras.Model]:
    """A modality's inputs, and its backbone on them."""
    if isinstance(backbone, keras.Model):
        trunk = make_backbone(
            backbone, None if has_graph(backbone) else _one(modality, shape, None), options
        )
        return trunk.input, trunk
    kind = known_backbones.INPUT_NAMES.get(backbone) if isinstance(backbone, str) else None
    if isinstance(shape, Mapping):
        own = {n: _one(n, s, "tokens" if n == "categorical" else None) for n, s in shape.items()}
    else:
        own = _one(modality, shape, kind)
    if isinstance(backbone, str):
        # Two modalities may have the same backbone: their layers need names of their own.
        options.setdefault("name", f"{backbone}_{modality}")
    return own, make_backbone(backbone, own, options)


def _fuse(vectors: Sequence[tuple[str, Any]], fusion: str, shared: Sequence[int], name: str) -> Any:
    def tower(x, part):
        for i, width in enumerate(shared, 1):
            x = layers.Dense(width, activation="relu", name=f"{part}{i}")(x)
        return x

    only = [x for _, x in vectors]
    if fusion == "late":
        ends = [tower(x, f"{name}_{modality}_own") for modality, x in vectors]
        return layers.Average(name=f"{name}_fused")(ends) if len(ends) > 1 else ends[0]
    if len(only) == 1:
        return tower(only[0], f"{name}_shared")
    if fusion == "early":
        return tower(layers.Concatenate(name=f"{name}_fused")(only), f"{name}_shared")
    return tower(ModalityAttention(name=f"{name}_fused")(only), f"{name}_shared")
