"""Steps for sounds: noise, shifts in time, and masks of times and frequencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.data.augment.step import Batch, Draws, Step, register_step

__all__ = ["Noise", "Shift", "SpecAugment"]


def _is_waveform(x: Any) -> bool:
    return len(x.shape) == 2 or (len(x.shape) == 3 and x.shape[-1] == 1)


def _check_sound(step: Step, x: Any) -> None:
    if len(x.shape) not in (2, 3, 4) or not x.dtype.is_floating:
        raise ValueError(
            f"Step '{step.name}' changes waveforms (rows, samples) or spectrograms (rows, times, "
            f"bands), of real numbers. Received: an input of shape {tuple(x.shape)} and dtype "
            f"{x.dtype.name}."
        )


def _per_row(values: Any, x: Any) -> Any:
    return tf.reshape(values, [-1, *[1] * (len(x.shape) - 1)])


def _row_axes(x: Any) -> list[int]:
    return list(range(1, len(x.shape)))


@register_step
class Noise(Step):
    """Add white noise to waveforms, as loud as a ratio to the row's own loudness says.

    Args:
        decibels: pair of float. The ratio of signal to noise, in decibels. Defaults to (10, 30).
        probability: float in [0, 1]. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.Noise((5, 20))
    """

    name, kinds = "noise", ("sound",)

    def __init__(self, decibels: Sequence[float] = (10.0, 30.0), probability: float = 1.0) -> None:
        super().__init__(probability)
        self.decibels = self._interval("decibels", decibels, -100.0, 200.0)

    def check_input(self, x: Any) -> None:
        _check_sound(self, x)
        if not _is_waveform(x):
            raise ValueError(
                f"Step 'noise' adds noise to waveforms (rows, samples), and this input is a "
                f"spectrogram of shape {tuple(x.shape)}. Use 'spec_augment'."
            )

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x = batch.x
        happens = tf.cast(draws.happens(self.probability), x.dtype)
        ratio = draws.uniform(low=self.decibels[0], high=self.decibels[1])
        power = tf.reduce_mean(tf.square(x), axis=_row_axes(x), keepdims=True)
        level = _per_row(happens * tf.pow(10.0, -ratio / 20), x) * tf.sqrt(power)
        noise = tf.reshape(draws.normal(*tf.unstack(tf.shape(x)[1:])), tf.shape(x))
        return batch.with_input(x + level * noise)


@register_step
class Shift(Step):
    """Move sounds in time; what comes in at an end is silence: 0 in waveforms, a row's least value
    in spectrograms.

    Args:
        fraction: float in [0, 1]. The shift is drawn from minus to plus this part of the length.
            Defaults to 0.1.
        probability: float in [0, 1]. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.Shift(0.2)
    """

    name, kinds, effect = "shift", ("sound",), "shift"

    def __init__(self, fraction: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.fraction = self._fraction("fraction", fraction)

    def check_input(self, x: Any) -> None:
        _check_sound(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        x, length = batch.x, tf.shape(batch.x)[1]
        happens = tf.cast(draws.happens(self.probability), tf.float32)
        part = happens * draws.uniform(low=-1.0) * self.fraction
        offset = tf.cast(tf.round(part * tf.cast(length, tf.float32)), tf.int32)
        source = tf.range(length)[None] - offset[:, None]
        moved = tf.gather(x, tf.clip_by_value(source, 0, length - 1), batch_dims=1)
        silence = tf.zeros_like(x[:, :1])
        if not _is_waveform(x):
            silence += tf.reduce_min(x, axis=_row_axes(x), keepdims=True)
        inside = (source >= 0) & (source < length)
        inside = tf.reshape(inside, tf.concat([tf.shape(inside), [1] * (len(x.shape) - 2)], 0))
        return batch.with_input(tf.ensure_shape(tf.where(inside, moved, silence), x.shape))


@register_step
class SpecAugment(Step):
    """Mask random stretches of time and bands of frequencies.

    In spectrograms, `(rows, times, bands)` or `(rows, times, bands, 1)`, masked parts get the row's
    mean. In waveforms, which layers such as `mtl.layers.LogMel` turn into spectrograms inside the
    network, masked times are silenced, and bands are taken out of the sound's Fourier transform;
    their widths are drawn on the mel scale, as the bands of a mel spectrogram are.

    Args:
        time_masks, frequency_masks: int >= 0. How many of each. Default to 2.
        time, frequency: float in [0, 1]. Greatest part of all times, and of all bands, that one
            mask covers; its width is drawn from 0 to this. Default to 0.1 and 0.2.
        sample_rate: float, Hz. Of waveforms. Defaults to 16000.
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Park et al., "SpecAugment", Interspeech 2019 (without its time warping, which they found to
        help least).

    Examples:
        >>> step = mtl.data.augment.SpecAugment(time_masks=1, frequency=0.3)
    """

    name, kinds = "spec_augment", ("sound",)

    def __init__(
        self,
        time_masks: int = 2,
        frequency_masks: int = 2,
        time: float = 0.1,
        frequency: float = 0.2,
        sample_rate: float = 16000.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.time_masks = int(self._positive("time_masks", time_masks))
        self.frequency_masks = int(self._positive("frequency_masks", frequency_masks))
        self.time = self._fraction("time", time)
        self.frequency = self._fraction("frequency", frequency)
        self.sample_rate = self._positive("sample_rate", sample_rate, 1.0)

    def check_input(self, x: Any) -> None:
        _check_sound(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = draws.happens(self.probability)
        x = batch.x
        times = _places(tf.shape(x)[1])
        silent = self._masks(times, self.time_masks, self.time, draws)
        if _is_waveform(x):
            masked = self._filter(x, draws)
            fill = tf.zeros_like(x[:, :1])
        else:
            bands = _places(tf.shape(x)[2])
            missing = self._masks(bands, self.frequency_masks, self.frequency, draws)
            fill = tf.reduce_mean(x, axis=_row_axes(x), keepdims=True)
            missing = tf.reshape(
                missing[:, None],
                tf.concat([[-1, 1], tf.shape(x)[2:3], [1] * (len(x.shape) - 3)], 0),
            )
            masked = tf.where(missing, fill, x)
        silent = tf.reshape(silent, tf.concat([tf.shape(silent), [1] * (len(x.shape) - 2)], 0))
        masked = tf.where(silent, fill, masked)
        masked = tf.where(_per_row(happens, x), masked, x)
        return batch.with_input(tf.ensure_shape(masked, x.shape))

    def _masks(self, places: Any, count: int, widest: float, draws: Draws) -> Any:
        """Bool `(rows, places)`, True under one of the masks."""
        masked = tf.zeros(tf.stack([draws.rows, tf.shape(places)[0]]), tf.bool)
        for _ in range(count):
            width, start = draws.uniform() * widest, draws.uniform()
            start = (start * (1 - width))[:, None]
            masked |= (places[None] >= start) & (places[None] < start + width[:, None])
        return masked

    def _filter(self, x: Any, draws: Draws) -> Any:
        """Waveforms without the masked frequencies."""
        if not self.frequency_masks or not self.frequency:
            return x
        shape, wave = tf.shape(x), x if len(x.shape) == 2 else x[..., 0]
        spectrum = tf.signal.rfft(wave)
        nyquist = self.sample_rate / 2
        frequencies = tf.linspace(0.0, nyquist, tf.shape(spectrum)[1])
        mels = tf.math.log1p(frequencies / 700) / math.log1p(nyquist / 700)
        masked = self._masks(mels, self.frequency_masks, self.frequency, draws)
        spectrum = tf.where(masked, tf.zeros_like(spectrum), spectrum)
        return tf.reshape(tf.signal.irfft(spectrum, [tf.shape(wave)[1]]), shape)


def _places(count: Any) -> Any:
    """The middles of `count` equal parts of 0 to 1."""
    return (tf.range(tf.cast(count, tf.float32)) + 0.5) / tf.cast(count, tf.float32)
