"""The harness of balancers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras import balancing
from mtl_keras.balancing import Balancer
from mtl_keras.testing.checks import (
    check_absent_task,
    check_config,
    check_gradients,
    check_saving,
    check_step,
    expect,
    train_step,
)
from mtl_keras.testing.networks import table_data, table_model

__all__ = ["run_balancer_test"]

#: Factors by which losses and gradients are scaled: the answer should be finite for all of them.
_SCALES = (1e-6, 1.0, 1e6)
_TASKS = ("a", "b", "c")


def run_balancer_test(balancer: Any, *, has_training: bool = True) -> Balancer:
    """Hold a balancer to what every balancer promises.

    The promises: it is registered, so that saved models can be loaded; its config makes it anew;
    weights are finite whatever the scale of losses and gradients, and asking for them changes no
    state; a task without labels leaves its entries of the state as they are; a model trains with
    it, leaves the head of a task without labels as it is, is saved and loaded with the balancer's
    state, and takes the same next step as one that was never saved.

    Args:
        balancer: name, dict or class, as `mtl.balancing.get` takes them, or a function that returns
            a new `Balancer`.
        has_training: bool. False checks the mathematics only, within milliseconds.

    Returns:
        The balancer, with the state that training left.

    Raises:
        AssertionError: which promise is broken, and where.

    Examples:
        >>> @mtl.balancing.register("inverse_loss")
        ... class InverseLoss(mtl.balancing.Balancer):
        ...     \"\"\"Each task's loss is divided by itself: all count the same (an example).\"\"\"
        ...
        ...     def weigh(self, losses, present, gram=None):
        ...         return keras.ops.divide_no_nan(keras.ops.ones_like(losses), losses)
        >>> balancer = mtl.testing.run_balancer_test(InverseLoss)
    """
    make = _factory(balancer)
    subject = f"Balancer {type(make()).__name__}"
    _check_identity(subject, make())
    if make().strategy != "gradients":
        _check_weights(subject, make)
    _check_absent_state(subject, make)
    return _check_training(subject, make) if has_training else make()


def _factory(balancer: Any) -> Callable[[], Balancer]:
    """A function that makes the balancer with fresh state each time it is called."""
    if inspect.isfunction(balancer):
        return balancer
    if isinstance(balancer, Balancer):
        raise TypeError(
            "`balancer` should be a name, a dict, a class, or a function that makes a balancer: "
            "each check starts with "
            f"fresh state. Received: the object {balancer!r}. Write `lambda: {balancer!r}`."
        )
    return lambda: balancing.get(balancer)


def _build(make: Callable[[], Balancer]) -> Balancer:
    from mtl_keras.tasks import Regression

    balancer = make()
    balancer.build([Regression(name) for name in _TASKS])
    return balancer


def _check_identity(subject: str, balancer: Balancer) -> None:
    """Registration, documentation and config."""
    cls = type(balancer)
    registered = keras.saving.get_registered_object(keras.saving.get_registered_name(cls))
    expect(
        registered is cls,
        subject,
        "the class is registered, so that saved models can be loaded",
        '`@mtl.balancing.register("a_name")` above the class does it.',
    )
    expect((cls.__doc__ or "").strip(), subject, "the class has a docstring")
    check_config(subject, balancer)


def _check_weights(subject: str, make: Callable[[], Balancer]) -> None:
    """Finite weights, one per task, for losses and gradients of any scale; and `weigh` changes no
    state."""
    rng = np.random.default_rng(0)
    independent = rng.standard_normal((3, 8))
    cases = [(f"gradients of scale {scale}", independent, scale) for scale in _SCALES]
    cases += [("equal gradients", np.ones((3, 8)), 1.0), ("no gradients", np.zeros((3, 8)), 1.0)]
    is_present = ops.convert_to_tensor(np.array([True, True, True]))
    for case, jacobian, scale in cases:
        balancer = _build(make)
        losses = ops.convert_to_tensor(
            np.float32([0.5, 2.0, 8.0]) * scale,  # type: ignore[arg-type]
        )
        gram = ops.convert_to_tensor((jacobian @ jacobian.T * scale**2).astype("float32"))
        state = _values(balancer)
        weights = np.asarray(balancer.weigh(losses, is_present, gram))
        expect(
            weights.shape == (3,) and np.isfinite(weights).all(),
            subject,
            "`weigh` gives one finite weight per task",
            f"{weights} for {case}.",
        )
        _expect_same(subject, balancer, state, "`weigh` answers and changes no state")


def _check_absent_state(subject: str, make: Callable[[], Balancer]) -> None:
    """`update` with an absent task leaves that task's entries of the state as they are."""
    balancer = _build(make)
    state = _values(balancer)
    losses = ops.convert_to_tensor(np.float32([4.0, 0.0, 2.0]))  # type: ignore[arg-type]
    is_present = ops.convert_to_tensor(np.array([True, False, True]))
    for _ in range(3):
        balancer.update(losses, is_present, 0.1)
    for name, variable in balancer._state.items():
        values = variable.numpy()
        expect(
            np.isfinite(values).all(), subject, "state stays finite", f"`{name}` becomes {values}."
        )
        if values.shape[:1] == (3,):
            expect(
                np.array_equal(values[1], state[name][1]),
                subject,
                "a task without labels leaves its state as it is",
                f"`{name}` of the absent task went from {state[name][1]} to {values[1]}.",
            )


def _check_training(subject: str, make: Callable[[], Balancer]) -> Balancer:
    """Two epochs, a batch without one task's labels, and the same next step after saving and
    loading."""
    x, y = table_data()
    model = table_model()
    own_variables = check_gradients(subject, model, x[:2])
    model.compile(keras.optimizers.SGD(0.01), balancer=make())
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    expect(
        all(np.isfinite(values).all() for values in history.values()),
        subject,
        "a model trains with it, and all logged values are finite",
        f"{history}.",
    )
    check_step(subject, model, x[:16], {name: labels[:16] for name, labels in y.items()})
    batch = (x[16:], {name: labels[16:] for name, labels in y.items()})
    check_absent_task(subject, model, *batch, "sold", own_variables["sold"])
    _check_resumed(subject, model, batch)
    return model.balancer  # type: ignore[return-value]


def _check_resumed(subject: str, model: Any, batch: Sequence[Any]) -> None:
    """A loaded model has the balancer's state, and takes the step that the saved one takes."""
    loaded: Any = check_saving(subject, model, batch[0])
    expect(
        type(loaded.balancer) is type(model.balancer),
        subject,
        "a loaded model has the same balancer",
        type(loaded.balancer).__name__,
    )
    _expect_same(
        subject,
        loaded.balancer,
        _values(model.balancer),
        "its state is saved with the model",
    )
    # A file can't hold a data set: the user gives it again.
    loaded.balancer.data = model.balancer.data
    for network in (model, loaded):
        train_step(network, *batch)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        expect(
            np.allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6),
            subject,
            "a loaded model takes the same next step",
            f"{one.path} differs.",
        )


def _values(balancer: Balancer) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in balancer._state.items()}


def _expect_same(
    subject: str, balancer: Balancer, state: dict[str, np.ndarray], promise: str
) -> None:
    """The balancer's state is this one."""
    values = _values(balancer)
    changed = [
        name
        for name in state.keys() | values.keys()
        if name not in values
        or name not in state
        or not np.array_equal(values[name], state[name], equal_nan=True)
    ]
    expect(not changed, subject, promise, f"Other values: {sorted(changed)}.")
