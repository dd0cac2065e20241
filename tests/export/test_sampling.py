"""Data that do not fit the network are refused before any work, with what would do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras.export import sampling


@pytest.fixture(scope="module")
def network():
    """A picture in the encoder's scale, and words of a vocabulary of ten."""
    tasks = [mtl.tasks.Regression("cost", hidden=0)]

    def trunk(inputs):
        words = keras.layers.Embedding(10, 4, name="embedding")(inputs["words"])
        seen = keras.layers.Conv2D(4, 3, name="conv")(inputs["image"])
        pool = [
            keras.layers.GlobalAveragePooling1D()(words),
            keras.layers.GlobalAveragePooling2D()(seen),
        ]
        return keras.layers.Concatenate(name="both")(pool)

    inputs = {
        "image": keras.Input((6, 6, 1), name="image"),
        "words": keras.Input((5,), dtype="int32", name="words"),
    }
    encoder = mtl.data.ImageEncoder((6, 6), 1, name="image")
    return mtl.builders.hard_sharing(inputs, tasks, backbone=trunk, encoder=encoder)


def _fit(rows=4):
    rng = np.random.default_rng(0)
    return {
        "image": rng.random((rows, 6, 6, 1), "float32"),
        "words": rng.integers(0, 10, (rows, 5)).astype("int32"),
    }


@pytest.mark.large
def test_what_fits_is_taken_from_arrays_and_data_sets(network, tmp_path):
    x = _fit()
    for data in (
        x,
        (x, {"cost": np.zeros(4)}),
        tf.data.Dataset.from_tensor_slices(x).batch(3),
        [x["image"], x["words"]],
    ):
        report = mtl.export.tflite(network, tmp_path / "m.tflite", "int8", calibration=data)
        assert [head.name for head in report.heads] == ["cost"]
    whole = {**x, "words": x["words"].astype("float64")}
    assert (
        mtl.export.tflite(network, tmp_path / "m.tflite", calibration=None, samples=whole)
        .heads[0]
        .largest
        < 1e-5
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "Inputs image are missing"),
        (
            {"image": np.zeros((0, 6, 6, 1), "float32"), "words": np.zeros((0, 5), "int32")},
            "empty: at least one row",
        ),
        (
            {"image": np.zeros((4, 6, 7, 1), "float32")},
            r"have shape \(4, 6, 7, 1\); the model takes \(None, 6, 6, 1\)",
        ),
        (
            {"image": np.full((4, 6, 6, 1), np.nan, "float32")},
            "'image' hold values that are not finite",
        ),
        ({"image": np.full((4, 6, 6, 1), "a")}, "'image' have dtype <U1; the model takes float32"),
        (
            {"image": _fit()["image"] * 255},
            r"'image' go from .* to 2.*encoder makes go from 0 to 1.*encoder.encode",
        ),
        ({"image": np.zeros((4, 6, 6, 1), "float32")}, "never change: 'image' is always 0"),
        ({"words": np.full((4, 5), 0.5)}, "'words' hold fractions; the model takes int32"),
        (
            {"words": np.full((4, 5), 10)},
            "'words' go from 10 to 10; the model takes a vocabulary of 10: 0 to 9",
        ),
        ({"words": np.full((4, 5), -1)}, "'words' go from -1 to -1"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(network, tmp_path, change, words):
    data = {name: value for name, value in {**_fit(), **change}.items() if value is not None}
    (tmp_path / "m.tflite").write_bytes(b"good")
    with pytest.raises(ValueError, match=words):
        mtl.export.tflite(network, tmp_path / "m.tflite", "int8", calibration=data)
    assert (tmp_path / "m.tflite").read_bytes() == b"good" and len(list(tmp_path.iterdir())) == 1


def test_bytes_are_bytes(tmp_path):
    raw = mtl.export.with_raw_images(
        mtl.builders.hard_sharing((6, 6, 1), [mtl.tasks.Regression("cost")]), (8, 8)
    )
    with pytest.raises(
        ValueError, match="'image' go from 0 to 300; the model takes uint8: 0 to 255"
    ):
        mtl.export.tflite(
            raw, tmp_path / "m.tflite", samples=np.full((2, 8, 8, 1), 300) * [[[[1]]], [[[0]]]]
        )


# ------------------------------------------------------------------ which rows
def _sorted_table():
    """A network whose answers grow with its input, and rows in order."""
    x = keras.Input((3,), name="x")
    layer = keras.layers.Dense(1, name="y")
    model = keras.Model(x, {"y": layer(x)})
    layer.set_weights([np.ones((3, 1)), np.zeros(1)])
    rows = np.linspace(-1, 10, 2000)[:, None] * np.ones((1, 3)) + np.random.default_rng(0).normal(
        0, 0.05, (2000, 3)
    )
    return model, rows.astype("float32")


def _generator(rows):
    return (rows[i : i + 50] for i in range(0, len(rows), 50))


class _Batches(keras.utils.PyDataset):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def __len__(self):
        return len(self.rows) // 50

    def __getitem__(self, i):
        return self.rows[50 * i : 50 * i + 50], np.zeros(50)


_FORMS = {
    "arrays": lambda rows: rows,
    "data set": lambda rows: tf.data.Dataset.from_tensor_slices(rows).batch(32),
    "for ever": lambda rows: tf.data.Dataset.from_tensor_slices(rows).batch(32).repeat(),
    "unknown length": lambda rows: tf.data.Dataset.from_generator(
        lambda: _generator(rows), output_signature=tf.TensorSpec((None, 3), "float32")
    ),
    "generator": _generator,
    "function": lambda rows: lambda: _generator(rows),
    "PyDataset": _Batches,
    "list of batches": lambda rows: [(rows[:1500], None), (rows[1500:], None)],
}


@pytest.mark.parametrize("form", _FORMS)
def test_rows_are_spread_over_sorted_data(form):
    model, rows = _sorted_table()
    drawn = sampling.take_rows(model, _FORMS[form](rows), 200)["x"].mean(1)
    assert len(drawn) == 200 and len(np.unique(drawn)) > (150 if form == "for ever" else 199)
    # Each fifth of the data has a fifth of the rows, to five standard deviations of a draw; the
    # first rows are all in one.
    counts = np.histogram(drawn, np.quantile(rows.mean(1), [0, 0.2, 0.4, 0.6, 0.8, 1]))[0]
    assert np.abs(counts - 40).max() < 5 * np.sqrt(200 * 0.2 * 0.8)
    again = sampling.take_rows(model, _FORMS[form](rows), 200)["x"].mean(1)
    np.testing.assert_array_equal(drawn, again)
    # No end of the sample has an end of the data: the comparison takes the first rows.
    assert np.ptp(drawn[:40]) > 0.8 * np.ptp(rows.mean(1))


def test_the_comparison_uses_other_rows_than_the_calibration():
    model, rows = _sorted_table()
    for count in (2000, 40):
        parts = sampling.calibration_and_comparison(model, rows[:count], None, None, True)
        calibrated, compared = (
            {tuple(row) for row in part["x"]} for part in (parts.calibration, parts.comparison)
        )
        assert not calibrated & compared and parts.are_new
        assert len(compared) == min(64, count // 5) and len(calibrated) == min(
            256, count - len(compared)
        )
    held_out = sampling.calibration_and_comparison(
        model, rows[:1000], None, {"x": rows[1000:]}, True
    )
    assert (
        held_out.comparison["x"].mean() > rows[1000:].mean() - 1
        and len(held_out.calibration["x"]) == 256
    )


def test_what_the_report_calls_error_is_what_new_data_see(tmp_path):
    """Sorted rows: the first 256 reach a tenth of the range, and the error on the first 16 of them
    was called the file's."""
    model, rows = _sorted_table()
    report = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=rows)
    new = _sorted_table()[1][::7]
    error = np.abs(
        mtl.export.run_tflite(tmp_path / "m.tflite", {"x": new})["y"]
        - model.predict(new, verbose=0)["y"]
    )
    (head,) = report.heads
    assert error.mean() < 1.5 * head.mean and error.max() < 3 * head.largest
    assert head.fidelity > 0.999 and (report.rows, report.calibration_rows) == (64, 256)


def test_few_rows_are_warned_of_and_one_row_knows_no_error(tmp_path):
    model, rows = _sorted_table()
    with pytest.warns(UserWarning, match="measured on 8 rows.*at least 32"):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=rows[:10], samples=None)
    one = np.array([[1.0, 2.0, 3.0]], "float32")
    with pytest.warns(UserWarning, match="measured on 1 row:.*errors on new data are not known"):
        report = mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=one)
    assert (
        np.isnan(report.heads[0].largest)
        and report.to_dict()["heads"]["y"]["largest_error"] is None
    )
    report.show()


def test_split_refuses_data_that_never_change(tmp_path):
    model = mtl.builders.hard_sharing(
        (4,), [mtl.tasks.Regression("cost", hidden=0)], backbone="mlp"
    )
    with pytest.raises(ValueError, match="never change"):
        mtl.export.split(
            model, tmp_path / "parts", "int8", calibration=np.zeros((40, 4), "float32")
        )
    assert not list(tmp_path.iterdir())


def test_inputs_of_different_length_are_refused(network):
    x = _fit(8)
    with pytest.raises(ValueError, match=r"same number of rows. Received: 'image' 8, 'words' 5"):
        sampling.take_rows(network, {**x, "words": x["words"][:5]}, 4)
