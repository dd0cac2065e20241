"""Networks and rows as people have them: subclassed, Sequential, list outputs, half precision;
lists, functions, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import table_data, table_model

import mtl_keras as mtl
from mtl_keras.export import ExportError
from mtl_keras.export.judge import held_out
from mtl_keras.export.models import functional
from mtl_keras.export.prepare import as_float32, subset
from mtl_keras.export.sampling import take_rows

L = keras.layers


class Twins(keras.Model):
    """A subclass with two inputs."""

    def __init__(self):
        super().__init__()
        self.hidden, self.last = L.Dense(4, activation="relu"), L.Dense(2)

    def call(self, pair, training=None):
        both = self.hidden(pair["left"]) + self.hidden(pair["right"])
        return {"sum": self.last(both), "first": both[:, :1]}


class Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = L.Dense(3)

    def call(self, x):
        return self.last(x), x[:, ::2]


def _list_outputs(x):
    h = L.Dense(4, name="h")(x)
    return keras.Model(x, [L.Dense(2, name="a")(h), L.Dense(1, name="b")(h), h])


def _models():
    x = np.random.default_rng(0).random((6, 5)).astype("float32")
    inputs = keras.Input((5,), name="x")
    twins, plain = Twins(), Plain()
    pair = {"left": x, "right": x[::-1]}
    twins(pair), plain(x[:2])
    late = keras.Sequential([L.Dense(4, activation="relu"), L.Dense(2, name="score")])
    late(x[:3])
    return {
        "sequential": (
            keras.Sequential([keras.Input((5,)), L.Dense(4), L.Dense(2, name="score")]),
            x,
            ["score"],
        ),
        "called sequential": (late, x, ["score"]),
        "list": (_list_outputs(inputs), x, ["a", "b", "h"]),
        "single": (keras.Model(inputs, L.Dense(2, name="a")(inputs)), x, ["a"]),
        "subclass": (plain, x, ["output", "output_1"]),
        "subclass of dicts": (twins, pair, ["sum", "first"]),
    }


@pytest.mark.parametrize(
    "kind", ["sequential", "called sequential", "list", "single", "subclass", "subclass of dicts"]
)
def test_every_kind_of_network_is_one_with_named_outputs_and_the_same_answers(kind):
    model, x, names = _models()[kind]
    named = functional(model)
    assert list(named.output) == names
    feed = (
        x if not isinstance(x, dict) else {tensor.name: x[tensor.name] for tensor in named.inputs}
    )
    expected = (
        keras.tree.flatten(model(x))
        if kind != "subclass of dicts"
        else [model(x)[name] for name in names]
    )
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(named(feed)[name], value, rtol=1e-6, atol=1e-6)
    assert {id(v) for v in named.variables} == {id(v) for v in model.variables}


@pytest.mark.parametrize(
    "kind", ["sequential", "subclass of dicts", pytest.param("list", marks=pytest.mark.large)]
)
def test_every_kind_of_network_is_exported(kind, tmp_path):
    model, x, names = _models()[kind]
    mtl.export.tflite(model, tmp_path / "m.tflite", samples=x)
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    rows = x if isinstance(x, dict) else {next(iter(file.inputs)): x}
    found = file.run(rows)
    expected = (
        model(x)
        if isinstance(model(x), dict)
        else dict(zip(names, keras.tree.flatten(model(x)), strict=True))
    )
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
    if kind == "sequential":
        mtl.export.saved_model(model, tmp_path / "served", samples=x)
        served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
        np.testing.assert_allclose(
            served(tf.constant(x))["score"], expected["score"], rtol=1e-5, atol=1e-5
        )


def test_networks_of_other_kinds_are_trained_for_int8_too():
    model, x, _ = _models()["sequential"]
    aware = mtl.export.quantization_aware(model)
    assert list(aware.output) == ["score"]
    plain = mtl.export.float_twin(aware)
    np.testing.assert_allclose(plain(x)["score"], model(x), rtol=1e-6, atol=1e-6)
    keras.config.set_dtype_policy("float16")
    half = table_model()
    keras.config.set_dtype_policy("float32")
    with pytest.raises(ExportError, match=r"computes in float16"):
        mtl.export.quantization_aware(half)


def test_networks_that_say_too_little_are_told_what_to_do(tmp_path):
    with pytest.raises(ExportError, match=r"never called.*model\(x\[:1\]\)"):
        mtl.export.tflite(keras.Sequential([L.Dense(2)]), tmp_path / "m.tflite")
    with pytest.raises(ExportError, match="never called"):
        mtl.export.saved_model(Plain(), tmp_path / "served")

    class Numpy(Plain):
        def call(self, x):
            return self.last(np.asarray(x))

    model = Numpy()
    model.build((None, 5))
    model.built = True
    with pytest.raises(ExportError, match="a subclass"):
        mtl.export.tflite(model, tmp_path / "m.tflite")
    with pytest.raises(ExportError, match="Keras model is needed, got int"):
        mtl.export.tflite(3, tmp_path / "m.tflite")


@pytest.mark.parametrize("name", ["my-image", "1st", "größe", "class", "self", "_x", "a.b"])
def test_names_of_inputs_are_checked_as_tasks_names_are(name, tmp_path):
    inputs = keras.Input((4,), name=name)
    head = mtl.tasks.TaskOutput(mtl.tasks.Regression("cost"))(L.Dense(1)(inputs))
    with pytest.raises(ValueError, match=rf"Input name '{name}'.*for example"):
        mtl.MultiTaskModel(inputs, {"cost": head})
    plain = keras.Model(inputs, {"y": L.Dense(1, name="y")(inputs)})
    for export, path in ((mtl.export.saved_model, "served"), (mtl.export.tflite, "m.tflite")):
        with pytest.raises(ExportError, match=rf"Input name '{name}'.*Rename it"):
            export(plain, tmp_path / path)


def test_an_input_with_a_tasks_name_is_refused_by_name():
    inputs = keras.Input((4,), name="cost")
    head = mtl.tasks.TaskOutput(mtl.tasks.Regression("cost"))(L.Dense(1)(inputs))
    with pytest.raises(ValueError, match="An input and a task are both named 'cost'"):
        mtl.MultiTaskModel(inputs, {"cost": head})


@pytest.mark.large
@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_a_network_in_half_precision_throughout_is_exported_in_float32(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = table_model()
    keras.config.set_dtype_policy("float32")
    x, _ = table_data(16)
    mtl.export.tflite(model, tmp_path / "m.tflite", samples=x)
    found = mtl.export.run_tflite(tmp_path / "m.tflite", {"numeric": x})
    expected = model.predict(x, verbose=0)
    step = {"float16": 2e-3, "bfloat16": 2e-2}[policy]
    for name, value in found.items():
        assert (
            value.dtype == np.float32
            and np.abs(value - np.asarray(expected[name], "float32")).max() < 8 * step
        )
    inputs = keras.Input((5,), dtype=policy, name="x")
    half = keras.Model(inputs, {"y": L.Dense(2, name="y", dtype=policy)(inputs)})
    for before, after in ((model, as_float32(model)), (half, subset(half, None))):
        assert after.inputs[0].dtype == "float32"
        for a, b in zip(before.get_weights(), after.get_weights(), strict=True):
            assert b.dtype == np.float32
            np.testing.assert_array_equal(np.asarray(a, "float32"), b)


def test_words_in_int16x8_are_one_sentence(tmp_path):
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    h = L.GlobalAveragePooling1D()(L.Embedding(20, 4)(tokens))
    model = mtl.MultiTaskModel(
        tokens, {"cost": mtl.tasks.TaskOutput(mtl.tasks.Regression("cost"))(L.Dense(1)(h))}
    )
    x = np.random.default_rng(0).integers(0, 20, (16, 6)).astype("int32")
    with pytest.raises(
        ExportError,
        match=r"Input 'tokens' holds whole numbers.*Use quantization='int8' or 'dynamic'",
    ):
        mtl.export.tflite(model, tmp_path / "m.tflite", "int16x8", calibration=x)


# ------------------------------------------------------------------ rows
class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, i):
        return self.x[8 * i : 8 * i + 8], {
            name: value[8 * i : 8 * i + 8] for name, value in self.y.items()
        }


def _cut(x, y=None):
    for i in range(0, len(x), 8):
        part = x[i : i + 8]
        yield part if y is None else (part, {name: value[i : i + 8] for name, value in y.items()})


def test_rows_of_every_form_are_the_same_rows(tmp_path):
    model, (x, y) = table_model(), table_data(32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", numeric=x)
    forms = {
        "arrays": x,
        "data set": Batches(x, y),
        "list of batches": list(_cut(x)),
        "list of labeled batches": list(_cut(x, y)),
        "list of lists, as a DataLoader gives them": [list(batch) for batch in _cut(x, y)],
        "list of dicts": [{"numeric": part} for part in _cut(x)],
        "list of rows": list(x),
        "list of numbers": x.tolist(),
        "generator": _cut(x, y),
        "function": lambda: _cut(x, y),
        "function as the converter takes it": lambda: ([row[None]] for row in x),
        "path": str(tmp_path / "x.npy"),
        "path of names": tmp_path / "x.npz",
    }
    for form, data in forms.items():
        found = take_rows(model, data, len(x))["numeric"]
        np.testing.assert_allclose(np.sort(found, 0), np.sort(x, 0), rtol=1e-6, err_msg=form)


def test_two_inputs_in_a_list_stay_two_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], {"y": L.Dense(1, name="y")(L.Add()([a, b]))})
    x = [np.zeros((4, 3), "float32"), np.ones((4, 3), "float32")]
    found = take_rows(model, x, 4)
    assert not found["a"].any() and found["b"].all() and found["a"].shape == (4, 3)
    found = take_rows(model, [[v[:2] for v in x], [v[2:] for v in x]], 4)
    assert not found["a"].any() and found["b"].all() and found["a"].shape == (4, 3)


def test_held_out_rows_of_every_form_are_the_same_rows():
    model, (x, y) = table_model(), table_data(32)
    for data in ((x, y), [x, y], Batches(x, y), list(_cut(x, y)), lambda: _cut(x, y)):
        rows, labels = held_out(model, data)
        np.testing.assert_array_equal(rows["numeric"], x)
        assert all(np.array_equal(labels[name], y[name]) for name in y)
    with pytest.raises(ValueError, match="needs labels"):
        held_out(model, list(_cut(x)))


def test_the_shell_takes_the_rows_of_one_input_as_an_array(tmp_path):
    from mtl_keras.cli.exporting import load_rows

    model, (x, y) = table_model(), table_data(8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "all.npz", numeric=x, **y)
    for file, labels in (("x.npy", {}), ("all.npz", y)):
        rows, found = load_rows(tmp_path / file, model)
        np.testing.assert_array_equal(rows["numeric"], x)
        assert set(found) == set(labels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nowhere.npy", r"nowhere\.npy is not there"),
        (__file__, r"is no \.npy or \.npz file"),
        (3, "Rows are arrays, a data set"),
    ],
)
def test_what_holds_no_rows_is_named(data, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        take_rows(table_model(), data, 4)
