"""Any Keras model as a backbone: Sequentials, subclasses, applications, KerasHub; through save,
load, export and int8."""

import importlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import mtl_keras as mtl

L = keras.layers
IMAGE = (16, 16, 3)

#: A stranger's module: registered classes that know nothing of this package.
MODULE = """
import keras

L = keras.layers


@keras.saving.register_keras_serializable("strangers")
class Plain(keras.Model):
    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.first, self.norm = L.Conv2D(width, 3, 2, activation="relu"), L.BatchNormalization()
        self.second = L.Conv2D(8, 3, 2)

    def call(self, x, training=None):
        return self.second(self.norm(self.first(x), training=training))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("strangers")
class Stages(Plain):
    def call(self, x, training=None):
        low = self.norm(self.first(x), training=training)
        return {"low": low, "high": self.second(low)}


@keras.saving.register_keras_serializable("strangers")
class Centered(keras.Model):
    # A functional model with a `call` around its graph: the graph is not all that it computes.
    def __init__(self, **kwargs):
        x = keras.Input((16, 16, 3))
        super().__init__(x, L.Conv2D(8, 3, 2)(x), **kwargs)

    def call(self, x, training=None, mask=None):
        return super().call(x - 0.5, training=training, mask=mask)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable("strangers")
class Brittle(L.Conv2D):
    # As KerasHub's ViTPatchingAndEmbedding: its config names arguments that it does not take.
    def get_config(self):
        return {**super().get_config(), "places": 49}


@keras.saving.register_keras_serializable("strangers")
class Whole(keras.Model):
    def __init__(self, **kwargs):
        x = keras.Input((16, 16, 3))
        super().__init__(x, Brittle(8, 3, 2)(x), **kwargs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)
"""


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "strangers.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("strangers")
    sys.path.remove(str(folder))


def _layers():
    return [L.Conv2D(4, 3, 2, activation="relu"), L.BatchNormalization(), L.Conv2D(8, 3, 2)]


def _called(model):
    model(np.zeros((1, *IMAGE), "float32"))
    return model


KINDS = {
    "built sequential": lambda s: keras.Sequential([keras.Input(IMAGE), *_layers()]),
    "unbuilt sequential": lambda s: keras.Sequential(_layers()),
    "called sequential": lambda s: _called(keras.Sequential(_layers())),
    "nested sequential": lambda s: keras.Sequential([keras.Sequential(_layers()), L.ReLU()]),
    "subclass": lambda s: s.Plain(),
    "called subclass": lambda s: _called(s.Plain(width=5)),
    "subclass with stages": lambda s: s.Stages(),
    "functional with a call": lambda s: s.Centered(),
    "functional of brittle layers": lambda s: s.Whole(),
}
#: Multiply-adds of 3 x 3 convolutions on 7 x 7 and 3 x 3 places.
CONVOLUTIONS = {
    4: 7 * 7 * 9 * 3 * 4 + 3 * 3 * 9 * 4 * 8,
    5: 7 * 7 * 9 * 3 * 5 + 3 * 3 * 9 * 5 * 8,
    8: 7 * 7 * 9 * 3 * 8,
}


def _tasks():
    return [
        mtl.tasks.Classification("kind", num_classes=3, hidden=0),
        mtl.tasks.Binary("sold", hidden=0),
    ]


def _images(rows=6):
    return np.random.default_rng(0).random((rows, *IMAGE)).astype("float32")


def _labels(rows=6):
    return {"kind": np.arange(rows) % 3, "sold": np.arange(rows) % 2}


def _deepest(answer):
    return list(answer.values())[-1] if isinstance(answer, dict) else answer


@pytest.mark.parametrize("kind", KINDS)
def test_heads_see_what_the_users_model_says_and_training_moves_it(kind, strangers):
    trunk = KINDS[kind](strangers)
    model = mtl.builders.hard_sharing(IMAGE, _tasks(), trunk)
    x = _images()
    pooled = np.asarray(_deepest(trunk(x, training=False))).mean((1, 2))
    kernel, bias = model.get_layer("kind_linear").get_weights()
    expected = keras.ops.softmax(pooled @ kernel + bias)
    np.testing.assert_allclose(model(x)["kind"], expected, rtol=1e-4, atol=1e-5)
    report = model.summary_sharing()
    both = ("kind", "sold")
    assert report.parameters[both] == sum(int(np.prod(v.shape)) for v in trunk.trainable_variables)
    width = 8 if kind.startswith("functional") else trunk.trainable_variables[0].shape[-1]
    assert report.multiply_adds[both] == CONVOLUTIONS[width]
    before = [v.numpy() for v in trunk.trainable_variables]
    model.compile("adam", balancer="cagrad", run_eagerly=True)
    model.train_on_batch(x, _labels())
    moved = [
        (v.numpy() != old).any() for v, old in zip(trunk.trainable_variables, before, strict=True)
    ]
    assert any(moved) and {id(v) for v in trunk.variables} <= {id(v) for v in model.variables}


@pytest.mark.parametrize(
    "kinds",
    [
        ["built sequential", "subclass with stages", "functional of brittle layers"],
        pytest.param(list(KINDS), marks=pytest.mark.large),
    ],
    ids=["some", "all"],
)
def test_they_come_back_in_a_fresh_process_in_safe_mode(kinds, strangers, tmp_path):
    x = _images()
    np.save(tmp_path / "x.npy", x)
    for kind in kinds:
        model = mtl.builders.hard_sharing(IMAGE, _tasks(), KINDS[kind](strangers))
        model.save(tmp_path / f"{kind}.keras")
        np.savez(tmp_path / f"{kind}.npz", **{k: np.asarray(v) for k, v in model(x).items()})
    code = f"""
        import sys, pathlib, numpy as np
        sys.path.insert(0, {str(strangers.__file__).rsplit("/", 1)[0]!r})
        import keras, mtl_keras, strangers
        folder = pathlib.Path({str(tmp_path)!r})
        for file in sorted(folder.glob("*.keras")):
            model = keras.saving.load_model(file, safe_mode=True)
            answer, expected = model(np.load(folder / "x.npy")), np.load(file.with_suffix(".npz"))
            for name in expected:
                np.testing.assert_allclose(answer[name], expected[name], rtol=1e-5, atol=1e-6)
            print(file.stem)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line in KINDS) == sorted(kinds)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, marks=[] if k == "subclass with stages" else pytest.mark.large)
        for k in KINDS
    ],
)
def test_they_go_to_the_phone_in_float_and_int8(kind, strangers, tmp_path):
    model = mtl.builders.hard_sharing(IMAGE, _tasks(), KINDS[kind](strangers))
    _check_phone(model, {model.inputs[0].name: _images(32)}, tmp_path)


def _check_phone(model, x, folder):
    rows = {name: value[:1] for name, value in x.items()}
    expected = model(rows if len(rows) > 1 else next(iter(rows.values())))
    for quantization, tolerance in ((None, 1e-4), ("int8", 0.05)):
        mtl.export.tflite(model, folder / "m.tflite", quantization=quantization, calibration=x)
        answer = mtl.export.TFLiteModel(folder / "m.tflite").run(rows)
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, atol=tolerance)


def test_stages_of_a_nested_model_are_layers_that_heads_can_share_and_leave(strangers):
    trunk = strangers.Stages(name="trunk")
    model = mtl.builders.layerwise(IMAGE, _tasks(), trunk, task_stages={"sold": "low"})
    assert model.representation == ["trunk_low", "trunk_high"]
    x = _images()
    for stage, answer in trunk(x, training=False).items():
        np.testing.assert_allclose(
            keras.Model(model.inputs, model.get_layer(f"trunk_{stage}").output)(x),
            answer,
            atol=1e-5,
        )
    weights = model.get_layer("sold_linear").get_weights()
    pooled = np.asarray(trunk(x, training=False)["low"]).mean((1, 2))
    np.testing.assert_allclose(
        model(x)["sold"],
        1 / (1 + np.exp(-(pooled @ weights[0] + weights[1]))),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("builder", ["cross_stitch", "soft_sharing", "mmoe"])
def test_other_builders_take_them(builder, strangers, tmp_path):
    model = getattr(mtl.builders, builder)(IMAGE, _tasks(), strangers.Plain())
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_allclose(
        loaded(_images())["kind"], model(_images())["kind"], rtol=1e-5, atol=1e-6
    )


def test_a_function_may_return_a_model_with_inputs_of_its_own_or_none_yet(strangers):
    for make in (
        lambda x: keras.Sequential(_layers()),
        lambda x: KINDS["built sequential"](None),
        lambda x: strangers.Plain(),
    ):
        model = mtl.builders.hard_sharing({"photo": IMAGE}, _tasks(), make)
        assert [tensor.name for tensor in model.inputs] == ["photo"]
        assert len(model(_images())) == 2
    functional = keras.Input(IMAGE, name="pixels")
    functional = keras.Model(functional, L.Conv2D(4, 3)(functional))
    model = mtl.builders.hard_sharing({"photo": IMAGE}, _tasks(), lambda x: functional)
    assert model.inputs[0].name == "photo" and functional.layers[-1] in model.layers
    with pytest.raises(
        ValueError, match=r"should fit the backbone.*\(16, 16, 3\).*Received: \(8, 8, 3\)"
    ):
        mtl.builders.hard_sharing((8, 8, 3), _tasks(), lambda x: functional)


def test_pyramids_and_frames_take_them(strangers):
    trunk = strangers.Stages(name="trunk")
    model = mtl.builders.hard_sharing(
        IMAGE, _tasks(), "fpn", backbone_options={"backbone": trunk, "channels": 4}
    )
    assert trunk in model.layers and len(model(_images())) == 2
    for kind in ("subclass", "unbuilt sequential", "built sequential"):
        encoder = KINDS[kind](strangers)
        video = np.stack([_images(2)] * 3, 1)
        model = mtl.builders.hard_sharing(
            (3, *IMAGE), _tasks(), "frame_cnn", backbone_options={"encoder": encoder}
        )
        features = keras.Model(model.inputs, model.get_layer("frame_cnn_stage1").output)(video)
        np.testing.assert_allclose(
            features[:, 1], np.asarray(encoder(video[:, 1])).mean((1, 2)), rtol=1e-4, atol=1e-5
        )


def test_a_modality_may_have_a_model_that_is_not_built():
    model = mtl.builders.cross_modal(
        {"photo": IMAGE, "numbers": (4,)},
        _tasks(),
        backbones={
            "photo": keras.Sequential(_layers()),
            "numbers": keras.Sequential([L.Dense(4), L.ReLU()]),
        },
    )
    answer = model({"photo": _images(), "numbers": np.zeros((6, 4), "float32")})
    assert answer["kind"].shape == (6, 3)


def test_open_sizes_are_taken_from_the_inputs():
    image = keras.Input((None, None, 3), name="photo")
    trunk = keras.Model(image, L.Conv2D(4, 3)(image))
    model = mtl.builders.hard_sharing(IMAGE, _tasks(), trunk)
    assert model.inputs[0].shape == (None, *IMAGE) and model.inputs[0].name == "photo"
    assert mtl.builders.hard_sharing(None, _tasks(), trunk).inputs[0].shape == (None, None, None, 3)


@pytest.mark.parametrize(
    ("make", "inputs", "words"),
    [
        (
            lambda s: s.Plain(),
            None,
            "`inputs` should be the shape of one row.*no inputs of its own",
        ),
        (lambda s: keras.Sequential(_layers()), None, "`inputs` should be the shape of one row"),
        (
            KINDS["built sequential"],
            (8, 8, 3),
            r"should fit the backbone.*\(16, 16, 3\).*Received: \(8, 8, 3\)",
        ),
        (KINDS["built sequential"], (16, 16), r"should fit the backbone"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(make, inputs, words, strangers):
    with pytest.raises(ValueError, match=words):
        mtl.builders.hard_sharing(inputs, _tasks(), make(strangers))


def test_a_model_that_returns_no_tensors_is_refused():
    class Pair(keras.Model):
        def call(self, x):
            return {"a": x, "b": {"deep": x}}

    with pytest.raises(
        ValueError, match="should return a tensor, or a list or dict of tensors.*'b': 'dict'"
    ):
        mtl.builders.hard_sharing(IMAGE, _tasks(), Pair())


# ------------------------------------------------------------------ KerasHub, tiny and random: nothing is downloaded
def _hub_trunk(name):
    hub = pytest.importorskip("keras_hub").models
    if name == "vit":
        trunk = hub.ViTBackbone(
            image_shape=IMAGE,
            patch_size=8,
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            dropout_rate=0.0,
        )
        return trunk, IMAGE, {"images": _images(32)}
    if name == "resnet":
        trunk = hub.ResNetBackbone(
            [64], [3], [64, 64], [1, 1], [1, 2], "basic_block", image_shape=IMAGE
        )
        return trunk, IMAGE, {"images": _images(32)}
    trunk = hub.BertBackbone(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
    )
    tokens = np.random.default_rng(0).integers(1, 30, (32, 8)).astype("int32")
    x = {"token_ids": tokens, "segment_ids": 0 * tokens, "padding_mask": 0 * tokens + 1}
    return trunk, dict.fromkeys(x, (8,)), x


@pytest.mark.large
def test_a_keras_hub_trunk_that_can_not_be_taken_apart_comes_back_whole(tmp_path):
    trunk, inputs, x = _hub_trunk("vit")
    model = mtl.builders.hard_sharing(inputs, _tasks(), trunk)
    assert trunk in model.layers
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    images = x["images"][:4]
    np.testing.assert_allclose(loaded(images)["kind"], model(images)["kind"], rtol=1e-5, atol=1e-6)
    kernel, bias = model.get_layer("kind_linear").get_weights()
    pooled = np.asarray(trunk(images)).mean(1)
    np.testing.assert_allclose(
        model(images)["kind"], keras.ops.softmax(pooled @ kernel + bias), rtol=1e-4, atol=1e-5
    )


@pytest.mark.large
@pytest.mark.parametrize("name", ["vit", "resnet", "bert"])
def test_keras_hub_trunks_are_trained_saved_loaded_elsewhere_and_go_to_the_phone(name, tmp_path):
    trunk, inputs, x = _hub_trunk(name)
    model = mtl.builders.hard_sharing(inputs, _tasks(), trunk)
    names = [tensor.name for tensor in model.inputs]
    x = dict(zip(names, x.values(), strict=True)) if len(x) == 1 else x
    batch = x if len(x) > 1 else next(iter(x.values()))
    model.compile("adam")
    assert np.isfinite(model.fit(batch, _labels(32), verbose=0).history["loss"]).all()
    report = model.summary_sharing()
    assert report.parameters["kind", "sold"] == sum(
        int(np.prod(v.shape)) for v in trunk.trainable_variables
    )
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", **x)
    np.save(tmp_path / "y.npy", model(batch)["kind"])
    code = f"""
        import keras, keras_hub, mtl_keras, numpy as np
        model = keras.saving.load_model({str(tmp_path / "m.keras")!r}, safe_mode=True)
        x = dict(np.load({str(tmp_path / "x.npz")!r}))
        answer = model(x if len(x) > 1 else next(iter(x.values())))["kind"]
        np.testing.assert_allclose(answer, np.load({str(tmp_path / "y.npy")!r}), rtol=1e-4, atol=1e-5)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _check_phone(model, x, tmp_path)


@pytest.mark.large
def test_applications_of_keras_are_backbones(tmp_path):
    trunk = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    model = mtl.builders.hard_sharing(None, _tasks(), trunk)
    x = np.random.default_rng(0).random((16, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(x)["kind"], model(x)["kind"], rtol=1e-4, atol=1e-5)
    _check_phone(model, {model.inputs[0].name: x}, tmp_path)
