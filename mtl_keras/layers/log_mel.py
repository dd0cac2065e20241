"""Sound to pictures of sound, inside the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

__all__ = ["LogMel"]


@keras.saving.register_keras_serializable("mtl_keras")
class LogMel(layers.Layer):
    """The logarithm of a mel spectrogram, by matrix products only, so that it converts to any
    device.

    Windows (Hann, periodic) of the waveform are multiplied with cosines and sines, squared and
    added to a power spectrum, summed by triangles that are evenly spaced on the mel scale
    `2595 log10(1 + f / 700)` (O'Shaughnessy, "Speech Communication", 1987), and
    `log(max(power, floor))` is taken.

    Args:
        sample_rate: int, Hz. Defaults to 16000.
        hop: int, samples from one window to the next. Defaults to 160 (10 ms).
        window: int, samples; a multiple of `hop`. Defaults to 480 (30 ms).
        mels: int. Number of bands. Defaults to 40.
        low, high: float, Hz. Edges of the bands. Default to 60 and the Nyquist frequency.
        floor: float > 0. Defaults to 1e-6.

    Shapes:
        Waveform `(rows, samples)` to `(rows, frames, mels)`,
        `frames = samples // hop - window // hop + 1`.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        hop: int = 160,
        window: int = 480,
        mels: int = 40,
        low: float = 60.0,
        high: float | None = None,
        floor: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        high = sample_rate / 2 if high is None else float(high)
        if hop < 1 or window < hop or window % hop:
            raise ValueError(
                f"Layer '{self.name}': the window is a multiple of the hop, got {window} and {hop}."
            )
        if not 0 <= low < high <= sample_rate / 2 or mels < 1 or not floor > 0:
            raise ValueError(
                f"Layer '{self.name}' needs 0 <= low < high <= {sample_rate / 2:g} Hz, mels >= 1 "
                f"and floor > 0; got {low}, "
                f"{high}, {mels}, {floor}."
            )
        self.sample_rate, self.hop, self.window, self.mels = (
            int(sample_rate),
            int(hop),
            int(window),
            int(mels),
        )
        self.low, self.high, self.floor = float(low), high, float(floor)
        time = np.arange(self.window)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / self.window)
        angle = 2 * np.pi * np.outer(time, np.arange(self.window // 2 + 1)) / self.window
        self._cos = (hann[:, None] * np.cos(angle)).astype("float32")
        self._sin = (hann[:, None] * np.sin(angle)).astype("float32")
        self._bands = self._triangles().astype("float32")

    def _triangles(self) -> np.ndarray:
        def to_mel(f: Any) -> Any:
            return 2595 * np.log10(1 + f / 700)

        edges = 700 * (
            10 ** (np.linspace(to_mel(self.low), to_mel(self.high), self.mels + 2) / 2595) - 1
        )
        bins = np.arange(self.window // 2 + 1) * self.sample_rate / self.window
        left, center, right = edges[:-2], edges[1:-1], edges[2:]
        up = (bins[:, None] - left) / (center - left)
        down = (right - bins[:, None]) / (right - center)
        return np.maximum(0.0, np.minimum(up, down))

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 2 or input_shape[1] is None or input_shape[1] < self.window:
            raise ValueError(
                f"Layer '{self.name}' takes waveforms (rows, samples) of fixed length, at least "
                f"{self.window} samples; got "
                f"{tuple(input_shape)}."
            )

    def call(self, inputs: Any) -> Any:
        pieces, parts = inputs.shape[1] // self.hop, self.window // self.hop
        frames = pieces - parts + 1
        cut = ops.reshape(inputs[:, : pieces * self.hop], (-1, pieces, self.hop))
        # Each window is several hops, side by side.
        windows = ops.concatenate([cut[:, i : i + frames] for i in range(parts)], axis=-1)
        power = ops.square(ops.matmul(windows, self._cos)) + ops.square(
            ops.matmul(windows, self._sin)
        )
        return ops.log(ops.maximum(ops.matmul(power, self._bands), self.floor))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[1] // self.hop - self.window // self.hop + 1, self.mels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "hop": self.hop,
            "window": self.window,
            "mels": self.mels,
            "low": self.low,
            "high": self.high,
            "floor": self.floor,
        }
