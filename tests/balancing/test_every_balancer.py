"""Every balancer keeps what all of them promise (`mtl.testing.run_balancer_test`)."""

import pytest
import tensorflow as tf
from helpers import ONE_OF_EACH, large_but

import mtl_keras as mtl


def _balancer(name):
    """What the harness takes; held-out data for the one that needs them."""
    if name != "auto_lambda":
        return name
    held_out = tf.data.Dataset.from_tensor_slices(mtl.testing.table_data(seed=1)).batch(8)
    return lambda: mtl.balancing.AutoLambda(held_out, learning_rate=0.01)


@pytest.mark.parametrize("name", mtl.balancing.names())
def test_its_mathematics(name):
    balancer = mtl.testing.run_balancer_test(_balancer(name), has_training=False)
    assert balancer.name == name


@pytest.mark.parametrize("name", large_but(ONE_OF_EACH, mtl.balancing.names()))
def test_in_training(name):
    mtl.testing.run_balancer_test(_balancer(name))
