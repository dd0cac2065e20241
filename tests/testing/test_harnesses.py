"""A harness that passes everything checks nothing: each promise is broken once, and named."""

import keras
import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.testing import (
    run_backbone_test,
    run_balancer_test,
    run_builder_test,
    run_task_test,
    table_data,
)


def _balancer(name, **methods):
    """A registered balancer class with these methods, that weighs all tasks alike otherwise."""
    methods = {
        "weigh": lambda self, losses, present, gram=None: keras.ops.ones_like(losses),
        "build_state": lambda self, tasks: setattr(
            self, "means", self.add_state("means", np.ones(len(tasks)))
        ),
        "__doc__": "A balancer of this test.",
        **methods,
    }
    return mtl.balancing.register(f"broken_{name}")(
        type(f"Broken{name.title()}", (mtl.balancing.Balancer,), methods)
    )


def _weigh_and_move(self, losses, present, gram=None):
    self.means.assign_add(losses)
    return keras.ops.ones_like(losses)


def _init_with_strength(self, strength=1.0):
    mtl.balancing.Balancer.__init__(self)
    self.strength = strength


@pytest.mark.parametrize(
    ("name", "methods", "words"),
    [
        ("impure", {"weigh": _weigh_and_move}, "`weigh` answers and changes no state.*means"),
        (
            "infinite",
            {"weigh": lambda self, losses, present, gram=None: 1e38 * losses * losses},
            "`weigh` gives one finite weight per task",
        ),
        (
            "scalar",
            {"weigh": lambda self, losses, present, gram=None: keras.ops.mean(losses)},
            "`weigh` gives one finite weight per task",
        ),
        (
            "absent",
            {"update": lambda self, losses, present, rate: self.means.assign(losses)},
            "a task without labels leaves its state as it is.*`means`",
        ),
        ("silent", {"__doc__": ""}, "the class has a docstring"),
        (
            "config",
            {"__init__": _init_with_strength, "get_config": lambda self: {"power": 1.0}},
            "it can be made anew from its config",
        ),
    ],
)
def test_what_a_balancer_breaks_is_named(name, methods, words):
    with pytest.raises(AssertionError, match=words):
        run_balancer_test(_balancer(name, **methods), has_training=False)


def test_a_balancer_that_is_not_registered_is_named():
    class Private(mtl.balancing.Balancer):
        """Not registered."""

    with pytest.raises(AssertionError, match="registered, so that saved models can be loaded"):
        run_balancer_test(Private, has_training=False)
    with pytest.raises(TypeError, match="Write `lambda: CAGrad"):
        run_balancer_test(mtl.balancing.CAGrad())


class _Careless(mtl.tasks.Regression):
    """Missing labels count as zeros."""

    def target(self, y):
        target, present = super().target(y)
        return target, keras.ops.ones_like(present)


class _Forgetful(mtl.tasks.Regression):
    """Its config is that of another task."""

    def get_config(self):
        return {**super().get_config(), "name": "another"}


class _Short(mtl.tasks.Regression):
    """Decodes the first row only."""

    def decode(self, output):
        return super().decode(output)[:1]


for _task in (_Careless, _Forgetful, _Short):
    keras.saving.register_keras_serializable("broken")(_task)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (_Careless("t", hidden=0), "labels made by `missing` are known as missing"),
        (_Forgetful("t", hidden=0), "the config has the same config|a copy has the same name"),
        (_Short("t", hidden=0), "`decode` gives one entry per row"),
    ],
)
def test_what_a_task_breaks_is_named(task, words):
    x, y = table_data(rows=8)
    with pytest.raises(AssertionError, match=words):
        run_task_test(task, x, y["cost"], backbone="mlp", backbone_options={"widths": (4,)})


def _reversed(inputs, tasks):
    """Outputs in another order than the tasks."""
    return mtl.builders.hard_sharing(inputs, tasks[::-1], "mlp", backbone_options={"widths": (4,)})


def _stopped(inputs, tasks):
    """No gradient passes from the second task to the trunk, nor into its own layer."""
    x = keras.Input(inputs, name="x")
    shared = keras.layers.Dense(4, name="shared")(x)
    outputs = {}
    for i, task in enumerate(tasks):
        logits = keras.layers.Dense(1, name=f"{task.name}_linear")(shared)
        logits = keras.ops.stop_gradient(logits) if i else logits
        outputs[task.name] = mtl.tasks.TaskOutput(task)(logits)
    return mtl.MultiTaskModel(x, outputs)


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (_reversed, "'_reversed': there is one output for each task, in the tasks' order"),
        (_stopped, "every output can be trained.*'sold'"),
    ],
)
def test_what_a_builder_breaks_is_named(builder, words):
    x, y = table_data(rows=8)
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    with pytest.raises(AssertionError, match=words):
        run_builder_test(builder, {"inputs": (5,), "tasks": tasks}, x, y)


def _fixed_names(inputs, name="mine"):
    layer = keras.layers.Dense(4, name="always_this")
    return keras.Model(inputs, {"stage1": layer(inputs)}, name=name)


@pytest.mark.parametrize(
    ("backbone", "stages", "words"),
    [
        (_fixed_names, {"stage1": (4,)}, "names begin with the argument `name`.*always_this"),
        (_fixed_names, {"stage1": (5,)}, "the announced names and shapes"),
        (
            lambda inputs, name: keras.Model(inputs, keras.layers.Dense(3)(inputs)),
            None,
            "its outputs are a dict of stages",
        ),
    ],
)
def test_what_a_backbone_breaks_is_named(backbone, stages, words):
    with pytest.raises(AssertionError, match=words):
        run_backbone_test(backbone, table_data(rows=8)[0], stages=stages)
