"""What a step of augmentation is, the random numbers that it draws, and every step by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import tensorflow as tf

from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["KINDS", "Batch", "Draws", "Settings", "Step", "get_step", "list_steps", "register_step"]

#: The kinds of input that steps know.
KINDS = ("image", "sound", "text", "array", "table")
_STEPS: dict[tuple[str, str], type[Step]] = {}


@dataclass(frozen=True)
class Settings:
    """What holds for all steps of one augmenter.

    Args:
        tasks: the tasks whose labels follow, by name.
        kind: one of `KINDS`.
        value_range: the least and the largest value of a picture.
        min_visible: share of a box that must stay to be seen, or else its label is dropped.
        fixed_camera: whether a zoom is an object that came nearer, or a change of lens.
    """

    tasks: Mapping[str, Task]
    kind: str = "image"
    value_range: tuple[float, float] = (0.0, 1.0)
    min_visible: float = 0.25
    fixed_camera: bool = True


@dataclass(frozen=True)
class Batch:
    """One batch on its way through the steps: one input, the labels and weights of all tasks."""

    x: Any
    y: Mapping[str, Any]
    w: Any
    settings: Settings

    @property
    def rows(self) -> Any:
        return tf.shape(self.x)[0]

    def with_input(self, x: Any) -> Batch:
        return replace(self, x=x)


class Draws:
    """The random numbers of one step and one batch: the same for the same key and order of calls.

    Args:
        key: tensor of shape (2,).
        rows: number of rows of the batch.
    """

    def __init__(self, key: Any, rows: Any) -> None:
        self.key, self.rows, self._count = key, rows, 0

    def split(self, *shape: Any) -> tuple[Any, Any]:
        """A new key, and the shape `(rows, *shape)`."""
        key = tf.random.experimental.stateless_fold_in(self.key, self._count)
        self._count += 1
        return key, tf.stack([self.rows, *shape])

    def uniform(self, *shape: Any, low: float = 0.0, high: float = 1.0) -> Any:
        """`(rows, *shape)` numbers from `low` to `high`."""
        key, full = self.split(*shape)
        return tf.random.stateless_uniform(full, key, low, high)

    def normal(self, *shape: Any) -> Any:
        """`(rows, *shape)` numbers of the standard normal distribution."""
        key, full = self.split(*shape)
        return tf.random.stateless_normal(full, key)

    def happens(self, probability: float) -> Any:
        """`(rows,)` of bool, True with this probability."""
        return self.uniform() < probability

    def partners(self, count: int = 1) -> list[Any]:
        """For each row `count` other rows, drawn by chance: `(rows,)` of int, as often as that.

        All rows stand in a circle, in a random order, and each takes those that follow it. So a row
        is never its own partner, and its partners differ, where the batch has rows enough.
        """
        key, _ = self.split()
        circle = tf.random.experimental.stateless_shuffle(tf.range(self.rows), key)
        place = tf.math.invert_permutation(circle)
        return [tf.gather(circle, (place + i) % self.rows) for i in range(1, count + 1)]


class Step:
    """Base of all steps: one change of a batch, with strengths and a probability.

    A subclass says by `effect` what it does to labels. "none": labels stay as they are. "warp":
    places move, by one affine matrix per row. "cover": a rectangle is hidden. "paste": parts of
    other pictures come in. "blend": rows are averaged. "shift": times move. How the labels of each
    kind of task follow an effect stands in one place, `mtl_keras/data/augment/labels.py`.

    Args:
        probability: float in [0, 1]. Share of the rows that the step changes. Defaults to 1.

    Examples:
        >>> @mtl.data.augment.register_step
        ... class Invert(mtl.data.augment.Step):
        ...     name, kinds = "invert", ("image",)
        ...     def change(self, batch, draws):
        ...         low, high = batch.settings.value_range
        ...         return batch.with_input(low + high - batch.x)
    """

    name: ClassVar[str] = ""
    #: The kinds of input that the step can change.
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    #: What happens to labels.
    effect: ClassVar[str] = "none"

    def __init__(self, probability: float = 1.0) -> None:
        self.probability = self._fraction("probability", probability)

    # ------------------------------------------------------------------ what subclasses define
    def check_task(self, task: Task) -> str | None:
        """Why the labels of a task cannot follow this step beyond what its effect says, or None."""
        return None

    def check_input(self, x: Any) -> None:
        """Refuse an input of a wrong rank or dtype; `x` is a tensor or its spec."""

    def with_encoder(self, encoder: Any) -> Step:
        """This step with what it takes from the encoder that made its input."""
        return self

    def change(self, batch: Batch, draws: Draws) -> Batch:
        """The batch after this step. It runs in the graph of `tf.data`: conditions on tensors are
        `tf.where`, not Python's `if`."""
        raise NotImplementedError

    # ------------------------------------------------------------------ config
    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain values."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "kwargs"]
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    # ------------------------------------------------------------------ checks
    def _refuse(self, argument: str, expected: str, value: Any) -> ValueError:
        return ValueError(
            f"`{argument}` of step '{self.name}' should be {expected}. "
            f"Received: {argument}={value!r}."
        )

    def _fraction(self, argument: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise self._refuse(argument, "a number from 0 to 1", value)
        return float(value)

    def _positive(self, argument: str, value: Any, least: float = 0.0) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value < float("inf"):
            raise self._refuse(argument, f"a finite number >= {least:g}", value)
        return float(value)

    def _interval(self, argument: str, value: Any, low: float, high: float) -> tuple[float, float]:
        """Two numbers in order, both from `low` to `high`."""
        try:
            first, second = (float(v) for v in value)
        except (TypeError, ValueError):
            raise self._refuse(argument, "two numbers", value) from None
        if not low <= first <= second <= high:
            text = f"two numbers in order, from {low:g} to {high:g}"
            raise self._refuse(argument, text, value)
        return first, second


# ------------------------------------------------------------------ registry
StepClass = TypeVar("StepClass", bound=type[Step])


def register_step(cls: StepClass) -> StepClass:
    """Class decorator: make a step known by its name, for each kind of input in its `kinds`.

    Args:
        cls: subclass of `Step` with a `name`.

    Returns:
        `cls`.

    Raises:
        ValueError: no name, an unknown kind of input, or a name that another step has.

    Examples:
        >>> @mtl.data.augment.register_step
        ... class Negate(mtl.data.augment.Step):
        ...     name, kinds = "negate", ("array",)
        ...     def change(self, batch, draws):
        ...         return batch.with_input(-batch.x)
    """
    if not cls.name:
        raise ValueError(f"Step {cls.__name__} should have a `name`. Received: ''.")
    for kind in cls.kinds:
        if kind not in KINDS:
            raise ValueError(unknown_name(f"kind of input of step '{cls.name}':", kind, KINDS))
        before = _STEPS.get((kind, cls.name))
        if before is not None and before.__qualname__ != cls.__qualname__:
            raise ValueError(
                f"A step named '{cls.name}' for inputs of kind '{kind}' is registered already: "
                f"{before.__name__}. Rename {cls.__name__}."
            )
        _STEPS[(kind, cls.name)] = cls
    return cls


def list_steps(kind: str | None = None) -> list[str]:
    """Names of all steps, or of those for one kind of input.

    Args:
        kind: "image", "sound", "text", "array", "table", or None for all.

    Returns:
        list of str, in alphabetical order.

    Examples:
        >>> mtl.data.augment.list_steps("text")
        ['word_dropout']
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(unknown_name("kind of input", kind, KINDS))
    return sorted({name for known, name in _STEPS if kind in (None, known)})


def get_step(step: Any, kind: str) -> Step:
    """A step by its name, its config (a dict with "name"), or itself.

    Raises:
        ValueError: a name that no step has, or a step for other kinds of input.
        TypeError: neither name nor step.
    """
    if isinstance(step, Mapping):
        settings = dict(step)
        return _class_of(settings.pop("name", None), kind)(**settings)
    if isinstance(step, str):
        return _class_of(step, kind)()
    if isinstance(step, type) and issubclass(step, Step):
        raise TypeError(f"A step should be an object: write {step.__name__}().")
    if not isinstance(step, Step):
        raise TypeError(
            f"A step should be a name or an object of `mtl.data.augment`. Received: {step!r}."
        )
    if kind not in step.kinds:
        raise _wrong_kind(step.name, step.kinds, kind)
    return step


def _class_of(name: Any, kind: str) -> type[Step]:
    if (kind, name) in _STEPS:
        return _STEPS[(kind, name)]
    kinds = tuple(known for known, other in _STEPS if other == name)
    if kinds:
        raise _wrong_kind(name, kinds, kind)
    raise ValueError(unknown_name("step", str(name), list_steps(kind)))


def _wrong_kind(name: str, kinds: Sequence[str], kind: str) -> ValueError:
    return ValueError(
        f"Step '{name}' changes inputs of kind {' or '.join(map(repr, kinds))}, and this input is "
        f"of kind '{kind}'. Steps for it: {', '.join(list_steps(kind))}."
    )
