"""Ready calls of one exported file, in the languages of applications."""

from __future__ import annotations

import base64
import functools
import inspect
import json
import keyword
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_keras.runtime import decoding
from mtl_keras.runtime.codegen.identifiers import (
    class_name,
    identifier,
    identifiers,
    literal,
    plain,
)
from mtl_keras.runtime.codegen.text_rules import rules_of, unicode_tables
from mtl_keras.runtime.files import MARK, ExportError, atomic_write, check_file
from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.tflite_model import TFLiteModel
from mtl_keras.version import __version__

__all__ = ["LANGUAGES", "snippets", "web_page"]

#: By language, the ending of its files.
LANGUAGES = {"kotlin": ".kt", "swift": ".swift", "cpp": ".h", "js": ".js", "python": ".py"}
#: By kind of task, the call of its decoder, with the facts it needs; others give their numbers as they are.
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
    # dtype: bytes, Kotlin's array, Swift, C++, JavaScript's array, Kotlin's way into a buffer and out of it
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


def snippets(
    path: str | os.PathLike[str],
    languages: Sequence[str] = tuple(LANGUAGES),
    folder: str | os.PathLike[str] | None = None,
) -> dict[str, Path]:
    """Write a ready call of a file for each language: its inputs and heads by name, shapes, scales, labels, and decoding.

    Where the model has a tokenizer, the call has it too: `<stem>_text.txt` beside it holds the vocabulary and the rules of
    Unicode, and every language turns a sentence into the numbers that Python's `encode` gives. C++, whose library knows no
    Unicode, reads `<stem>_unicode.txt` as well.

    Args:
        path: a `.tflite` file that `mtl.export.tflite` wrote with `batch=1`.
        languages: of "kotlin", "swift", "cpp", "js", "python".
        folder: where they go, named after the file. None takes the file's folder.

    Returns:
        dict of language to the file that was written.

    Raises:
        ExportError: a file that can't be read, of another origin, or for more than one row; a text of somebody else's where
            one would go.
        ValueError: an unknown language.

    Example:
        >>> mtl.export.snippets("out/model.tflite", ["kotlin", "swift"])
    """
    for language in languages:
        if language not in LANGUAGES:
            raise ValueError(unknown_name("language", language, list(LANGUAGES)))
    path = Path(path)
    facts = _facts(TFLiteModel(path))
    folder = path.parent if folder is None else Path(folder)
    targets = {language: folder / f"{facts['stem']}{LANGUAGES[language]}" for language in languages}
    texts = {target: _rendered(language, facts) for language, target in targets.items()}
    if facts["text"]:
        texts[folder / facts["text"]["file"]] = facts["text"]["content"]
        if "cpp" in targets:
            texts[folder / facts["text"]["unicode"]] = unicode_tables(__version__)
    for target in texts:
        check_file(target, text=True)
    for target, text in texts.items():
        with atomic_write(target) as fresh:
            fresh.write_bytes(text.encode())
    return targets


def web_page(
    path: str | os.PathLike[str],
    page: str | os.PathLike[str] | None = None,
    runtime: str | None = None,
) -> Path:
    """Write a web page that holds the file, runs it in the browser with LiteRT.js, and shows every head.

    Pictures are chosen and resized, other inputs typed in as numbers; masks are drawn, boxes and points shown on the picture.

    Args:
        path: a `.tflite` file that `mtl.export.tflite` wrote with `batch=1`, int8 or not, with real inputs and outputs.
        page: the `.html` to write. None takes the file's name.
        runtime: URL of a folder in which `npm install @litertjs/core` put its packages, such as "/node_modules" of the server
            that serves the page. None loads them from jsDelivr, in the version that this package was tested with.

    Returns:
        The page's path.

    Raises:
        ExportError: a file that can't be read, of another origin, for more than one row, or with int8 inputs or outputs,
            which LiteRT.js refuses.

    Example:
        >>> mtl.export.web_page("out/model.tflite")
    """
    path = Path(path)
    facts = _facts(TFLiteModel(path))
    if facts["not_in_browsers"]:
        told = ", ".join(facts["not_in_browsers"])
        raise ExportError(
            f"{path} takes or gives {told}, which LiteRT.js refuses: export it with io='float32'."
        )
    page = path.with_suffix(".html") if page is None else Path(page)
    check_file(page, text=True)
    ranges = {
        entry["name"]: [float(v) for v in entry["range"]]
        for entry in facts["inputs"]
        if entry["range"]
    }
    values = {
        **facts,
        "javascript": re.sub(r"^export ", "", _rendered("js", facts), flags=re.M),
        **_runtime(runtime),
        "network": base64.b64encode(path.read_bytes()).decode(),
        "ranges_json": json.dumps(ranges),
        "text_input_json": _json(facts["text"]["name"] if facts["text"] else None),
        "text_json": _json(facts["text"]["content"] if facts["text"] else None),
    }
    with atomic_write(page) as fresh:
        fresh.write_text(_rendered("web", values), "utf-8")
    return page


def _runtime(folder: str | None) -> dict[str, str]:
    """Where a page finds LiteRT.js, as JSON: its modules by the names that they import, and its programs."""
    base, version = (
        ("https://cdn.jsdelivr.net/npm", "@2.5.3") if folder is None else (folder.rstrip("/"), "")
    )
    where = {name: f"{base}/@litertjs/{name}{version}" for name in ("core", "wasm-utils")}
    modules = {f"@litertjs/{name}": f"{place}/dist/index.js" for name, place in where.items()}
    return {
        "imports": json.dumps({"imports": modules}, indent=1),
        "programs": json.dumps(f"{where['core']}/wasm/"),
    }


def _rendered(language: str, facts: dict[str, Any]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "plain": plain,
        "literal": functools.partial(literal, language=language),
    }
    text = environment.get_template(f"{language}.j2").render(**_spelled(facts, language))
    return re.sub(r"\n{3,}", "\n\n" if language != "python" else "\n\n\n", text)


def _spelled(facts: dict[str, Any], language: str) -> dict[str, Any]:
    """Facts with the names that inputs (`param`) and heads (`field`) have in a language."""
    sides: dict[str, Any] = {}
    for side, key in (("inputs", "param"), ("outputs", "field")):
        words = identifiers([entry["name"] for entry in facts[side]], language)
        sides[side] = [{**entry, key: words[entry["name"]]} for entry in facts[side]]
    text = facts["text"]
    if text:
        text = {
            **text,
            "param": next(
                entry["param"] for entry in sides["inputs"] if entry["name"] == text["name"]
            ),
        }
    return {**facts, **sides, "text": text}


def _facts(model: TFLiteModel) -> dict[str, Any]:
    if not model.tasks:
        raise ExportError(
            f"{model.path} says nothing of its tasks: snippets are written for files of `mtl.export.tflite`."
        )
    inputs, outputs = model.inputs, model.outputs
    for name, detail in inputs.items():
        if detail["shape"][:1] != [1]:
            raise ExportError(
                f"Input '{name}' of {model.path} takes {detail['shape'][0]} rows: export with batch=1."
            )
    ranges = {entry["name"]: entry.get("range") for entry in model.facts.get("inputs", ())}
    stem = re.sub(r"\W+", "_", model.path.stem)
    taken = [_tensor(name, detail) for name, detail in inputs.items()]
    for entry in taken:
        entry["range"] = (
            [f"{v:g}" for v in ranges[entry["name"]]] if ranges.get(entry["name"]) else None
        )
    order = _order(model)
    for entry in taken:
        entry["index"] = order["inputs"].index(entry["name"])
    given = []
    for task in model.tasks:
        entry = _tensor(task["name"], outputs[task["name"]]) | {
            "index": order["outputs"].index(task["name"])
        }
        given.append(_decoded(entry, task))
    tasks = {
        task["name"]: {**task, "labels": _labels(task), "shape": outputs[task["name"]]["shape"]}
        for task in model.tasks
    }
    kinds = {task["kind"] for task in model.tasks}
    dtypes = {detail["dtype"] for detail in (*inputs.values(), *outputs.values())}

    def scaled(entry):
        return {key: entry[key] for key in ("scale", "zero_point")} if entry["scaled"] else {}

    sizes = {
        i["name"]: {"shape": i["shape"], "size": i["size"], "dtype": i["dtype"], **scaled(i)}
        for i in taken
    }
    return {
        "title": f"{plain(model.path.name)}: {', '.join(tasks)}. {MARK} {model.facts.get('mtl_keras', '')}.",
        "name": class_name(stem),
        "file": model.path.name, "stem": stem, "inputs": taken, "outputs": given, "kinds": kinds,
        "not_in_browsers": sorted(dtypes - set(_IN_BROWSERS)),
        "inputs_json": _json(sizes),
        "scales_json": _json({o["name"]: scaled(o) for o in given if o["scaled"]}),
        "tasks_json": _json(tasks, indent=2),
        "tasks_python": _python(tasks),
        **_text(model, stem, taken),
        **_python_decoders(kinds),
    }  # fmt: skip


def _text(model: TFLiteModel, stem: str, inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What templates say of the tokenizer (`text`), or why a snippet has none (`untold`)."""
    encoder = getattr(model, "encoder", None)
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


def _json(value: Any, indent: int | None = None) -> str:
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
    """What templates say of an input or output; whole-integer tensors are real numbers to callers."""
    dtype, scale, zero = detail["dtype"], detail["scale"], detail["zero_point"]
    if dtype not in _TYPES:
        raise ExportError(
            f"Tensor '{name}' is of {dtype}, for which there are no snippets; they know {', '.join(_TYPES)}."
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


def _python(tasks: dict[str, Any]) -> str:
    lines = ["{"]
    for name, task in tasks.items():
        lines.append(f"    {name!r}: {task!r},")
    return "\n".join([*lines, "}"])


def _python_decoders(kinds: set[str]) -> dict[str, Any]:
    """The decoders of this library that the file needs, as source."""
    used = {kind: decoding.DECODERS[kind] for kind in sorted(kinds) if kind in decoding.DECODERS}
    needed = list(dict.fromkeys(used.values()))
    texts = [inspect.getsource(function) for function in needed]
    helpers = (decoding._names, decoding._overlap, decoding.is_bio, decoding.spans)
    texts = [
        inspect.getsource(h)
        for h in helpers
        if any(re.search(rf"\b{h.__name__}\(", text) for text in texts)
    ] + texts
    source = "\n\n".join(text.rstrip() + "\n" for text in texts)
    # Plain functions: annotations name types that only this library imports.
    source = re.sub(
        r"^def (\w+)\((.*)\) -> [^\n]+:$",
        lambda m: f"def {m[1]}({_bare(m[2])}):",
        source,
        flags=re.M,
    )
    source = re.sub(r"(\w+): list\[dict\[str, Any\]\] = \[\]", r"\1 = []", source)
    return {
        "decoders_python": source,
        "functions_python": [(kind, f.__name__) for kind, f in used.items()],
    }


def _bare(arguments: str) -> str:
    return ", ".join(part.split(":")[0].strip() for part in re.split(r",(?![^\[]*\])", arguments))
