"""What all builders share: inputs, backbones and heads put together."""

from __future__ import annotations

import copy
import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras

from mtl_keras import backbones
from mtl_keras.backbones.trunks import as_trunk, on_inputs
from mtl_keras.builders.arguments import SharedArguments, Unpack
from mtl_keras.data.inputs import Inputs
from mtl_keras.graph import has_graph, layer_of
from mtl_keras.layers.resized import resize_like
from mtl_keras.layers.sequences import MaskedMean, mask_of
from mtl_keras.model import MultiTaskModel
from mtl_keras.runtime.names import check_task_names, unknown_name
from mtl_keras.tasks import Task, TaskOutput

__all__ = [
    "Base",
    "SeparateNetworks",
    "attach_head",
    "check_stage",
    "check_tasks",
    "default_backbone",
    "finish",
    "layer_sizes",
    "make_backbone",
    "make_inputs",
    "match_shape",
    "one_size",
    "repeat_like",
    "resolve_suggestions",
    "resolve_task_stages",
    "start",
]


@dataclass
class Base:
    """What a builder begins with, and hands to `finish`.

    Attributes:
        name: the model's name.
        encoder: what makes the network's input, or None.
        inputs: symbolic input, or a dict of them.
        trunk: the backbone's model.
        tasks: checked list of tasks.
        pretrained: whether the backbone came with weights, so that copies of its layers start from
            them.
    """

    name: str
    encoder: Any
    inputs: Any
    trunk: keras.Model
    tasks: list[Task]
    pretrained: bool

    @property
    def stages(self) -> dict[str, Any]:
        return stages_of(self.trunk)

    @property
    def deepest(self) -> str:
        return list(self.stages)[-1]

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def representation(self) -> list[str]:
        """The layers that end the backbone's stages."""
        return [layer_of(tensor).name for tensor in self.stages.values()]


def start(
    inputs: Any, tasks: Sequence[Task], backbone: Any, **shared: Unpack[SharedArguments]
) -> Base:
    """Check tasks, make inputs and the backbone.

    Args:
        inputs, tasks, backbone, **shared: as every builder takes them.

    Raises:
        ValueError: bad tasks, an unknown backbone, a task with the name of a layer of the backbone.
    """
    tasks = check_tasks(tasks)
    backbone, options, encoder = resolve_suggestions(inputs, backbone, shared)
    backbone = default_backbone(inputs, options) if backbone is None else backbone
    if isinstance(backbone, keras.Model):
        backbone = as_trunk(backbone, None if inputs is None else make_inputs(inputs, None))
        inputs = backbone.input
        if isinstance(inputs, (list, tuple)):
            inputs = {tensor.name: tensor for tensor in inputs} if len(inputs) > 1 else inputs[0]
    else:
        inputs = make_inputs(inputs, backbone)
    trunk = make_backbone(backbone, inputs, options)
    layer_names = {layer.name for layer in trunk.layers}
    for task in tasks:
        if task.name in layer_names:
            raise ValueError(
                f"Task '{task.name}' has the name of a layer of the backbone. Rename the task."
            )
    pretrained = isinstance(backbone, keras.Model) or bool((options or {}).get("weights"))
    return Base(shared["name"], encoder, inputs, trunk, tasks, pretrained)


def resolve_suggestions(
    inputs: Any, backbone: Any, shared: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any] | None, Any]:
    """Backbone, its options and the encoder; what `mtl.data.Inputs` suggest where none is named.

    Options that a data set knows (numbers of categories, means, size of the vocabulary) also go to
    a backbone that the caller names, where it takes them.
    """
    options, encoder = shared.get("backbone_options"), shared.get("encoder")
    if not isinstance(inputs, Inputs):
        return backbone, options, encoder
    backbone = inputs.backbone if backbone is None else backbone
    encoder = inputs.encoder if encoder is None else encoder
    if isinstance(backbone, keras.Model):
        return backbone, options, encoder
    suggested = inputs.backbone_options
    function = backbones.get(backbone) if isinstance(backbone, str) else backbone
    if callable(function):
        parameters = inspect.signature(function).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            suggested = {key: value for key, value in suggested.items() if key in parameters}
    return backbone, {**suggested, **(options or {})}, encoder


class SeparateNetworks:
    """What `hard_sharing` would build for each task alone, on one backbone: as one model, made when
    it is asked for."""

    def __init__(self, inputs: Any, trunk: keras.Model, tasks: Sequence[Task]) -> None:
        self._parts = inputs, trunk, tasks
        self._network: MultiTaskModel | None = None

    def network(self) -> MultiTaskModel:
        """A model in which the backbone and a task's head are the task's separate network."""
        if self._network is None:
            inputs, trunk, tasks = self._parts
            # Counting must not change what is drawn next.
            state = random.getstate()
            heads = {
                task.name: attach_head(_with_new_head(task), stages_of(trunk), inputs)
                for task in tasks
            }
            random.setstate(state)
            self._network = MultiTaskModel(inputs, heads, name="separate_networks")
        return self._network

    def to_json(self) -> str:
        return json.dumps(keras.saving.serialize_keras_object(self.network()))


def _with_new_head(task: Task) -> Task:
    """The task, with a copy of a head that is a layer: calling a layer again would make its
    `output` ambiguous."""
    head = task._head
    if not isinstance(head, keras.layers.Layer):
        return task
    twin = copy.copy(task)
    twin._head = type(head).from_config(head.get_config())
    return twin


def finish(
    base: Base,
    features: Mapping[str, Mapping[str, Any]],
    *,
    representation: Sequence[str] = (),
    outputs: Mapping[str, Any] | None = None,
    tie: Any = None,
    separate: keras.Model | bool = True,
) -> MultiTaskModel:
    """A head on each task's features, and the model of all of them.

    Args:
        features: by task name, a dict of stages for its head.
        outputs: by task name, outputs that stand already.
        tie: `WeightTie` or None.
        separate: the trunk of a network for one task alone, where that is not the backbone; False
            where such a network is what a task uses of this model.
    """
    outputs = outputs or {}
    heads = {
        task.name: outputs[task.name]
        if task.name in outputs
        else attach_head(task, features[task.name], base.inputs)
        for task in base.tasks
    }
    # Carried by the first output's layer, so that clones and loaded models keep it.
    carrier = layer_of(heads[base.names[0]])
    carrier.tie = tie
    if separate is not False:
        trunk = base.trunk if separate is True else separate
        carrier.separate = SeparateNetworks(base.inputs, trunk, base.tasks)
    model = MultiTaskModel(
        base.inputs,
        heads,
        encoder=base.encoder,
        representation=list(representation),
        name=base.name,
    )
    # Stages that no head uses are not in the model.
    used = {layer.name for layer in model.layers}
    model._properties.representation = tuple(
        layer for layer in model.representation if layer in used
    )
    return model


def check_tasks(tasks: Sequence[Task]) -> list[Task]:
    """A list of tasks with names of their own."""
    if isinstance(tasks, Task):
        tasks = [tasks]
    tasks = list(tasks)
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"Tasks are objects of mtl_keras.tasks, got {task!r}.")
    check_task_names(task.name for task in tasks)
    return tasks


def default_backbone(inputs: Any, options: Mapping[str, Any] | None = None) -> str:
    """The backbone that a builder takes for a kind of input where none is named.

    Args:
        inputs: as builders take them.
        options: of the backbone.

    Returns:
        "small_cnn" for images `(height, width, channels)`, "mlp" for tables (a vector of numbers,
        or inputs named `numeric` and `categorical`), "text_cnn" for an input named `tokens`,
        "log_mel_cnn" for one named `waveform`, "frame_cnn" for video `(frames, height, width,
        channels)`.

    Raises:
        ValueError: no input, another kind of input, token ids without `vocabulary_size`.
    """
    if inputs is None:
        raise ValueError(
            "`inputs` should be the shape of one row where no backbone is given. Received: "
            "inputs=None."
        )
    named = dict(inputs) if isinstance(inputs, Mapping) else {getattr(inputs, "name", ""): inputs}
    if named and set(named) <= {"numeric", "categorical"}:
        return "mlp"
    if len(named) == 1:
        ((name, value),) = named.items()
        shape = (
            (value,)
            if isinstance(value, int)
            else tuple(value.shape[1:] if hasattr(value, "shape") else value)
        )
        if name == "tokens":
            if "vocabulary_size" not in (options or {}):
                raise ValueError(
                    "`backbone_options` should hold `vocabulary_size`, the number of token ids, "
                    "for the default backbone of "
                    f"token ids, 'text_cnn'. Received: backbone_options={dict(options or {})}."
                )
            return "text_cnn"
        if name == "waveform":
            return "log_mel_cnn"
        kinds = {1: "mlp", 3: "small_cnn", 4: "frame_cnn"}
        if len(shape) in kinds:
            return kinds[len(shape)]
    raise ValueError(
        "`backbone` should be given for these inputs: without one, images (height, width, "
        "channels), tables, token ids (an "
        f"input named 'tokens'), waveforms and video have a default. Received: inputs={inputs!r}."
    )


def layer_sizes(argument: str, value: Any, builder: str) -> tuple[int, ...]:
    """Widths of layers one after the other; one whole number is one layer.

    Raises:
        ValueError: something else, or a width below 1.
    """
    sizes = (value,) if isinstance(value, Integral) else value
    is_list = isinstance(sizes, (list, tuple))
    if not is_list or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and n >= 1  # type: ignore[operator]
        for n in sizes
    ):
        raise ValueError(
            f"Builder '{builder}': `{argument}` should be a whole number >= 1, or a list of "
            f"these, one a layer. Received: "
            f"{argument}={value!r}."
        )
    return tuple(int(n) for n in sizes)


def one_size(argument: str, value: Any, builder: str, instead: str = "") -> int:
    """A whole number >= 1; a list of one is taken too.

    Args:
        instead: what to do for several layers.

    Raises:
        ValueError: something else.
    """
    sizes = layer_sizes(argument, value, builder)
    if len(sizes) != 1:
        raise ValueError(
            f"Builder '{builder}': `{argument}` should be one whole number >= 1. Received: "
            f"{argument}={value!r}.{instead}"
        )
    return sizes[0]


def make_inputs(inputs: Any, backbone: Any) -> Any:
    """Symbolic inputs from a shape, a `keras.Input`, or a dict of these."""
    if isinstance(inputs, keras.KerasTensor):
        return inputs
    if isinstance(inputs, Mapping):
        dtypes = inputs.dtypes if isinstance(inputs, Inputs) else {}
        tensors = {
            name: _one_input(name, value, dtypes.get(name)) for name, value in inputs.items()
        }
        return next(iter(tensors.values())) if len(tensors) == 1 else tensors
    if isinstance(inputs, int):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list)):
        raise TypeError(
            f"`inputs` is the shape of one row, a keras.Input, or a dict of these; got {inputs!r}."
        )
    return _one_input(backbones.INPUT_NAMES.get(backbone, "inputs"), tuple(inputs))


def _one_input(name: str, value: Any, dtype: str | None = None) -> keras.KerasTensor:
    """A symbolic input. Whole numbers are ids where a data set says so; pictures of bytes are not."""
    if isinstance(value, keras.KerasTensor):
        return value
    is_ids = dtype in ("int32", "int64") or name in ("tokens", "categorical")
    return keras.Input(tuple(value), dtype="int32" if is_ids else "float32", name=name)


def make_backbone(
    backbone: str | Callable[..., Any] | keras.Model, inputs: Any, options: Mapping[str, Any] | None
) -> keras.Model:
    """A backbone's model on these inputs, its outputs a dict of stages.

    A `keras.Model` is used itself, with its own inputs and weights (see `as_trunk`); any other
    callable is called with the inputs, and may return a model of any kind.

    Raises:
        TypeError: a backbone that cannot be called.
        ValueError: options for a model, which is built already; what `as_trunk` refuses.
    """
    options = dict(options or {})
    if isinstance(backbone, keras.Model):
        if options:
            raise ValueError(
                f"Options {sorted(options)} were given, but the backbone is a model that is built "
                f"already."
            )
        return as_trunk(backbone, inputs)
    function = backbones.get(backbone) if isinstance(backbone, str) else backbone
    if not callable(function):
        raise TypeError(
            f"A backbone is a name, a function of inputs, or a keras.Model; got {backbone!r}."
        )
    model = function(inputs, **options)
    if not isinstance(model, keras.Model):
        return keras.Model(inputs, model)
    if has_graph(model) and {id(x) for x in model.inputs} <= {
        id(x) for x in keras.tree.flatten(inputs)
    }:
        return model
    # A function may build a model with inputs of its own, or none yet.
    return on_inputs(model, inputs)


def stages_of(model: keras.Model) -> dict[str, Any]:
    """The stages of a backbone's model: its dict of outputs, or its outputs numbered."""
    outputs = model.output
    if isinstance(outputs, Mapping):
        return dict(outputs)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return {f"stage{i}": tensor for i, tensor in enumerate(outputs, 1)}


def attach_head(task: Task, features: Mapping[str, Any], inputs: Any) -> keras.KerasTensor:
    """This task's head on these features, ended by its `TaskOutput`."""
    image = inputs if isinstance(inputs, keras.KerasTensor) else next(iter(inputs.values()))
    logits = task.head(dict(features), tuple(image.shape[1:]))
    expected = tuple(s for s in task.output_shape if s is not None)
    shape = tuple(logits.shape[1:])
    if expected and (shape[-len(expected) :] != expected or len(shape) != len(task.output_shape)):
        hint = " Pool or flatten the features first." if len(shape) > len(task.output_shape) else ""
        raise ValueError(
            f"The head of task '{task.name}' ends in shape {shape}; the task needs "
            f"{task.output_shape}.{hint}"
        )
    return TaskOutput(task)(logits)


def check_stage(stages: Mapping[str, Any], name: str, what: str) -> str:
    """A stage's name that the backbone has, or an error that lists those it has."""
    if name not in stages:
        raise ValueError(f"{what}: " + unknown_name("stage", name, list(stages)))
    return name


def resolve_task_stages(base: Base, task_stages: Mapping[str, str]) -> dict[str, str]:
    """The stage of every task, by its name; the deepest for tasks that are not named.

    Raises:
        ValueError: an unknown task or stage, a backbone with one stage only.
    """
    if len(base.stages) < 2:
        raise ValueError(
            "`task_stages` places tasks at stages, and this backbone has only one. Give a "
            "backbone whose "
            "outputs are a dict of stages, from the input to the deepest."
        )
    for task, stage in task_stages.items():
        if task not in base.names:
            raise ValueError(unknown_name("task in `task_stages`:", task, base.names))
        check_stage(base.stages, stage, f"`task_stages` of task '{task}'")
    return {name: task_stages.get(name, base.deepest) for name in base.names}


def repeat_like(x: Any, target: Any, name: str) -> Any:
    """A vector at every step of a sequence.

    Raises:
        ValueError: a sequence of open length.
    """
    if target.shape[1] is None:
        raise ValueError(
            f"'{name}' puts a vector at every step of a sequence, and the sequence's length "
            f"should be fixed. Received "
            f"features of shape {tuple(target.shape)}. Give the length in `inputs`."
        )
    return keras.layers.RepeatVector(target.shape[1], name=name)(x)


def match_shape(x: Any, target: Any, name: str) -> Any:
    """A tensor in another's shape: resized or averaged over places, then a linear layer to its
    channels."""
    layers = keras.layers
    width = target.shape[-1]
    if len(target.shape) == 2 and len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    elif len(target.shape) == 2 and len(x.shape) == 3:
        mask = mask_of(x)
        pool = layers.GlobalAveragePooling1D(name=f"{name}_pool")
        x = pool(x) if mask is None else MaskedMean(name=f"{name}_pool")([x, mask])
    elif len(target.shape) == 3 and len(x.shape) == 2:
        x = repeat_like(x, target, name=f"{name}_repeat")
    elif len(target.shape) == 4 and len(x.shape) == 2:
        x = layers.Reshape((1, 1, x.shape[-1]), name=f"{name}_reshape")(x)
    elif len(target.shape) == 4 and len(x.shape) == 4:
        x = resize_like(x, target, name=f"{name}_resize")
    if len(target.shape) == 4 and len(x.shape) == 4:
        return layers.Conv2D(width, 1, name=f"{name}_project")(x)
    if len(x.shape) > len(target.shape):
        x = layers.Flatten(name=f"{name}_flatten")(x)
    return layers.Dense(width, name=f"{name}_project")(x)
