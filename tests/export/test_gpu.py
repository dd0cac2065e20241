"""The verdict on the GPU delegate: what is refused, and at which tensor."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_model

import mtl_keras as mtl
from mtl_keras.export.gpu import explain_gpu_rejections


def converted(function, *shapes):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    concrete = tf.function(function).get_concrete_function(*specs)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


def test_a_plain_network_of_convolutions_is_taken(tmp_path):
    report = mtl.export.tflite(image_model(), tmp_path / "model.tflite")
    assert report.gpu == []
    assert report.to_dict()["gpu_rejections"] == []


def test_five_dimensions_are_named_with_their_tensor():
    content = converted(lambda x, y: x * y, (1, 4, 3, 4, 2), (1, 1, 1, 4, 1))
    reasons = explain_gpu_rejections(content)
    assert any(
        "MUL has a tensor of 5 dimensions" in reason and "at '" in reason for reason in reasons
    ), reasons


def test_operators_that_the_delegate_lacks_are_named():
    (reason,) = explain_gpu_rejections(converted(lambda x: tf.math.top_k(x, 2)[0], (1, 8)))
    assert reason.startswith("operator TOPK_V2 is not supported")


def test_products_that_stretch_both_sides_are_refused():
    reasons = explain_gpu_rejections(converted(lambda a, b: a * b, (1, 8, 1), (1, 1, 8)))
    assert [reason.split(" (")[0] for reason in reasons] == [
        "MUL that stretches both of its tensors"
    ]


@pytest.mark.large
def test_loops_are_refused(tmp_path):
    inputs = keras.Input((5, 3), name="x")
    model = keras.Model(inputs, {"a": keras.layers.Dense(2, name="a")(keras.layers.GRU(4)(inputs))})
    report = mtl.export.tflite(
        model,
        tmp_path / "model.tflite",
        samples=np.random.default_rng(0).random((4, 5, 3), "float32"),
    )
    assert any(reason.startswith("operator WHILE is not supported") for reason in report.gpu)
