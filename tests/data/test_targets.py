"""Tasks and the columns of their labels."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data import DataError


def test_tasks_come_in_every_form():
    columns = {
        "x": np.arange(40.0) % 7,
        "a": np.arange(40) % 2,
        "b": (np.arange(40) // 2) % 2,
        "who": ["cat; dog", "dog", "", "cat"] * 10,
        "x1": np.linspace(0, 1, 40),
        "x2": np.linspace(1, 0, 40),
    }
    both = mtl.tasks.MultiLabel("both", 2)
    animals = mtl.tasks.MultiLabel("animals", 2, labels=["cat", "dog"])
    point = mtl.tasks.Regression("point", size=2)
    data = mtl.data.from_dataframe(
        columns,
        {both: ["a", "b"], animals: "who", point: ["x1", "x2"], "x1": mtl.tasks.Regression("x1")},
        inputs=["x"],
    )
    assert data.labels("both").tolist()[:3] == [[0, 0], [1, 0], [0, 1]]
    np.testing.assert_array_equal(data.labels("animals")[:2], [[1, 1], [0, 1]])
    assert np.isnan(data.labels("animals")[2]).all()
    np.testing.assert_allclose(data.labels("point").sum(1), 1, rtol=1e-6)
    assert data.task_names == ["both", "animals", "point", "x1"]


GRADE = mtl.tasks.Classification("grade", 3)


@pytest.mark.parametrize(
    ("task", "cells", "message"),
    [
        (GRADE, [1, 2, 3] * 4, "p, row 2: classes of task 'grade' seem to be numbered from 1 to 3"),
        (GRADE, [0, 2, 5] * 4, "p, row 2: the label of task 'grade' should be a whole number"),
        (GRADE, ["a", "b"] * 6, "has 3 classes, and its column holds 2 different labels"),
        (
            mtl.tasks.Classification("grade", 2, labels=["low", "high"]),
            ["low", "hihg"] * 6,
            r"p, row 1: task 'grade'.*'hihg'.*high",
        ),
        (mtl.tasks.Binary("grade"), [1, 2] * 6, "p, row 1: .*numbered from 1: subtract 1"),
        (mtl.tasks.Binary("grade"), [10, 55, 80] * 4, "percentages: divide by 100"),
        (mtl.tasks.Binary("grade"), ["benign", "malign"] * 6, "names of classes make a"),
        (mtl.tasks.Regression("grade"), ["3", "x"] * 6, "p, row 1: .* a number. Received: 'x'"),
        (mtl.tasks.Regression("grade", log=True), [-1, 4] * 6, "p, row 0: .*counts"),
        (mtl.tasks.MultiLabel("grade", 2), ["a;b", "a"] * 6, "name them, `labels"),
        (mtl.tasks.Segmentation("grade", 2), [0, 1] * 6, "give a column per number"),
    ],
)
def test_bad_labels_are_refused_with_the_row(task, cells, message):
    columns = {"x": np.arange(12.0) % 5, "grade": cells}
    with pytest.raises(DataError, match=message):
        mtl.data.from_dataframe(columns, [task], name="p")


@pytest.mark.parametrize("cells", [[0, 2, 1, None] * 3, ["0", "2", "1", "NA"] * 3])
def test_numbers_of_classes_go_with_words_for_their_names(cells):
    task = mtl.tasks.Classification("kind", 3, labels=["cup", "hat", "shoe"])
    data = mtl.data.from_dataframe({"x": np.arange(12.0), "kind": cells}, [task])
    assert data.labels("kind").tolist() == [0, 2, 1, -1] * 3
    named = mtl.tasks.Classification("kind", 3, labels=["3", "4", "5"])
    with pytest.raises(DataError, match="Unknown label"):
        mtl.data.from_dataframe({"x": np.arange(12.0), "kind": cells}, [named])


def test_percentages_are_probabilities():
    columns = {"x": [1, 2, 4], "sure": ["80 %", "5%", "?"]}
    data = mtl.data.from_dataframe(columns, [mtl.tasks.Binary("sure")], inputs=["x"])
    np.testing.assert_allclose(data.labels("sure").ravel(), [0.8, 0.05, np.nan])


def test_guesses_of_tasks():
    guess = mtl.tasks.guess_task
    assert guess("t", ["yes", "no", "?"]).kind == "binary"
    assert guess("t", [0, 1, np.nan]).kind == "binary"
    assert guess("t", ["10", "2", "2", "10", "10", "2"]).labels == ["2", "10"]
    assert guess("t", np.arange(50)).kind == "regression" and guess("t", [1.5, 2]).needs_fit
    assert guess("t", ["1,5", "2"], decimal=",").kind == "regression"
    assert guess("t", [1, 2, 3], "ordinal").labels == ["1", "2", "3"]
    with pytest.raises(ValueError, match="no label in any row"):
        guess("t", ["", None])
    with pytest.raises(ValueError, match="one label only, 'a'"):
        guess("t", ["a", "a"])
    with pytest.raises(ValueError, match="should have numbers"):
        guess("t", ["a", "b"], "regression")
    with pytest.raises(ValueError, match="kind of task"):
        guess("t", ["a", "b"], "regresion")


def test_targets_of_tables_of_any_source():
    from mtl_keras.data.targets import read_labels, resolve_targets

    table = {"Wind speed": ["1,5", "?"], "kind": ["a", "b"]}
    targets = resolve_targets({"wind": "Wind speed", "kind": "kind"}, table, "t", ",")
    assert [target.columns for target in targets] == [("Wind speed",), ("kind",)]
    task, labels = read_labels(targets[0], table, ["r0", "r1"], decimal=",")
    assert task.kind == "regression" and labels[0] == 1.5 and np.isnan(labels[1, 0])
