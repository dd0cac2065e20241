"""The examples in docstrings of public objects run: each in a folder of its own, on the names that README and docs use too."""

import doctest
import importlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras import zoo

ROOMS = [f"mtl_keras.{name}" for name in mtl.__all__ if name[0].islower()] + ["mtl_keras.model"]
PARSER = doctest.DocTestParser()
CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _public_objects():
    """Public classes, functions and methods by full name."""
    objects = {}
    for room in ROOMS:
        module = getattr(mtl, room.split(".")[1], None) or importlib.import_module(room)
        for name in module.__all__:
            part = getattr(module, name)
            objects[f"{room}.{name}"] = part
            if not inspect.isclass(part):
                continue
            for method, value in vars(part).items():
                value = getattr(value, "__func__", getattr(value, "fget", value))
                if not method.startswith("_") and inspect.isfunction(value):
                    objects[f"{room}.{name}.{method}"] = value
    return objects


def _examples():
    """Docstrings with examples, each once, by the first name that has it."""
    examples, texts = {}, set()
    for name, part in _public_objects().items():
        text = inspect.getdoc(part) or ""
        if ">>> " in text and text not in texts:
            texts.add(text)
            examples[name] = text
    return examples


EXAMPLES = _examples()


def _namespace(folder):
    """What an example may use without saying where it comes from."""
    rng = np.random.default_rng(0)
    images = rng.random((64, 32, 32, 3)).astype("float32")
    labels = {
        "digit": rng.integers(0, 10, 64),
        "box": np.tile(np.float32([0.1, 0.2, 0.7, 0.8]), (64, 1)),
    }
    tasks = [mtl.tasks.Classification("digit", num_classes=10), mtl.tasks.BoundingBox("box")]
    options = {"widths": (4, 8), "depth": 1}
    model = mtl.builders.hard_sharing(
        (32, 32, 3), tasks, backbone="small_cnn", backbone_options=options
    )
    model.compile("adam")
    model.save(folder / "model.keras")
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    names = {"keras": keras, "np": np, "tf": tf, "mtl": mtl, "zoo": zoo, "__name__": "__main__"}
    names |= {"model": model, "tasks": tasks, "images": images, "labels": labels}
    names |= {"digits": labels["digit"], "boxes": labels["box"]}
    names |= {"x": images, "y": labels, "x_test": images, "y_test": labels}
    return names | {"train": data, "val": data, "test": data, "dataset": data, "data": data}


@pytest.mark.large
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _namespace(tmp_path)
    for example in PARSER.get_examples(EXAMPLES[name]):
        shown = []
        monkeypatch.setattr("sys.displayhook", lambda value, shown=shown: shown.append(value))
        code = compile(example.source, f"<{name}>", "single")
        exec(code, names)
        if example.want and shown and shown[-1] is not None:
            assert CHECKER.check_output(example.want, f"{shown[-1]!r}\n", FLAGS), (
                f"{name}: {example.source.strip()} gives {shown[-1]!r}, not {example.want.strip()}"
            )


def test_examples_stand_where_readers_look_first():
    assert len(EXAMPLES) > 30
    for name in ("mtl_keras.builders.hard_sharing", "mtl_keras.testing.run_balancer_test"):
        assert name in EXAMPLES
