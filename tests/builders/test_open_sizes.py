"""Images whose height and width are known only when they come."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl

B = mtl.builders
CNN = {"widths": (4, 8), "depth": 1}
#: Not square, and odd at every stage: sizes that only rounding up makes equal.
X = np.random.default_rng(0).random((2, 21, 18, 3)).astype("float32")


def _tasks():
    return [
        mtl.tasks.Segmentation("parts", num_classes=3, channels=4),
        mtl.tasks.Depth("depth", channels=4),
    ]


def _twins(builder, backbone, **extra):
    """The same network with open sizes and with fixed ones."""
    options = {"backbone_options": CNN, "channels": 4} if backbone == "fpn" else CNN
    models = [
        builder((*size, 3), _tasks(), backbone, backbone_options=options, **extra)
        for size in ((None, None), X.shape[1:3])
    ]
    for layer in models[1].layers:
        if layer.weights:
            # By name: the order of a graph's layers follows its depth, which the resizing layers
            # change.
            models[0].get_layer(layer.name).set_weights(layer.get_weights())
    return models


CASES = [
    (B.hard_sharing, "small_cnn", {}),
    (B.hard_sharing, "fpn", {}),
    (B.mtan, "small_cnn", {}),
    (B.task_gated, "small_cnn", {"channels": 4, "stages": ["stage1", "stage2"]}),
    (B.hierarchical, "small_cnn", {"task_stages": {"parts": "stage1"}}),
    (B.sluice, "small_cnn", {}),
    (B.mmoe, "small_cnn", {"units": 4}),
]


@pytest.mark.parametrize(
    ("builder", "backbone", "extra"),
    [*CASES[:2], *(pytest.param(*case, marks=pytest.mark.large) for case in CASES[2:])],
    ids=[f"{b.__name__} {n}" for b, n, _ in CASES],
)
def test_open_sizes_answer_as_fixed_ones_do(builder, backbone, extra):
    free, fixed = _twins(builder, backbone, **extra)
    a, b = free(X), fixed(X)
    assert free.output["parts"].shape == (None, None, None, 3)
    for task in ("parts", "depth"):
        np.testing.assert_allclose(a[task], b[task], rtol=1e-4, atol=1e-5)
    # Another size, through the same network.
    assert free(X[:, :13, :10])["depth"].shape == (2, 13, 10, 1)


@pytest.mark.large
def test_a_network_of_open_sizes_trains_and_is_loaded(tmp_path):
    model, _ = _twins(B.hard_sharing, "fpn")
    model.compile("adam", balancer="cagrad")
    y = {"parts": np.zeros((2, 21, 18), "int32"), "depth": np.ones((2, 21, 18, 1), "float32")}
    assert np.isfinite(model.train_on_batch(X, y, return_dict=True)["loss"])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    for task, value in model.predict(X, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(X, verbose=0)[task], value)


@pytest.mark.parametrize(
    "task",
    [
        mtl.tasks.Keypoints("points", 2),
        mtl.tasks.BoundingBox("box"),
        mtl.tasks.Detection("things", 2),
    ],
)
def test_heads_that_need_a_fixed_size_say_so_when_they_are_built(task):
    with pytest.raises(ValueError, match=f"'{task.name}.*fixed size"):
        B.hard_sharing((None, None, 3), [task], "small_cnn", backbone_options=CNN)


def test_a_sequence_of_open_length_is_refused_where_a_vector_is_put_at_every_step():
    tasks = [mtl.tasks.Binary("topic"), mtl.tasks.TokenTagging("tag", 3)]
    options = {"vocabulary_size": 9, "embedding_dim": 4, "filters": 2}
    with pytest.raises(ValueError, match="length should be fixed"):
        B.task_gated(
            {"tokens": (None,)},
            tasks,
            "text_cnn",
            stages=["stage1", "stage2"],
            backbone_options=options,
        )
