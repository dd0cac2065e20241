"""Every task keeps what all of them promise (`mtl.testing.run_task_test`)."""

import numpy as np
import pytest

import mtl_keras as mtl

T = mtl.tasks
ROWS = 8
_RNG = np.random.default_rng(0)
IMAGES = _RNG.random((ROWS, 16, 16, 1)).astype("float32")
TABLE = _RNG.standard_normal((ROWS, 5)).astype("float32")
TOKENS = _RNG.integers(1, 9, (ROWS, 6)).astype("int32")
BACKBONES = {
    "image": ("small_cnn", {"widths": (4, 8), "depth": 1}),
    "table": ("mlp", {"widths": (8,)}),
    "tokens": ("gru", {"vocabulary_size": 10, "embedding_dim": 4, "units": 3}),
}
_OBJECTS = [[0.1, 0.1, 0.4, 0.5, 0], [0.5, 0.55, 0.95, 0.95, 1], [0, 0, 0, 0, -1]]
#: Each task with settings that its config should keep, the kind of input, and labels.
CASES = [
    (T.Binary("t", loss_weight=0.5, threshold=0.3, hidden=0), "table", np.arange(ROWS) % 2),
    (
        T.Classification("t", num_classes=4, labels=list("abcd"), hidden=0, dropout=0.2),
        "table",
        np.arange(ROWS) % 4,
    ),
    (
        T.Regression("t", size=2, mean=3.0, scale=2.0, low=-5, high=9, unit="m", error="huber"),
        "table",
        _RNG.random((ROWS, 2)).astype("float32"),
    ),
    (
        T.MultiLabel("t", 3, labels=list("abc"), threshold=0.3, hidden=2),
        "table",
        _RNG.integers(0, 2, (ROWS, 3)),
    ),
    (T.Ordinal("t", 4, labels=list("abcd"), hidden=2), "table", np.arange(ROWS) % 4),
    (T.Embedding("t", 5, hidden=2, temperature=0.3), "table", np.arange(ROWS) % 3),
    (
        T.BoundingBox("t", hidden=3, channels=2, metrics=["mae"]),
        "image",
        np.tile(np.float32([0.1, 0.2, 0.6, 0.7]), (ROWS, 1)),
    ),
    (
        T.Segmentation("t", num_classes=3, labels=list("xyz"), channels=3),
        "image",
        _RNG.integers(0, 3, (ROWS, 16, 16)),
    ),
    (
        T.Depth("t", scale=2.0, unit="m", channels=3),
        "image",
        _RNG.uniform(0.1, 1, (ROWS, 16, 16, 1)).astype("float32"),
    ),
    (
        T.Normals("t", channels=3, loss_weight=0.2),
        "image",
        _RNG.standard_normal((ROWS, 16, 16, 3)).astype("float32"),
    ),
    (
        T.Keypoints("t", 2, labels=["a", "b"], channels=3, within=0.2),
        "image",
        _RNG.random((ROWS, 2, 2)).astype("float32"),
    ),
    (
        T.Detection("t", 2, labels=["a", "b"], stride=2, channels=3, overlap=0.4, max_objects=7),
        "image",
        np.tile(np.float32([_OBJECTS]), (ROWS, 1, 1)),
    ),
    (
        T.SequenceTranscription("t", "abc", time_axis="height"),
        "image",
        np.tile([0, 1, -1], (ROWS, 1)),
    ),
    (
        T.TokenTagging("t", labels=["O", "B-PER", "I-PER"]),
        "tokens",
        _RNG.integers(0, 3, (ROWS, 6)),
    ),
]


@pytest.mark.parametrize(("task", "kind", "y"), CASES, ids=[case[0].kind for case in CASES])
def test_it_keeps_what_every_task_promises(task, kind, y):
    x = {"image": IMAGES, "table": TABLE, "tokens": TOKENS}[kind]
    backbone, options = BACKBONES[kind]
    mtl.testing.run_task_test(task, x, y, backbone=backbone, backbone_options=options)


def test_every_public_task_is_among_them():
    public = {
        name for name in T.__all__ if name not in ("Task", "TaskMetric", "TaskOutput", "guess_task")
    }
    assert {type(task).__name__ for task, *_ in CASES} == public
