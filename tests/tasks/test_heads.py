"""Heads that users bring: layers, Sequentials, models of every kind, functions."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl

L = keras.layers
FEATURES = (4, 4, 8)


@keras.saving.register_keras_serializable("test_heads")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pool, self.dense = L.GlobalAveragePooling2D(), L.Dense(3)

    def call(self, x):
        return self.dense(self.pool(x))


def _functional():
    x = keras.Input(FEATURES)
    return keras.Model(x, L.Dense(3)(L.Flatten()(x)))


def _of_stages():
    stages = {
        "stage1": keras.Input((8, 8, 4), name="stage1"),
        "stage2": keras.Input(FEATURES, name="stage2"),
    }
    pooled = [L.GlobalAveragePooling2D()(x) for x in stages.values()]
    return keras.Model(stages, L.Dense(3)(L.Concatenate()(pooled)))


HEADS = {
    "flatten": lambda: keras.Sequential([L.Flatten(), L.Dense(3)]),
    "pool": lambda: keras.Sequential([L.GlobalAveragePooling2D(), L.Dense(3)]),
    "dropout": lambda: keras.Sequential([L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(3)]),
    "built": lambda: keras.Sequential([keras.Input(FEATURES), L.Flatten(), L.Dense(3)]),
    "named": lambda: keras.Sequential([L.Flatten(), L.Dropout(0.1), L.Dense(3)], name="my_head"),
    "functional": _functional,
    "of stages": _of_stages,
    "subclassed": Subclassed,
}


def _model(head, name="kind"):
    tasks = [
        mtl.tasks.Classification(name, num_classes=3, head=head),
        mtl.tasks.Binary("sold", hidden=0),
    ]
    return mtl.builders.hard_sharing(
        (16, 16, 1), tasks, backbone_options={"widths": (4, 8), "depth": 1}
    )


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_what_plain_keras_makes_of_the_features_and_comes_back_from_a_file(
    kind, tmp_path
):
    head = HEADS[kind]()
    model = _model(head)
    x = np.random.default_rng(0).random((6, 16, 16, 1)).astype("float32")
    # Plain Keras's answer: the same head called on the features that the backbone gives.
    names = ["small_cnn_stage1_block1_relu", "small_cnn_stage2_block1_relu"]
    stages = keras.Model(
        model.inputs, {f"stage{i}": model.get_layer(n).output for i, n in enumerate(names, 1)}
    )(x)
    expected = keras.ops.softmax(
        head(stages if kind == "of stages" else stages["stage2"], training=False)
    )
    np.testing.assert_allclose(model(x)["kind"], expected, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(x)["kind"], model(x)["kind"])


@pytest.mark.parametrize(
    "kind", ["dropout", pytest.param("of stages", marks=pytest.mark.large), "subclassed"]
)
def test_heads_that_are_models_learn(kind):
    head = HEADS[kind]()
    model = _model(head)
    x = np.random.default_rng(0).random((6, 16, 16, 1)).astype("float32")
    model.compile("adam", run_eagerly=True)
    before = [v.numpy() for v in head.trainable_variables]
    logs = model.train_on_batch(
        x, {"kind": np.arange(6) % 3, "sold": np.arange(6) % 2}, return_dict=True
    )
    assert np.isfinite(logs["kind_loss"])
    assert all(
        (v.numpy() != old).any() for v, old in zip(head.trainable_variables, before, strict=True)
    )


def test_a_layer_without_weights_is_a_head():
    task = mtl.tasks.Classification("kind", num_classes=3, head=L.Dropout(0.5))
    model = mtl.builders.hard_sharing((5,), [task], "mlp", backbone_options={"widths": (3,)})
    x = np.random.default_rng(0).random((4, 5)).astype("float32")
    features = keras.Model(model.inputs, model.get_layer("kind").input)(x)
    np.testing.assert_allclose(model(x)["kind"], keras.ops.softmax(features), rtol=1e-6)


def test_a_function_takes_all_stages_or_the_deepest_features():
    shapes = {}

    def of_stages(stages):
        shapes["stages"] = {name: tuple(tensor.shape[1:]) for name, tensor in stages.items()}
        return L.Dense(3)(L.Flatten()(stages["stage1"]))

    def of_features(x):
        shapes["x"] = tuple(x.shape[1:])
        return L.Dense(3)(L.Flatten()(x))

    _model(of_stages), _model(of_features)
    assert shapes == {"stages": {"stage1": (8, 8, 4), "stage2": FEATURES}, "x": FEATURES}


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, KeyError])
@pytest.mark.parametrize("parameter", ["x", "stages"])
def test_what_a_head_raises_reaches_its_author_after_one_call(error, parameter):
    calls = []

    def fail(argument):
        calls.append(argument)
        raise error("my own mistake")

    head = {"x": lambda x: fail(x), "stages": lambda stages: fail(stages)}[parameter]
    with pytest.raises(error, match="my own mistake"):
        _model(head)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("head", "error", "words"),
    [
        (lambda: L.Dense(3), ValueError, r"'kind' ends in shape \(4, 4, 3\).*Pool or flatten"),
        (lambda: L.Dropout(0.1), ValueError, "'kind' ends in shape"),
        (
            lambda: lambda x: None,
            ValueError,
            "head of task 'kind' should return one tensor.*NoneType",
        ),
        (
            lambda: L.Flatten,
            TypeError,
            "`head` of task 'kind' should be a Keras layer.*not its class",
        ),
        (lambda: "dense", TypeError, "`head` of task 'kind'"),
        (
            lambda: (lambda x: keras.Model({"deep": x}, L.Flatten()(x)))(
                keras.Input((3,), name="deep")
            ),
            ValueError,
            "Unknown stage among the inputs of head.*'deep'.*stage1, stage2",
        ),
    ],
)
def test_what_is_no_head_is_refused_by_the_tasks_name(head, error, words):
    with pytest.raises(error, match=words):
        _model(head())


@pytest.mark.large
def test_heads_that_are_models_go_to_the_phone_in_int8(tmp_path):
    model = _model(HEADS["dropout"]())
    x = np.random.default_rng(0).random((16, 16, 16, 1)).astype("float32")
    mtl.export.tflite(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    answer = mtl.export.TFLiteModel(tmp_path / "m.tflite").run({"image": x[:1]})
    np.testing.assert_allclose(answer["kind"], model(x[:1])["kind"], atol=0.05)
