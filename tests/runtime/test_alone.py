"""The room without Keras: everything in it works in a process that can import neither Keras nor
TensorFlow."""

import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from mtl_keras import runtime, zoo

_REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"keras", "tensorflow", "tf_keras", "torch", "jax", "matplotlib", "typer"}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Refuse())
"""


def run_alone(code):
    """Run code in a process in which only the runtime's own requirements can be imported."""
    done = subprocess.run(
        [sys.executable, "-c", _REFUSE + code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_module_of_the_runtime_imports_alone():
    modules = [m.name for m in pkgutil.walk_packages(runtime.__path__, "mtl_keras.runtime.")]
    assert len(modules) > 15
    run_alone(f"import importlib\nfor name in {modules!r}: importlib.import_module(name)")


@pytest.mark.parametrize("name", ["fashion_scene", "flights", "gloss"])
def test_shipped_files_give_the_outputs_that_keras_gave(name):
    """A user's whole way: load, read what the file says, run, decode. `golden.npz` is Keras's own
    answer."""
    code = f"""
import numpy as np
from mtl_keras import runtime
folder = {str(zoo.path(name))!r}
model = runtime.TFLiteModel(folder + "/model.tflite")
with np.load(folder + "/golden.npz") as file:
    inputs = {{key[6:]: file[key] for key in file if key.startswith("input_")}}
    outputs = {{key[7:]: file[key] for key in file if key.startswith("output_")}}
result = model.run(inputs)
assert list(result) == [task["name"] for task in model.tasks] and set(result) == set(outputs)
for task in outputs:
    np.testing.assert_allclose(result[task], outputs[task], rtol=1e-3, atol=1e-4, err_msg=task)
answers = model.predict(inputs)
assert all(len(answers[task]) == len(outputs[task]) for task in outputs)
assert model.encoder.kind in ("image", "sound", "table", "text") and model.describe()["operators"]
"""
    run_alone(code)


def test_raw_pictures_and_sentences_are_encoded_alone(tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), "uint8")
    Image.fromarray(picture).save(tmp_path / "photo.png")
    code = f"""
import numpy as np
from mtl_keras import runtime
model = runtime.TFLiteModel({str(zoo.path("fashion_scene") / "model.tflite")!r})
x = model.encoder.encode([{str(tmp_path / "photo.png")!r}])
assert x.shape == (1, *model.inputs[model.encoder.name]["shape"][1:]) and 0 <= x.min() < x.max() <= 1
answer = model.predict({{model.encoder.name: x}})
assert set(answer["item"][0]) == {{"label", "probability"}}
model = runtime.TFLiteModel({str(zoo.path("gloss") / "model.tflite")!r})
ids = model.encoder.encode(["a small domesticated mammal"])
print(model.predict({{model.encoder.name: ids}})[model.tasks[0]["name"]][0]["label"])
"""
    assert run_alone(code).strip() == "noun"


def test_files_are_measured_and_called_from_other_languages_alone(tmp_path):
    file = zoo.path("flights") / "model.tflite"
    code = f"""
from mtl_keras import runtime
report = runtime.benchmark({str(file)!r}, runs=3, rounds=1)
report.show()
assert report.rows[0]["median_ms"] > 0
files = runtime.snippets({str(file)!r}, ["kotlin", "python"], {str(tmp_path)!r})
assert all(path.read_text() for path in files.values())
assert runtime.web_page({str(file)!r}, {str(tmp_path / "page.html")!r}).is_file()
from mtl_keras import data, export
assert export.TFLiteModel is runtime.TFLiteModel and data.TableEncoder is runtime.TableEncoder
"""
    assert "median ms" in run_alone(code)


def test_what_needs_keras_says_so():
    code = """
import mtl_keras
for name in ("tasks", "builders", "MultiTaskModel"):
    try: getattr(mtl_keras, name)
    except ImportError as error: assert "keras" in str(error), error
    else: raise AssertionError(name)
try: mtl_keras.export.tflite
except ImportError as error: assert "`mtl_keras.export.tflite` needs Keras" in str(error), error
else: raise AssertionError("tflite")
"""
    run_alone(code)
