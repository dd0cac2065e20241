"""Pictures: what stands in them, in which form data may come, and files that are never half
written."""

import io
import warnings

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import font_manager, pyplot
from matplotlib.text import Text
from PIL import Image

import mtl_keras as mtl
from mtl_keras.plot.answers import answer
from mtl_keras.plot.figures import shorten, text_width
from mtl_keras.plot.history import best_epoch
from mtl_keras.plot.rows import read_words
from tests.helpers import image_data, image_model, table_data, table_model


def words(figure):
    """All texts of a picture."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip()]


def in_(figure, part):
    return any(part in text for text in words(figure))


@pytest.fixture(scope="module")
def pictures():
    model, (x, y) = image_model(), image_data(6)
    y["kind"][1] = -1
    y["box"][2] = np.nan
    return model, x, y


# ------------------------------------------------------------------ predictions
def test_predictions_name_right_wrong_and_missing(pictures):
    model, x, y = pictures
    y = {**y, "kind": model.predict_on_batch(x)["kind"].argmax(1)}
    y["kind"][1], y["kind"][2] = -1, (y["kind"][2] + 1) % 3
    figure = mtl.plot.predictions(model, (x, y), count=3)
    lines = [line for line in words(figure) if "kind: " in line]
    assert [line[0] for line in lines] == ["✓", "k", "✗"]
    assert "(no label)" in lines[1] and f"(is {y['kind'][2]})" in lines[2]
    assert in_(figure, "box (no label)") and in_(figure, "row 2") and not in_(figure, "row 3")
    # A picture, and truth and prediction of the mask, of each row.
    assert len(figure.axes) == 9


def test_data_come_in_every_form(pictures):
    model, x, y = pictures
    batched = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    rows = mtl.data.from_arrays({model.inputs[0].name: x}, y, model.tasks)
    texts = [
        words(mtl.plot.predictions(model, data, 3, tasks=["kind"]))
        for data in ((x, y), batched, rows, (x, y, None))
    ]
    assert texts[0] == texts[1] == texts[2] == texts[3]
    assert in_(mtl.plot.predictions(model, (x, None), 2), "(no label)")
    with pytest.raises(TypeError, match="Received: ndarray"):
        mtl.plot.predictions(model, x)
    with pytest.raises(ValueError, match="task in the labels"):
        mtl.plot.predictions(model, (x, {"age": y["kind"]}))
    with pytest.raises(ValueError, match="no row"):
        mtl.plot.predictions(model, (x[:0], {}))
    with pytest.raises(ValueError, match="`count`"):
        mtl.plot.predictions(model, (x, y), 0)


#: Every kind of task: an output, a label, whether it is right, and what is said.
ANSWERS = {
    "class": (
        mtl.tasks.Classification("t", 2, labels=["cat", "dog"]),
        [0.2, 0.8],
        0,
        False,
        "dog 80%|is cat",
    ),
    "binary": (mtl.tasks.Binary("t"), [0.3], 0, True, "no 70%|"),
    "multi_label": (
        mtl.tasks.MultiLabel("t", 3, labels=["a", "b", "c"]),
        [0.9, 0.1, 0.8],
        [1, 1, -1],
        False,
        "a 90%, c 80%|is a, b; 1 label not known",
    ),
    "ordinal": (mtl.tasks.Ordinal("t", 3), [0.9, 0.2], 1, True, "1 70%|"),
    "regression": (
        mtl.tasks.Regression("t", unit="kg", log=True),
        [np.log(1001)],
        1234.5,
        None,
        "1,000 kg|is 1,234 kg",
    ),
    "box": (
        mtl.tasks.BoundingBox("t"),
        [0, 0, 0.5, 1],
        [0, 0, 1, 1],
        True,
        "|overlap 50%",
    ),
    "points": (
        mtl.tasks.Keypoints("t", 2),
        [[0.5, 0.5], [0.1, 0.1]],
        [[0.5, 0.55], [np.nan, 0]],
        True,
        "|1 of 1 points within 10%",
    ),
    "mask": (
        mtl.tasks.Segmentation("t", 1),
        [[[0.9], [0.9]], [[0.1], [0.1]]],
        [[1, 0], [-1, 0]],
        None,
        "|overlap 50%",
    ),
    "depth": (
        mtl.tasks.Depth("t", unit="m"),
        [[[2.0], [3.0]]],
        [[1.0, 0.0]],
        None,
        "|off by 1 m",
    ),
    "normals": (mtl.tasks.Normals("t"), [[[1.0, 0, 0]]], [[[0, 2.0, 0]]], None, "|off by 90°"),
    "tags": (
        mtl.tasks.TokenTagging("t", labels=["O", "B-X"]),
        [[0.9, 0.1], [0.2, 0.8]],
        [0, -1],
        True,
        "X|1 of 1 tokens right",
    ),
    "said": (
        mtl.tasks.SequenceTranscription("t", "ab"),
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
        [0, 0, -1],
        False,
        "“ab”|is “aa”",
    ),
    "objects": (
        mtl.tasks.Detection("t", 1, labels=["cup"]),
        [[[0.9, 0.5, 0.5, 0.5, 0.5]]],
        [[0.25, 0.25, 0.75, 0.75, 0], [0, 0, 0.1, 0.1, 0]],
        False,
        "cup 90%|1 of 2 found",
    ),
    "vector": (mtl.tasks.Embedding("t", 2), [1.0, 0.0], 3, None, "2 numbers|"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_of_every_kind_is_put_into_words(kind):
    task, output, label, is_right, text = ANSWERS[kind]
    said = answer(task, np.asarray(output), np.asarray(label))
    assert (f"{said.text}|{said.note}", said.is_right) == (text, is_right)
    assert answer(task, np.asarray(output), None).note == "no label"


@pytest.mark.large
def test_text_and_tables_are_read_back_from_the_encoder():
    encoder = mtl.data.TableEncoder.fit(
        {"age": [30.0, 50.0], "city": ["Oslo", "$5"]}, ["age"], ["city"]
    )
    model = mtl.builders.hard_sharing(
        {"numeric": (1,), "categorical": (1,)},
        [mtl.tasks.Binary("sold")],
        "mlp",
        backbone_options={"cardinalities": encoder.cardinalities},
        encoder=encoder,
    )
    x = encoder.encode({"age": [41.5, 7.0], "city": ["$5", "Bergen"]})
    figure = mtl.plot.predictions(model, (x, {}))
    assert {"age", "41.5", "$5", "(unknown)"} <= set(words(figure))
    assert in_(mtl.plot.saliency(model, (x, {}), "sold", steps=4), "city = $5")
    tokenizer = mtl.data.WordTokenizer(["good", "soup"], length=4)
    tasks = [mtl.tasks.Binary("positive"), mtl.tasks.TokenTagging("tag", labels=["O", "B-X"])]
    model = mtl.builders.hard_sharing(
        {"tokens": (4,)}, tasks, "gru", backbone_options={"vocabulary_size": 4}, encoder=tokenizer
    )
    ids = tokenizer.encode(["Good cold soup"])
    labels = {"tag": np.array([[0, 1, -1, -1]])}
    assert in_(mtl.plot.predictions(model, (ids, labels)), "good ? soup")
    raw = ["Good, cold soup!"]
    assert in_(mtl.plot.predictions(model, (ids, labels), raw=raw), "Good, cold soup!")
    assert {"good", "?", "soup"} <= set(words(mtl.plot.saliency(model, (ids, {}), steps=4)))


def test_ids_of_every_tokenizer_are_read_back():
    text = "low lower lowest"
    subwords = mtl.data.SubwordTokenizer.fit([text] * 3, size=20, length=16)
    letters = mtl.data.CharTokenizer.fit([text], length=20)
    words = mtl.data.WordTokenizer.fit([text], 10, 5)
    for encoder in (subwords, letters, words):
        (ids,) = encoder.encode([text])
        assert read_words(encoder, {encoder.name: ids}) == text
    hashed = mtl.data.HashingTokenizer(size=50, length=5)
    assert read_words(hashed, {hashed.name: hashed.encode([text])[0]}) is None


# ------------------------------------------------------------------ curves
def test_best_epochs_follow_the_metrics_direction():
    assert best_epoch([3, 1, 2, 1], "min") == 1 and best_epoch([3, np.nan, 5], "max") == 2
    assert best_epoch([np.nan, np.nan], "min") is None
    logs = {
        "loss": [3.0, 2.0, 2.5],
        "val_loss": [4.0, 3.5, 3.0],
        "a_loss": [1.0, 1.0, 1.0],
        "a_b_loss": [2.0, 1.0, 1.5],
        "a_b_accuracy": [0.1, 0.9, 0.3],
        "val_a_b_accuracy": [0.7, 0.2, 0.3],
        "a_error": [1.0, 3.0, np.nan],
        "a_weight": [1.0, 0.5, 0.2],
        "learning_rate": [0.1, 0.01, 0.001],
    }
    figure = mtl.plot.history(logs)
    notes = {axis.get_title(loc="left"): [t.get_text() for t in axis.texts] for axis in figure.axes}
    assert notes["loss"] == ["best 3, epoch 3"]
    assert notes["a_b_loss"] == ["best 1, epoch 2"]
    assert notes["a_b_accuracy"] == ["best 0.7, epoch 1"]
    assert notes["a_error"] == ["best 1, epoch 1"]
    assert {"weights of the tasks", "learning rate"} <= set(notes)
    assert in_(mtl.plot.history(logs, directions={"a_error": "max"}), "best 3, epoch 2")
    with pytest.raises(ValueError, match="no epoch"):
        mtl.plot.history({"loss": []})


@pytest.mark.large
def test_the_models_own_directions_hold():
    model, (x, y) = table_model([mtl.tasks.Regression("cost", hidden=0)]), table_data()
    model.compile("sgd")
    log = model.fit(x, {"cost": y["cost"]}, epochs=2, verbose=0)
    figure = mtl.plot.history(log)
    values = log.history["cost_r2"]
    note = f"best {max(values):.4g}, epoch {int(np.argmax(values)) + 1}"
    (axis,) = [a for a in figure.axes if a.get_title(loc="left") == "cost_r2"]
    assert [text.get_text() for text in axis.texts] == [note]


# ------------------------------------------------------------------ numbers in pictures
def test_confusion_and_reliability_hold_the_numbers_of_analysis(pictures):
    model, x, y = pictures
    matrix = mtl.analysis.confusion_matrix(
        model.task("kind"), model.predict_on_batch(x)["kind"], y["kind"]
    )
    batched = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    figure = mtl.plot.confusion(model, batched, "kind", normalize=False)
    cells = [int(text.get_text()) for text in figure.axes[0].texts]
    assert cells == matrix.ravel().tolist()
    # Percentages of each true class; every task of classes without a name.
    figure = mtl.plot.confusion(model, (x, y))
    assert [axis.get_title().split("\n")[0] for axis in figure.axes] == ["kind", "mask"]
    error = mtl.analysis.expected_calibration_error(
        model.task("kind"), model.predict_on_batch(x)["kind"], y["kind"], 10
    )
    assert in_(mtl.plot.reliability(model, batched), f"calibration error {error:.1%}")
    with pytest.raises(ValueError, match="'box'.*no classes"):
        mtl.plot.confusion(model, (x, y), "box")
    only_boxes = image_model([mtl.tasks.BoundingBox("box", hidden=4, channels=4)])
    with pytest.raises(ValueError, match="No task of this model"):
        mtl.plot.confusion(only_boxes, (x, {"box": y["box"]}))


def test_the_map_of_the_representation_is_colored_by_labels(pictures):
    model, x, y = pictures
    figure = mtl.plot.embedding(model, (x, y), "kind")
    dots = np.concatenate([part.get_offsets() for part in figure.axes[0].collections])
    points = mtl.analysis.project(mtl.analysis.representations(model, (x, y)))
    np.testing.assert_allclose(np.sort(dots[:, 0]), np.sort(points[:, 0]), atol=1e-9)
    assert in_(figure, "no label")
    with pytest.raises(ValueError, match="`color_by`.*'box'.*bounding_box"):
        mtl.plot.embedding(model, (x, y), "box")


def test_saliency_has_a_line_per_row_and_a_column_per_task(pictures):
    model, x, y = pictures
    figure = mtl.plot.saliency(model, (x, y), ["kind", "mask"], count=2)
    assert len(figure.axes) == 2 * 3 and in_(figure, "Grad-CAM at ")


# ------------------------------------------------------------------ figures and files
def test_a_figure_shows_in_notebooks_and_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "new" / "curves.png"
    figure = mtl.plot.history({"loss": [1.0, 0.5]}, path)
    assert Image.open(path).format == "PNG" and not pyplot.get_fignums()
    assert Image.open(io.BytesIO(figure._repr_png_())).format == "PNG"
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(mtl.plot.Picture, "savefig", fail)
    with pytest.raises(mtl.export.ExportError, match="disk full.*unchanged"):
        mtl.plot.history({"loss": [1.0, 0.1]}, path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"should end in \.png"):
        mtl.plot.history({"loss": [1.0]}, tmp_path / "curves.doc")


def test_names_without_a_font_are_said(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mtl.plot.history({"loss": [1.0], "größe_loss": [1.0]})
    fonts = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    with pytest.warns(UserWarning, match="No font on this machine has the letters 日 本"):
        mtl.plot.history({"loss": [1.0], "日本_loss": [1.0]})


def test_wide_letters_count_twice():
    assert text_width("日本 ab") == 7
    assert shorten("日本語日本語", 7) == "日本語…" and shorten("short", 7) == "short"
