"""Fashion scenes: one real photograph of an item of clothing somewhere on a canvas, among fragments
of others.

Scenes are composed in `tf.data`, many at a time. A scene depends on the seed and its number only:
not on the batch size, the threads, or earlier scenes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data import batches
from mtl_keras.data.sources import DataError, sha256

__all__ = ["CANVAS", "ITEMS", "fashion", "fashion_scenes"]

BUNDLED = Path(__file__).parent / "bundled" / "fashion_mnist_14k.npz"
SHA256 = "abf01d4f0f65ead25adbfe96979dc24de2131bbc53e0d0a043f9690a4f3f3af0"

CANVAS = 40
ITEMS = [
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]

_ITEM = 28  # pixels of an original image
_SMALLEST, _LARGEST = 20, 34  # side of an item's frame on the canvas
_FRAGMENTS = 4
_FRAGMENT_SMALLEST, _FRAGMENT_LARGEST = (
    5,
    10,
)  # side of a fragment, less than half of any item's frame


@functools.lru_cache(maxsize=1)
def fashion() -> dict[str, np.ndarray]:
    """The bundled subset: `train_images` (12000, 28, 28) uint8, `train_labels`, and 2,000 of
    `test_...`.

    Raises:
        DataError: the file is missing or damaged.
    """
    if not BUNDLED.is_file() or sha256(BUNDLED) != SHA256:
        raise DataError(
            f"The bundled images {BUNDLED.name} are missing or damaged. Install the package "
            f"again, or make the file with "
            "`python -m mtl_keras.data.make_fashion FOLDER`."
        )
    with np.load(BUNDLED) as file:
        return {name: file[name] for name in file.files}


def silhouettes(images: np.ndarray) -> np.ndarray:
    """Masks of the items, shape `(rows, 28, 28)`, bool: all pixels but the background that touches
    the border.

    Fashion-MNIST's background is 0; dark spots inside an item are 0 too and belong to it.
    """
    empty = images == 0
    outside = np.zeros_like(empty)
    outside[:, [0, -1], :] = empty[:, [0, -1], :]
    outside[:, :, [0, -1]] |= empty[:, :, [0, -1]]
    while True:
        grown = outside.copy()
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown[:, :, 1:] |= outside[:, :, :-1]
        grown[:, :, :-1] |= outside[:, :, 1:]
        grown &= empty
        if (grown == outside).all():
            return ~outside
        outside = grown


@functools.lru_cache(maxsize=2)
def _layers(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images beside their silhouettes, float32 from 0 to 1, in a frame of one empty pixel; and
    labels.

    Shape (rows, 30, 30, 2). The frame keeps an item's outermost pixels when the sampling grid meets
    them up to rounding.
    """
    data = fashion()
    images = data[f"{split}_images"]
    both = np.stack([images / 255.0, silhouettes(images)], -1).astype("float32")
    return np.pad(both, ((0, 0), (1, 1), (1, 1), (0, 0))), data[f"{split}_labels"].astype("int32")


def fashion_scenes(
    split: str,
    batch_size: int = 64,
    seed: int = 0,
    shuffle: bool | None = None,
    limit: int | None = None,
) -> Any:
    """Batches of scenes with three kinds of labels.

    Args:
        split: "train", "validation" (the last 1,000 of the bundled training items, which "train"
            leaves out) or "test".
        batch_size: int.
        seed: int. Another seed gives other scenes.
        shuffle: bool. True: an endless data set; each pass holds every item once, in new scenes.
            False: one pass in the items' order. Defaults to True for "train".
        limit: int or None. Number of items to use, from the first.

    Returns:
        `tf.data.Dataset` of
        `((rows, 40, 40, 1), {"item": (rows,), "box": (rows, 4), "mask": (rows, 40, 40, 1)})`:
        pixels from 0 to 1, class, `(left, top, right, bottom)` as parts of the canvas, silhouette
        of 0 and 1.
    """
    import tensorflow as tf

    parts = {
        "train": ("train", slice(0, -1000)),
        "validation": ("train", slice(-1000, None)),
        "test": ("test", slice(None)),
    }
    if split not in parts:
        raise ValueError(f"Split must be one of {sorted(parts)}, got {split!r}.")
    source, rows = parts[split]
    both, labels = _layers(source)
    both, labels = both[rows][:limit], labels[rows][:limit]
    shuffle = split == "train" if shuffle is None else shuffle
    count = len(both)

    with tf.device("CPU"):
        items, classes = tf.constant(both), tf.constant(labels)

    def one_pass(number: Any) -> Any:
        key = tf.stack([tf.cast(number, tf.int32), tf.constant(seed, tf.int32)])
        positions = tf.random.stateless_uniform((count, 3), key)
        clutter = tf.random.stateless_uniform((count, _FRAGMENTS, 7), key + 7919)
        order = tf.range(count)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, seed=key + 104729)
        return tf.data.Dataset.from_tensor_slices((order, positions, clutter))

    def compose(index: Any, position: Any, clutter: Any) -> tuple[Any, dict[str, Any]]:
        return _compose(tf, items, classes, index, position, clutter)

    return batches.passes(one_pass, compose, count, batch_size, endless=shuffle)


def _compose(tf: Any, items: Any, classes: Any, index: Any, position: Any, clutter: Any) -> Any:
    """Many scenes at once. `position` and `clutter` are numbers from 0 to 1 that set where
    everything stands."""
    rows = tf.shape(index)[0]
    # The item: a frame of 20 to 34 pixels anywhere inside the canvas, drawn by sampling the
    # photograph on the canvas's grid.
    side = _SMALLEST + tf.floor(position[:, 0] * (_LARGEST - _SMALLEST + 1))
    top = tf.floor(position[:, 1] * (CANVAS - side + 1))
    left = tf.floor(position[:, 2] * (CANVAS - side + 1))
    drawn = _draw(tf, tf.gather(items, index), tf.range(rows), top, left, side)
    item, mask = drawn[..., :1], tf.cast(drawn[..., 1:] >= 0.5, tf.float32)
    # Fragments: small windows of other items, drawn at the scale of a full frame, darker, behind
    # the item.
    flat = tf.reshape(clutter, (-1, 7))
    other = tf.cast(flat[:, 0] * tf.cast(tf.shape(items)[0], tf.float32), tf.int32)
    window = _FRAGMENT_SMALLEST + tf.floor(
        flat[:, 1:3] * (_FRAGMENT_LARGEST - _FRAGMENT_SMALLEST + 1)
    )
    at = tf.floor(flat[:, 3:5] * (CANVAS - window + 1))
    # The part of the other item that the window shows lies around its middle, where there is
    # something to see.
    shift = at + window / 2 - _ITEM / 2 + (flat[:, 5:7] - 0.5) * 12
    fragments = _draw(
        tf,
        tf.gather(items[..., :1], other),
        tf.range(rows * _FRAGMENTS),
        shift[:, 0],
        shift[:, 1],
        float(_ITEM),
    )
    grid = tf.range(CANVAS, dtype=tf.float32)
    inside_y = tf.logical_and(grid >= at[:, :1], grid < at[:, :1] + window[:, :1])
    inside_x = tf.logical_and(grid >= at[:, 1:], grid < at[:, 1:] + window[:, 1:])
    inside = tf.cast(inside_y[:, :, None] & inside_x[:, None, :], tf.float32)[..., None]
    fragments = tf.reshape(fragments * inside, (rows, _FRAGMENTS, CANVAS, CANVAS, 1))
    image = tf.where(mask > 0, item, 0.8 * tf.reduce_max(fragments, axis=1))
    image = tf.ensure_shape(image, (None, CANVAS, CANVAS, 1))
    labels = {
        "item": tf.gather(classes, index),
        "box": _box(tf, mask[..., 0]),
        "mask": tf.cast(mask, tf.int32),
    }
    return image, labels


def _draw(tf: Any, images: Any, which: Any, top: Any, left: Any, side: Any) -> Any:
    """Framed images scaled so that the image has `side` pixels, its corner at (top, left) of an
    empty canvas."""
    # `crop_and_resize` samples a box of the image on a grid; a canvas around the image is a box
    # that is larger than it.
    step = (_ITEM - 1) / (side - 1)  # pixels of the image for one of the canvas
    corners = [
        1 - top * step,
        1 - left * step,
        1 + (CANVAS - 1 - top) * step,
        1 + (CANVAS - 1 - left) * step,
    ]
    boxes = tf.stack(corners, -1) / (_ITEM + 1)
    return tf.image.crop_and_resize(images, boxes, which, (CANVAS, CANVAS), extrapolation_value=0.0)


def _box(tf: Any, mask: Any) -> Any:
    """The smallest box around each silhouette, as parts of the canvas."""
    grid = tf.range(CANVAS, dtype=tf.float32)

    def edges(there: Any) -> tuple[Any, Any]:
        first = tf.reduce_min(tf.where(there, grid, float(CANVAS)), axis=-1)
        last = tf.reduce_max(tf.where(there, grid + 1, 0.0), axis=-1)
        return first / CANVAS, last / CANVAS

    left, right = edges(tf.reduce_any(mask > 0, axis=1))
    top, bottom = edges(tf.reduce_any(mask > 0, axis=2))
    return tf.stack([left, top, right, bottom], -1)
