"""Sound files to arrays of samples."""

from __future__ import annotations

import math
import os
import struct
from typing import Any

import numpy as np

__all__ = ["SOUND_SUFFIXES", "read_sound", "resample"]

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
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _read_wav(head + file.read(), path)
    return _read_with_soundfile(path)


def _read_wav(content: bytes, path: Any) -> tuple[np.ndarray, int]:
    """The samples of a RIFF file's first "data" chunk, as its "fmt " chunk describes them."""
    layout, position = None, 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        body = content[position + 8 : position + 8 + size]
        if name == b"fmt " and len(body) >= 16:
            layout = struct.unpack_from("<HHIIHH", body)
            if layout[0] == _EXTENSIBLE and len(body) >= 26:
                layout = (struct.unpack_from("<H", body, 24)[0], *layout[1:])
        elif name == b"data" and layout is not None:
            # Recorders that were cut off leave a size of 0 or of 2 ** 32 - 1 behind.
            is_open = size in (0, 0xFFFFFFFF)
            if len(body) < size and not is_open:
                raise ValueError(
                    f"{path} is damaged: it ends after {len(body)} of {size} bytes of sound."
                )
            body = content[position + 8 :] if is_open else body
            return _samples(body, layout, path), int(layout[2])
        # Chunks begin at even places.
        position += 8 + size + size % 2
    raise ValueError(f"{path} is damaged: a WAV file without sound.")


def _samples(body: bytes, layout: tuple[int, ...], path: Any) -> np.ndarray:
    code, channels, bits = layout[0], layout[1], layout[5]
    frame = channels * (bits // 8)
    if not frame:
        raise ValueError(f"{path} is damaged: {channels} channels of {bits} bits.")
    body = body[: len(body) // frame * frame]
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
    return samples.reshape(-1, channels)


def _read_with_soundfile(path: Any) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except ImportError:
        raise ImportError(
            f"{path} is no WAV file, and other sounds need the package soundfile: "
            f'pip install "mtl_keras[data]".'
        ) from None
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
