"""Affine maps of pictures, label maps, points and boxes.

Places are parts of the picture, x to the right and y down, 0 to 1 from edge to edge: pixel `i` of
`n` covers `i / n` to `(i + 1) / n`. A matrix `(rows, 3, 3)` takes a place of the picture before to
one of the picture after.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = [
    "affine",
    "clip_boxes",
    "in_rectangle",
    "invert",
    "linear_in_pixels",
    "move_points",
    "size_of",
    "warp_map",
    "warp_pictures",
]


def affine(xx: Any, xy: Any, x0: Any, yx: Any, yy: Any, y0: Any) -> Any:
    """Matrices `(rows, 3, 3)` of `x' = xx x + xy y + x0`, `y' = yx x + yy y + y0`."""
    parts = [tf.convert_to_tensor(v, tf.float32) for v in (xx, xy, x0, yx, yy, y0)]
    rows = tf.shape(sum(parts[1:], parts[0]))
    parts = [tf.broadcast_to(v, rows) for v in parts]
    zero, one = tf.zeros(rows), tf.ones(rows)
    return tf.stack(
        [tf.stack(parts[:3], -1), tf.stack(parts[3:], -1), tf.stack([zero, zero, one], -1)], -2
    )


def invert(matrix: Any) -> Any:
    """The inverse maps. In closed form: exact for flips, where a solver would round."""
    a, b, c = (matrix[..., 0, i] for i in range(3))
    d, e, f = (matrix[..., 1, i] for i in range(3))
    det = a * e - b * d
    return affine(
        e / det, -b / det, (b * f - e * c) / det, -d / det, a / det, (d * c - a * f) / det
    )


def size_of(image: Any) -> tuple[Any, Any]:
    """Height and width of a batch of pictures or maps, as float tensors."""
    shape = tf.shape(image)
    return tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)


def linear_in_pixels(matrix: Any, height: Any, width: Any) -> Any:
    """The linear part `(rows, 2, 2)` of matrices, for places counted in pixels."""
    xx, xy = matrix[:, 0, 0], matrix[:, 0, 1] * width / height
    yx, yy = matrix[:, 1, 0] * height / width, matrix[:, 1, 1]
    return tf.stack([tf.stack([xx, xy], -1), tf.stack([yx, yy], -1)], -2)


def move_points(points: Any, matrix: Any) -> Any:
    """Places `(rows, ..., 2)` after the map of their row."""
    rank = len(points.shape)
    shape = [-1, *[1] * (rank - 2)]

    def part(i: int, j: int) -> Any:
        return tf.reshape(matrix[:, i, j], shape)

    x, y = points[..., 0], points[..., 1]
    return tf.stack([part(i, 0) * x + part(i, 1) * y + part(i, 2) for i in (0, 1)], axis=-1)


# ------------------------------------------------------------------ pictures and maps
def _sources(matrix: Any, height: Any, width: Any) -> tuple[Any, Any]:
    """Where every pixel's center comes from, `(rows, height, width)` each: x and y."""
    inverse = invert(matrix)
    x = ((tf.range(width) + 0.5) / width)[None, None, :]
    y = ((tf.range(height) + 0.5) / height)[None, :, None]

    def part(i: int, j: int) -> Any:
        return inverse[:, i, j][:, None, None]

    return (
        part(0, 0) * x + part(0, 1) * y + part(0, 2),
        part(1, 0) * x + part(1, 1) * y + part(1, 2),
    )


def _are_inside(x: Any, y: Any) -> Any:
    return (x >= 0) & (x < 1) & (y >= 0) & (y < 1)


def warp_pictures(images: Any, matrix: Any, fill: float) -> Any:
    """Pictures after the map of their row, bilinear; `fill` where a pixel's center comes from
    outside.

    Args:
        images: float tensor `(rows, height, width, channels)`.
        matrix: `(rows, 3, 3)`.
        fill: float.
    """
    height, width = size_of(images)
    inverse = invert(matrix)
    linear = linear_in_pixels(inverse, height, width)
    (xx, xy), (yx, yy) = ([linear[:, i, 0], linear[:, i, 1]] for i in (0, 1))
    # TensorFlow counts from pixel centers: half a pixel less on both sides.
    x0 = inverse[:, 0, 2] * width + 0.5 * (xx + xy) - 0.5
    y0 = inverse[:, 1, 2] * height + 0.5 * (yx + yy) - 0.5
    zero = tf.zeros_like(x0)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([xx, xy, x0, yx, yy, y0, zero, zero], -1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        # An edge pixel goes on to its own edge; what lies beyond is filled below.
        fill_mode="NEAREST",
    )
    inside = _are_inside(*_sources(matrix, height, width))
    warped = tf.where(inside[..., None], warped, tf.cast(fill, images.dtype))
    return tf.ensure_shape(warped, images.shape)


def warp_map(labels: Any, matrix: Any, fill: Any) -> Any:
    """Label maps `(rows, height, width, ...)` after the map of their row: the nearest pixel's
    label, `fill` where a pixel's center comes from outside."""
    height, width = size_of(labels)
    x, y = _sources(matrix, height, width)
    column = tf.cast(tf.clip_by_value(tf.floor(x * width), 0, width - 1), tf.int32)
    row = tf.cast(tf.clip_by_value(tf.floor(y * height), 0, height - 1), tf.int32)
    warped = tf.gather_nd(labels, tf.stack([row, column], -1), batch_dims=1)
    inside = _are_inside(x, y)
    for _ in range(len(labels.shape) - 3):
        inside = inside[..., None]
    return tf.ensure_shape(tf.where(inside, warped, tf.cast(fill, labels.dtype)), labels.shape)


def in_rectangle(labels: Any, rectangle: Any) -> Any:
    """Bool `(rows, height, width)`, True where a pixel's center lies in the row's rectangle
    `(rows, 4)`."""
    height, width = size_of(labels)
    x = ((tf.range(width) + 0.5) / width)[None, None, :]
    y = ((tf.range(height) + 0.5) / height)[None, :, None]
    left, top, right, bottom = (rectangle[:, i][:, None, None] for i in range(4))
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


# ------------------------------------------------------------------ boxes
def clip_boxes(boxes: Any, matrix: Any, frame: Any) -> tuple[Any, Any]:
    """The smallest boxes around what is left, inside a frame, of boxes that were moved.

    A box becomes a parallelogram; the frame cuts it to a polygon of at most eight corners. All
    places that can be such a corner are listed: corners of the parallelogram in the frame, corners
    of the frame in the parallelogram, and where their edges cross.

    Args:
        boxes: `(rows, objects, 4)`.
        matrix: `(rows, 3, 3)`.
        frame: `(rows, 4)`. Left, top, right, bottom of what can be seen.

    Returns:
        `(boxes, visible)`: boxes `(rows, objects, 4)`, and the share of each moved box's area that
        lies in the frame, `(rows, objects)`. Both are 0 where nothing is left.
    """
    points, valid = _polygon_corners(boxes, matrix, frame)
    is_left = tf.reduce_any(valid, axis=-1)
    low = tf.reduce_min(tf.where(valid[..., None], points, tf.float32.max), axis=-2)
    high = tf.reduce_max(tf.where(valid[..., None], points, tf.float32.min), axis=-2)
    clipped = tf.where(is_left[..., None], tf.concat([low, high], -1), 0.0)
    sides = boxes[..., 2:] - boxes[..., :2]
    det = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    full = tf.abs(det)[:, None] * sides[..., 0] * sides[..., 1]
    # A box without an area is seen where any of it is.
    share = tf.where(full > 0, tf.math.divide_no_nan(_polygon_area(points, valid), full), 1.0)
    return clipped, tf.where(is_left, tf.minimum(share, 1.0), 0.0)


def _polygon_corners(boxes: Any, matrix: Any, frame: Any) -> tuple[Any, Any]:
    """Candidates `(rows, objects, 24, 2)` for corners, and which of them are."""
    left, top, right, bottom = tf.unstack(boxes, axis=-1)
    corners = tf.stack(
        [tf.stack(p, -1) for p in ((left, top), (right, top), (right, bottom), (left, bottom))], -2
    )
    moved = move_points(corners, matrix)
    low, high = frame[:, None, None, :2], frame[:, None, None, 2:]
    points, valid = [moved], [tf.reduce_all((moved >= low) & (moved <= high), -1)]
    # Corners of the frame, seen from before the map.
    f_left, f_top, f_right, f_bottom = tf.unstack(frame, axis=-1)
    ends = tf.stack(
        [
            tf.stack(p, -1)
            for p in ((f_left, f_top), (f_right, f_top), (f_right, f_bottom), (f_left, f_bottom))
        ],
        -2,
    )
    before = move_points(ends, invert(matrix))[:, None]
    within = (before >= boxes[..., None, :2]) & (before <= boxes[..., None, 2:])
    points.append(tf.broadcast_to(ends[:, None], tf.shape(moved)))
    valid.append(tf.reduce_all(within, -1))
    # Where the four edges cross the four lines of the frame.
    step = tf.roll(moved, -1, axis=-2) - moved
    for axis in (0, 1):
        for line in (low[..., axis], high[..., axis]):
            part = tf.math.divide_no_nan(line - moved[..., axis], step[..., axis])
            across = moved[..., 1 - axis] + part * step[..., 1 - axis]
            along = tf.broadcast_to(line, tf.shape(across))
            points.append(tf.stack([along, across] if axis == 0 else [across, along], -1))
            meets = (step[..., axis] != 0) & (part >= 0) & (part <= 1)
            valid.append(meets & (across >= low[..., 1 - axis]) & (across <= high[..., 1 - axis]))
    return tf.concat(points, -2), tf.concat(valid, -1)


def _polygon_area(points: Any, valid: Any) -> Any:
    """Area of the convex polygons of the valid points, in any order, `(rows, objects)`."""
    first = tf.argmax(tf.cast(valid, tf.int32), axis=-1)[..., None]
    points = tf.where(valid[..., None], points, tf.gather(points, first, batch_dims=2))
    count = tf.reduce_sum(tf.cast(valid, tf.float32), -1)[..., None]
    total = tf.reduce_sum(tf.where(valid[..., None], points, 0.0), -2)
    points = points - tf.math.divide_no_nan(total, count)[..., None, :]
    order = tf.argsort(tf.atan2(points[..., 1], points[..., 0]), axis=-1)
    x, y = tf.unstack(tf.gather(points, order, batch_dims=2), axis=-1)
    after_x, after_y = tf.roll(x, -1, axis=-1), tf.roll(y, -1, axis=-1)
    return 0.5 * tf.abs(tf.reduce_sum(x * after_y - after_x * y, -1))
