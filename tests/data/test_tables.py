"""Tables: roles of columns, labels from cells, encoders of the training part, and what is
refused."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data import DataError, LeakWarning

N = 240


def _columns(seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, N)
    words = ["tired", "pain", "sleeps", "well", "hungry", "often", "never", "very", "bad", "good"]
    return {
        "PatientId": np.arange(1000, 1000 + N),
        "age": age,
        "weight": np.where(rng.random(N) < 0.1, np.nan, rng.normal(70, 10, N)),
        "city": rng.choice(["Oslo", "Москва", "東京"], N),
        "note": [" ".join(rng.choice(words, 6)) for _ in range(N)],
        "visit": [f"2024-0{month}-01" for month in rng.integers(1, 9, N)],
        "clinic": ["A"] * N,
        "doctor": rng.integers(0, 12, N),
        "diabetes": np.where(rng.random(N) < 0.3, None, rng.choice(["yes", "no"], N)),
        "pressure": age + rng.normal(90, 12, N),
        "grade": rng.choice(["low", "mid", "high"], N),
    }


TASKS = {"diabetes": "diabetes", "pressure": "pressure", "grade": "grade"}


def _roles(data):
    return {name: role for name, role, _ in data.describe().columns}


def test_columns_are_taken_for_what_they_are():
    data = mtl.data.from_dataframe(_columns(), TASKS, group="doctor", time="visit")
    assert _roles(data) == {
        "PatientId": "id",
        "age": "number",
        "weight": "number",
        "city": "category",
        "note": "text",
        "visit": "time",
        "clinic": "constant",
        "doctor": "group",
        "diabetes": "label",
        "pressure": "label",
        "grade": "label",
    }
    kinds = {task.name: task.kind for task in data.tasks}
    assert kinds == {"diabetes": "binary", "pressure": "regression", "grade": "classification"}
    assert data.kind == "mixed" and set(data.inputs) == {"numeric", "categorical", "note_tokens"}
    assert data.task("grade").labels == ["high", "low", "mid"]
    assert "Москва" in repr(data.encoder)


def test_named_inputs_come_before_guesses():
    columns = _columns()
    data = mtl.data.from_dataframe(columns, TASKS, inputs=["doctor", "PatientId"])
    assert list(data.encoder.numeric) == ["doctor", "PatientId"] and data.kind == "table"
    assert _roles(data)["age"] == "left out"
    data = mtl.data.from_dataframe(columns, TASKS, inputs={"doctor": "category", "age": "number"})
    assert data.encoder.categorical["doctor"] == sorted(map(str, range(12)))
    data = mtl.data.from_dataframe(columns, TASKS, leave_out=["city", "note", "doctor", "visit"])
    assert list(data.encoder.numeric) == ["age", "weight"] and list(data.inputs) == ["numeric"]
    data = mtl.data.from_dataframe(columns, TASKS, inputs=[], text="note")
    assert data.kind == "text" and list(data.inputs) == ["tokens"]


def test_encoders_and_scales_are_fitted_on_the_training_part_alone():
    columns = _columns()
    columns["city"][200:] = "Bergen"
    data = mtl.data.from_dataframe(columns, TASKS, inputs=["age", "city", "note"])
    rows = np.arange(N)
    train, test = data.parts([rows[:200], rows[200:]])
    assert data.encoder is train.encoder is test.encoder
    mean, variance = data.encoder.numeric["age"]
    assert mean == pytest.approx(columns["age"][:200].mean())
    assert variance == pytest.approx(columns["age"][:200].var())
    assert "Bergen" not in data.encoder.categorical["city"]
    assert (test.arrays()[0]["categorical"] == 0).all()
    pressure = np.asarray(columns["pressure"])[:200]
    for part in (data, train, test):
        task = part.task("pressure")
        assert task.mean == pytest.approx(pressure.mean(), rel=1e-5)
        assert task.scale == pytest.approx(pressure.std(), rel=1e-5)
    # What the network gets is what the encoder makes of raw rows.
    for name, block in data.encoder.encode(test.columns).items():
        np.testing.assert_array_equal(block, test.arrays()[0][name])


def test_a_later_split_of_the_training_part_narrows_what_is_fitted_on():
    data = mtl.data.from_dataframe(_columns(), TASKS, inputs=["age"])
    rest, test = data.split(0.8, 0.2)
    train, validation = rest.split(0.8, 0.2)
    ages = train.columns["age"]
    assert test.encoder.numeric["age"][0] == pytest.approx(ages.mean())
    assert train.encoder is validation.encoder is test.encoder
    # Once the encoder was used, it stays.
    train.split(0.5, 0.5)
    assert test.encoder.numeric["age"][0] == pytest.approx(ages.mean())
    # Another split of the whole has an encoder of its own.
    other, _ = data.split(0.5, 0.5, seed=5)
    assert other.encoder is not train.encoder and data.encoder is other.encoder


def test_a_csv_file_and_a_frame_are_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    columns = _columns()
    frame = pandas.DataFrame(columns)
    frame.to_csv(tmp_path / "p.csv", index=False)
    frame.to_csv(tmp_path / "de.csv", index=False, sep=";", decimal=",", encoding="utf-8-sig")
    reference = mtl.data.from_dataframe(frame, TASKS)
    x, y = reference.arrays()
    for file in ("p.csv", "de.csv"):
        data = mtl.data.from_csv(tmp_path / file, TASKS)
        assert _roles(data) == _roles(reference)
        for name, values in data.arrays()[0].items():
            np.testing.assert_allclose(values, x[name], rtol=1e-6)
        for name, values in data.arrays()[1].items():
            np.testing.assert_allclose(values, y[name], rtol=1e-6)
    assert data.row_names[0] == "de.csv:2"


def test_a_parquet_file_is_the_same_as_its_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(_columns())
    frame["seen"] = pandas.array([None, 1, 2] * (N // 3), dtype="Int64")
    frame.to_parquet(tmp_path / "p.parquet")
    data = mtl.data.from_parquet(tmp_path / "p.parquet", TASKS, time="visit")
    reference = mtl.data.from_dataframe(frame, TASKS, time="visit")
    assert _roles(data) == _roles(reference)
    for name, values in data.arrays()[0].items():
        np.testing.assert_allclose(values, reference.arrays()[0][name], rtol=1e-6)
    (tmp_path / "no.parquet").write_text("x")
    with pytest.raises(DataError, match=r"no.parquet can't be read as Parquet"):
        mtl.data.from_parquet(tmp_path / "no.parquet", TASKS)


def test_weights_of_rows_and_tasks():
    columns = _columns()
    columns["w"] = np.arange(N) / N
    data = mtl.data.from_dataframe(columns, TASKS, inputs=["age"], weight="w")
    np.testing.assert_allclose(data.arrays()[2], columns["w"], rtol=1e-6)
    data = mtl.data.from_dataframe(columns, TASKS, inputs=["age"], weight={"grade": "w"})
    np.testing.assert_allclose(data.arrays()[2]["grade"], columns["w"], rtol=1e-6)


def _bad(change, message, tasks=None, **options):
    columns = _columns()
    change(columns)
    with pytest.raises(DataError, match=message):
        mtl.data.from_dataframe(columns, TASKS if tasks is None else tasks, name="p.csv", **options)


def test_bad_columns_are_refused_by_name():
    def mixed(columns):
        columns["age"] = [*map(str, columns["age"][:-1]), "old"]

    _bad(mixed, r"Column 'age' of p.csv is mixed: 99.6% .* p.csv, row 239 holds 'old'")
    _bad(lambda c: None, "Column 'clinic' of p.csv holds the value 'A'", inputs=["clinic"])
    _bad(lambda c: None, "Column 'visit' of p.csv holds dates", inputs=["visit"])
    _bad(lambda c: None, r"input column in p.csv: 'aeg'.*age", inputs=["aeg"])
    _bad(lambda c: None, r"group column in p.csv: 'docter'.*doctor", group="docter")
    _bad(lambda c: None, "'grade' of p.csv is the label of task 'grade'", inputs=["grade"])
    _bad(lambda c: None, "column of task 'kind' in p.csv", tasks={"kind": "kind"})
    _bad(lambda c: None, "at least one task", tasks=[])
    _bad(lambda c: c.update(age=[1]), "one number of rows")


def test_inputs_that_tell_the_label_are_found():
    def copy(columns):
        columns["grade_de"] = [
            {"low": "niedrig", "mid": "mittel", "high": "hoch"}[g] for g in columns["grade"]
        ]

    _bad(copy, r"Column 'grade_de' is the label of task 'grade' in other words.*leave_out=")
    _bad(
        lambda c: c.update(kpa=c["pressure"] * 0.133),
        "Column 'kpa' is the label of task 'pressure'",
    )
    columns = _columns()
    noise = np.random.default_rng(0).normal(0, 0.3, N)
    columns["after"] = columns["pressure"] + noise
    with pytest.warns(LeakWarning, match=r"'after' alone gives 99.* of task 'pressure'"):
        data = mtl.data.from_dataframe(columns, TASKS)
    assert any("'after'" in note for note in data.describe().notes)
    # Named inputs are the user's own choice.
    copy(columns)
    with pytest.warns(LeakWarning, match="grade_de"):
        mtl.data.from_dataframe(columns, TASKS, inputs=["grade_de"])


def test_no_leak_is_seen_in_noise(recwarn):
    for seed in range(5):
        mtl.data.from_dataframe(_columns(seed), TASKS)
    assert not [w for w in recwarn if issubclass(w.category, LeakWarning)]


def test_duplicated_rows_are_counted():
    columns = {name: list(values) for name, values in _columns().items()}
    for values in columns.values():
        values[7] = values[3]
    columns["PatientId"][7] = 5
    description = mtl.data.from_dataframe(columns, TASKS, name="p").describe()
    assert description.duplicates == 1
    assert "1 row repeats an earlier one (p, row 7 is the first, and repeats p, row 3)" in str(
        description
    )


def test_the_network_takes_raw_rows_again(tmp_path):
    """The road in small: table with a text to a saved network that reads raw rows."""
    data = mtl.data.from_dataframe(_columns(), TASKS, inputs=["age", "city", "note"])
    train, test = data.split(0.8, 0.2)
    options = {"widths": (8,), "units": 4, "text_embedding_dim": 4}
    model = mtl.builders.hard_sharing(data.inputs, data.tasks, backbone_options=options)
    model.compile("adam")
    model.fit(train.batch(32), epochs=1, verbose=0)
    assert model.encoder is data.encoder
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    raw = {name: values[:5].tolist() for name, values in test.columns.items()}
    x = loaded.encoder.encode(raw)
    expected = model.predict(test[:5].batch(5), verbose=0)
    for name, output in loaded.predict(x, verbose=0).items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", [None, "deep_cross", "mlp"])
def test_any_backbone_for_tables_gets_what_the_data_know(backbone):
    data = mtl.data.from_dataframe(_columns(), TASKS, inputs=["age", "city"])
    model = mtl.builders.mmoe(data.inputs, data.tasks, backbone)
    assert model.encoder is data.encoder
    normalization = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)
    )
    np.testing.assert_allclose(np.ravel(normalization.mean), data.encoder.mean, rtol=1e-6)


def test_a_column_without_a_number_in_training_is_named():
    columns = {"x": [np.nan] * 5 + [1.0] * 5, "z": np.arange(10.0) % 3, "y": np.arange(10.0)}
    data = mtl.data.from_dataframe(columns, {"y": "y"})
    data.parts([np.arange(5), np.arange(5, 10)])
    with pytest.raises(DataError, match="In the training part: Column 'x' holds no number"):
        _ = data.inputs
