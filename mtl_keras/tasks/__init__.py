"""Tasks: what is predicted. Each has a name, a head, a loss, a weight, metrics with a direction,
and a decoder."""

from mtl_keras.tasks.bounding_box import BoundingBox
from mtl_keras.tasks.classification import Binary, Classification
from mtl_keras.tasks.detection import Detection
from mtl_keras.tasks.embedding import Embedding
from mtl_keras.tasks.geometry import Depth, Normals
from mtl_keras.tasks.guess import guess_task
from mtl_keras.tasks.keypoints import Keypoints
from mtl_keras.tasks.multi_label import MultiLabel
from mtl_keras.tasks.ordinal import Ordinal
from mtl_keras.tasks.regression import Regression
from mtl_keras.tasks.segmentation import Segmentation
from mtl_keras.tasks.sequences import SequenceTranscription, TokenTagging
from mtl_keras.tasks.task import Task, TaskMetric
from mtl_keras.tasks.task_output import TaskOutput

__all__ = [
    "Binary",
    "BoundingBox",
    "Classification",
    "Depth",
    "Detection",
    "Embedding",
    "Keypoints",
    "MultiLabel",
    "Normals",
    "Ordinal",
    "Regression",
    "Segmentation",
    "SequenceTranscription",
    "Task",
    "TaskMetric",
    "TaskOutput",
    "TokenTagging",
    "guess_task",
]
