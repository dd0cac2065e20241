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
        reached[name] = {
            v.path
            for v, g in zip(model.trainable_variables, gradients, strict=True)
            if g is not None
        }
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
        backbone=lambda inputs: keras.layers.Concatenate(name="join")(
            [inputs["left"], inputs["right"]]
        ),
    )
    assert sorted(model.input) == ["left", "right"]
    assert model.predict({"left": np.zeros((1, 2)), "right": np.zeros((1, 3))}, verbose=0)[
        "t"
    ].shape == (1, 1)


def test_the_number_of_parameters_is_that_of_the_parts():
    model = mtl.builders.hard_sharing(
        (5,),
        [
            mtl.tasks.Regression("a", hidden=0),
            mtl.tasks.Classification("b", num_classes=3, hidden=2),
        ],
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
        ({"inputs": (5,), "backbone": "small_cnn"}, "takes images"),
        (
            {"backbone": "mlp", "inputs": {"text": (5,), "numeric": (2,)}},
            "'numeric' and 'categorical'",
        ),
        ({"backbone": "mlp", "inputs": {"categorical": (5,)}}, "needs `cardinalities`"),
        ({"backbone": "bilstm", "backbone_options": {"vocabulary_size": 3}}, "token ids"),
        (
            {"tasks": [mtl.tasks.Segmentation("m")], "backbone": "mlp", "inputs": (5,)},
            "needs an image input",
        ),
        ({"tasks": [mtl.tasks.Binary("image")]}, "name of a layer of the backbone"),
        (
            {"tasks": [mtl.tasks.Binary("a", head=lambda f: keras.layers.Dense(3)(f["stage3"]))]},
            "ends in shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        mtl.builders.hard_sharing(**{"inputs": (16, 16, 1), "tasks": image_tasks(), **arguments})


@pytest.mark.parametrize("arguments", [{"tasks": ["digit"]}, {"backbone": 3}, {"inputs": "wide"}])
def test_what_is_no_task_backbone_or_input_is_refused(arguments):
    with pytest.raises(TypeError):
        mtl.builders.hard_sharing(**{"inputs": (16, 16, 1), "tasks": image_tasks(), **arguments})


DEFAULTS = [
    ((8, 8, 3), {}, "small_cnn"),
    ((5,), {}, "mlp"),
    (5, {}, "mlp"),
    ({"numeric": (3,), "categorical": (2,)}, {"cardinalities": (4, 4)}, "mlp"),
    ({"tokens": (6,)}, {"vocabulary_size": 9}, "text_cnn"),
    ({"waveform": (16000,)}, {}, "log_mel_cnn"),
    ((2, 16, 16, 1), {}, "frame_cnn"),
]


@pytest.mark.parametrize(
    ("inputs", "options", "backbone"), DEFAULTS, ids=[f"{b} {i}" for i, _, b in DEFAULTS]
)
def test_every_kind_of_input_has_one_default_backbone(inputs, options, backbone):
    from mtl_keras.builders.common import default_backbone

    assert default_backbone(inputs, options) == backbone


@pytest.mark.parametrize("builder", ["hard_sharing", "cross_stitch", "esmm", "aitm", "mmoe"])
@pytest.mark.parametrize(
    "inputs", [(8, 8, 3), {"numeric": (3,), "categorical": (2,)}], ids=["image", "table"]
)
def test_builders_take_the_default_backbone_of_their_input(builder, inputs):
    tasks = [mtl.tasks.Binary("click", hidden=0), mtl.tasks.Binary("bought", hidden=0)]
    options = {
        "widths": (4, 4),
        **({"cardinalities": (4, 4)} if isinstance(inputs, dict) else {"depth": 1}),
    }
    extra = (
        {}
        if builder in ("hard_sharing", "cross_stitch")
        else {"units": 6 if builder == "mmoe" else (6,)}
    )
    model = getattr(mtl.builders, builder)(inputs, tasks, backbone_options=options, **extra)
    prefix = "mlp_" if isinstance(inputs, dict) else "small_cnn_"
    assert any(layer.name.startswith(prefix) for layer in model.layers)


def test_one_number_and_a_list_of_one_mean_the_same_width_in_every_builder():
    tasks = [mtl.tasks.Binary("click", hidden=0), mtl.tasks.Binary("bought", hidden=0)]
    for name in ("esmm", "aitm", "mmoe", "omoe", "ple", "cgc", "dselect_k"):
        builder = getattr(mtl.builders, name)
        counts = {builder((5,), tasks, units=units).count_params() for units in (6, (6,), [6])}
        assert len(counts) == 1, name
    with pytest.raises(
        ValueError,
        match=r"'esmm': `units` should be a whole number >= 1, or a list.*Received: units=0",
    ):
        mtl.builders.esmm((5,), tasks, units=0)
