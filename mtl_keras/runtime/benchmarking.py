"""How long files take on this machine: latency, memory, delegate partitions, by number of
threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_keras.runtime import measure
from mtl_keras.runtime.files import ExportError

__all__ = ["BenchmarkReport", "benchmark"]


@dataclass
class BenchmarkReport:
    """What `benchmark` measured.

    Attributes:
        cpu: the processor; latencies are this one's, and no phone's.
        rows: a dict a file and number of threads: `file`, `bytes`, `threads`, `median_ms`,
            `p95_ms`, `peak_mb` (memory beyond the runtime's own), `partitions` (parts that the CPU
            delegate runs).
        against: a dict by number of threads, where single-task files were given: `sum_ms` and
            `sum_bytes` of these, and the first file's latency and size as a part of them,
            `latency_ratio` and `size_ratio`.
    """

    cpu: str
    rows: list[dict[str, Any]]
    against: dict[int, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "cpu": self.cpu,
            "rows": self.rows,
            "against": {str(k): v for k, v in self.against.items()},
        }

    def show(self) -> None:
        """Print a table."""
        from rich.console import Console

        from mtl_keras.runtime.tables import print_table

        console = Console()
        columns = ("file", "kB", "threads", "median ms", "p95 ms", "peak MB", "partitions")
        rows = [_format_row(row) for row in self.rows]
        print_table(columns, rows, title=f"on {self.cpu}", left=["file"], console=console)
        for threads, ratios in self.against.items():
            console.print(
                f"{self.rows[0]['file']} against the single-task files together, {threads} "
                f"threads: "
                f"x {ratios['latency_ratio']:.2f} of their time, x {ratios['size_ratio']:.2f} of "
                f"their size",
                highlight=False,
            )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw median latencies, a bar a file and number of threads, as a PNG."""
        from matplotlib.figure import Figure

        files = list(dict.fromkeys(row["file"] for row in self.rows))
        threads = sorted({row["threads"] for row in self.rows})
        figure = Figure(figsize=(7, 1.2 + 0.4 * len(files) * len(threads)), layout="constrained")
        axis = figure.subplots()
        high = 0.8 / len(threads)
        for position, count in enumerate(threads):
            rows = {row["file"]: row for row in self.rows if row["threads"] == count}
            bars = [i + position * high for i in range(len(files))]
            times = [rows[file]["median_ms"] for file in files]
            tails = [
                max(0.0, rows[file]["p95_ms"] - time)
                for file, time in zip(files, times, strict=True)
            ]
            axis.barh(
                bars,
                times,
                high,
                xerr=[[0.0] * len(files), tails],
                label=f"{count} thread" + "s" * (count > 1),
            )
        axis.set_yticks([i + high * (len(threads) - 1) / 2 for i in range(len(files))], files)
        axis.invert_yaxis()
        axis.set(xlabel="median ms a call (line: to p95)", title=f"on {self.cpu}")
        axis.legend()
        figure.savefig(path, dpi=100)


def benchmark(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    threads: Sequence[int] = (1,),
    runs: int = 50,
    singles: Sequence[str | os.PathLike[str]] = (),
    rounds: int = 3,
) -> BenchmarkReport:
    """Measure `.tflite` files on this machine, each in processes of its own that hold the runtime
    and nothing else.

    Files take turns over the rounds, so that a machine that slows down slows all of them; of each
    the round with the smallest median counts.

    Args:
        path: a file, a folder (all `.tflite` files in it), or a list of files.
        threads: numbers of threads to measure with.
        runs: calls a round, after a few that are not counted.
        singles: single-task files; the first file is set against their sum.
        rounds: how often each file is measured.

    Returns:
        `BenchmarkReport`.

    Raises:
        ExportError: a file that is missing or can't be run.
        ValueError: no file, no thread, no run.

    Examples:
        >>> mtl.export.benchmark("out/model.tflite", threads=[1, 2]).show()
    """
    files = _list_files(path)
    _check_counts(threads=threads, runs=[runs], rounds=[rounds])
    others = list(map(Path, singles))
    jobs = [(file, count) for file in dict.fromkeys([*files, *others]) for count in threads]
    best: dict[tuple[Path, int], dict[str, Any]] = {}
    for _ in range(rounds):
        for job in jobs:
            timing = _measure_apart(*job, runs)
            if job not in best or timing["median_ms"] < best[job]["median_ms"]:
                best[job] = timing
    rows = [{"file": file.name, **best[file, count]} for file, count in jobs]
    against = {
        count: _compare(best[files[0], count], [best[file, count] for file in others])
        for count in (threads if others else ())
    }
    return BenchmarkReport(measure.cpu_name(), rows, against)


def _list_files(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    files: list[Path] = []
    for entry in map(Path, paths):
        files += sorted(entry.glob("*.tflite")) if entry.is_dir() else [entry]
    if not files:
        raise ValueError(f"No .tflite file in {', '.join(map(str, paths)) or 'an empty list'}.")
    return files


def _check_counts(**counts: Sequence[int]) -> None:
    for name, values in counts.items():
        values = list(values)
        if not values or any(not isinstance(value, int) or value < 1 for value in values):
            raise ValueError(f"`{name}` needs whole numbers of at least 1, got {values}.")


def _compare(multi: dict[str, Any], singles: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The multi-task file against the sum of single-task files."""
    time = sum(timing["median_ms"] for timing in singles)
    size = sum(timing["bytes"] for timing in singles)
    return {
        "sum_ms": time,
        "sum_bytes": size,
        "latency_ratio": multi["median_ms"] / time,
        "size_ratio": multi["bytes"] / size,
    }


def _format_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["file"],
        f"{row['bytes'] / 1000:.0f}",
        str(row["threads"]),
        f"{row['median_ms']:.3f}",
        f"{row['p95_ms']:.3f}",
        f"{row['peak_mb']:.1f}",
        "" if row["partitions"] is None else str(row["partitions"]),
    )


def _measure_apart(file: Path, threads: int, runs: int) -> dict[str, Any]:
    """Measure a file in a process of its own."""
    if not file.is_file():
        raise ExportError(f"{file} is not there.")
    command = [sys.executable, measure.__file__, os.fspath(file), str(threads), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        messages = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ExportError(f"{file} can't be run: {messages[-1][:300]}")
    return json.loads(done.stdout.splitlines()[-1])
