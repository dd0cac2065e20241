"""Checks for your own builders, tasks, balancers and backbones: each holds a part to all that the
library promises of it.

A check needs no test framework: it raises `AssertionError`, which names the promise that was
broken, and returns nothing but the trained model where one was trained.

Example:
    >>> def test_my_balancer():
    ...     mtl.testing.run_balancer_test(MyBalancer)
"""

from mtl_keras.testing.backbones import run_backbone_test
from mtl_keras.testing.balancers import run_balancer_test
from mtl_keras.testing.builders import run_builder_test
from mtl_keras.testing.networks import table_data, table_model
from mtl_keras.testing.tasks import run_task_test

__all__ = [
    "run_backbone_test",
    "run_balancer_test",
    "run_builder_test",
    "run_task_test",
    "table_data",
    "table_model",
]
