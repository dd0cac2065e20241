"""What every balancer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.draws import Draws
from mtl_keras.balancing.parameters import check_parameters
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Balancer", "NamedTask", "SharedLayer", "VectorAdam", "on_simplex", "require"]


def require(balancer: Any, condition: bool, argument: str, should: str, got: Any) -> None:
    """Refuse a hyper-parameter that is out of range, naming the method."""
    if not condition:
        raise ValueError(f"{type(balancer).__name__}: {argument} must be {should}, got {got!r}.")


def on_simplex(values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """`(part, mass)`: the present tasks' entries, scaled to sum to 1, and what they summed to."""
    part = ops.where(present, values, ops.zeros_like(values))
    mass = ops.sum(part)
    mask = ops.cast(present, values.dtype)
    even = mask / ops.maximum(ops.sum(mask), 1.0)
    return ops.where(mass > 0, ops.divide_no_nan(part, mass), even), mass


@dataclass(frozen=True)
class SharedLayer:
    """A layer that two or more tasks reach.

    Attributes:
        name: its name.
        is_shared_by_all: whether every task reaches it.
        variables: those of its variables that tasks share.
    """

    name: str
    is_shared_by_all: bool
    variables: tuple[Any, ...]


class NamedTask:
    """A task of which only the name is known: a row of a matrix given by hand, a loss of somebody's
    own training loop."""

    def __init__(self, name: str):
        self.name = name


class Balancer:
    """How K task losses become one update.

    A balancer is maths: it sees the losses and, if its strategy says so, the Gram matrix of the
    task gradients, and answers with one weight per task. It knows no model, tape or device. The
    trainer calls, every training step,

    1. `weigh(losses, present, gram)` for the factors of the tasks' gradients,
    2. `total(losses, weights, present)` for the value that is logged as `balanced_loss`,
    3. `update(losses, present, learning_rate, gram, weights)`, once the step is taken, to move its
      own state.

    `weigh` and `total` are pure: called twice, they give the same answer, and no state moves. State
    moves in `update`, and for a few methods in `observe_updated_losses` and `epoch_end`. `reset`
    brings the first state back.

    `losses` are the tasks' losses times their loss weights, averaged over all replicas, so that
    every replica computes the same answer. A task without labels in the batch has `present` False:
    its weight is ignored and its state must not move.

    State lives in Keras variables made by `add_state`; it is saved with the model and restored.
    """

    #: What the trainer computes for the method, by the name of one of its strategies: "losses",
    #: "gram" (inner products of the task gradients), "gradients" (those of each variable),
    #: "samples" (products of independent batches' gradients), or "held_out" (losses on held-out
    #: data).
    strategy = "losses"
    #: Whose gradients: "parameters" (of all shared variables), "representation" (of what the heads
    #: share), or "layer".
    gradients = "parameters"
    #: Weights are computed anew every so many steps.
    update_every = 1
    #: In how many groups of variables the task gradients are made and let go, before a weighted
    #: backward pass; 0 keeps them.
    gradient_groups = 0
    #: Whether `observe_updated_losses` wants the losses of the same batch after the step.
    observes_updated_losses = False
    #: Whether the losses must be positive.
    positive = False
    #: Whether a task's own head gets its gradient times the task's weight (True), or as it is
    #: (False). Gram methods take it as the argument `scale_heads`; this is the method's default.
    scales_heads = True
    #: Whether `balanced_loss` differs from the plain `loss` and is logged beside it.
    reports_total = True
    #: Independent data of the user's, for methods that need more than the training batch.
    data: Any = None
    #: Whether a loop of one's own has yet to call `observe_updated_losses` for its last step.
    awaits_updated_losses = False
    #: The methods that this one is made of.
    parts: Sequence[Balancer] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_parameters(cls, kwargs)
        return super().__new__(cls)

    def __init__(self) -> None:
        self.task_names: list[str] = []
        self.loss_functions: dict[str, Any] = {}
        self._state: dict[str, keras.Variable] = {}
        self._first_values: dict[str, np.ndarray] = {}

    @property
    def built(self) -> bool:
        return bool(self.task_names)

    # ------------------------------------------------------------------ state
    def build(self, tasks: Sequence[Any], losses: Mapping[str, Any] | None = None) -> None:
        """Make the state for these tasks. Called once, by `compile`; calling again starts anew.

        Args:
            tasks: list of `Task`, or of names where no task objects exist.
            losses: dict of task name to the loss that is trained with. Tasks that are not named
                have their own. Methods that read a loss find it as `self.loss_functions[name]`
                (None: not known).
        """
        tasks = [NamedTask(task) if isinstance(task, str) else task for task in tasks]
        self.task_names = [task.name for task in tasks]
        trained = losses or {}
        self.loss_functions = {
            task.name: trained[task.name] if task.name in trained else getattr(task, "loss", None)
            for task in tasks
        }
        self._state, self._first_values = {}, {}
        if self.update_every > 1:
            # The last solution, for the steps between two.
            self.cached_weights = self.add_state("cached_weights", np.ones(len(tasks)))
            self.cached_head_weights = self.add_state("cached_head_weights", np.ones(len(tasks)))
            self.steps = self.add_state("steps", np.zeros(()))
        self.build_state(tasks)

    def build_state(self, tasks: Sequence[Any]) -> None:
        """Make variables with `add_state`, and check that the tasks suit this method."""

    def add_state(self, name: str, value: Any) -> keras.Variable:
        """A float32 variable that is saved with the model and is the same on all replicas."""
        value = np.asarray(value, "float32")
        variable = keras.Variable(
            value,
            dtype="float32",
            trainable=False,
            name=name.replace(".", "_"),
            aggregation="only_first_replica",
            autocast=False,
        )
        self._keep_first_value(name, variable, value)
        return variable

    def add_draws(self, seed: int) -> Draws:
        """A source of random draws whose state is saved with the model and is the same on all
        replicas."""
        draws = Draws(seed)
        self._keep_first_value("seed", draws.state, draws.state.numpy())
        return draws

    def _keep_first_value(self, name: str, variable: keras.Variable, value: np.ndarray) -> None:
        self._state[name] = variable
        if value.size and (value == value.flat[0]).all():
            # One number, seen in the variable's shape: states may be as large as all gradients.
            value = np.broadcast_to(value.flat[0], value.shape)
        self._first_values[name] = value

    def reset(self) -> None:
        """Bring back the state that `build` made. Before `build` there is none, and nothing
        happens."""
        for part in self.parts:
            part.reset()
        for name, value in self._first_values.items():
            self._state[name].assign(value)
        self.awaits_updated_losses = False

    @property
    def variables(self) -> list[keras.Variable]:
        return list(self._state.values())

    @property
    def state(self) -> dict[str, keras.Variable]:
        """The variables by the names under which they are saved."""
        return dict(self._state)

    # ------------------------------------------------------------------ answers
    def pre_weights(self, losses: Tensor, present: Tensor) -> Tensor | None:
        """Factors of the losses that come before everything else, or None: a first method in front
        of this one."""
        return None

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        """Weights of the tasks, shape `(tasks,)`. Moves no state.

        Args:
            losses: float tensor `(tasks,)`; 0 where a task is absent.
            present: bool tensor `(tasks,)`.
            gram: float tensor `(tasks, tasks)` of inner products of the task gradients, for methods
                that need it.
        """
        raise NotImplementedError

    def weigh_all(
        self, losses: Tensor, present: Tensor, gram: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`weigh` for the shared variables, and the same for the tasks' own heads."""
        weights = self.weigh(losses, present, gram)
        return weights, weights if self.scales_heads else ops.ones_like(weights)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        """The scalar that the weighting optimizes. The default is the weighted sum of the present
        tasks' losses."""
        return ops.sum(ops.where(present, weights * losses, ops.zeros_like(losses)))

    def choose_layer(self, layers: Sequence[SharedLayer]) -> SharedLayer | None:
        """The one layer whose gradients count, of those that tasks share; None where all shared
        variables count."""
        return None

    def current(self) -> dict[str, float]:
        """What the state says of each task's weight now, where it says anything; for reports."""
        return {}

    def named(self, values: Any) -> dict[str, float]:
        """Numbers by task name.

        Args:
            values: tensor or variable `(tasks,)`.
        """
        numbers = map(float, ops.convert_to_numpy(values))
        return dict(zip(self.task_names, numbers, strict=True))

    # ------------------------------------------------------------------ actions
    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Move the state by one step. Absent tasks' state must stay as it is.

        With `update_every` above 1 it is called in steps that computed weights, or with no task
        present.

        Args:
            losses, present, gram: what `weigh` saw.
            learning_rate: scalar. The optimizer's.
            weights: `(tasks,)`. What `weigh` answered.
            rows: by variable, what `transform` answered, for methods that work on the gradients
                themselves.

        Without `gram`, `weights` or `rows`, what is learned from them stays as it is.
        """

    def end_step(
        self,
        raw_losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        pre_weights: Tensor | None = None,
    ) -> None:
        """Called once the step is taken, also where its weights were those of an earlier step.

        Args:
            raw_losses: `(tasks,)`, before `pre_weights`.
            pre_weights: `(tasks,)`. What the method of that name answered.
        """
        if self.update_every > 1:
            following = self.steps.value + 1.0
            self.steps.assign(ops.where(following >= self.update_every, 0.0, following))

    def cache_weights(self, weights: Tensor, head_weights: Tensor, present: Tensor) -> None:
        """Keep the weights for the steps until the next are computed."""
        for variable, values in (
            (self.cached_weights, weights),
            (self.cached_head_weights, head_weights),
        ):
            variable.assign(ops.where(present, values, variable.value))

    def observe_updated_losses(self, losses: Tensor, present: Tensor) -> None:
        """Called after `update`, with the same batch's losses under the new weights, where
        `observes_updated_losses`."""

    def epoch_end(self) -> None:
        """Called by `fit` at the end of every epoch, before the user's callbacks. Not part of the
        traced step."""

    # ------------------------------------------------------------------ state and config
    def save_state(self, store: Any, prefix: str) -> None:
        for name, variable in self._state.items():
            store[f"{prefix}{name}"] = variable

    def load_state(self, store: Any, prefix: str) -> None:
        """Take the state from a weight file. A file of a model that was trained with another method
        has none of it, and leaves the state as it is; a part of it is refused."""
        keys = {f"{prefix}{name}" for name in self._state}
        stored = keys & set(store.keys())
        if stored and stored != keys:
            missing = ", ".join(sorted(keys - stored))
            raise ValueError(
                f"The weight file holds only a part of the state of balancer '{self.name}'; "
                f"missing: {missing}."
            )
        for name, variable in self._state.items():
            key = f"{prefix}{name}"
            if key in stored:
                if tuple(store[key].shape) != tuple(variable.shape):
                    raise ValueError(
                        f"State '{name}' of balancer '{self.name}' has shape "
                        f"{tuple(variable.shape)}, in the weight file "
                        f"{tuple(store[key].shape)}: the model was trained with other tasks."
                    )
                variable.assign(store[key])

    #: The registered name; set by `mtl_keras.balancing.register`.
    name = "balancer"

    def get_config(self) -> Config:
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**config)

    def by_task(
        self, argument: str, values: Mapping[str, float] | None, default: float
    ) -> list[float]:
        """A number for each task from a dict by task name.

        Raises:
            ValueError: a name that is no task's.
        """
        for name in values or {}:
            if name not in self.task_names:
                raise ValueError(
                    unknown_name(
                        f"task in `{argument}` of balancer '{self.name}':", name, self.task_names
                    )
                )
        return [float((values or {}).get(name, default)) for name in self.task_names]

    def __getattr__(self, name: str) -> Any:
        # Only for what is nowhere else. Methods that work on matrices given by hand have these two.
        if name in ("aggregate", "weights"):
            raise AttributeError(
                f"Balancer '{self.name}' weighs losses and can't combine given gradients: it has "
                f"no `{name}`. Call its "
                "`weigh`, train with `model.compile(balancer=...)` or "
                "`mtl.training.balanced_gradients`, or take a method "
                "that works on gradients, such as 'upgrad'."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class VectorAdam:
    """Adam (Kingma & Ba, ICLR 2015) for one number per task, in which a task that is absent is left
    as it is.

    Each task counts its own steps, so that a task whose labels are rare is corrected for its own
    number of updates.

    Args:
        balancer: the `Balancer` that owns the state.
        variable: `keras.Variable` of shape `(tasks,)`.
    """

    def __init__(
        self,
        balancer: Balancer,
        variable: keras.Variable,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
    ):
        self.variable, self.beta1, self.beta2, self.epsilon = variable, beta1, beta2, epsilon
        zeros = np.zeros(tuple(variable.shape), "float32")
        self._first = balancer.add_state(f"{variable.name}_adam_first", zeros)
        self._second = balancer.add_state(f"{variable.name}_adam_second", zeros)
        self._steps = balancer.add_state(f"{variable.name}_adam_steps", zeros)

    def following(self, gradient: Tensor, present: Tensor, learning_rate: Tensor) -> Tensor:
        """What `step` would make of the variable. Moves nothing."""
        return self._following(gradient, present, learning_rate)[-1]

    def step(self, gradient: Tensor, present: Tensor, learning_rate: Tensor) -> None:
        """Move the variable against `gradient` where `present`."""
        values = self._following(gradient, present, learning_rate)
        variables = (self._first, self._second, self._steps, self.variable)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _following(
        self, gradient: Tensor, present: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.beta1 * self._first.value + (1 - self.beta1) * gradient
        second = self.beta2 * self._second.value + (1 - self.beta2) * ops.square(gradient)
        steps = self._steps.value + 1.0
        rate = learning_rate * ops.sqrt(1 - self.beta2**steps) / (1 - self.beta1**steps)
        moved = self.variable.value - rate * first / (ops.sqrt(second) + self.epsilon)
        return (
            ops.where(present, first, self._first.value),
            ops.where(present, second, self._second.value),
            ops.where(present, steps, self._steps.value),
            ops.where(present, moved, self.variable.value),
        )
