"""Tokenizers fitted on the texts of the training part."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data import DataError, TaskDataset
from mtl_keras.data.texts import RawTexts

RNG = np.random.default_rng(0)
NOTES = [" ".join(RNG.choice(["tired", "pain", "well", "often", "never"], 6)) for _ in range(60)]
Y = np.arange(60.0)


@pytest.mark.parametrize("kind", ["words", "subwords", "characters"])
def test_texts_are_made_into_ids_in_the_way_that_is_named(kind):
    frame = {"note": NOTES, "y": Y}
    data = mtl.data.from_dataframe(frame, {"y": "y"}, text="note", tokenizer=kind)
    names = {
        "words": "WordTokenizer",
        "subwords": "SubwordTokenizer",
        "characters": "CharTokenizer",
    }
    assert type(data.encoder).__name__ == names[kind]
    model = mtl.builders.hard_sharing(data.inputs, data.tasks)
    assert model.get_layer("text_cnn_embedding").input_dim == len(data.encoder)


def test_rare_words_ask_for_parts_of_words():
    rng = np.random.default_rng(0)
    rare = ["".join(rng.choice(list("abcdefgh"), 6)) + " is it so" for _ in range(60)]
    data = mtl.data.from_dataframe({"t": rare, "y": Y}, {"y": "y"}, text="t")
    assert type(data.encoder).__name__ == "SubwordTokenizer"
    same = ["one of these is it so", "so is it"] * 30
    data = mtl.data.from_dataframe({"t": same, "y": Y}, {"y": "y"}, text="t")
    assert type(data.encoder).__name__ == "WordTokenizer"
    with pytest.raises(DataError, match=r"tokenizer.*'word'.*words"):
        _ = mtl.data.from_dataframe(
            {"t": same, "y": Y}, {"y": "y"}, text="t", tokenizer="word"
        ).inputs


def test_texts_of_any_source_are_encoded_with_what_the_training_part_held():
    texts = [*NOTES[:50], *["something else altogether"] * 10]
    data = TaskDataset.from_parts(
        [mtl.tasks.Regression("y")], raw=RawTexts(texts, "words"), labels={"y": Y}, kind="text"
    )
    train, test = data.parts([np.arange(50), np.arange(50, 60)])
    assert "something" not in train.encoder.vocabulary
    assert set(test.arrays()[0]["tokens"].ravel()) == {0, 1}
    part = data.replace(weights={"": Y})
    np.testing.assert_array_equal(part.arrays()[0]["tokens"], data.arrays()[0]["tokens"])
