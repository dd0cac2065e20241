import json
import subprocess
import sys
import unicodedata

import keras
import numpy as np
import pytest
from PIL import Image

import mtl_keras as mtl
from mtl_keras.runtime import encoders
from mtl_keras.runtime.encoders import registry

TABLE = {"age": [20.0, 40.0, np.nan], "city": ["Rome", "Oslo", None], "month": [3.0, 4.0, 3.0]}


SENTENCES = {
    "German": "Größe und Maß: 12 Äpfel, NAÏVE Straßen",
    "Russian": "Съешь же ещё этих мягких французских булок",
    "Greek": "Ὀδυσσεύς πολύτροπος",
    "Chinese": "今天天气很好。",
    "Japanese": "私はコーヒーが好き",
    "Thai": "สวัสดีครับ",
    "Hindi": "नमस्ते दुनिया",
    "Arabic": "مرحبا بالعالم",
    "Korean": "안녕하세요 세계",
}


def _all():
    return [
        encoders.CharTokenizer("abc", 6, lower=False),
        encoders.HashingTokenizer(50, 6),
        encoders.ImageEncoder((4, 6), channels=1),
        encoders.SoundEncoder(8000, 0.5),
        encoders.WordTokenizer.fit(["one fish two fish"], size=10, length=3),
        encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"]),
    ]


@pytest.mark.parametrize("encoder", _all(), ids=lambda e: type(e).__name__)
def test_round_trip_through_config_and_json(encoder):
    assert type(encoders.encoder_from_json(encoders.encoder_to_json(encoder))) is type(encoder)
    assert type(encoder).from_config(encoder.get_config()).get_config() == encoder.get_config()
    assert (
        encoders.encoder_from_json(encoders.encoder_to_json(encoder)).get_config()
        == encoder.get_config()
    )


def test_words_get_ids_by_frequency_and_rows_are_cut_and_padded():
    tokenizer = encoders.WordTokenizer.fit(["b a b", "c. B!"], size=5, length=4)
    assert tokenizer.vocabulary == ["b", "a", "c"] and len(tokenizer) == 5
    assert tokenizer.encode(["A b zzz", "", "b b b b b"]).tolist() == [
        [3, 2, 1, 0],
        [0] * 4,
        [2] * 4,
    ]


def test_table_rows_become_numbers_and_ids():
    encoder = encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"])
    assert (
        encoder.mean == [30.0] and encoder.variance == [100.0] and encoder.cardinalities == [3, 3]
    )
    found = encoder.encode({"age": [None, 50], "city": ["Oslo", "Nowhere"], "month": ["4", 3]})
    assert found["numeric"].tolist() == [[30.0], [50.0]]
    assert found["categorical"].tolist() == [[1, 2], [0, 1]]


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="lacks the columns month"):
        encoders.TableEncoder.fit(TABLE, ["age"], ["city", "month"]).encode(
            {"age": [1], "city": ["x"]}
        )


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
        "import sys; from mtl_keras.runtime import encoders;"
        'e = encoders.encoder_from_json(\'{"kind": "text", "vocabulary": ["a"], "length": 2, '
        '"name": "t"}\');'
        "assert e.encode(['a']).tolist() == [[2, 0]];"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------ other scripts
@pytest.mark.parametrize("language", SENTENCES)
def test_words_of_every_script_are_known_and_stay_apart(language):
    sentence = SENTENCES[language]
    for tokenizer in (
        encoders.WordTokenizer.fit([sentence], 40, 30),
        encoders.CharTokenizer.fit([sentence], 60),
        encoders.HashingTokenizer(10_000, 30),
    ):
        (ids,) = tokenizer.encode([sentence])
        used = ids[ids > 0]
        assert len(used) and (used != 1).all() and len(set(used.tolist())) > 1
        # However the letters with marks are composed.
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert tokenizer.encode([unicodedata.normalize(form, sentence)]).tolist() == [
                ids.tolist()
            ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Höhe STRASSE", ["höhe", "strasse"]),
        ("Straße", ["strasse"]),
        ("ЁЛКА ёлка", ["ёлка", "ёлка"]),
        ("今天 天气", ["今", "天", "天", "气"]),
        ("コーヒー", ["コー", "ヒー"]),
        ("ｺｰﾋｰ１２Ｃ", ["コー", "ヒー", "12", "c"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
        ("don't 3rd ﬁne", ["don", "t", "3", "rd", "fine"]),
        ("good😀bad", ["good", "😀", "bad"]),
        ("co\u00adoperate a\u200bb", ["cooperate", "a", "b"]),
        ("٣٤ abc", ["٣٤", "abc"]),
    ],
)
def test_words_are_cut_by_unicode_rules(text, expected):
    assert encoders.split_words(text) == expected


def test_for_ascii_both_rules_agree():
    text = "The 3rd cat's hat, e.g. 42x: RE-DO; under_score"
    assert encoders.split_words(text) == encoders.split_words(text, "ascii")
    # Also on the way through Unicode, which a letter outside ASCII opens.
    assert encoders.split_words(text + " é")[:-1] == encoders.split_words(text, "ascii")


def test_a_vocabulary_is_found_however_it_is_spelled():
    tokenizer = encoders.WordTokenizer(["Oslo", "Zu\u0308rich", "C++"], 3)
    assert tokenizer.encode(["oslo ZÜRICH paris"]).tolist() == [[2, 3, 1]]


@pytest.mark.parametrize(
    ("old", "text", "expected"),
    [
        # As the first version wrote and read them.
        (
            '{"kind": "text", "vocabulary": ["na", "ve", "cat"], "length": 4, "name": "t"}',
            "Naïve cat",
            [2, 3, 4, 0],
        ),
        ('{"kind": "text", "vocabulary": ["cat"], "length": 3, "name": "t"}', "кот Cat", [2, 0, 0]),
    ],
)
def test_encoders_that_were_saved_before_answer_as_before(old, text, expected):
    encoder = encoders.encoder_from_json(old)
    assert encoder.encode([text]).tolist() == [expected]
    assert encoders.encoder_from_json(encoders.encoder_to_json(encoder)).encode(
        [text]
    ).tolist() == [expected]
    config = {key: value for key, value in json.loads(old).items() if key != "kind"}
    assert encoders.WordTokenizer.from_config(config).encode([text]).tolist() == [expected]


def test_old_letter_and_hash_tokenizers_answer_as_before():
    old = encoders.CharTokenizer.from_config(
        {"alphabet": "aﬁ", "length": 3, "lower": True, "name": "t"}
    )
    assert old.encode(["AﬁB"]).tolist() == [[2, 3, 1]]
    old = encoders.HashingTokenizer.from_config({"size": 50, "length": 3, "name": "t"})
    assert (
        old.encode(["naïve"]).tolist()
        == encoders.HashingTokenizer(50, 3).encode(["na ve"]).tolist()
    )


def test_the_shipped_vocabulary_answers_as_before():
    encoder = encoders.encoder_from_json((mtl.zoo.path("gloss") / "encoder.json").read_text())
    assert encoder.rules == "ascii"
    ids = encoder.encode(["a small Café of the"])[0]
    vocabulary = encoder.vocabulary
    parts = ["a", "small", "caf", "of", "the"]
    assert (
        ids[:5].tolist() == [vocabulary.index(w) + 2 if w in vocabulary else 1 for w in parts]
        and ids[5] == 0
    )


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: encoders.WordTokenizer(["a"], 3).encode("a sentence"), TypeError, "in a list"),
        (
            lambda: encoders.HashingTokenizer(9, 3).encode(["a", None]),
            TypeError,
            "number 1 is not.*None",
        ),
        (lambda: encoders.WordTokenizer(["a"], 3, rules="latin"), ValueError, "'unicode', 'ascii'"),
        (lambda: encoders.WordTokenizer.fit(["a"], 1, 3), ValueError, "at least 2"),
        (
            lambda: encoders.CharTokenizer("abß", 3),
            ValueError,
            "'ß' of the alphabet cannot occur.*'ss'",
        ),
        (
            lambda: encoders.TableEncoder.fit({"a": [None, np.nan]}, ["a"], []),
            ValueError,
            "'a' holds no number",
        ),
    ],
)
def test_text_and_tables_that_can_not_be_encoded_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_missing_and_recomposed_categories_have_one_spelling():
    encoder = encoders.TableEncoder.fit({"city": ["Zürich", "Oslo"]}, [], ["city"])
    cities = ["Zu\u0308rich", np.float32("nan"), float("nan"), None]
    assert encoder.encode({"city": cities})["categorical"][:, 0].tolist() == [2, 0, 0, 0]


# ------------------------------------------------------------------ classes of one's own
class Syllables:
    kind = "text"

    def __init__(self, length):
        self.length = length

    def encode(self, texts):
        return np.array([[len(text)] * self.length for text in texts], "int32")

    def get_config(self):
        return {"length": self.length}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_class_of_ones_own_survives_json_once_it_is_registered(monkeypatch):
    monkeypatch.setattr(registry, "ENCODERS", dict(registry.ENCODERS))
    with pytest.raises(ValueError, match="'Syllables' is not registered"):
        encoders.encoder_to_json(Syllables(2))
    assert encoders.register_encoder(Syllables) is Syllables
    text = encoders.encoder_to_json(Syllables(2))
    assert encoders.encoder_from_json(text).encode(["abc"]).tolist() == [[3, 3]]
    assert encoders.register_encoder(Syllables) is Syllables
    with pytest.raises(ValueError, match="'Syllables' is registered already"):
        encoders.register_encoder(type("Syllables", (), {}))
    del registry.ENCODERS["Syllables"]
    with pytest.raises(ValueError, match="'Syllables' is not registered"):
        encoders.encoder_from_json(text)


# ------------------------------------------------------------------ pictures
def _picture(rows=5, columns=7, channels=3):
    return np.random.default_rng(0).integers(0, 256, (rows, columns, channels)).astype("uint8")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(5, 7), (4, 6)])
def test_real_numbers_from_0_to_1_are_the_same_picture(channels, size):
    image = _picture(channels=channels)
    encoder = encoders.ImageEncoder(size, channels)
    expected = encoder.encode([image])
    assert expected.max() > 0.5
    for dtype in ("float32", "float64"):
        np.testing.assert_allclose(
            encoder.encode([(image / 255).astype(dtype)]), expected, atol=1e-6
        )
        np.testing.assert_allclose(encoder.encode([image.astype(dtype)]), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode([image.astype("int64")]), expected, atol=1e-6)
    if size == (5, 7):
        np.testing.assert_allclose(expected[0], image / 255, atol=1e-6)


def test_bytes_as_real_numbers_stay_bytes_beside_a_dark_picture():
    dark, light = np.ones((2, 2), "float32"), np.full((2, 2), 200.0)
    found = encoders.ImageEncoder((2, 2), 1).encode([dark, light])
    np.testing.assert_allclose(found[:, 0, 0, 0] * 255, [1, 200], rtol=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_camera_noted(orientation, tmp_path):
    # EXIF's definition: where the stored picture's first row and first column belong in the scene.
    scene = np.arange(6, dtype="uint8").reshape(2, 3) * 40
    stored = {
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
        5: scene.T, 6: scene.T[::-1], 7: scene.T[::-1, ::-1], 8: scene.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored.copy()).save(tmp_path / "photo.png", exif=exif)
    found = encoders.ImageEncoder((2, 3), 1).encode([tmp_path / "photo.png"])
    np.testing.assert_allclose(found[0, ..., 0] * 255, scene, atol=1e-3)


def test_sixteen_bits_keep_their_shades(tmp_path):
    Image.fromarray(_picture(channels=1)[..., 0].astype("uint16") * 257).save(tmp_path / "deep.png")
    found = encoders.ImageEncoder((5, 7), 1).encode([tmp_path / "deep.png"])
    np.testing.assert_allclose(found[0] * 255, _picture(channels=1), atol=1e-3)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (lambda: [np.full((2, 2), 300)], ValueError, "from 300 to 300"),
        (lambda: [np.full((2, 2), -0.5)], ValueError, "from -0.5"),
        (lambda: [np.full((2, 2), np.nan)], ValueError, "nan"),
        (lambda: [np.zeros((2, 2, 2))], ValueError, r"\(2, 2, 2\)"),
        (lambda: "photo.png", TypeError, "list of pictures"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(image, error, words):
    with pytest.raises(error, match=words):
        encoders.ImageEncoder((2, 2), 1).encode(image())


def test_a_damaged_picture_is_named(tmp_path):
    Image.fromarray(_picture(64, 64)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"x.jpg is damaged"):
        encoders.ImageEncoder((4, 6)).encode([tmp_path / "x.jpg"])
    assert encoders.ImageEncoder((4, 6)).encode([]).shape == (0, 4, 6, 3)


def test_an_exported_file_brings_every_tokenizer_back(tmp_path):
    tokenizer = mtl.data.CharTokenizer("абв", 6)
    options = {"vocabulary_size": len(tokenizer), "embedding_dim": 2, "filters": 2}
    task = mtl.tasks.Binary("t", hidden=0)
    model = mtl.builders.hard_sharing(
        {"tokens": (6,)}, [task], "text_cnn", backbone_options=options, encoder=tokenizer
    )
    mtl.export.tflite(model, tmp_path / "m.tflite")
    encoder = mtl.export.TFLiteModel(tmp_path / "m.tflite").encoder
    assert type(encoder) is mtl.data.CharTokenizer
    assert encoder.encode(["ВаБ"]).tolist() == [[4, 2, 3, 0, 0, 0]]


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
    model = mtl.builders.hard_sharing(
        {"tokens": (6,)}, [task], "text_cnn", backbone_options=options, encoder=tokenizer
    )
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.encoder.get_config() == tokenizer.get_config()
    assert loaded.encoder.encode(["abca b"]).tolist() == tokenizer.encode(["abca b"]).tolist()
    code = (
        "import sys; from mtl_keras.runtime import encoders as m\n"
        f"t = m.{type(tokenizer).__name__}.from_config({tokenizer.get_config()!r})\n"
        "print(t.encode(['abca b']).tolist()); assert not {'keras', 'tensorflow'} & "
        "set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(tokenizer.encode(["abca b"]).tolist())
