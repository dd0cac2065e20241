"""A new kind of method is one balancer and one strategy, both from outside."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import table_data, table_model

import mtl_keras as mtl
from mtl_keras.trainer import strategies
from mtl_keras.trainer.jacobian import task_gradients


class FromMajority(strategies.Strategy):
    """Every number moves by 1, in the direction that the weighted tasks vote for."""

    def compute(self, forwards, scope):
        forward = forwards[-1]
        weights = self.balancer.weigh(forward.seen, forward.present)
        gradients = []
        for column in task_gradients(forward, scope.variables):
            votes = [weights[i] * tf.sign(g) for i, g in enumerate(column) if g is not None]
            gradients.append(tf.sign(tf.add_n(votes)) if votes else None)
        return strategies.GradientUpdate(gradients, weights)


class Majority(mtl.balancing.Balancer):
    """One vote per task."""

    strategy = "majority_sign"

    def build_state(self, tasks):
        self.votes = self.add_state("votes", np.zeros(len(tasks)))

    def weigh(self, losses, present, gram=None):
        return keras.ops.cast(present, "float32")

    def update(self, losses, present, learning_rate, gram=None, weights=None, rows=None):
        self.votes.assign(self.votes.value + weights)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """Both are known while this file runs: other tests go through all names."""
    from mtl_keras.balancing import registry

    strategies.register("majority_sign")(FromMajority)
    mtl.balancing.register("majority_sign_of_tests")(Majority)
    yield
    del registry._BALANCERS["majority_sign_of_tests"]
    del strategies.base._STRATEGIES["majority_sign"]


def test_a_strategy_from_outside_trains():
    x, y = table_data()
    model = table_model()
    by_hand = [v.numpy() for v in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        out = model(x, training=True)
        sold = y["sold"][:, None].astype("float32")
        losses = [
            tf.reduce_mean((out["cost"][:, 0] - y["cost"]) ** 2),
            tf.reduce_mean(keras.losses.binary_crossentropy(sold, out["sold"])),
        ]
    rows = [tape.gradient(loss, model.trainable_variables) for loss in losses]
    for value, column in zip(by_hand, zip(*rows, strict=True), strict=True):
        value -= 0.1 * np.sign(sum(np.sign(g) for g in column if g is not None))

    model.compile(keras.optimizers.SGD(0.1), balancer="majority_sign_of_tests")
    model.fit(x, y, batch_size=32, verbose=0)
    for variable, expected in zip(model.trainable_variables, by_hand, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert model.balancer.votes.numpy().tolist() == [1.0, 1.0]
    assert model.balancing_report().shared
    entry = {e.name: e for e in mtl.balancing.list_balancers()}["majority_sign_of_tests"]
    assert entry.kind == "majority_sign"


def test_names_of_strategies_are_taken_once():
    with pytest.raises(ValueError, match="'gram' is taken by mtl_keras"):

        @strategies.register("gram")
        class Other(strategies.Strategy):
            pass

    with pytest.raises(ValueError, match="taken"):

        @mtl.balancing.register("cagrad")
        class Another(mtl.balancing.Balancer):
            pass

    with pytest.raises(ValueError, match="registered already"):

        @mtl.runtime.register_encoder
        class TableEncoder:
            pass


def test_an_unknown_strategy_is_refused_by_compile():
    class Lost(mtl.balancing.Balancer):
        strategy = "grams"

    model = table_model()
    with pytest.raises(ValueError, match="'grams'. Did you mean 'gram'"):
        model.compile("sgd", balancer=Lost())
    assert model.balancer is None


def test_every_balancer_names_a_strategy_and_the_base_class_names_no_subclasss_attribute():
    for name in mtl.balancing.names():
        assert strategies.get(mtl.balancing.get(name)).balancer.name == name
    base = mtl.balancing.Balancer()
    for name in ("layer", "masks", "learn", "kept", "batches", "held_out", "second_look"):
        assert not hasattr(base, name), name
