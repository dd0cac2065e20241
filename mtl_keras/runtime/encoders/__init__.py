"""Encoders: from what a person has (a picture or sound file, a sentence, a table row) to a network's input.

They are plain Python and NumPy and are saved inside the model. They run without Keras and
TensorFlow. `mtl_keras.model` registers them with Keras, so that a saved model brings them back.
"""

from mtl_keras.runtime.encoders.char_tokenizer import CharTokenizer
from mtl_keras.runtime.encoders.hashing_tokenizer import HashingTokenizer
from mtl_keras.runtime.encoders.image_encoder import ImageEncoder
from mtl_keras.runtime.encoders.mixed_encoder import MixedEncoder
from mtl_keras.runtime.encoders.registry import (
    ENCODERS,
    encoder_from_dict,
    encoder_from_json,
    encoder_to_dict,
    encoder_to_json,
    register_encoder,
)
from mtl_keras.runtime.encoders.sound_encoder import SoundEncoder
from mtl_keras.runtime.encoders.subword_tokenizer import SubwordTokenizer
from mtl_keras.runtime.encoders.table_encoder import TableEncoder
from mtl_keras.runtime.encoders.word_tokenizer import WordTokenizer
from mtl_keras.runtime.encoders.words import split_words

__all__ = [
    "ENCODERS",
    "CharTokenizer",
    "HashingTokenizer",
    "ImageEncoder",
    "MixedEncoder",
    "SoundEncoder",
    "SubwordTokenizer",
    "TableEncoder",
    "WordTokenizer",
    "encoder_from_dict",
    "encoder_from_json",
    "encoder_to_dict",
    "encoder_to_json",
    "register_encoder",
    "split_words",
]
