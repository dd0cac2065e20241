"""`TaskDataset.describe`: what a data set holds, as text, plain values, and a picture."""

import json

import numpy as np
import pytest

import mtl_keras as mtl

RNG = np.random.default_rng(0)
Y = {
    "kind": RNG.choice([-1, 0, 1], 200, p=[0.25, 0.25, 0.5]),
    "sold": np.r_[np.ones(1), np.zeros(199)],
    "price": np.where(RNG.random(200) < 0.5, np.nan, RNG.normal(50, 10, 200)),
    "genre": np.c_[RNG.integers(0, 2, (200, 2)), np.zeros(200)],
}
TASKS = [
    mtl.tasks.Classification("kind", 3, labels=["cat", "dog", "emu"]),
    mtl.tasks.Binary("sold"),
    mtl.tasks.Regression("price"),
    mtl.tasks.MultiLabel("genre", 3),
    mtl.tasks.BoundingBox("box"),
]


@pytest.fixture(scope="module")
def data():
    return mtl.data.from_arrays(RNG.random((200, 4)), Y, TASKS, group=np.arange(200) // 2)


def test_numbers_are_those_of_the_labels(data):
    description = data.describe()
    by_name = {task.name: task for task in description.tasks}
    assert by_name["kind"].rows == (Y["kind"] >= 0).sum()
    assert by_name["kind"].classes == {
        "cat": (Y["kind"] == 0).sum(),
        "dog": (Y["kind"] == 1).sum(),
        "emu": 0,
    }
    assert by_name["sold"].classes == {"no": 199, "yes": 1}
    assert by_name["genre"].classes == dict(zip("012", Y["genre"].sum(0).astype(int), strict=True))
    price = Y["price"][np.isfinite(Y["price"])].astype("float32")
    assert by_name["price"].numbers["median"] == pytest.approx(np.median(price))
    assert by_name["price"].numbers["std"] == pytest.approx(price.std(), rel=1e-5)
    assert by_name["price"].share == pytest.approx(len(price) / 200)
    assert by_name["box"].rows == 0 and description.groups == 100
    part = data[:50].describe()
    assert part.rows == 50 and part.tasks[0].rows == (Y["kind"][:50] >= 0).sum()


def test_what_looks_wrong_is_said(data):
    notes = "\n".join(data.describe().notes)
    assert "Task 'box' has no label in any row." in notes
    assert "Task 'kind' has classes without a row: emu." in notes
    assert "Task 'sold' has classes below 1 % of its rows: yes." in notes
    same = mtl.data.from_arrays(np.arange(8.0)[:, None], {"price": np.ones(8)}, [TASKS[2]])
    assert any("the label 1 in each row" in note for note in same.describe().notes)


def test_it_is_text_json_and_a_picture(data, tmp_path):
    description = data.describe()
    text = str(description)
    assert "200 rows" in text and "100 groups" in text and "dog" in text
    assert json.loads(json.dumps(description.to_dict()))["tasks"]["sold"]["classes"]["yes"] == 1
    figure = description.plot(tmp_path / "d.png")
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[1:3] == ["kind (classification)", "sold (binary)"]
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([task.share for task in description.tasks])


def test_repeated_rows_of_arrays_are_found_and_stay_together():
    x = np.r_[np.arange(30.0), np.arange(5.0)][:, None]
    data = mtl.data.from_arrays(x, {"price": x[:, 0]}, [TASKS[2]])
    assert data.describe().duplicates == 5
    train, test = data.split(0.5, 0.5, seed=1)
    assert not set(train.labels("price").ravel()) & set(test.labels("price").ravel())
