"""What copies of a backbone's layers start from: trained values where there are any, fresh ones
elsewhere."""

import keras
import numpy as np
import pytest
from keras import layers

import mtl_keras as mtl

TASKS = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
B = mtl.builders
STREAMS = [B.soft_sharing, B.cross_stitch, B.sluice, B.nddr, B.learned_branching]


def _suffixes(builder):
    return (
        ["branch0", "branch1"] if builder is B.learned_branching else [task.name for task in TASKS]
    )


def _trained_trunk():
    """A network with trained values in every kind of layer, and what it gives for `images`."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, 2, "same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    one = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    two = layers.SeparableConv2D(6, 3, 2, "same", name="separable")(one)
    model = keras.Model(inputs, {"stage1": one, "stage2": two})
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in model.get_weights()]
    )
    return model


@pytest.mark.parametrize("builder", STREAMS)
def test_a_pyramid_on_a_trained_trunk_starts_from_its_weights_and_from_fresh_ones_of_its_own(
    builder,
):
    trunk = _trained_trunk()

    def backbone(inputs):
        stages = keras.models.clone_model(trunk, input_tensors=inputs)
        stages.set_weights(trunk.get_weights())
        return mtl.backbones.fpn(inputs, backbone=lambda _: stages, channels=4)

    if builder is B.learned_branching:
        with pytest.raises(ValueError, match="goes around"):
            builder((8, 8, 3), TASKS, backbone)
        return
    model = builder((8, 8, 3), TASKS, backbone)
    for layer in ("conv", "norm", "depthwise", "separable"):
        for task in _suffixes(builder):
            for a, b in zip(
                model.get_layer(f"{layer}_{task}").get_weights(),
                trunk.get_layer(layer).get_weights(),
                strict=True,
            ):
                np.testing.assert_array_equal(a, b)
    one, two = (
        model.get_layer(f"fpn_stage2_side_{task}").get_weights()[0] for task in _suffixes(builder)
    )
    assert np.abs(one - two).max() > 0.01


@pytest.mark.parametrize("builder", [*STREAMS, B.tensor_factorized])
def test_an_adapted_normalization_is_that_of_every_copy(builder):
    x = np.random.default_rng(0).normal(1e5, 300.0, (64, 5)).astype("float32")

    def backbone(inputs):
        normalize = layers.Normalization(name="standard")
        normalize.adapt(x)
        return layers.Dense(4, name="features")(normalize(inputs))

    model = builder((5,), TASKS, backbone)
    for suffix in _suffixes(builder):
        found = keras.Model(model.input, model.get_layer(f"standard_{suffix}").output).predict(
            x, verbose=0
        )
        np.testing.assert_allclose(found, (x - x.mean(0)) / x.std(0), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["function", "loaded", "sequence"])
def test_a_function_that_returns_a_trained_model_hands_its_weights_on(kind, tmp_path):
    inputs = keras.Input((6,), dtype="int32") if kind == "sequence" else keras.Input((5,))
    if kind == "sequence":
        x = layers.Embedding(9, 4, name="words")(inputs)
        y = layers.LSTM(3, name="reader")(x)
    else:
        y = layers.Dense(3, activation="relu", name="words")(inputs)
        y = layers.Dense(3, name="reader")(y)
    trained = keras.Model(inputs, y)
    if kind == "loaded":
        # As it was drawn, but in another process: that it was never trained cannot be known, and
        # what was saved counts.
        trained.save(tmp_path / "t.keras")
        trained = keras.saving.load_model(tmp_path / "t.keras")
    else:
        trained.set_weights([w + 0.125 for w in trained.get_weights()])
    spec = {"tokens": (6,)} if kind == "sequence" else (5,)
    model = B.cross_stitch(spec, TASKS, lambda _: trained)
    for layer in ("words", "reader"):
        for task in ("cost", "sold"):
            pairs = zip(
                model.get_layer(f"{layer}_{task}").get_weights(),
                trained.get_layer(layer).get_weights(),
                strict=True,
            )
            assert all(np.array_equal(a, b) for a, b in pairs)


@keras.saving.register_keras_serializable("test_copies")
class Scale(layers.Layer):
    """A layer that does not say how it draws its weights."""

    def build(self, shape):
        self.factor = self.add_weight(
            shape=(shape[-1],), initializer="random_normal", name="factor"
        )

    def call(self, x):
        return x * self.factor


def test_layers_that_hide_their_initializers_count_as_the_rest_of_the_backbone():
    def backbone(inputs, train=False):
        dense = layers.Dense(4, name="dense")
        y = Scale(name="scale")(dense(inputs))
        if train:
            dense.set_weights([w + 1 for w in dense.get_weights()])
        return y

    for train in (False, True):
        model = B.soft_sharing((5,), TASKS, backbone, backbone_options={"train": train})
        a, b = (model.get_layer(f"scale_{task}").factor.numpy() for task in ("cost", "sold"))
        assert np.array_equal(a, b) == train


@pytest.mark.parametrize(
    ("backbone", "spec", "options"),
    [
        ("small_cnn", (16, 16, 1), {"widths": (4, 8), "depth": 1}),
        ("transformer", {"tokens": (6,)}, {"vocabulary_size": 9, "dim": 8, "heads": 2}),
        ("lstm", {"tokens": (6,)}, {"vocabulary_size": 9, "units": 3}),
        ("deep_cross", (5,), {"rank": 2}),
        pytest.param(
            "mobilenet_v3_small",
            (32, 32, 3),
            {"minimalistic": True, "alpha": 0.5},
            marks=pytest.mark.large,
        ),
    ],
)
def test_backbones_without_weights_give_every_copy_values_of_its_own(backbone, spec, options):
    model = B.soft_sharing(spec, TASKS, backbone, backbone_options=options)
    drawn = 0
    for group in model.tie.groups:
        for a, b in zip(
            *(model.get_layer(name).trainable_variables for name in group), strict=True
        ):
            a, b = a.numpy(), b.numpy()
            if len(a.shape) > 1 and a.std() > 0:
                drawn += 1
                assert np.abs(a - b).max() > 1e-4, group
    assert drawn > 1


def test_factors_do_not_replace_trained_kernels_in_silence():
    def backbone(inputs):
        dense = layers.Dense(4, name="trained")
        y = dense(inputs)
        dense.set_weights([w + 1 for w in dense.get_weights()])
        return y

    with pytest.raises(ValueError, match="layer 'trained' of this backbone has trained weights"):
        B.tensor_factorized((5,), TASKS, backbone)
