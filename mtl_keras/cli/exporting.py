"""Export from the shell: entries of the zoo and saved models, with data from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from mtl_keras import export, zoo
from mtl_keras.export import rows
from mtl_keras.export.models import inputs_by_name
from mtl_keras.runtime.codegen import LANGUAGES

__all__ = ["FORMATS", "ExportRequest", "load_rows", "parse_max_drop", "run"]

FORMATS = ("tflite", "saved_model", "split", "onnx", "openvino")
#: Formats that have no quantization.
_FLOAT_FORMATS = ("saved_model", "onnx", "openvino")
#: Options that a format passes to its exporter; "tflite" takes all of them.
_OPTIONS = (
    "tasks",
    "keep_float",
    "percentile",
    "signatures",
    "io",
    "batch",
    "decode",
    "max_drop",
    "on_drop",
)
#: Budget of a quantization that is chosen: the option's name without `max_`.
_BUDGET = ("max_bytes", "max_ms")
_OPTIONS_BY_FORMAT = {
    "saved_model": ("tasks", "signatures"),
    "split": ("tasks", "signatures"),
    "onnx": ("tasks", "batch"),
    "openvino": ("tasks", "batch"),
}
#: Options of this command alone; only "tflite" has them.
_TFLITE_ONLY = (*_BUDGET, "snippets", "web", "raw", "layer_errors")
_CALIBRATED = ("int8", "int16x8", "auto")


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks the command `export` for.

    Args:
        model: name of a zoo entry, or path of a `.keras` file.
        to: "tflite", "saved_model", "split" (a backbone and a file per head), "onnx" or "openvino".
        out: file or folder. None takes the model's name.
        quantization: as in `mtl.export.tflite`.
        calibration: `.npz` file with inputs by name, or `.npy` file of the one input's rows. Where
            it is None, a zoo entry takes its recipe's training data.
        evaluate: `.npz` file with inputs by name and labels by task. Where it is None, a zoo entry
            takes its recipe's test data.
        raw: "HEIGHTxWIDTH" of the byte pictures that the file takes.
        snippets: languages to write ready calls in.
        web: whether to write a web page.
        layer_errors: whether to print which layer of the quantized file loses the accuracy.
        max_bytes, max_ms: the budget of `mtl.export.tflite`, for quantization="auto".
        tasks, keep_float, percentile, signatures, io, batch, decode, max_drop, on_drop: as in
            `mtl.export.tflite`.

    Raises:
        ValueError: options that do not fit each other.
    """

    model: str
    to: str = "tflite"
    out: Path | None = None
    quantization: str | None = None
    calibration: Path | None = None
    evaluate: Path | None = None
    raw: str | None = None
    snippets: Sequence[str] = ()
    web: bool = False
    layer_errors: bool = False
    tasks: Sequence[str] | None = None
    keep_float: Sequence[str] | None = None
    percentile: float | None = None
    signatures: str | None = None
    io: str | None = None
    batch: int | None = None
    decode: Sequence[str] | None = None
    max_drop: float | Mapping[str, float] | None = None
    on_drop: str | None = None
    max_bytes: int | None = None
    max_ms: float | None = None

    def __post_init__(self) -> None:
        self._check_format()
        self._check_applications()
        if self.layer_errors and self.quantization in (None, "auto"):
            raise ValueError(
                "--layer-errors compares the layers of one quantized file: name one with "
                "--quantization."
            )

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of the exporter: those that the user gave."""
        options = {name: getattr(self, name) for name in self._list_set(_OPTIONS)}
        budget = {
            name.removeprefix("max_"): getattr(self, name) for name in self._list_set(_BUDGET)
        }
        return {**options, "budget": budget} if budget else options

    @property
    def is_judged(self) -> bool:
        """Whether the export compares scores on labeled rows."""
        return self.max_drop is not None or self.quantization == "auto"

    def _list_set(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if getattr(self, name) not in (None, False, (), [])]

    def _check_format(self) -> None:
        if self.to not in FORMATS:
            raise ValueError(
                f"--to is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {self.to!r}."
            )
        allowed = _OPTIONS_BY_FORMAT.get(self.to, (*_OPTIONS, *_TFLITE_ONLY))
        refused = [
            name for name in self._list_set((*_OPTIONS, *_TFLITE_ONLY)) if name not in allowed
        ]
        if refused:
            flags = ", ".join(_flag(name) for name in refused)
            raise ValueError(f"--to {self.to} has no {flags}.")
        if self.to in _FLOAT_FORMATS and self.quantization is not None:
            raise ValueError(
                f"--to {self.to} writes float32: leave out --quantization, or use --to tflite."
            )

    def _check_applications(self) -> None:
        """Check the options of snippets and of the web page."""
        unknown = [name for name in self.snippets if name not in LANGUAGES]
        if unknown:
            raise ValueError(f"--snippets knows {','.join(LANGUAGES)}, got {','.join(unknown)}.")
        if (self.snippets or self.web) and self.batch not in (None, 1):
            raise ValueError("--snippets and --web are for files with one row: leave out --batch.")
        if self.web and self.io == "int8":
            raise ValueError(
                "LiteRT.js refuses int8 inputs and outputs: --web goes without --io int8."
            )


@dataclass(frozen=True)
class _Data:
    """Rows to calibrate on, and labeled rows to judge by; None where there are none."""

    calibration: Any = None
    held_out: Any = None


def run(request: ExportRequest) -> Any:
    """Export a model and print the report.

    Returns:
        The report; of "split" a dict of reports by file.

    Raises:
        ValueError: unfit data.
        OSError: a missing file.
    """
    model, recipe = _load_model(request.model)
    size = _parse_size(request.raw) if request.raw is not None else None
    prepared = _prepare_recipe(request, recipe)
    if size is not None:
        model = export.with_raw_images(model, size)
    data = _Data(_calibration(request, model, prepared), _held_out(request, model, prepared))
    return _EXPORTERS[request.to](request, model, data)


# === Formats ===


def _export_tflite(request: ExportRequest, model: keras.Model, data: _Data) -> Any:
    suffix = "" if request.quantization is None else f"_{request.quantization}"
    path = request.out or Path(f"{model.name}{suffix}.tflite")
    report = export.tflite(
        model,
        path,
        request.quantization,
        data.calibration,
        evaluate=data.held_out,
        **request.options,
    )
    report.show()
    if not report.passed:
        return report
    if request.layer_errors:
        x = data.held_out[0] if isinstance(data.held_out, tuple) else None
        export.layer_errors(model, cast(str, request.quantization), data.calibration, x).show()
    if request.snippets:
        for file in export.snippets(path, request.snippets).values():
            print(file)
    if request.web:
        print(export.web_page(path))
    return report


def _export_split(request: ExportRequest, model: keras.Model, data: _Data) -> Any:
    folder = request.out or Path(model.name)
    reports = export.split(model, folder, request.quantization, data.calibration, **request.options)
    for report in reports.values():
        report.show()
    return reports


def _export_float(request: ExportRequest, model: keras.Model, data: _Data) -> Any:
    """Write a SavedModel, an ONNX or an OpenVINO file."""
    suffix = {"saved_model": "", "onnx": ".onnx", "openvino": ".xml"}[request.to]
    path = request.out or Path(f"{model.name}{suffix}")
    exporter = getattr(export, request.to)
    report = exporter(model, path, data.calibration, **request.options)
    report.show()
    return report


_EXPORTERS: dict[str, Callable[[ExportRequest, keras.Model, _Data], Any]] = {
    "tflite": _export_tflite,
    "split": _export_split,
    **dict.fromkeys(_FLOAT_FORMATS, _export_float),
}


# === Model and data ===


def _load_model(name: str) -> tuple[keras.Model, Any]:
    """A model, and its recipe where it is an entry of the zoo."""
    path = Path(name)
    if path.suffix == ".keras" or path.exists():
        if not path.is_file():
            raise FileNotFoundError(f"{name} is not there.")
        return keras.saving.load_model(path), None
    return zoo.load(name), zoo.recipe(name)


def _prepare_recipe(request: ExportRequest, recipe: Any) -> Any:
    """The recipe's data, where the export needs rows that the user did not give; else None."""
    needs_calibration = request.quantization in _CALIBRATED and request.calibration is None
    needs_labels = request.is_judged and request.evaluate is None
    if recipe is None or not (needs_calibration or needs_labels):
        return None
    if request.raw is not None:
        raise ValueError(
            "The zoo's data are no raw pictures: with --raw, give --calibration and --evaluate of "
            "your own."
        )
    return recipe.prepare()


def _calibration(request: ExportRequest, model: keras.Model, prepared: Any) -> Any:
    if request.calibration is not None:
        return load_rows(request.calibration, model)[0]
    return prepared.train(0) if prepared else None


def _held_out(request: ExportRequest, model: keras.Model, prepared: Any) -> Any:
    if request.evaluate is not None:
        return load_rows(request.evaluate, model)
    return prepared.test if prepared and request.is_judged else None


def load_rows(
    path: Path, model: keras.Model
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Inputs by name and labels by task of a `.npz` file, or the one input's rows of a `.npy`
    file."""
    arrays = rows.load_arrays(path)
    if not isinstance(arrays, dict):
        return inputs_by_name(model, arrays), {}
    names = [tensor.name for tensor in model.inputs]
    inputs = {key: value for key, value in arrays.items() if key in names}
    labels = {key: value for key, value in arrays.items() if key not in names}
    return inputs_by_name(model, inputs), labels


# === Options as texts ===


def _flag(name: str) -> str:
    """How the command line calls an option."""
    return "--task" if name == "tasks" else "--" + name.replace("_", "-")


def _parse_size(text: str) -> tuple[int, int]:
    """ "480x640" as height and width.

    Raises:
        ValueError: another form.
    """
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ValueError(f"--raw is HEIGHTxWIDTH, such as 480x640; got {text}.")
    return int(height), int(width)


def parse_max_drop(texts: Sequence[str]) -> float | dict[str, float] | None:
    """`["0.01"]` or `["digit=0.01", "box=0.02"]` as `max_drop`.

    Raises:
        ValueError: another form.
    """
    if not texts:
        return None
    try:
        if len(texts) == 1 and "=" not in texts[0]:
            return float(texts[0])
        pairs = [text.partition("=") for text in texts]
        return {name: float(value) for name, _, value in pairs}
    except ValueError:
        raise ValueError(
            f"--max-drop is a number, or TASK=NUMBER for each task, got {' '.join(texts)}."
        ) from None
