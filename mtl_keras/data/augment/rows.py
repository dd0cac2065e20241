"""Steps for texts, series of sensors, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.data.augment.step import Batch, Draws, Step, register_step

__all__ = ["Amplitude", "ColumnNoise", "Jitter", "SwapNoise", "WordDropout"]

#: Tokenizers of ours whose id 1 is the unknown word, letter or part.
_WITH_UNKNOWN_WORD = ("WordTokenizer", "CharTokenizer", "SubwordTokenizer")


@register_step
class WordDropout(Step):
    """Replace random words of texts by the unknown word. Padding stays, and so does at least one
    word of each text.

    Args:
        rate: float in [0, 1]. Share of the words. Defaults to 0.1.
        unknown: int or None. Id of the unknown word. None takes the encoder's (its attribute
            `unknown_id`, or 1 for the tokenizers of `mtl.data`). A `mtl.data.HashingTokenizer` has
            none and is refused.
        keep: list of int. Ids that always stay, beside padding: those of separators, for example.
        padding: int. Id of padding. Defaults to 0.
        probability: float in [0, 1]. Share of the texts. Defaults to 1.

    Reference:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015 (word
        dropout); Bowman et al., CoNLL 2016 (by the unknown word).

    Examples:
        >>> step = mtl.data.augment.WordDropout(0.2)
    """

    name, kinds = "word_dropout", ("text",)

    def __init__(
        self,
        rate: float = 0.1,
        unknown: int | None = None,
        keep: Sequence[int] = (),
        padding: int = 0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.rate = self._fraction("rate", rate)
        self.unknown = None if unknown is None else int(unknown)
        self.padding = int(padding)
        self.keep = tuple(int(i) for i in keep)
        if self.unknown == self.padding:
            raise self._refuse("unknown", "another id than padding", unknown)

    def check_input(self, x: Any) -> None:
        if len(x.shape) != 2 or not x.dtype.is_integer:
            raise ValueError(
                f"Step 'word_dropout' changes ids of words (rows, length), whole numbers. Received: "
                f"an input of shape {tuple(x.shape)} and dtype {x.dtype.name}."
            )

    def with_encoder(self, encoder: Any) -> WordDropout:
        """This step with the unknown word of an encoder.

        Raises:
            ValueError: an encoder that has no unknown word.
        """
        if self.unknown is not None or encoder is None:
            return self
        kind = type(encoder).__name__
        unknown = getattr(encoder, "unknown_id", None)
        if unknown is None and kind in _WITH_UNKNOWN_WORD:
            unknown = 1
        if unknown is None:
            raise ValueError(
                f"Step 'word_dropout' replaces words by the unknown word, and {kind} has none. Use "
                f"a WordTokenizer, or say which id to use: WordDropout(unknown=...)."
            )
        return WordDropout(**{**self.get_config(), "unknown": unknown})

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        unknown = 1 if self.unknown is None else self.unknown
        is_word = x != self.padding
        for i in self.keep:
            is_word &= x != i
        happens = draws.happens(self.probability)[:, None]
        chance = tf.where(is_word, draws.uniform(tf.shape(x)[1]), -1.0)
        # The word with the greatest number stays in any case.
        is_last = chance >= tf.reduce_max(chance, axis=1, keepdims=True)
        dropped = happens & is_word & (chance < self.rate) & ~is_last
        return batch.with_input(tf.where(dropped, tf.cast(unknown, x.dtype), x))


def _check_series(step: Step, x: Any) -> None:
    if len(x.shape) not in (2, 3) or not x.dtype.is_floating:
        raise ValueError(
            f"Step '{step.name}' changes series (rows, times) or (rows, times, channels) of real "
            f"numbers. Received: an input of shape {tuple(x.shape)} and dtype {x.dtype.name}."
        )


@register_step
class Jitter(Step):
    """Add noise to series, relative to the spread of each row's channel.

    Args:
        sigma: float >= 0. Standard deviation of the noise, in parts of that of the channel over its
            times. Defaults to 0.05.
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Um et al., "Data Augmentation of Wearable Sensor Data", ICMI 2017.

    Examples:
        >>> step = mtl.data.augment.Jitter(0.1)
    """

    name, kinds = "jitter", ("array",)

    def __init__(self, sigma: float = 0.05, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.sigma = self._positive("sigma", sigma)

    def check_input(self, x: Any) -> None:
        _check_series(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        happens = tf.cast(draws.happens(self.probability), x.dtype)
        spread = tf.math.reduce_std(x, axis=1, keepdims=True)
        noise = tf.reshape(draws.normal(*tf.unstack(tf.shape(x)[1:])), tf.shape(x))
        strength = tf.reshape(happens * self.sigma, [-1, *[1] * (len(x.shape) - 1)])
        return batch.with_input(x + strength * spread * noise)


@register_step
class Amplitude(Step):
    """Multiply each channel of a series by a random factor.

    Args:
        sigma: float >= 0. Standard deviation of the factor, about 1. Defaults to 0.1.
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Um et al., ICMI 2017 ("scaling").

    Examples:
        >>> step = mtl.data.augment.Amplitude(0.2)
    """

    name, kinds = "scale", ("array",)

    def __init__(self, sigma: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.sigma = self._positive("sigma", sigma)

    def check_input(self, x: Any) -> None:
        _check_series(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        happens = tf.cast(draws.happens(self.probability), x.dtype)[:, None]
        channels = 1 if len(x.shape) == 2 else tf.shape(x)[2]
        factor = 1 + happens * self.sigma * draws.normal(channels)
        return batch.with_input(x * (factor if len(x.shape) == 2 else factor[:, None]))


@register_step
class ColumnNoise(Step):
    """Add noise to columns of numbers, relative to the spread of each.

    Args:
        sigma: float >= 0. Standard deviation of the noise, in parts of the column's. Defaults to
            0.05.
        spread: list of float or None. Standard deviations of the columns. None takes those that
            `mtl.data.TableEncoder` measured on the training rows, or else measures each batch.
        probability: float in [0, 1]. Share of the rows. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.ColumnNoise(0.1)
    """

    name, kinds = "column_noise", ("table",)

    def __init__(
        self,
        sigma: float = 0.05,
        spread: Sequence[float] | None = None,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.sigma = self._positive("sigma", sigma)
        self.spread = None if spread is None else [self._positive("spread", s) for s in spread]

    def check_input(self, x: Any) -> None:
        if len(x.shape) != 2 or not x.dtype.is_floating:
            raise ValueError(
                f"Step 'column_noise' changes columns of real numbers (rows, columns). Received: "
                f"an input of shape {tuple(x.shape)} and dtype {x.dtype.name}. For categories use "
                f"'swap_noise'."
            )
        if self.spread is not None and x.shape[1] not in (None, len(self.spread)):
            raise self._refuse(
                "spread", f"one number for each of {x.shape[1]} columns", self.spread
            )

    def with_encoder(self, encoder: Any) -> ColumnNoise:
        """This step with the spread of an encoder's columns."""
        columns = getattr(encoder, "numeric", None)
        if self.spread is not None or not columns:
            return self
        spread = [float(variance) ** 0.5 for _, variance in columns.values()]
        return ColumnNoise(self.sigma, spread, self.probability)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        happens = tf.cast(draws.happens(self.probability), x.dtype)[:, None]
        spread = tf.math.reduce_std(x, axis=0) if self.spread is None else tf.constant(self.spread)
        noise = draws.normal(tf.shape(x)[1])
        return batch.with_input(x + happens * self.sigma * spread * noise)


@register_step
class SwapNoise(Step):
    """Replace random cells by the same column's value in another row of the batch.

    Args:
        rate: float in [0, 1]. Share of the cells. Defaults to 0.1.
        probability: float in [0, 1]. Share of the rows. Defaults to 1.

    Reference:
        Described by M. Jahrer for his solution of the Porto Seguro challenge, Kaggle 2017.

    Examples:
        >>> step = mtl.data.augment.SwapNoise(0.15)
    """

    name, kinds = "swap_noise", ("table",)

    def __init__(self, rate: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.rate = self._fraction("rate", rate)

    def check_input(self, x: Any) -> None:
        if len(x.shape) != 2:
            raise ValueError(
                f"Step 'swap_noise' changes tables (rows, columns). Received: an input of shape "
                f"{tuple(x.shape)}."
            )

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        happens = draws.happens(self.probability)[:, None]
        columns = tf.shape(x)[1]
        swapped = happens & (draws.uniform(columns) < self.rate)
        place = draws.uniform(columns) * tf.cast(draws.rows, tf.float32)
        row = tf.minimum(tf.cast(place, tf.int32), draws.rows - 1)
        column = tf.broadcast_to(tf.range(columns)[None], tf.shape(row))
        other = tf.gather_nd(x, tf.stack([row, column], -1))
        return batch.with_input(tf.where(swapped, other, x))
