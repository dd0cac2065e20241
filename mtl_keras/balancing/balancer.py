"""What every balancer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.parameters import check_parameters
from mtl_keras.runtime.names import unknown_name

__all__ = ["Balancer", "NamedTask", "VectorAdam", "on_simplex", "require"]


def require(balancer: Any, condition: bool, argument: str, should: str, got: Any) -> None:
    """Refuse a hyper-parameter that is out of range, naming the method."""
    if not condition:
        raise ValueError(f"{type(balancer).__name__}: {argument} must be {should}, got {got!r}.")


def on_simplex(values, present):
    """`(part, mass)`: the entries of the tasks that are there, summing to 1, and what they summed to."""
    part = ops.where(present, values, ops.zeros_like(values))
    mass = ops.sum(part)
    count = ops.maximum(ops.sum(ops.cast(present, values.dtype)), 1.0)
    even = ops.cast(present, values.dtype) / count
    return ops.where(mass > 0, part / ops.where(mass > 0, mass, ops.ones_like(mass)), even), mass


class NamedTask:
    """A task of which only the name is known: a row of a matrix given by hand, a loss of somebody's own training loop."""

    def __init__(self, name: str):
        self.name = name


class Balancer:
    """How K task losses become one update.

    A balancer is maths: it sees the losses and, if `needs` says so, the Gram matrix of the task gradients, and answers
    with one weight a task. It knows no model, tape or device. The trainer calls, every training step,

    1. `weigh(losses, present, gram)` for the factors of the tasks' gradients,
    2. `total(losses, weights, present)` for the value that is logged as `balanced_loss`,
    3. `update(losses, present, learning_rate)`, once the step is taken, to move its own state.

    `losses` are the tasks' losses times their loss weights, averaged over all replicas, so that every replica computes
    the same answer. A task without labels in the batch has `present` False: its weight is ignored and its state must
    not move.

    State lives in Keras variables made by `add_state`; it is saved with the model and restored.
    """

    #: "losses"; "gram" for methods that also need inner products of the task gradients; "gradients" for those that work on
    #: the gradients themselves, one number at a time or with a state of their size.
    needs = "losses"
    #: Whose gradients: "parameters" (of all shared variables), "representation" (of what the heads share), or "layer".
    gradients = "parameters"
    #: Weights are computed anew every so many steps.
    every = 1
    #: Whether the task gradients are let go once their products are known, and a weighted backward pass follows.
    two_pass = False
    #: How many independent batches one step needs.
    batches = 1
    #: Whether `look` wants the losses of the same batch after the step.
    second_look = False
    #: Whether the losses must be positive.
    positive = False
    #: Whether the method learns on data that are held out from training.
    held_out = False
    #: Whether a task's own head gets its gradient times the task's weight (True), or as it is (False). Gram methods take
    #: it as the argument `scale_heads`; this is the method's default.
    scales_heads = True
    #: Whether `balanced_loss` differs from the plain `loss` and is logged beside it.
    reports_total = True
    #: Independent data of the user's, for methods that need more than the training batch.
    data: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Balancer:
        check_parameters(cls, kwargs)
        return super().__new__(cls)

    def __init__(self) -> None:
        self.task_names: list[str] = []
        self.loss_functions: dict[str, Any] = {}
        self._state: dict[str, keras.Variable] = {}

    @property
    def built(self) -> bool:
        return bool(self.task_names)

    def build(self, tasks: Sequence[Any], losses: Mapping[str, Any] | None = None) -> None:
        """Make the state for these tasks. Called once, by `compile`; calling again starts anew.

        Args:
            tasks: list of `Task`, or of names where no task objects exist.
            losses: dict of task name to the loss that is trained with. Tasks that are not named have their own. Methods that
                read a loss find it as `self.loss_functions[name]` (None: not known).
        """
        tasks = [NamedTask(task) if isinstance(task, str) else task for task in tasks]
        self.task_names = [task.name for task in tasks]
        trained = losses or {}
        self.loss_functions = {
            task.name: trained[task.name] if task.name in trained else getattr(task, "loss", None)
            for task in tasks
        }
        self._state = {}
        if self.every > 1:
            # What the last solution was, for the steps between two.
            self.kept = self.add_state("kept", np.ones(len(tasks)))
            self.kept_heads = self.add_state("kept_heads", np.ones(len(tasks)))
            self.steps = self.add_state("steps", np.zeros(()))
        self.build_state(tasks)

    def build_state(self, tasks: Sequence[Any]) -> None:
        """Make variables with `add_state`, and check that the tasks suit this method."""

    def add_state(self, name: str, value: Any) -> keras.Variable:
        """A float32 variable that is saved with the model and is the same on all replicas."""
        variable = keras.Variable(
            np.asarray(value, "float32"),
            dtype="float32",
            trainable=False,
            name=name.replace(".", "_"),
            aggregation="only_first_replica",
            autocast=False,
        )
        self._state[name] = variable
        return variable

    @property
    def variables(self) -> list[keras.Variable]:
        return list(self._state.values())

    def weigh(self, losses, present, gram=None):
        """Weights of the tasks, shape `(tasks,)`.

        Args:
            losses: float tensor `(tasks,)`; 0 where a task is absent.
            present: bool tensor `(tasks,)`.
            gram: float tensor `(tasks, tasks)` of inner products of the task gradients, for methods that need it.
        """
        raise NotImplementedError

    def weigh_all(self, losses, present, gram=None):
        """`weigh` for the shared variables, and the same for the tasks' own heads."""
        weights = self.weigh(losses, present, gram)
        return weights, weights if self.scales_heads else ops.ones_like(weights)

    def total(self, losses, weights, present):
        """The scalar that the weighting optimizes. The default is the weighted sum of the present tasks' losses."""
        return ops.sum(ops.where(present, weights * losses, ops.zeros_like(losses)))

    def update(self, losses, present, learning_rate) -> None:
        """Move the state by one step. Absent tasks' state must stay as it is."""

    def lead(self, losses, present):
        """Factors of the losses that come before everything else, or None: a first method in front of this one."""
        return

    def step_end(self, raw, losses, present, learning_rate) -> None:
        """What the trainer calls instead of `update`: with the losses before and after `lead`."""
        self.update(losses, present, learning_rate)

    def look(self, losses, present) -> None:
        """Called after the step, with the same batch's losses under the new weights, where `second_look` is True."""

    def epoch_end(self) -> None:
        """Called by `fit` at the end of every epoch, before the user's callbacks. Not part of the traced step."""

    def current(self) -> dict[str, float]:
        """What the state says of each task's weight now, where it says anything; for reports."""
        return {}

    # ------------------------------------------------------------------ state and config
    def save_state(self, store: Any, prefix: str) -> None:
        for name, variable in self._state.items():
            store[f"{prefix}{name}"] = variable

    def load_state(self, store: Any, prefix: str) -> None:
        """Take the state from a weight file. A file of a model that was trained with another method has none of it, and
        leaves the state as it is; a part of it is refused."""
        keys = {f"{prefix}{name}" for name in self._state}
        there = keys & set(store.keys())
        if there and there != keys:
            missing = ", ".join(sorted(keys - there))
            raise ValueError(
                f"The weight file holds only a part of the state of balancer '{self.name}'; missing: {missing}."
            )
        for name, variable in self._state.items():
            key = f"{prefix}{name}"
            if key in there:
                if tuple(store[key].shape) != tuple(variable.shape):
                    raise ValueError(
                        f"State '{name}' of balancer '{self.name}' has shape {tuple(variable.shape)}, in the weight file "
                        f"{tuple(store[key].shape)}: the model was trained with other tasks."
                    )
                variable.assign(store[key])

    #: The registered name; set by `mtl_keras.balancing.register`.
    name = "balancer"

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Balancer:
        return cls(**config)

    def by_task(self, argument: str, given: Any, default: float) -> list[float]:
        """A number a task from a dict by task name.

        Raises:
            ValueError: a name that is no task's.
        """
        for name in given or {}:
            if name not in self.task_names:
                raise ValueError(
                    unknown_name(
                        f"task in `{argument}` of balancer '{self.name}':", name, self.task_names
                    )
                )
        return [float((given or {}).get(name, default)) for name in self.task_names]

    def add_seed(self, seed: int) -> keras.random.SeedGenerator:
        """A source of random draws whose state is saved with the model and is the same on all replicas."""
        generator = keras.random.SeedGenerator(seed)
        self._state["seed"] = generator.state
        return generator

    def __getattr__(self, name: str) -> Any:
        # Only for what is nowhere else. Methods that work on matrices given by hand have these two.
        if name in ("aggregate", "weights"):
            raise AttributeError(
                f"Balancer '{self.name}' weighs losses and can't combine given gradients: it has no `{name}`. Call its "
                "`weigh`, train with `model.compile(balancer=...)` or `mtl.training.balanced_gradients`, or take a method "
                "that works on gradients, such as 'upgrad'."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class VectorAdam:
    """Adam (Kingma & Ba, ICLR 2015) for one number a task, in which a task that is absent is left as it is.

    Each task counts its own steps, so that a task whose labels are rare is corrected for its own number of updates.

    Args:
        balancer: the `Balancer` that owns the state.
        variable: `keras.Variable` of shape `(tasks,)`.
    """

    def __init__(
        self, balancer: Balancer, variable: keras.Variable, beta1=0.9, beta2=0.999, epsilon=1e-7
    ):
        self.variable, self.beta1, self.beta2, self.epsilon = variable, beta1, beta2, epsilon
        zeros = np.zeros(tuple(variable.shape), "float32")
        self._first = balancer.add_state(f"{variable.name}_adam_first", zeros)
        self._second = balancer.add_state(f"{variable.name}_adam_second", zeros)
        self._steps = balancer.add_state(f"{variable.name}_adam_steps", zeros)

    def step(self, gradient, present, learning_rate) -> None:
        """Move the variable against `gradient` where `present`."""
        first = self.beta1 * self._first.value + (1 - self.beta1) * gradient
        second = self.beta2 * self._second.value + (1 - self.beta2) * ops.square(gradient)
        steps = self._steps.value + 1.0
        rate = learning_rate * ops.sqrt(1 - self.beta2**steps) / (1 - self.beta1**steps)
        moved = self.variable.value - rate * first / (ops.sqrt(second) + self.epsilon)
        for variable, new in (
            (self._first, first),
            (self._second, second),
            (self._steps, steps),
            (self.variable, moved),
        ):
            variable.assign(ops.where(present, new, variable.value))
