"""How fast a `.tflite` file runs here: a script of its own, so that it can be run with the runtime alone.

`python measure.py FILE THREADS RUNS` prints one line of JSON; memory counts from before the file is loaded.
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

__all__ = ["cpu_name", "measure", "quick"]


def cpu_name() -> str:
    """This machine's processor, for labels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _loaded(path: str | os.PathLike[str], threads: int) -> tuple[Any, Any, dict[str, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    rng = np.random.default_rng(0)
    x = {}
    for name, detail in runner.get_input_details().items():
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        x[name] = rng.random(shape).astype(dtype) if dtype.kind == "f" else rng.integers(0, 2, shape).astype(dtype)
    return interpreter, runner, x


def _partitions(interpreter: Any) -> int | None:
    """How many parts of the main graph the delegate runs; None where the runtime does not tell."""
    try:
        return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    except AttributeError:
        return None


def _times(runner: Any, x: dict[str, Any], runs: int, warmup: int) -> list[float]:
    found = []
    for i in range(warmup + runs):
        start = time.perf_counter()
        runner(**x)
        if i >= warmup:
            found.append(1e3 * (time.perf_counter() - start))
    return found


def quick(path: str | os.PathLike[str]) -> tuple[int | None, float, str]:
    """Delegate partitions, median milliseconds of a few calls with one thread, and the processor."""
    from mtl_keras.quiet import quiet

    with quiet():
        interpreter, runner, x = _loaded(path, 1)
        return _partitions(interpreter), statistics.median(_times(runner, x, runs=10, warmup=2)), cpu_name()


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
    """Bytes that this process holds; from here on its peak counts anew, where the system can do that (Linux)."""
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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    import ai_edge_litert.interpreter  # noqa: F401  its size is not the file's

    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
