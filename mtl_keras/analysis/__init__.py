"""Analysis: scores, baselines, and how multi-task models stand beside single-task ones."""

from mtl_keras.analysis.delta import delta_m
from mtl_keras.analysis.metrics import collect, score, trivial

__all__ = ["collect", "delta_m", "score", "trivial"]
