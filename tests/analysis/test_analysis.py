import numpy as np
import pytest
from helpers import image_data, image_model

import mtl_keras as mtl


def test_scores_are_those_of_evaluate():
    x, y = image_data()
    y["kind"][:4] = -1
    y["box"][5] = np.nan
    model = image_model()
    model.compile("sgd")
    expected = model.evaluate(x, y, verbose=0)
    found = mtl.analysis.score(model.tasks, model.predict(x, verbose=0), y, batch=10)
    assert set(found) == {k for k in expected if not k.endswith("loss")}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_trivial_answers_score_what_they_must():
    rng = np.random.default_rng(0)
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3),
        mtl.tasks.Regression("cost"),
        mtl.tasks.Binary("sold"),
    ]
    y = {
        "kind": np.array([0, 0, 0, 1]),
        "cost": rng.standard_normal(4),
        "sold": np.array([1, 0, 1, 0]),
    }
    found = mtl.analysis.trivial(tasks, y, y)
    assert found["kind_accuracy"] == 0.75
    np.testing.assert_allclose(found["cost_r2"], 0, atol=1e-6)
    assert found["sold_auc"] == pytest.approx(0.5)


def test_delta_m_of_both_conventions():
    baseline = {"a_acc": 0.8, "b_err": 2.0, "b_iou": 0.5}
    scores = {"a_acc": 0.88, "b_err": 1.0, "b_iou": 0.4}
    directions = {"a_acc": "max", "b_err": "min", "b_iou": "max"}
    # Changes: +10 %, +50 % (halved, lower is better), -20 %.
    assert mtl.analysis.delta_m(scores, baseline, directions) == pytest.approx((10 + 50 - 20) / 3)
    assert mtl.analysis.delta_m(scores, baseline, directions, tasks=["a", "b"]) == pytest.approx(
        (10 + 15) / 2
    )


def test_delta_m_of_a_published_row():
    """Nash-MTL on NYUv2: -4.04 in the convention where lower is better (Navon et al., ICML 2022,
    table 2)."""
    names = ["miou", "pix", "abs", "rel", "mean", "median", "w11", "w22", "w30"]
    single = [0.3830, 0.6376, 0.6754, 0.2780, 25.01, 19.21, 0.3014, 0.5720, 0.6915]
    nash = [0.4013, 0.6593, 0.5261, 0.2171, 25.26, 20.08, 0.2840, 0.5547, 0.6815]
    higher = [True, True, False, False, False, False, True, True, True]
    directions = {n: "max" if h else "min" for n, h in zip(names, higher, strict=True)}
    found = mtl.analysis.delta_m(
        dict(zip(names, nash, strict=True)), dict(zip(names, single, strict=True)), directions
    )
    assert -found == pytest.approx(-4.04, abs=0.02)


@pytest.mark.parametrize(
    ("baseline", "words"),
    [({"a_acc": 0.0}, "baseline of metric 'a_acc' is 0"), ({"b": 1.0}, "Unknown metric 'a_acc'")],
)
def test_delta_m_refuses_what_has_no_relative_change(baseline, words):
    with pytest.raises(ValueError, match=words):
        mtl.analysis.delta_m({"a_acc": 1.0}, baseline, {"a_acc": "max"})
