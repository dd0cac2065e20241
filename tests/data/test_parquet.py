"""Parquet files, wherever a table may be one."""

import pytest

import mtl_keras as mtl
from mtl_keras.data import DataError
from mtl_keras.data.parquet import read_parquet
from mtl_keras.runs.own_data import tasks_of

pandas = pytest.importorskip("pandas")


def test_columns_keep_their_values(tmp_path):
    frame = pandas.DataFrame({"Größe": [1.5, None, 3.0], "city": ["Oslo", None, "東京"]})
    frame.to_parquet(tmp_path / "t.parquet")
    columns = read_parquet(tmp_path / "t.parquet")
    assert columns["Größe"].to_pylist() == [1.5, None, 3.0]
    assert columns["city"].to_pylist() == ["Oslo", None, "東京"]


@pytest.mark.parametrize(
    "read",
    [
        read_parquet,
        lambda path: mtl.data.from_parquet(path, {"a": "a"}),
        lambda path: tasks_of(path, ["a"]),
        lambda path: mtl.data.from_folder(path.parent, labels=path, tasks={"a": "a"}, kind="image"),
    ],
    ids=["reader", "from_parquet", "train", "from_folder"],
)
def test_a_damaged_file_is_one_sentence_with_its_name(read, tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="t.parquet can't be read as Parquet"):
        read(tmp_path / "t.parquet")
