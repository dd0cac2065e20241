"""What benchmarks share: where and with what they ran, and where results go."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Date, versions and processor."""
    from mtl_keras.runtime.measure import cpu_name

    packages = {
        name: metadata.version(name) for name in ("tensorflow", "keras", "numpy", "mtl-keras")
    }
    cores = subprocess.run(["nproc"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **packages,
        "cpu": cpu_name(),
        "cores": cores,
    }


def write(name: str, results: Any, keep_others: bool = False) -> None:
    """Write `results/<name>.json` beside the machine's facts; `keep_others` keeps the file's other
    entries."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    if keep_others and path.is_file():
        results = {**json.loads(path.read_text())["results"], **results}
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
    print(f"written: {path}")
