"""What templates need to know of one exported file: names, shapes, types, scales, labels, and
decoders."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Sequence
from typing import Any

from mtl_keras.runtime.codegen.identifiers import class_name, identifier, literal, plain
from mtl_keras.runtime.codegen.python_decoders import decoders_as_source, to_python
from mtl_keras.runtime.codegen.text_rules import rules_of
from mtl_keras.runtime.files import MARK, ExportError
from mtl_keras.runtime.tflite_model import TFLiteModel
from mtl_keras.version import __version__

__all__ = ["describe_file", "to_json"]

#: By kind of task, the call of its decoder, with the facts it needs; others give their numbers as
#: they are.
_DECODERS = {
    "classification": "{f}classification({v}, {labels})",
    "binary": "{f}binary({v}, {threshold})",
    "multi_label": "{f}multi{L}abel({v}, {labels}, {threshold})",
    "ordinal": "{f}ordinal({v}, {labels})",
    "regression": "{f}regression({v}, {low}, {high}, {log})",
    "bounding_box": "{f}bounding{B}ox({v})",
    "segmentation": "{f}segmentation({v}, {classes})",
    "keypoints": "{f}keypoints({v}, {labels})",
    "token_tagging": "{f}token{T}agging({v}, {labels})",
    "transcription": "{f}transcription({v}, {labels})",
    "detection": "{f}detection({v}, {height}, {width}, {labels}, {threshold}, {overlap}, {most})",
}
_TYPES = {
    # dtype: bytes, Kotlin's array, Swift, C++, JavaScript's array, Kotlin's way into a buffer and
    # out of it
    "float32": (4, "FloatArray", "Float", "float", "Float32Array", "putFloat(x)", "getFloat()"),
    "int64": (8, "LongArray", "Int64", "int64_t", "BigInt64Array", "putLong(x)", "getLong()"),
    "int32": (4, "IntArray", "Int32", "int32_t", "Int32Array", "putInt(x)", "getInt()"),
    "int16": (2, "ShortArray", "Int16", "int16_t", "Int16Array", "putShort(x)", "getShort()"),
    "int8": (1, "ByteArray", "Int8", "int8_t", "Int8Array", "put(x)", "get()"),
    "uint8": (1, "ByteArray", "UInt8", "uint8_t", "Uint8Array", "put(x)", "get()"),
    "bool": (1, "BooleanArray", "Bool", "bool", "Uint8Array", "put(if (x) 1 else 0)", "get()"),
}
#: Types that LiteRT.js takes (2.5.3).
_IN_BROWSERS = ("float32", "int32", "uint8")


def describe_file(model: TFLiteModel) -> dict[str, Any]:
    """What every template needs to know of a file, by the names that templates use.

    Raises:
        ExportError: a file without tasks, for more than one row, or with a type that no snippet
            knows.
    """
    if not model.tasks:
        raise ExportError(
            f"{model.path} says nothing of its tasks: snippets are written for files of "
            f"`mtl.export.tflite`."
        )
    inputs, outputs = model.inputs, model.outputs
    for name, detail in inputs.items():
        if detail["shape"][:1] != [1]:
            raise ExportError(
                f"Input '{name}' of {model.path} takes {detail['shape'][0]} rows: export with "
                f"batch=1."
            )
    ranges = {entry["name"]: entry.get("range") for entry in model.facts.get("inputs", ())}
    stem = re.sub(r"\W+", "_", model.path.stem)
    tensors = [_tensor(name, detail) for name, detail in inputs.items()]
    for entry in tensors:
        entry["range"] = (
            [f"{v:g}" for v in ranges[entry["name"]]] if ranges.get(entry["name"]) else None
        )
    order = _order(model)
    for entry in tensors:
        entry["index"] = order["inputs"].index(entry["name"])
    heads = []
    for task in model.tasks:
        entry = _tensor(task["name"], outputs[task["name"]]) | {
            "index": order["outputs"].index(task["name"])
        }
        heads.append(_decoded(entry, task))
    tasks = {
        task["name"]: {**task, "labels": _labels(task), "shape": outputs[task["name"]]["shape"]}
        for task in model.tasks
    }
    kinds = {task["kind"] for task in model.tasks}
    dtypes = {detail["dtype"] for detail in (*inputs.values(), *outputs.values())}

    def scaled(entry: dict[str, Any]) -> dict[str, Any]:
        return {key: entry[key] for key in ("scale", "zero_point")} if entry["scaled"] else {}

    sizes = {
        i["name"]: {"shape": i["shape"], "size": i["size"], "dtype": i["dtype"], **scaled(i)}
        for i in tensors
    }
    return {
        "title": f"{plain(model.path.name)}: {', '.join(tasks)}. {MARK} "
                 f"{model.facts.get('mtl_keras', '')}.",
        "name": class_name(stem),
        "file": model.path.name, "stem": stem, "inputs": tensors, "outputs": heads, "kinds": kinds,
        "not_in_browsers": sorted(dtypes - set(_IN_BROWSERS)),
        "inputs_json": to_json(sizes),
        "scales_json": to_json({o["name"]: scaled(o) for o in heads if o["scaled"]}),
        "tasks_json": to_json(tasks, indent=2),
        "tasks_python": to_python(tasks),
        **_text(model, stem, tensors),
        **decoders_as_source(kinds),
    }  # fmt: skip


def _text(model: TFLiteModel, stem: str, inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What templates say of the tokenizer (`text`), or why a snippet has none (`untold`)."""
    encoder = getattr(model, "encoder", None)
    if getattr(encoder, "kind", None) == "table":
        return {
            "text": None,
            "untold": "Columns become numbers in Python only: TFLiteModel(file).encoder.encode(table).",
        }
    entry = next(
        (entry for entry in inputs if entry["name"] == getattr(encoder, "name", None)), None
    )
    if entry is None or getattr(encoder, "kind", None) != "text":
        return {"text": None, "untold": None}
    try:
        rules = rules_of(encoder)
    except ExportError as error:
        return {
            "text": None,
            "untold": f"Sentences become numbers in Python only: {' '.join(str(error).split())}",
        }
    casts = {"IntArray": "", "LongArray": ".toLong()", "FloatArray": ".toFloat()"}
    names = {
        "file": f"{stem}_text.txt",
        "unicode": f"{stem}_unicode.txt",
        "kotlin_cast": casts.get(entry["kotlin"], ""),
    }
    return {
        "text": {**entry, **names, "length": rules.length, "content": rules.write(__version__)},
        "untold": None,
    }


def to_json(value: Any, indent: int | None = None) -> str:
    # A label must not end the page's script.
    return json.dumps(value, indent=indent, ensure_ascii=False).replace("</", "<\\/")


def _order(model: TFLiteModel) -> dict[str, list[str]]:
    """Names as they stand in the file's first graph, for clients that go by place."""
    details = model.interpreter
    return {
        "inputs": [entry["name"] for entry in details.get_input_details()],
        "outputs": [entry["name"] for entry in details.get_output_details()],
    }


def _tensor(name: str, detail: dict[str, Any]) -> dict[str, Any]:
    """What templates say of an input or output; whole-integer tensors are real numbers to
    callers."""
    dtype, scale, zero = detail["dtype"], detail["scale"], detail["zero_point"]
    if dtype not in _TYPES:
        raise ExportError(
            f"Tensor '{name}' is of {dtype}, for which there are no snippets; they know "
            f"{', '.join(_TYPES)}."
        )
    size, kotlin, swift, cpp, array, put, get = _TYPES[dtype]
    word = identifier(name)
    # A scale of 0 is none: bytes of a camera, words, counts. They go in as they are.
    scaled = bool(scale) and dtype in ("int8", "uint8", "int16")
    entry = {
        "name": name,
        "id": word,
        "key": name if word == name else json.dumps(name),
        "keyword": f"{name}=..." if word == name and not keyword.iskeyword(name) else f"**{{{name!r}: ...}}",
        "upper": word.upper(),
        "shape": detail["shape"], "size": math.prod(detail["shape"]), "dtype": dtype, "bytes": size, "scaled": scaled,
        "scale": scale, "zero_point": zero, "array": array, "cpp_file": cpp, "swift_file": swift, "kotlin": kotlin,
    }  # fmt: skip
    number = {
        "uint8": f"b.{get}.toInt().and(255)",
        "int8": f"b.{get}.toInt()",
        "int16": f"b.{get}.toInt()",
    }.get(dtype)
    if not scaled:
        as_is = {"float32": f"b.{get}", "bool": f"b.{get}.toFloat()"}.get(
            dtype, f"{number or f'b.{get}'}.toFloat()"
        )
        swift_get = {"float32": "$0", "bool": "($0 ? 1 : 0)"}.get(dtype, "Float($0)")
        return entry | {
            "kotlin_put": f"x -> {put}", "kotlin_get": as_is,
            "swift": swift, "swift_map": "", "swift_get": swift_get,
            "cpp": cpp, "cpp_get": "q" if dtype == "float32" else "static_cast<float>(q)",
        }  # fmt: skip
    low, high = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}[dtype]
    whole = "toShort()" if dtype == "int16" else "toByte()"
    steps = f"kotlin.math.round(x / {scale!r}f) + ({zero})"
    rounded = f"($0 / {scale!r}).rounded() + ({zero})"
    return entry | {
        "low": low, "high": high, "kotlin": "FloatArray", "array": "Float32Array",
        "kotlin_put": f"x -> {put.replace('x', f'({steps}).coerceIn({low}f, {high}f).toInt().{whole}')}",
        "kotlin_get": f"({number} - ({zero})) * {scale!r}f",
        "swift": "Float", "swift_map": f".map {{ {swift}(max({low}, min({high}, {rounded}))) }}",
        "swift_get": f"(Float($0) - ({zero})) * {scale!r}",
        "cpp": "float", "cpp_get": f"(static_cast<float>(q) - ({zero})) * {scale!r}f",
    }  # fmt: skip


def _decoded(entry: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """The calls that decode a head, language by language."""
    labels = [str(label) for label in _labels(task)]
    low, high = task.get("range") or (None, None)
    shape = entry["shape"]
    numbers = {
        "threshold": task.get("threshold"), "classes": task.get("num_classes", 1), "overlap": task.get("overlap"),
        "height": shape[1] if len(shape) > 2 else 0, "width": shape[2] if len(shape) > 2 else 0,
        "most": task.get("max_objects"), "log": str(bool(task.get("log"))).lower(),
    }  # fmt: skip

    def call(
        function: str,
        v: str,
        named: str,
        infinite: tuple[str, str],
        real: str,
        camel: bool,
        swift: bool = False,
    ) -> str:
        template = _DECODERS.get(task["kind"])
        if template is None:
            return v
        letters = {letter: letter if camel else f"_{letter.lower()}" for letter in "LBT"}
        values = {
            **numbers,
            "labels": named,
            "low": infinite[0] if low is None else f"{low!r}{real}",
        }
        values["high"] = infinite[1] if high is None else f"{high!r}{real}"
        for key in ("threshold", "overlap"):
            values[key] = f"{values[key]!r}{real}"
        if swift:
            # Swift names the arguments of its functions.
            renamed = {"labels": "alphabet"} if task["kind"] == "transcription" else {}
            values = {key: f"{renamed.get(key, key)}: {value}" for key, value in values.items()}
        return template.format(f=function, v=v, **letters, **values)

    name, infinity = entry["name"], "std::numeric_limits<float>::infinity()"
    in_cpp = "{" + ", ".join(literal(label, "cpp") for label in labels) + "}"
    swift = (f"Self.{entry['id']}Labels", ("-.infinity", ".infinity"))
    return {
        **entry,
        "labels": labels,
        "kotlin_decode": call("", f'raw.getValue("{name}")', f"{entry['upper']}_LABELS",
                              ("Float.NEGATIVE_INFINITY", "Float.POSITIVE_INFINITY"), "f", True),
        "swift_decode": call("Self.", f'raw["{name}"]!', *swift, "", True, True),
        "cpp_decode": call("", "v", in_cpp, (f"-{infinity}", infinity), "f", False),
    }  # fmt: skip


def _labels(task: dict[str, Any]) -> list[Any]:
    if task["kind"] == "transcription":
        return list(task["alphabet"])
    count = next(
        (
            task[key]
            for key in ("num_classes", "num_labels", "num_points", "num_tags")
            if key in task
        ),
        0,
    )
    if task["kind"] == "segmentation" and not task.get("labels"):
        return []
    return list(task.get("labels") or range(int(count)))
