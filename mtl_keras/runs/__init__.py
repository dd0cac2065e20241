"""Runs: from rows of your own to a folder with a trained network, its report, and its files for a
phone. `mtl-keras train` is a call of `train`."""

from mtl_keras.runs.best_epoch import BestEpoch
from mtl_keras.runs.own_data import load_data
from mtl_keras.runs.training import train

__all__ = ["BestEpoch", "load_data", "train"]
