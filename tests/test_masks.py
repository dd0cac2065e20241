"""Keras masks: padding counts neither in answers nor in losses and metrics, in Keras and in
exported files."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl

ROWS, TOKENS = 8, 6
OPTIONS = {
    "lstm": {"embedding_dim": 4, "units": 3},
    "gru": {"embedding_dim": 4, "units": 3},
    "bilstm": {"embedding_dim": 4, "units": 3},
    "text_cnn": {"embedding_dim": 4, "filters": 3},
    "transformer": {"dim": 8, "heads": 2, "hidden": 8},
}


def text_tasks():
    return [mtl.tasks.TokenTagging("tag", num_tags=3), mtl.tasks.Regression("length", hidden=0)]


def text_model(backbone, length, **options):
    """A tagger and a regression on one backbone, with weights that depend on the seed only."""
    keras.utils.set_random_seed(3)
    options = {"vocabulary_size": 20, **OPTIONS[backbone], **options}
    return mtl.builders.hard_sharing(
        {"tokens": (length,)}, text_tasks(), backbone, backbone_options=options
    )


def padded(tokens, length):
    return np.pad(tokens, [(0, 0), (0, length - tokens.shape[1])])


def tokens_of(lengths, width, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 20, (len(lengths), width)).astype("int32")
    return np.where(np.arange(width) < np.asarray(lengths)[:, None], tokens, 0)


def answers_of(model, tokens):
    return {name: np.asarray(value) for name, value in model(tokens).items()}


def copy_weights(model, source):
    """Weights of the same network for another length; learned positions are cut or filled up."""
    for old, new in zip(source.weights, model.weights, strict=True):
        value = old.numpy()
        if value.shape != tuple(new.shape):
            value = np.resize(value, new.shape)
        new.assign(value)


@pytest.mark.parametrize("backbone", OPTIONS)
def test_the_same_tokens_give_the_same_answers_whatever_they_are_padded_to(backbone):
    tokens = tokens_of([6, 6, 4, 1], TOKENS)
    base = text_model(backbone, TOKENS)
    # Weights that no initializer set to zero: biases and the vector of padding tell whether padding
    # is read.
    rng = np.random.default_rng(1)
    base.set_weights([rng.normal(0, 0.7, w.shape) for w in base.get_weights()])
    answers = answers_of(base, tokens)
    for length in (12, 40):
        model = text_model(backbone, length)
        copy_weights(model, base)
        longer = answers_of(model, padded(tokens, length))
        np.testing.assert_allclose(longer["length"], answers["length"], rtol=1e-4, atol=1e-5)
        real = tokens > 0
        np.testing.assert_allclose(
            longer["tag"][:, :TOKENS][real], answers["tag"][real], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("backbone", ["bilstm", "text_cnn"])
def test_a_row_of_nothing_but_padding_has_a_finite_answer_and_a_finite_loss(backbone):
    model = text_model(backbone, TOKENS)
    model.compile("sgd", run_eagerly=True)
    tokens = tokens_of([0, 3], TOKENS)
    answers = answers_of(model, tokens)
    assert all(np.isfinite(value).all() for value in answers.values())
    labels = {"tag": np.zeros((2, TOKENS), "int32"), "length": np.zeros(2, "float32")}
    losses = model.evaluate(tokens, labels, verbose=0)
    assert all(np.isfinite(losses[name]) for name in ("loss", "tag_loss", "length_loss"))


def masked_backbone(tokens):
    x = keras.layers.Embedding(20, 4, mask_zero=True, name="embedding")(tokens)
    return {"stage1": keras.layers.LSTM(5, return_sequences=True, name="states")(x)}


def plain_twin(model, metrics):
    """Plain Keras's model of the same layers."""
    plain = keras.Model(model.input, model.output)
    losses = {"tag": keras.losses.SparseCategoricalCrossentropy()}
    plain.compile(
        keras.optimizers.SGD(0.5), loss=losses, metrics={"tag": metrics}, run_eagerly=True
    )
    return plain


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_metrics_of_a_masked_sequence_are_those_of_plain_keras(weighted):
    tokens = tokens_of([1, 2, 6, 3, 5, 6, 4, 2], TOKENS)
    rng = np.random.default_rng(2)
    # Labels at padding too: it is the mask that leaves them out.
    labels = {"tag": rng.integers(0, 3, (ROWS, TOKENS)).astype("int32")}
    weight = rng.uniform(0.5, 2.0, ROWS).astype("float32") if weighted else None
    keras.utils.set_random_seed(0)
    task = mtl.tasks.TokenTagging("tag", num_tags=3, metrics=["accuracy"])
    model = mtl.builders.hard_sharing({"tokens": (TOKENS,)}, [task], masked_backbone)
    plain = keras.models.clone_model(model)
    plain = plain_twin(plain, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    plain.set_weights(model.get_weights())
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    # In float64, from the definition.
    p = answers_of(model, tokens)["tag"].astype("float64")
    picked = -np.log(np.take_along_axis(p, labels["tag"][..., None], -1)[..., 0])
    mask = (tokens > 0).astype("float64")
    by_row = np.ones(ROWS) if weight is None else weight.astype("float64")
    expected = (picked * mask * by_row[:, None]).sum() / mask.sum()
    ours = model.evaluate(tokens, labels, sample_weight=weight, batch_size=ROWS, verbose=0)
    # Plain Keras can't join a weight per row with a mask of tokens; a weight per token says the
    # same.
    by_token = None if weight is None else {"tag": np.repeat(weight[:, None], TOKENS, 1)}
    theirs = plain.evaluate(
        tokens, labels, sample_weight=by_token, batch_size=ROWS, verbose=0, return_dict=True
    )
    assert ours["tag_loss"] == pytest.approx(expected, rel=1e-5)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    right = (p.argmax(-1) == labels["tag"]) * mask
    assert ours["tag_accuracy"] == pytest.approx(right.sum() / mask.sum(), rel=1e-5)
    if not weighted:
        assert ours["tag_accuracy"] == pytest.approx(
            theirs["accuracy" if "accuracy" in theirs else "tag_accuracy"]
        )
    for each, weights in ((model, weight), (plain, by_token)):
        each.fit(
            tokens,
            labels,
            sample_weight=weights,
            batch_size=ROWS,
            shuffle=False,
            epochs=2,
            verbose=0,
        )
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_labels_that_are_missing_and_places_that_are_masked_are_both_left_out():
    tokens = tokens_of([3, 6], TOKENS)
    labels = np.array([[0, -1, 2, 1, 1, 1], [1, 1, -1, 0, 2, 0]], "int32")
    model = mtl.builders.hard_sharing(
        {"tokens": (TOKENS,)}, [mtl.tasks.TokenTagging("tag", num_tags=3)], masked_backbone
    )
    model.compile("sgd", run_eagerly=True)
    p = answers_of(model, tokens)["tag"].astype("float64")
    counts = (tokens > 0) & (labels >= 0)
    expected = -np.log(np.take_along_axis(p, np.maximum(labels, 0)[..., None], -1)[..., 0])[
        counts
    ].mean()
    found = model.evaluate(tokens, {"tag": labels}, verbose=0)
    assert found["tag_loss"] == pytest.approx(expected, rel=1e-5)
    assert found["tag_accuracy"] == pytest.approx((p.argmax(-1) == labels)[counts].mean(), rel=1e-5)


def test_elements_that_a_loss_leaves_out_are_left_out_of_its_mean():
    labels = np.array([[0, 1, 1, 2, 2, 0]], "int32")
    task = mtl.tasks.TokenTagging(
        "tag", num_tags=3, loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    )
    model = mtl.builders.hard_sharing(
        {"tokens": (TOKENS,)}, [task], "transformer", backbone_options={"vocabulary_size": 20}
    )
    model.compile("sgd", run_eagerly=True)
    tokens = tokens_of([5], TOKENS)
    p = answers_of(model, tokens)["tag"].astype("float64")
    counts = (tokens > 0) & (labels != 2)
    expected = -np.log(np.take_along_axis(p, labels[..., None], -1)[..., 0])[counts].mean()
    found = model.evaluate(tokens, {"tag": labels}, verbose=0)["tag_loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_masks_reach_heads_in_mixed_precision():
    tokens = tokens_of([2, 6], TOKENS)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = mtl.builders.hard_sharing(
            {"tokens": (TOKENS,)}, text_tasks()[:1], "gru", backbone_options={"vocabulary_size": 20}
        )
        output = model(tokens)["tag"]
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    np.testing.assert_array_equal(np.asarray(output._keras_mask), tokens > 0)


def pair_of(builder, length):
    keras.utils.set_random_seed(4)
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    options = {"vocabulary_size": 20, **OPTIONS["gru"], "units": 4}
    extra = {
        "hierarchical": {"task_stages": {"sold": "stage1"}},
        "task_gated": {"channels": 4, "stages": ["stage1"]},
    }
    extra = {"sluice": {"subspaces": 2}, **extra}.get(builder, {})
    return getattr(mtl.builders, builder)(
        {"tokens": (length,)}, tasks, "gru", backbone_options=options, **extra
    )


@pytest.mark.parametrize(
    "builder",
    [
        "mtan",
        *(
            pytest.param(b, marks=pytest.mark.large)
            for b in ("hierarchical", "task_gated", "sluice", "cross_stitch")
        ),
    ],
)
@pytest.mark.filterwarnings("error:Layer .* does not support masking")
def test_sharing_along_a_sequence_leaves_padding_out(builder):
    tokens = tokens_of([6, 4, 1], TOKENS)
    short, long = pair_of(builder, TOKENS), pair_of(builder, 12)
    rng = np.random.default_rng(1)
    weights = [
        w + rng.normal(0, 0.3, w.shape) if w.dtype.kind == "f" else w for w in short.get_weights()
    ]
    short.set_weights(
        [
            np.abs(w) if "variance" in v.path else w
            for v, w in zip(short.weights, weights, strict=True)
        ]
    )
    copy_weights(long, short)
    answers, longer = answers_of(short, tokens), answers_of(long, padded(tokens, 12))
    for name, value in answers.items():
        np.testing.assert_allclose(longer[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.large
def test_a_pooled_head_reads_the_mask_also_from_exported_features(tmp_path):
    model, tokens = pair_of("hierarchical", TOKENS), tokens_of([6, 4, 1, 2], TOKENS)
    answers = answers_of(model, tokens)
    # Every file is compared with the network before the call returns.
    mtl.export.tflite(
        model, tmp_path / "model.tflite", samples={"tokens": tokens}, signatures="features"
    )
    file = mtl.export.TFLiteModel(tmp_path / "model.tflite")
    known = {"tokens": tokens, **file.run({"tokens": tokens}, "features")}
    for name, value in answers.items():
        np.testing.assert_allclose(file.run({"tokens": tokens})[name], value, rtol=1e-4, atol=1e-5)
        signature = f"{name}_from_features"
        taken = file.interpreter.get_signature_list()[signature]["inputs"]
        found = file.run({key: known[key] for key in taken}, signature)[name]
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("backbone", OPTIONS)
def test_masked_answers_are_the_same_after_reloading_and_in_every_file(backbone, tmp_path):
    model, tokens = text_model(backbone, 8), tokens_of([8, 5, 3, 1, 6, 2, 4, 8], 8)
    model.compile("adam")
    model.fit(
        tokens,
        {"tag": tokens % 3, "length": (tokens > 0).sum(1).astype("float32")},
        epochs=2,
        verbose=0,
    )
    answers = answers_of(model, tokens)
    model.save(tmp_path / "model.keras")
    loaded = answers_of(keras.saving.load_model(tmp_path / "model.keras"), tokens)
    mtl.export.saved_model(model, tmp_path / "saved", samples={"tokens": tokens})
    for quantization, tolerance in ((None, 1e-5), ("dynamic", 0.03)):
        mtl.export.tflite(
            model, tmp_path / "model.tflite", quantization, samples={"tokens": tokens}
        )
        file = mtl.export.TFLiteModel(tmp_path / "model.tflite").run({"tokens": tokens})
        real = tokens > 0
        np.testing.assert_allclose(file["tag"][real], answers["tag"][real], atol=tolerance)
        np.testing.assert_allclose(file["length"], answers["length"], atol=10 * tolerance)
    for name, value in answers.items():
        np.testing.assert_allclose(loaded[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.large
@pytest.mark.parametrize("backbone", ["gru", "lstm", "text_cnn", "transformer"])
def test_masks_cost_int8_no_accuracy(backbone, tmp_path):
    options = {"unroll": True} if backbone in ("gru", "lstm") else {}
    model, tokens = (
        text_model(backbone, 8, **options),
        tokens_of(np.random.default_rng(0).integers(1, 9, 256), 8),
    )
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(
        tokens,
        {"tag": tokens % 3, "length": (tokens > 0).sum(1).astype("float32")},
        epochs=10,
        verbose=0,
    )
    data = {"tokens": tokens}
    mtl.export.tflite(model, tmp_path / "model.tflite", "int8", calibration=data, samples=data)
    answers, file = (
        answers_of(model, tokens),
        mtl.export.TFLiteModel(tmp_path / "model.tflite").run(data),
    )
    real = tokens > 0
    # Of 256 steps over the head's range, a few.
    assert np.abs(file["tag"] - answers["tag"])[real].mean() < 0.03
    assert np.abs(file["length"] - answers["length"]).mean() < 0.03 * np.ptp(answers["length"])


@pytest.mark.parametrize("backbone", ["lstm", "gru", "bilstm", "text_cnn"])
def test_networks_trained_without_masks_are_built_as_they_were(backbone):
    """By hand, the graph of earlier versions: weights trained in it give their old answers."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32")
    model = getattr(mtl.backbones, backbone)(tokens, 20, **OPTIONS[backbone], mask_padding=False)
    names = [layer.name.removeprefix(f"{backbone}_") for layer in model.layers]
    assert not {"mask", "masked"} & set(names)
    x = tokens_of([6, 2], 6)
    stages = {name: np.asarray(value) for name, value in model(x).items()}
    # The largest value is taken over padding too.
    width = stages["stage1"].shape[-1]
    np.testing.assert_allclose(stages["stage2"][:, :width], stages["stage1"].max(1), rtol=1e-6)
    masked = getattr(mtl.backbones, backbone)(tokens, 20, **OPTIONS[backbone])
    masked.set_weights(model.get_weights())
    other = {name: np.asarray(value) for name, value in masked(x).items()}
    np.testing.assert_allclose(other["stage2"][0], stages["stage2"][0], rtol=1e-5, atol=1e-6)
    assert np.abs(other["stage2"][1] - stages["stage2"][1]).max() > 1e-5
