"""The examples in docstrings of public objects run: each in a folder of its own, on the names that
README and docs use too."""

import doctest
import importlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from annotation_files import write_coco, write_voc

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


# ------------------------------------------------------------------ what examples may use without saying where it comes from
def _names(folder):
    """Sixteen images with two labels each, and a small network for them."""
    rng = np.random.default_rng(0)
    images = rng.random((16, 32, 32, 3)).astype("float32")
    boxes = np.tile(np.float32([0.1, 0.2, 0.7, 0.8]), (16, 1))
    labels = {"digit": rng.integers(0, 10, 16), "box": boxes}
    tasks = [mtl.tasks.Classification("digit", num_classes=10), mtl.tasks.BoundingBox("box")]
    options = {"widths": (4, 8), "depth": 1}
    model = mtl.builders.hard_sharing(
        (32, 32, 3), tasks, backbone="small_cnn", backbone_options=options
    )
    model.compile("adam")
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    names = {"keras": keras, "np": np, "tf": tf, "mtl": mtl, "zoo": zoo, "__name__": "__main__"}
    names |= {"model": model, "tasks": tasks, "images": images, "labels": labels}
    names |= {"digits": labels["digit"], "boxes": boxes, "x": images, "y": labels}
    names |= {"cats": np.arange(16) % 2, "dogs": np.arange(16) // 2 % 2}
    return names | {"train": data, "val": data, "validation": data, "data": data}


def _scores(names, folder):
    """By task and metric: those of two seeds, and of constant answers."""
    names["multi"] = names["single"] = [{"digit_accuracy": 0.9, "box_iou": 0.8}] * 2
    names["trivial"] = {"digit_accuracy": 0.1, "box_iou": 0.3}


def _title_and_photo(names, folder):
    """A network of which one modality may be missing."""
    names["model"] = mtl.builders.cross_modal(
        {"title": (6,), "photo": (16, 16, 3)},
        [mtl.tasks.Binary("sold")],
        {"title": "text_cnn", "photo": "small_cnn"},
        optional=("photo",),
        backbone_options={"title": {"vocabulary_size": 20}, "photo": {"widths": (4,), "depth": 1}},
    )
    names["tokens"] = np.ones((2, 6), "int32")


def _two_sources(names, folder):
    """Two data sets of text, each with the labels of one task."""
    tasks = [mtl.tasks.Binary("positive"), mtl.tasks.Classification("topic", num_classes=4)]
    names["model"] = mtl.builders.hard_sharing(
        {"tokens": (6,)}, tasks, "text_cnn", backbone_options={"vocabulary_size": 20}
    )
    names["model"].compile("adam")
    tokens, rows = np.ones((32, 6), "int32"), np.arange(32)
    for name, labels in (
        ("reviews", {"positive": rows % 2}),
        ("headlines", {"topic": rows % 4}),
    ):
        names[name] = tf.data.Dataset.from_tensor_slices((tokens, labels)).batch(8)


def _files(names, folder):
    """The network's file, under the two names that examples use."""
    for path in (folder / "model.tflite", folder / "out" / "model.tflite"):
        mtl.export.tflite(names["model"], path)
    names["images"] = names["images"][:1]


def _counted_kinds(names, folder):
    task = mtl.tasks.Classification("kind", num_classes=3, class_weights="balanced")
    names["model"] = mtl.builders.hard_sharing((5,), [task])
    names["model"].compile("adam")
    names["kinds"] = np.array([0, 0, 1, 2])


def _loop(names, folder):
    """A loop of one's own over a table."""
    names["model"] = mtl.testing.table_model()
    rows = tf.data.Dataset.from_tensor_slices(mtl.testing.table_data())
    names["data"] = rows.map(
        lambda x, y: (x, {name: label[None] for name, label in y.items()})
    ).batch(8)
    names["mse"] = lambda y, output: tf.reduce_mean(tf.square(y - output))
    names["bce"] = lambda y, output: tf.reduce_mean(keras.losses.binary_crossentropy(y, output))
    names["optimizer"] = keras.optimizers.SGD(0.01)


def _pictures(names, folder):
    names["pictures"] = np.random.default_rng(0).integers(0, 256, (4, 480, 640, 3)).astype("uint8")


def _aware(names, folder):
    names["aware"] = mtl.export.quantization_aware(names["model"])


def _dense(names, folder):
    names["dense"] = keras.layers.Dense(3)


def _minutes(names, folder):
    names["minutes"] = np.array([-5.0, 20.0, 60.0])


def _photos(names, folder):
    """Pictures in class folders, and files that describe them."""
    for number in range(8):
        path = folder / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, np.full((8, 8, 3), 30.0 * number))
    write_coco(
        folder / "instances.json",
        categories=[{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        annotations=[],
    )
    (folder / "Annotations").mkdir()
    write_voc(folder / "Annotations" / "0.xml", "0.png", [("cat", (1, 1, 8, 8), False)])


#: By a part of the object's full name: what its example needs beyond `_names`.
SETUPS = {
    "delta_report": _scores,
    "complete_inputs": _title_and_photo,
    "data.mix": _two_sources,
    "TFLiteModel": _files,
    "benchmark": _files,
    "snippets": _files,
    "web_page": _files,
    "count_classes": _counted_kinds,
    "balanced_gradients": _loop,
    "with_raw_images": _pictures,
    "float_twin": _aware,
    "QuantizedWeights": _dense,
    "tasks.Regression": _minutes,
    "from_folder": _photos,
    "read_coco": _photos,
    "read_voc": _photos,
}
#: Examples whose answers hang on what a network has learned: they run, and their answers are not
#: compared.
LEARNED = ("TFLiteModel", "layer_errors")
#: Examples that need more than the test extra or minutes.
ELSEWHERE = {
    "export.compress": "tests/export/test_compress.py runs the same call on a smaller network",
}


@pytest.mark.large
@pytest.mark.parametrize(
    "name", [name for name in EXAMPLES if not any(part in name for part in ELSEWHERE)]
)
def test_it_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _names(tmp_path)
    for part, prepare in SETUPS.items():
        if part in name:
            prepare(names, tmp_path)
    for example in PARSER.get_examples(EXAMPLES[name]):
        answers = []
        monkeypatch.setattr("sys.displayhook", answers.append)
        exec(compile(example.source, f"<{name}>", "single"), names)
        is_compared = example.want and answers and not any(part in name for part in LEARNED)
        if is_compared and answers[-1] is not None:
            assert CHECKER.check_output(example.want, f"{answers[-1]!r}\n", FLAGS), (
                f"{example.source.strip()} gives {answers[-1]!r}, not {example.want.strip()}"
            )


def test_examples_stand_where_readers_look_first():
    assert len(EXAMPLES) > 30
    for name in ("mtl_keras.builders.hard_sharing", "mtl_keras.testing.run_balancer_test"):
        assert name in EXAMPLES
