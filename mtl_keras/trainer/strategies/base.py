"""What a strategy is: one way from the task losses of a step to a gradient for each variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_keras.balancing import Balancer
from mtl_keras.runtime.names import refuse_taken_name, unknown_name

__all__ = ["GradientUpdate", "Scope", "Strategy", "get", "names", "register"]


@dataclass
class GradientUpdate:
    """What a strategy makes of a step's losses.

    Attributes:
        gradients: one for each variable, or None where nothing reaches it.
        weights: `(tasks,)`, the tasks' weights for the shared variables.
        head_weights: `(tasks,)`, the same for the tasks' own heads. None: those for the shared
            variables.
        gram: `(tasks, tasks)`, products of the task gradients, or None where none were made;
            `BalanceMonitor` shows them.
        measured: what the balancer's `weigh` and `update` see as `gram`, or None.
        rows: by variable, what the balancer's `transform` answered, or None.
        present: bool `(tasks,)`. Which tasks took part in balancing. None: those of the batch.
        is_due: bool scalar. Whether the weights were computed in this step. None: they always are.
    """

    gradients: Sequence[Any]
    weights: Any
    head_weights: Any = None
    gram: Any = None
    measured: Any = None
    rows: dict[str, Any] | None = None
    present: Any = None
    is_due: Any = None

    def __post_init__(self) -> None:
        if self.head_weights is None:
            self.head_weights = self.weights


class Scope:
    """Which variables a step trains, and what is known of them.

    Attributes:
        variables: all that are trained.
        is_narrowed: whether fewer than all shared variables are looked at.
        is_watched: whether someone wants to see the products of the task gradients.
    """

    variables: Sequence[Any] = ()
    is_narrowed = False
    is_watched = False

    @property
    def sources(self) -> list[Any]:
        """The shared variables whose gradients the balancer looks at."""
        raise NotImplementedError

    def is_head(self, variable: Any) -> bool:
        """Whether only one task's loss reaches a variable."""
        raise NotImplementedError

    def sides(self) -> tuple[list[Any], list[Any]]:
        """The variables before the shared representation, and those behind it."""
        raise NotImplementedError


class Strategy:
    """One way from the task losses of a step to a gradient for each variable.

    A balancer names its strategy (`Balancer.strategy`). A new kind of method is one subclass, made
    known with `register`, that writes `compute`.

    Args:
        balancer: the balancer that it works for.
    """

    #: Whether the balancer looks at gradients of shared variables.
    uses_gradients = True
    #: Whether gradients are changed one number at a time, so that no task may reach the trunk
    #: around the representation.
    changes_gradients = False
    #: How many batches a step trains on.
    num_batches = 1
    #: How many batches a step takes from the balancer's own data, where it has some.
    extra_batches = 0
    #: Whether it can't do without data of its own.
    requires_data = False
    #: Whether `prepare` makes passes that must leave no trace.
    looks_ahead = False

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    @property
    def at_representation(self) -> bool:
        """Whether the forward pass stops at the tensors that the heads share, to take gradients
        there."""
        return self.uses_gradients and self.balancer.gradients == "representation"

    def build(self, compiled: Any) -> None:
        """Make state that depends on the shared variables.

        Args:
            compiled: `CompiledTasks`.
        """

    def split(self, data: Any) -> tuple[list[Any], list[Any]]:
        """`(batches, others)`: what is trained on, the batch of the step last, and batches for
        `prepare`."""
        return [data], []

    def prepare(
        self, compiled: Any, batches: Sequence[Any], others: Sequence[Any], before: Any
    ) -> None:
        """Do what comes before the step.

        Args:
            compiled: `CompiledTasks`.
            batches, others: what `split` answered.
            before: values of the model's non-trainable variables, where `looks_ahead`.
        """

    def compute(self, forwards: Sequence[Any], scope: Scope) -> GradientUpdate:
        """The gradients of a step.

        Args:
            forwards: the forward passes of the step's batches, each with `tape`, `each` (the tasks'
                losses), `seen` (their values), `present`, `scale` and `added`.
            scope: the variables.
        """
        raise NotImplementedError

    def logged(self, forwards: Sequence[Any]) -> Sequence[Any]:
        """The forward passes whose losses and metrics count as the training data's; the step's own
        is the last one."""
        return forwards


_STRATEGIES: dict[str, type[Strategy]] = {}


def register(name: str) -> Callable[[type[Strategy]], type[Strategy]]:
    """Class decorator: make a strategy known by the name that balancers give.

    Raises:
        ValueError: the name is that of another class.

    Examples:
        >>> @mtl.trainer.strategies.register("sign")
        ... class FromSigns(mtl.trainer.strategies.Strategy):
        ...     def compute(self, forwards, scope): ...
    """

    def decorate(cls: type[Strategy]) -> type[Strategy]:
        refuse_taken_name("Strategy", name, _STRATEGIES.get(name), cls)
        _STRATEGIES[name] = cls
        return cls

    return decorate


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_STRATEGIES)


def get(balancer: Balancer) -> Strategy:
    """The strategy that a balancer names.

    Raises:
        ValueError: no strategy of this name is registered.
    """
    if balancer.strategy not in _STRATEGIES:
        raise ValueError(
            unknown_name(f"strategy of balancer '{balancer.name}':", balancer.strategy, names())
        )
    return _STRATEGIES[balancer.strategy](balancer)
