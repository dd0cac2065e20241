"""Around `fit`: epochs that balancers count, data of their own, and errors in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mtl_keras.data import labels
from mtl_keras.data.epochs import EpochFollower
from mtl_keras.trainer.forward import BAD_LOSS
from mtl_keras.trainer.strategies import Strategy
from mtl_keras.trainer.strategies.held_out import missing_data_message

__all__ = ["EVALUATE_ARGUMENTS", "FIT_ARGUMENTS", "by_name", "prepare_fit_data", "readable_errors"]


class _Epochs(keras.callbacks.Callback):
    """Tells the balancer that an epoch is over, before any of the user's callbacks save the
    model. Streams whose order follows from the epoch are told its number."""

    def __init__(self, follower: EpochFollower) -> None:
        super().__init__()
        self.follower = follower

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.follower.begin(epoch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.follower.end(epoch)
        self.model.balancer.epoch_end()


#: What `fit` and `evaluate` take after x and y, in Keras's order.
FIT_ARGUMENTS = (
    "batch_size",
    "epochs",
    "verbose",
    "callbacks",
    "validation_split",
    "validation_data",
    "shuffle",
    "class_weight",
    "sample_weight",
    "initial_epoch",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)
EVALUATE_ARGUMENTS = ("batch_size", "verbose", "sample_weight", "steps", "callbacks")


def by_name(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Positional arguments by their names, beside those that have one.

    Raises:
        TypeError: more of them than names, or one that is there twice.
    """
    if len(args) > len(names):
        raise TypeError(f"At most {len(names)} arguments are taken after x and y, got {len(args)}.")
    positional = dict(zip(names, args, strict=False))
    for name in positional:
        if name in kwargs:
            raise TypeError(f"Argument `{name}` came twice, by its position and by its name.")
    return {**positional, **kwargs}


def prepare_fit_data(
    model: Any, x: Any, y: Any, kwargs: dict[str, Any], follower: EpochFollower
) -> tuple[Any, Any, dict[str, Any]]:
    """The arguments of `fit`, with the balancer's callback and, beside the training data, the
    balancer's own."""
    compiled = model.compiled_tasks
    kwargs = dict(kwargs)
    callbacks = kwargs.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks.insert(0, _Epochs(follower))
        callbacks.callbacks[0].set_model(model)
    else:
        if callbacks is not None and not isinstance(callbacks, (list, tuple)):
            callbacks = [callbacks]
        kwargs["callbacks"] = [_Epochs(follower), *(callbacks or [])]
    balancer, strategy = compiled.balancer, compiled.strategy
    if strategy.requires_data and balancer.data is None:
        raise ValueError(missing_data_message(balancer))
    if strategy.extra_batches and balancer.data is not None:
        labels.check_data(balancer.data, None, None, model, "balancing")
        x, y = _zipped(model, strategy, x, y, kwargs), None
        compiled.zipped = True
    return x, y, kwargs


def _zipped(
    model: Any, strategy: Strategy, x: Any, y: Any, kwargs: dict[str, Any]
) -> tf.data.Dataset:
    """A data set whose elements are a training batch and as many batches of the balancer's as it
    needs."""
    balancer = strategy.balancer
    if kwargs.get("validation_split"):
        raise ValueError(
            f"Balancer '{balancer.name}' has data of its own: split off validation data before, "
            f"not by `fit`."
        )
    if hasattr(x, "element_spec"):
        base = x
    elif y is not None:
        weight = kwargs.pop("sample_weight", None)
        whole = (x, y) if weight is None else (x, y, weight)
        rows = len(tf.nest.flatten(x)[0])
        base = tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(np.asarray, whole))
        if kwargs.get("shuffle", True):
            base = base.shuffle(rows, seed=int(keras.random.randint((), 0, 2**31 - 1)))
        base = base.batch(kwargs.pop("batch_size", None) or 32)
    else:
        raise ValueError(
            f"Balancer '{balancer.name}' has data of its own: train on arrays or a tf.data.Dataset."
        )
    kwargs["shuffle"] = False
    number = strategy.extra_batches
    size = int(balancer.data.cardinality())
    if 0 <= size < number:
        raise ValueError(
            f"Balancer '{balancer.name}' needs {number} batches of its data a step, and there are "
            f"{size}."
        )
    # After loading, go on where the saved model stood.
    start = int(keras.ops.convert_to_numpy(model.optimizer.iterations)) * number
    held_out = balancer.data.repeat().skip(start % size if size > 0 else start)
    extra = [held_out.skip(i).shard(number, 0) if number > 1 else held_out for i in range(number)]
    zipped = tf.data.Dataset.zip((base, *extra))
    cardinality = base.cardinality()
    return (
        zipped.apply(tf.data.experimental.assert_cardinality(cardinality))
        if int(cardinality) >= 0
        else zipped
    )


@contextlib.contextmanager
def readable_errors(compiled: Any) -> Iterator[None]:
    """Turn the failed check of a step into an error that names tasks and step."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = _explain(str(error), compiled)
        if message is None:
            raise
        raise ValueError(message) from None


def _explain(text: str, compiled: Any) -> str | None:
    if BAD_LOSS not in text:
        return None
    count = len(compiled.tasks)
    numbers = [int(n) for n in re.findall(r"\d+", text.split(BAD_LOSS, 1)[1])[: 2 * count + 1]]
    bad, negative, step = numbers[:count], numbers[count : 2 * count], numbers[-1] + 1
    descriptions = []
    for task, is_bad, below in zip(compiled.tasks, bad, negative, strict=True):
        if is_bad:
            descriptions.append(f"of task '{task.name}' is {'negative' if below else 'not finite'}")
    advice = "Look for labels or inputs that are not finite in this batch, lower the learning rate, or clip gradients."
    hints = [
        task.bad_loss_hint
        for task, is_bad in zip(compiled.tasks, bad, strict=True)
        if is_bad and task.bad_loss_hint
    ]
    advice = " ".join([*dict.fromkeys(hints), advice])
    if (
        any(below and is_bad for below, is_bad in zip(negative, bad, strict=True))
        and compiled.balancer.positive
    ):
        advice = f"Balancer '{compiled.balancer.name}' needs positive losses: use another loss, or another balancer."
    return f"In training step {step} the loss {', and '.join(descriptions)}. The step was not taken. {advice}"
