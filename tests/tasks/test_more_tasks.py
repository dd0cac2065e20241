"""The other tasks: labels, losses and metrics against their definitions, decoders, and that each
can be learned."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.tasks.classes import EachCrossentropy
from mtl_keras.tasks.detection import CenterNetLoss, MeanAveragePrecision
from mtl_keras.tasks.embedding import ContrastiveLoss, RecallAtOne
from mtl_keras.tasks.geometry import Angle, DepthError
from mtl_keras.tasks.keypoints import PointError
from mtl_keras.tasks.multi_label import LabelF1
from mtl_keras.tasks.ordinal import LevelError
from mtl_keras.tasks.sequences import CTCLoss, EditDistance, SpanF1

T = mtl.tasks
SIZES = {"widths": (4, 8), "depth": 1}


def _target(task, y):
    target, present = task.target(keras.ops.convert_to_tensor(np.asarray(y)))
    return np.asarray(target), np.asarray(present)


def _value(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


# ------------------------------------------------------------------ several labels
def test_each_label_may_be_missing_by_itself():
    task = T.MultiLabel("t", 3, hidden=0)
    target, present = _target(task, [[1, -1, 0], [np.nan, 1, 1]])
    assert present.tolist() == [[True, False, True], [False, True, True]]
    assert target.tolist() == [[1, 0, 0], [0, 1, 1]]
    # In training a missing label changes nothing of the others: the loss is the mean over those
    # that are there.
    x = np.random.default_rng(0).standard_normal((2, 5)).astype("float32")
    model = mtl.builders.hard_sharing(
        (5,), [task], "mlp", backbone_options={"widths": (4,), "normalize": False}
    )
    model.compile("sgd")
    y = np.array([[1, -1, 0], [-1, 1, 1]])
    p = model.predict(x, verbose=0)["t"].astype("float64")
    known = y >= 0
    expected = -np.mean(np.log(np.where(y == 1, p, 1 - p))[known])
    np.testing.assert_allclose(
        model.evaluate(x, {"t": y}, verbose=0)["t_loss"], expected, rtol=1e-5
    )


def test_label_f1_is_the_mean_of_each_labels():
    y = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 0]], "float32")
    p = np.array([[0.9, 0.6, 0.1], [0.8, 0.7, 0.2], [0.6, 0.2, 0.1]], "float32")
    # Label 0: 2 hits of 3 said and 2 true; label 1: 1 of 2 and 2; label 2: none said.
    assert _value(LabelF1(3), (y, p)) == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    weight = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], "float32")
    assert _value(LabelF1(3), (y, p, weight)) == pytest.approx((1 + 2 / 4 + 0) / 3)
    assert EachCrossentropy().call(tf.constant(y), tf.constant(p)).shape == (3, 3)


def test_decoded_labels_are_those_above_the_threshold():
    task = T.MultiLabel("t", 3, labels=["a", "b", "c"], threshold=0.4)
    assert task.decode(np.array([[0.5, 0.1, 0.4]])) == [
        [{"label": "a", "probability": 0.5}, {"label": "c", "probability": 0.4}]
    ]


# ------------------------------------------------------------------ levels
def test_levels_become_questions_and_back():
    task = T.Ordinal("t", 4, labels=list("abcd"))
    target, present = _target(task, [0, 2, 3, -1])
    assert target.tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert present.tolist() == [True, True, True, False]
    decoded = task.decode(np.array([[0.9, 0.6, 0.2]]))
    assert decoded[0]["label"] == "c" and decoded[0]["probability"] == pytest.approx(0.4)


def test_thresholds_keep_their_order_whatever_is_learned():
    layer = mtl.layers.OrdinalThresholds(4)
    layer.build((None, 1))
    layer.steps.assign([-9.0, 0.0, 5.0])
    logits = np.asarray(layer(np.array([[-3.0], [0.0], [7.0]], "float32")))
    assert (np.diff(logits, axis=1) < 0).all()
    fresh = mtl.layers.OrdinalThresholds(3)
    np.testing.assert_allclose(fresh(np.zeros((1, 1), "float32")), [[1.0, 0.0, -1.0]], atol=1e-3)


def test_level_error_counts_levels():
    y = np.array([[1, 1, 0], [0, 0, 0]], "float32")
    p = np.array([[0.9, 0.8, 0.7], [0.1, 0.1, 0.1]], "float32")
    assert _value(LevelError(), (y, p)) == 0.5
    assert _value(LevelError(exact=True), (y, p)) == 0.5


@pytest.mark.large
def test_an_order_is_learned():
    x = np.random.default_rng(0).standard_normal((128, 5)).astype("float32")
    y = np.digitize(x[:, 0], [-0.7, 0.0, 0.7])
    model = mtl.builders.hard_sharing(
        (5,), [T.Ordinal("t", 4, hidden=0)], "mlp", backbone_options={"widths": (8,)}
    )
    model.compile(keras.optimizers.Adam(0.03))
    model.fit(x, {"t": y}, epochs=40, batch_size=128, verbose=0)
    assert model.evaluate(x, {"t": y}, batch_size=128, verbose=0)["t_level_error"] < 0.25


# ------------------------------------------------------------------ depth and normals
def test_depths_of_zero_are_missing_and_errors_are_in_the_users_unit():
    task = T.Depth("t", scale=10.0, unit="m")
    y = np.array([[[4.0, 0.0], [np.nan, 20.0]]], "float32")
    target, present = _target(task, y)
    assert present.tolist() == [[[True, False], [False, True]]]
    out = np.array([[[5.0, 9.0], [9.0, 16.0]]], "float32")[..., None]
    weight = present.astype("float32")
    assert _value(DepthError(), (target, out, weight)) == pytest.approx((1 + 4) / 2)
    assert _value(DepthError(relative=True), (target, out, weight)) == pytest.approx(
        (1 / 4 + 4 / 20) / 2
    )
    loss = np.asarray(task.loss.call(tf.constant(target), tf.constant(out)))
    assert loss[0, 0, 0] == pytest.approx(0.1) and loss[0, 1, 1] == pytest.approx(0.4)
    np.testing.assert_allclose(task.baseline(y)[..., 0], [[4.0, 12.0], [12.0, 20.0]])


def test_normals_are_compared_by_angle():
    task = T.Normals("t")
    y = np.array([[[[0, 0, 2.0], [1, 0, 0]], [[0, 0, 0], [np.nan, 0, 1]]]], "float32")
    target, present = _target(task, y)
    assert present.tolist() == [[[True, True], [False, False]]]
    np.testing.assert_allclose(np.linalg.norm(target, axis=-1), 1.0)
    turned = np.deg2rad(20.0)
    out = np.zeros_like(target)
    out[0, 0, 0] = [np.sin(turned), 0, np.cos(turned)]
    out[0, 0, 1] = [np.cos(0.001), np.sin(0.001), 0]
    out[0, 1] = [0, 0, 1]
    weight = present.astype("float32")
    assert _value(Angle(), (target, out, weight)) == pytest.approx(
        (20 + np.rad2deg(0.001)) / 2, rel=1e-4
    )
    assert _value(Angle(within=11.25), (target, out, weight)) == 0.5
    assert _value(Angle(within=22.5), (target, out, weight)) == 1.0
    np.testing.assert_allclose(
        np.asarray(task.loss.call(target, out))[0, 0, 0], 1 - np.cos(turned), rtol=1e-4
    )
    assert [m.name for m in task.new_metrics()] == [
        "mean_angle",
        "within_11_25",
        "within_22_5",
        "within_30",
    ]


# ------------------------------------------------------------------ points
def test_soft_argmax_finds_the_place_of_a_peak():
    heat = np.zeros((1, 4, 8, 2), "float32")
    heat[0, 1, 6, 0] = heat[0, 3, 0, 1] = 60.0
    np.testing.assert_allclose(
        mtl.layers.SoftArgmax()(heat)[0], [[6.5 / 8, 1.5 / 4], [0.5 / 8, 3.5 / 4]], atol=1e-5
    )


def test_points_may_be_missing_one_by_one():
    task = T.Keypoints("t", 2, labels=["eye", "nose"])
    y = np.array([[[0.1, 0.2], [np.nan, 0.5]]], "float32")
    target, present = _target(task, y)
    assert present.tolist() == [[True, False]]
    out = np.array([[[0.1, 0.25], [0.9, 0.9]]], "float32")
    assert _value(PointError(), (target, out, present.astype("float32"))) == pytest.approx(0.05)
    assert _value(PointError(within=0.1), (target, out, present.astype("float32"))) == 1.0
    assert task.decode(out)[0]["nose"] == {"x": pytest.approx(0.9), "y": pytest.approx(0.9)}


# ------------------------------------------------------------------ objects
BOXES = np.array(
    [[[0.1, 0.1, 0.4, 0.5, 0], [0.5, 0.55, 0.95, 0.95, 1], [0, 0, 0, 0, -1]]], "float32"
)


def _perfect(boxes, size=8, classes=2):
    """The output that says exactly these boxes."""
    out = np.zeros((len(boxes), size, size, classes + 4), "float32")
    for row, items in zip(out, boxes, strict=True):
        for left, top, right, bottom, kind in items:
            if kind >= 0:
                x, y = (left + right) / 2 * size, (top + bottom) / 2 * size
                cell = row[int(y), int(x)]
                cell[int(kind)] = 0.99
                cell[-4:] = right - left, bottom - top, x - int(x), y - int(y)
    return out


def test_a_perfect_output_has_no_loss_and_decodes_to_the_labels():
    out = _perfect(BOXES)
    assert float(CenterNetLoss().call(tf.constant(BOXES), tf.constant(out))[0]) < 1e-2
    worse = out.copy()
    worse[0, ..., -4] += 0.1
    assert float(CenterNetLoss().call(BOXES, tf.constant(worse))[0]) == pytest.approx(
        float(CenterNetLoss().call(BOXES, tf.constant(out))[0]) + 5 * 0.1, rel=1e-3
    )
    task = T.Detection("t", 2, labels=["cup", "plate"])
    found = sorted(task.decode(out)[0], key=lambda item: item["label"])
    assert [item["label"] for item in found] == ["cup", "plate"]
    for item, box in zip(found, BOXES[0], strict=False):
        np.testing.assert_allclose(
            [item[k] for k in ("left", "top", "right", "bottom")], box[:4], atol=1e-5
        )


def test_a_row_without_objects_is_a_label_and_a_row_of_nan_is_none():
    task = T.Detection("t", 2)
    empty, none = np.full((1, 2, 5), -1.0), np.full((1, 2, 5), np.nan)
    target, present = _target(task, np.concatenate([BOXES[:, :2], empty, none]).astype("float32"))
    assert present.tolist() == [True, True, False]
    assert (target[1:, :, 4] == -1).all() and np.isfinite(target).all()
    quiet, loud = np.full((1, 4, 4, 6), 0.01, "float32"), np.full((1, 4, 4, 6), 0.9, "float32")
    loss = CenterNetLoss().call
    assert float(loss(target[1:2], quiet)[0]) < 0.01 < 1 < float(loss(target[1:2], loud)[0])


def test_overlapping_boxes_of_one_class_are_dropped_by_the_decoder():
    out = np.zeros((1, 4, 4, 5), "float32")
    out[0, 1, 0] = [0.9, 0.5, 0.5, 1.0, 0.5]
    out[0, 1, 2] = [0.8, 0.5, 0.5, 0.0, 0.5]
    out[0, 3, 3] = [0.7, 0.2, 0.2, 0.5, 0.5]
    assert [round(i["probability"], 1) for i in T.Detection("t", overlap=0.3).decode(out)[0]] == [
        0.9,
        0.7,
    ]
    # A cell beside a better one is no peak.
    out[0, 3, 2, 0] = 0.6
    assert len(T.Detection("t", overlap=1.0).decode(out)[0]) == 3


def _average_precision(detections, count):
    """All-point interpolated average precision of `(score, right)`."""
    right = np.array([r for _, r in sorted(detections, key=lambda d: -d[0])], float)
    hits = np.cumsum(right)
    precision, recall = hits / (np.arange(len(right)) + 1), hits / count
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff([0, *recall]) * envelope))


def test_mean_average_precision_is_the_area_under_the_envelope():
    # Grid 8 x 8, one class. Image 1: two objects, one found (.9), one wrong (.8); image 2: its
    # object found twice (.7, .3).
    boxes = np.full((2, 2, 5), -1.0, "float32")
    boxes[0, 0], boxes[0, 1] = [0.0, 0.0, 0.25, 0.25, 0], [0.5, 0.5, 0.75, 0.75, 0]
    boxes[1, 0] = [0.25, 0.25, 0.75, 0.75, 0]
    out = np.zeros((2, 8, 8, 5), "float32")
    out[0, 1, 1] = [0.9, 0.25, 0.25, 0.0, 0.0]
    out[0, 7, 0] = [0.8, 0.2, 0.2, 0.5, 0.5]
    out[1, 4, 4] = [0.7, 0.5, 0.5, 0.0, 0.0]
    out[1, 4, 2] = [0.3, 0.5, 0.5, 1.0, 0.0]
    expected = _average_precision([(0.9, 1), (0.8, 0), (0.7, 1), (0.3, 0)], count=3)
    assert _value(MeanAveragePrecision(1), (boxes, out)) == pytest.approx(expected, rel=1e-5)
    # In two parts, and with a class that has no object.
    assert _value(
        MeanAveragePrecision(1), (boxes[:1], out[:1]), (boxes[1:], out[1:])
    ) == pytest.approx(expected, rel=1e-5)
    wide = np.concatenate([out[..., :1], np.zeros_like(out[..., :1]), out[..., 1:]], -1)
    assert _value(MeanAveragePrecision(2), (boxes, wide)) == pytest.approx(expected, rel=1e-5)
    assert _value(MeanAveragePrecision(2), (BOXES, _perfect(BOXES))) == pytest.approx(1.0)
    # An image without a label does not count.
    weight = np.array([1.0, 0.0], "float32")
    first = _average_precision([(0.9, 1), (0.8, 0)], count=2)
    assert _value(MeanAveragePrecision(1), (boxes, out, weight)) == pytest.approx(first, rel=1e-5)


def test_mean_average_precision_ranks_what_the_decoder_names():
    rng = np.random.default_rng(5)
    task = T.Detection("t", num_classes=2, threshold=1e-6, overlap=0.4, max_objects=12)
    # Wide boxes on a small grid overlap; scores lie in bins of their own.
    out = np.zeros((3, 6, 6, 6), "float32")
    scores = (rng.permutation(200)[: 3 * 72].repeat(2)[:216] + 0.5) / 200
    out[..., :2] = np.where(rng.random((3, 6, 6, 2)) < 0.5, scores.reshape(3, 6, 6, 2), 0.0)
    out[..., 2:4], out[..., 4:] = rng.uniform(0.5, 0.9, (3, 6, 6, 2)), 0.5
    centers, sizes = rng.uniform(0.3, 0.7, (3, 4, 2)), rng.uniform(0.5, 0.6, (3, 4, 2))
    truth = np.concatenate(
        [centers - sizes / 2, centers + sizes / 2, rng.integers(0, 2, (3, 4, 1))], -1
    ).astype("float32")
    detections, dropped = {0: [], 1: []}, 0
    loose = T.Detection("t", num_classes=2, threshold=1e-6, overlap=1.0, max_objects=12)
    for row, (items, every) in enumerate(zip(task.decode(out), loose.decode(out), strict=True)):
        dropped += len(every) - len(items)
        free = set(range(4))
        for item in items:
            box = [item[edge] for edge in ("left", "top", "right", "bottom")]
            fits = {
                i: _overlap(box, truth[row, i, :4])
                for i in free
                if truth[row, i, 4] == item["label"]
            }
            best = max(fits, key=fits.get, default=None)
            right = best is not None and fits[best] >= 0.5
            free -= {best} if right else set()
            detections[item["label"]].append((item["probability"], right))
    assert dropped > 0
    expected = np.mean(
        [_average_precision(detections[c], (truth[..., 4] == c).sum()) for c in (0, 1)]
    )
    metric = task.new_metrics()[0].metric
    assert _value(metric, (truth, out)) == pytest.approx(expected, rel=1e-4)


def _overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(area) - width * height)


@pytest.mark.large
def test_a_detector_learns_to_find_bright_squares():
    rng = np.random.default_rng(0)
    x, y = 0.1 * rng.random((64, 16, 16, 1)).astype("float32"), np.full((64, 2, 5), -1.0, "float32")
    for i in range(64):
        r, c = rng.integers(0, 11, 2)
        x[i, r : r + 5, c : c + 5] = 1.0
        y[i, 0] = [c / 16, r / 16, (c + 5) / 16, (r + 5) / 16, 0]
    task = T.Detection("t", stride=2, channels=8, max_objects=5)
    model = mtl.builders.hard_sharing(
        (16, 16, 1), [task], backbone_options={"widths": (8, 16), "depth": 1}
    )
    model.compile(keras.optimizers.Adam(0.02), metrics={"t": []})
    model.fit(x, {"t": y}, epochs=60, batch_size=16, verbose=0)
    scores = mtl.analysis.score([task], model.predict(x, verbose=0), {"t": y})
    assert scores["t_map"] > 0.7 > 0.1 > mtl.analysis.trivial([task], {"t": y}, {"t": y})["t_map"]


# ------------------------------------------------------------------ tags
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def _reference_spans(tags):
    found, start = set(), None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if start is not None and not (prefix == "I" and kind == start[1]):
            found.add((start[1], start[0], place))
            start = None
        if start is None and prefix != "O":
            start = (place, kind)
    return found


def test_span_f1_is_that_of_the_sets_of_spans():
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 5, (40, 7)), rng.integers(0, 5, (40, 7))
    said = np.where(rng.random((40, 7)) < 0.6, true, said)
    lengths = rng.integers(3, 8, 40)
    known = np.arange(7) < lengths[:, None]
    hits = found = there = 0
    for a, b, n in zip(true, said, lengths, strict=True):
        one, other = (_reference_spans([LABELS[t] for t in row[:n]]) for row in (a, b))
        hits, found, there = hits + len(one & other), found + len(other), there + len(one)
    expected = 2 * hits / (found + there)
    assert 0.2 < expected < 0.9
    outputs = np.eye(5, dtype="float32")[said]
    metric = SpanF1(LABELS)
    for part in (slice(0, 15), slice(15, 40)):
        metric.update_state(true[part], outputs[part], known[part].astype("float32"))
    assert float(metric.result()) == pytest.approx(expected)
    decoded = T.TokenTagging("t", labels=LABELS).decode(outputs)
    for row, spans in zip(said, decoded, strict=True):
        expected = _reference_spans([LABELS[t] for t in row])
        assert {(s["label"], s["start"], s["end"]) for s in spans} == expected


def test_padding_has_no_tag():
    target, present = _target(T.TokenTagging("t", labels=LABELS), [[1, 2, -1]])
    assert target.tolist() == [[1, 2, 0]] and present.tolist() == [[True, True, False]]
    assert T.TokenTagging("t", 3).decode(np.eye(3)[None]) == [[0, 1, 2]]
    assert [m.name for m in T.TokenTagging("t", 3).new_metrics()] == ["accuracy"]


# ------------------------------------------------------------------ transcription
def _probability(p, text):
    """The sum over all paths that collapse to a text."""
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        collapsed = [
            c for c, before in zip(path, (0, *path[:-1]), strict=True) if c and c != before
        ]
        if collapsed == text:
            total += np.prod([p[t, c] for t, c in enumerate(path)])
    return total


@pytest.mark.parametrize("text", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_the_loss_sums_over_all_paths(text):
    rng = np.random.default_rng(0)
    p = rng.random((5, 3))
    p /= p.sum(1, keepdims=True)
    y = np.zeros((1, 4), "int32")
    y[0, : len(text)] = text
    loss = CTCLoss().call(tf.constant(y), tf.constant(p[None].astype("float32")))
    np.testing.assert_allclose(loss[0], -np.log(_probability(p, text)) / len(text), rtol=1e-4)


def _edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


def test_edit_distance_is_that_of_the_best_path():
    rng = np.random.default_rng(0)
    said, lengths = rng.integers(0, 4, (30, 8)), rng.integers(1, 6, 30)
    true = np.where(np.arange(6) < lengths[:, None], rng.integers(1, 4, (30, 6)), 0)
    outputs = np.eye(4, dtype="float32")[said]
    expected = []
    for row, y, n in zip(said, true, lengths, strict=True):
        read = [c for c, before in zip(row, (0, *row[:-1]), strict=True) if c and c != before]
        expected.append(_edits(read, list(y[:n])) / n)
    assert _value(EditDistance(), (true, outputs)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_texts_become_labels_and_outputs_texts():
    task = T.SequenceTranscription("t", alphabet="abc")
    labels = task.encode(["cab", "a"], length=4)
    assert labels.tolist() == [[2, 0, 1, -1], [0, -1, -1, -1]]
    target, present = _target(task, np.concatenate([labels, [[-1] * 4]]))
    assert target.tolist() == [[3, 1, 2, 0], [1, 0, 0, 0], [0] * 4] and present.tolist() == [
        True,
        True,
        False,
    ]
    path = np.eye(4)[[[3, 3, 0, 1, 2, 2, 0, 2]]]
    assert task.decode(path) == ["cabb"]
    with pytest.raises(ValueError, match=r"Task 't': the text 'ad' has letters \['d'\]"):
        task.encode(["ad"], length=4)
    with pytest.raises(ValueError, match="more than 2 letters"):
        task.encode(["abc"], length=2)


@pytest.mark.parametrize(("axis", "steps"), [("width", 8), ("height", 4)])
def test_time_runs_along_the_axis_that_was_named(axis, steps):
    task = T.SequenceTranscription("t", alphabet="ab", time_axis=axis)
    model = mtl.builders.hard_sharing(
        (8, 16, 1), [task], backbone_options={"widths": (4,), "depth": 1}
    )
    assert model.output["t"].shape == (None, steps, 3)


# ------------------------------------------------------------------ vectors
def test_the_contrastive_loss_is_its_formula():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((6, 3))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    y = np.array([0, 0, 1, 1, 0, -1])
    loss = np.asarray(ContrastiveLoss(0.2).call(y, tf.constant(z.astype("float32"))))
    near = z @ z.T / 0.2
    for i in range(5):
        others = [a for a in range(5) if a != i]
        same = [p for p in others if y[p] == y[i]]
        expected = -np.mean([near[i, p] - np.log(np.sum(np.exp(near[i, others]))) for p in same])
        np.testing.assert_allclose(loss[i], expected, rtol=1e-4)


def test_the_nearest_row_is_of_the_same_class_or_not():
    z = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99], [-1, 0]], "float32")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    # Rows that are alone in their class do not count; of the second labels row 2's nearest is of
    # another class.
    assert _value(RecallAtOne(), (np.array([0, 0, 1, 2, 3]), z)) == pytest.approx(1.0)
    assert _value(RecallAtOne(), (np.array([0, 0, 1, 2, 1]), z)) == pytest.approx(3 / 4)


# ------------------------------------------------------------------ all of them
ALL = [
    T.MultiLabel("t", 3, labels=list("abc"), threshold=0.3, hidden=2),
    T.Ordinal("t", 4, labels=list("abcd"), hidden=2),
    T.Depth("t", scale=2.0, unit="m", channels=3),
    T.Normals("t", channels=3, loss_weight=0.2),
    T.Keypoints("t", 2, labels=["a", "b"], channels=3, within=0.2),
    T.Detection(
        "t", 2, labels=["a", "b"], stride=2, channels=3, threshold=0.2, overlap=0.4, max_objects=7
    ),
    T.TokenTagging("t", labels=LABELS),
    T.SequenceTranscription("t", "abc", time_axis="height"),
    T.Embedding("t", 5, hidden=2, temperature=0.3),
]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: T.MultiLabel("t", 0), "at least 1 label"),
        (lambda: T.Ordinal("t", 1), "at least 2 levels"),
        (lambda: T.Depth("t", scale=0), "scale must be > 0"),
        (lambda: T.Keypoints("t", 2, labels=["a"]), "2 points but 1 names"),
        (lambda: T.Detection("t", 0), "at least 1 class"),
        (lambda: T.TokenTagging("t"), "give `num_tags` or `labels`"),
        (lambda: T.SequenceTranscription("t", "aba"), "an alphabet of different letters"),
        (lambda: T.SequenceTranscription("t", "ab", time_axis="depth"), "'width' or 'height'"),
        (lambda: T.Embedding("t", 1), "size >= 2"),
        (
            lambda: mtl.builders.hard_sharing((5,), [T.TokenTagging("t", 3)], "mlp"),
            "needs a stage that is a sequence",
        ),
        (lambda: mtl.builders.hard_sharing((5,), [T.Depth("t")], "mlp"), "needs an image input"),
        (
            lambda: mtl.builders.hard_sharing((None, None, 1), [T.Detection("t")]),
            "images of fixed size",
        ),
    ],
)
def test_impossible_tasks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (ALL[0], np.array([[0, 1, 2]]), "hold 2.0.*expected 0, 1"),
        (ALL[1], np.array([4]), "whole numbers from 0 to 3"),
        (ALL[4], np.array([[[0.5, 1.5], [0, 0]]]), "parts of the image's size"),
        (ALL[5], np.array([[[0.5, 0.5, 0.4, 0.9, 0]]]), "right < left"),
        (ALL[5], np.array([[[0.1, 0.1, 0.4, 0.9, 2]]]), "classes from 0 to 1"),
        (ALL[5], np.zeros((2, 4)), r"\(rows, any, 5\) was expected"),
        (ALL[6], np.array([[0, 7]]), "whole numbers from 0 to 4"),
        (ALL[7], np.array([[3]]), "numbers of letters, 0 to 2"),
        (ALL[8], np.array([-3]), "whole numbers >= 0"),
    ],
)
def test_wrong_labels_are_refused(task, labels, words):
    with pytest.raises(ValueError, match=words):
        task.check_labels(labels)


@pytest.mark.large
def test_all_of_them_train_together_and_go_to_the_phone(tmp_path):
    rng = np.random.default_rng(0)
    rows = 8
    x = rng.random((rows, 16, 16, 1)).astype("float32")
    tasks = [
        T.MultiLabel("labels", 3, hidden=4),
        T.Ordinal("level", 4, hidden=4),
        T.Depth("depth", channels=4),
        T.Normals("normals", channels=4),
        T.Keypoints("points", 2, channels=4),
        T.Detection("things", 2, stride=2, channels=4),
        T.SequenceTranscription("text", "abc"),
        T.Embedding("vector", 4, hidden=4),
    ]
    y = {
        "labels": rng.integers(-1, 2, (rows, 3)),
        "level": np.arange(rows) % 4,
        "depth": rng.random((rows, 16, 16, 1)).astype("float32"),
        "normals": rng.standard_normal((rows, 16, 16, 3)).astype("float32"),
        "points": rng.random((rows, 2, 2)).astype("float32"),
        "things": np.repeat(BOXES, rows, axis=0),
        "text": np.tile([0, 1, -1], (rows, 1)),
        "vector": np.arange(rows) % 3,
    }
    model = mtl.builders.hard_sharing((16, 16, 1), tasks, backbone_options=SIZES)
    model.compile("adam", balancer="uncertainty")
    history = model.fit(x, y, batch_size=4, verbose=0).history
    assert all(np.isfinite(v[-1]) for v in history.values())
    # Where a task has no label at all the others go on, and its own head stays as it is.
    absent = {
        name: mtl.data.complete({k: v for k, v in y.items() if k != name}, model)[name]
        for name in y
    }
    for name in ("labels", "depth", "things", "text", "vector"):
        head = [v for v in model.trainable_variables if v.path.startswith(f"{name}_")]
        before = [v.numpy() for v in head]
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        logs = model.train_on_batch(x, {**y, name: absent[name]}, return_dict=True)
        assert np.isnan(logs[f"{name}_loss"]) and np.isfinite(logs["loss"])
        assert all((v.numpy() == old).all() for v, old in zip(head, before, strict=True)), name
    decoded = model.decode(model.predict(x, verbose=0))
    assert all(len(rows_of) == rows for rows_of in decoded.values())
    scores = mtl.analysis.trivial(tasks, y, y)
    assert all(np.isfinite(v) for v in scores.values())
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["things"], model.predict(x, verbose=0)["things"]
    )
    for quantization in (None, "int8"):
        report = mtl.export.tflite(
            model, tmp_path / "m.tflite", quantization=quantization, calibration=x
        )
        assert [head.name for head in report.heads] == model.task_names


def _reader(times, length=None):
    """A network that writes as many letters as it has steps; with `length`, steps of padding are
    masked."""
    task = T.SequenceTranscription("text", "ab")

    def backbone(frames):
        x = frames if length is None else keras.layers.Masking(name="masking")(frames)
        return {"stage1": keras.layers.Dense(4, name="dense")(x)}

    keras.utils.set_random_seed(0)
    model = mtl.builders.hard_sharing({"frames": (times, 2)}, [task], backbone)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


def test_texts_that_the_output_cannot_write_are_refused_by_row():
    model, x = _reader(4), np.ones((3, 4, 2), "float32")
    # "aab" needs four times, "abab" too; "aaba" five.
    fits = np.array([[0, 0, 1, -1], [0, 1, 0, 1], [-1, -1, -1, -1]])
    assert np.isfinite(model.train_on_batch(x, {"text": fits}, return_dict=True)["loss"])
    long = np.array([[0, 1, -1, -1], [0, 0, 1, 0], [-1, -1, -1, -1]])
    for call in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError, match=r"task 'text' are too long.*row 1: it needs 5 times.*has 4"
        ):
            call(x, {"text": long}, verbose=0)
    # Batches behind the first of a data set are not looked at before: their step is not taken, and
    # says why.
    before = model.get_weights()
    data = tf.data.Dataset.from_tensor_slices((x[:2], {"text": long[:2]})).batch(1)
    with pytest.raises(
        ValueError, match="task 'text' is not finite.*longer than the output can write"
    ):
        model.fit(data, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights()) and len(before) == len(
        model.get_weights()
    )


def test_a_masked_sequence_is_read_to_its_end_only():
    long, short = _reader(6, length=3), _reader(3)
    long.set_weights(short.get_weights())
    x = np.random.default_rng(1).uniform(1, 2, (2, 3, 2)).astype("float32")
    padded, labels = np.pad(x, [(0, 0), (0, 3), (0, 0)]), {"text": np.array([[0, 1], [1, -1]])}
    a, b = short.evaluate(x, labels, verbose=0), long.evaluate(padded, labels, verbose=0)
    assert b["text_loss"] == pytest.approx(a["text_loss"], rel=1e-5)
    assert b["text_edit_distance"] == pytest.approx(a["text_edit_distance"], rel=1e-5)
    assert long.decode(long.predict(padded, verbose=0)) == short.decode(short.predict(x, verbose=0))
    np.testing.assert_array_equal(
        long(padded)["text"][:, 3:], np.broadcast_to([1, 0, 0], (2, 3, 3))
    )
