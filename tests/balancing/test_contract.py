"""What every balancer promises of its state: `weigh` leaves it alone, `update` moves it, `reset`
brings it back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import ONE_OF_EACH, large_but

import mtl_keras as mtl
from mtl_keras import balancing

TASKS = [
    mtl.tasks.Regression("cost"),
    mtl.tasks.Binary("sold"),
    mtl.tasks.Classification("kind", num_classes=3),
]
EVERYONE = tf.constant([True, True, True])

#: Every method by its name, and methods made of others.
METHODS = {
    **{name: lambda name=name: balancing.get(name) for name in balancing.names()},
    "famo, next batch": lambda: balancing.FAMO(observe="next_batch"),
    "ema of famo": lambda: balancing.EMA("famo"),
    "ema of gradvac": lambda: balancing.EMA("gradvac"),
    "ema of rlw": lambda: balancing.EMA("rlw"),
    "rlw, then pcgrad": lambda: balancing.get(["rlw", "pcgrad"]),
    "famo, then moco": lambda: balancing.get(["famo", "moco"]),
    "amortized": lambda: balancing.GradVac(update_every=3),
    "stch, mtl": lambda: balancing.STCH(form="mtl", warmup=0),
}
#: Methods without any state.
STATELESS = {
    *("aligned_mtl", "cagrad", "chebyshev", "config", "dualproj", "equal", "fairgrad", "gls"),
    *("imtl_g", "krum", "log_loss", "mgda", "nash_mtl", "pbi", "stch", "trimmed_mean", "upgrad"),
}


class _Steps:
    """One method, and the steps that a trainer takes with it."""

    def __init__(self, balancer):
        self.balancer, self.rng = balancer, np.random.default_rng(0)
        balancer.build(TASKS)
        if balancer.strategy == "gradients":
            balancer.build_rows({"kernel": (4,), "bias": (2,)})
        self.observe()

    def observe(self):
        """What a step sees: losses and the task gradients of two variables."""
        self.losses = tf.constant(self.rng.uniform(0.5, 2.0, 3), tf.float32)
        self.rows = {
            key: tf.constant(self.rng.standard_normal((3, size)), tf.float32)
            for key, size in (("kernel", 4), ("bias", 2))
        }
        self.pre_weights = self.balancer.pre_weights(self.losses, EVERYONE)
        self.seen = self.losses
        if self.pre_weights is not None:
            self.seen = self.losses * self.pre_weights

    def answer(self):
        """Everything that the trainer asks before it takes the step."""
        if self.balancer.strategy == "gradients":
            rows = {
                key: self.balancer.transform(row, key, EVERYONE) for key, row in self.rows.items()
            }
            parts = [self.balancer.measure(row, key, EVERYONE) for key, row in rows.items()]
            measured = None if parts[0] is None else parts[0] + parts[1]
        else:
            rows = None
            measured = sum(tf.matmul(r, r, transpose_b=True) for r in self.rows.values())
        weights, heads = self.balancer.weigh_all(self.seen, EVERYONE, measured)
        total = self.balancer.total(self.losses, weights, EVERYONE)
        combined = []
        if rows is not None:
            combined = [
                self.balancer.combine(row, weights, key, EVERYONE) for key, row in rows.items()
            ]
        self.evidence = (measured, weights, rows)
        return [np.asarray(x) for x in (weights, heads, total, *combined)]

    def take(self):
        """Move the state as the trainer does."""
        self.answer()
        self.balancer.update(self.seen, EVERYONE, 0.1, *self.evidence)
        self.balancer.end_step(self.losses, EVERYONE, 0.1, self.pre_weights)
        if self.balancer.observes_updated_losses:
            self.balancer.observe_updated_losses(0.9 * self.losses, EVERYONE)
        if self.balancer.strategy == "held_out":
            plus, minus = self.losses, 0.9 * self.losses
            self.balancer.update_from_look_ahead(plus, minus, 0.01, 0.1, EVERYONE)
        self.balancer.epoch_end()
        self.observe()

    def state(self):
        return {name: variable.numpy() for name, variable in self.balancer.state.items()}


def _assert_equal(state, expected):
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


#: Of a method by itself, `test_every_balancer` holds that its answers move nothing.
QUICK = {*ONE_OF_EACH, "ema of gradvac", "famo, then moco", "amortized"}


@pytest.mark.parametrize("name", large_but(QUICK, METHODS))
def test_answers_move_nothing_and_reset_brings_the_first_state_back(name):
    steps = _Steps(METHODS[name]())
    first = steps.state()
    first_answer = steps.answer()
    states = [first]
    for _ in range(3):
        before = steps.state()
        for once, again in zip(steps.answer(), steps.answer(), strict=True):
            np.testing.assert_array_equal(once, again)
        _assert_equal(steps.state(), before)
        steps.take()
        states.append(steps.state())
    assert bool(first) == (name not in STATELESS)
    has_moved = any((states[-1][key] != value).any() for key, value in first.items())
    # The state of "static" is the user's.
    assert has_moved == (name not in STATELESS | {"static"})

    steps.balancer.reset()
    _assert_equal(steps.state(), first)
    steps.rng = np.random.default_rng(0)
    steps.observe()
    for value, expected in zip(steps.answer(), first_answer, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("name", large_but(QUICK, METHODS))
def test_update_leaves_absent_tasks_alone(name):
    steps = _Steps(METHODS[name]())
    steps.take()
    before = steps.state()
    steps.answer()
    nobody = tf.constant([False, False, False])
    steps.balancer.update(steps.seen, nobody, 0.1, *steps.evidence)
    _assert_equal(steps.state(), before)


def test_draws_are_those_of_keras_and_can_be_read_twice():
    draws, theirs = mtl.balancing.draws.Draws(5), keras.random.SeedGenerator(5)
    for _ in range(3):
        expected = [keras.random.uniform((4,), seed=theirs) for _ in range(2)]
        for _ in range(2):
            read = [keras.random.uniform((4,), seed=draws.at(number)) for number in range(2)]
            np.testing.assert_array_equal(read, expected)
        draws.advance(tf.constant(False), 2)
        draws.advance(tf.constant(True), 2)


def test_compile_checks_before_it_makes_state_of_the_gradients_size():
    from helpers import table_model

    from mtl_keras.trainer.checks import check_balancer

    model = table_model()
    model.compile("sgd", balancer="moco")
    before = set(model.balancer.state)
    check_balancer(model, model.compiled_tasks)
    assert set(model.balancer.state) == before
    fresh = balancing.get("moco")
    fresh.build(model.tasks)
    compiled = model.compiled_tasks
    compiled.balancer = compiled.strategy.balancer = fresh
    check_balancer(model, compiled)
    assert not fresh.row_shapes and not any("tracked" in name for name in fresh.state)
