"""What heads look at: held to closed forms and to the axioms of the methods."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from tests.helpers import image_data, image_model, large_but, table_data, table_model


def test_integrated_gradients_of_a_linear_network_are_weight_times_change():
    source = keras.Input((5,), name="numeric")
    cost = mtl.tasks.Regression("cost", scale=3.0)
    linear = keras.layers.Dense(1)
    model = mtl.MultiTaskModel(source, {"cost": mtl.tasks.TaskOutput(cost)(linear(source))})
    x, _ = table_data(6)
    kernel = linear.kernel.numpy()[:, 0]
    start = np.float32([0.5, 0, -1, 2, 0])
    result = mtl.analysis.attributions(model, x, "cost", baseline=start, steps=3)
    (values,) = result.values.values()
    np.testing.assert_allclose(values, (x - start) * kernel * 3.0, rtol=1e-4, atol=1e-5)


def _tagger():
    tasks = [mtl.tasks.Binary("positive", hidden=4), mtl.tasks.TokenTagging("tag", 3)]
    return mtl.builders.hard_sharing(
        {"tokens": (7,)},
        tasks,
        "gru",
        backbone_options={"vocabulary_size": 12, "embedding_dim": 4, "units": 5},
    )


@pytest.mark.parametrize("kind", large_but(["table"], ["picture", "text", "table"]))
def test_values_add_up_to_the_score_over_the_baseline(kind):
    """The completeness axiom, on the network's own answers."""
    rng = np.random.default_rng(0)
    if kind == "picture":
        model, (x, _) = image_model(), image_data(2)
    elif kind == "text":
        model, x = _tagger(), np.int32([[3, 4, 5, 2, 0, 0, 0], [11, 3, 3, 3, 9, 1, 6]])
    else:
        tasks = [mtl.tasks.Binary("sold", hidden=8), mtl.tasks.Ordinal("grade", 4)]
        model = mtl.builders.hard_sharing(
            {"numeric": (3,), "categorical": (2,)},
            tasks,
            "mlp",
            backbone_options={"widths": (8,), "cardinalities": [4, 3]},
        )
        x = {
            "numeric": rng.standard_normal((2, 3)).astype("float32"),
            "categorical": np.int32([[1, 2], [3, 0]]),
        }
    for task in model.task_names:
        steps = 40 if kind == "table" else 300
        result = mtl.analysis.attributions(model, x, task, steps=steps)
        rise = np.abs(result.score - result.baseline_score)
        np.testing.assert_array_less(np.abs(result.gap), 0.02 * rise + 2e-3)
        source = x if isinstance(x, dict) else {model.inputs[0].name: x}
        assert {k: v.shape for k, v in result.values.items()} == {
            k: v.shape for k, v in source.items()
        }


def test_the_score_is_the_predicted_classs_logit():
    model, (x, _) = image_model(), image_data(3)
    result = mtl.analysis.attributions(model, x, "kind", steps=1)
    probabilities = model.predict_on_batch(x)["kind"]
    assert result.targets == probabilities.argmax(1).tolist()
    others = mtl.analysis.attributions(model, x, "kind", steps=1, target=0)
    # Logits differ as the logarithms of probabilities do.
    difference = np.log(probabilities.max(1) / probabilities[:, 0])
    np.testing.assert_allclose(result.score - others.score, difference, atol=1e-5)


def test_padding_adds_nothing():
    x = np.int32([[3, 4, 5, 2, 0, 0, 0]])
    values = mtl.analysis.attributions(_tagger(), x, "positive", steps=8).values["tokens"]
    assert (values[0, 4:] == 0).all() and (values[0, :4] != 0).any()


def test_grad_cam_of_an_average_and_a_linear_layer_is_the_class_activation_map():
    """Zhou et al., CVPR 2016: there the map is the weighted sum of the channels."""
    tasks = [mtl.tasks.Classification("kind", num_classes=3, hidden=0), mtl.tasks.Binary("big")]
    model, (x, _) = image_model(tasks), image_data(4)
    # A trunk that is frozen has gradients at its maps, too.
    for layer in model.layers:
        layer.trainable = layer.name.startswith("kind")
    result = mtl.analysis.attributions(model, x, "kind", "grad_cam", target=2)
    name = model.representation[-1]
    maps = keras.Model(model.input, model.get_layer(name).output).predict_on_batch(x)
    kernel = model.get_layer("kind_linear").kernel.numpy()[:, 2]
    expected = np.maximum((maps * kernel).sum(-1), 0) / np.prod(maps.shape[1:3])
    assert result.layer == name and result.gap is None
    np.testing.assert_allclose(result.values[model.inputs[0].name], expected, atol=1e-6)


@pytest.mark.parametrize(
    "task",
    [
        mtl.tasks.Binary("t", hidden=4),
        mtl.tasks.MultiLabel("t", 3, hidden=4),
        mtl.tasks.Ordinal("t", 3, hidden=4),
        mtl.tasks.Regression("t", size=2, hidden=4),
        mtl.tasks.Segmentation("t", 3, channels=4),
        mtl.tasks.BoundingBox("t", hidden=4, channels=4),
        mtl.tasks.Keypoints("t", 2, channels=4),
        mtl.tasks.Depth("t", channels=4),
        mtl.tasks.Normals("t", channels=4),
        mtl.tasks.Detection("t", 2, channels=4),
        mtl.tasks.Embedding("t", 4, hidden=4),
        mtl.tasks.SequenceTranscription("t", "ab"),
    ],
    ids=lambda task: task.kind,
)
@pytest.mark.large
def test_every_kind_of_task_is_explained(task):
    model, (x, _) = image_model([task]), image_data(2)
    for method in ("integrated_gradients", "grad_cam"):
        result = mtl.analysis.attributions(model, x, "t", method, steps=4)
        (values,) = result.values.values()
        assert np.isfinite(values).all() and np.isfinite(result.score).all()
        assert len(values) == 2


def test_what_can_not_be_explained_is_refused():
    model, (x, _) = table_model(), table_data(2)
    with pytest.raises(ValueError, match="needs a feature map.*'cost'.*integrated_gradients"):
        mtl.analysis.attributions(model, x, "cost", "grad_cam")
    with pytest.raises(ValueError, match="task"):
        mtl.analysis.attributions(model, x, "price")
    with pytest.raises(ValueError, match="from 0 to 1. Received: 2"):
        mtl.analysis.attributions(model, x, "sold", target=2)
    with pytest.raises(ValueError, match="method"):
        mtl.analysis.attributions(model, x, "sold", "gradcam")
    with pytest.raises(ValueError, match="feature map before task 'kind'"):
        mtl.analysis.attributions(image_model(), image_data(1)[0], "kind", "grad_cam", layer="no")
