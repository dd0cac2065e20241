"""Decoders as source code: each kind alone, with nothing but NumPy, answers as the library does."""

import numpy as np
import pytest

from mtl_keras.runtime import decoding
from mtl_keras.runtime.codegen.python_decoders import decoders_as_source, to_python

_RNG = np.random.default_rng(0)
_NAMES = {"labels": ["a", "b", "c"]}
#: By kind: the task's metadata, and the shape of its outputs.
_KINDS = {
    "classification": ({**_NAMES, "num_classes": 3}, (4, 3)),
    "binary": ({"threshold": 0.4}, (4, 1)),
    "multi_label": ({**_NAMES, "num_labels": 3, "threshold": 0.5}, (4, 3)),
    "ordinal": ({**_NAMES, "num_classes": 3}, (4, 2)),
    "regression": ({"range": [0.1, None], "log": True, "size": 1}, (4, 1)),
    "bounding_box": ({}, (4, 4)),
    "segmentation": ({"num_classes": 3}, (2, 5, 5, 3)),
    "depth": ({}, (2, 5, 5, 1)),
    "keypoints": ({**_NAMES, "num_points": 3}, (4, 3, 2)),
    "detection": (
        {**_NAMES, "num_classes": 3, "threshold": 0.3, "overlap": 0.5, "max_objects": 9},
        (2, 6, 6, 7),
    ),
    "token_tagging": ({"labels": ["O", "B-x", "I-x"], "num_tags": 3}, (3, 8, 3)),
    "transcription": ({"alphabet": "abc"}, (3, 8, 4)),
}


def test_no_kind_is_forgotten():
    assert set(_KINDS) == set(decoding.DECODERS)


@pytest.mark.parametrize("kind", _KINDS)
def test_each_kind_alone_runs_and_answers_as_the_library(kind):
    metadata, shape = _KINDS[kind]
    output = _RNG.random(shape)
    source = decoders_as_source({kind})
    ((name, function),) = source["functions_python"]
    namespace = {"np": np}
    exec(source["decoders_python"], namespace)
    answers = namespace[function](metadata, output)
    expected = decoding.decode({"kind": kind, **metadata}, output)
    assert name == kind and len(answers) == shape[0]
    assert repr(answers) == repr(expected)


def test_helpers_come_once_and_only_where_they_are_called():
    assert (
        "def _overlap" not in decoders_as_source({"classification", "keypoints"})["decoders_python"]
    )
    both = decoders_as_source({"classification", "detection"})["decoders_python"]
    assert both.count("def _names(") == 1 and both.count("def _detect_objects(") == 1


def test_tasks_as_python_read_back():
    tasks = {"digit": {"kind": "classification", "labels": ["0", 'a "quoted" one', "é"]}}
    assert eval(to_python(tasks)) == tasks
