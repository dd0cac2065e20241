"""Learned branching, and networks whose stacked weights are factorized."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, table_data

import mtl_keras as mtl
from mtl_keras.builders.branching import count_copies

TASKS = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
MLP = {"backbone": "mlp", "backbone_options": {"widths": (8, 6), "normalize": False}}
B = mtl.builders


# ------------------------------------------------------------------ learned branching
def test_nothing_is_random_at_inference_and_something_is_in_training():
    x, _ = table_data()
    model = B.learned_branching((5,), TASKS, **MLP)
    a, b = (model(x, training=False)["cost"].numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    a, b = (model(x, training=True)["cost"].numpy() for _ in range(2))
    assert np.abs(a - b).max() > 1e-6


def test_at_inference_a_head_follows_the_most_probable_path():
    x, _ = table_data()
    model = B.learned_branching((5,), TASKS, branches=3, name="b", **MLP)
    ends, middle = model.get_layer("b_stage2"), model.get_layer("b_stage1")
    ends.logits[0].assign([0.0, 0.1, 3.0])
    ends.logits[1].assign([1.0, 0.0, 0.0])
    middle.logits[2].assign([0.0, 2.0, 0.0])
    middle.logits[0].assign([0.0, 0.0, 0.5])
    assert B.branches(model) == {"cost": ["stage1 1", "stage2 2"], "sold": ["stage1 2", "stage2 0"]}

    def dense(name, z):
        kernel, bias = model.get_layer(name).get_weights()
        return z @ kernel + bias

    z = np.maximum(dense("mlp_stage1_dense_branch1", x), 0)
    z = np.maximum(dense("mlp_stage2_dense_branch2", z), 0)
    np.testing.assert_allclose(
        model.predict(x, verbose=0)["cost"], dense("cost_linear", z), rtol=1e-4, atol=1e-5
    )


def test_earlier_stages_are_those_of_the_path():
    x, _ = image_data(2)
    tasks = [mtl.tasks.Segmentation("mask", channels=4), mtl.tasks.Binary("cat", hidden=0)]
    options = {"widths": (4, 8), "depth": 1}
    model = B.learned_branching((16, 16, 1), tasks, backbone_options=options, name="b")
    model.get_layer("b_stage2").logits[0].assign([0.0, 1.0])
    model.get_layer("b_stage1").logits[0].assign([0.0, 1.0])
    # The head is on the second copy of stage 2, and that one on the first copy of stage 1.
    path = model.get_layer("b_stage1_path")
    taken, copies = keras.Model(
        model.input, [path.output[0], model.get_layer("b_stage1").input[0]]
    ).predict(x, verbose=0)
    np.testing.assert_allclose(taken, copies, rtol=1e-6)


@pytest.mark.large
def test_choices_are_samples_of_the_gumbel_softmax():
    layer = mtl.layers.BranchChoice(
        2, temperature=0.1, min_temperature=0.1, temperature_decay=1.0, seed=1
    )
    layer.build([(None, 4)] * 3)
    layer.logits[0].assign(np.log([0.2, 0.3, 0.5]))
    drawn = np.stack([np.asarray(layer.shares(training=True)) for _ in range(2000)])
    np.testing.assert_allclose(drawn.sum(-1), 1.0, rtol=1e-5)
    # The largest entry of a Gumbel-softmax sample is distributed as the softmax of the logits.
    first = np.bincount(drawn[:, 0].argmax(-1), minlength=3) / 2000
    np.testing.assert_allclose(first, [0.2, 0.3, 0.5], atol=0.04)
    np.testing.assert_allclose(
        np.bincount(drawn[:, 1].argmax(-1), minlength=3) / 2000, 1 / 3, atol=0.04
    )


def test_warm_up_takes_all_parents_alike_and_the_temperature_falls():
    layer = mtl.layers.BranchChoice(
        1, temperature=4.0, temperature_decay=0.5, min_temperature=1.0, warmup_steps=2
    )
    x = [np.zeros((1, 1), "float32"), np.ones((1, 1), "float32")]
    assert [float(layer(x, training=True)[0][0, 0]) for _ in range(2)] == [0.5, 0.5]
    assert float(layer(x, training=True)[0][0, 0]) != 0.5
    assert int(layer.steps) == 3


@pytest.mark.large
def test_training_chooses_the_parent_that_serves():
    # One parent is the answer, the other noise.
    rng = np.random.default_rng(0)
    good = rng.standard_normal((64, 1)).astype("float32")
    layer = mtl.layers.BranchChoice(
        1, temperature=2.0, min_temperature=0.5, temperature_decay=0.99, seed=3
    )
    layer.build([(None, 1)] * 2)
    optimizer = keras.optimizers.Adam(0.05)
    for _ in range(150):
        noise = rng.standard_normal((64, 1)).astype("float32")
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer([noise, good], training=True)[0] - good) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, layer.logits), layer.logits, strict=True))
    assert np.asarray(layer.shares())[0].tolist() == [0.0, 1.0]


def _decided(shape=(16, 16, 1), backbone="small_cnn", **options):
    """A network whose two tasks part after the first stage, and in the first stage follow the
    second copy."""
    tasks = [mtl.tasks.Segmentation("mask", channels=4), mtl.tasks.Binary("cat", hidden=0)]
    model = B.learned_branching(
        shape, tasks, backbone, backbone_options={"widths": (4, 8), "depth": 1, **options}, name="b"
    )
    model.get_layer("b_stage2").logits[1].assign([0.0, 1.0])
    for row in model.get_layer("b_stage1").logits:
        row.assign([0.0, 1.0])
    # Statistics of normalization that tell copies apart.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(
                np.random.default_rng(len(layer.name)).random(layer.moving_mean.shape)
            )
    return model


@pytest.mark.large
def test_the_pruned_network_is_the_tree_and_answers_the_same(tmp_path):
    x, _ = image_data(4)
    model = _decided()
    tree = B.prune(model)
    assert B.branches(model) == {"mask": ["stage1 1", "stage2 0"], "cat": ["stage1 1", "stage2 1"]}
    convolutions = {
        layer.name for layer in tree.layers if layer.name.endswith(("conv_branch0", "conv_branch1"))
    }
    assert convolutions == {
        "small_cnn_stage1_block1_conv_branch1",
        "small_cnn_stage2_block1_conv_branch0",
        "small_cnn_stage2_block1_conv_branch1",
    }
    assert not any(
        isinstance(layer, (mtl.layers.BranchChoice, mtl.layers.BranchPath)) for layer in tree.layers
    )
    whole = model.predict(x, verbose=0)
    for task, value in tree.predict(x, verbose=0).items():
        np.testing.assert_allclose(value, whole[task], rtol=1e-5, atol=1e-6)
    # One copy of the first stage, whose users are both tasks; what is counted shrinks by the other
    # one.
    before, after = model.summary_sharing(), tree.summary_sharing()
    stage = 8 * 8 * 9 * 4
    # Of both second stages each is one task's.
    assert after.multiply_adds[("mask", "cat")] == stage
    assert sum(before.multiply_adds.values()) - sum(after.multiply_adds.values()) >= stage
    assert tree.count_params() < model.count_params()
    tree.save(tmp_path / "tree.keras")
    loaded = keras.saving.load_model(tmp_path / "tree.keras", safe_mode=True)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["cat"], whole["cat"], rtol=1e-5, atol=1e-6
    )


def _heads_alike(answers, expected, tolerance=1e-5):
    assert list(answers) == list(expected)
    for task, value in expected.items():
        np.testing.assert_allclose(answers[task], value, rtol=tolerance, atol=tolerance)


@pytest.mark.large
def test_the_exported_file_of_an_unpruned_network_is_the_tree(tmp_path):
    x, _ = image_data(4)
    model = _decided()
    expected = model.predict(x, verbose=0)
    report = mtl.export.tflite(model, tmp_path / "model.tflite", samples=x)
    pruned = mtl.export.tflite(B.prune(model), tmp_path / "tree.tflite", samples=x)
    assert (report.size, report.ops) == (pruned.size, pruned.ops)
    assert report.notes == [
        "learned branches: the file holds the 3 of 4 copies of stages that a task follows"
    ]
    assert pruned.notes == []
    file = mtl.export.TFLiteModel(tmp_path / "model.tflite")
    _heads_alike(file.run({model.inputs[0].name: x}), expected)
    # What is exported is another network: this one still has its copies, and trains on.
    assert count_copies(model) == (3, 4)
    _heads_alike(model.predict(x, verbose=0), expected, 0)


@pytest.mark.large
@pytest.mark.parametrize("form", ["saved_model", "onnx", "openvino", "int8", "one task", "aware"])
def test_every_export_of_an_unpruned_network_is_the_tree(form, tmp_path):
    x, _ = image_data(64)
    model = _decided()
    if form in ("int8", "aware"):
        # Int8 kernels refuse the odd statistics that tell copies apart.
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
    tree = B.prune(model)

    def export(network, name):
        if form == "aware":
            network = mtl.export.quantization_aware(network)
        if form in ("int8", "aware"):
            return mtl.export.tflite(network, tmp_path / f"{name}.tflite", "int8", calibration=x)
        if form == "one task":
            return mtl.export.tflite(network, tmp_path / f"{name}.tflite", samples=x, tasks="cat")
        suffix = {"saved_model": "", "onnx": ".onnx", "openvino": ".xml"}[form]
        return getattr(mtl.export, form)(network, tmp_path / f"{name}{suffix}", samples=x)

    unpruned, pruned = export(model, "model"), export(tree, "other")
    # Both compare their file with Keras; names in the graph may differ in length.
    assert abs(unpruned.size - pruned.size) < 0.02 * pruned.size
    assert "3 of 4 copies" in unpruned.notes[0] and pruned.notes == []


@pytest.mark.parametrize("choose", [0, 1])
def test_copies_are_counted_as_the_tree_has_them(choose):
    """Beside the layers of the tree itself: one convolution per copy of a stage."""
    model = _decided()
    for row in (*model.get_layer("b_stage1").logits, *model.get_layer("b_stage2").logits):
        row.assign(np.eye(2)[choose])
    used, total = count_copies(model)
    names = {layer.name for layer in B.prune(model).layers}
    assert used == sum("_block1_conv_" in name for name in names) == 2
    assert total == sum("_block1_conv_" in layer.name for layer in model.layers) == 4
    assert count_copies(B.prune(model)) is None


@pytest.mark.large
def test_training_the_tree_leaves_the_network_it_was_cut_from_alone():
    x, y = table_data()
    model = B.learned_branching((5,), TASKS, **MLP)
    tree = B.prune(model)
    before = model.get_weights()
    tree.compile(keras.optimizers.SGD(0.1), balancer="cagrad")
    tree.fit(x, y, epochs=1, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    # All on one path, as nothing was learned: the tree is hard sharing.
    hard = B.hard_sharing((5,), TASKS, **MLP)
    assert tree.count_params() == hard.count_params()
    assert tree.summary_sharing().multiply_adds == hard.summary_sharing().multiply_adds


@pytest.mark.large
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_branches_are_learned_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    x, y = table_data()
    model = B.learned_branching((5,), TASKS, name="b", **MLP)
    choice = model.get_layer("b_stage2")
    choice.steps.assign(4000.0)
    model.compile("adam")
    assert np.isfinite(model.fit(x, y, epochs=2, batch_size=16, verbose=0).history["loss"]).all()
    # Half floats can't count on from 2048.
    assert float(choice.steps) == 4004.0
    assert any(np.abs(row.numpy()).max() > 0 for row in choice.logits)
    assert all(row.dtype == "float32" for row in choice.logits)
    tree, whole = B.prune(model).predict(x, verbose=0), model.predict(x, verbose=0)
    np.testing.assert_allclose(tree["cost"], whole["cost"], rtol=1e-2, atol=1e-2)


@pytest.mark.large
def test_a_mask_of_padding_may_go_around_the_stages_and_learned_features_may_not():
    options = {"vocabulary_size": 9, "dim": 8, "heads": 2, "blocks": 2}
    model = B.learned_branching({"tokens": (6,)}, TASKS, "transformer", backbone_options=options)
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]])
    tree, whole = B.prune(model).predict(x, verbose=0), model.predict(x, verbose=0)
    np.testing.assert_allclose(tree["cost"], whole["cost"], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ tensor factorization
@pytest.mark.parametrize("factorization", ["tucker", "tensor_train", "last_axis"])
def test_kernels_are_slices_of_the_tensor_that_the_factors_make(factorization):
    layer = mtl.layers.FactorizedDense(4, ["a", "b", "c"], factorization, rank=2, task_rank=2)
    x = [np.random.default_rng(i).standard_normal((5, 6)).astype("float32") for i in range(3)]
    y = layer(x)
    rows = np.stack([row.numpy() for row in layer.rows])
    core = layer.core.numpy()
    if factorization == "tucker":
        tensor = np.einsum("xyk,ix,oy,tk->iot", core, layer.into.numpy(), layer.out.numpy(), rows)
    elif factorization == "tensor_train":
        tensor = np.einsum("xok,ix,tk->iot", core, layer.into.numpy(), rows)
    else:
        tensor = np.einsum("iok,tk->iot", core, rows)
    for t in range(3):
        np.testing.assert_allclose(y[t], x[t] @ tensor[..., t], rtol=1e-3, atol=1e-5)
    # The rank over tasks is that of the last factor.
    assert np.linalg.matrix_rank(tensor.reshape(-1, 3).astype("float64"), tol=1e-5) == 2


@pytest.mark.parametrize(
    ("factorization", "count"),
    [
        ("tucker", lambda n, m, r, k: r * r * k + n * r + m * r + 2 * k),
        ("tensor_train", lambda n, m, r, k: n * r + r * m * k + 2 * k),
        ("last_axis", lambda n, m, r, k: n * m * k + 2 * k),
    ],
)
def test_the_number_of_parameters_is_that_of_the_formula(factorization, count):
    model = B.tensor_factorized(
        (5,), TASKS, factorization=factorization, rank=3, task_rank=1, **MLP
    )
    biases, heads = 2 * (8 + 6), 2 * 7
    assert model.count_params() == count(5, 8, 3, 1) + count(8, 6, 3, 1) + biases + heads


def test_convolutions_are_those_of_keras_with_the_composed_kernels():
    x = [np.random.default_rng(i).random((2, 9, 8, 3)).astype("float32") for i in range(2)]
    for padding, strides in (("same", 2), ("valid", 1)):
        layer = mtl.layers.FactorizedConv2D(
            4, 3, ["a", "b"], strides=strides, padding=padding, rank=2
        )
        y = layer(x)
        plain = keras.layers.Conv2D(4, 3, strides, padding)
        plain.build(x[0].shape)
        plain.set_weights([np.reshape(layer.kernels()[1], (3, 3, 3, 4)), layer.biases[1].numpy()])
        np.testing.assert_allclose(y[1], plain(x[1]), rtol=1e-4, atol=1e-5)
        assert [tuple(s) for s in layer.compute_output_shape([v.shape for v in x])] == [
            tuple(v.shape) for v in y
        ]


def test_convolutions_over_sequences_are_those_of_keras():
    x = [np.random.default_rng(i).random((2, 9, 3)).astype("float32") for i in range(2)]
    layer = mtl.layers.FactorizedConv1D(4, 3, ["a", "b"], padding="same", rank=2)
    plain = keras.layers.Conv1D(4, 3, padding="same")
    plain.build(x[0].shape)
    y = layer(x)
    plain.set_weights([np.reshape(layer.kernels()[0], (3, 3, 4)), layer.biases[0].numpy()])
    np.testing.assert_allclose(y[0], plain(x[0]), rtol=1e-4, atol=1e-5)


def test_factors_are_shared_and_rows_and_biases_are_the_tasks_own():
    model = B.tensor_factorized((5,), TASKS, **MLP)
    model.compile("sgd", balancer="cagrad")
    shared = set(model.balancing_report().shared)
    assert shared == {
        f"mlp_stage{i}_dense/{part}" for i in (1, 2) for part in ("core", "in", "out")
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: B.learned_branching((5,), TASKS, branches=0, **MLP), "at least one branch, got 0"),
        (
            lambda: B.learned_branching((5,), TASKS, min_temperature=9.0, **MLP),
            "min_temperature <= temperature",
        ),
        (
            lambda: B.learned_branching(
                (6,), TASKS, "lstm", backbone_options={"vocabulary_size": 9}
            ),
            "goes around stage1 .states of a recurrent layer",
        ),
        (
            lambda: B.learned_branching((5,), TASKS, "deep_cross"),
            "goes around stage1, stage2, stage3",
        ),
        (
            lambda: B.learned_branching((16, 16, 1), TASKS, "fpn"),
            "goes around stage1, stage2 .*pyramid",
        ),
        (lambda: B.prune(B.hard_sharing((5,), TASKS, **MLP)), "has no branches to show"),
        (
            lambda: B.hierarchical((16, 16, 1), TASKS, "fpn", task_stages={"cost": "stage1"}),
            "no other stage is computed from 'stage1'",
        ),
        (lambda: B.branches(B.hard_sharing((5,), TASKS, **MLP)), "has no branches to show"),
        (
            lambda: B.tensor_factorized((5,), TASKS, factorization="cp", **MLP),
            "Unknown factorization 'cp'",
        ),
        (lambda: B.tensor_factorized((5,), TASKS, task_rank=3, **MLP), "1 <= task_rank <= 2"),
        (
            lambda: B.tensor_factorized(
                (5,), TASKS, lambda i: keras.layers.BatchNormalization()(i)
            ),
            "the backbone has none; its layers with weights are BatchNormalization",
        ),
        (
            lambda: B.tensor_factorized(None, TASKS, mtl.backbones.mlp(keras.Input((5,)))),
            "makes the kernels of the backbone anew",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
