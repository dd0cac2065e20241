import keras
import numpy as np
import pytest
from helpers import image_tasks, table_model

import mtl_keras as mtl


def test_each_tasks_gradient_reaches_the_trunk_and_its_own_head_only():
    import tensorflow as tf

    model = table_model()
    x = tf.constant(np.random.default_rng(0).standard_normal((8, 5)), tf.float32)
    reached = {}
    for name in model.task_names:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True)[name])
        gradients = tape.gradient(loss, model.trainable_variables)
        reached[name] = {v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    shared = {v.path for v in model.trainable_variables if v.path.startswith("mlp_")}
    for name in model.task_names:
        own = {v.path for v in model.trainable_variables if v.path.startswith(f"{name}_")}
        assert reached[name] == shared | own and own


def test_a_users_model_is_the_trunk_itself():
    inputs = keras.Input((3,), name="mine")
    trunk = keras.Model(inputs, keras.layers.Dense(4, name="mine_dense")(inputs))
    model = mtl.builders.hard_sharing(None, [mtl.tasks.Binary("t")], backbone=trunk)
    assert model.get_layer("mine_dense") is trunk.get_layer("mine_dense")
    assert model.representation == ["mine_dense"]


def test_a_function_is_a_backbone_and_inputs_keep_their_names():
    model = mtl.builders.hard_sharing(
        {"left": (2,), "right": (3,)},
        [mtl.tasks.Regression("t", hidden=0)],
        backbone=lambda inputs: keras.layers.Concatenate(name="join")([inputs["left"], inputs["right"]]),
    )
    assert sorted(model.input) == ["left", "right"]
    assert model.predict({"left": np.zeros((1, 2)), "right": np.zeros((1, 3))}, verbose=0)["t"].shape == (1, 1)


def test_the_number_of_parameters_is_that_of_the_parts():
    model = mtl.builders.hard_sharing(
        (5,),
        [mtl.tasks.Regression("a", hidden=0), mtl.tasks.Classification("b", num_classes=3, hidden=2)],
        backbone="mlp",
        backbone_options={"widths": (7,), "normalize": False},
    )
    assert model.count_params() == (5 * 7 + 7) + (7 + 1) + (7 * 2 + 2) + (2 * 3 + 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tasks": [mtl.tasks.Binary("a"), mtl.tasks.Binary("a")]}, "share the name 'a'"),
        ({"tasks": []}, "At least one task"),
        ({"backbone": "small_cn"}, "Did you mean 'small_cnn'"),
        ({"inputs": (5,)}, "takes images"),
        ({"backbone": "mlp", "inputs": {"text": (5,), "numeric": (2,)}}, "'numeric' and 'categorical'"),
        ({"backbone": "mlp", "inputs": {"categorical": (5,)}}, "needs `cardinalities`"),
        ({"backbone": "bilstm", "backbone_options": {"vocabulary_size": 3}}, "token ids"),
        ({"tasks": [mtl.tasks.Segmentation("m")], "backbone": "mlp", "inputs": (5,)}, "needs an image input"),
        ({"tasks": [mtl.tasks.Binary("image")]}, "name of a layer of the backbone"),
        ({"tasks": [mtl.tasks.Binary("a", head=lambda f: keras.layers.Dense(3)(f["stage3"]))]}, "ends in shape"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        mtl.builders.hard_sharing(**{"inputs": (16, 16, 1), "tasks": image_tasks(), **arguments})


@pytest.mark.parametrize("arguments", [{"tasks": ["digit"]}, {"backbone": 3}, {"inputs": "wide"}])
def test_what_is_no_task_backbone_or_input_is_refused(arguments):
    with pytest.raises(TypeError):
        mtl.builders.hard_sharing(**{"inputs": (16, 16, 1), "tasks": image_tasks(), **arguments})
