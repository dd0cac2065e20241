"""Augmentation that keeps the labels of all tasks true."""

from mtl_keras.data.augment.augmenter import Augmenter, apply
from mtl_keras.data.augment.mixing import CutMix, MixUp, Mosaic
from mtl_keras.data.augment.moving import Crop, Flip, Rotate, Scale
from mtl_keras.data.augment.photometric import Blur, Color, Erase
from mtl_keras.data.augment.rows import (
    Amplitude,
    ColumnNoise,
    Jitter,
    SwapNoise,
    WordDropout,
)
from mtl_keras.data.augment.sound import Noise, Shift, SpecAugment
from mtl_keras.data.augment.step import Step, list_steps, register_step

__all__ = [
    "Amplitude",
    "Augmenter",
    "Blur",
    "Color",
    "ColumnNoise",
    "Crop",
    "CutMix",
    "Erase",
    "Flip",
    "Jitter",
    "MixUp",
    "Mosaic",
    "Noise",
    "Rotate",
    "Scale",
    "Shift",
    "SpecAugment",
    "Step",
    "SwapNoise",
    "WordDropout",
    "apply",
    "list_steps",
    "register_step",
]
