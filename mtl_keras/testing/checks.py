"""What several harnesses check."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mtl_keras.model import MultiTaskModel

__all__ = [
    "check_absent_task",
    "check_config",
    "check_exports",
    "check_gradients",
    "check_saving",
    "check_step",
    "expect",
    "labels_without",
    "train_step",
]


def expect(condition: Any, subject: str, promise: str, observation: Any = "") -> None:
    """Raise an `AssertionError` that says which promise `subject` does not keep."""
    if not condition:
        raise AssertionError(f"{subject}: {promise}. {observation}".strip())


def check_config(subject: str, part: Any) -> Any:
    """Serialize and make anew: the copy has the same class and config. Returns the copy."""
    serialized = keras.saving.serialize_keras_object(part)
    try:
        text = json.dumps(serialized)
    except TypeError as error:
        raise AssertionError(
            f"{subject}: `get_config` returns plain values that JSON can hold. {error}"
        ) from error
    try:
        copy = keras.saving.deserialize_keras_object(json.loads(text))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{subject}: it can be made anew from its config. The class should be registered and "
            f"take what `get_config` "
            f"returns; {type(error).__name__}: {error}"
        ) from error
    expect(type(copy) is type(part), subject, "the config makes the same class", str(type(copy)))
    expect(
        _plain(copy.get_config()) == _plain(part.get_config()),
        subject,
        "the copy from the config has the same config",
        f"{part.get_config()} became {copy.get_config()}.",
    )
    return copy


def _plain(config: Any) -> Any:
    """A config with JSON's lists for tuples."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(config), default=repr))


def check_gradients(subject: str, model: MultiTaskModel, x: Any) -> dict[str, list[Any]]:
    """Each task reaches variables, each variable is reached, and all gradients are finite.

    Returns:
        Dict of task name to the variables that no other task reaches.
    """
    variables = model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x, training=True)
        sums = {name: tf.reduce_sum(outputs[name]) for name in model.task_names}
    gradients = {
        name: tape.gradient(total, [v.value for v in variables]) for name, total in sums.items()
    }
    tasks_of: dict[str, list[str]] = {v.path: [] for v in variables}
    for name, parts in gradients.items():
        for variable, gradient in zip(variables, parts, strict=True):
            if gradient is not None:
                values = np.asarray(tf.convert_to_tensor(gradient))
                expect(
                    np.isfinite(values).all(),
                    subject,
                    "gradients are finite",
                    f"That of output '{name}' with respect to {variable.path} is not.",
                )
                tasks_of[variable.path].append(name)
    for name in model.task_names:
        expect(
            any(name in names for names in tasks_of.values()),
            subject,
            "every output can be trained",
            f"No trainable variable reaches output '{name}'.",
        )
    unreached = [path for path, names in tasks_of.items() if not names]
    expect(not unreached, subject, "every trainable variable serves a task", f"None: {unreached}.")
    return {name: [v for v in variables if tasks_of[v.path] == [name]] for name in model.task_names}


def train_step(model: MultiTaskModel, x: Any, y: Mapping[str, Any]) -> dict[str, float]:
    """One step on all rows, by `fit`: some methods take data of their own from it. Returns what is
    logged."""
    rows = len(keras.tree.flatten(x)[0])
    history = model.fit(x, dict(y), batch_size=rows, shuffle=False, verbose=0).history
    return {name: values[-1] for name, values in history.items()}


def check_step(subject: str, model: MultiTaskModel, x: Any, y: Mapping[str, Any]) -> None:
    """One training step of a compiled model: a finite loss, finite weights, and something
    learned."""
    before = [v.numpy() for v in model.trainable_variables]
    logs = train_step(model, x, y)
    expect(np.isfinite(logs["loss"]), subject, "the loss of a step is finite", f"Logs: {logs}.")
    after = [v.numpy() for v in model.trainable_variables]
    expect(
        all(np.isfinite(values).all() for values in after),
        subject,
        "weights stay finite in training",
    )
    expect(
        any((new != old).any() for new, old in zip(after, before, strict=True)),
        subject,
        "a step moves weights",
    )


def labels_without(task: Any, labels: Any, first: int = 0) -> np.ndarray:
    """Labels of a task, missing from row `first` on."""
    labels = np.array(labels)
    missing = np.full(labels[first:].shape, task.missing_value)
    return np.concatenate([labels[:first], missing]).astype(
        np.result_type(labels, "float32") if np.isnan(task.missing_value) else labels.dtype
    )


def check_absent_task(
    subject: str,
    model: MultiTaskModel,
    x: Any,
    y: Mapping[str, Any],
    name: str,
    own_variables: Sequence[Any],
) -> None:
    """A batch in which a task has no label: it reports NaN, its own variables stay, the others'
    losses are finite.

    The model should be compiled with an optimizer that leaves a variable as it is where the
    gradient is 0.
    """
    before = [v.numpy() for v in own_variables]
    labels = {**y, name: labels_without(model.task(name), y[name])}
    logs = train_step(model, x, labels)
    expect(
        np.isnan(logs[f"{name}_loss"]),
        subject,
        "a task without labels in a batch reports NaN",
        f"`{name}_loss` is {logs[f'{name}_loss']}.",
    )
    others = [other for other in model.task_names if other != name]
    expect(
        all(np.isfinite(logs[f"{other}_loss"]) for other in others),
        subject,
        "a task without labels does not change the others' losses",
        f"Logs: {logs}.",
    )
    moved = [
        v.path
        for v, old in zip(own_variables, before, strict=True)
        if (v.numpy() != old).any() or not np.isfinite(v.numpy()).all()
    ]
    # A penalty of the network's own moves variables without any label.
    expect(
        not moved or model.losses,
        subject,
        "a task without labels leaves its own variables as they are",
        f"Task '{name}' moved {moved}.",
    )


def check_saving(subject: str, model: MultiTaskModel, x: Any) -> MultiTaskModel:
    """Save and load in safe mode: the loaded model has the same tasks and gives the same numbers.
    Returns it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        try:
            loaded = keras.saving.load_model(path, safe_mode=True)
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"{subject}: a saved model can be loaded in safe mode. {type(error).__name__}: "
                f"{error}"
            ) from error
    expect(
        isinstance(loaded, MultiTaskModel) and loaded.task_names == model.task_names,
        subject,
        "a loaded model has the same tasks",
    )
    outputs, again = model(x, training=False), loaded(x, training=False)
    for name in model.task_names:
        expect(
            np.array_equal(outputs[name], again[name], equal_nan=True),
            subject,
            "a loaded model gives the same numbers",
            f"Output '{name}' differs.",
        )
    return loaded


def check_exports(subject: str, model: MultiTaskModel, x: Any, export: Sequence[str]) -> None:
    """Export to TFLite in these precisions; `mtl.export.tflite` compares each file with the
    model."""
    from mtl_keras.export import tflite

    with tempfile.TemporaryDirectory() as folder:
        for precision in export:
            report = tflite(
                model,
                Path(folder) / "model.tflite",
                quantization=None if precision == "float32" else precision,
                calibration=x,
            )
            expect(
                [head.name for head in report.heads] == model.task_names,
                subject,
                "an exported file has all tasks, in their order",
                f"{precision}: {[head.name for head in report.heads]}.",
            )
