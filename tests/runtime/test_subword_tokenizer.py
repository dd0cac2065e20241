"""Byte-pair encoding against a slow solution written from the paper's definition."""

import collections
import json

import numpy as np
import pytest

from mtl_keras.runtime import encoder_from_json, encoder_to_json
from mtl_keras.runtime.encoders import SubwordTokenizer, split_words

TEXTS = [
    "The lower the river, the slower the flower grows.",
    "Lowest prices, newest widest wheels! He is newer.",
    "Река течёт медленно, реки текут",
    "東京は大きい 東京タワー",
    "naïve café ﬁne 123 1234 😀",
] * 3


def _learn_slowly(texts, count):
    """Sennrich et al. 2016, algorithm 1: count all pairs anew after each merge."""
    words = collections.Counter(word for text in texts for word in split_words(text))
    splits = {word: ["▁", *word] for word in words}
    letters = collections.Counter()
    for word, number in words.items():
        for letter in splits[word]:
            letters[letter] += number
    merges = []
    while len(merges) < count - len(letters):
        pairs = collections.Counter()
        for word, parts in splits.items():
            for i in range(len(parts) - 1):
                pairs[parts[i], parts[i + 1]] += words[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in splits.items():
            joined, i = [], 0
            while i < len(parts):
                if tuple(parts[i : i + 2]) == best:
                    joined.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    joined.append(parts[i])
                    i += 1
            splits[word] = joined
    return merges, splits


@pytest.mark.parametrize("size", [60, 90, 400])
def test_merges_and_splits_are_those_of_the_definition(size):
    tokenizer = SubwordTokenizer.fit(TEXTS, size, 30)
    merges, splits = _learn_slowly(TEXTS, size - 2)
    assert tokenizer.merges == merges
    for word, parts in splits.items():
        assert tokenizer.split(word) == parts


def test_ids_are_of_the_parts_and_unknown_letters_are_one():
    tokenizer = SubwordTokenizer.fit(TEXTS, 80, 12)
    assert len(tokenizer) <= 80
    ids = tokenizer.encode(["lower Ω", "", "東京"])
    assert ids.dtype == np.int32 and ids.shape == (3, 12)
    assert ids[1].tolist() == [0] * 12
    parts = [*tokenizer.letters, *("".join(pair) for pair in tokenizer.merges)]
    row = [parts.index(part) + 2 for part in tokenizer.split("lower")]
    assert ids[0, : len(row)].tolist() == row
    # The mark of a word's beginning is known, the Greek letter is not.
    assert 1 in ids[0, len(row) :]
    assert 1 not in ids[2]
    assert ids.max() < len(tokenizer)


def test_joined_parts_give_the_words_back():
    tokenizer = SubwordTokenizer.fit(TEXTS, 100, 40)
    for text in TEXTS[:5]:
        joined = "".join(tokenizer.split(text)).split("▁")[1:]
        assert joined == split_words(text)


def test_it_is_the_same_from_json_and_learns_the_same_again():
    tokenizer = SubwordTokenizer.fit(TEXTS, 90, 20)
    text = encoder_to_json(tokenizer)
    json.loads(text)
    copy = encoder_from_json(text)
    np.testing.assert_array_equal(copy.encode(TEXTS), tokenizer.encode(TEXTS))
    again = SubwordTokenizer.fit(list(reversed(TEXTS)), 90, 20)
    assert again.get_config() == tokenizer.get_config()
    assert "merges=" in repr(tokenizer)


def test_few_ids_keep_the_most_frequent_letters():
    tokenizer = SubwordTokenizer.fit(["aaa aab"] * 2, 4, 8)
    assert tokenizer.letters == ["a", "▁"] and not tokenizer.merges
    assert tokenizer.encode(["ab"]).tolist() == [[3, 2, 1, 0, 0, 0, 0, 0]]
