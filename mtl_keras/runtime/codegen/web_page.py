"""A web page that runs one exported file in the browser."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

from mtl_keras.runtime.codegen.description import describe_file, to_json
from mtl_keras.runtime.codegen.rendering import render
from mtl_keras.runtime.files import ExportError, atomic_write, check_file
from mtl_keras.runtime.tflite_model import TFLiteModel

__all__ = ["web_page"]


def web_page(
    path: str | os.PathLike[str],
    page: str | os.PathLike[str] | None = None,
    runtime: str | None = None,
) -> Path:
    """Write a web page that holds the file, runs it in the browser with LiteRT.js, and shows every
    head.

    Pictures are chosen and resized, other inputs typed in as numbers; masks are drawn, boxes and
    points shown on the picture.

    Args:
        path: a `.tflite` file that `mtl.export.tflite` wrote with `batch=1`, int8 or not, with real
            inputs and outputs.
        page: the `.html` to write. None takes the file's name.
        runtime: URL of a folder in which `npm install @litertjs/core` put its packages, such as
            "/node_modules" of the server that serves the page. None loads them from jsDelivr, in
            the version that this package was tested with.

    Returns:
        The page's path.

    Raises:
        ExportError: a file that can't be read, of another origin, for more than one row, or with
            int8 inputs or outputs, which LiteRT.js refuses.

    Examples:
        >>> mtl.export.web_page("out/model.tflite")
    """
    path = Path(path)
    description = describe_file(TFLiteModel(path))
    if description["not_in_browsers"]:
        dtypes = ", ".join(description["not_in_browsers"])
        raise ExportError(
            f"{path} takes or gives {dtypes}, which LiteRT.js refuses: export it with io='float32'."
        )
    page = path.with_suffix(".html") if page is None else Path(page)
    check_file(page, text=True)
    ranges = {
        entry["name"]: [float(v) for v in entry["range"]]
        for entry in description["inputs"]
        if entry["range"]
    }
    values = {
        **description,
        "javascript": re.sub(r"^export ", "", render("js", description), flags=re.M),
        **_locate_runtime(runtime),
        "network": base64.b64encode(path.read_bytes()).decode(),
        "ranges_json": json.dumps(ranges),
        "text_input_json": to_json(description["text"]["name"] if description["text"] else None),
        "text_json": to_json(description["text"]["content"] if description["text"] else None),
    }
    with atomic_write(page) as fresh:
        fresh.write_text(render("web", values), "utf-8")
    return page


def _locate_runtime(folder: str | None) -> dict[str, str]:
    """Where a page finds LiteRT.js, as JSON: its modules by the names that they import, and its
    programs."""
    base, version = (
        ("https://cdn.jsdelivr.net/npm", "@2.5.3") if folder is None else (folder.rstrip("/"), "")
    )
    packages = {name: f"{base}/@litertjs/{name}{version}" for name in ("core", "wasm-utils")}
    modules = {f"@litertjs/{name}": f"{folder}/dist/index.js" for name, folder in packages.items()}
    return {
        "imports": json.dumps({"imports": modules}, indent=1),
        "programs": json.dumps(f"{packages['core']}/wasm/"),
    }
