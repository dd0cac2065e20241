"""What a head looks at: how much each part of the input adds to one task's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from mtl_keras.analysis.classes import has_classes
from mtl_keras.analysis.rows import inputs_by_name
from mtl_keras.graph import ancestors, inputs_of, layer_of, node_of, nodes, own_variables
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task

__all__ = ["Attribution", "attributions"]

_METHODS = ("integrated_gradients", "grad_cam")


@dataclass(frozen=True)
class Attribution:
    """What each part of the input adds to one task's score.

    Attributes:
        task: name of the task.
        method: "integrated_gradients" or "grad_cam".
        values: dict of input name to values, a row each. Of integrated gradients: in the input's
            shape (one value per id, where the input is ids), above 0 where a part raises the score.
            Of Grad-CAM: 0 or above, at the feature map's resolution.
        targets: what each row's score is of: a class's number, or None where the task has none.
        score: `(rows,)`. The score of each row.
        baseline_score: `(rows,)`. The score of the baseline; None for Grad-CAM.
        layer: name of the layer whose map Grad-CAM reads; None for integrated gradients.
    """

    task: str
    method: str
    values: dict[str, np.ndarray]
    targets: list[int | None]
    score: np.ndarray
    baseline_score: np.ndarray | None = None
    layer: str | None = None

    @property
    def gap(self) -> np.ndarray | None:
        """By row: the score's rise over the baseline that the values do not explain; 0 for an exact
        integral. None for Grad-CAM."""
        if self.baseline_score is None:
            return None
        explained = sum(v.reshape(len(v), -1).sum(1) for v in self.values.values())
        return self.score - self.baseline_score - explained


def attributions(
    model: Any,
    x: Any,
    task: str,
    method: str = "integrated_gradients",
    *,
    target: int | None = None,
    baseline: Any = None,
    steps: int = 64,
    layer: str | None = None,
) -> Attribution:
    """How much each part of the input adds to one task's answer.

    What is explained is one number per row, a sum over the head's values before its activation: the
    logit of the class that is predicted (or of `target`); for `Binary`, the logit of the predicted
    side; for `Ordinal`, the sum of its logits, which rises with the level; for `Regression`, the
    number in its unit (on the log scale where `log=True`); for `Segmentation`, the mean logit over
    the pixels that are predicted as the class; for `BoundingBox`, the logits of right and bottom
    minus those of left and top (the box's spread); for `Detection`, the logit of the surest object;
    for other tasks, the mean of their values.

    Integrated gradients obey completeness: the values sum up to the score minus the baseline's
    score. `Attribution.gap` says how closely. Where an input is ids (words, categories), the
    vectors of their embedding are integrated over, and a value is the sum over a vector.

    Args:
        model: `MultiTaskModel`.
        x: inputs of a few rows, as `predict` takes them.
        task: name of the task.
        method: "integrated_gradients", or "grad_cam" (models with feature maps or sequences).
        target: int. The class, or the number or point, to explain; None takes each row's predicted
            class (for `Regression` the first number).
        baseline: the input from which the way to `x` starts: one row, or a dict of them by input
            name. None takes the mean for tables (the encoder's, or that of `x`) and 0 for all
            other inputs and for the vectors of ids.
        steps: int. Points on the way. Defaults to 64.
        layer: name of the layer whose map Grad-CAM reads. None takes the deepest map of the shared
            layers that the head sees.

    Returns:
        `Attribution`.

    Raises:
        ValueError: an unknown task or method, a target that the task does not have, or a network
            without a feature map.

    Examples:
        >>> result = mtl.analysis.attributions(model, images[:2], "digit", steps=8)
        >>> result.values[model.inputs[0].name].shape
        (2, 32, 32, 3)

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017;
        Selvaraju et al., "Grad-CAM", ICCV 2017; for maps of classes, Vinogradova, Dibrov, Myers,
        "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation
        Mapping", AAAI 2020.

    Note:
        The integral is taken by Gauss-Legendre quadrature, where the paper adds equal steps.
        Grad-CAM leaves out what speaks against a class; of tasks without classes (boxes, numbers,
        points) the absolute value is taken, because what moves an answer either way counts.
    """
    if method not in _METHODS:
        raise ValueError(unknown_name("method", method, _METHODS))
    head = model.task(task)
    inputs = inputs_by_name(model, x)
    logits = node_of(model.output[task]).input_tensors[0]
    weights, targets = _score_weights(head, model, inputs, target)
    if method == "grad_cam":
        return _grad_cam(model, inputs, task, logits, weights, targets, layer)
    return _integrate(model, inputs, task, logits, weights, targets, baseline, steps)


# === The score ===


def _score_weights(
    task: Task, model: Any, inputs: Mapping[str, np.ndarray], target: int | None
) -> tuple[np.ndarray, list[int | None]]:
    """The weights of the head's values in the score, a row each, and the explained class."""
    x = inputs if isinstance(model.input, Mapping) else _one_or_list(list(inputs.values()))
    output = np.asarray(model.predict_on_batch(x)[task.name], "float64")
    rule: Any = _RULES.get(task.kind, _mean)
    rows = [rule(task, row, target) for row in output]
    return np.stack([weights for weights, _ in rows]), [number for _, number in rows]


def _check_target(task: Task, target: int | None, count: int, default: int) -> int:
    if target is None:
        return default
    if not 0 <= int(target) < count:
        raise ValueError(
            f"`target` of task '{task.name}' should be a number from 0 to {count - 1}. "
            f"Received: {target!r}."
        )
    return int(target)


def _one_class(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int]:
    number = _check_target(task, target, len(row), int(row.argmax()))
    return np.eye(len(row))[number], number


def _yes_or_no(task: Any, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int]:
    number = _check_target(task, target, 2, int(row[0] >= task.threshold))
    return np.array([1.0 if number else -1.0]), number


def _number(task: Any, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int | None]:
    number = _check_target(task, target, len(row), 0)
    return np.eye(len(row))[number] * task.scale, number if len(row) > 1 else None


def _pixels(task: Any, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int]:
    if row.shape[-1] == 1:
        is_of_class = row >= 0.5
        number = 1
    else:
        answers = row.argmax(-1)
        counts = np.bincount(answers.ravel(), minlength=row.shape[-1])
        # Class 0 is the background in most data: it is explained where nothing else is predicted.
        commonest = int(counts[1:].argmax()) + 1 if counts[1:].any() else 0
        number = _check_target(task, target, row.shape[-1], commonest)
        is_of_class = np.zeros(row.shape, bool)
        is_of_class[..., number] = answers == number
        if not is_of_class.any():
            is_of_class[..., number] = True
    if not is_of_class.any():
        is_of_class[:] = True
    return is_of_class / is_of_class.sum(), number


def _box(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, None]:
    return np.array([-1.0, -1.0, 1.0, 1.0]), None


def _surest_object(task: Any, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int]:
    heat = row[..., :-4]
    if target is not None:
        number = _check_target(task, target, task.num_classes, 0)
        high, wide = np.unravel_index(heat[..., number].argmax(), heat.shape[:2])
    else:
        high, wide, best = np.unravel_index(heat.argmax(), heat.shape)
        number = int(best)
    weights = np.zeros(row.shape)
    weights[high, wide, number] = 1.0
    return weights, number


def _places(task: Any, row: np.ndarray, target: int | None) -> tuple[np.ndarray, int | None]:
    """Points: x and y of one of them, or of all."""
    weights = np.zeros(row.shape)
    number = None if target is None else _check_target(task, target, len(row), 0)
    weights[slice(None) if number is None else number] = 1.0
    return weights, number


def _tokens(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, None]:
    """The predicted class of every time or token."""
    return np.eye(row.shape[-1])[row.argmax(-1)] / len(row), None


def _vector(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, None]:
    return row, None


def _levels(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, None]:
    return np.ones(row.shape), None


def _mean(task: Task, row: np.ndarray, target: int | None) -> tuple[np.ndarray, None]:
    return np.full(row.shape, 1.0 / row.size), None


_RULES: dict[str, Callable[[Any, np.ndarray, int | None], tuple[np.ndarray, int | None]]] = {
    "classification": _one_class,
    "multi_label": _one_class,
    "binary": _yes_or_no,
    "ordinal": _levels,
    "regression": _number,
    "segmentation": _pixels,
    "bounding_box": _box,
    "detection": _surest_object,
    "keypoints": _places,
    "token_tagging": _tokens,
    "transcription": _tokens,
    "embedding": _vector,
}


class _Network:
    """The way from tensors inside a model (the cuts; they may be inputs) to one head's values."""

    def __init__(self, model: Any, cuts: list[Any], logits: Any) -> None:
        self.cuts = cuts
        # Beside the vectors of ids a head may read the ids: masks are computed from them.
        read = {id(tensor) for tensor in ancestors([logits], stop=cuts)}
        self.rest = [tensor for tensor in model.inputs if id(tensor) in read]
        self.inner = [cut for cut in cuts if not any(cut is tensor for tensor in model.inputs)]
        self.inputs = list(model.inputs)
        self.front = keras.Model(_one_or_list(self.inputs), self.inner) if self.inner else None
        self.back = keras.Model(_one_or_list([*self.rest, *cuts]), logits)

    def values_at(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The tensors at the cuts."""
        values: dict[int, np.ndarray] = {}
        if self.front is not None:
            values_in = [inputs[tensor.name] for tensor in self.inputs]
            answers = self.front(_one_or_list(values_in), training=False)
            for tensor, value in zip(self.inner, keras.tree.flatten(answers), strict=True):
                values[id(tensor)] = keras.ops.convert_to_numpy(value)
        return [
            values[id(cut)] if id(cut) in values else np.asarray(inputs[cut.name])
            for cut in self.cuts
        ]

    def score_and_gradients(
        self, inputs: Mapping[str, np.ndarray], cuts: list[np.ndarray], weights: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Scores of rows, and their gradients at the cuts."""
        import tensorflow as tf

        variables = [tf.constant(value, tf.float32) for value in cuts]
        with tf.GradientTape() as tape:
            tape.watch(variables)
            rest = [tf.constant(inputs[tensor.name]) for tensor in self.rest]
            logits = self.back(_one_or_list([*rest, *variables]), training=False)
            products = tf.cast(weights, tf.float32) * tf.cast(logits, tf.float32)
            score = tf.reduce_sum(tf.reshape(products, (len(weights), -1)), axis=1)
        gradients = tape.gradient(score, variables, unconnected_gradients="zero")
        return np.asarray(score, "float64"), [np.asarray(g, "float64") for g in gradients]


def _one_or_list(parts: list[Any]) -> Any:
    """Keras warns where a model of one input is called with a list."""
    return parts[0] if len(parts) == 1 else parts


# === Integrated gradients ===


def _integrate(
    model: Any,
    inputs: dict[str, np.ndarray],
    task: str,
    logits: Any,
    weights: np.ndarray,
    targets: list[int | None],
    baseline: Any,
    steps: int,
) -> Attribution:
    if int(steps) < 1:
        raise ValueError(f"`steps` should be at least 1. Received: {steps!r}.")
    cuts = _integrated_tensors(model, logits)
    network = _Network(model, [tensor for _, tensor in cuts], logits)
    ends = network.values_at(inputs)
    starts = [
        _start(model, name, tensor, end, baseline)
        for (name, tensor), end in zip(cuts, ends, strict=True)
    ]
    points, factors = np.polynomial.legendre.leggauss(int(steps))
    points, factors = (points + 1) / 2, factors / 2
    totals = [np.zeros(end.shape) for end in ends]
    score, baseline_score = np.zeros(len(weights)), np.zeros(len(weights))
    for row in range(len(weights)):
        # The whole way of one row is one batch; its two ends come last.
        alphas = np.concatenate([points, [1.0, 0.0]])
        way = [
            np.stack([start + a * (end[row] - start) for a in alphas]).astype("float32")
            for start, end in zip(starts, ends, strict=True)
        ]
        repeated = {name: np.repeat(v[row : row + 1], len(alphas), 0) for name, v in inputs.items()}
        scores, gradients = network.score_and_gradients(
            repeated, way, np.repeat(weights[row : row + 1], len(alphas), 0)
        )
        score[row], baseline_score[row] = scores[-2], scores[-1]
        for i, gradient in enumerate(gradients):
            mean = np.tensordot(factors, gradient[:-2], axes=1)
            totals[i][row] = mean * (ends[i][row] - starts[i])
    values: dict[str, np.ndarray] = {}
    for (name, tensor), total in zip(cuts, totals, strict=True):
        value = total if tensor.name == name else _sum_per_id(total, inputs[name])
        values[name] = values.get(name, 0.0) + value
    return Attribution(task, "integrated_gradients", values, targets, score, baseline_score)


def _integrated_tensors(model: Any, logits: Any) -> list[tuple[str, Any]]:
    """By input: the tensor over which is integrated, itself or the vectors of its ids."""
    behind = {id(tensor) for tensor in ancestors([logits])}
    cuts = []
    for source in model.inputs:
        if id(source) not in behind:
            continue
        if "int" not in source.dtype and source.dtype != "bool":
            cuts.append((source.name, source))
            continue
        vectors = [
            output
            for node in nodes(model)
            if any(tensor is source for tensor in node.input_tensors)
            and own_variables(node.operation)
            for output in node.outputs
            if id(output) in behind and "float" in output.dtype
        ]
        if not vectors:
            raise ValueError(
                f"Input '{source.name}' holds whole numbers, and no embedding reads it: there is "
                f"no way to integrate over."
            )
        cuts += [(source.name, vector) for vector in vectors]
    return cuts


def _start(model: Any, name: str, tensor: Any, end: np.ndarray, baseline: Any) -> np.ndarray:
    """One row: where the way begins."""
    if baseline is not None and tensor.name == name:
        row = baseline.get(name, 0.0) if isinstance(baseline, Mapping) else baseline
        return np.broadcast_to(np.asarray(row, "float32"), end.shape[1:])
    if tensor.name != name or end.ndim != 2 or name == "waveform":
        return np.zeros(end.shape[1:], "float32")
    mean = getattr(model.encoder, "mean", None)
    if mean is not None and np.shape(mean) == end.shape[1:]:
        return np.asarray(mean, "float32")
    return np.asarray(end.mean(0), "float32")


def _sum_per_id(total: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """One value per id: `(rows, columns * dim)` or `(rows, length, dim)` to the shape of the
    ids."""
    return total.reshape(*ids.shape, -1).sum(-1)


# === Grad-CAM ===


def _grad_cam(
    model: Any,
    inputs: dict[str, np.ndarray],
    task: str,
    logits: Any,
    weights: np.ndarray,
    targets: list[int | None],
    layer: str | None,
) -> Attribution:
    tensor = _feature_map(model, task, logits, layer)
    network = _Network(model, [tensor], logits)
    maps = network.values_at(inputs)
    score, (gradient,) = network.score_and_gradients(inputs, maps, weights)
    places = tuple(range(1, gradient.ndim - 1))
    importance = gradient.mean(places, keepdims=True)
    heat = (importance * maps[0]).sum(-1)
    # What speaks against a class is left out, as in the paper. Of a box or a number there is no
    # against: what moves it either way counts.
    heat = np.maximum(heat, 0.0) if has_classes(model.task(task)) else np.abs(heat)
    return Attribution(
        task,
        "grad_cam",
        {source.name: heat for source in inputs_of(tensor)},
        targets,
        score,
        layer=layer_of(tensor).name,
    )


def _feature_map(model: Any, task: str, logits: Any, layer: str | None) -> Any:
    """The last map, or sequence, of the layers that the head shares; else the last before it."""
    behind = {id(tensor) for tensor in ancestors([logits])}
    maps = [
        output
        for node in nodes(model)
        for output in node.outputs
        if id(output) in behind and _is_map(output)
    ]
    by_layer = {layer_of(tensor).name: tensor for tensor in maps}
    if layer is not None:
        if layer not in by_layer:
            raise ValueError(unknown_name(f"feature map before task '{task}':", layer, by_layer))
        return by_layer[layer]
    if not maps:
        raise ValueError(
            f"Grad-CAM needs a feature map, and no layer before task '{task}' gives one. Use "
            f"method='integrated_gradients'."
        )
    shared = [tensor for tensor in maps if layer_of(tensor).name in model.representation]
    return (shared or maps)[-1]


def _is_map(tensor: Any) -> bool:
    """Whether a tensor has places: `(rows, height, width, channels)` or `(rows, times,
    channels)`."""
    shape = tensor.shape
    return len(shape) in (3, 4) and "float" in tensor.dtype and any(s != 1 for s in shape[1:-1])
