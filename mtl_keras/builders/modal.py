"""Several inputs: modalities of one thing, or a domain of its own for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from mtl_keras import backbones as known_backbones
from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import (
    attach_head,
    check_tasks,
    default_backbone,
    layer_sizes,
    make_backbone,
    one_size,
    stages_of,
)
from mtl_keras.builders.streams import build_parallel_streams
from mtl_keras.graph import has_graph, layer_of
from mtl_keras.layers import ModalityAttention, ModalityDefault
from mtl_keras.model import MultiTaskModel
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task
from mtl_keras.tasks.task import vector

__all__ = ["complete_inputs", "cross_modal", "multi_input"]

_FUSIONS = ("early", "late", "attention")
_PRESENT = "_present"


@builder
def cross_modal(
    inputs: Mapping[str, Any],
    tasks: Sequence[Task],
    backbones: Mapping[str, Any],
    *,
    fusion: str = "early",
    units: int = 64,
    fusion_units: int | Sequence[int] = (64,),
    optional: Sequence[str] = (),
    modality_dropout: float = 0.1,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Image, text, sound, table: an encoder each, fused, then layers that all tasks share, then the
    heads.

    Each modality's deepest features, as a vector, are brought to `units` by a linear layer with
    ReLU.

    - "early": the vectors side by side go through the shared layers.
    - "late": each vector goes through layers of its own, and the results are averaged just before
      the heads.
    - "attention": the vectors attend to each other, are averaged by learned attention, and go
      through the shared layers.

    Args:
        inputs: dict of modality to the shape of one row, a `keras.Input`, or (for tables) a dict of
            these by name.
        tasks: list of `Task`, whose heads take vectors.
        backbones: dict of modality to a backbone's name, function or model.
        fusion: "early", "late" or "attention".
        units: int >= 1. Size of each modality's vector. Defaults to 64.
        fusion_units: int, or list of int. Widths of the layers in which modalities are joined.
            Defaults to (64,).
        optional: modalities that a row may lack. Each brings an input more, `<modality>_present`,
            shape `(rows, 1)`: 1 where the modality is there, 0 where a learned vector takes its
            place (what stands in the input then has no effect).
            `mtl.builders.complete_inputs(model, x)` fills in what a batch lacks.
        modality_dropout: float. Share of the rows that lack an optional modality while training.
            Defaults to 0.1.
        backbone_options: dict of modality to its backbone's arguments.
        encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a modality without a backbone, an unknown fusion or modality, names of layers
            that collide.

    Examples:
        >>> model = mtl.builders.cross_modal(
        ...     {"photo": (32, 32, 3), "title": (20,)}, [mtl.tasks.Binary("sold"), mtl.tasks.Regression("price")],
        ...     backbones={"photo": "small_cnn", "title": "bilstm"}, optional=["photo"],
        ...     backbone_options={"title": {"vocabulary_size": 1000}})

    References:
        Ngiam et al., "Multimodal Deep Learning", ICML 2011 (early and late fusion); Neverova, Wolf,
        Taylor, Nebout, "ModDrop", TPAMI 2016 (dropping modalities while training).
    """
    name = shared["name"]
    options = shared.get("backbone_options") or {}
    tasks = check_tasks(tasks)
    if fusion not in _FUSIONS:
        raise ValueError(unknown_name("fusion", fusion, _FUSIONS))
    units = one_size("units", units, name)
    fusion_units = layer_sizes("fusion_units", fusion_units, name)
    _check_modalities(inputs, backbones, optional, options)

    # A vector per modality
    tensors: dict[str, Any] = {}
    vectors = {}
    for modality, shape in inputs.items():
        own_inputs, trunk = _encoder(
            modality, shape, backbones[modality], dict(options.get(modality, {}))
        )
        tensors.update({tensor.name: tensor for tensor in keras.tree.flatten(own_inputs)})
        x = vector(stages_of(trunk), f"{name}_{modality}")
        x = layers.Dense(units, activation="relu", name=f"{name}_{modality}_vector")(x)
        if modality in optional:
            flag = keras.Input((1,), name=f"{modality}{_PRESENT}")
            tensors[flag.name] = flag
            x = ModalityDefault(modality_dropout, name=f"{name}_{modality}_default")([x, flag])
        vectors[modality] = x

    # What all heads see
    fused = _fuse(vectors, fusion, fusion_units, name)
    layer_names = {layer.name for layer in keras.Model(tensors, fused).layers}
    for task in tasks:
        if task.name in layer_names:
            raise ValueError(
                f"Task '{task.name}' has the name of an input or a layer. Rename the task."
            )
    return MultiTaskModel(
        _only_or_all(tensors),
        {task.name: attach_head(task, {"stage1": fused}, tensors) for task in tasks},
        encoder=shared.get("encoder", getattr(inputs, "encoder", None)),
        representation=[layer_of(fused).name],
        name=name,
    )


def _check_modalities(
    inputs: Any, backbones: Mapping[str, Any], optional: Sequence[str], options: Mapping[str, Any]
) -> None:
    """Every modality has a backbone, and nothing is given for a modality that does not exist."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError("`inputs` is a dict of modality to shape.")
    arguments = {"backbones": backbones, "optional": optional, "backbone_options": options}
    for argument, modalities in arguments.items():
        for modality in modalities:
            if modality not in inputs:
                raise ValueError(unknown_name(f"modality in `{argument}`:", modality, list(inputs)))
    for modality in inputs:
        if modality not in backbones:
            raise ValueError(f"Modality '{modality}' has no backbone. Give one in `backbones`.")


def _only_or_all(tensors: dict[str, Any]) -> Any:
    """The inputs of a model: the tensor itself where there is one, else all of them by name."""
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def complete_inputs(model: keras.Model, x: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of a `cross_modal` model, with zeros for optional modalities that are not given and
    flags for all.

    Args:
        model: model with inputs `<modality>_present`.
        x: dict of input name to array. Flags that are given are kept.

    Raises:
        ValueError: an input that is not optional is missing, or is unknown.

    Examples:
        >>> model = mtl.builders.cross_modal(
        ...     {"photo": (32, 32, 3), "row": (5,)}, [mtl.tasks.Binary("sold")],
        ...     backbones={"photo": "small_cnn", "row": "mlp"}, optional=["photo"])
        >>> answers = model.predict(mtl.builders.complete_inputs(model, {"row": np.ones((2, 5))}))
    """
    specs = {tensor.name: tensor for tensor in model.inputs}
    optional = {name[: -len(_PRESENT)] for name in specs if name.endswith(_PRESENT)}
    for name in x:
        if name not in specs:
            raise ValueError(unknown_name("input", name, list(specs)))
    rows = len(next(iter(x.values()))) if x else 0
    if not rows:
        raise ValueError("At least one input with at least one row is needed.")
    complete = {}
    for name, tensor in specs.items():
        if name in x:
            complete[name] = np.asarray(x[name])
        elif name.endswith(_PRESENT):
            complete[name] = np.full((rows, 1), float(name[: -len(_PRESENT)] in x), "float32")
        elif name in optional:
            complete[name] = np.zeros((rows, *tensor.shape[1:]), tensor.dtype)
        else:
            raise ValueError(
                f"Input '{name}' is missing, and the model was not built to do without it "
                f"(`optional`)."
            )
    return complete


@builder
def multi_input(
    inputs: Mapping[str, Any],
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    stems: Any = None,
    units: int = 64,
    stem_options: Mapping[str, Any] | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """Each task has an input domain of its own, and one trunk serves all.

    A batch brings rows of every domain; those of one index have nothing to do with each other. The
    trunk runs once a task, on the same weights; its batch normalization sees the domains in turn.

    Args:
        inputs: dict of task name to the shape of one row of its input. The model's inputs are named
            `<task>_input`.
        tasks: list of `Task`, one for each input.
        backbone: the trunk: name, function or model with one input. None takes "mlp" behind stems,
            otherwise the default of the inputs' kind, as `hard_sharing` does.
        stems: a backbone, or a dict of task name to one: what stands, with weights of its own,
            between a task's input and the trunk. Its deepest features, as a vector, are brought to
            `units`. None puts the trunk on the inputs, which then have one shape.
        units: int >= 1. Size of what stems hand to the trunk.
        backbone_options: arguments of the trunk's function.
        stem_options: arguments of the stems' function, or a dict of task name to these where stems
            are a dict.
        encoder, name: as in `hard_sharing`.

    Returns:
        `MultiTaskModel`.

    Raises:
        ValueError: a task without an input or an input without a task, inputs of different shapes
            without stems.

    Examples:
        >>> model = mtl.builders.multi_input(
        ...     {"digit": (28, 28, 1), "letter": (28, 28, 1)}, backbone="small_cnn",
        ...     tasks=[mtl.tasks.Classification("digit", 10), mtl.tasks.Classification("letter", 26)])

    Reference:
        Multi-source training with a common network: Caruana, "Multitask Learning", 1997; Collobert
        & Weston, ICML 2008.
    """
    name = shared["name"]
    options = shared.get("backbone_options")
    tasks = check_tasks(tasks)
    names = [task.name for task in tasks]
    _check_domains(inputs, names)
    if backbone is None:
        backbone = "mlp" if stems is not None else default_backbone(inputs[names[0]], options)

    # Each task's input, through its stem
    tensors = {}
    features = []
    for task in names:
        stem = stems.get(task) if isinstance(stems, Mapping) else stems
        reader = backbone if stem is None else stem
        kind = known_backbones.INPUT_NAMES.get(reader) if isinstance(reader, str) else None
        tensor = tensors[f"{task}_input"] = _one(f"{task}_input", inputs[task], kind)
        if stem is not None:
            is_per_task = isinstance(stems, Mapping)
            arguments = (stem_options or {}).get(task, {}) if is_per_task else stem_options
            stages = _stem_stages(task, stem, tensor, arguments)
            tensor = vector(stages, f"{name}_{task}")
            tensor = layers.Dense(units, name=f"{name}_{task}_stem")(tensor)
        elif stems is not None:
            raise ValueError(f"Task '{task}' has no stem. Give one in `stems`, or none at all.")
        features.append(tensor)
    _check_same_shape(names, features)

    # The trunk, once per task
    trunk = _trunk_on(features[0], backbone, options, f"{name}_features")
    streams = build_parallel_streams(trunk, names, inputs=features, copy_layers=False)
    outputs = {
        task.name: attach_head(task, stages, tensors[f"{task.name}_input"])
        for task, stages in zip(tasks, streams, strict=True)
    }
    return MultiTaskModel(_only_or_all(tensors), outputs, encoder=shared.get("encoder"), name=name)


def _check_domains(inputs: Any, names: Sequence[str]) -> None:
    """Every task has an input, and every input a task."""
    if not isinstance(inputs, Mapping):
        raise ValueError("`inputs` is a dict of task name to the shape of its input.")
    for task in inputs:
        if task not in names:
            raise ValueError(unknown_name("task in `inputs`:", task, names))
    for task in names:
        if task not in inputs:
            raise ValueError(f"Task '{task}' has no input of its own. Give one in `inputs`.")


def _check_same_shape(names: Sequence[str], features: Sequence[Any]) -> None:
    first = features[0]
    for task, tensor in zip(names, features, strict=True):
        if tuple(tensor.shape) != tuple(first.shape) or tensor.dtype != first.dtype:
            raise ValueError(
                f"The trunk takes inputs of one shape; task '{names[0]}' has "
                f"{tuple(first.shape)}, task "
                f"'{task}' {tuple(tensor.shape)}. Give `stems` that bring them to one size."
            )


def _stem_stages(
    task: str, stem: Any, tensor: Any, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The stages of a task's stem on its input."""
    options = dict(options or {})
    if isinstance(stem, keras.Model):
        raise ValueError(
            f"Stem of task '{task}': give a name or a function; a model brings inputs of its own."
        )
    if isinstance(stem, str):
        options.setdefault("name", f"{stem}_{task}")
    return stages_of(make_backbone(stem, tensor, options))


def _trunk_on(
    features: Any, backbone: Any, options: Mapping[str, Any] | None, name: str
) -> keras.Model:
    """The trunk, as a model with one input of the features' shape."""
    template = keras.Input(features.shape[1:], dtype=features.dtype, name=name)
    if not (isinstance(backbone, keras.Model) and has_graph(backbone)):
        trunk = make_backbone(backbone, template, options)
    else:
        trunk = backbone
    if isinstance(backbone, keras.Model) and (
        len(trunk.inputs) != 1 or tuple(trunk.inputs[0].shape[1:]) != tuple(template.shape[1:])
    ):
        raise ValueError(
            f"The trunk takes {[tuple(t.shape) for t in trunk.inputs]}; the tasks bring "
            f"{tuple(template.shape)}."
        )
    return trunk


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
        modality_inputs = {
            n: _one(n, s, "tokens" if n == "categorical" else None) for n, s in shape.items()
        }
    else:
        modality_inputs = _one(modality, shape, kind)
    if isinstance(backbone, str):
        # Two modalities may have the same backbone: their layers need names of their own.
        options.setdefault("name", f"{backbone}_{modality}")
    return modality_inputs, make_backbone(backbone, modality_inputs, options)


def _fuse(vectors: Mapping[str, Any], fusion: str, widths: Sequence[int], name: str) -> Any:
    """One vector of several modalities' vectors."""

    def tower(x: Any, part: str) -> Any:
        for i, width in enumerate(widths, 1):
            x = layers.Dense(width, activation="relu", name=f"{part}{i}")(x)
        return x

    if fusion == "late":
        ends = [tower(x, f"{name}_{modality}_own") for modality, x in vectors.items()]
        return layers.Average(name=f"{name}_fused")(ends) if len(ends) > 1 else ends[0]
    tensors = list(vectors.values())
    if len(tensors) == 1:
        joined = tensors[0]
    elif fusion == "early":
        joined = layers.Concatenate(name=f"{name}_fused")(tensors)
    else:
        joined = ModalityAttention(name=f"{name}_fused")(tensors)
    return tower(joined, f"{name}_shared")
