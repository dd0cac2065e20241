"""Labels that may be missing: checked before training, and completed for tasks without labels.

Of a model these functions use `tasks` and the dict of `output` tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.names import unknown_name

__all__ = ["LabelScaleWarning", "check_data", "complete", "mix"]


class LabelScaleWarning(UserWarning):
    """Regression labels are far from the unit of the task's head. `Regression.fit_to` corrects
    this.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("ignore", mtl.data.LabelScaleWarning)
    """


def complete(data: Any, model: Any) -> Any:
    """Add missing-label values for the tasks that the data have no labels of.

    Args:
        data: dict of task name to labels (arrays), or a batched `tf.data.Dataset` of `(x, y)` or
            `(x, y, sample_weight)` with `y` a dict.
        model: the `MultiTaskModel` that will be trained.

    Returns:
        The same kind of data, with every task of the model. Rows without a label change neither the
        other tasks' gradients nor any metric.

    Raises:
        ValueError: a task that the model does not have.

    Examples:
        >>> y = mtl.data.complete({"digit": digits}, model)     # the box of these images is not known
        >>> model.fit(images, y)
    """
    if isinstance(data, Mapping):
        _check_names(data, model, "labels", need_all=False)
        if not data:
            raise ValueError("No task has labels: give those of at least one task.")
        rows = len(np.asarray(next(iter(data.values()))))
        return {
            **data,
            **{t.name: _missing(t, model, rows) for t in model.tasks if t.name not in data},
        }
    if not hasattr(data, "element_spec"):
        raise TypeError(
            f"Labels are completed in a dict of arrays or a tf.data.Dataset, got "
            f"{type(data).__name__}."
        )
    import tensorflow as tf

    labels = _as_dict(_labels_of_spec(data.element_spec), model, "data set's")
    _check_names(labels, model, "labels", need_all=False)
    for name, spec in labels.items():
        if spec.shape.rank == 0:
            raise ValueError(
                f"Labels of task '{name}' come row by row: batch the data set first, "
                f"`dataset.batch(32)`."
            )
    absent = [(t, _missing(t, model, 1)) for t in model.tasks if t.name not in labels]

    def fill(x: Any, y: Any, *weight: Any) -> tuple[Any, ...]:
        rows = tf.shape(tf.nest.flatten(y)[0])[0]
        y = dict(_as_dict(y, model, "data set's"))
        for task, row in absent:
            y[task.name] = tf.repeat(tf.constant(row), rows, axis=0)
        return (x, y, *weight)

    return data.map(fill, num_parallel_calls=tf.data.AUTOTUNE)


def mix(
    datasets: Sequence[Any],
    model: Any,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    ends: str = "shortest",
) -> Any:
    """One stream of batches from several data sets, each of which may lack some tasks.

    Each batch comes from one data set, chosen at random by its share. Each epoch has another order.
    The stream's length is known if the lengths of the data sets are known.

    Args:
        datasets: batched `tf.data.Dataset`s of `(x, y)` or `(x, y, sample_weight)`. Shuffle them:
            then each epoch leaves out other parts of the longer data sets.
        model: the `MultiTaskModel` that will be trained.
        weights: list of float >= 0, one per data set: its share of the batches. Defaults to equal
            shares.
        seed: int. Of the order. The same seed gives the same orders, epoch by epoch.
        ends: "shortest": an epoch ends when the first data set is used up; no batch comes twice.
            "longest": an epoch ends when the last data set is used up; the others are repeated as
                often as needed. Endless data sets are never
            used up. Defaults to "shortest".

    Returns:
        `tf.data.Dataset` of `(x, y)`, `y` with every task of the model; of `(x, y, sample_weight)`
        where any data set has weights (rows of the others weigh 1). Endless if all data sets are
        endless, or if one of them is and `ends="longest"`.

    Raises:
        ValueError: no data sets; invalid weights; data sets with different inputs; an empty data
            set; with `ends="longest"`, a data set of unknown length
            (`tf.data.experimental.assert_cardinality` sets it).

    Examples:
        >>> train = mtl.data.mix([reviews.shuffle(100), headlines.shuffle(100)], model, weights=[0.7, 0.3])
        >>> model.fit(train, epochs=5)
    """
    import tensorflow as tf

    datasets = list(datasets)
    shares = _shares(weights, len(datasets))
    if ends not in ("shortest", "longest"):
        raise ValueError(f"`ends` should be 'shortest' or 'longest'. Received: {ends!r}.")
    full = _aligned([complete(dataset, model) for dataset in datasets], model)
    # A data set that is never drawn from does not end the stream.
    full, shares = zip(  # type: ignore[assignment]
        *((d, share) for d, share in zip(full, shares, strict=True) if share > 0), strict=True
    )
    lengths = [int(dataset.cardinality()) for dataset in full]
    if 0 in lengths:
        raise ValueError(f"Every data set should have batches. Received: lengths {lengths}.")
    finite = [(length, share) for length, share in zip(lengths, shares, strict=True) if length > 0]
    endless = tf.data.INFINITE_CARDINALITY
    if tf.data.UNKNOWN_CARDINALITY in lengths:
        if ends == "longest":
            raise ValueError(
                "`ends='longest'` needs data sets whose lengths are known. Apply "
                "`tf.data.experimental.assert_cardinality`. "
                f"Received: lengths {lengths}, where -2 is unknown."
            )
        return tf.data.Dataset.sample_from_datasets(
            full,
            weights=shares,
            seed=seed,
            stop_on_empty_dataset=True,
            rerandomize_each_iteration=True,
        )
    if not finite or (ends == "longest" and endless in lengths):
        full = [
            dataset if length == endless else dataset.repeat()
            for dataset, length in zip(full, lengths, strict=True)
        ]
        stream = tf.data.Dataset.sample_from_datasets(
            full, weights=shares, seed=seed, rerandomize_each_iteration=True
        )
        return stream.apply(tf.data.experimental.assert_cardinality(endless))
    # Batches per epoch: the deciding data set is used up exactly.
    total = (min if ends == "shortest" else max)(length / share for length, share in finite)
    counts = [max(1, round(total * share)) for share in shares]
    if ends == "longest":
        full = [dataset.repeat() for dataset in full]
    choices = tf.data.Dataset.from_tensor_slices(
        np.repeat(np.arange(len(counts)), counts).astype("int64")
    )
    choices = choices.shuffle(sum(counts), seed=seed, reshuffle_each_iteration=True)
    stream = tf.data.Dataset.choose_from_datasets(full, choices, stop_on_empty_dataset=True)
    return stream.apply(tf.data.experimental.assert_cardinality(sum(counts)))


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Weights of data sets, normalized."""
    if not count:
        raise ValueError("`datasets` should hold at least one data set. Received: none.")
    shares = np.ones(count) if weights is None else np.asarray(weights, float)
    if (
        shares.shape != (count,)
        or not np.isfinite(shares).all()
        or (shares < 0).any()
        or not shares.sum()
    ):
        raise ValueError(
            f"`weights` should be {count} numbers >= 0, one for each data set, not all of them 0. "
            f"Received: {weights!r}."
        )
    return list(shares / shares.sum())


def _aligned(datasets: Sequence[Any], model: Any) -> list[Any]:
    """Data sets of completed labels in one structure: label dtypes, ranks, and sample weights where
    any has them."""
    import tensorflow as tf

    inputs = [
        tf.nest.map_structure(lambda spec: (spec.dtype, spec.shape.rank), d.element_spec[0])
        for d in datasets
    ]
    for i, others in enumerate(inputs):
        if others != inputs[0]:
            raise ValueError(
                f"All data sets should have the same inputs. Received: "
                f"{datasets[0].element_spec[0]} in data set 0, "
                f"{datasets[i].element_spec[0]} in data set {i}."
            )
    specs = [dataset.element_spec[2] for dataset in datasets if len(dataset.element_spec) > 2]
    ranks: dict[str, int] = {}
    for spec in specs:
        for name, weight in (spec if isinstance(spec, Mapping) else {"": spec}).items():
            ranks[name] = max(ranks.get(name, 1), len(weight.shape))
    by_task = any(isinstance(spec, Mapping) for spec in specs)

    def weigh(weight: Any, rows: Any, rank: int) -> Any:
        ones = tf.ones([rows] + [1] * (rank - 1))
        if weight is None:
            return ones
        weight = tf.cast(weight, "float32")
        # One rank for all sources, as for labels.
        return tf.reshape(
            weight, tf.concat([tf.shape(weight), [1] * (rank - len(weight.shape))], 0)
        )

    forms = {
        task.name: _label_form(task, [d.element_spec[1][task.name] for d in datasets])
        for task in model.tasks
    }

    def align(x: Any, y: Any, weight: Any = None) -> tuple[Any, ...]:
        y = {task.name: _label_cast(task, y[task.name], *forms[task.name]) for task in model.tasks}
        if not specs:
            return x, y
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        if not by_task:
            return x, y, weigh(weight, rows, ranks[""])
        by_name = weight if isinstance(weight, Mapping) else dict.fromkeys(y, weight)
        return (
            x,
            y,
            {n: weigh(by_name.get(n), rows, max(ranks.get(n, 1), ranks.get("", 1))) for n in y},
        )

    return [dataset.map(align) for dataset in datasets]


def _label_form(task: Any, specs: Sequence[Any]) -> tuple[Any, bool]:
    """The dtype of a task's labels over all sources, and whether they are a probability per class.

    Fractions stay fractions where one source has them: a class number is one of them, and not the
    other way round.
    """
    dtype = "float32" if any(spec.dtype.is_floating for spec in specs) else task.label_dtype
    return dtype, any(_is_soft(task, spec.shape) for spec in specs)


def _is_soft(task: Any, shape: Any) -> bool:
    expected = task.soft_label_shape
    return expected is not None and len(shape) == 1 + len(expected) and shape[-1] == expected[-1]


def _label_cast(task: Any, y: Any, dtype: Any, soft: bool) -> Any:
    import tensorflow as tf

    if _is_soft(task, y.shape):
        return tf.cast(y, "float32")
    # One rank for all sources: labels come as (rows,) and as (rows, 1).
    y = y if len(y.shape) == 1 + len(task.label_shape) else tf.expand_dims(y, -1)
    if not soft:
        return tf.cast(y, dtype)
    # Class numbers beside probabilities: 1 for the class, and NaN where there is no label.
    numbers = tf.cast(y, "float32")
    if len(y.shape) == 1 + len(task.soft_label_shape):
        numbers = tf.squeeze(numbers, -1)
    known = tf.math.is_finite(numbers) & (numbers >= 0)
    shares = tf.one_hot(tf.cast(tf.where(known, numbers, 0.0), "int32"), task.soft_label_shape[-1])
    return tf.where(known[..., None], shares, float("nan"))


def _missing(task: Any, model: Any, rows: int) -> np.ndarray:
    return task.missing(rows, model.output[task.name].shape)


def check_data(x: Any, y: Any, sample_weight: Any, model: Any, purpose: str) -> tuple[Any, Any]:
    """Refuse invalid labels before the first step. `MultiTaskModel.fit` lists what is refused.

    Arrays are checked completely. For a `tf.data.Dataset`, names, shapes and dtypes are checked,
    and the values of the first batch.

    Returns:
        The `(inputs, labels by task)` that were checked, or `(None, None)`.
    """
    if x is None and y is None:
        return None, None
    if y is None and hasattr(x, "element_spec"):
        return _check_dataset(x, model, purpose)
    if y is None:
        # Generators and PyDatasets can't be looked at without using them up; the first step checks
        # their names.
        return None, None
    y = _as_dict(y, model, purpose)
    _check_names(y, model, f"{purpose} labels", need_all=True)
    rows = {name: len(np.asarray(labels)) for name, labels in y.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"The {purpose} labels differ in length: {rows}.")
    for task in model.tasks:
        task.check_labels(y[task.name], model.output[task.name].shape)
    _check_weights(sample_weight, model, purpose)
    return x, y


def _check_dataset(dataset: Any, model: Any, purpose: str) -> tuple[Any, Any]:
    spec = dataset.element_spec
    labels = _as_dict(_labels_of_spec(spec), model, purpose)
    _check_names(labels, model, f"{purpose} labels", need_all=True)
    for task in model.tasks:
        label = labels[task.name]
        if label.shape.rank is not None:
            task.check_label_spec(tuple(label.shape), label.dtype.as_numpy_dtype)
    if isinstance(spec, tuple) and len(spec) > 2 and isinstance(spec[2], Mapping):
        _check_names(spec[2], model, f"{purpose} sample weights", need_all=False)
    for batch in dataset.take(1):
        y = _as_dict(batch[1], model, purpose)
        for task in model.tasks:
            task.check_labels(np.asarray(y[task.name]), model.output[task.name].shape)
        return batch[0], y
    return None, None


def _labels_of_spec(spec: Any) -> Any:
    if not isinstance(spec, tuple) or len(spec) < 2:
        raise ValueError(
            "The data set gives no labels: its elements must be (inputs, labels) or (inputs, "
            "labels, weights)."
        )
    return spec[1]


def _as_dict(y: Any, model: Any, purpose: str) -> Mapping[str, Any]:
    if isinstance(y, Mapping):
        return y
    if len(model.tasks) == 1 and not isinstance(y, (list, tuple)):
        return {model.tasks[0].name: y}
    names = ", ".join(f"'{t.name}': ..." for t in model.tasks)
    raise ValueError(
        f"The {purpose} labels must be a dict by task name, {{{names}}}; got {type(y).__name__}."
    )


def _check_names(y: Mapping[str, Any], model: Any, what: str, need_all: bool) -> None:
    names = [task.name for task in model.tasks]
    for name in y:
        if name not in names:
            raise ValueError(unknown_name(f"task in the {what}:", name, names))
    missing = [name for name in names if name not in y]
    if need_all and missing:
        raise ValueError(
            f"The {what} lack {', '.join(repr(n) for n in missing)}. If these data have no such "
            f"labels, say so: "
            "`mtl.data.complete(y, model)` fills them in as missing."
        )


def _check_weights(sample_weight: Any, model: Any, purpose: str) -> None:
    if sample_weight is None:
        return
    weights = sample_weight if isinstance(sample_weight, Mapping) else {"all tasks": sample_weight}
    if isinstance(sample_weight, Mapping):
        _check_names(sample_weight, model, f"{purpose} sample weights", need_all=False)
    for name, weight in weights.items():
        if weight is None:
            continue
        weight = np.asarray(weight)
        if (
            weight.dtype.kind not in "iufb"
            or not np.isfinite(weight.astype(float)).all()
            or (weight < 0).any()
        ):
            raise ValueError(f"The {purpose} sample weights of {name} must be finite numbers >= 0.")
