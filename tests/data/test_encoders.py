import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import mtl_keras as mtl
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


def test_letters_become_ids():
    tokenizer = mtl.data.CharTokenizer.fit(["abba", "Cab"], length=5)
    assert tokenizer.alphabet == "abc" and len(tokenizer) == 5
    assert tokenizer.encode(["Ab!", "", "aaaaaaa"]).tolist() == [[2, 3, 1, 0, 0], [0] * 5, [2] * 5]
    assert mtl.data.CharTokenizer("ab", 3, lower=False).encode(["Aa"]).tolist() == [[1, 2, 0]]
    with pytest.raises(ValueError, match="a letter twice"):
        mtl.data.CharTokenizer("aba", 3)


def test_hashed_words_need_no_vocabulary():
    tokenizer = mtl.data.HashingTokenizer(size=1000, length=4)
    ids = tokenizer.encode(["The cat, the hat", "", "cat"])
    # CRC-32 of "cat" is 0x9E5E43A8, whatever the machine.
    assert ids[0, 1] == 1 + 0x9E5E43A8 % 999 == ids[2, 0]
    assert ids[0, 0] == ids[0, 2] and ids[1].tolist() == [0] * 4 and ids[:, 0].max() < 1000
    with pytest.raises(ValueError, match="at least 2 ids"):
        mtl.data.HashingTokenizer(1, 4)


@pytest.mark.parametrize(
    "tokenizer",
    [mtl.data.CharTokenizer("abc", 6, lower=False), mtl.data.HashingTokenizer(50, 6)],
    ids=lambda t: type(t).__name__,
)
def test_tokenizers_are_saved_with_the_model_and_run_without_keras(tokenizer, tmp_path):
    import subprocess
    import sys

    options = {"vocabulary_size": len(tokenizer), "embedding_dim": 2, "filters": 2}
    task = mtl.tasks.Binary("t", hidden=0)
    model = mtl.builders.hard_sharing({"tokens": (6,)}, [task], "text_cnn", backbone_options=options, encoder=tokenizer)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.encoder.get_config() == tokenizer.get_config()
    assert loaded.encoder.encode(["abca b"]).tolist() == tokenizer.encode(["abca b"]).tolist()
    code = (
        "import sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('encoders', {mtl.data.encoders.__file__!r}); m = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(m)\n"
        f"t = m.{type(tokenizer).__name__}.from_config({tokenizer.get_config()!r})\n"
        "print(t.encode(['abca b']).tolist()); assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(tokenizer.encode(["abca b"]).tolist())
