"""Analysis: scores, baselines, how multi-task models stand beside single-task ones, and the numbers
behind pictures of results."""

from mtl_keras.analysis.attributions import Attribution, attributions
from mtl_keras.analysis.calibration import Calibration, calibration, expected_calibration_error
from mtl_keras.analysis.classes import confusion_matrix
from mtl_keras.analysis.delta import DeltaReport, delta_m, delta_report, judging_metrics
from mtl_keras.analysis.metrics import collect, score, trivial
from mtl_keras.analysis.representation import project, representations

__all__ = [
    "Attribution",
    "Calibration",
    "DeltaReport",
    "attributions",
    "calibration",
    "collect",
    "confusion_matrix",
    "delta_m",
    "delta_report",
    "expected_calibration_error",
    "judging_metrics",
    "project",
    "representations",
    "score",
    "trivial",
]
