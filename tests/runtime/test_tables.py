"""Tables in the terminal."""

import pytest

from mtl_keras.runtime.tables import build_table, print_table


def test_a_table_prints_names_and_values(capsys):
    print_table(("task", "score"), [("digit", 0.5), ("box", 12)], title="test rows", left=["task"])
    lines = capsys.readouterr().out.splitlines()
    assert "test rows" in lines[0]
    digit = next(line for line in lines if "digit" in line)
    box = next(line for line in lines if "box" in line)
    # Numbers end in the same column; names begin in the same column.
    assert digit.index("digit") == box.index("box")
    assert digit.index("0.5") + 3 == box.index("12") + 2


def test_long_texts_are_folded_and_nothing_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    words = [f"word{i}" for i in range(30)]
    print_table(("name", "words"), [("n", " ".join(words))], box="plain")
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 40
    assert [word for word in out.split() if word.startswith("word") and word != "words"] == words


def test_a_row_of_another_length_and_an_unknown_box_are_refused():
    with pytest.raises(ValueError, match="2 values"):
        build_table(("a", "b"), [("x",)])
    with pytest.raises(ValueError, match="`box` should be one of"):
        build_table(("a",), [], box="double")
