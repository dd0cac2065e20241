"""Steps in a row, on whole batches: one input and the labels of all tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from mtl_keras.data.augment import labels
from mtl_keras.data.augment.geometry import size_of
from mtl_keras.data.augment.moving import Moving, move_batch
from mtl_keras.data.augment.step import KINDS, Batch, Draws, Settings, Step, get_step
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Augmenter", "apply", "explain_refusal"]

#: What an effect asks of labels, for the message of a refusal.
_ASKS = {
    "warp": "moves places of the picture",
    "cover": "hides a part of the picture",
    "blend": "averages rows",
    "paste": "puts pictures together",
    "shift": "moves the sound in time",
}


class Augmenter:
    """Random changes of a batch that keep the labels of all its tasks true.

    Draws are made per row. They depend on `seed` and on the batch's number only: they are the same
    on every run and every machine with the same numbers, and different in every batch and epoch.

    Args:
        steps: list of names or of objects of `mtl.data.augment`, in their order.
            `mtl.data.augment.list_steps(kind)` says which there are.
        tasks: list of `Task`, one for each of the labels.
        kind: str. What the input is: "image", "sound", "text", "array" (series) or "table".
            Defaults to "image".
        input_name: str or None. Which input is changed, where there are several. None takes the
            only one, or, for tables, all. Tables take a list of names, too.
        seed: int. Defaults to 0.
        value_range: pair of float or None. The least and the largest value of pictures, for clipping
            colors and filling what comes from outside. None takes the encoder's, else (0, 255) for
            whole numbers and (0, 1) for real ones. Pictures outside of it are refused.
        min_visible: float in [0, 1]. A box of which less stays in sight is dropped. Defaults to
            0.25.
        fixed_camera: bool. True, the default: all pictures are of one camera (a pinhole whose axis
            meets the middle of the picture), so what is zoomed by s came s times nearer: depth is
            divided by s, and normals turn with the scene (Eigen et al., NeurIPS 2014). False: a zoom
            is a change of lens, and leaves depth and normals as they are.
        encoder: what made the input, or None: its scale and its unknown word are used.

    Raises:
        ValueError: a step that does not fit the kind of input, or that the labels of a task cannot
            follow; each by name.

    Examples:
        >>> steps = ["flip", mtl.data.augment.Rotate(10), "color"]
        >>> augmenter = mtl.data.augment.Augmenter(steps, tasks, seed=1)
        >>> new_images, new_labels = augmenter(images, labels, index=0)
    """

    def __init__(
        self,
        steps: Sequence[Any],
        tasks: Sequence[Task],
        *,
        kind: str = "image",
        input_name: str | Sequence[str] | None = None,
        seed: int = 0,
        value_range: Sequence[float] | None = None,
        min_visible: float = 0.25,
        fixed_camera: bool = True,
        encoder: Any = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(unknown_name("kind of input", str(kind), KINDS))
        _check_list([steps])
        if not 0 <= min_visible <= 1:
            raise ValueError(
                f"`min_visible` should be from 0 to 1. Received: min_visible={min_visible}."
            )
        self.steps = [get_step(step, kind).with_encoder(encoder) for step in steps]
        self.tasks = {task.name: task for task in tasks}
        self.kind, self.seed = kind, int(seed)
        self.input_name: str | list[str] | None = (
            input_name if input_name is None or isinstance(input_name, str) else list(input_name)
        )
        self.value_range = _check_range(value_range)
        self.min_visible, self.fixed_camera = float(min_visible), bool(fixed_camera)
        scale = getattr(encoder, "scale", None)
        if self.value_range is None and kind == "image" and scale:
            self.value_range = (0.0, 255.0 * scale)
        refusals = [
            text
            for step in self.steps
            for task in tasks
            if (text := explain_refusal(step, task)) is not None
        ]
        if refusals:
            raise ValueError("\n".join(refusals))

    @classmethod
    def for_data(cls, data: Any, steps: Any, seed: int = 0) -> Any:
        """The augmenter of a `TaskDataset`: it knows what the rows are, and their encoder.

        Args:
            data: `mtl.data.TaskDataset`.
            steps: list of steps; a dict of input name to a list, where there are several inputs; or
                an `Augmenter`, which is taken as it is.
            seed: int.

        Returns:
            `Augmenter`, or for a dict a function that is called as one.

        Raises:
            ValueError: an unknown input; a list of steps where it is not clear which input they
                change.
        """
        if isinstance(steps, Augmenter):
            return steps
        _check_list(steps.values() if isinstance(steps, Mapping) else [steps])
        if isinstance(steps, Mapping):
            for name in steps:
                if name not in data.input_fields:
                    message = unknown_name("input in `augment`:", str(name), data.input_fields)
                    raise ValueError(message)
            parts: list[tuple[tuple[str, ...], list[Any]]] = [
                ((name,), list(part)) for name, part in steps.items()
            ]
        else:
            parts = [(_fitting_inputs(data, list(steps)), list(steps))]
        augmenters = [
            cls(
                part,
                data.tasks,
                kind=_kind_of(data, names[0], part),
                input_name=names[0] if len(names) == 1 else names,
                # Each input draws its own numbers.
                seed=seed + 1_000_003 * number,
                encoder=_encoder_of(data.encoder, names[0]),
            )
            for number, (names, part) in enumerate(parts)
        ]
        return augmenters[0] if len(augmenters) == 1 else _Several(augmenters)

    # ------------------------------------------------------------------ one batch
    # Its conditions are Python's: AutoGraph would translate them for seconds, for nothing.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, y: Any, w: Any = None, *, index: Any = 0) -> tuple[Any, ...]:
        """One batch with changed input and labels.

        Args:
            x: tensor, or dict of tensors by input name.
            y: dict of task name to labels; missing labels stay missing.
            w: weights: `(rows,)`, a dict of task name to them, or None.
            index: int or scalar tensor. Number of the batch, counted on over epochs.

        Returns:
            `(x, y)`, or `(x, y, w)` where weights came in. Inputs keep their dtype and shape. Labels
            of classes become probabilities where rows are mixed.

        Raises:
            ValueError: labels of other tasks, an input that a step cannot change.
        """
        self._check_labels(y, w)
        inputs = dict(x) if isinstance(x, Mapping) else {"": x}
        names = self._input_names(inputs)
        seed = tf.constant([self.seed, 20201023], tf.int64)
        key = tf.random.experimental.stateless_fold_in(seed, tf.cast(index, tf.int64))
        y = {name: tf.convert_to_tensor(label) for name, label in y.items()}
        w = None if w is None else tf.nest.map_structure(tf.convert_to_tensor, w)
        for number, name in enumerate(names):
            part_key = tf.random.experimental.stateless_fold_in(key, number)
            inputs[name], y, w = self._change_input(inputs[name], y, w, part_key)
        result = inputs if isinstance(x, Mapping) else inputs[""]
        return (result, y) if w is None else (result, y, w)

    def _change_input(self, x: Any, y: Any, w: Any, key: Any) -> tuple[Any, Any, Any]:
        x = tf.convert_to_tensor(x)
        steps = [step for step in self.steps if self._is_for(step, x)]
        for step in steps:
            step.check_input(x)
        settings = Settings(
            self.tasks, self.kind, self._range_of(x.dtype), self.min_visible, self.fixed_camera
        )
        is_ids = self.kind == "text" or (self.kind == "table" and not x.dtype.is_floating)
        before = x if is_ids else tf.cast(x, tf.float32)
        if self.kind == "image":
            before = _check_values(before, settings.value_range)
        batch = self._run(steps, Batch(before, y, w, settings), key)
        return _restore(batch.x, x), dict(batch.y), batch.w

    def _run(self, steps: Sequence[Step], batch: Batch, key: Any) -> Batch:
        numbered = [
            (step, Draws(tf.random.experimental.stateless_fold_in(key, i + 1), batch.rows))
            for i, step in enumerate(steps)
        ]
        for is_moving, group in itertools.groupby(numbered, lambda p: isinstance(p[0], Moving)):
            if not is_moving:
                for step, draws in group:
                    batch = step.change(batch, draws)
                continue
            # Moving steps that follow each other are one matrix: the picture is sampled once.
            size, matrix = size_of(batch.x), None
            for step, draws in group:
                assert isinstance(step, Moving)
                move = step.chosen_matrix(*size, draws)
                matrix = move if matrix is None else tf.matmul(move, matrix)
            batch = move_batch(batch, matrix)
        return batch

    def _is_for(self, step: Step, x: Any) -> bool:
        """Tables come in blocks of numbers and of categories: noise is for numbers."""
        return step.name != "column_noise" or x.dtype.is_floating

    def _range_of(self, dtype: Any) -> tuple[float, float]:
        if self.value_range is not None:
            return self.value_range
        return (0.0, 255.0) if dtype.is_integer else (0.0, 1.0)

    # ------------------------------------------------------------------ checks of a batch
    def _check_labels(self, y: Any, w: Any) -> None:
        if not isinstance(y, Mapping):
            raise ValueError(
                f"Labels should be a dict of task name to labels. Received: {type(y).__name__}."
            )
        for name in self.tasks:
            if name not in y:
                raise ValueError(
                    f"The labels lack task '{name}'. Complete them with `mtl.data.complete`, or "
                    f"leave the task out of `tasks`. Received labels of: {', '.join(y)}."
                )
        for name in y:
            if name not in self.tasks:
                raise ValueError(unknown_name("task in the labels:", str(name), list(self.tasks)))
        has_effect = any(step.effect != "none" for step in self.steps)
        for name, weight in (w if isinstance(w, Mapping) else {"": w}).items():
            if weight is not None and has_effect and len(weight.shape) > 2:
                raise ValueError(
                    f"Weights per pixel (of task '{name}') cannot follow augmentation. Mark pixels "
                    f"without a label in the labels instead (-1 or NaN)."
                )

    def _input_names(self, inputs: Mapping[str, Any]) -> list[str]:
        if self.input_name is None or "" in inputs:
            names = list(inputs)
        else:
            names = [self.input_name] if isinstance(self.input_name, str) else [*self.input_name]
        for name in names:
            if name not in inputs:
                raise ValueError(unknown_name("input", name, list(inputs)))
        if len(names) > 1 and self.kind != "table":
            raise ValueError(
                f"There are several inputs: {', '.join(names)}. Say which one is changed: "
                f"input_name='{names[0]}'."
            )
        others = [name for name in inputs if name not in names] or names[1:]
        for step in self.steps:
            if step.effect in ("blend", "paste") and others:
                raise ValueError(
                    f"Step '{step.name}' mixes rows, and input '{others[0]}' would stay as it is. "
                    f"Use it where the network has one input."
                )
            pictures = [name for name in others if len(inputs[name].shape) == 4]
            if step.effect in ("warp", "cover") and pictures:
                raise ValueError(
                    f"Step '{step.name}' changes the picture of input '{names[0]}', and that of "
                    f"input '{pictures[0]}' would stay as it is: labels would fit one of them only."
                )
        return names

    # ------------------------------------------------------------------ config
    def get_config(self) -> dict[str, Any]:
        """Plain values, for JSON: steps with their settings, and the options."""
        return {
            "steps": [{"name": step.name, **step.get_config()} for step in self.steps],
            "kind": self.kind,
            "input_name": self.input_name,
            "seed": self.seed,
            "value_range": None if self.value_range is None else list(self.value_range),
            "min_visible": self.min_visible,
            "fixed_camera": self.fixed_camera,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tasks: Sequence[Task]) -> Augmenter:
        """The augmenter of a config, for these tasks."""
        return cls(**config, tasks=tasks)

    def __repr__(self) -> str:
        options = {k: v for k, v in self.get_config().items() if k != "steps"}
        text = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"Augmenter({self.steps}, tasks={list(self.tasks)}, {text})"


class _Several:
    """Augmenters of several inputs, one after another."""

    def __init__(self, augmenters: Sequence[Augmenter]) -> None:
        self.augmenters = list(augmenters)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, y: Any, w: Any = None, *, index: Any = 0) -> tuple[Any, ...]:
        batch: tuple[Any, ...] = (x, y) if w is None else (x, y, w)
        for augmenter in self.augmenters:
            batch = augmenter(*batch, index=index)
        return batch


def apply(
    dataset: Any, steps: Sequence[Any], tasks: Sequence[Task], *, seed: int = 0, **options: Any
) -> Any:
    """Augment a batched data set. Each pass over the result draws anew.

    The passes are counted from the first on: the same script makes the same batches on every run.
    Validation and test data stay as they are.

    Args:
        dataset: batched `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`, `y` a dict by
            task name.
        steps: list of names or of objects of `mtl.data.augment`.
        tasks: list of `Task`, one for each of the labels.
        seed: int. Defaults to 0.
        **options: as in `Augmenter`: `kind`, `input_name`, `value_range`, ...

    Returns:
        `tf.data.Dataset` of the same structure and length.

    Raises:
        ValueError: as `Augmenter`; a data set that is not batched.

    Examples:
        >>> train = mtl.data.augment.apply(data, ["flip", "crop", "color"], tasks, seed=1)
    """
    augmenter = Augmenter(steps, tasks, seed=seed, **options)
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            "The data set should give (inputs, labels) or (inputs, labels, sample_weight). "
            f"Received elements of {spec!r}."
        )
    augmenter._check_labels(spec[1], spec[2] if len(spec) == 3 else None)
    for name, task in augmenter.tasks.items():
        task.check_label_spec(spec[1][name].shape, spec[1][name].dtype.as_numpy_dtype)
    passes: Iterator[int] = itertools.count()

    def one_pass(_: Any) -> Any:
        number = tf.numpy_function(lambda: np.int64(next(passes)), [], tf.int64)
        number.set_shape(())
        return dataset.enumerate(number * 2**32)

    numbered = tf.data.Dataset.range(1).flat_map(one_pass)
    result = numbered.map(
        lambda index, batch: augmenter(*batch, index=index),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    length = dataset.cardinality()
    if int(length) != tf.data.UNKNOWN_CARDINALITY:
        # `flat_map` hides how long it is.
        result = result.apply(tf.data.experimental.assert_cardinality(length))
    return result.prefetch(tf.data.AUTOTUNE)


def explain_refusal(step: Step, task: Task) -> str | None:
    """Why the labels of a task cannot follow a step, in one sentence, or None where they can."""
    start = f"Step '{step.name}' cannot be used with task '{task.name}' ({type(task).__name__}): "
    if step.effect != "none":
        rule = labels.rule_of(task)
        if rule is None:
            return (
                f"{start}it {_ASKS[step.effect]}, and how labels of kind '{task.kind}' follow is "
                f"not known. Leave the step out, or derive the task from one of `mtl.tasks`."
            )
        if not hasattr(rule, step.effect):
            return (
                f"{start}it {_ASKS[step.effect]}, which labels of kind '{task.kind}' cannot "
                f"express. Leave the step out."
            )
    reason = step.check_task(task)
    return None if reason is None else f"{start}{reason}."


# ------------------------------------------------------------------ helpers
def _check_list(lists: Iterable[Any]) -> None:
    for steps in lists:
        if isinstance(steps, str) or not isinstance(steps, Sequence):
            raise TypeError(f"Steps should come in a list: ['flip', 'crop']. Received: {steps!r}.")


def _check_range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise ValueError(
            f"`value_range` should be two numbers in order. Received: value_range={value!r}."
        )
    return low, high


def _check_values(x: Any, value_range: tuple[float, float]) -> Any:
    """Pictures, after a check that their values lie in the range."""
    low, high = value_range
    slack = 0.05 * (high - low)
    least, largest = tf.reduce_min(x), tf.reduce_max(x)
    is_right = (tf.size(x) == 0) | ((least >= low - slack) & (largest <= high + slack))
    message = (
        f"Pictures should hold values from {low:g} to {high:g}, the augmenter's `value_range`. Give "
        f"value_range=(least, largest) of your pictures. Received values from, to:"
    )
    check = tf.debugging.Assert(is_right, [message, least, largest])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(x)


def _restore(x: Any, before: Any) -> Any:
    """A changed input in the dtype and shape that it had."""
    if before.dtype.is_integer and x.dtype.is_floating:
        x = tf.round(tf.clip_by_value(x, before.dtype.min, before.dtype.max))
    return tf.ensure_shape(tf.cast(x, before.dtype), before.shape)


def _kinds_of(data: Any, name: str) -> tuple[str, ...]:
    """What an input of a `TaskDataset` may be, the likeliest first."""
    if data.kind in KINDS and data.kind != "array":
        return (data.kind,)
    encoder = data.encoder
    if name in _tokenizers(encoder):
        return ("text",)
    if hasattr(encoder, "numeric") and name in ("numeric", "categorical"):
        return ("table",)
    field = data.input_fields[name]
    is_ids = np.dtype(field.dtype).kind in "iu"
    by_rank = {
        3: ("image", "sound"),
        2: ("array", "sound"),
        1: ("text", "table") if is_ids else ("table", "array", "sound"),
    }
    return by_rank.get(len(field.shape), ())


def _tokenizers(encoder: Any) -> dict[str, Any]:
    """The tokenizers of a mixed table's encoder, by the names of their inputs."""
    return {part.name: part for part in getattr(encoder, "texts", {}).values()}


def _encoder_of(encoder: Any, name: str) -> Any:
    return _tokenizers(encoder).get(name, encoder)


def _knows_all(kind: str, steps: Sequence[Any]) -> bool:
    try:
        for step in steps:
            get_step(step, kind)
    except ValueError:
        return False
    return True


def _kind_of(data: Any, name: str, steps: Sequence[Any]) -> str:
    """The kind of an input that has all these steps, else its likeliest."""
    kinds = _kinds_of(data, name) or ("array",)
    return next((kind for kind in kinds if _knows_all(kind, steps)), kinds[0])


def _fitting_inputs(data: Any, steps: Sequence[Any]) -> tuple[str, ...]:
    """Names of the inputs that steps can change: one, or the blocks of a table."""
    names = tuple(data.input_fields)
    if len(names) > 1:
        kinds = {name: _kind_of(data, name, steps) for name in names}
        names = tuple(name for name, kind in kinds.items() if _knows_all(kind, steps))
        if not names:
            inputs = ", ".join(f"'{name}' ({kind})" for name, kind in kinds.items())
            raise ValueError(
                f"No input has all of the steps {steps}. The data set has the inputs {inputs}: give "
                f"a list of steps for each input that should change, in a dict."
            )
    is_table = all(_kinds_of(data, name) == ("table",) for name in names)
    if len(names) > 1 and not is_table:
        raise ValueError(
            f"The data set has the inputs {', '.join(data.input_fields)}: say which ones the steps "
            f"change, for example augment={{'{names[0]}': [...]}}."
        )
    return names
