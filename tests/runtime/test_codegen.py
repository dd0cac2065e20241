"""Ready calls of a file in five languages; those whose tools are here are run."""

import base64
import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift
from PIL import Image

import mtl_keras as mtl
from mtl_keras.export import ExportError, snippets
from mtl_keras.runtime import decoding
from mtl_keras.runtime.codegen import LANGUAGES
from mtl_keras.runtime.codegen.description import describe_file
from mtl_keras.runtime.codegen.rendering import render
from mtl_keras.runtime.codegen.text_rules import unicode_tables

TASKS = [
    (
        mtl.tasks.Classification(
            "kind", num_classes=3, labels=["cat", "</script> dög $5", 'a "fox"']
        ),
        (1, 3),
    ),
    (mtl.tasks.Binary("sold", threshold=0.4), (1, 1)),
    (
        mtl.tasks.MultiLabel(
            "tags", num_labels=4, labels=["red", "old", "big", "wet"], threshold=0.6
        ),
        (1, 4),
    ),
    (mtl.tasks.Ordinal("size", num_classes=4), (1, 3)),
    (mtl.tasks.Regression("cost", log=True, low=0, high=2), (1, 1)),
    (mtl.tasks.Regression("place", size=2), (1, 2)),
    (mtl.tasks.BoundingBox("box"), (1, 4)),
    (mtl.tasks.Segmentation("mask"), (1, 4, 4, 1)),
    (mtl.tasks.Segmentation("parts", num_classes=3), (1, 4, 4, 3)),
    (mtl.tasks.Depth("depth"), (1, 4, 4, 1)),
    (mtl.tasks.Keypoints("joints", num_points=3, labels=["hand", "foot", "head"]), (1, 3, 2)),
    (
        mtl.tasks.Detection("things", num_classes=2, labels=["cup", "key"], threshold=0.3),
        (1, 5, 6, 6),
    ),
    (mtl.tasks.TokenTagging("words", num_tags=2, labels=["noun", "verb"]), (1, 5, 2)),
    (mtl.tasks.SequenceTranscription("said", alphabet="abc"), (1, 7, 4)),
    (mtl.tasks.Embedding("look", size=3), (1, 3)),
]


def _outputs(seed):
    rng = np.random.default_rng(seed)
    return {task.name: rng.random(shape).astype("float32") for task, shape in TASKS}


def _write(raw, path):
    """For stand-ins of interpreters that read their outputs: name, size, numbers."""
    path.write_text(
        "\n".join(
            f"{n} {v.size} " + " ".join(repr(float(i)) for i in v.ravel()) for n, v in raw.items()
        )
    )


@pytest.fixture(scope="module")
def facts():
    """Of a file with every kind of task, an image and a list of words."""
    detail = {"scale": 0.0, "zero_point": 0, "dtype": "float32"}
    inputs = {
        "image": {**detail, "shape": [1, 8, 8, 3]},
        "word-ids": {**detail, "shape": [1, 5], "dtype": "int32"},
    }
    order = lambda names: [{"name": name} for name in names]  # noqa: E731
    names = [task.name for task, _ in TASKS]
    file = SimpleNamespace(
        path=Path("all-kinds.tflite"),
        tasks=[task.facts() for task, _ in TASKS],
        inputs=inputs,
        outputs={task.name: {**detail, "shape": list(shape)} for task, shape in TASKS},
        facts={"mtl_keras": "1", "inputs": [{"name": "image", "range": [0.0, 1.0]}]},
        interpreter=SimpleNamespace(
            get_input_details=lambda: order(inputs), get_output_details=lambda: order(names)
        ),
    )
    return describe_file(file)


def _expected(raw):
    """What the library's own decoders say, as JSON; masks row by row, and tags without spans."""
    answers = {task.name: decoding.decode(task.facts(), raw[task.name])[0] for task, _ in TASKS}
    return json.loads(
        json.dumps(answers, default=lambda v: np.asarray(v).astype(float).ravel().tolist())
    )


def _alike(found, expected):
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key in expected:
            _alike(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            _alike(a, b)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_the_python_snippet_runs_the_file_and_nothing_of_this_library(trained, tmp_path, io):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "my model.tflite", "int8", calibration=x, io=io)
    written = snippets(tmp_path / "my model.tflite", ["python"])
    assert written == {"python": tmp_path / "my_model.py"}
    text = written["python"].read_text()
    assert "mtl_keras" not in re.sub(r'^""".*', "", text) and "tensorflow" not in text
    spec = importlib.util.spec_from_file_location("snippet", written["python"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours = mtl.export.TFLiteModel(tmp_path / "my model.tflite")
    theirs = module.MyModel(str(tmp_path / "my model.tflite"))
    for row in range(3):
        a, b = theirs.predict(image=x[row]), ours.predict({"image": x[row : row + 1]})
        assert list(a) == list(b) and all(
            np.array_equal(a[k], b[k][0]) if k == "mask" else a[k] == b[k][0] for k in a
        )


def test_python_decodes_every_kind(facts):
    text = render("python", facts).replace("from ai_edge_litert.interpreter import Interpreter", "")
    module = {}
    exec(compile(text, "snippet.py", "exec"), module)
    raw = _outputs(0)
    for name, told in module["TASKS"].items():
        decoder = module["DECODERS"].get(told["kind"], lambda _, v: list(v))
        mine = next(task for task, _ in TASKS if task.name == name)
        np.testing.assert_equal(
            decoder(told, raw[name])[0], decoding.decode(mine.facts(), raw[name])[0]
        )


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_js_calls_the_runtime_and_decodes_every_kind(facts, tmp_path):
    (tmp_path / "snippet.mjs").write_text(render("js", facts))
    raws = [_outputs(seed) for seed in range(3)]
    (tmp_path / "raws.json").write_text(
        json.dumps([{n: v.ravel().tolist() for n, v in raw.items()} for raw in raws])
    )
    (tmp_path / "main.mjs").write_text("""
import fs from 'node:fs';
import {AllKinds, decode} from './snippet.mjs';
const raws = JSON.parse(fs.readFileSync('raws.json'));
let alive = 0;
class Tensor {
  constructor(data, shape) { this.values = data; this.shape = shape; alive++; }
  async data() { return this.values; }
  delete() { alive--; }
}
const calls = [];
const runtime = {async run(signature, inputs) {
  calls.push([signature, Object.entries(inputs).map(([name, t]) => [name, t.shape, t.values.constructor.name])]);
  return Object.fromEntries(Object.entries(raws[0]).map(([name, v]) => [name, new Tensor(Float32Array.from(v), [v.length])]));
}};
const model = new AllKinds(runtime, Tensor);
const first = await model.predict({image: new Float32Array(192), 'word-ids': new Int32Array(5)});
let refused = '';
try { await model.run({image: new Float32Array(3), 'word-ids': new Int32Array(5)}); } catch (e) { refused = e.message; }
const answers = raws.map((raw) => decode(Object.fromEntries(Object.entries(raw).map(([n, v]) => [n, Float32Array.from(v)]))));
console.log(JSON.stringify({calls, first, refused, alive, answers}));
""")
    done = subprocess.run(
        ["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    shapes = [["image", [1, 8, 8, 3], "Float32Array"], ["word-ids", [1, 5], "Int32Array"]]
    assert told["calls"] == [["serving_default", shapes]] and told["alive"] == 0
    assert "image takes 192 numbers" in told["refused"]
    _alike(told["first"], _expected(raws[0]))
    for found, raw in zip(told["answers"], raws, strict=True):
        _alike(found, _expected(raw))


_HEADERS = {
    "interpreter.h": """
#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <vector>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct TfLiteTensor { struct { char* raw; } data; };
namespace tflite {
struct SignatureRunner {
  std::map<std::string, std::vector<char>> in, out;
  std::map<std::string, TfLiteTensor> tensors;
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke();
  TfLiteTensor* at(std::map<std::string, std::vector<char>>& side, const char* name) {
    side[name].resize(1 << 16); tensors[name].data.raw = side[name].data(); return &tensors[name];
  }
  TfLiteTensor* input_tensor(const char* name) { return at(in, name); }
  const TfLiteTensor* output_tensor(const char* name) { return at(out, name); }
};
struct Interpreter {
  SignatureRunner runner;
  SignatureRunner* GetSignatureRunner(const char*) { return &runner; }
  void SetNumThreads(int) {}
};
}
""",
    "kernels/register.h": "#pragma once\nnamespace tflite::ops::builtin { struct "
    "BuiltinOpResolver {}; }\n",
    "model.h": """
#pragma once
#include <memory>
namespace tflite {
struct FlatBufferModel {
  static std::unique_ptr<FlatBufferModel> BuildFromFile(const char*) { return std::make_unique<FlatBufferModel>(); }
};
struct InterpreterBuilder {
  InterpreterBuilder(const FlatBufferModel&, const ops::builtin::BuiltinOpResolver&) {}
  TfLiteStatus operator()(std::unique_ptr<Interpreter>* made) { *made = std::make_unique<Interpreter>(); return kTfLiteOk; }
};
}
""",
    "signature_runner.h": "#pragma once\n",
}
_MAIN = """
#include "snippet.h"
#include <fstream>
#include <iostream>
TfLiteStatus tflite::SignatureRunner::Invoke() {
  std::ifstream file("raw.txt");
  std::string name; size_t size;
  while (file >> name >> size) {
    float* values = reinterpret_cast<float*>(output_tensor(name.c_str())->data.raw);
    for (size_t i = 0; i < size; ++i) file >> values[i];
  }
  return kTfLiteOk;
}
void put(const std::string& s) {
  std::cout << '"';
  for (char c : s) { if (c == '"') std::cout << '\\\\'; std::cout << c; }
  std::cout << '"';
}
void put(float x) { std::cout.precision(9); std::cout << x; }
void put(int x) { std::cout << x; }
template <class A, class... B> void list(const A& a, const B&... b) {
  std::cout << "["; put(a); ((std::cout << ",", put(b)), ...); std::cout << "]";
}
void put(const AllKinds::Labeled& x) { list(x.label, x.probability); }
void put(const AllKinds::Box& b) { list(b.left, b.top, b.right, b.bottom); }
void put(const AllKinds::Found& x) { list(x.label, x.probability, x.box); }
void put(const AllKinds::Point& p) { list(p.name, p.x, p.y); }
template <class T> void put(const std::vector<T>& v) {
  std::cout << "["; for (size_t i = 0; i < v.size(); ++i) { if (i) std::cout << ","; put(v[i]); } std::cout << "]";
}
int main() {
  AllKinds model("any");
  auto raw = model.run(std::vector<float>(192), std::vector<int32_t>(5));
  std::cout << "{";
SHOWN
  std::cout << "}";
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_cpp_compiles_against_the_runtimes_interface_and_decodes_every_kind(facts, tmp_path):
    """The runtime's headers are stood in for by the few calls that the snippet makes."""
    for name, text in _HEADERS.items():
        (tmp_path / "tensorflow/lite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tensorflow/lite" / name).write_text(text)
    (tmp_path / "snippet.h").write_text(render("cpp", facts))
    shown = '  std::cout << ",";\n'.join(
        f'  put(std::string("{task.name}")); std::cout << ":"; '
        f"put(AllKinds::decode_{task.name}(raw.{task.name}));\n"
        for task, _ in TASKS
    )
    (tmp_path / "main.cc").write_text(_MAIN.replace("SHOWN", shown))
    raw = _outputs(1)
    _write(raw, tmp_path / "raw.txt")
    built = subprocess.run(
        ["g++", "-std=c++17", "-O0", "-Wall", "-I.", "main.cc", "-o", "main"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not built.returncode, built.stderr[:3000]
    done = subprocess.run(
        [str(tmp_path / "main")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    told, expected = json.loads(done.stdout), _expected(raw)

    def flat(name, answer):
        # Structs print as lists, and numbers stand alone in a list of their own.
        if name in ("kind", "size", "sold"):
            return [
                str(answer["label"]).lower() if name == "sold" else str(answer["label"]),
                answer["probability"],
            ]
        if name == "tags":
            return [[a["label"], a["probability"]] for a in answer]
        if name == "cost":
            return [answer]
        if name == "box":
            return [answer[k] for k in ("left", "top", "right", "bottom")]
        if name == "joints":
            return [[k, p["x"], p["y"]] for k, p in answer.items()]
        if name == "things":
            return [
                [a["label"], a["probability"], [a[k] for k in ("left", "top", "right", "bottom")]]
                for a in answer
            ]
        return answer

    for task, _ in TASKS:
        found, wanted = told[task.name], flat(task.name, expected[task.name])
        if isinstance(wanted, list) and task.name not in ("words",):
            found = json.loads(json.dumps(found), parse_int=float)
            wanted = json.loads(json.dumps(wanted), parse_int=float)
        _alike(found, wanted)


_INTERPRETER = """
package org.tensorflow.lite;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Scanner;
public class Interpreter implements AutoCloseable {
  public static class Options { public Options setNumThreads(int threads) { return this; } }
  public Interpreter(ByteBuffer file, Options options) {}
  public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
    ByteBuffer words = (ByteBuffer) inputs.get("word-ids");
    if (!signature.equals("serving_default") || words.remaining() != 20 || words.getInt() != 7) throw new RuntimeException();
    try (Scanner file = new Scanner(new java.io.File("raw.txt"))) {
      while (file.hasNext()) {
        ByteBuffer target = (ByteBuffer) outputs.get(file.next());
        for (int left = file.nextInt(); left > 0; left--) target.putFloat(Float.parseFloat(file.next()));
      }
    } catch (java.io.FileNotFoundException e) { throw new RuntimeException(e); }
  }
  public void close() {}
}
"""
_KOTLIN = """
import java.nio.ByteBuffer

fun quoted(s: String) = "\\"" + s.replace("\\\\", "\\\\\\\\").replace("\\"", "\\\\\\"") + "\\""
fun box(b: AllKinds.Companion.Box) =
    "\\"left\\":${b.left},\\"top\\":${b.top},\\"right\\":${b.right},\\"bottom\\":${b.bottom}"
fun told(v: Any?): String = when (v) {
    is AllKinds.Companion.Labeled -> "{\\"label\\":${quoted(v.label)},\\"probability\\":${v.probability}}"
    is AllKinds.Companion.Found -> "{\\"label\\":${quoted(v.label)},\\"probability\\":${v.probability},${box(v.box)}}"
    is AllKinds.Companion.Box -> "{${box(v)}}"
    is Pair<*, *> -> "{\\"x\\":${v.first},\\"y\\":${v.second}}"
    is FloatArray -> v.joinToString(",", "[", "]")
    is IntArray -> v.joinToString(",", "[", "]")
    is List<*> -> v.joinToString(",", "[", "]") { told(it) }
    is Map<*, *> -> v.entries.joinToString(",", "{", "}") { quoted(it.key as String) + ":" + told(it.value) }
    is String -> quoted(v)
    else -> v.toString()
}

fun main() {
    val model = AllKinds(ByteBuffer.allocate(0))
    println(told(model.predict(FloatArray(192), IntArray(5) { 7 })))
    model.close()
}
"""


@pytest.mark.skipif(
    not (shutil.which("kotlinc") and shutil.which("javac")), reason="needs kotlinc and a JDK"
)
def test_kotlin_compiles_and_decodes_every_kind(facts, tmp_path):
    """On a JVM, with the runtime's interpreter stood in for by the calls that the snippet makes."""
    (tmp_path / "Interpreter.java").write_text(_INTERPRETER)
    text = render("kotlin", facts)
    version = subprocess.run(
        ["kotlinc", "-version"], capture_output=True, text=True, check=False
    ).stderr
    if "kotlinc-jvm 1.3" in version:  # Debian's, of 2019
        text = re.sub(r",(\n *\))", r"\1", text.replace("maxByOrNull", "maxBy"))
    (tmp_path / "AllKinds.kt").write_text(text)
    (tmp_path / "Main.kt").write_text(_KOTLIN)
    raw = _outputs(1)
    _write(raw, tmp_path / "raw.txt")

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[:3000]
        return done.stdout

    run("javac", "-d", ".", "Interpreter.java")
    run(
        "kotlinc", "AllKinds.kt", "Main.kt", "-classpath", ".", "-include-runtime", "-d", "main.jar"
    )
    told = json.loads(run("java", "-classpath", "main.jar:.", "MainKt"))
    expected = _expected(raw)
    for name in ("sold", "size"):
        expected[name]["label"] = str(expected[name]["label"]).lower()
    expected["cost"] = [expected["cost"]]
    whole = lambda value: json.loads(json.dumps(value), parse_int=float)  # noqa: E731
    _alike(whole(told), whole(expected))


@pytest.mark.parametrize("language", ["kotlin", "swift"])
def test_phones_get_every_name_shape_and_label(facts, language):
    """Where there is no compiler: a grammar of the language finds no fault, every decoder that is
    called is there."""
    text = render(language, facts)
    grammar = {"kotlin": tree_sitter_kotlin, "swift": tree_sitter_swift}[language].language()
    root = tree_sitter.Parser(tree_sitter.Language(grammar)).parse(text.encode()).root_node
    assert not root.has_error and root.child_count > 3
    assert "{{" not in text and "{%" not in text and "None" not in text
    for task, shape in TASKS:
        assert f'"{task.name}"' in text and str(int(np.prod(shape))) in text
    dollar = "\\$5" if language == "kotlin" else "$5"
    for label in ("cat", f"</script> dög {dollar}", 'a \\"fox\\"', "noun", "cup"):
        assert f'"{label}"' in text
    calls = set(re.findall(r"\b(?:Self\.)?([a-z]\w+)\((?:raw)", text))
    defined = set(re.findall(r"\bfunc? (\w+)\(", text))
    assert len(calls) >= 11 and calls <= defined


@pytest.mark.large
@pytest.mark.parametrize("language", list(LANGUAGES))
def test_whole_integers_carry_their_scale(trained, tmp_path, language):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x, io="int8")
    text = snippets(tmp_path / "m.tflite", [language], tmp_path / "made")[language].read_text()
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    if language == "js":
        assert 'export the file with io="float32"' in text
    assert (
        repr(file.inputs["image"]["scale"]) in text
        and str(file.inputs["image"]["zero_point"]) in text
    )
    if language != "python":
        assert all(repr(detail["scale"]) in text for detail in file.outputs.values())


def test_errors(trained, tmp_path):
    model = trained[0]
    mtl.export.tflite(model, tmp_path / "m.tflite", batch=2)
    with pytest.raises(ExportError, match="takes 2 rows: export with batch=1"):
        snippets(tmp_path / "m.tflite")
    with pytest.raises(ValueError, match=r"Unknown language 'kotlyn'.*kotlin"):
        snippets(tmp_path / "m.tflite", ["kotlyn"])
    with pytest.raises(ExportError, match="can't be read"):
        snippets(tmp_path / "n.tflite")


# ------------------------------------------------------------------ bytes, and names of all kinds
#: Words of the languages and names of the snippets' own; all are good names of tasks.
_WORDS = """
class new default delete register template this and not xor int float union NULL EOF INFINITY errno linux stdin M_PI
fun val object when in is typealias it lateinit data companion func let self Self guard init inout Type nil repeat async
None True lambda pass def yield await function var const static import export null undefined arguments eval
found raw inputs outputs interpreter values std tflite q x b size labels run predict decode encode Box Labeled Raw Float
"""
_LABELS = ["two\nlines", "bell\x07" + "1", "end\u2028here", "\\(x) ${y}", "\\", "ж"]


@pytest.fixture(scope="module")
def odd_facts():
    """Of a file whose tasks and inputs are named with words of languages, whose bytes are bytes,
    and whose labels are hard."""
    raw = {"scale": 0.0, "zero_point": 0, "dtype": "uint8"}
    scaled = {"scale": 0.02, "zero_point": 3, "dtype": "uint8"}
    words = _WORDS.split()
    inputs = {
        "class": {**raw, "shape": [1, 4]},
        "found": {**scaled, "shape": [1, 3]},
        "in": {**raw, "shape": [1, 2]},
    }
    for name, dtype in (
        ("new", "int64"),
        ("default", "bool"),
        ("std", "int16"),
        ("x", "float32"),
        ("inputs", "int32"),
    ):
        inputs[name] = {**raw, "dtype": dtype, "shape": [1, 2]}
    tasks = [mtl.tasks.Regression(word) for word in words]
    tasks[0] = mtl.tasks.Classification("class", num_classes=6, labels=_LABELS)
    outputs = {task.name: {**raw, "dtype": "float32", "shape": [1, 1]} for task in tasks}
    outputs["class"] = {**scaled, "shape": [1, 6]}
    outputs["new"] = {**raw, "shape": [1, 1]}
    order = lambda names: [{"name": name} for name in names]  # noqa: E731
    file = SimpleNamespace(
        path=Path("interpreter.tflite"),
        tasks=[task.facts() for task in tasks],
        inputs=inputs,
        outputs=outputs,
        facts={"mtl_keras": "1"},
        interpreter=SimpleNamespace(
            get_input_details=lambda: order(inputs), get_output_details=lambda: order(outputs)
        ),
    )
    return describe_file(file)


# Real numbers 0.5 and 9 are 0.5 / 0.02 + 3 = 28 and beyond the end, 255; -1 is beyond the other.
_IN_BYTES, _OUT_BYTES, _OUT_REAL = (
    [28, 255, 0],
    [3, 5, 255, 0, 3, 3],
    [0.0, 0.04, 5.04, -0.06, 0.0, 0.0],
)

_BYTES_MAIN = r"""
#include "snippet.h"
#include <cstdio>
#include <iostream>
TfLiteStatus tflite::SignatureRunner::Invoke() {
  for (auto& [name, size] : std::map<std::string, int>{{"class", 4}, {"found", 3}, {"in", 2}, {"default", 2}}) {
    const auto* bytes = reinterpret_cast<uint8_t*>(input_tensor(name.c_str())->data.raw);
    for (int i = 0; i < size; ++i) std::cout << int(bytes[i]) << " ";
  }
  std::cout << reinterpret_cast<int64_t*>(input_tensor("new")->data.raw)[1] << " ";
  std::cout << reinterpret_cast<int16_t*>(input_tensor("std")->data.raw)[0] << "\n";
  const uint8_t answers[] = {3, 5, 255, 0, 3, 3};
  std::copy(answers, answers + 6, reinterpret_cast<uint8_t*>(output_tensor("class")->data.raw));
  *reinterpret_cast<uint8_t*>(output_tensor("new")->data.raw) = 200;
  return kTfLiteOk;
}
int main() {
  InterpreterModel model("any");
  const auto raw = model.run({0, 128, 200, 255}, {0.5f, 9.f, -1.f}, {7, 250}, {1, int64_t(1) << 40}, {true, false}, {-5, 5},
                             {0, 0}, {0, 0});
  for (float v : raw.class_) std::cout << v << " ";
  std::cout << raw.new_[0] << "\n";
  for (float v : {0.f, 1.f, 2.f, 3.f, 4.f, 5.f}) {
    std::vector<float> one(6);
    one[size_t(v)] = 1;
    const std::string label = InterpreterModel::decode_class(one).label;
    for (unsigned char c : label) std::printf("%02x", c);
    std::printf(" ");
  }
}
"""


_CAMERA_BYTES = (0, 128, 200, 255)


def _check_bytes(text, inputs):
    """Three lines of a program: what the file was given, what it answered, and the labels in hex."""
    first, second, third = text.splitlines()
    assert [int(v) for v in first.split()] == inputs
    np.testing.assert_allclose([float(v) for v in second.split()], [*_OUT_REAL, 200], atol=1e-6)
    assert [bytes.fromhex(v).decode() for v in third.split()] == _LABELS


@pytest.mark.large
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_cpp_takes_bytes_as_they_are_and_any_name(odd_facts, tmp_path):
    for name, text in _HEADERS.items():
        (tmp_path / "tensorflow/lite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tensorflow/lite" / name).write_text(text)
    (tmp_path / "snippet.h").write_text(render("cpp", odd_facts))
    (tmp_path / "main.cc").write_text(_BYTES_MAIN)
    command = ["g++", "-std=gnu++17", "-O0", "-I.", "main.cc", "-o", "main"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not built.returncode, built.stderr[:3000]
    done = subprocess.run(
        [str(tmp_path / "main")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    _check_bytes(done.stdout, [*_CAMERA_BYTES, 1, 0, *_IN_BYTES, 7, 250, 1 << 40, -5])


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_js_takes_bytes_as_they_are_and_any_name(odd_facts, tmp_path):
    (tmp_path / "snippet.mjs").write_text(render("js", odd_facts))
    (tmp_path / "main.mjs").write_text(
        """
import {InterpreterModel, INPUTS} from './snippet.mjs';
class Tensor {
  constructor(data, shape) { this.values = data; }
  async data() { return this.values; }
  delete() {}
}
const sent = {};
const runtime = {async run(signature, tensors) {
  for (const [name, t] of Object.entries(tensors)) sent[name] = [t.values.constructor.name, Array.from(t.values, Number)];
  return {class: new Tensor(Uint8Array.of(OUT)), new: new Tensor(Uint8Array.of(200))};
}};
const model = new InterpreterModel(runtime, Tensor);
const rest = Object.fromEntries(Object.entries(INPUTS).map(([name, {size}]) => [name, new Array(size).fill(1)]));
const raw = await model.run({...rest, class: Uint8Array.of(0, 128, 200, 255), found: [0.5, 9, -1], in: [7, 250]});
const refused = [];
for (const bad of [[0.5, 1], [256, 1], [-1, 1]]) {
  try { await model.run({...rest, in: bad}); } catch (e) { refused.push(e.message); }
}
console.log(JSON.stringify({sent, refused, raw: {class: Array.from(raw.class), new: Array.from(raw.new)}}));
""".replace("OUT", ", ".join(map(str, _OUT_BYTES)))
    )
    done = subprocess.run(
        ["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert told["sent"]["class"] == ["Uint8Array", [0, 128, 200, 255]] and told["sent"]["in"] == [
        "Uint8Array",
        [7, 250],
    ]
    assert (
        told["sent"]["found"] == ["Uint8Array", _IN_BYTES]
        and told["sent"]["new"][0] == "BigInt64Array"
    )
    np.testing.assert_allclose(told["raw"]["class"], _OUT_REAL, atol=1e-6)
    assert (
        told["raw"]["new"] == [200]
        and told["refused"] == ["input in takes whole numbers of uint8"] * 3
    )


_BYTES_INTERPRETER = """
package org.tensorflow.lite;
import java.nio.ByteBuffer;
import java.util.Map;
public class Interpreter implements AutoCloseable {
  public static class Options { public Options setNumThreads(int threads) { return this; } }
  public Interpreter(ByteBuffer file, Options options) {}
  public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
    for (String name : new String[] {"class", "found", "in", "default"}) {
      ByteBuffer bytes = (ByteBuffer) inputs.get(name);
      while (bytes.hasRemaining()) System.out.print((bytes.get() & 255) + " ");
    }
    System.out.print(((ByteBuffer) inputs.get("new")).getLong(8) + " ");
    System.out.println(((ByteBuffer) inputs.get("std")).getShort(0));
    ((ByteBuffer) outputs.get("class")).put(new byte[] {3, 5, (byte) 255, 0, 3, 3});
    ((ByteBuffer) outputs.get("new")).put((byte) 200);
  }
  public void close() {}
}
"""
_BYTES_KOTLIN = """
import java.nio.ByteBuffer
fun main() {
    val model = InterpreterModel(ByteBuffer.allocate(0))
    val image = byteArrayOf(0, 128.toByte(), 200.toByte(), 255.toByte())
    val raw = model.run(image, floatArrayOf(0.5f, 9f, -1f), byteArrayOf(7, 250.toByte()), longArrayOf(1, 1L shl 40),
        booleanArrayOf(true, false), shortArrayOf(-5, 5), FloatArray(2), IntArray(2))
    println(raw.getValue("class").joinToString(" ") + " " + raw.getValue("new")[0])
    println(InterpreterModel.CLASS_LABELS.joinToString(" ") { l -> l.toByteArray().joinToString("") { "%02x".format(it) } })
}
"""


@pytest.mark.skipif(
    not (shutil.which("kotlinc") and shutil.which("javac")), reason="needs kotlinc and a JDK"
)
def test_kotlin_takes_bytes_as_they_are_and_any_name(odd_facts, tmp_path):
    (tmp_path / "Interpreter.java").write_text(_BYTES_INTERPRETER)
    text = render("kotlin", odd_facts)
    version = subprocess.run(
        ["kotlinc", "-version"], capture_output=True, text=True, check=False
    ).stderr
    if "kotlinc-jvm 1.3" in version:  # Debian's, of 2019
        text = re.sub(r",(\n *\))", r"\1", text.replace("maxByOrNull", "maxBy"))
    (tmp_path / "Snippet.kt").write_text(text)
    (tmp_path / "Main.kt").write_text(_BYTES_KOTLIN)

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[:3000]
        return done.stdout

    run("javac", "-d", ".", "Interpreter.java")
    run("kotlinc", "Snippet.kt", "Main.kt", "-classpath", ".", "-include-runtime", "-d", "main.jar")
    text = run("java", "-classpath", "main.jar:.", "MainKt")
    _check_bytes(text, [*_CAMERA_BYTES, *_IN_BYTES, 7, 250, 1, 0, 1 << 40, -5])


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_no_text_divides_by_zero_and_every_grammar_takes_every_name(odd_facts, language):
    text = render(language, odd_facts)
    assert not re.search(r"[/*] *0\.0(?![0-9])", text)
    if language == "python":
        compile(text, "snippet.py", "exec")
    grammar = {"kotlin": tree_sitter_kotlin, "swift": tree_sitter_swift}.get(language)
    if grammar is not None:
        root = (
            tree_sitter.Parser(tree_sitter.Language(grammar.language()))
            .parse(text.encode())
            .root_node
        )
        assert not root.has_error
    takes = {
        "kotlin": "class_: ByteArray, found: FloatArray, in_: ByteArray",
        "swift": "class_: [UInt8], found_: [Float], in_: [UInt8]",
        "cpp": "const std::vector<uint8_t>& class_, const std::vector<float>& found_, const "
        "std::vector<uint8_t>& in",
    }.get(language, "")
    assert takes in text and ("InterpreterModel" in text)
    if language == "swift":
        assert "let inputValues0 = class_\n" in text
        assert "found_.map { UInt8(max(0, min(255, ($0 / 0.02).rounded() + (3)))) }" in text


@pytest.mark.large
def test_a_camera_file_answers_in_the_python_snippet_as_in_the_library(trained, tmp_path):
    raw = mtl.export.with_raw_images(trained[0])
    x = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1)).astype("uint8")
    mtl.export.tflite(raw, tmp_path / "m.tflite", "int8", calibration=x)
    spec = importlib.util.spec_from_file_location(
        "snippet", snippets(tmp_path / "m.tflite", ["python"])["python"]
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs, ours = (
        module.M(str(tmp_path / "m.tflite")),
        mtl.export.TFLiteModel(tmp_path / "m.tflite"),
    )
    for kind in ("uint8", "float32", "int64"):
        found = theirs.run(image=x[0].astype(kind))
        for name, value in ours.run({"image": x[:1].astype(kind)}).items():
            np.testing.assert_array_equal(found[name], value)
    for bad in (
        x[0] / 255,
        x[0].astype("int32") + 256,
    ):  # 0 to 1 would all be 0, 256 would be 0 too
        with pytest.raises(ValueError, match=r"'image' takes whole numbers of uint8"):
            theirs.run(image=bad)
        with pytest.raises(ValueError, match=r"'image' takes whole numbers of uint8"):
            ours.run({"image": bad[None]})


# ------------------------------------------------------------------ sentences
SENTENCES = [
    "The quick brown fox's 12 jumps — over 3.5 lazy "
    "dogs!", "", "   ", "Straße GRÖSSE größe", "ΟΔΟΣ Οδός", "Москва и 2024",
    "東京タワーに行きました。", "我爱北京天安门", "안녕하세요 세계", "สวัสดีชาวโลก", "नमस्ते दुनिया",
    "مرحبا بالعالم ١٢٣", "שלום", "İstanbul ığdır", "ﬁne ﬂow ½ ² Å Ⅷ", "e\u0301te\u0301 cafe\u0301 café",
    "ｆｕｌｌ ｗｉｄｔｈ", "co\u00adoperate zero\u200bwidth",
    "👍🏽 ok", "J\u030cJ\u030c e\u200d\u0301", "q\u0307\u0323 q\u0323\u0307 a\u0301\u0323",
    "\u1112\u1161\u11ab\u1100\u1173\u11af "
    "한글", "Ǆ ẞ ŉ ΐ", "\u0958 \u0374 \u212b \ufdfa", "tab\tnew\nline\u2028end",
    "𝔘𝔫𝔦 𝟙𝟚 𐐀", " ".join(f"word{i}" for i in range(40)),
]  # fmt: skip
TOKENIZERS = {
    "word": mtl.data.WordTokenizer.fit(SENTENCES[:-1], 60, 24, "words"),
    "char": mtl.data.CharTokenizer.fit(SENTENCES[:-1], 30, 90, name="words"),
    "char as it is": mtl.data.CharTokenizer.fit(SENTENCES[:-1], 30, 90, lower=False, name="words"),
    "hash": mtl.data.HashingTokenizer(1000, 24, "words"),
}


def _text_facts(encoder, dtype="int32"):
    detail = {"scale": 0.0, "zero_point": 0, "dtype": "float32"}
    inputs = {"words": {**detail, "shape": [1, encoder.length], "dtype": dtype}}
    task = mtl.tasks.Binary("sold")
    order = lambda names: [{"name": name} for name in names]  # noqa: E731
    file = SimpleNamespace(
        path=Path("reader.tflite"), tasks=[task.facts()], inputs=inputs, outputs={"sold": {**detail, "shape": [1, 1]}},
        facts={"mtl_keras": "1"}, encoder=encoder,
        interpreter=SimpleNamespace(get_input_details=lambda: order(inputs), get_output_details=lambda: order(["sold"])),
    )  # fmt: skip
    return describe_file(file)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """By tokenizer: a folder with its tables, the sentences as JSON, and the numbers that Python
    gives."""
    found = {}
    for kind, encoder in TOKENIZERS.items():
        folder, facts = tmp_path_factory.mktemp("text"), _text_facts(encoder)
        assert facts["text"], facts["untold"]
        (folder / "reader_text.txt").write_bytes(facts["text"]["content"].encode())
        (folder / "sentences.json").write_text(json.dumps(SENTENCES))
        found[kind] = folder, facts, encoder.encode(SENTENCES).tolist()
    return found


@pytest.mark.large
@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_python_snippets_read_as_the_encoder_does(texts, kind):
    folder, facts, expected = texts[kind]
    text = render("python", facts).replace("from ai_edge_litert.interpreter import Interpreter", "")
    assert "mtl_keras" not in re.sub(r'^""".*', "", text)
    module = {}
    exec(compile(text, "snippet.py", "exec"), module)
    tokenizer = module["ReaderTokenizer"](folder / "reader_text.txt")
    rows = [tokenizer.encode(sentence) for sentence in SENTENCES]
    assert np.concatenate(rows).tolist() == expected and rows[0].dtype == np.int32


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_js_snippets_read_as_the_encoders_do(texts):
    for folder, facts, expected in texts.values():
        (folder / "snippet.mjs").write_text(render("js", facts))
        (folder / "main.mjs").write_text("""
import fs from 'node:fs';
import {ReaderTokenizer} from './snippet.mjs';
const tokenizer = new ReaderTokenizer(fs.readFileSync('reader_text.txt', 'utf8'));
const rows = JSON.parse(fs.readFileSync('sentences.json')).map((s) => tokenizer.encode(s));
console.log(JSON.stringify([rows[0].constructor.name, rows.map((row) => Array.from(row))]));
""")
        done = subprocess.run(
            ["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr
        assert json.loads(done.stdout) == ["Int32Array", expected]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_cpp_snippets_read_as_the_encoders_do(texts, tmp_path):
    """The library of C++ knows no Unicode: normal forms too come from tables."""
    for name, text in _HEADERS.items():
        (tmp_path / "tensorflow/lite" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tensorflow/lite" / name).write_text(text)
    (tmp_path / "unicode.txt").write_bytes(unicode_tables("1").encode())
    (tmp_path / "snippet.h").write_text(render("cpp", texts["word"][1]))
    (tmp_path / "main.cc").write_text(r"""
#include "snippet.h"
#include <iostream>
TfLiteStatus tflite::SignatureRunner::Invoke() { return kTfLiteOk; }
int main(int, char** paths) {
  ReaderTokenizer tokenizer(paths[1], paths[2]);
  std::string sentence, line;
  const auto tell = [&] {
    for (int32_t v : tokenizer.encode(sentence)) std::cout << v << " ";
    std::cout << "\n";
    sentence.clear();
  };
  // Sentences hold ends of lines: they are parted by a byte that no UTF-8 has.
  for (char c; std::cin.get(c);) c == '\xff' ? tell() : sentence.push_back(c);
}
""")
    command = ["g++", "-std=c++17", "-O0", "-Wall", "-I.", "main.cc", "-o", "main"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not built.returncode and "warning" not in built.stderr, built.stderr[:3000]
    fed = b"".join(sentence.encode() + b"\xff" for sentence in SENTENCES)
    for folder, _, expected in texts.values():
        run = [
            str(tmp_path / "main"),
            str(folder / "reader_text.txt"),
            str(tmp_path / "unicode.txt"),
        ]
        done = subprocess.run(run, input=fed, capture_output=True, check=True)
        assert [[int(v) for v in row.split()] for row in done.stdout.splitlines()] == expected


@pytest.mark.skipif(
    not (shutil.which("kotlinc") and shutil.which("javac")), reason="needs kotlinc and a JDK"
)
def test_kotlin_snippets_read_as_the_encoders_do(texts, tmp_path):
    (tmp_path / "Interpreter.java").write_text(_INTERPRETER)
    (tmp_path / "Reader.kt").write_text(render("kotlin", texts["word"][1]))
    (tmp_path / "Main.kt").write_text("""
import java.io.File
fun main(paths: Array<String>) {
    for (path in paths) {
        val tokenizer = ReaderTokenizer(File(path, "reader_text.txt").readText())
        val sentences = String(File("sentences.txt").readBytes()).split("\\u0000")
        for (sentence in sentences) println(tokenizer.encode(sentence).joinToString(" "))
    }
}
""")
    (tmp_path / "sentences.txt").write_bytes("\0".join(SENTENCES).encode())

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[:3000]
        return done.stdout

    run("javac", "-d", ".", "Interpreter.java")
    run("kotlinc", "Reader.kt", "Main.kt", "-classpath", ".", "-include-runtime", "-d", "main.jar")
    rows = run(
        "java",
        "-classpath",
        "main.jar:.",
        "MainKt",
        *(str(folder) for folder, _, _ in texts.values()),
    ).splitlines()
    expected = [row for _, _, rows in texts.values() for row in rows]
    assert [[int(v) for v in row.split()] for row in rows] == expected


@pytest.mark.parametrize("language", ["kotlin", "swift"])
def test_phones_get_a_tokenizer(texts, language):
    text = render(language, texts["word"][1])
    grammar = {"kotlin": tree_sitter_kotlin, "swift": tree_sitter_swift}[language].language()
    root = tree_sitter.Parser(tree_sitter.Language(grammar)).parse(text.encode()).root_node
    assert not root.has_error and "class ReaderTokenizer" in text
    returns = {
        "kotlin": "fun encode(sentence: String): IntArray",
        "swift": "func encode(_ sentence: String) -> [Int32]",
    }
    assert returns[language] in text and "reader_text" in text


@pytest.mark.large
def test_tables_stand_beside_the_snippets_and_in_the_page(tmp_path):
    encoder = TOKENIZERS["word"]
    tokens = keras.Input((encoder.length,), dtype="int32", name="words")
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(len(encoder), 4)(tokens))
    head = mtl.tasks.TaskOutput(mtl.tasks.Binary("sold"))(keras.layers.Dense(1)(h))
    model = mtl.MultiTaskModel(tokens, {"sold": head}, encoder=encoder)
    mtl.export.tflite(model, tmp_path / "reader.tflite")
    snippets(tmp_path / "reader.tflite", ["python", "cpp"])
    names = {"reader.tflite", "reader.py", "reader.h", "reader_text.txt", "reader_unicode.txt"}
    assert {f.name for f in tmp_path.iterdir()} == names
    spec = importlib.util.spec_from_file_location("snippet", tmp_path / "reader.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = module.ReaderTokenizer(tmp_path / "reader_text.txt").encode(SENTENCES[0])
    found = module.Reader(str(tmp_path / "reader.tflite")).run(words=row)["sold"]
    np.testing.assert_allclose(
        found, model.predict(encoder.encode(SENTENCES[:1]), verbose=0)["sold"], rtol=1e-5
    )
    page = mtl.export.web_page(tmp_path / "reader.tflite").read_text()
    assert 'const TEXT_INPUT = "words";' in page and "new ReaderTokenizer(" in page
    if shutil.which("node"):
        (tmp_path / "page.mjs").write_text(
            page.split('<script type="module">')[1].split("</script>")[0]
        )
        done = subprocess.run(
            ["node", "--check", "page.mjs"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr


def test_a_tokenizer_that_tables_can_not_say_is_left_out_and_the_snippet_says_so():
    class Pairs(mtl.data.WordTokenizer):
        """Of one's own."""

    facts = _text_facts(Pairs(["fox"], 4, "words"))
    assert facts["text"] is None
    for language in LANGUAGES:
        assert (
            "Sentences become numbers in Python only: Pairs has no form outside Python."
            in render(language, facts)
        )


# ------------------------------------------------------------------ in the browser
@pytest.mark.large
def test_the_page_holds_the_file_and_its_calls(trained, tmp_path):
    model, x, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite", "int8", calibration=x)
    page = mtl.export.web_page(tmp_path / "m.tflite", runtime="/litert")
    text = page.read_text()
    assert page == tmp_path / "m.html" and text.count("</script>") == 2
    held = base64.b64decode(re.search("const NETWORK = '(.*)';", text)[1])
    assert held == (tmp_path / "m.tflite").read_bytes()
    assert (
        'const PROGRAMS = "/litert/@litertjs/core/wasm/";' in text
        and "export " not in text.split("<script")[2]
    )
    modules = json.loads(re.search('<script type="importmap">(.*?)</script>', text, re.S)[1])[
        "imports"
    ]
    assert modules["@litertjs/wasm-utils"] == "/litert/@litertjs/wasm-utils/dist/index.js"
    elsewhere = mtl.export.web_page(tmp_path / "m.tflite", tmp_path / "cdn.html").read_text()
    assert re.search(
        r"https://cdn\.jsdelivr\.net/npm/@litertjs/core@[\d.]+/dist/index\.js", elsewhere
    )
    assert json.loads(re.search("const RANGES = (.*);", text)[1])["image"][1] == pytest.approx(
        float(x.max()), rel=1e-4
    )
    mtl.export.tflite(model, tmp_path / "n.tflite", "int8", calibration=x, io="int8")
    with pytest.raises(ExportError, match="io='float32'"):
        mtl.export.web_page(tmp_path / "n.tflite")


@pytest.mark.large
@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_pages_script_has_no_fault_of_grammar(trained, tmp_path):
    model, _, _ = trained
    mtl.export.tflite(model, tmp_path / "m.tflite")
    script = (
        mtl.export.web_page(tmp_path / "m.tflite")
        .read_text()
        .split('<script type="module">')[1]
        .split("</script>")[0]
    )
    (tmp_path / "page.mjs").write_text(script)
    done = subprocess.run(
        ["node", "--check", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr


@pytest.mark.browser
@pytest.mark.parametrize("quantization", [None, "float16", "weights", "dynamic", "int8"])
def test_the_page_answers_as_the_file_does(trained, tmp_path, quantization):
    """In headless Chromium, where it, Playwright and LiteRT.js are:
    `LITERT_JS=some/node_modules pytest -m browser`."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    runtime = os.environ.get("LITERT_JS") or pytest.skip(
        "LITERT_JS names no folder with @litertjs/core"
    )
    model, x, _ = trained
    mtl.export.tflite(
        model,
        tmp_path / "m.tflite",
        quantization,
        calibration=x if quantization == "int8" else None,
    )
    mtl.export.web_page(tmp_path / "m.tflite", runtime="/litert")
    (tmp_path / "litert").symlink_to(Path(runtime).resolve())
    picture = np.random.default_rng(0).integers(0, 256, (16, 16), "uint8")
    Image.fromarray(picture).save(tmp_path / "picture.png")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        playwright.sync_playwright() as driver,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/m.html")
        page.set_input_files("#file-image", tmp_path / "picture.png")
        page.wait_for_selector("#head-kind, #problem:not(:empty)")
        assert page.inner_text("#problem") == ""
        raw = json.loads(page.evaluate("document.body.dataset.raw"))
        shown = json.loads(page.inner_text("#head-kind pre"))
        drawn = page.evaluate(
            "[...document.querySelectorAll('#head-mask canvas')].map((c) => [c.width, c.height])"
        )
        server.shutdown()
    low, high = (float(x.min()), float(x.max())) if quantization == "int8" else (0.0, 1.0)
    values = (low + picture / 255 * (high - low)).astype("float32")[None, :, :, None]
    file = mtl.export.TFLiteModel(tmp_path / "m.tflite")
    step = {None: 1e-5, "float16": 1e-5, "weights": 1e-5}.get(quantization, 0.02)
    for name, value in file.run({"image": values}).items():
        np.testing.assert_allclose(raw[name], value.ravel(), atol=step)
    assert shown["label"] == int(np.argmax(raw["kind"])) and drawn == [[16, 16]]
