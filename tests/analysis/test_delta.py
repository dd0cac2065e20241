"""How a multi-task model stands beside its twins: which metric judges, what is noise, and what one
number hides."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras import zoo

TASKS = [
    mtl.tasks.Regression("cost"),
    mtl.tasks.Classification("kind", num_classes=3),
    mtl.tasks.Binary("sold"),
    mtl.tasks.Depth("depth"),
]


def test_the_judge_of_a_task_is_bounded_or_an_error():
    expected = {
        "cost_mae": "min",
        "kind_accuracy": "max",
        "sold_auc": "max",
        "depth_abs_error": "min",
    }
    assert mtl.analysis.judging_metrics(TASKS) == expected


def test_the_judge_of_a_task_can_be_chosen():
    assert mtl.analysis.judging_metrics(TASKS[:1], {"cost": "r2"}) == {"cost_r2": "max"}
    only = mtl.tasks.Regression("cost", metrics=["r2_score"])
    assert list(mtl.analysis.judging_metrics([only])) == ["cost_r2_score"]
    with pytest.raises(ValueError, match="Did you mean 'mae'"):
        mtl.analysis.judging_metrics(TASKS, {"cost": "mea"})
    with pytest.raises(ValueError, match="Unknown task 'cots'"):
        mtl.analysis.judging_metrics(TASKS, {"cots": "mae"})


def _report(multi, single, directions, **options):
    """Of one value per metric and run."""

    def runs(values):
        return [
            dict(zip(directions, run, strict=True)) for run in zip(*values.values(), strict=True)
        ]

    return mtl.analysis.delta_report(runs(multi), runs(single), directions, **options)


def test_a_weak_r2_does_not_pass_for_a_gain():
    """The three seeds of `gloss`: two heads are worse, and the third's R2 of .059 -> .116 said +32
    %."""
    single = {
        "a_accuracy": [0.956, 0.957, 0.955],
        "b_accuracy": [0.780, 0.779, 0.778],
        "c_r2": [0.061, 0.054, 0.061],
    }
    multi = {
        "a_accuracy": [0.955, 0.954, 0.954],
        "b_accuracy": [0.768, 0.770, 0.771],
        "c_r2": [0.117, 0.115, 0.117],
    }
    directions = dict.fromkeys(single, "max")
    trivial = {"a_accuracy": 0.70, "b_accuracy": 0.12, "c_r2": 0.0}
    report = _report(multi, single, directions, trivial=trivial)
    assert report.percent > 30 and report.median < 0  # one task moves the mean, not the median
    assert (report.better, report.worse) == (1, 2)
    assert set(report.flags) == {"c"} and "constant answer" in report.flags["c"]
    assert report.sound_percent < 0
    assert "baseline is noise" in str(report) and "c_r2" in str(report)


def test_the_report_is_the_arithmetic_of_its_definition():
    single = {"a_accuracy": [0.5, 0.8], "b_mae": [2.0, 4.0]}
    multi = {"a_accuracy": [0.6, 0.8], "b_mae": [1.0, 5.0]}
    report = _report(
        multi,
        single,
        {"a_accuracy": "max", "b_mae": "min"},
        trivial={"a_accuracy": 0.1, "b_mae": 90.0},
    )
    # Changes: a +20 %, 0 %; b +50 %, -25 %.
    np.testing.assert_allclose(report.by_seed, [35.0, -12.5])
    np.testing.assert_allclose([report.percent, report.sd], [11.25, 23.75])
    np.testing.assert_allclose(
        [report.by_task["a"]["percent"], report.by_task["b"]["percent"]], [10.0, 12.5]
    )
    assert report.median == pytest.approx(11.25)
    assert (report.by_task["a"]["sign"], report.by_task["b"]["sign"]) == (
        "0",
        "0",
    ) and not report.flags
    for scores, baseline, expected in ((0, 0, 35.0), (1, 1, -12.5)):
        pair = [
            {k: v[i] for k, v in values.items()}
            for values, i in ((multi, scores), (single, baseline))
        ]
        directions = {"a_accuracy": "max", "b_mae": "min"}
        assert mtl.analysis.delta_m(*pair, directions, ["a", "b"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("single", "trivial", "is_noise"),
    [
        ([0.70, 0.72, 0.71], 0.50, False),
        ([0.51, 0.50, 0.53], 0.50, True),  # an accuracy like a coin's
        ([0.50, 0.50, 0.50], 0.50, True),
        ([0.40, 0.41, 0.40], 0.50, True),  # worse than a constant answer
    ],
)
def test_a_baseline_like_a_constant_answer_is_noise(single, trivial, is_noise):
    report = _report(
        {"a_accuracy": [0.7] * 3},
        {"a_accuracy": single},
        {"a_accuracy": "max"},
        trivial={"a_accuracy": trivial},
    )
    assert bool(report.flags) == is_noise and (report.sound_percent is None) == is_noise


def test_a_baseline_that_can_not_be_told_from_0_is_noise_without_a_trivial_answer():
    report = _report({"a_r2": [0.02, 0.03]}, {"a_r2": [0.01, -0.02]}, {"a_r2": "max"})
    assert "not to be told from 0" in report.flags["a"]
    good = _report({"a_r2": [0.7, 0.7]}, {"a_r2": [0.6, 0.62]}, {"a_r2": "max"})
    assert not good.flags


def test_tasks_whose_names_begin_alike_keep_their_own_metrics():
    """`a_b_accuracy` is the metric of `a_b`; counted for `a` as well, the mean was (10 + 10 + ...)
    of the wrong groups."""
    baseline, scores = (
        {"a_accuracy": 0.5, "a_b_accuracy": 0.5},
        {"a_accuracy": 0.5, "a_b_accuracy": 1.0},
    )
    directions = dict.fromkeys(baseline, "max")
    assert mtl.analysis.delta_m(scores, baseline, directions, ["a", "a_b"]) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: mtl.analysis.delta_m({"a_x": 1.0}, {"a_x": 1.0}, {"a_x": "max"}, ["b"]),
            "Unknown task of metric 'a_x'",
        ),
        (
            lambda: mtl.analysis.delta_m({"a_x": 1.0}, {"a_x": 1.0}, {"a_x": "max"}, ["a", "b"]),
            "Task 'b' has no metric",
        ),
        (lambda: mtl.analysis.delta_m({"a_x": 1.0}, {"a_x": 1.0}, {"a_x": "up"}), "'max' or 'min'"),
        (lambda: mtl.analysis.delta_m({}, {}, {}), "names no metric"),
        (lambda: mtl.analysis.delta_report([], [], {"a_x": "max"}), "one entry per run"),
        (
            lambda: mtl.analysis.delta_report(
                [{}], [{}], {"a_x": "max", "a_y": "min"}, tasks=["a"]
            ),
            "one metric for each of a",
        ),
    ],
)
def test_what_has_no_answer_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_cards_say_what_their_own_numbers_say(name):
    """Every figure of Δm again, from the scores of the seeds on the card."""
    card = zoo.info(name)
    evidence = card["evidence"]
    delta = evidence["delta_m"]
    assert not [m for m, d in evidence["judged_by"].items() if d == "max" and "r2" in m]
    changes = {}
    for metric, direction in evidence["judged_by"].items():
        multi, single = (
            np.array(evidence[kind][metric]["by_seed"]) for kind in ("multi_task", "single_task")
        )
        changes[metric] = 100 * (multi - single) / single * (1 if direction == "max" else -1)
    by_seed = np.mean(list(changes.values()), axis=0)
    np.testing.assert_allclose(delta["by_seed"], by_seed, rtol=1e-6)
    np.testing.assert_allclose(
        [delta["percent"], delta["sd"]], [by_seed.mean(), by_seed.std()], rtol=1e-6
    )
    for facts in delta["by_task"].values():
        np.testing.assert_allclose(facts["by_seed"], changes[facts["metric"]], rtol=1e-6)
    text = (zoo.path(name) / "README.md").read_text()
    assert f"{delta['percent']:+.2f} %" in text and "Maninis" in text and "Navon" in text
    for facts in delta["by_task"].values():
        assert f"| {facts['metric']} (" in text


def test_a_card_is_written_anew_from_its_own_numbers(tmp_path):
    import shutil

    from mtl_keras.zoo import artifacts

    folder = tmp_path / "flights"
    shutil.copytree(zoo.path("flights"), folder)
    before = (folder / "card.json").read_text(), (folder / "README.md").read_text()
    artifacts.rewrite_card(zoo.recipe("flights"), folder)
    assert ((folder / "card.json").read_text(), (folder / "README.md").read_text()) == before
