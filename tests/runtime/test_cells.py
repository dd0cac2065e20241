"""Cells as people write them, and CSV files as people have them."""

import numpy as np
import pytest

from mtl_keras.runtime.cells import decimal_mark, is_date, is_missing, to_date, to_number, to_truth
from mtl_keras.runtime.table_files import TableError, read_csv


@pytest.mark.parametrize(
    ("cell", "decimal", "value"),
    [
        ("1,234.5", ".", 1234.5),
        ("1.234,5", ",", 1234.5),
        ("1,234", ".", 1234.0),
        ("1,234", ",", 1.234),
        ("1 234,5", ",", 1234.5),
        ("1\u202f234\u00a0567,5", ",", 1234567.5),
        ("1'000", ".", 1000.0),
        ("\u22125", ".", -5.0),
        ("12 %", ".", 0.12),
        ("12,5%", ",", 0.125),
        ("1e-4", ".", 1e-4),
        ("+3.", ".", 3.0),
        (".5", ".", 0.5),
        ("1,5", ".", None),
        ("1_000", ".", None),
        ("inf", ".", None),
        ("12 kg", ".", None),
        (7, ".", 7.0),
        (True, ".", 1.0),
    ],
)
def test_numbers(cell, decimal, value):
    number = to_number(cell, decimal)
    assert number is None if value is None else number == pytest.approx(value, abs=0, rel=1e-12)


def test_the_decimal_mark_is_what_cannot_group_thousands():
    assert decimal_mark(["1,5", "2,25", "x"]) == ","
    assert decimal_mark(["0.123", "5"]) == "."
    assert decimal_mark(["1.234,5"]) == "," and decimal_mark(["1,234.5"]) == "."
    assert decimal_mark(["1,234", "hello, world", "end.", "v1.2.3"]) is None


def test_missing_cells_and_truths():
    assert all(is_missing(cell) for cell in ("", " ", "NA", "?", "-", None, float("nan"), "—"))
    assert not any(is_missing(cell) for cell in ("none", "0", 0, False, "Na"))
    assert [to_truth(cell) for cell in ("Yes", "ja", "FALSE", "non", "maybe", True)] == [
        True,
        True,
        False,
        False,
        None,
        True,
    ]


def test_dates_have_the_form_that_the_whole_column_has():
    days = to_date(["03/04/2024", "05/04/2024"])
    assert str(days[0]) == "2024-04-03T00:00:00"
    months = to_date(["03/04/2024", "03/25/2024", None])
    assert str(months[0]) == "2024-03-04T00:00:00" and np.isnat(months[2])
    assert str(to_date(["2024-01-02T10:00:00+02:00"])[0]) == "2024-01-02T08:00:00"
    assert str(to_date(["31.12.2024 9:15"])[0]) == "2024-12-31T09:15:00"
    assert is_date("2024年3月1日") and not is_date("3.5") and not is_date("1-2")
    with pytest.raises(ValueError, match="'soon' is no date"):
        to_date(["2024-01-01", "soon"])


def _write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_spreadsheet_s_export(tmp_path):
    text = 'name;note;price\n"Å; B";"two\nlines ""quoted""";1,5\n\nC;?;1.234,5\n'
    file = read_csv(_write(tmp_path / "flats.csv", text, "utf-8-sig"))
    assert (file.delimiter, file.decimal) == (";", ",")
    assert file.columns["name"].tolist() == ["Å; B", "C"]
    assert file.columns["note"].tolist() == ['two\nlines "quoted"', None]
    # A row is named by the line in which it begins.
    assert file.row_names == ["flats.csv:2", "flats.csv:5"]


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", None), ("utf-16-le", None), ("latin-1", "latin-1"), ("gb18030", "gb18030")],
)
def test_encodings(tmp_path, encoding, named):
    city = "上海" if encoding == "gb18030" else "Málaga"
    path = _write(tmp_path / "t.csv", f"city,n\n{city},1\n{city},2\n", encoding)
    assert read_csv(path, encoding=named).columns["city"].tolist() == [city, city]


def test_another_encoding_is_named_in_the_error(tmp_path):
    path = _write(tmp_path / "t.csv", "city,n\nOslo,1\nMálaga,2\n", "latin-1")
    with pytest.raises(TableError, match=r"t.csv is not utf-8: line 3 holds byte 0xe1.*'latin-1'"):
        read_csv(path)
    with pytest.raises(TableError, match="no encoding 'latin-x'"):
        read_csv(path, encoding="latin-x")


def test_tabs_and_bars_are_found(tmp_path):
    for delimiter in "\t|":
        path = _write(tmp_path / "t.csv", f"a{delimiter}b\n1,5{delimiter}x, y\n")
        assert read_csv(path).columns["b"].tolist() == ["x, y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "no row below its column names"),
        ("1,2\n3,4\n", "should hold the names of the columns"),
        ("a,a\n1,2\n", "Column 'a' stands 2 times"),
        ("a,b\n1,2\n1,2,3\n", "t.csv:3 has 3 cells, and there are 2 columns"),
        ("a,b\n1\n", "t.csv:2 has 1 cells"),
        ('a,b\n1,"2\n', "t.csv:2 can't be read as CSV"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(TableError, match=message):
        read_csv(_write(tmp_path / "t.csv", text))


def test_an_index_column_without_a_name_and_empty_cells_behind(tmp_path):
    file = read_csv(_write(tmp_path / "t.csv", ",a,b\n0,1,2,\n1,3,4,,\n"))
    assert list(file.columns) == ["unnamed_1", "a", "b"]
