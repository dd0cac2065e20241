"""Analysis: scores, baselines, and how multi-task models stand beside single-task ones."""

from mtl_keras.analysis.delta import DeltaReport, delta_m, delta_report, judging_metrics
from mtl_keras.analysis.metrics import collect, score, trivial

__all__ = [
    "DeltaReport",
    "collect",
    "delta_m",
    "delta_report",
    "judging_metrics",
    "score",
    "trivial",
]
