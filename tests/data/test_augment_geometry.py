"""Labels under moving pictures, held to dense masks that NumPy and SciPy warp by themselves."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import large_but
from scipy import ndimage

import mtl_keras as mtl
from mtl_keras.data import augment
from mtl_keras.data.augment.moving import Moving
from mtl_keras.data.augment.step import Draws

T = mtl.tasks
ROWS, HEIGHT, WIDTH = 8, 60, 80
FINE = 5  # masks have this many pixels for one of the picture


class Fixed(Moving):
    """Moves by matrices that the test knows."""

    name = "fixed"

    def __init__(self, matrices):
        super().__init__()
        self.matrices = matrices

    def matrix(self, height, width, draws):
        return tf.constant(self.matrices, tf.float32)


def in_pixels(linear, height=HEIGHT, width=WIDTH):
    """The normalized 3 x 3 matrix of a linear map of pixels about the picture's center."""
    to_pixels = np.diag([width, height, 1.0])
    to_pixels[:2, 2] = -width / 2, -height / 2
    map_ = np.eye(3)
    map_[:2, :2] = linear
    return np.linalg.inv(to_pixels) @ map_ @ to_pixels


def some_matrices(seed=0):
    """General affine maps: turned, zoomed, sheared, mirrored, shifted."""
    rng = np.random.default_rng(seed)
    result = []
    for i in range(ROWS):
        matrix = in_pixels(np.eye(2) + rng.normal(0, 0.25, (2, 2)))
        matrix[:2, 2] += rng.uniform(-0.2, 0.2, 2)
        result.append(
            matrix @ np.diag([-1, 1, 1]) + [[0, 0, 1], [0, 0, 0], [0, 0, 0]] * (i % 2)
            if i % 2
            else matrix
        )
    return np.array(result)


def matrices_of(step, seed=3):
    key = tf.constant([seed, 1], tf.int64)
    return step.chosen_matrix(float(HEIGHT), float(WIDTH), Draws(key, ROWS)).numpy()


MOVES = {
    "affine": some_matrices,
    "flip": lambda: matrices_of(augment.Flip(0.7, vertical=True)),
    "crop": lambda: matrices_of(augment.Crop((0.3, 0.9), (0.5, 2.0))),
    "rotate": lambda: matrices_of(augment.Rotate(60)),
    "scale": lambda: matrices_of(augment.Scale((0.5, 2.0))),
}


@pytest.fixture(params=large_but(("affine",), MOVES))
def matrices(request):
    return MOVES[request.param]()


def sources(matrix, height, width):
    """Where each pixel's center comes from, in parts of the picture, and whether that is inside."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    places = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), np.stack([x, y, np.ones_like(x)]))
    return places[0], places[1], ((places[:2] > 0) & (places[:2] < 1)).all(0)


def warp(plane, matrix, order, fill=0.0):
    """SciPy's warp of one plane."""
    height, width = plane.shape
    x, y, inside = sources(matrix, height, width)
    coordinates = np.stack([y * height - 0.5, x * width - 0.5])
    values = ndimage.map_coordinates(plane, coordinates, order=order, mode="nearest")
    return np.where(inside, values, fill)


def run(matrices, tasks, y, x=None, **options):
    x = np.zeros((ROWS, HEIGHT, WIDTH, 1), "float32") if x is None else x
    new_x, new_y = augment.Augmenter([Fixed(matrices)], tasks, **options)(x, y)
    return new_x.numpy(), {name: label.numpy() for name, label in new_y.items()}


def draw_box(box):
    """A dense mask of a box."""
    height, width = HEIGHT * FINE, WIDTH * FINE
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.outer((y > box[1]) & (y < box[3]), (x > box[0]) & (x < box[2])).astype("float32")


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return np.array(
        [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
    )


def some_boxes(count, seed=1):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.8, (ROWS, count, 2))
    return np.concatenate([low, low + (1 - low) * rng.uniform(0.2, 1, low.shape)], -1)


def test_pictures_are_those_of_another_implementation(matrices):
    x = np.random.default_rng(0).random((ROWS, HEIGHT, WIDTH, 2)).astype("float32")
    task = T.Binary("any")
    warped, _ = run(matrices, [task], {"any": np.zeros(ROWS)}, x, value_range=(0, 1))
    for i in range(ROWS):
        for channel in range(2):
            expected = warp(x[i, ..., channel].astype(float), matrices[i], order=1)
            off = np.abs(warped[i, ..., channel] - expected)
            # A center on the very edge may round to either side.
            assert np.quantile(off, 0.998) < 2e-3


def test_boxes_are_those_of_warped_masks(matrices):
    boxes = some_boxes(3)
    labels = np.concatenate([boxes, np.tile([0.0, 1.0, 2.0], (ROWS, 1))[..., None]], -1)
    tasks = [T.Detection("objects", 3), T.BoundingBox("first")]
    y = {"objects": labels.astype("float32"), "first": boxes[:, 0].astype("float32")}
    _, y = run(matrices, tasks, y)
    compared = 0
    for i in range(ROWS):
        for j in range(3):
            mask = draw_box(boxes[i, j])
            warped = warp(mask, matrices[i], order=0)
            visible = warped.mean() / (mask.mean() * abs(np.linalg.det(matrices[i])))
            label = y["objects"][i, j]
            if abs(visible - 0.25) < 0.02:
                continue
            if visible < 0.25:
                np.testing.assert_array_equal(label, [0, 0, 0, 0, -1])
                assert j or np.isnan(y["first"][i]).all()
                continue
            compared += 1
            assert label[4] == j
            # Two pixels of the fine mask: the corners of turned boxes are thin.
            np.testing.assert_allclose(label[:4], box_of(warped), atol=2.5 / (HEIGHT * FINE))
            if j == 0:
                np.testing.assert_allclose(y["first"][i], label[:4], atol=1e-6)
    assert compared >= 10


def test_points_are_those_of_warped_discs(matrices):
    points = np.random.default_rng(2).uniform(0.05, 0.95, (ROWS, 4, 2))
    task = T.Keypoints("points", 4, swaps=[(0, 1)])
    _, y = run(matrices, [task], {"points": points.astype("float32")})
    rows, columns = np.mgrid[: HEIGHT * FINE, : WIDTH * FINE] + 0.5
    compared = 0
    for i in range(ROWS):
        is_mirrored = np.linalg.det(matrices[i]) < 0
        for j in range(4):
            source = [1, 0, 2, 3][j] if is_mirrored else j
            x, y_ = points[i, source] * [WIDTH * FINE, HEIGHT * FINE]
            disc = ((columns - x) ** 2 + (rows - y_) ** 2 < 9**2).astype("float32")
            warped = warp(disc, matrices[i], order=0)
            label = y["points"][i, j]
            edge = np.concatenate([warped[[0, -1]].ravel(), warped[:, [0, -1]].ravel()])
            if edge.any():
                continue  # A disc that is cut has its center elsewhere.
            if not warped.any():
                assert np.isnan(label).all()
                continue
            compared += 1
            center = ndimage.center_of_mass(warped)
            expected = (center[1] + 0.5) / warped.shape[1], (center[0] + 0.5) / warped.shape[0]
            np.testing.assert_allclose(label, expected, atol=1.0 / (HEIGHT * FINE))
    assert compared >= 10


def test_label_maps_take_the_nearest_pixel_and_miss_what_is_outside(matrices):
    rng = np.random.default_rng(4)
    maps = rng.integers(0, 4, (ROWS, HEIGHT, WIDTH)).astype("uint8")
    tasks = [T.Segmentation("parts", 4), T.Segmentation("soft", 3), T.Segmentation("mask")]
    soft = rng.dirichlet([1, 1, 1], (ROWS, HEIGHT, WIDTH)).astype("float32")
    y = {"parts": maps, "soft": soft, "mask": (maps > 1)[..., None]}
    _, y = run(matrices, tasks, y)
    for i in range(ROWS):
        expected = warp(maps[i].astype(int), matrices[i], order=0, fill=-1)
        # Centers between two pixels may round to either.
        assert np.mean(y["parts"][i] == expected) > 0.97
        assert np.mean(y["mask"][i, ..., 0] == np.where(expected < 0, -1, expected > 1)) > 0.97
        plane = warp(soft[i, ..., 1].astype(float), matrices[i], order=0, fill=-1)
        assert np.mean(np.abs(y["soft"][i, ..., 1] - plane) < 1e-6) > 0.97


def test_a_map_of_another_size_than_the_picture_moves_alike():
    coarse = np.zeros((ROWS, HEIGHT // 4, WIDTH // 4), "int32")
    coarse[:, 3:9, 4:12] = 1
    matrices = np.tile(np.diag([-1.0, 1, 1]) + [[0, 0, 1], [0, 0, 0], [0, 0, 0]], (ROWS, 1, 1))
    _, y = run(matrices, [T.Segmentation("mask")], {"mask": coarse})
    np.testing.assert_array_equal(y["mask"], coarse[:, :, ::-1])


# ------------------------------------------------------------------ depth and normals
FOCAL = 70.0


def rays():
    """Directions through all pixels of a pinhole camera, y down, z ahead."""
    y, x = np.meshgrid(
        np.arange(HEIGHT) + 0.5 - HEIGHT / 2, np.arange(WIDTH) + 0.5 - WIDTH / 2, indexing="ij"
    )
    return np.stack([x / FOCAL, y / FOCAL, np.ones_like(x)], -1)


def rotation(degrees):
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


LINEAR = [
    np.eye(2),
    np.diag([-1.0, 1]),
    np.diag([1.0, -1]),
    rotation(30),
    rotation(-75) @ np.diag([-1, 1]),
    1.5 * np.eye(2),
    1.3 * rotation(50),
    np.diag([1.6, 1.2]) @ rotation(20),
]


def planes():
    """Depth and normals of one plane per row, and the maps that move their pictures."""
    rng = np.random.default_rng(5)
    normals = np.concatenate([rng.uniform(-0.4, 0.4, (ROWS, 2)), -np.ones((ROWS, 1))], -1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depth = -2.0 / (rays()[None] @ normals[:, None, :, None])[..., 0]
    maps = np.broadcast_to(normals[:, None, None], (ROWS, HEIGHT, WIDTH, 3))
    return normals, depth[..., None].astype("float32"), maps.astype("float32")


def test_the_depth_of_a_plane_is_still_that_of_a_plane_and_its_normals_are_those_of_its_points():
    _, depth, normals = planes()
    tasks = [T.Depth("depth"), T.Normals("normals")]
    matrices = np.array([in_pixels(linear) for linear in LINEAR])
    _, y = run(matrices, tasks, {"depth": depth, "normals": normals})
    for i in range(ROWS):
        z = y["depth"][i, ..., 0]
        known = np.isfinite(z)
        assert known.mean() > 0.4
        np.testing.assert_array_equal(known, np.isfinite(y["normals"][i]).all(-1))
        points = rays()[known] * z[known][:, None]
        # The plane through the points: where they vary least.
        center = points.mean(0)
        normal = np.linalg.svd(points - center, full_matrices=False)[2][2]
        normal *= -np.sign(normal[2])
        # Nearest pixels: half a pixel of the plane's slope.
        assert np.abs((points - center) @ normal).max() < 0.03
        label = y["normals"][i][known]
        np.testing.assert_allclose(np.linalg.norm(label, axis=-1), 1, atol=1e-5)
        assert np.degrees(np.arccos(np.clip(label @ normal, -1, 1))).max() < 1.0


def test_a_zoom_brings_things_nearer_or_changes_the_lens():
    normal, depth, maps = planes()
    tasks = [T.Depth("depth"), T.Normals("normals")]
    y = {"depth": depth, "normals": maps}
    matrices = np.tile(in_pixels(2.0 * rotation(90)), (ROWS, 1, 1))
    _, near = run(matrices, tasks, y)
    _, lens = run(matrices, tasks, y, fixed_camera=False)
    np.testing.assert_allclose(near["depth"] * 2, lens["depth"], rtol=1e-5)
    turned = np.stack([-normal[:, 1], normal[:, 0], normal[:, 2]], -1)
    np.testing.assert_allclose(lens["normals"][:, 30, 40], turned, atol=1e-5)
    flat = turned * [0.5, 0.5, 1]
    flat /= np.linalg.norm(flat, axis=-1, keepdims=True)
    np.testing.assert_allclose(near["normals"][:, 30, 40], flat, atol=1e-5)


@pytest.mark.parametrize("linear", LINEAR[1:5], ids=["mirror", "upside down", "turn", "both"])
def test_a_change_of_lens_turns_and_mirrors_normals_and_nothing_else(linear):
    normal, _, maps = planes()
    # Zoomed, too, which changes no direction.
    matrices = np.tile(in_pixels(linear @ np.diag([1.4, 1.4])), (ROWS, 1, 1))
    _, y = run(matrices, [T.Normals("normals")], {"normals": maps}, fixed_camera=False)
    expected = np.concatenate([normal[:, :2] @ linear.T, normal[:, 2:]], -1)
    np.testing.assert_allclose(y["normals"][:, 30, 40], expected, atol=1e-5)


def sphere(center):
    """Normals of a unit sphere seen by the camera; NaN beside it."""
    direction = rays() / np.linalg.norm(rays(), axis=-1, keepdims=True)
    along = direction @ center
    root = along**2 - center @ center + 1
    with np.errstate(invalid="ignore"):
        hit = direction * (along - np.sqrt(root))[..., None]
    return (hit - center).astype("float32")


@pytest.mark.parametrize("linear", LINEAR[1:5], ids=["mirror", "upside down", "turn", "both"])
@pytest.mark.parametrize("y_axis", large_but(("up",), ["down", "up"]))
def test_a_spheres_normals_are_those_of_the_sphere_where_it_went(linear, y_axis):
    center = np.array([0.3, -0.2, 4.0])
    moved = np.append(linear @ center[:2], center[2])
    signs = np.array([1, -1 if y_axis == "up" else 1, 1])
    y = {"normals": np.tile(sphere(center) * signs, (ROWS, 1, 1, 1))}
    task = T.Normals("normals", y_axis=y_axis)
    _, y = run(np.tile(in_pixels(linear), (ROWS, 1, 1)), [task], y)
    label, expected = y["normals"][0], sphere(moved) * signs
    both = np.isfinite(label).all(-1) & np.isfinite(expected).all(-1)
    assert both.sum() > 0.9 * np.isfinite(expected).all(-1).sum()
    angle = np.degrees(np.arccos(np.clip((label * expected).sum(-1)[both], -1, 1)))
    # Half a pixel of a sphere that is 35 pixels wide; its rim is steep.
    assert np.median(angle) < 3 and np.quantile(angle, 0.9) < 9


# ------------------------------------------------------------------ the steps' own matrices
def test_matrices_of_steps_are_what_their_names_say():
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float).T
    size = np.array([WIDTH, HEIGHT])[:, None]
    for matrix in matrices_of(augment.Rotate(60)):
        linear = np.diag(size[:, 0]) @ matrix[:2, :2] @ np.diag(1 / size[:, 0])
        np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-5)
        assert np.linalg.det(linear) > 0 and abs(np.degrees(np.arctan2(*linear[::-1, 0]))) <= 60
        np.testing.assert_allclose(matrix @ [0.5, 0.5, 1], [0.5, 0.5, 1], atol=1e-6)
    zooms = [np.sqrt(np.linalg.det(m)) for m in matrices_of(augment.Scale((0.5, 2.0)))]
    assert min(zooms) >= 0.5 and max(zooms) <= 2 and max(zooms) - min(zooms) > 0.3
    for matrix in matrices_of(augment.Crop((0.3, 0.9), (0.5, 2.0))):
        window = np.linalg.inv(matrix) @ corners
        assert (window > -1e-5).all() and (window < 1 + 1e-5).all()
        assert 0.2 < 1 / np.linalg.det(matrix) <= 0.9 + 1e-5
    flips = matrices_of(augment.Flip(0.5, vertical=True))
    assert {tuple(np.diag(m)[:2]) for m in flips} <= {(a, b) for a in (-1, 1) for b in (-1, 1)}
    assert len({tuple(np.diag(m)[:2]) for m in flips}) > 1


def test_steps_that_follow_each_other_are_one_map():
    """A turn and back again: what left the picture in between is there again."""
    x = np.random.default_rng(0).random((ROWS, HEIGHT, WIDTH, 1)).astype("float32")
    turn = np.tile(in_pixels(3 * rotation(40)), (ROWS, 1, 1))
    steps = [Fixed(turn), Fixed(np.linalg.inv(turn))]
    task = T.Keypoints("corner", 1)
    points = np.full((ROWS, 1, 2), 0.01, "float32")
    new_x, new_y = augment.Augmenter(steps, [task])(x, {"corner": points})
    np.testing.assert_allclose(new_x, x, atol=1e-3)
    np.testing.assert_allclose(new_y["corner"], points, atol=1e-5)


def test_missing_labels_stay_missing_and_only_those():
    rng = np.random.default_rng(0)
    tasks = [
        T.BoundingBox("box"),
        T.Detection("objects"),
        T.Keypoints("points", 2, swaps=[]),
        T.Segmentation("mask"),
        T.Depth("depth"),
        T.Normals("normals"),
        T.Classification("c", 3),
    ]
    shape = (ROWS, HEIGHT, WIDTH)
    y = {
        "box": np.full((ROWS, 4), np.nan),
        "objects": np.full((ROWS, 2, 5), np.nan),
        "points": np.full((ROWS, 2, 2), np.nan),
        "mask": np.full(shape, -1),
        "depth": np.full((*shape, 1), np.nan),
        "normals": np.full((*shape, 3), np.nan),
        "c": np.full(ROWS, -1),
    }
    for name in y:
        if name not in ("c", "objects"):
            y[name][0] = 1 if name != "box" else [0.4, 0.4, 0.6, 0.6]
    y["objects"][0] = [[0.4, 0.4, 0.6, 0.6, 0], [0, 0, 0, 0, -1]]
    y["points"][0] = 0.5
    x = rng.random((*shape, 3)).astype("float32")
    steps = [
        "flip",
        "rotate",
        "scale",
        augment.Crop((0.8, 1)),
        "color",
        augment.Erase((0.001, 0.01)),
    ]
    _, new = augment.Augmenter(steps, tasks)(x, y)
    for task in tasks:
        task.check_labels(new[task.name].numpy())
        before, after = (task.target(v)[1].numpy() for v in (y[task.name], new[task.name]))
        np.testing.assert_array_equal(after[1:], before[1:])
        assert after[0].any() or task.name == "c"
