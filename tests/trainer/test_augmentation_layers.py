"""Layers that move pictures inside of a network are refused where labels are places."""

import keras
import numpy as np
import pytest
from helpers import large_but

import mtl_keras as mtl

T = mtl.tasks
L = keras.layers


def network(first, tasks):
    """A network whose pictures go through `first`."""
    image = keras.Input((16, 16, 3), name="image")
    x = L.Conv2D(4, 3, strides=2, padding="same", name="stem")(first(image))
    stages = {"stage1": x, "stage2": L.Conv2D(4, 3, strides=2, padding="same", name="deep")(x)}
    outputs = {}
    for task in tasks:
        head = task.head(stages, (16, 16, 3))
        outputs[task.name] = T.TaskOutput(task, name=task.name)(head)
    return mtl.MultiTaskModel(image, outputs)


GEOMETRIC = [
    T.BoundingBox("box"),
    T.Detection("objects", 2),
    T.Keypoints("points", 2),
    T.Segmentation("mask"),
    T.Depth("depth"),
    T.Normals("normals"),
]
KIND = T.Classification("kind", 3)


class Inside(L.Layer):
    """A layer of a user's own that holds another one."""

    def __init__(self):
        super().__init__()
        self.inner = L.RandomRotation(0.1, name="turn")

    def call(self, x, training=None):
        return self.inner(x, training=training)


def nested():
    inner = keras.Input((16, 16, 3))
    sequential = keras.Sequential([L.RandomBrightness(0.1), L.RandomFlip(name="deep_flip")])
    return keras.Model(inner, sequential(inner))


@pytest.mark.parametrize(
    ("make", "name", "step"),
    [
        (lambda: L.RandomFlip("horizontal", name="mirror"), "mirror", "flip"),
        (lambda: L.RandomRotation(0.1, name="turn"), "turn", "rotate"),
        pytest.param(
            lambda: L.RandomZoom(0.1, name="zoom"), "zoom", "scale", marks=pytest.mark.large
        ),
        pytest.param(
            lambda: L.RandomCrop(16, 16, name="cut"), "cut", "crop", marks=pytest.mark.large
        ),
        pytest.param(
            lambda: L.RandomTranslation(0.1, 0.1, name="move"),
            "move",
            "crop",
            marks=pytest.mark.large,
        ),
        pytest.param(
            lambda: L.RandomShear(0.1, name="shear"), "shear", "rotate", marks=pytest.mark.large
        ),
        (Inside, "turn", "rotate"),
        (nested, "deep_flip", "flip"),
    ],
    ids=["flip", "rotation", "zoom", "crop", "translation", "shear", "inside a layer", "nested"],
)
def test_a_moving_layer_is_refused_with_the_heads_and_the_mend(make, name, step):
    model = network(make(), [GEOMETRIC[0], GEOMETRIC[3]])
    message = (
        rf"(?s)Layer '{name}' .*'box' \(BoundingBox\), 'mask' \(Segmentation\).*"
        rf'train.batch\(32, augment=\["{step}"'
    )
    with pytest.raises(ValueError, match=message):
        model.compile("adam")
    assert not model.compiled


@pytest.mark.parametrize(
    "task", [GEOMETRIC[0], *large_but((), GEOMETRIC[1:])], ids=lambda task: task.kind
)
def test_every_task_whose_labels_are_places_is_protected(task):
    with pytest.raises(ValueError, match=f"'{task.name}'"):
        network(L.RandomFlip(), [task]).compile("adam")


def test_layers_that_change_colors_pass_and_class_heads_pass():
    colors = keras.Sequential([L.RandomBrightness(0.1), L.RandomContrast(0.1), L.Rescaling(2.0)])
    network(colors, [KIND, GEOMETRIC[0], GEOMETRIC[3]]).compile("adam")
    answers = network(L.RandomFlip(), [KIND, GEOMETRIC[0]])
    answers.compile("adam", loss={"box": None})


def test_a_layer_beside_the_heads_way_passes():
    image = keras.Input((16, 16, 3), name="image")
    straight = L.Conv2D(4, 3, strides=2, name="straight")(image)
    mirrored = L.Conv2D(4, 3, strides=2, name="mirrored")(L.RandomFlip()(image))
    box, outputs = T.BoundingBox("box"), {}
    for task, x in ((box, straight), (KIND, mirrored)):
        outputs[task.name] = T.TaskOutput(task, name=task.name)(task.head({"s": x}, (16, 16, 3)))
    mtl.MultiTaskModel(image, outputs).compile("adam")


@pytest.mark.skipif(not hasattr(L, "MixUp"), reason="this Keras has no MixUp layer")
def test_layers_that_mix_rows_are_refused_for_class_heads_too():
    with pytest.raises(ValueError, match=r'(?s)MixUp.*augment=\["mixup"\]'):
        network(L.MixUp(), [KIND]).compile("adam")


def test_a_builders_trunk_is_looked_into():
    trunk = keras.Sequential(
        [keras.Input((16, 16, 3)), L.RandomFlip(name="mirror"), L.Conv2D(4, 3, strides=2)]
    )
    model = mtl.builders.hard_sharing((16, 16, 3), [KIND, GEOMETRIC[0]], backbone=trunk)
    with pytest.raises(ValueError, match=r"mirror.*'box'"):
        model.compile("adam")
    x, y = np.zeros((2, 16, 16, 3)), {"kind": np.zeros(2, int), "box": np.zeros((2, 4))}
    with pytest.raises(ValueError, match="not compiled"):
        model.fit(x, y)
