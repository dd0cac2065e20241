"""Sounds to waveforms of one rate and one length."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder
from mtl_keras.runtime.encoders.waveforms import read_sound, resample

__all__ = ["SoundEncoder"]


@register_encoder
class SoundEncoder:
    """Sound files or arrays to waveforms of one rate and one length, one channel.

    Channels are averaged. Another rate is brought to `sample_rate` (needs SciPy). A longer sound is
    cut at its end, a shorter one filled up with silence.

    Args:
        sample_rate: int, Hz. Defaults to 16000.
        seconds: float > 0. Length of a waveform. Defaults to 1.
        name: str. Name of the network's input.

    Raises:
        ValueError: a rate or a length that is not above 0.

    Examples:
        >>> encoder = mtl.data.SoundEncoder(sample_rate=8000, seconds=0.5)
        >>> encoder.encode([np.zeros(3000, "float32")]).shape
        (1, 4000)
    """

    kind = "sound"

    def __init__(
        self, sample_rate: int = 16000, seconds: float = 1.0, name: str = "waveform"
    ) -> None:
        if not int(sample_rate) > 0 or not round(float(seconds) * int(sample_rate)) > 0:
            raise ValueError(
                f"`sample_rate` and `seconds` should be above 0. Received: {sample_rate} and "
                f"{seconds}."
            )
        self.sample_rate, self.seconds, self.name = int(sample_rate), float(seconds), name

    def __len__(self) -> int:
        """Samples per waveform."""
        return round(self.seconds * self.sample_rate)

    def encode(self, sounds: Iterable[Any]) -> np.ndarray:
        """Sounds to `(rows, samples)`, float32, -1 to 1.

        Args:
            sounds: paths of sound files; or arrays `(samples,)` or `(samples, channels)` at
                `sample_rate`, real numbers from -1 to 1 or integers of 16 or 32 bits.

        Raises:
            ValueError: a file that is no sound or is damaged; an array of another shape or range.
            TypeError: one path in place of a list.
            ImportError: a file or a rate that needs a package which is not installed.
        """
        if isinstance(sounds, (str, bytes)):
            raise TypeError(f"`sounds` should be a list of sounds. Received: {sounds!r}.")
        sounds = list(sounds)
        rows = np.zeros((len(sounds), len(self)), "float32")
        for row, sound in zip(rows, sounds, strict=True):
            samples = self._read(sound)[: len(self)]
            row[: len(samples)] = samples
        return rows

    def _read(self, sound: Any) -> np.ndarray:
        """A sound's samples in one channel, at the encoder's rate."""
        if not isinstance(sound, (str, os.PathLike)):
            return samples_from_array(np.asarray(sound)).mean(axis=1)
        samples, rate = read_sound(sound)
        # Averaged first: one channel is filtered, not all.
        mono = samples.mean(axis=1, dtype="float32")
        if rate != self.sample_rate:
            # What lies behind the end is not filtered. One second covers the filter's length.
            mono = mono[: round((self.seconds + 1) * rate)]
        return resample(mono, rate, self.sample_rate, sound)

    def __str__(self) -> str:
        return (
            f"SoundEncoder(name='{self.name}'): one channel of {self.sample_rate} Hz, cut or "
            f"filled up to {self.seconds:g} s ({len(self)} samples)"
        )

    def get_config(self) -> dict[str, Any]:
        return {"sample_rate": self.sample_rate, "seconds": self.seconds, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SoundEncoder:
        return cls(**config)


def samples_from_array(array: np.ndarray) -> np.ndarray:
    """Samples `(samples, channels)` from -1 to 1, from an array of real numbers or of integers."""
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] > array.shape[0] > 0):
        raise ValueError(
            f"A sound's array should have the shape (samples,) or (samples, channels). Received: "
            f"{array.shape}."
        )
    if array.dtype in (np.int16, np.int32):
        array = array.astype("float32") / -float(np.iinfo(array.dtype).min)
    # Resampled and compressed sounds overshoot a little.
    if array.dtype.kind != "f" or (array.size and not np.abs(array).max() <= 2):
        ends = f"{array.min()} to {array.max()}" if array.size else "none"
        raise ValueError(
            f"A sound's array should hold real numbers from -1 to 1, or integers of 16 or 32 bits. "
            f"Received: values from {ends}, dtype {array.dtype}."
        )
    return array.astype("float32").reshape(len(array), -1)
