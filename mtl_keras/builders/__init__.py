"""Builders: functions that join inputs, backbones, a way of sharing and heads into one model."""

from mtl_keras.builders.experts import mmoe, omoe
from mtl_keras.builders.hard_sharing import hard_sharing

__all__ = ["hard_sharing", "mmoe", "omoe"]
