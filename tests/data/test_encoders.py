import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mtl_keras.data import encoders

TABLE = {"age": [20.0, 40.0, np.nan], "city": ["Rome", "Oslo", None], "month": [3.0, 4.0, 3.0]}


def _all():
    return [
        encoders.ImageEncoder((4, 6), channels=1),
        encoders.WordTokenizer.fit(["one fish two fish"], size=10, length=3),
        encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"]),
    ]


@pytest.mark.parametrize("encoder", _all(), ids=lambda e: e.kind)
def test_round_trip_through_config_and_json(encoder):
    assert type(encoder).from_config(encoder.get_config()).get_config() == encoder.get_config()
    assert encoders.from_json(encoders.to_json(encoder)).get_config() == encoder.get_config()


def test_words_get_ids_by_frequency_and_rows_are_cut_and_padded():
    tokenizer = encoders.WordTokenizer.fit(["b a b", "c. B!"], size=5, length=4)
    assert tokenizer.vocabulary == ["b", "a", "c"] and len(tokenizer) == 5
    assert tokenizer.encode(["A b zzz", "", "b b b b b"]).tolist() == [[3, 2, 1, 0], [0] * 4, [2] * 4]


def test_table_rows_become_numbers_and_ids():
    encoder = encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"])
    assert encoder.mean == [30.0] and encoder.variance == [100.0] and encoder.cardinalities == [3, 3]
    found = encoder.encode({"age": [None, 50], "city": ["Oslo", "Nowhere"], "month": ["4", 3]})
    assert found["numeric"].tolist() == [[30.0], [50.0]]
    assert found["categorical"].tolist() == [[1, 2], [0, 1]]


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="lacks the columns month"):
        encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"]).encode({"age": [1], "city": ["x"]})


def test_pictures_are_resized_and_scaled(tmp_path):
    Image.fromarray(np.full((8, 12, 3), 255, "uint8")).save(tmp_path / "white.png")
    found = encoders.ImageEncoder((4, 6), channels=1).encode([tmp_path / "white.png"])
    assert found.shape == (1, 4, 6, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"x.png is not a picture"):
        encoders.ImageEncoder((4, 6)).encode([tmp_path / "x.png"])


def test_encoders_need_neither_keras_nor_tensorflow():
    code = (
        "import sys; sys.argv = ['mtl-keras']; from mtl_keras.data import encoders;"
        'e = encoders.from_json(\'{"kind": "text", "vocabulary": ["a"], "length": 2, "name": "t"}\');'
        "assert e.encode(['a']).tolist() == [[2, 0]];"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
