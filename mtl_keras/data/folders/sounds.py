"""Sound files: which can be read, how long they are, and their waveforms as the device sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data.folders.files import FileField, map_parallel
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.encoders import SoundEncoder
from mtl_keras.runtime.encoders.waveforms import resample, sound_length

__all__ = ["check_sounds", "choose_seconds", "find_lengths", "sound_field"]

_LONGEST = 5.0


def find_lengths(paths: Sequence[Path]) -> np.ndarray:
    """The length of each sound in seconds, 0 of files that can't be read."""

    def length_of(path: Path) -> float:
        try:
            samples, rate = sound_length(path)
        except (OSError, ValueError, ImportError):
            return 0.0
        return samples / rate

    return np.array(map_parallel(length_of, paths))


def choose_seconds(paths: Sequence[Path], lengths: np.ndarray, seconds: float | None) -> float:
    """The length of waveforms: the one that was asked for, or the longest sound's, at most 5 s.

    Raises:
        DataError: no sound that can be read, or that has a length.
    """
    if seconds is not None:
        return float(seconds)
    if not lengths.any():
        try:
            sound_length(paths[0])
        except (OSError, ValueError, ImportError) as error:
            raise DataError(str(error)) from None
        raise DataError(f"{paths[0]} and all other sounds are empty.")
    return min(float(lengths.max()), _LONGEST)


def check_sounds(
    paths: Sequence[Path], encoder: SoundEncoder, whole: bool = False
) -> list[str | None]:
    """What is wrong with each sound, or None.

    Args:
        paths: the files.
        encoder: what makes waveforms of them.
        whole: bool. Read all samples; else the files' heads.
    """

    def problem_of(path: Path) -> str | None:
        try:
            samples, rate = sound_length(path)
            if not samples:
                return "the sound is empty."
            # Whether the rate can be changed here.
            resample(np.zeros(16, "float32"), rate, encoder.sample_rate, path)
            if whole:
                encoder.encode([path])
        except (OSError, ValueError, ImportError) as error:
            return str(error)
        return None

    return map_parallel(problem_of, paths)


def sound_field(
    paths: Sequence[Path], encoder: SoundEncoder, row_names: Sequence[str], cache: Any = None
) -> FileField:
    """Waveforms as `encoder` makes them of files, number for number."""
    return FileField(
        paths,
        lambda path: encoder.encode([path])[0],
        (len(encoder),),
        "float32",
        row_names=row_names,
        cache=cache,
        key=f"sound {encoder.sample_rate} {encoder.seconds}",
    )
