"""Ready calls of one exported file, in the languages of applications."""

from __future__ import annotations

import base64
import inspect
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_keras import decoding
from mtl_keras.export.files import MARK, ExportError, beside, check_file
from mtl_keras.export.runner import TFLiteModel
from mtl_keras.names import unknown_name

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
    # dtype: bytes, Kotlin, Swift, C++, JavaScript
    "float32": (4, "FloatArray", "Float", "float", "Float32Array"),
    "int32": (4, "IntArray", "Int32", "int32_t", "Int32Array"),
    "int8": (1, "FloatArray", "Int8", "int8_t", "Int8Array"),
    "uint8": (1, "FloatArray", "UInt8", "uint8_t", "Uint8Array"),
}


def snippets(
    path: str | os.PathLike[str], languages: Sequence[str] = tuple(LANGUAGES), folder: str | os.PathLike[str] | None = None
) -> dict[str, Path]:
    """Write a ready call of a file for each language: its inputs and heads by name, shapes, scales, labels, and decoding.

    Args:
        path: a `.tflite` file that `mtl.export.tflite` wrote with `batch=1`.
        languages: of "kotlin", "swift", "cpp", "js", "python".
        folder: where they go, named after the file. None takes the file's folder.

    Returns:
        dict of language to the file that was written.

    Raises:
        ExportError: a file that can't be read, of another origin, or for more than one row.
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
    for target in targets.values():
        check_file(target, text=True)
    for language, target in targets.items():
        with beside(target) as fresh:
            fresh.write_text(_rendered(language, facts), "utf-8")
    return targets


def web_page(path: str | os.PathLike[str], page: str | os.PathLike[str] | None = None, runtime: str | None = None) -> Path:
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
    if facts["whole_integers"]:
        raise ExportError(f"{path} takes or gives int8, which LiteRT.js refuses: export it with io='float32'.")
    page = path.with_suffix(".html") if page is None else Path(page)
    check_file(page, text=True)
    ranges = {entry["name"]: [float(v) for v in entry["range"]] for entry in facts["inputs"] if entry["range"]}
    values = {
        **facts,
        "javascript": re.sub(r"^export ", "", _rendered("js", facts), flags=re.M),
        **_runtime(runtime),
        "network": base64.b64encode(path.read_bytes()).decode(),
        "ranges_json": json.dumps(ranges),
    }
    with beside(page) as fresh:
        fresh.write_text(_rendered("web", values), "utf-8")
    return page


def _runtime(folder: str | None) -> dict[str, str]:
    """Where a page finds LiteRT.js, as JSON: its modules by the names that they import, and its programs."""
    base, version = ("https://cdn.jsdelivr.net/npm", "@2.5.3") if folder is None else (folder.rstrip("/"), "")
    where = {name: f"{base}/@litertjs/{name}{version}" for name in ("core", "wasm-utils")}
    modules = {f"@litertjs/{name}": f"{place}/dist/index.js" for name, place in where.items()}
    return {"imports": json.dumps({"imports": modules}, indent=1), "programs": json.dumps(f"{where['core']}/wasm/")}


def _rendered(language: str, facts: dict[str, Any]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template(f"{language}.j2").render(**facts)
    return re.sub(r"\n{3,}", "\n\n" if language != "python" else "\n\n\n", text)


def _facts(model: TFLiteModel) -> dict[str, Any]:
    if not model.tasks:
        raise ExportError(f"{model.path} says nothing of its tasks: snippets are written for files of `mtl.export.tflite`.")
    inputs, outputs = model.inputs, model.outputs
    for name, detail in inputs.items():
        if detail["shape"][:1] != [1]:
            raise ExportError(f"Input '{name}' of {model.path} takes {detail['shape'][0]} rows: export with batch=1.")
    ranges = {entry["name"]: entry.get("range") for entry in model.facts.get("inputs", ())}
    stem = re.sub(r"\W+", "_", model.path.stem)
    taken = [_tensor(name, detail) for name, detail in inputs.items()]
    for entry in taken:
        entry["range"] = [f"{v:g}" for v in ranges[entry["name"]]] if ranges.get(entry["name"]) else None
    order = _order(model)
    for entry in taken:
        entry["index"] = order["inputs"].index(entry["name"])
    given = []
    for task in model.tasks:
        entry = _tensor(task["name"], outputs[task["name"]]) | {"index": order["outputs"].index(task["name"])}
        given.append(_decoded(entry, task))
    tasks = {task["name"]: {**task, "labels": _labels(task), "shape": outputs[task["name"]]["shape"]} for task in model.tasks}
    kinds = {task["kind"] for task in model.tasks}
    return {
        "title": f"{model.path.name}: {', '.join(tasks)}. {MARK} {model.facts.get('mtl_keras', '')}.",
        "name": "".join(part[:1].upper() + part[1:] for part in stem.split("_")) or "Model",
        "file": model.path.name, "stem": stem, "inputs": taken, "outputs": given, "kinds": kinds,
        "whole_integers": any(detail["dtype"] == "int8" for detail in (*inputs.values(), *outputs.values())),
        "inputs_json": json.dumps({i["name"]: {"shape": i["shape"], "size": i["size"], "dtype": i["dtype"]} for i in taken}),
        # A label must not end the page's script.
        "tasks_json": json.dumps(tasks, indent=2, ensure_ascii=False).replace("</", "<\\/"),
        "tasks_python": _python(tasks),
        **_python_decoders(kinds),
    }  # fmt: skip


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
    size, kotlin, swift, cpp, array = _TYPES[dtype]
    identifier = re.sub(r"\W+", "_", name)
    identifier = f"_{identifier}" if identifier[:1].isdigit() else identifier
    entry = {
        "name": name,
        "id": identifier,
        "key": name if name.isidentifier() else json.dumps(name),
        "upper": identifier.upper(),
        "shape": detail["shape"], "size": math.prod(detail["shape"]), "dtype": dtype, "bytes": size,
        "scale": scale, "zero_point": zero, "array": array, "cpp_file": cpp, "swift_file": swift, "kotlin": kotlin,
    }  # fmt: skip
    if dtype not in ("int8", "uint8"):
        real = dtype == "float32"
        return entry | {
            "kotlin_put": "x -> putFloat(x)" if real else "x -> putInt(x)",
            "kotlin_get": "b.getFloat()" if real else "b.getInt().toFloat()",
            "swift": swift, "swift_values": identifier, "swift_get": "$0" if real else "Float($0)",
            "cpp": cpp, "cpp_get": "q" if real else "static_cast<float>(q)",
        }  # fmt: skip
    low, high = (-128, 127) if dtype == "int8" else (0, 255)
    byte = "b.get().toInt()" if dtype == "int8" else "b.get().toInt().and(255)"
    steps = f"kotlin.math.round(x / {scale!r}f) + ({zero})"
    rounded = f"($0 / {scale!r}).rounded() + ({zero})"
    return entry | {
        "low": low, "high": high,
        "kotlin_put": f"x -> put(({steps}).coerceIn({low}f, {high}f).toInt().toByte())",
        "kotlin_get": f"({byte} - ({zero})) * {scale!r}f",
        "swift": "Float", "swift_values": f"{identifier}.map {{ {swift}(max({low}, min({high}, {rounded}))) }}",
        "swift_get": f"(Float($0) - ({zero})) * {scale!r}",
        "cpp": "float", "cpp_get": f"(static_cast<float>(q) - ({zero})) * {scale!r}f",
    }  # fmt: skip


def _decoded(entry: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """The calls that decode a head, language by language."""
    labels = _labels(task)
    quoted = [json.dumps(str(label), ensure_ascii=False) for label in labels]
    low, high = task.get("range") or (None, None)
    shape = entry["shape"]
    numbers = {
        "threshold": task.get("threshold"), "classes": task.get("num_classes", 1), "overlap": task.get("overlap"),
        "height": shape[1] if len(shape) > 2 else 0, "width": shape[2] if len(shape) > 2 else 0,
        "most": task.get("max_objects"), "log": str(bool(task.get("log"))).lower(),
    }  # fmt: skip

    def call(function: str, v: str, named: str, infinite: tuple[str, str], real: str, camel: bool, swift: bool = False) -> str:
        template = _DECODERS.get(task["kind"])
        if template is None:
            return v
        letters = {letter: letter if camel else f"_{letter.lower()}" for letter in "LBT"}
        values = {**numbers, "labels": named, "low": infinite[0] if low is None else f"{low!r}{real}"}
        values["high"] = infinite[1] if high is None else f"{high!r}{real}"
        for key in ("threshold", "overlap"):
            values[key] = f"{values[key]!r}{real}"
        if swift:
            # Swift names the arguments of its functions.
            renamed = {"labels": "alphabet"} if task["kind"] == "transcription" else {}
            values = {key: f"{renamed.get(key, key)}: {value}" for key, value in values.items()}
        return template.format(f=function, v=v, **letters, **values)

    name, infinity = entry["name"], "std::numeric_limits<float>::infinity()"
    swift = (f"Self.{entry['id']}Labels", ("-.infinity", ".infinity"))
    return {
        **entry,
        "labels": quoted,
        # In Kotlin a dollar begins a variable.
        "kotlin_labels": [label.replace("$", "\\$") for label in quoted],
        "kotlin_decode": call("", f'raw.getValue("{name}")', f"{entry['upper']}_LABELS",
                              ("Float.NEGATIVE_INFINITY", "Float.POSITIVE_INFINITY"), "f", True),
        "swift_decode": call("Self.", f'raw["{name}"]!', *swift, "", True, True),
        "cpp_decode": call("", "v", "{" + ", ".join(quoted) + "}", (f"-{infinity}", infinity), "f", False),
    }  # fmt: skip


def _labels(task: dict[str, Any]) -> list[Any]:
    if task["kind"] == "transcription":
        return list(task["alphabet"])
    count = next((task[key] for key in ("num_classes", "num_labels", "num_points", "num_tags") if key in task), 0)
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
    texts = [inspect.getsource(h) for h in helpers if any(re.search(rf"\b{h.__name__}\(", text) for text in texts)] + texts
    source = "\n\n".join(text.rstrip() + "\n" for text in texts)
    # Plain functions: annotations name types that only this library imports.
    source = re.sub(r"^def (\w+)\((.*)\) -> [^\n]+:$", lambda m: f"def {m[1]}({_bare(m[2])}):", source, flags=re.M)
    source = re.sub(r"(\w+): list\[dict\[str, Any\]\] = \[\]", r"\1 = []", source)
    return {"decoders_python": source, "functions_python": [(kind, f.__name__) for kind, f in used.items()]}


def _bare(arguments: str) -> str:
    return ", ".join(part.split(":")[0].strip() for part in re.split(r",(?![^\[]*\])", arguments))
