"""From a Keras model to the bytes of a `.tflite` file, in every precision."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from mtl_keras.export.compression.training_aware import own_layers
from mtl_keras.export.converter import archive, int4, quantization, refusals
from mtl_keras.export.converter.exact import exact_operators, restore_float_weights
from mtl_keras.export.converter.half import float16_weights
from mtl_keras.export.converter.portable import without_integer_select
from mtl_keras.export.converter.weights import int8_weights
from mtl_keras.export.options import CALIBRATED
from mtl_keras.graph import sublayers
from mtl_keras.quiet import quiet
from mtl_keras.runtime import flatbuffer
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.tflite_model import padded

if TYPE_CHECKING:
    from mtl_keras.export.artifact import TFLiteArtifact

__all__ = ["Converter", "convert"]


def convert(artifact: TFLiteArtifact) -> None:
    """The first stage: the artifact's `content`, with the converter's own names, and `in_float32`.

    Raises:
        ExportError: a layer that can't be converted, or has no form in this precision.
    """
    request, options = artifact.request, artifact.request.options
    converter = Converter(
        request.network, request.endpoints, request.rows.calibration, request.converted
    )
    artifact.content, artifact.in_float32 = converter.make(
        artifact.quantization, options.io, artifact.keep_float, options.percentile
    )


class Converter:
    """Makes files of several kinds of one network.

    Args:
        network: in float32.
        endpoints: signatures of the file.
        calibration: rows by input name, for kinds whose ranges are measured.
        converted: what TensorFlow's converter gave, by kind; it is added to.
    """

    def __init__(
        self,
        network: keras.Model,
        endpoints: Sequence[archive.Endpoint],
        calibration: Mapping[str, np.ndarray] | None = None,
        converted: dict[str | None, bytes] | None = None,
    ) -> None:
        self.network = network
        self.endpoints = endpoints
        self.calibration = calibration
        self.converted = {} if converted is None else converted

    def make(
        self,
        kind: str | None,
        io: str = "float32",
        keep_float: Sequence[str] = (),
        percentile: float | None = None,
    ) -> tuple[bytes, list[str]]:
        """A file's content, and what of a float16 file stays in float32."""
        in_float32: list[str] = []
        if kind == "int8":
            content = self._int8(io, keep_float, percentile)
        elif kind in ("weights", "dynamic"):
            content = self._int8_weights(computes=kind == "dynamic")
        elif kind in int4.BLOCKS:
            content = int4.int4_weights(self._converted(None), int4.BLOCKS[kind])
        elif kind == "float16":
            content, in_float32 = float16_weights(self._converted(None))
        else:
            content = self._converted(kind)
        return flatbuffer.share_buffers(without_integer_select(content)), in_float32

    def _int8(self, io: str, keep_float: Sequence[str], percentile: float | None) -> bytes:
        batches = (
            batch if len(self.endpoints) > 1 else (self.endpoints[0].name, batch)
            for batch in self._batches()
        )
        content = quantization.measure_ranges(self._converted("int8"), batches, percentile)
        layers = [layer.name for layer in sublayers(self.network, include_self=False)]
        floats: set[str] = set()
        if keep_float:
            heads = list(self.network.output)
            head_layers = own_layers(
                self.network, [n for n in keep_float if n in heads], "keep_float"
            )
            floats = quantization.float_nodes(
                content, keep_float, heads, layers, head_layers, self.network.name
            )
        return quantization.quantize(content, io, floats, self._answers(), layers)

    def _int8_weights(self, computes: bool) -> bytes:
        content = self._converted("dynamic" if computes else None)
        exact = exact_operators(content)
        if exact and computes:
            # TensorFlow has rounded these already.
            content = restore_float_weights(content, self._converted(None), exact)
        return int8_weights(content, compute=computes, exact=exact)

    def _converted(self, kind: str | None) -> bytes:
        if kind not in self.converted:
            self.converted[kind] = self._run_tensorflow(kind)
        return self.converted[kind]

    def _run_tensorflow(self, kind: str | None) -> bytes:
        """TensorFlow's part. For "int8", the float file with measured ranges: they are used in
        `quantization`, which sets right what the converter alone gets wrong."""
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            archive.write_archive(self.network, Path(folder), made=self.endpoints)
            with quiet():
                converter = tf.lite.TFLiteConverter.from_saved_model(
                    folder, signature_keys=[endpoint.name for endpoint in self.endpoints]
                )
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                if kind is not None:
                    converter.optimizations = [tf.lite.Optimize.DEFAULT]
                if kind == "dynamic":
                    # With a scale per channel, older runtimes (2.14, say) refuse the file.
                    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
                if kind == "int16x8":
                    fine = (
                        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                    )
                    converter.target_spec.supported_ops = [fine, tf.lite.OpsSet.TFLITE_BUILTINS]
                if kind in CALIBRATED:
                    converter.representative_dataset = functools.partial(self._batches)
                converter._experimental_calibrate_only = kind == "int8"
                try:
                    return bytes(converter.convert())
                except Exception as error:
                    reason = refusals.explain_conversion_error(error, self.network)
                    raise ExportError(reason) from error

    def _batches(self) -> Iterator[Any]:
        """Calibration data for every signature, a batch at a time; heads from features see the
        features of these rows."""
        assert self.calibration is not None
        batch = next(iter(self.endpoints[0].specs.values())).shape[0]
        features = next((e for e in self.endpoints if e.name == "features"), None)
        for start in range(0, len(next(iter(self.calibration.values()))), batch):
            rows = {
                name: padded(value[start : start + batch], batch)
                for name, value in self.calibration.items()
            }
            if features is not None:
                rows |= features.run(rows)
            for endpoint in self.endpoints:
                x = {name: rows[name] for name in endpoint.specs}
                yield x if len(self.endpoints) == 1 else (endpoint.name, x)

    def _answers(self) -> dict[str, np.ndarray]:
        """What the first endpoint answers to the calibration rows, by name."""
        assert self.calibration is not None
        first = self.endpoints[0]
        batch = next(iter(first.specs.values())).shape[0]
        rows = len(next(iter(self.calibration.values())))
        size = batch * max(1, 32 // batch)
        parts = [
            first.run(
                {
                    name: padded(value[start : start + size], size)
                    for name, value in self.calibration.items()
                }
            )
            for start in range(0, rows, size)
        ]
        return {
            name: np.concatenate([part[name] for part in parts])[:rows] for name in first.outputs
        }
