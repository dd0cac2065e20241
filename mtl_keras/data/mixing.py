"""One stream of batches from several data sets, each of which may lack some tasks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.alignment import Alignment
from mtl_keras.data.epochs import (
    EpochCounter,
    choices_per_epoch,
    counted,
    counted_at_end,
    per_epoch,
)
from mtl_keras.data.mixing_sources import MixedSource, as_source
from mtl_keras.data.sampling import Sampling

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["mix"]

#: Draws of an endless stream that are made at once.
_BLOCK = 1024
_WORD = 0xFFFFFFFF


def mix(
    datasets: Mapping[str, Any] | Sequence[Any],
    tasks: Any,
    *,
    sampling: Any = "proportional",
    within_batch: bool = False,
    batch_size: int = 32,
    steps: int | None = None,
    ends: str = "shortest",
    temperature: float = 2.0,
    limit: int | None = None,
    epochs: int | None = None,
    max_passes: float | None = None,
    shuffle: bool | int | None = None,
    labelled: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    drop_remainder: bool = False,
    seed: int = 0,
    initial_epoch: int = 0,
) -> Any:
    """One stream of batches from several data sets, each of which may lack some tasks.

    Each batch comes from one data set, or, with `within_batch`, holds rows of several. Which one a
    batch or row comes from is drawn anew in each epoch, by the seed and the number of the epoch;
    the shares are kept exactly, not on average. `MultiTaskModel.fit` tells the stream the number
    of its epoch: a training that goes on with `initial_epoch=` or `keras.callbacks.BackupAndRestore`
    sees the batches that would have followed.

    **An epoch** ends when the first data set is used up in its share (`ends`), or has `steps`
    batches. Where the shares change, all epochs have as many batches as the first.

    **Rows of a data set** are drawn without repetition until all were drawn. `TaskDataset`s and
    arrays are shuffled in full; an epoch that needs a part of their rows takes another part each
    time. A `tf.data.Dataset` begins anew in each epoch, in its own order: shuffle it, or let `mix`
    do so (`shuffle=`), so that what an epoch leaves out is never the same.

    Args:
        datasets: dict of name to data set, or a list: `TaskDataset`s, tuples of arrays `(x, y)` or
            `(x, y, sample_weight)`, or `tf.data.Dataset`s of them, batched or not. `y` is a dict by
            task name.
        tasks: the `MultiTaskModel` that will be trained, or its list of tasks.
        sampling: the share of each data set.

            - "proportional": to its number of rows. The default.
            - "uniform": equal shares.
            - "round_robin": equal shares, in turn.
            - "temperature": proportional to the power of `1 / temperature`.
            - "annealed": proportional in the first epoch, nearly uniform in the last of `epochs`.
            - "unimax": as equal as can be, with at most `max_passes` over a data set in `epochs`.
            - a dict of name to weight, or a list of weights.
            - a function of the epoch, from 0, that returns weights.

            `sampling_rates` shows the shares, and names the papers.
        within_batch: bool. False: all rows of a batch come from one data set. True: every row is
            drawn by itself, and tasks that its data set lacks are missing labels. Defaults to
            False.
        batch_size: int. Rows per batch. Batched data sets keep their own batches where
            `within_batch` is False. Defaults to 32.
        steps: int or None. Batches per epoch. Defaults to what `ends` gives.
        ends: "shortest": an epoch ends when the first data set is used up; no row comes twice.
            "longest": an epoch ends when the last data set is used up; the others are repeated as
            often as needed. Endless data sets are never used up. Defaults to "shortest".
        temperature: float > 0. See `sampling_rates`. Defaults to 2.
        limit: int or None. See `sampling_rates`.
        epochs: int or None. Epochs of the whole training, for "annealed" and "unimax".
        max_passes: float or None. For "unimax".
        shuffle: None: `TaskDataset`s and arrays are shuffled, `tf.data.Dataset`s are not. False:
            nothing is. An int: `tf.data.Dataset`s are, too, with a buffer of so many elements.
        labelled: dict of data set to the classes that it labels, all others being unknown there
            and not background; see `only_labelled`.
        sizes: dict of name to rows, for data sets of unknown length. Defaults to their cardinality;
            batched ones whose rows matter are counted by one pass.
        drop_remainder: bool. Whether a last batch with fewer rows is left out, with
            `within_batch`. Defaults to False.
        seed: int. The same seed gives the same orders, epoch by epoch.
        initial_epoch: int. The epoch to begin with, where no `fit` tells. Defaults to 0.

    Returns:
        `tf.data.Dataset` of `(x, y)`, `y` with every task; of `(x, y, sample_weight)` where any data
        set has weights (rows of the others weigh 1). Its cardinality is the number of batches per
        epoch: unknown if a data set's length is unknown, infinite if all data sets are endless, or
        if one of them is and `ends="longest"`.

    Raises:
        ValueError: no data sets; an unknown sampling or invalid weights; data sets with different
            inputs, by name; an empty data set; a sampling by size, or `ends="longest"`, with a data
            set of unknown length.

    Examples:
        >>> train = mtl.data.mix({"reviews": reviews, "headlines": headlines}, model, sampling="temperature")
        >>> model.fit(train, epochs=5)
        >>> weights = {"reviews": 0.7, "headlines": 0.3}
        >>> train = mtl.data.mix({"reviews": reviews, "headlines": headlines}, model,
        ...     sampling=weights, within_batch=True, batch_size=16)
    """
    settings = Sampling(sampling, temperature, limit, epochs, max_passes)
    if ends not in ("shortest", "longest"):
        raise ValueError(f"`ends` should be 'shortest' or 'longest'. Received: {ends!r}.")
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value is not None and (value != int(value) or value < 1):
            raise ValueError(f"`{name}` should be a whole number >= 1. Received: {value!r}.")
    if shuffle is not None and not isinstance(shuffle, (bool, int, np.integer)):
        raise ValueError(f"`shuffle` should be None, False, or an int. Received: {shuffle!r}.")
    named = _named(datasets)
    task_list: list[Task] = list(getattr(tasks, "tasks", tasks))
    sources = {
        name: as_source(name, data, tasks, within_batch, int(batch_size), (sizes or {}).get(name))
        for name, data in named.items()
    }
    sources = _labelled_only(sources, task_list, labelled)
    alignment = Alignment(
        {name: source.spec for name, source in sources.items()},
        task_list,
        getattr(tasks, "output", None),
    )
    plan = _Plan.of(sources, settings, within_batch, int(batch_size), steps, ends)
    plan = replace(plan, seed=int(seed), shuffle=shuffle)
    if drop_remainder:
        plan = plan.without_remainder()
    counter = EpochCounter(initial_epoch)
    return _stream(sources, alignment, plan, counter)


def _named(datasets: Any) -> dict[str, Any]:
    named = (
        dict(datasets)
        if isinstance(datasets, Mapping)
        else {str(number): dataset for number, dataset in enumerate(datasets)}
    )
    if not named:
        raise ValueError("`datasets` should hold at least one data set. Received: none.")
    return named


def _labelled_only(
    sources: dict[str, MixedSource], tasks: list[Task], labelled: Mapping[str, Any] | None
) -> dict[str, MixedSource]:
    """Sources in which labels of classes that they do not label are missing."""
    from mtl_keras.data.partial import hide_unlabelled
    from mtl_keras.runtime.names import unknown_name

    masked = dict(sources)
    for name, classes in (labelled or {}).items():
        if name not in sources:
            raise ValueError(unknown_name("data set in `labelled`:", name, sources))
        masked[name] = sources[name].mapped(hide_unlabelled(tasks, classes, f"data set '{name}'"))
    return masked


# ------------------------------------------------------------------ what an epoch is
@dataclass(frozen=True)
class _Plan:
    """What is drawn in an epoch, in units: rows, or batches of one source.

    Attributes:
        sampling: the rates.
        names: sources that are drawn from.
        sizes: units of these sources; -1 is endless, -2 unknown.
        within_batch: bool. Whether units are rows.
        batch_size: int.
        units: int or None. Units of an epoch; None where it is unknown or has no end.
        has_end: bool. Whether an epoch ends.
        seed, shuffle: see `mix`.
    """

    sampling: Sampling
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    within_batch: bool
    batch_size: int
    units: int | None
    has_end: bool
    seed: int = 0
    shuffle: bool | int | None = None

    @classmethod
    def of(
        cls,
        sources: Mapping[str, MixedSource],
        sampling: Sampling,
        within_batch: bool,
        batch_size: int,
        steps: int | None,
        ends: str,
    ) -> _Plan:
        all_sizes = {name: source.units() for name, source in sources.items()}
        if 0 in all_sizes.values():
            raise ValueError(f"Every data set should have rows. Received: lengths {all_sizes}.")
        if sampling.needs_sizes and min(all_sizes.values()) < 0:
            raise ValueError(
                f"`sampling='{sampling.kind}'` follows from the lengths of the data sets. "
                f"Received: lengths {all_sizes}, where -1 is endless and -2 unknown. Give "
                f"`sizes=`, or `sampling='uniform'`."
            )
        requested = None if steps is None else steps * (batch_size if within_batch else 1)
        rates = sampling.rates(all_sizes, 0, requested)
        # A source that is never drawn from does not end an epoch.
        drawn = {
            name: size
            for (name, size), rate in zip(all_sizes.items(), rates, strict=True)
            if rate > 0 or sampling.changes
        }
        shares = dict(zip(all_sizes, rates, strict=True))
        units, has_end = _units_per_epoch(drawn, shares, requested, ends)
        if sampling.changes and units is None:
            raise ValueError(
                "A schedule needs epochs: give `steps=`, or data sets of known lengths."
            )
        return cls(
            sampling, tuple(drawn), tuple(drawn.values()), within_batch, batch_size, units, has_end
        )

    def rates(self, epoch: int) -> np.ndarray:
        if not self.sampling.changes and isinstance(self.sampling.kind, (Mapping, list, tuple)):
            weights: Any = self.sampling.kind
            kind = weights if isinstance(weights, Mapping) else None
            if kind is not None:
                values = np.array([kind[name] for name in self.names], "float64")
            else:
                values = np.array([weight for weight in weights if weight > 0], "float64")
            return np.asarray(values / values.sum())
        sizes = dict(zip(self.names, self.sizes, strict=True))
        return self.sampling.rates(sizes, epoch, self.units)

    def counts(self, epoch: int) -> np.ndarray:
        """Units of each source in an epoch: they add up to `units`."""
        exact = self.rates(epoch) * (self.units or 0)
        counts = np.floor(exact + 1e-9).astype("int64")
        rest = (self.units or 0) - int(counts.sum())
        # The largest remainders get what rounding down left.
        order = np.argsort(-(exact - counts), kind="stable")
        counts[order[:rest]] += 1
        return counts

    def choices(self, epoch: int) -> np.ndarray:
        """The source of every unit of an epoch, in order."""
        counts = self.counts(epoch)
        choices = np.repeat(np.arange(len(counts)), counts)
        if self.sampling.kind == "round_robin":
            turns = np.concatenate([np.arange(count) for count in counts])
            return choices[np.argsort(turns, kind="stable")].astype("int64")
        generator = np.random.default_rng([epoch, self.seed & _WORD, 0])
        return generator.permutation(choices).astype("int64")

    @property
    def steps(self) -> int | None:
        if self.units is None:
            return None
        if not self.within_batch:
            return self.units
        return math.ceil(self.units / self.batch_size)

    def without_remainder(self) -> _Plan:
        """The plan whose last batch is full."""
        if not self.within_batch or self.units is None:
            return self
        units = self.units - self.units % self.batch_size
        if not units:
            raise ValueError(
                f"`drop_remainder` leaves no batch: an epoch has {self.units} rows, and a batch "
                f"{self.batch_size}."
            )
        return replace(self, units=units)


def _units_per_epoch(
    sizes: Mapping[str, int], shares: Mapping[str, float], requested: int | None, ends: str
) -> tuple[int | None, bool]:
    """Units of an epoch, None where it is unknown or has no end, and whether it has an end."""
    if requested is not None:
        return requested, True
    finite = [name for name, size in sizes.items() if size > 0]
    if -2 in sizes.values():
        if ends == "longest":
            raise ValueError(
                "`ends='longest'` needs data sets whose lengths are known. Apply "
                "`tf.data.experimental.assert_cardinality`, or give `sizes=`. Received: lengths "
                f"{dict(sizes)}, where -2 is unknown."
            )
        return None, True
    if not finite or (ends == "longest" and -1 in sizes.values()):
        return None, False
    # The deciding data set is used up exactly.
    decide = min if ends == "shortest" else max
    total = decide(sizes[name] / shares[name] for name in finite if shares[name] > 0)
    return sum(max(1, round(total * shares[name])) for name in sizes if shares[name] > 0), True


# ------------------------------------------------------------------ streams
def _stream(
    sources: Mapping[str, MixedSource], alignment: Alignment, plan: _Plan, counter: EpochCounter
) -> Any:
    import tensorflow as tf

    drawn = [sources[name] for name in plan.names]
    if plan.within_batch and plan.units is not None and all(s.gather for s in drawn):
        stream = _gathered(drawn, alignment, plan, counter)
    else:
        stream = _chosen(drawn, alignment, plan, counter)
    if plan.steps is not None:
        stream = stream.apply(tf.data.experimental.assert_cardinality(plan.steps))
    elif plan.has_end:
        # `choose_from_datasets` takes the length of its endless choices for its own; behind a
        # filter it is unknown, as it is.
        stream = stream.filter(lambda *batch: True)
    else:
        endless = tf.data.INFINITE_CARDINALITY
        stream = stream.apply(tf.data.experimental.assert_cardinality(endless))
    stream.epoch_counter = counter
    return stream


def _chosen(
    sources: Sequence[MixedSource], alignment: Alignment, plan: _Plan, counter: EpochCounter
) -> Any:
    """Units that are drawn from one stream per source."""
    import tensorflow as tf

    streams = []
    for position, source in enumerate(sources):
        stream = source.stream(_Order(plan, counter, position), alignment)
        if plan.units is None and plan.has_end:
            # The first source that ends, ends the epoch.
            stream = counted_at_end(stream, counter)
        elif (source.gather is None or not plan.has_end) and source.units() != -1:
            # An epoch may need a source more than once.
            stream = stream.repeat()
        streams.append(stream.unbatch() if plan.within_batch else stream)
    if plan.units is None:
        choices = _endless_choices(plan, counter)
        stream = tf.data.Dataset.choose_from_datasets(
            streams, choices, stop_on_empty_dataset=plan.has_end
        )
    else:
        choices = choices_per_epoch(lambda: plan.choices(counter.begin()), counter)
        stream = tf.data.Dataset.choose_from_datasets(streams, choices, stop_on_empty_dataset=True)
    if not plan.within_batch:
        return stream
    return _rebatched(stream, alignment.tasks, plan)


def _rebatched(stream: Any, tasks: Sequence[Task], plan: _Plan) -> Any:
    """Batches of rows; labels of varying length are filled up as missing."""
    import tensorflow as tf

    spec = stream.element_spec
    varies = [t.name for t in tasks if None in t.label_shape and None in spec[1][t.name].shape]
    if not varies:
        return stream.batch(plan.batch_size)

    def filling(part: Any, value: Any = 0) -> Any:
        return tf.nest.map_structure(lambda s: tf.cast(value, s.dtype), part)

    values = (
        tf.nest.map_structure(lambda s: tf.zeros((), s.dtype), spec[0]),
        {t.name: filling(spec[1][t.name], t.missing_value) for t in tasks},
        *(filling(part) for part in spec[2:]),
    )
    return stream.padded_batch(plan.batch_size, padding_values=values)


def _endless_choices(plan: _Plan, counter: EpochCounter) -> Any:
    """Draws without an end, for streams whose length nobody knows."""
    import tensorflow as tf

    rates = plan.rates(0)
    is_in_turn = plan.sampling.kind == "round_robin"

    def begin() -> np.ndarray:
        # Each pass over the stream has draws of its own, however far it goes.
        number = counter.begin()
        if not plan.has_end:
            counter.move()
        return np.asarray(number)

    def draw(number: Any, block: Any) -> np.ndarray:
        if is_in_turn:
            return (int(block) * _BLOCK + np.arange(_BLOCK)) % len(rates)
        generator = np.random.default_rng([int(number), plan.seed & _WORD, 0, int(block)])
        return generator.choice(len(rates), _BLOCK, p=rates).astype("int64")

    def draws(number: Any) -> Any:
        def drawn(block: Any) -> Any:
            choices = tf.numpy_function(draw, [number, block], tf.int64)
            return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(choices, (None,)))

        return tf.data.Dataset.range(2**62).flat_map(drawn)

    numbers = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(tf.numpy_function(begin, [], tf.int64), ())
    )
    return numbers.flat_map(draws)


def _gathered(
    sources: Sequence[MixedSource], alignment: Alignment, plan: _Plan, counter: EpochCounter
) -> Any:
    """Batches of rows of several sources, read by their numbers."""
    import tensorflow as tf

    def rows_of_epoch() -> np.ndarray:
        choices = plan.choices(counter.begin())
        rows = np.empty(len(choices), "int64")
        for position, source in enumerate(sources):
            chosen = choices == position
            rows[chosen] = _Order(plan, counter, position).rows(source.size, int(chosen.sum()))
        return np.stack([choices, rows], -1)

    def gather(drawn: Any) -> Any:
        parts, positions = [], []
        for position, source in enumerate(sources):
            places = tf.where(tf.equal(drawn[:, 0], position))[:, 0]
            read: Any = source.gather
            parts.append(alignment(*read(tf.gather(drawn[:, 1], places))))
            positions.append(tf.cast(places, tf.int32))
        return _stitched(alignment.tasks, positions, parts)

    numbers = per_epoch(rows_of_epoch, (2,))
    numbers = numbers.batch(plan.batch_size)
    stream = numbers.map(gather, num_parallel_calls=tf.data.AUTOTUNE)
    return counted(stream, counter, plan.steps or 0)


def _stitched(tasks: Sequence[Task], positions: list[Any], parts: list[Any]) -> Any:
    """One batch of the parts' rows, in the order in which they were drawn."""
    import tensorflow as tf

    parts = [list(part) for part in parts]
    for task in tasks:
        if None in task.label_shape:
            labels = _same_length(task, [part[1][task.name] for part in parts])
            for part, label in zip(parts, labels, strict=True):
                part[1] = {**part[1], task.name: label}
    if len(parts) == 1:
        return tuple(parts[0])

    def stitch(*tensors: Any) -> Any:
        shape = tensors[0].shape
        for tensor in tensors[1:]:
            shape = shape.most_specific_compatible_shape(tensor.shape)
        return tf.ensure_shape(tf.dynamic_stitch(positions, list(tensors)), [None, *shape[1:]])

    return tuple(tf.nest.map_structure(stitch, *map(tuple, parts)))


def _same_length(task: Task, labels: list[Any]) -> list[Any]:
    """Labels filled up as missing to one length."""
    import tensorflow as tf

    shapes = {tuple(label.shape[1:]) for label in labels}
    if len(shapes) == 1 and None not in next(iter(shapes)):
        return labels
    sizes = tf.reduce_max(tf.stack([tf.shape(label)[1:] for label in labels]), axis=0)
    filled = []
    for label in labels:
        lacking = sizes - tf.shape(label)[1:]
        paddings = tf.concat([[[0, 0]], tf.stack([tf.zeros_like(lacking), lacking], -1)], 0)
        value = tf.cast(task.missing_value, label.dtype)
        padded = tf.pad(label, paddings, constant_values=value)
        filled.append(tf.ensure_shape(padded, [None] * len(label.shape)))
    return filled


class _Order:
    """In which order a source's rows come in an epoch."""

    def __init__(self, plan: _Plan, counter: EpochCounter, position: int):
        self.plan, self.counter, self.position = plan, counter, position
        self.batch_size = plan.batch_size
        self._passes = itertools.count()

    @property
    def buffer(self) -> int:
        """Elements of the buffer in which streams are shuffled; 0 keeps their order."""
        shuffle = self.plan.shuffle
        return 0 if shuffle is None or isinstance(shuffle, bool) else int(shuffle)

    @property
    def per_epoch(self) -> Callable[..., Any]:
        return per_epoch

    def seed(self) -> np.ndarray:
        """A seed of this epoch, for TensorFlow."""
        generator = self.counter.generator(self.plan.seed, 1 + self.position)
        return generator.integers(0, 2**31 - 1, 1)

    def rows(self, size: int, count: int) -> np.ndarray:
        """Numbers of `count` rows: passes over all of them, each in another order."""
        passes = max(1, math.ceil(count / size))
        if self.plan.shuffle is False:
            return np.tile(np.arange(size), passes)[:count]
        if self.plan.has_end:
            generator = self.counter.generator(self.plan.seed, 1 + self.position)
        else:
            # A stream without an end has one epoch of many passes.
            keys = [next(self._passes), self.plan.seed & _WORD, 1 + self.position]
            generator = np.random.default_rng(keys)
        return np.concatenate([generator.permutation(size) for _ in range(passes)])[:count]

    def batches(self, size: int) -> np.ndarray:
        """Row numbers `(batches, batch_size)` of this epoch; -1 fills up the last of a pass."""
        per_pass = math.ceil(size / self.batch_size)
        count = per_pass if self.plan.units is None else self.epoch_count()
        passes = max(1, math.ceil(count / per_pass))
        rows = self.rows(size, passes * size).reshape(passes, size)
        filled = np.full((passes, per_pass * self.batch_size), -1)
        filled[:, :size] = rows
        return filled.reshape(-1, self.batch_size)[:count]

    def epoch_count(self) -> int:
        """Rows that this epoch needs."""
        return int(self.plan.counts(self.counter.running)[self.position])
