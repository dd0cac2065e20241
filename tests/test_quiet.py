"""Silence that gives everything back: logger levels, warnings, and the process's standard error."""

import logging
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from mtl_keras import zoo
from mtl_keras.quiet import quiet

ROOT = Path(__file__).parents[1]
#: The file alone, for processes that need neither Keras nor the package.
LOAD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("quiet", {str(ROOT / "mtl_keras" / "quiet.py")!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )


def test_levels_and_warnings_come_back_after_nested_blocks_and_errors():
    levels = {"absl": logging.DEBUG, "tensorflow": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        filters = list(warnings.filters)
        with pytest.raises(ZeroDivisionError), quiet(), quiet():
            assert logging.getLogger("absl").level == logging.ERROR
            assert (
                logging.getLogger("tensorflow").level == logging.CRITICAL
            )  # never louder than it was
            _ = 1 / 0
        assert {name: logging.getLogger(name).level for name in levels} == levels
        assert list(warnings.filters) == filters
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def test_blocks_that_overlap_in_two_threads_give_the_first_ones_level_back():
    before = logging.getLogger("absl").level
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with quiet():
            inside.set()
            leave.wait(10)

    first = threading.Thread(target=hold)
    first.start()
    inside.wait(10)
    with quiet():
        leave.set()
        first.join()
        assert logging.getLogger("absl").level == logging.ERROR
    assert logging.getLogger("absl").level == before


def test_four_threads_with_many_inferences_leave_standard_error_open_and_the_loggers_as_they_were():
    file = zoo.path("flights") / "model.tflite"
    done = run(f"""
import logging, os, threading
import numpy as np
from mtl_keras.runtime import TFLiteModel
levels = {{"absl": 17, "tensorflow": 23}}
for name, level in levels.items(): logging.getLogger(name).setLevel(level)
before, dup2 = os.fstat(2), []
real, os.dup2 = os.dup2, lambda *a, **k: dup2.append(a) or real(*a, **k)
def work():
    model = TFLiteModel({str(file)!r})
    x = {{name: np.zeros((1, *d["shape"][1:]), d["dtype"]) for name, d in model.inputs.items()}}
    for _ in range(300): model.run(x)
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
after = os.fstat(2)
assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino), "standard error is another file"
assert not dup2, "somebody played with descriptors"
assert {{name: logging.getLogger(name).level for name in levels}} == levels
os.write(2, b"still here")
""")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.endswith("still here")


def test_descriptors_are_played_with_in_one_place():
    files = [*(ROOT / "mtl_keras").rglob("*.py"), *(ROOT / "zoo").rglob("*.py")]
    players = [
        file.name for file in files if re.search(r"\bdup2?\(|redirect_stderr", file.read_text())
    ]
    assert players == ["quiet.py"]
    users = [file for file in files if re.search(r"\bmute_native_code\(\)", file.read_text())]
    assert sorted(file.name for file in users) == ["app.py", "quiet.py"]


def test_a_program_that_mutes_native_code_still_says_what_python_says_and_how_it_crashed():
    done = run(
        LOAD + "module.mute_native_code(); import os; os.write(2, b'chatter'); print('plain', "
        "file=sys.stderr); os.abort()"
    )
    assert done.returncode != 0
    assert (
        "plain" in done.stderr
        and "Fatal Python error: Aborted" in done.stderr
        and "chatter" not in done.stderr
    )
    done = run(
        LOAD + "module.mute_native_code(); import os; os.write(2, b'chatter'); raise ValueError('a "
        "mistake')"
    )
    assert "ValueError: a mistake" in done.stderr and "chatter" not in done.stderr


@pytest.mark.parametrize(
    "before",
    [
        "sys.stderr = None",
        "import io; sys.stderr = io.StringIO()",
        "import os; os.close(2)",
        "import os; os.environ['MTL_KERAS_DEBUG'] = '1'",
    ],
)
def test_a_standard_error_of_somebody_elses_is_left_alone(before):
    code = f"{before}\nprevious = sys.stderr\nmodule.mute_native_code()\nassert sys.stderr is previous\nprint('fine')"
    done = run(LOAD + code)
    assert done.stdout == "fine\n", done.stderr
