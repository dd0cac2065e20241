"""What stands on the disk is safe: nothing of others is replaced, nothing is left of processes that
were killed."""

import signal
import subprocess
import sys

import keras
import pytest

import mtl_keras as mtl
from mtl_keras.export import ExportError
from mtl_keras.runtime import files
from mtl_keras.runtime.files import atomic_write


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(7)
    return mtl.builders.hard_sharing(
        (5,),
        [mtl.tasks.Regression("cost"), mtl.tasks.Binary("sold")],
        backbone="mlp",
        backbone_options={"widths": (8,)},
    )


def _files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# ------------------------------------------------------------------ what others wrote
@pytest.mark.parametrize(
    "export", [mtl.export.saved_model, pytest.param(mtl.export.split, marks=pytest.mark.large)]
)
def test_an_earlier_export_is_replaced_and_nothing_else(model, tmp_path, export):
    (tmp_path / "new").mkdir()
    export(model, tmp_path / "new")  # into an empty folder
    (tmp_path / "new/thesis.txt").write_text("three years of work")
    before = _files(tmp_path)
    with pytest.raises(ExportError, match=r"\(thesis\.txt\)"):
        export(model, tmp_path / "new")
    assert _files(tmp_path) == before
    (tmp_path / "new/thesis.txt").unlink()
    export(model, tmp_path / "new")


@pytest.mark.parametrize("export", [mtl.export.saved_model, mtl.export.split])
def test_a_folder_of_others_is_left_alone(model, tmp_path, export):
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/deep/thesis.txt").write_text("three years of work")
    before = _files(tmp_path)
    with pytest.raises(
        ExportError, match=r"out holds what no earlier export .*\(deep\).*choose a new folder"
    ):
        export(model, tmp_path / "out")
    assert _files(tmp_path) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="is a file"):
        export(model, tmp_path / "file")


def test_a_saved_model_of_others_is_left_alone(model, tmp_path):
    model.export(tmp_path / "served", verbose=False)
    before = _files(tmp_path)
    with pytest.raises(ExportError, match=r"saved_model\.pb"):
        mtl.export.saved_model(model, tmp_path / "served")
    assert _files(tmp_path) == before


def test_a_folder_is_never_replaced_by_a_file(model, tmp_path):
    (tmp_path / "m.tflite").mkdir()
    (tmp_path / "m.tflite/thesis.txt").write_text("three years of work")
    with pytest.raises(ExportError, match="is a folder"):
        mtl.export.tflite(model, tmp_path / "m.tflite")
    mtl.export.tflite(model, tmp_path / "n.tflite")
    (tmp_path / "n.html").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        mtl.export.web_page(tmp_path / "n.tflite")
    assert (tmp_path / "m.tflite/thesis.txt").read_text() == "three years of work"


def test_other_formats_leave_what_others_wrote_alone(model, tmp_path):
    (tmp_path / "m.onnx").mkdir()
    (tmp_path / "m.xml").mkdir()
    (tmp_path / "weights.bin").write_text("of another library")
    with pytest.raises(ExportError, match="is a folder"):
        mtl.export.onnx(model, tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="is a folder"):
        mtl.export.openvino(model, tmp_path / "m.xml")
    with pytest.raises(ExportError, match=r"weights\.bin is there already"):
        mtl.export.openvino(model, tmp_path / "weights.xml")
    assert (tmp_path / "weights.bin").read_text() == "of another library"


def test_a_users_own_program_is_not_replaced_by_a_snippet(model, tmp_path):
    """`model.py` beside `model.tflite` is what many a project has."""
    mtl.export.tflite(model, tmp_path / "model.tflite")
    for name in ("model.py", "model.html"):
        (tmp_path / name).write_text("# my own\n")
    with pytest.raises(ExportError, match=r"model\.py is there already"):
        mtl.export.snippets(tmp_path / "model.tflite")
    with pytest.raises(ExportError, match=r"model\.html is there already"):
        mtl.export.web_page(tmp_path / "model.tflite")
    assert (tmp_path / "model.py").read_text() == "# my own\n"
    assert not (tmp_path / "model.kt").exists()  # nothing is written where one can't be
    (tmp_path / "model.py").unlink()
    for _ in range(2):  # ours are replaced
        mtl.export.snippets(tmp_path / "model.tflite")


def test_zoo_training_leaves_a_folder_of_others_alone(tmp_path):
    from mtl_keras import zoo

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/thesis.txt").write_text("three years of work")
    with pytest.raises(ExportError, match=r"\(thesis\.txt\)"):
        zoo.train("fashion_scene", out=tmp_path / "runs", epochs=1)
    assert (tmp_path / "runs/thesis.txt").exists()


# ------------------------------------------------------------------ processes that end badly
_WRITER = """
import importlib.util, os, sys, time
# Alone, so that it starts at once.
spec = importlib.util.spec_from_file_location("files", sys.argv[3])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
when = sys.argv[2]
replace, calls = os.replace, []
def slow(a, b):
    # The first renames the lock, the second moves the old folder aside.
    calls.append(b)
    if when == "between" and len(calls) == 3:
        print("ready", flush=True)
        time.sleep(60)
    replace(a, b)
files.os.replace = slow
with files.atomic_write(sys.argv[1]) as fresh:
    fresh.mkdir()
    (fresh / "new.txt").write_text("new")
    if when == "inside":
        print("ready", flush=True)
        time.sleep(60)
"""


def _writer(path, when):
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), when, files.__file__],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def _write(path):
    with atomic_write(path) as fresh:
        fresh.mkdir()
        (fresh / "newer.txt").write_text("newer")


def test_what_a_killed_process_left_is_cleared_up_and_what_a_living_one_writes_is_not(tmp_path):
    target = tmp_path / "out"
    killed, living = _writer(target, "inside"), _writer(target, "inside")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(tmp_path.glob(".out-*"))) == 2
    _write(target)
    try:
        assert len(list(tmp_path.glob(".out-*"))) == 1
        assert _files(target) == {"newer.txt": b"newer"}
    finally:
        living.kill()
        living.wait()
    _write(target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_killed_between_the_old_folder_and_the_new_the_old_one_comes_back(tmp_path):
    target = tmp_path / "out"
    _write(target)
    process = _writer(target, "between")
    process.kill()
    process.wait()
    assert not target.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(target):
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert _files(target) == {"newer.txt": b"newer"}


@pytest.mark.parametrize("name", ["old", "out.old", ".lock", "a[1]*"])
def test_any_name_can_be_written_twice(tmp_path, name):
    for _ in range(2):
        _write(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "deep").mkdir()
    _write(tmp_path / "deep/one")
    (tmp_path / "link").symlink_to(tmp_path / "deep/one")
    _write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "deep/one/newer.txt").exists()


_FULL = """
import resource, signal, sys
import keras
import mtl_keras as mtl
cost = mtl.tasks.Regression("cost")
model = mtl.builders.hard_sharing((5,), [cost], backbone="mlp", backbone_options={"widths": (400, 400)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
mtl.export.saved_model(model, sys.argv[1])
# From here on no file can grow beyond this, as on a disk that is full.
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    mtl.export.saved_model(model, sys.argv[1])
except mtl.export.ExportError as error:
    print(error)
"""


@pytest.mark.large
def test_a_full_disk_during_a_saved_model_is_one_sentence_and_the_old_one_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "served")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        "could not be written" in done.stdout
        and "What was there before is unchanged" in done.stdout
    ), done.stderr[-2000:]
    assert [entry.name for entry in tmp_path.iterdir()] == ["served"]
    assert (tmp_path / "served/assets.extra/mtl_keras.json").exists() and (
        tmp_path / "served/saved_model.pb"
    ).exists()
