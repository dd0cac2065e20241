"""How fast a `.tflite` file runs here: a script of its own, so that it can be run with the runtime
alone.

`python measure.py FILE THREADS RUNS` prints one line of JSON; memory counts from before the file is
loaded.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Unsigned", "cpu_name", "main_runner", "measure", "quick"]


def cpu_name() -> str:
    """This machine's processor, for labels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Unsigned:
    """Runs a file's first graph by its tensors' names, as a signature's runner does: for files that
    have no signature."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        self._inputs = _by_name(interpreter.get_input_details())
        self._outputs = _by_name(interpreter.get_output_details())

    def get_input_details(self) -> dict[str, Any]:
        return self._inputs

    def get_output_details(self) -> dict[str, Any]:
        return self._outputs

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], value)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(detail["index"])
            for name, detail in self._outputs.items()
        }


def _by_name(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tensors by their names without what the converter puts around them: `serving_default_x:0` is
    `x`."""
    names = [
        detail["name"].removeprefix("serving_default_").removesuffix(":0") for detail in details
    ]
    if len(set(names)) < len(names):
        names = [f"{name}_{i}" for i, name in enumerate(names)]
    return dict(zip(names, details, strict=True))


def main_runner(interpreter: Any) -> tuple[str | None, Any]:
    """A file's main signature (`serving_default`, else its first, else None: its first graph) and
    the runner of it."""
    signatures = list(interpreter.get_signature_list())
    if not signatures:
        return None, Unsigned(interpreter)
    name = "serving_default" if "serving_default" in signatures else signatures[0]
    return name, interpreter.get_signature_runner(name)


def _loaded(path: str | os.PathLike[str], threads: int) -> tuple[Any, Any, dict[str, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
    interpreter.allocate_tensors()
    _, runner = main_runner(interpreter)
    rng = np.random.default_rng(0)
    x = {}
    for name, detail in runner.get_input_details().items():
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        x[name] = (
            rng.random(shape).astype(dtype)
            if dtype.kind == "f"
            else rng.integers(0, 2, shape).astype(dtype)
        )
    return interpreter, runner, x


def _partitions(interpreter: Any) -> int | None:
    """How many parts of the main graph the delegate runs; None where the runtime does not tell."""
    try:
        return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    except AttributeError:
        return None


def _times(runner: Any, x: dict[str, Any], runs: int, warmup: int) -> list[float]:
    milliseconds = []
    for i in range(warmup + runs):
        start = time.perf_counter()
        runner(**x)
        if i >= warmup:
            milliseconds.append(1e3 * (time.perf_counter() - start))
    return milliseconds


def quick(path: str | os.PathLike[str]) -> tuple[int | None, float, str]:
    """Delegate partitions, milliseconds of a call with one thread, and the processor.

    The latency is counted as `benchmark` counts it, so that both say the same: the smallest median
    of three rounds. A slow network gets one round.
    """
    from mtl_keras.quiet import quiet

    with quiet():
        interpreter, runner, x = _loaded(path, 1)
        best = statistics.median(_times(runner, x, runs=10, warmup=3))
        for _ in range(2 if best < 50 else 0):
            best = min(best, statistics.median(_times(runner, x, runs=20, warmup=0)))
        return _partitions(interpreter), best, cpu_name()


def measure(path: str | os.PathLike[str], threads: int, runs: int) -> dict[str, Any]:
    """Latency, memory and partitions of one file, in this process."""
    before = _memory_before()
    interpreter, runner, x = _loaded(path, threads)
    times = _times(runner, x, runs, max(3, runs // 10))
    return {
        "threads": threads,
        "median_ms": statistics.median(times),
        "p95_ms": float(np.percentile(times, 95)),
        "peak_mb": (_peak_memory() - before) / 1e6,
        "partitions": _partitions(interpreter),
        "bytes": Path(path).stat().st_size,
    }


def _memory_before() -> float:
    """Bytes that this process holds; from here on its peak counts anew, where the system can do
    that (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return 1024.0 * _status("VmRSS")
    except (OSError, StopIteration):
        return _peak_memory()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _peak_memory() -> float:
    """Most bytes that this process has held; NaN where the system does not tell."""
    try:
        return 1024.0 * _status("VmHWM")
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


if __name__ == "__main__":
    import ai_edge_litert.interpreter  # noqa: F401  its size is not the file's

    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
