"""Tasks at their stages, masks, gates between tasks, adapters: formulas, limits, and what reaches
what."""

import keras
import numpy as np
import pytest
from helpers import image_data

import mtl_keras as mtl

B = mtl.builders
CNN = {"backbone_options": {"widths": (4, 8), "depth": 2}}
MLP = {"backbone": "mlp", "backbone_options": {"widths": (8, 6), "normalize": False}}


def tasks():
    return [
        mtl.tasks.Classification("kind", 3, hidden=0),
        mtl.tasks.Segmentation("mask", channels=4),
    ]


def numbers():
    return [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]


def _shared(model):
    model.compile("sgd", balancer="cagrad")
    return set(model.balancing_report().shared)


# ------------------------------------------------------------------ layerwise
def test_a_task_leaves_at_its_stage_and_does_not_reach_what_lies_behind():
    model = B.layerwise((5,), numbers(), task_stages={"cost": "stage1"}, **MLP)
    assert _shared(model) == {"mlp_stage1_dense/kernel", "mlp_stage1_dense/bias"}
    assert model.get_layer("cost_linear").kernel.shape == (8, 1)
    assert model.get_layer("sold_linear").kernel.shape == (6, 1)


def test_leaving_at_the_end_is_hard_sharing():
    x = np.random.default_rng(0).random((4, 5)).astype("float32")
    a = B.layerwise((5,), numbers(), task_stages={}, **MLP)
    b = B.hard_sharing((5,), numbers(), **MLP)
    b.set_weights(a.get_weights())
    np.testing.assert_array_equal(a.predict(x, verbose=0)["cost"], b.predict(x, verbose=0)["cost"])


# ------------------------------------------------------------------ hierarchical
def test_predictions_are_fed_upward_as_the_formula_says():
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    model = B.hierarchical((5,), numbers(), task_stages={"sold": "stage1"}, name="h", **MLP)

    def dense(name, z):
        kernel, bias = model.get_layer(name).get_weights()
        return z @ kernel + bias

    first = np.maximum(dense("mlp_stage1_dense", x), 0)
    sold = 1 / (1 + np.exp(-dense("sold_linear", first)))
    second = np.maximum(dense("mlp_stage2_dense", first + dense("h_sold_project", sold)), 0)
    out = model.predict(x, verbose=0)
    np.testing.assert_allclose(out["sold"], sold, rtol=1e-4)
    np.testing.assert_allclose(out["cost"], dense("cost_linear", second), rtol=1e-4, atol=1e-5)
    # The later task's gradient flows back through the prediction of the earlier.
    assert "sold_linear/kernel" in _shared(model)


def test_without_feeding_it_is_layerwise():
    model = B.hierarchical(
        (5,), numbers(), task_stages={"sold": "stage1"}, feed_predictions=False, **MLP
    )
    other = B.layerwise((5,), numbers(), task_stages={"sold": "stage1"}, **MLP)
    assert model.count_params() == other.count_params()
    assert _shared(model) == _shared(other)


def test_maps_and_tags_are_fed_upward_in_place():
    model = B.hierarchical((16, 16, 1), tasks(), task_stages={"mask": "stage1"}, name="h", **CNN)
    assert model.get_layer("h_mask_project").output.shape == (None, 8, 8, 4)
    words = [mtl.tasks.TokenTagging("pos", 4), mtl.tasks.Binary("topic", hidden=0)]
    options = {"vocabulary_size": 9, "dim": 8, "heads": 2, "hidden": 8}
    model = B.hierarchical(
        {"tokens": (6,)},
        words,
        "transformer",
        task_stages={"pos": "stage1"},
        backbone_options=options,
        name="h",
    )
    assert model.get_layer("h_pos_project").output.shape == (None, 6, 8)
    assert model.predict(np.ones((2, 6), "int32"), verbose=0)["pos"].shape == (2, 6, 4)


# ------------------------------------------------------------------ MTAN
def test_masks_lie_between_zero_and_one_and_multiply_the_shared_features():
    x, _ = image_data(4)
    model = B.mtan((16, 16, 1), tasks(), name="a", **CNN)
    for stage, relu in (
        ("stage1", "small_cnn_stage1_block2_relu"),
        ("stage2", "small_cnn_stage2_block2_relu"),
    ):
        for task in ("kind", "mask"):
            outputs = [
                model.get_layer(n).output
                for n in (f"a_{stage}_{task}_mask", relu, f"a_{stage}_{task}")
            ]
            mask, shared, attended = keras.Model(model.input, outputs).predict(x, verbose=0)
            assert mask.min() >= 0 and mask.max() <= 1
            np.testing.assert_allclose(attended, mask * shared, rtol=1e-5, atol=1e-6)


def test_attention_looks_at_the_stages_first_features_and_belongs_to_its_task():
    model = B.mtan((16, 16, 1), tasks(), name="a", **CNN)
    # u of stage 1 is the first block's activation, of 4 channels; stage 2 also sees what stage 1
    # attended to.
    before = model.get_layer("a_stage1_kind_a_linear").input
    assert before._keras_history.operation.name == "small_cnn_stage1_block1_relu"
    assert model.get_layer("a_stage2_kind_a_linear").kernel.shape == (1, 1, 8 + 8, 8)
    shared = _shared(model)
    assert shared and all(path.startswith("small_cnn_") for path in shared)


# ------------------------------------------------------------------ gates between tasks
def test_tasks_take_from_each_other_what_their_gates_let_in():
    x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
    model = B.task_gated((5,), numbers(), channels=3, name="g", **MLP)
    names = [
        f"g_stage2_{t}_{part}" for t in ("cost", "sold") for part in ("own_relu", "gate", "give")
    ]
    outputs = {n: model.get_layer(n).output for n in [*names, "g_stage2_cost", "g_stage2_sold"]}
    f = keras.Model(model.input, outputs).predict(x, verbose=0)
    for task, other in (("cost", "sold"), ("sold", "cost")):
        expected = (
            f[f"g_stage2_{task}_own_relu"]
            + f[f"g_stage2_{task}_gate"] * f[f"g_stage2_{other}_give"]
        )
        np.testing.assert_allclose(f[f"g_stage2_{task}"], expected, rtol=1e-5, atol=1e-6)
    assert f["g_stage2_cost_gate"].min() >= 0 and f["g_stage2_cost_gate"].max() <= 1


def test_several_scales_go_up_from_the_deepest():
    model = B.task_gated(
        (16, 16, 1), tasks(), channels=4, stages=["stage1", "stage2"], name="g", **CNN
    )
    assert model.get_layer("g_stage1_mask_up").output.shape == (None, 8, 8, 4)
    assert model.get_layer("g_stage1_mask_own_linear").kernel.shape == (3, 3, 4 + 4, 4)
    assert model.get_layer("g_stage2_mask_own_linear").kernel.shape == (3, 3, 8, 4)


def test_one_task_has_nobody_to_take_from():
    model = B.task_gated((5,), numbers()[:1], channels=3, name="g", **MLP)
    assert not [
        layer.name
        for layer in model.layers
        if layer.name.endswith("_give") and layer.name in str(model.outputs)
    ]
    assert model.predict(np.ones((2, 5)), verbose=0)["cost"].shape == (2, 1)


# ------------------------------------------------------------------ adapters
@pytest.mark.parametrize(
    ("kind", "count"),
    [("residual", lambda c: (c + 1) * 2 + (2 + 1) * c), ("film", lambda c: 2 * c)],
)
def test_adapters_start_as_hard_sharing_and_cost_what_they_say(kind, count):
    x = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
    model = B.adapters((5,), numbers(), adapter=kind, units=2, **MLP)
    hard = B.hard_sharing((5,), numbers(), **MLP)
    for layer in hard.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    a, b = model.predict(x, verbose=0), hard.predict(x, verbose=0)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6)
    assert model.count_params() == hard.count_params() + 2 * (count(8) + count(6))
    shared = _shared(model)
    assert shared == {f"mlp_stage{i}_dense/{part}" for i in (1, 2) for part in ("kernel", "bias")}


def test_adapters_stand_only_where_they_were_asked_for():
    model = B.adapters((5,), numbers(), stages=["stage2"], units=2, name="a", **MLP)
    assert {layer.name for layer in model.layers if layer.name.endswith("_down")} == {
        "a_stage2_cost_down",
        "a_stage2_sold_down",
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: B.layerwise((5,), numbers(), task_stages={"cost": "stage3"}, **MLP),
            "of task 'cost'.*'stage3'.*stage1, stage2",
        ),
        (
            lambda: B.layerwise((5,), numbers(), task_stages={"coast": "stage1"}, **MLP),
            "Did you mean 'cost'",
        ),
        (
            lambda: B.hierarchical(
                (5,), numbers(), lambda i: keras.layers.Dense(3)(i), task_stages={"cost": "stage1"}
            ),
            "has only one",
        ),
        (
            lambda: B.task_gated((5,), numbers(), channels=0, **MLP),
            "`channels` should be a whole number >= 1",
        ),
        (lambda: B.task_gated((5,), numbers(), stages=["top"], **MLP), "`stages`.*'top'"),
        (
            lambda: B.adapters((5,), numbers(), adapter="lora", **MLP),
            "adapter 'lora'.*film, residual",
        ),
        (lambda: B.adapters((5,), numbers(), stages=["stage0"], **MLP), "`stages`.*'stage0'"),
    ],
)
def test_bad_input_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
