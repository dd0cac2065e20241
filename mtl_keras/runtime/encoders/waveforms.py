"""Sound files to arrays of samples."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

__all__ = ["SOUND_SUFFIXES", "read_sound", "resample", "sound_length"]

#: Endings of files that `read_sound` reads. All but the first need the package soundfile.
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au")

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def read_sound(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """A sound file's samples and its rate.

    WAV files are read with NumPy alone: integers of 8, 16, 24 and 32 bits and floats of 32 and 64
    bits, any number of channels. Other files (FLAC, OGG, MP3, ...) need the package soundfile.

    Args:
        path: the file.

    Returns:
        `(samples, rate)`: float32 `(samples, channels)`, -1 to 1, and the rate in Hz.

    Raises:
        ValueError: a file that is no sound or is damaged.
        ImportError: a file that needs soundfile, where that is not installed.
    """
    with open(path, "rb") as file:
        layout = _wav_layout(file, path)
        if layout is not None:
            file.seek(layout.start)
            return _samples(file.read(layout.size), layout, path), layout.rate
    return _read_with_soundfile(path)


def sound_length(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A sound file's samples per channel and its rate in Hz, from the head of the file.

    Raises:
        ValueError, ImportError: as `read_sound`.
    """
    with open(path, "rb") as file:
        layout = _wav_layout(file, path)
    if layout is not None:
        return layout.size // layout.frame, layout.rate
    soundfile = _import_soundfile(path)
    try:
        info = soundfile.info(os.fspath(path))
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} is not a sound that can be read: {error}") from None
    return int(info.frames), int(info.samplerate)


@dataclass(frozen=True)
class _WavLayout:
    """Where the samples of a WAV file stand, and how they are written."""

    code: int
    channels: int
    rate: int
    bits: int
    start: int
    size: int

    @property
    def frame(self) -> int:
        """Bytes of one sample in all channels."""
        return self.channels * (self.bits // 8)


def _wav_layout(file: BinaryIO, path: Any) -> _WavLayout | None:
    """What the "fmt " chunk says of the first "data" chunk; None of a file that is no WAV file."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    end = os.fstat(file.fileno()).st_size
    form: tuple[int, ...] | None = None
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"fmt ":
            body = file.read(min(size, 40))
            if len(body) < 16:
                break
            form = struct.unpack_from("<HHIIHH", body)
            if form[0] == _EXTENSIBLE and len(body) >= 26:
                form = (struct.unpack_from("<H", body, 24)[0], *form[1:])
        elif name == b"data" and form is not None:
            # Recorders that were cut off leave a size of 0 or of 2 ** 32 - 1 behind.
            if size in (0, 0xFFFFFFFF):
                size = end - start
            if start + size > end:
                raise ValueError(
                    f"{path} is damaged: it ends after {end - start} of {size} bytes of sound."
                )
            layout = _WavLayout(form[0], form[1], form[2], form[5], start, size)
            if not layout.frame or not layout.rate:
                raise ValueError(
                    f"{path} is damaged: {form[1]} channels of {form[5]} bits, {form[2]} Hz."
                )
            return layout
        # Chunks begin at even places.
        file.seek(start + size + size % 2)
    raise ValueError(f"{path} is damaged: a WAV file without sound.")


def _samples(body: bytes, layout: _WavLayout, path: Any) -> np.ndarray:
    code, bits = layout.code, layout.bits
    body = body[: len(body) // layout.frame * layout.frame]
    if code == _FLOAT and bits in (32, 64):
        samples = np.frombuffer(body, f"<f{bits // 8}").astype("float32")
    elif code == _PCM and bits == 8:
        samples = (np.frombuffer(body, "u1").astype("float32") - 128) / 128
    elif code == _PCM and bits == 24:
        # A zero byte below makes 32 bits of 24.
        wide = np.zeros((len(body) // 3, 4), "u1")
        wide[:, 1:] = np.frombuffer(body, "u1").reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype("float32") / 2**31
    elif code == _PCM and bits in (16, 32):
        samples = np.frombuffer(body, f"<i{bits // 8}").astype("float32") / 2 ** (bits - 1)
    else:
        raise ValueError(
            f"{path} is a WAV file of format {code} with {bits} bits. Integers of 8, 16, 24 or 32 "
            f"bits and floats of 32 or 64 bits are read: convert the file."
        )
    return samples.reshape(-1, layout.channels)


def _import_soundfile(path: Any) -> Any:
    try:
        import soundfile
    except ImportError:
        raise ImportError(
            f"{path} is no WAV file, and other sounds need the package soundfile: "
            f'pip install "mtl_keras[data]".'
        ) from None
    return soundfile


def _read_with_soundfile(path: Any) -> tuple[np.ndarray, int]:
    soundfile = _import_soundfile(path)
    try:
        samples, rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} is not a sound that can be read: {error}") from None
    return samples, int(rate)


def resample(samples: np.ndarray, rate: int, new_rate: int, name: Any = "A sound") -> np.ndarray:
    """Samples at another rate: a polyphase filter (`scipy.signal.resample_poly`).

    Args:
        samples: `(samples, ...)`.
        rate, new_rate: int, Hz.
        name: what the samples are, for the message.

    Raises:
        ImportError: the rates differ, and SciPy is not installed.
    """
    if rate == new_rate:
        return samples
    try:
        from scipy.signal import resample_poly
    except ImportError:
        raise ImportError(
            f"{name} has {rate} Hz, and {new_rate} Hz are expected. Changing the rate needs the "
            f'package scipy: pip install "mtl_keras[data]". Or convert the files.'
        ) from None
    divisor = math.gcd(rate, new_rate)
    return resample_poly(samples, new_rate // divisor, rate // divisor, axis=0).astype("float32")
