"""From a file to a trained network, as a command, and as the script that does the same."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_keras import builders, runs
from mtl_keras.data import DataError
from mtl_keras.runs.own_data import tasks_of
from mtl_keras.runtime.files import ExportError, atomic_write
from mtl_keras.tasks import Task

__all__ = ["TrainRequest", "run", "script", "write_script"]


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks the commands `train` and `init` for.

    Args:
        data: CSV or Parquet file, or folder.
        targets: list of "column" or "column:kind": what is predicted.
        out: folder of the run.
        labels: file of labels, for folders.
        group, time, weight: names of columns, as in `mtl.data.from_csv`.
        text, leave_out: lists of names of columns.
        size: int. Of pictures.
        backbone: name, or None for the data's own.
        options: those of `mtl.runs.train`; only those that the user gave.

    Raises:
        ValueError: options that do not fit each other.
    """

    data: Path
    targets: Sequence[str] = ()
    out: Path = Path("run")
    labels: Path | None = None
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    text: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    size: int | None = None
    backbone: str | None = None
    seed: int = 0
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.group is not None and self.time is not None:
            raise ValueError("--group and --time exclude each other: a split is by one of them.")

    @property
    def reader(self) -> str:
        """The function of `mtl.data` that reads the data."""
        if self.data.is_dir():
            return "from_folder"
        return "from_parquet" if self.data.suffix.lower() == ".parquet" else "from_csv"

    @property
    def data_options(self) -> dict[str, Any]:
        """The reader's options that the user gave."""
        options: dict[str, Any] = {"group": self.group, "time": self.time, "weight": self.weight}
        if self.reader == "from_folder":
            options["size"] = self.size
            refused = [name for name in ("text", "leave_out") if getattr(self, name)]
        else:
            options |= {"text": list(self.text), "leave_out": list(self.leave_out)}
            refused = ["size"] if self.size is not None else []
        if refused:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
            kind = "folders" if self.reader == "from_folder" else "tables"
            raise ValueError(f"{flags} is not for {kind}.")
        return {name: value for name, value in options.items() if value not in (None, [])}

    @property
    def split_options(self) -> dict[str, Any]:
        """How rows are split."""
        by = "group" if self.group is not None else "time" if self.time is not None else None
        return {"seed": self.seed, **({} if by is None else {"by": by})}

    def tasks(self) -> Any:
        """The tasks: `Task` to column; of a folder without a table of labels, names or None."""
        if self.reader != "from_folder":
            return tasks_of(self.data, self.targets)
        table = self._label_table()
        if table is not None and self.targets:
            return tasks_of(table, self.targets)
        return {name: name for name in self.targets} or None

    def _label_table(self) -> Path | None:
        if self.labels is None or self.labels.suffix.lower() not in (".csv", ".tsv", ".parquet"):
            return None
        return self.labels if self.labels.is_file() else self.data / self.labels


def run(request: TrainRequest) -> dict[str, Any]:
    """Train as a user asks for, print what came out, and return it.

    Raises:
        DataError, ValueError: data or options that can't be learned from.
        ExportError: a folder that holds something else.
    """
    data = runs.load_data(
        request.data, request.tasks(), labels=request.labels, **request.data_options
    )
    print(data.describe())
    train, validation, test = data.split(0.8, 0.1, 0.1, **request.split_options)

    def build(tasks: Sequence[Task]) -> Any:
        return builders.hard_sharing(data.inputs, tasks, request.backbone)

    options = {"seed": request.seed, **(request.options or {})}
    results = runs.train(build, train, validation, test, request.out, **options)
    _print_results(request.out, results)
    return results


def _print_results(out: Path, results: Mapping[str, Any]) -> None:
    from mtl_keras.runtime.tables import print_table

    scores = results["scores"]
    rows = [
        [metric, *("–" if v.get(metric) is None else f"{v[metric]:.4g}" for v in scores.values())]
        for metric in scores["model"]
    ]
    names = [name.replace("_", " ") if "." not in name else name for name in scores]
    print_table(("metric", *names), rows, title="test part", left=["metric"])
    if results["delta_m"] is not None:
        print(results["delta_m"].get("text") or results["delta_m"]["error"])
    print(f"Report: {out / 'report.md'}. New rows: mtl-keras predict {out} FILE")


# === The script ===


def write_script(request: TrainRequest, path: Path, overwrite: bool = False) -> None:
    """Write the script that does what `run` does.

    Raises:
        ExportError: the file is there already.
    """
    if path.exists() and not overwrite:
        raise ExportError(f"{path} is there already: name another file, or use --overwrite.")
    text = script(request)
    with atomic_write(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def script(request: TrainRequest) -> str:
    """The script as text."""
    tasks = request.tasks()
    if tasks is None:
        task_lines = ["    tasks = None  # guessed from the data"]
    else:
        task_lines = ["    tasks = {"]
        for task, column in tasks.items():
            key = _literal(task) if isinstance(task, str) else task_code(task)
            task_lines.append(f"        {key}: {_literal(column)},")
        task_lines.append("    }")
    labels = {} if request.labels is None else {"labels": str(request.labels)}
    read = _arguments({**labels, "tasks": _Code("tasks"), **request.data_options})
    split = _arguments(request.split_options)
    backbone = "" if request.backbone is None else f", backbone={_literal(request.backbone)}"
    options = _arguments(
        {"folder": str(request.out), "seed": request.seed, **(request.options or {})}
    )
    return "\n".join(
        [
            f'"""Train a network on {request.data.name}. Edit it, then run it: python train.py"""',
            "",
            "import mtl_keras as mtl",
            "",
            "",
            "def main():",
            *task_lines,
            *_call(f"data = mtl.data.{request.reader}", f"{_literal(str(request.data))}, {read}"),
            "    print(data.describe())",
            f"    train, validation, test = data.split(0.8, 0.1, 0.1, {split})",
            "",
            "    def build(tasks):",
            "        # Another way of sharing: see mtl.builders; another trunk: backbone=...",
            f"        return mtl.builders.hard_sharing(data.inputs, tasks{backbone})",
            "",
            *_call("results = mtl.runs.train", f"build, train, validation, test, {options}"),
            '    print(results["scores"]["model"])',
            "",
            "",
            'if __name__ == "__main__":',
            "    main()",
            "",
        ]
    )


class _Code(str):
    """Text that is code already."""


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_literal(value)}" for name, value in options.items())


def _literal(value: Any) -> str:
    """A value as code, with double quotes."""
    if isinstance(value, _Code):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _call(start: str, arguments: str, indent: int = 4) -> list[str]:
    """The lines of a call: one where it fits into 100 columns, else an argument a line."""
    space = " " * indent
    line = f"{space}{start}({arguments})"
    if len(line) <= 100:
        return [line]
    return [f"{space}{start}(", f"{space}    {arguments},", f"{space})"]


def task_code(task: Task) -> str:
    """A task as a call: its class, and the options that differ from their defaults."""
    config = task.get_config()
    defaults = {
        name: parameter.default
        for cls in reversed(type(task).__mro__[:-1])
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    options = {
        name: value
        for name, value in config.items()
        if name != "name" and (name not in defaults or value != defaults[name])
    }
    text = f"mtl.tasks.{type(task).__name__}({_literal(task.name)}"
    return f"{text}, {_arguments(options)})" if options else f"{text})"


def check_data(path: Path) -> None:
    """Refuse a path that is not there, before anything is imported that takes seconds."""
    if not path.exists():
        raise DataError(f"There is no file or folder {path}.")
