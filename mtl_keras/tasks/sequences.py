"""Tasks whose answer is a sequence: a tag for every token, a text for a line of sound or
handwriting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.layers.sequences import mask_of
from mtl_keras.runtime.decoding import is_bio
from mtl_keras.tasks.classes import ClassTask
from mtl_keras.tasks.task import Task, TaskMetric, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["CTCLoss", "EditDistance", "SequenceTranscription", "SpanF1", "TokenTagging"]


def _tag_parts(labels: Sequence[str]) -> tuple[list[int], list[int]]:
    """For each tag of a B-/I-/O scheme: its type's number (0 for O), and whether it continues a
    span."""
    types: dict[str, int] = {}
    kinds, inside = [], []
    for label in labels:
        prefix, _, kind = label.partition("-")
        kinds.append(0 if prefix == "O" else types.setdefault(kind, len(types) + 1))
        inside.append(int(prefix == "I"))
    return kinds, inside


@keras.saving.register_keras_serializable("mtl_keras")
class SpanF1(keras.metrics.Metric):
    """F1 of whole spans: a predicted span is right where type, start and end are those of a true
    one.

    An I- tag that does not continue a span of its type starts one, as in the CoNLL-2000 evaluation
    (Tjong Kim Sang & Buchholz). Tokens without a label count as O on both sides.

    Args:
        labels: list of str. The tags: "O", "B-X", "I-X".
    """

    def __init__(self, labels: Sequence[str], name: str = "span_f1", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.labels = list(labels)
        kinds, inside = _tag_parts(self.labels)
        self._kinds, self._inside = np.array(kinds, "int32"), np.array(inside, "int32")
        self.counts = self.add_weight(shape=(3,), initializer="zeros", name="counts")

    def _spans(self, tags: Any, known: Any) -> tuple[Tensor, Tensor]:
        """Type of each token (0 outside), and whether it continues the one before."""
        kind = ops.where(known, ops.take(self._kinds, tags), 0)
        before = ops.concatenate([ops.zeros_like(kind[:, :1]), kind[:, :-1]], axis=1)
        goes_on = ops.logical_and(
            ops.take(self._inside, tags) > 0, ops.logical_and(kind > 0, kind == before)
        )
        return kind, goes_on

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        length = y_pred.shape[1]
        known = ops.ones_like(y_true, dtype="bool") if sample_weight is None else sample_weight > 0
        if len(known.shape) == 1:
            known = ops.logical_and(ops.expand_dims(known, -1), ops.ones_like(y_true, dtype="bool"))
        true, true_on = self._spans(ops.cast(y_true, "int32"), known)
        said, said_on = self._spans(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), known)
        starts = ops.logical_and(true > 0, ops.logical_not(true_on))
        said_starts = ops.logical_and(said > 0, ops.logical_not(said_on))
        # The end: the first place behind that does not go on. Up to and with it both must go on
        # alike.
        place = ops.arange(length)
        behind = place[None, :] > place[:, None]
        stops = ops.logical_and(behind[None], ops.logical_not(true_on)[:, None, :])
        end = ops.min(ops.where(stops, place[None, None, :], length), axis=-1)
        unlike = ops.cast(ops.logical_xor(true_on, said_on), "int32")
        within = ops.logical_and(behind[None], place[None, None, :] <= end[..., None])
        apart = ops.sum(ops.where(within, unlike[:, None, :], 0), axis=-1)
        right = ops.logical_and(
            ops.logical_and(starts, said_starts), ops.logical_and(true == said, apart == 0)
        )
        sums = [ops.sum(ops.cast(x, "float32")) for x in (right, said_starts, starts)]
        self.counts.assign_add(ops.stack(sums))

    def result(self) -> Tensor:
        right, said, true = self.counts[0], self.counts[1], self.counts[2]
        return ops.where(said + true > 0, 2 * right / ops.maximum(said + true, 1.0), 0.0)

    def reset_state(self) -> None:
        self.counts.assign(ops.zeros((3,)))

    def get_config(self) -> Config:
        return {**super().get_config(), "labels": self.labels}


@keras.saving.register_keras_serializable("mtl_keras")
class TokenTagging(ClassTask):
    """A tag for every token: part of speech, names (with B-, I-, O tags).

    The output is a probability per tag, shape `(rows, length, num_tags)`; labels are tag numbers
    `(rows, length)`, or soft, a probability per tag, `(rows, length, num_tags)`; -1 or NaN means no
    label (padding). Tokens that a Keras mask leaves out, as the masks of the token backbones do
    with padding, count neither in the loss nor in metrics. Head: a linear layer on the deepest
    stage that is a sequence.

    Args:
        name: str. See `Task`.
        num_tags: int >= 2. Defaults to the number of `labels`.
        labels: list of str. The tags. With "O", "B-X" and "I-X" the first metric is the F1 of whole
            spans, and `decode` names spans.
        class_weights, beta, label_smoothing, focal_gamma: as in `Classification`, for tags.

    Examples:
        >>> mtl.tasks.TokenTagging("names", labels=["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    """

    kind = "token_tagging"

    def __init__(
        self,
        name: str,
        num_tags: int | None = None,
        *,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if num_tags is None:
            num_tags = 0 if labels is None else len(labels)
        if int(num_tags) < 2:
            raise ValueError(f"Task '{name}' needs at least 2 tags: give `num_tags` or `labels`.")
        if labels is not None and len(labels) != num_tags:
            raise ValueError(
                f"Task '{name}' has {num_tags} tags but {len(labels)} labels were given."
            )
        self.num_tags = int(num_tags)
        self.labels = None if labels is None else [str(label) for label in labels]
        self._check_class_weights()

    @property
    def _classes(self) -> int:
        return self.num_tags

    @property
    def _places(self) -> tuple[int | None, ...]:
        return (None,)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, self.num_tags)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (None,)

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        if output_shape is None or output_shape[1] is None:
            raise ValueError(
                f"The length of a missing label of task '{self.name}' is not known. Fill absent "
                f"labels with -1."
            )
        return np.full((rows, output_shape[1]), -1, "int32")

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = next((x for x in reversed(features.values()) if len(x.shape) == 3), None)
        if x is None:
            shapes = {k: tuple(v.shape) for k, v in features.items()}
            raise ValueError(
                f"Task '{self.name}' tags every token and needs a stage that is a sequence; got "
                f"{shapes}."
            )
        return keras.layers.Dense(self.num_tags, name=f"{self.name}_linear")(x)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.softmax(x)

    def accuracy(self, name: str) -> Any:
        return keras.metrics.SparseCategoricalAccuracy(name=name)

    def default_metrics(self) -> list[TaskMetric]:
        accuracy = TaskMetric(self.accuracy("accuracy"), True)
        if self.labels is not None and is_bio(self.labels):
            return [TaskMetric(SpanF1(self.labels), True), accuracy]
        return [accuracy]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_soft(y.shape):
            return self._soft_target(y)
        known = finite(y)
        present = ops.logical_and(known, y >= 0)
        return ops.cast(ops.where(present, y, ops.zeros_like(y)), "int32"), present

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float)
        counts = self.count_classes(y)
        return np.tile(counts / max(counts.sum(), 1), (y.shape[1], 1)).astype("float32")

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "num_tags": self.num_tags,
            "labels": self.labels,
            "activation": "softmax",
        }

    def get_config(self) -> Config:
        return {**super().get_config(), "num_tags": self.num_tags, "labels": self.labels}


def needed_times(letters: Any) -> Any:
    """How many times texts `(rows, longest)`, filled up with 0, need: one per letter, and a blank
    between equal ones."""
    repeats = ops.logical_and(letters[:, 1:] == letters[:, :-1], letters[:, 1:] > 0)
    return ops.sum(ops.cast(letters > 0, "int32"), axis=1) + ops.sum(
        ops.cast(repeats, "int32"), axis=1
    )


@keras.saving.register_keras_serializable("mtl_keras")
class CTCLoss(keras.losses.Loss):
    """Connectionist temporal classification on probabilities, with class 0 as blank and labels
    filled up with 0.

    Divided by the number of letters (at least 1), so that long texts do not outweigh short ones.
    Times that a Keras mask leaves out, at the end, are not read. Infinite where the text needs more
    times than there are.

    Reference:
        Graves, Fernandez, Gomez, Schmidhuber, ICML 2006.
    """

    def __init__(self, name: str = "ctc_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        logits = getattr(y_pred, "_keras_logits", None)
        if logits is None:
            logits = ops.log(ops.maximum(y_pred, 1e-9))
        y_true = ops.cast(y_true, "int32")
        letters = ops.sum(ops.cast(y_true > 0, "int32"), axis=1)
        mask = mask_of(y_pred)
        steps = (
            ops.ones_like(y_pred[..., 0], dtype="int32")
            if mask is None
            else ops.cast(mask, "int32")
        )
        times = ops.sum(steps, axis=1)
        loss = ops.ctc_loss(y_true, ops.cast(logits, "float32"), letters, times, mask_index=0)
        # No path writes a text that is too long. TensorFlow's loss is then a large number, which
        # would be learned from.
        loss = ops.where(needed_times(y_true) > times, float("inf"), loss)
        return loss / ops.cast(ops.maximum(letters, 1), "float32")


@keras.saving.register_keras_serializable("mtl_keras")
class EditDistance(keras.metrics.Mean):
    """Letters to insert, delete or replace, divided by the true text's length (at least 1); the
    best path is decoded."""

    def __init__(self, name: str = "edit_distance", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        y_true = ops.cast(y_true, "int32")
        size = y_true.shape[1]
        letters = ops.sum(ops.cast(y_true > 0, "int32"), axis=1)
        best = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        mask = mask_of(y_pred)
        best = best if mask is None else ops.where(mask, best, 0)
        place = ops.arange(size + 1, dtype="float32")
        # A row of the table of distances from the text read so far to every beginning of the true
        # text; one more row for every letter that is read: a class that is no blank and differs
        # from the one before.
        row = ops.zeros_like(best[:, :1], dtype="float32") + place
        before = ops.zeros_like(best[:, 0])
        for t in range(best.shape[1]):
            now = best[:, t]
            reads = ops.logical_and(now > 0, now != before)
            other = ops.cast(y_true != now[:, None], "float32")
            first = row[:, :1] + 1
            rest = ops.minimum(row[:, 1:] + 1, row[:, :-1] + other)
            start = ops.concatenate([first, rest], axis=1) - place
            # Insertions: the least of all places before, plus the way from there.
            ahead = ops.where((place[:, None] >= place[None, :])[None], start[:, None, :], 1e9)
            row = ops.where(reads[:, None], ops.min(ahead, axis=-1) + place, row)
            before = now
        end = ops.one_hot(letters, size + 1, dtype="float32")
        distance = ops.sum(row * end, axis=1) / ops.cast(ops.maximum(letters, 1), "float32")
        return super().update_state(distance, sample_weight=sample_weight)


@keras.saving.register_keras_serializable("mtl_keras")
class SequenceTranscription(Task):
    """A text read off a sequence: speech, a line of handwriting.

    The output is a probability a letter at every time, shape `(rows, times, letters + 1)`, the
    first class being blank. Labels are numbers of letters in `alphabet`, `(rows, longest)`, from 0,
    filled up with -1; a row of nothing but -1 (or NaN) has no label. `encode` makes them from
    texts. Needs at least as many times as letters, and one more where a letter repeats.

    Args:
        name: str. See `Task`.
        alphabet: str. The letters.
        time_axis: "width" or "height". Which axis of feature maps is time; the other is averaged.
            Defaults to "width" (lines of writing); "height" for `log_mel_cnn`.

    Examples:
        >>> task = mtl.tasks.SequenceTranscription("said", alphabet="abcdefghijklmnopqrstuvwxyz ")
        >>> labels = task.encode(["yes", "no"], length=10)
    """

    kind = "transcription"
    bad_loss_hint = (
        "A text may be longer than the output can write: "
        "it needs one time per letter and one more between equal letters."
    )
    likelihood = "categorical"
    missing_value = -1
    label_dtype = "int32"

    def __init__(self, name: str, alphabet: str, *, time_axis: str = "width", **kwargs: Any):
        super().__init__(name, **kwargs)
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ValueError(
                f"Task '{name}' needs an alphabet of different letters, got {alphabet!r}."
            )
        if time_axis not in ("width", "height"):
            raise ValueError(f"Task '{name}': time_axis is 'width' or 'height', got {time_axis!r}.")
        self.alphabet, self.time_axis = str(alphabet), time_axis

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, len(self.alphabet) + 1)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (None,)

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        return np.full((rows, 1), -1, "int32")

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Texts to labels.

        Raises:
            ValueError: a letter that the alphabet lacks, a text longer than `length`.
        """
        rows = np.full((len(texts), length), -1, "int32")
        for row, text in zip(rows, texts, strict=True):
            strange = set(text) - set(self.alphabet)
            if strange or len(text) > length:
                what = (
                    f"letters {sorted(strange)} that the alphabet lacks"
                    if strange
                    else f"more than {length} letters"
                )
                raise ValueError(f"Task '{self.name}': the text {text!r} has {what}.")
            row[: len(text)] = [self.alphabet.index(letter) for letter in text]
        return rows

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = next((x for x in reversed(features.values()) if len(x.shape) in (3, 4)), None)
        if x is None:
            shapes = {k: tuple(v.shape) for k, v in features.items()}
            raise ValueError(
                f"Task '{self.name}' reads along a sequence or a map and needs such a stage; got "
                f"{shapes}."
            )
        if len(x.shape) == 4:
            height, width, channels = x.shape[1:]
            along = self.time_axis == "width"
            window = (height, 1) if along else (1, width)
            x = keras.layers.AveragePooling2D(window, name=f"{self.name}_across")(x)
            x = keras.layers.Reshape(
                (width if along else height, channels), name=f"{self.name}_along"
            )(x)
        return keras.layers.Dense(len(self.alphabet) + 1, name=f"{self.name}_linear")(x)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.softmax(x)

    def mask_output(self, output: Tensor, mask: Tensor) -> Tensor:
        # Nothing is written at padding: `decode`, here and on the device, reads blanks.
        blank = ops.one_hot(0, len(self.alphabet) + 1, dtype=output.dtype)
        masked = ops.where(ops.expand_dims(mask, -1), output, blank)
        if hasattr(output, "_keras_logits"):
            masked._keras_logits = output._keras_logits
        return masked

    def default_loss(self) -> Any:
        return CTCLoss()

    def default_metrics(self) -> list[TaskMetric]:
        return [TaskMetric(EditDistance(), False)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        known = ops.logical_and(finite(y), y >= 0)
        # Letters from 1: the loss calls blank 0.
        return ops.cast(ops.where(known, y + 1, ops.zeros_like(y)), "int32"), ops.any(
            known, axis=-1
        )

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        there = np.isfinite(values) & (values != -1)
        bad = there & ((values < 0) | (values >= len(self.alphabet)) | (values != np.floor(values)))
        self._refuse(values, bad, f"numbers of letters, 0 to {len(self.alphabet) - 1}")

    def _check_size(self, y: Tensor, output_shape: Any) -> None:
        times = output_shape[1]
        if times is None:
            return
        letters, _ = self.target(ops.convert_to_tensor(y))
        needed = ops.convert_to_numpy(needed_times(letters))
        rows = np.flatnonzero(needed > times)
        if len(rows):
            raise ValueError(
                f"Labels of task '{self.name}' are too long for its output in {len(rows)} rows, "
                f"for example row {rows[0]}: it "
                f"needs {needed[rows[0]]} times (one per letter, and a blank between equal "
                f"letters), and the output has "
                f"{times}. Give the network a longer output (fewer strides along time), or leave "
                f"these rows out (-1)."
            )

    def baseline(self, y: Any) -> np.ndarray:
        # Nothing read; one blank stands for any time.
        return np.eye(1, len(self.alphabet) + 1, dtype="float32")

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "alphabet": self.alphabet, "activation": "softmax", "blank": 0}

    def get_config(self) -> Config:
        return {**super().get_config(), "alphabet": self.alphabet, "time_axis": self.time_axis}
