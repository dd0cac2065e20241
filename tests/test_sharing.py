"""What tasks share: counts that can be checked by hand."""

import numpy as np
import pytest

import mtl_keras as mtl


def _two(**options):
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    settings = {"backbone": "mlp", "backbone_options": {"widths": (8, 6), "normalize": False}, **options}
    return tasks, settings


def test_variables_and_multiply_adds_are_counted_by_who_uses_them(tmp_path, capsys):
    tasks, settings = _two()
    model = mtl.builders.layerwise((5,), tasks, leaves={"cost": "stage1"}, **settings)
    report = model.summary_sharing(tmp_path / "sharing.png")
    both, cost, sold = ("cost", "sold"), ("cost",), ("sold",)
    assert report.multiply_adds == {both: 5 * 8, cost: 8, sold: 8 * 6 + 6}
    assert report.parameters == {both: 5 * 8 + 8, cost: 8 + 1, sold: 8 * 6 + 6 + 6 + 1}
    assert report.separate(report.multiply_adds) == {"cost": 48, "sold": 40 + 54}
    assert sum(report.parameters.values()) == model.count_params()
    assert ("mlp_stage1_dense/kernel", (5, 8), both) in report.variables
    printed = capsys.readouterr().out
    assert "mlp_stage2_dense/kernel" in printed and "shared by all" in printed and "separate networks" in printed
    assert (tmp_path / "sharing.png").read_bytes()[:4] == b"\x89PNG"


def test_separate_networks_share_nothing():
    tasks, settings = _two()
    model = mtl.builders.soft_sharing((5,), tasks, **settings)
    report = model.summary_sharing()
    assert set(report.parameters) == {("cost",), ("sold",)}
    assert report.rows()[-1][1:3] == ("1.000", "1.000")


def test_convolutions_depthwise_and_maps_are_counted():
    import keras

    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, 2, "same", name="c")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="d")(x)
    x = keras.layers.GlobalAveragePooling2D(name="p")(x)
    tasks, _ = _two()
    model = mtl.builders.hard_sharing(None, tasks, keras.Model(inputs, x))
    assert model.summary_sharing().multiply_adds == {
        ("cost", "sold"): 4 * 4 * 4 * 9 * 3 + 4 * 4 * 4 * 9,
        ("cost",): 4,
        ("sold",): 4,
    }


@pytest.mark.parametrize(("backbone", "gates"), [("lstm", 4), ("gru", 3)])
def test_recurrent_layers_are_seen_through_their_loops(backbone, gates):
    tasks = [mtl.tasks.TokenTagging("tag", 3), mtl.tasks.Binary("topic", hidden=0)]
    options = {"vocabulary_size": 10, "embedding_dim": 5, "units": 7}
    model = mtl.builders.hard_sharing({"tokens": (6,)}, tasks, backbone, backbone_options=options)
    report = model.summary_sharing()
    assert report.multiply_adds[("tag", "topic")] == 6 * gates * 7 * (5 + 7)
    assert report.multiply_adds[("tag",)] == 6 * 7 * 3 and report.multiply_adds[("topic",)] == 14
    shared = {path for path, _, users in report.variables if len(users) == 2}
    assert len(shared) == 4 and f"{backbone}_embedding/embeddings" in shared
    # The balancer sees the same.
    model.compile("sgd", balancer="cagrad")
    assert set(model.balancing_report().shared) == shared
    x, y = np.ones((4, 6), "int32"), {"tag": np.ones((4, 6), int), "topic": np.arange(4) % 2}
    assert np.isfinite(model.train_on_batch(x, y, return_dict=True)["loss"])


def test_experts_and_attention_are_counted():
    tasks, _ = _two()
    model = mtl.builders.mmoe((5,), tasks, experts=3, units=4)
    assert model.summary_sharing().multiply_adds == {("cost", "sold"): 5 * 3 * 4, ("cost",): 15 + 4, ("sold",): 15 + 4}
