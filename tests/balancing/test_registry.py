"""How balancers are named, made, registered and refused."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from helpers import table_data, table_model

from mtl_keras import balancing


def _half(name):
    """A user's balancer class of this name."""
    weigh = lambda self, losses, present, gram=None: keras.ops.full_like(losses, 0.5)  # noqa: E731
    return type(
        name, (balancing.Balancer,), {"weigh": weigh, "__module__": __name__, "__qualname__": name}
    )


# ------------------------------------------------------------------ get
@pytest.mark.parametrize(
    "balancer",
    [
        lambda: balancing.get("cagrad", c=0.4, update_every=3),
        lambda: balancing.get(balancing.CAGrad, c=0.4, update_every=3),
        lambda: balancing.get({"name": "cagrad", "c": 0.4, "update_every": 3}),
        lambda: balancing.get({"name": "cagrad", "c": 0.4}, update_every=3),
        lambda: balancing.get(
            keras.saving.serialize_keras_object(balancing.CAGrad(c=0.4, update_every=3))
        ),
    ],
)
def test_hyper_parameters_go_with_names_classes_and_dicts(balancer):
    found = balancer()
    assert type(found) is balancing.CAGrad and (found.c, found.update_every) == (0.4, 3)


def test_a_dict_compiles_a_model():
    model = table_model()
    model.compile("sgd", balancer={"name": "static", "task_weights": {"cost": 0.5}})
    assert model.balancer.current() == {"cost": 0.5, "sold": 1.0}


@pytest.mark.parametrize(
    ("given", "parameters", "error", "words"),
    [
        ({"c": 0.4}, {}, TypeError, '"name" and hyper-parameters'),
        ({"name": "cagrat"}, {}, ValueError, "Did you mean 'cagrad'"),
        ({"cagrad": {"c": 0.4}}, {}, TypeError, '"name" and hyper-parameters'),
        (
            "cagrad",
            {"resacle": 0},
            TypeError,
            "CAGrad .*has no parameter `resacle`. Did you mean `rescale`",
        ),
        (
            "cagrad",
            {"d": 0},
            TypeError,
            "c, rescale, gradients, update_every, gradient_groups, scale_heads",
        ),
        ("imtl", {"balancers": []}, TypeError, "learning_rate, gradients, update_every"),
        ("graddrop", {"update_every": 2}, TypeError, "gradients, leak, seed"),
        ("equal", {"c": 0.4}, TypeError, "It has none"),
        (None, {"c": 0.4}, TypeError, "Equal"),
        (balancing.CAGrad(), {"c": 0.4}, TypeError, "has its own already"),
        (["uncertainty", "cagrad"], {"c": 0.4}, TypeError, "has its own already"),
    ],
)
def test_wrong_hyper_parameters_name_the_class_and_what_it_has(given, parameters, error, words):
    with pytest.raises(error, match=words):
        balancing.get(given, **parameters)


def test_a_class_called_with_a_wrong_hyper_parameter_names_itself():
    with pytest.raises(
        TypeError, match="UPGrad .*has no parameter `evry`. Did you mean `update_every`"
    ):
        balancing.UPGrad(evry=2)


def test_a_users_class_may_take_what_it_likes():
    class Mine(balancing.CAGrad):
        def __init__(self, **anything):
            self.note = anything.pop("note")
            super().__init__(**anything)

    assert Mine(note="a", c=0.2).c == 0.2


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("cagrad", "update_every"),
        ("cagrad", "gradient_groups"),
        ("krum", "outliers"),
        ("dwa", "window"),
        ("rlw", "seed"),
    ],
)
def test_whole_numbers_of_numpy_are_whole_numbers(name, argument, tmp_path):
    balancer = balancing.get(name, **{argument: np.int64(3)})
    value = balancer.get_config()[argument]
    assert value == 3 and type(value) is int
    with pytest.raises(ValueError, match=f"{argument} must be a whole number"):
        balancing.get(name, **{argument: 2.5})


def test_a_loss_weighting_says_that_it_has_no_gradients_to_combine():
    for name in ("famo", "uncertainty", "gradnorm"):
        with pytest.raises(AttributeError, match=f"'{name}' weighs losses .*balanced_gradients"):
            balancing.get(name).aggregate([[1.0, 2.0], [0.0, 1.0]])
    assert hasattr(balancing.get("upgrad"), "aggregate") and not hasattr(
        balancing.get("famo"), "weights"
    )


# ------------------------------------------------------------------ matrices by hand
@pytest.mark.parametrize(
    "make", [lambda: balancing.AlignedMTL(), lambda: balancing.EMA("aligned_mtl")]
)
def test_a_question_in_float64_does_not_change_training(make):
    """Eigenvalues that float32 gradients can't tell from 0 count for matrices by hand, and only for
    these."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 5))
    gram = (
        np.array([rows[0], rows[0] + 1e-5 * rows[1]])
        @ np.array([rows[0], rows[0] + 1e-5 * rows[1]]).T
    )
    single, asked = make(), make()
    expected = np.asarray(single.weights(gram.astype("float32")))
    exact = np.asarray(asked.weights(gram))
    # The smallest eigenvalue that counts scales the weights: far less where the second gradient
    # counts as one of its own.
    assert np.abs(exact).max() < 0.01 * np.abs(expected).max()
    solver = asked.parts[0] if asked.parts else asked
    assert solver.rounding == 2.0**-23
    np.testing.assert_allclose(make().weights(gram.astype("float32")), expected)
    if not asked.parts:
        np.testing.assert_allclose(asked.weights(gram.astype("float32")), expected)


@pytest.mark.large
def test_a_question_by_hand_does_not_throw_away_a_models_state():
    x, y = table_data()
    model = table_model()
    model.compile("sgd", balancer="gradvac")
    model.fit(x, y, verbose=0)
    state = [v.numpy() for v in model.balancer.variables]
    with pytest.raises(
        ValueError, match="holds the state of the tasks cost, sold, and the matrix has 3 rows"
    ):
        model.balancer.weights(np.eye(3))
    assert model.balancer.task_names == ["cost", "sold"]
    for old, new in zip(state, model.balancer.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


# ------------------------------------------------------------------ register
def test_a_class_named_like_a_built_in_replaces_nothing():
    with pytest.raises(ValueError, match="'equal' is taken by mtl_keras.balancing.equal.Equal"):
        balancing.register("equal")(_half("Equal"))
    with pytest.raises(
        ValueError, match="Class name 'Equal' is taken by mtl_keras.balancing.equal.Equal"
    ):
        balancing.register("half_of_all")(_half("Equal"))
    assert (
        type(balancing.get("equal")) is balancing.Equal and "half_of_all" not in balancing.names()
    )
    config = keras.saving.serialize_keras_object(balancing.Equal())
    assert type(keras.saving.deserialize_keras_object(config)) is balancing.Equal


def test_register_takes_balancers_only():
    with pytest.raises(ValueError, match="subclasses of"):
        balancing.register("nothing")(dict)


def test_an_unregistered_class_is_named_at_compile_and_loads_with_custom_objects(tmp_path):
    half = _half("HalfUnregistered")
    model = table_model()
    with pytest.warns(
        UserWarning, match=r"HalfUnregistered is not registered.*register.*custom_objects"
    ):
        model.compile("sgd", balancer=half())
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(
        tmp_path / "m.keras", custom_objects={"HalfUnregistered": half}
    )
    assert type(loaded.balancer) is half
    with pytest.warns(UserWarning, match="HalfUnregistered is not registered"):
        model.compile("sgd", balancer=["equal", half()])


def test_built_in_classes_warn_of_nothing(recwarn):
    table_model().compile("sgd", balancer=["uncertainty", "cagrad"])
    assert not [w for w in recwarn if "registered" in str(w.message)]


@pytest.mark.large
def test_a_registered_class_trains_saves_and_loads_in_another_process(tmp_path):
    (tmp_path / "half.py").write_text(
        textwrap.dedent(
            """
            import keras, mtl_keras as mtl

            @mtl.balancing.register("half")
            class Half(mtl.balancing.Balancer):
                def weigh(self, losses, present, gram=None):
                    return keras.ops.full_like(losses, 0.5)
            """
        )
    )
    train = (
        "import half, numpy as np, mtl_keras as mtl\n"
        "m = mtl.builders.hard_sharing((5,), [mtl.tasks.Regression('a'), "
        "mtl.tasks.Regression('b')], backbone='mlp')\n"
        "m.compile('sgd', balancer='half')\n"
        "m.fit(np.ones((4, 5)), {'a': np.ones(4), 'b': np.ones(4)}, verbose=0)\n"
        "m.save('m.keras')\n"
    )
    load = "import half, keras\nprint(keras.saving.load_model('m.keras').balancer.name)\n"
    for code in (train, load):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.split() == ["half"]
