"""What tasks share: counts that can be checked by hand."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl


def _two(**options):
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    settings = {
        "backbone": "mlp",
        "backbone_options": {"widths": (8, 6), "normalize": False},
        **options,
    }
    return tasks, settings


def test_variables_and_multiply_adds_are_counted_by_who_uses_them(tmp_path, capsys):
    tasks, settings = _two()
    model = mtl.builders.layerwise((5,), tasks, task_stages={"cost": "stage1"}, **settings)
    report = model.summary_sharing(tmp_path / "sharing.png")
    both, cost, sold = ("cost", "sold"), ("cost",), ("sold",)
    assert report.multiply_adds == {both: 5 * 8, cost: 8, sold: 8 * 6 + 6}
    assert report.parameters == {both: 5 * 8 + 8, cost: 8 + 1, sold: 8 * 6 + 6 + 6 + 1}
    # A separate network has the whole backbone, whatever the stage at which the task leaves it
    # here.
    assert report.separate(report.multiply_adds) == {"cost": 40 + 48 + 6, "sold": 40 + 48 + 6}
    assert sum(report.parameters.values()) == model.count_params()
    assert ("mlp_stage1_dense/kernel", (5, 8), both) in report.variables
    printed = capsys.readouterr().out
    assert (
        "mlp_stage2_dense/kernel" in printed
        and "shared by all" in printed
        and "separate networks" in printed
    )
    assert (tmp_path / "sharing.png").read_bytes()[:4] == b"\x89PNG"


def test_separate_networks_share_nothing():
    tasks, settings = _two()
    model = mtl.builders.soft_sharing((5,), tasks, **settings)
    report = model.summary_sharing()
    assert set(report.parameters) == {("cost",), ("sold",)}
    assert report.rows()[-1][1:3] == ("1.000", "1.000")


IMAGE = {"backbone": "small_cnn", "backbone_options": {"widths": (4, 6), "depth": 1}}


def _three(head=None):
    return [
        mtl.tasks.Classification("kind", 3, hidden=5),
        mtl.tasks.Segmentation("mask", channels=4),
        mtl.tasks.Binary("cat", hidden=0, head=head),
    ]


BUILDERS = [
    ("mtan", {}),
    ("cross_stitch", {}),
    ("nddr", {}),
    ("sluice", {}),
    ("soft_sharing", {}),
    ("task_gated", {"channels": 4}),
    ("adapters", {"units": 2}),
    ("layerwise", {"task_stages": {"cat": "stage1"}}),
    ("hierarchical", {"task_stages": {"mask": "stage1"}}),
    ("mmoe", {"units": 4}),
    ("ple", {"units": 4}),
    ("learned_branching", {}),
    ("tensor_factorized", {"rank": 2}),
    ("hard_sharing", {}),
]


@pytest.fixture(scope="module")
def alone():
    """Parameters and multiply-adds of real networks for one task each."""
    counts = {}
    for i, task in enumerate(_three()):
        model = mtl.builders.hard_sharing((16, 16, 1), _three()[i : i + 1], **IMAGE)
        report = model.summary_sharing()
        # What no task uses is in no network.
        assert sum(report.parameters.values()) == sum(
            w.numpy().size for w in model.trainable_variables
        )
        counts[task.name] = sum(report.parameters.values()), sum(report.multiply_adds.values())
    return counts


@pytest.mark.parametrize(
    ("builder", "extra"),
    [
        case if case[0] in ("mtan", "mmoe") else pytest.param(*case, marks=pytest.mark.large)
        for case in BUILDERS
    ],
    ids=[name for name, _ in BUILDERS],
)
def test_separate_networks_are_those_of_hard_sharing_for_one_task(builder, extra, alone):
    model = getattr(mtl.builders, builder)((16, 16, 1), _three(), **IMAGE, **extra)
    report = model.summary_sharing()
    assert report.separate(report.parameters) == {task: counts[0] for task, counts in alone.items()}
    assert report.separate(report.multiply_adds) == {
        task: counts[1] for task, counts in alone.items()
    }
    whole = sum(report.multiply_adds.values()) / sum(counts[1] for counts in alone.values())
    assert report.rows()[-1][2] == f"{whole:.3f}"


@pytest.mark.large
def test_separate_networks_are_known_after_loading_and_have_the_heads_that_were_given(tmp_path):
    def head(features):
        return keras.layers.Dense(1)(keras.layers.Flatten()(list(features.values())[-1]))

    for given in (head, keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])):
        model = mtl.builders.mtan((16, 16, 1), _three(given), **IMAGE)
        report = model.summary_sharing()
        trunk = 8 * 8 * 9 * 4 + 4 * 4 * 9 * 4 * 6
        assert report.separate_multiply_adds["cat"] == trunk + 4 * 4 * 6
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
        again = keras.models.clone_model(loaded).summary_sharing()
        assert again.separate_multiply_adds == report.separate_multiply_adds
        assert again.separate_parameters == report.separate_parameters
    with pytest.raises(ValueError, match="should be this report's"):
        report.separate({})


def test_experts_without_a_backbone_stand_in_its_place():
    tasks, _ = _two()
    report = mtl.builders.ple((5,), tasks, units=4, levels=2).summary_sharing()
    assert report.separate_multiply_adds == {"cost": 5 * 4 + 4 * 4 + 4, "sold": 5 * 4 + 4 * 4 + 4}


def test_convolutions_depthwise_and_maps_are_counted():
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


@pytest.mark.large
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
    assert model.summary_sharing().multiply_adds == {
        ("cost", "sold"): 5 * 3 * 4,
        ("cost",): 15 + 4,
        ("sold",): 15 + 4,
    }
