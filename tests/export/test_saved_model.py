import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import image_data, image_model

import mtl_keras as mtl


def test_every_head_agrees_by_name_for_any_batch(trained, tmp_path):
    model, x, _ = trained
    report = mtl.export.saved_model(model, tmp_path / "sm", samples=x)
    assert {h.name for h in report.heads} == set(model.task_names)
    served = tf.saved_model.load(str(tmp_path / "sm")).signatures["serving_default"]
    expected = model.predict(x[:5], verbose=0)
    for rows in (1, 5):
        found = served(image=tf.constant(x[:rows]))
        assert set(found) == set(model.task_names)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name][:rows], atol=1e-5)


@pytest.mark.large
def test_every_variable_is_stored_once(trained, tmp_path):
    mtl.export.saved_model(trained[0], tmp_path / "sm")
    stored = tf.train.load_checkpoint(
        str(tmp_path / "sm" / "variables" / "variables")
    ).get_variable_to_shape_map()
    numbers = sum(
        int(np.prod(shape)) for key, shape in stored.items() if key.endswith("VARIABLE_VALUE")
    )
    assert numbers == trained[0].count_params() + sum(
        int(np.prod(v.shape)) for v in trained[0].variables if "seed" in v.path
    )


@pytest.mark.large
def test_it_serves_where_there_is_neither_keras_nor_this_package(trained, tmp_path, without):
    model, x, _ = trained
    mtl.export.saved_model(model, tmp_path / "sm")
    np.save(tmp_path / "x.npy", x[:3])
    code = f"""
import numpy as np, tensorflow as tf
f = tf.saved_model.load({str(tmp_path / "sm")!r}).signatures['serving_default']
out = f(image=tf.constant(np.load({str(tmp_path / "x.npy")!r})))
np.savez({str(tmp_path / "out.npz")!r}, **{{k: v.numpy() for k, v in out.items()}})
"""
    # TensorFlow itself loads Keras while it is imported, if there is one; from then on there is
    # none.
    done = without(["keras", "tf_keras", "mtl_keras"], code, before="import tensorflow")
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.predict(x[:3], verbose=0)
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == set(expected)
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_augmentation_is_off_in_the_served_model(tmp_path):
    inputs = keras.Input((16, 16, 1), name="image")
    x = keras.layers.RandomFlip(name="flip")(inputs)
    x = keras.layers.Dropout(0.5, name="drop")(keras.layers.Flatten(name="flat")(x))
    task = mtl.tasks.Regression("cost", hidden=0)
    model = mtl.builders.hard_sharing(None, [task], backbone=keras.Model(inputs, x))
    mtl.export.saved_model(model, tmp_path / "sm")
    served = tf.saved_model.load(str(tmp_path / "sm")).signatures["serving_default"]
    image = tf.constant(image_data(rows=1)[0])
    assert len({served(image=image)["cost"].numpy().item() for _ in range(8)}) == 1


@pytest.mark.large
def test_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = image_model()
    keras.config.set_dtype_policy("float32")
    plain = mtl.export.prepare.as_float32(model)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    assert plain.task_names == model.task_names
    report = mtl.export.saved_model(model, tmp_path / "sm")
    assert max(h.largest for h in report.heads) < 1e-5


def _earlier(folder):
    """What an earlier export is known by, and one of its files."""
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "assets.extra" / "mtl_keras.json").write_text("{}")
    (folder / "variables").mkdir()
    (folder / "variables" / "old").write_text("old")


def test_what_was_there_stays_when_the_export_fails(trained, tmp_path, monkeypatch):
    model, _, _ = trained
    _earlier(tmp_path / "sm")
    monkeypatch.setattr(
        mtl.export.converter.archive,
        "write_archive",
        lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(mtl.export.ExportError, match=r"No space left.*unchanged"):
        mtl.export.saved_model(model, tmp_path / "sm")
    assert [p.name for p in tmp_path.iterdir()] == ["sm"]
    assert (tmp_path / "sm" / "variables" / "old").read_text() == "old"


def test_a_good_export_replaces_what_was_there(trained, tmp_path):
    model, _, _ = trained
    _earlier(tmp_path / "sm")
    mtl.export.saved_model(model, tmp_path / "sm")
    assert (
        not (tmp_path / "sm" / "variables" / "old").exists()
        and (tmp_path / "sm" / "saved_model.pb").exists()
    )


def test_a_path_that_can_not_be_written_is_named(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(mtl.export.ExportError, match="can't be written"):
        mtl.export.saved_model(trained[0], tmp_path / "file" / "sm")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((3, 8, 8, 1), "float32"), "model takes"),
        (np.full((3, 16, 16, 1), np.nan, "float32"), "not finite"),
        (np.zeros((0, 16, 16, 1), "float32"), "at least one row"),
        ({"picture": np.zeros((3, 16, 16, 1))}, "Inputs image are missing"),
        (np.array([["a"]]), "model takes"),
    ],
)
def test_unfit_samples_are_refused(trained, tmp_path, samples, words):
    with pytest.raises(ValueError, match=words):
        mtl.export.saved_model(trained[0], tmp_path / "sm", samples=samples)
    assert not list(tmp_path.iterdir())
