"""Tasks: what is predicted. Each has a name, a head, a loss, a weight, metrics with a direction, and a decoder."""

from mtl_keras.tasks.bounding_box import BoundingBox
from mtl_keras.tasks.classification import Binary, Classification
from mtl_keras.tasks.regression import Regression
from mtl_keras.tasks.segmentation import Segmentation
from mtl_keras.tasks.task import Task, TaskMetric

__all__ = ["Binary", "BoundingBox", "Classification", "Regression", "Segmentation", "Task", "TaskMetric"]
