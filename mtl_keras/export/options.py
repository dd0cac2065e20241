"""What a TFLite export may be asked for: every check of an argument that needs no network stands
here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl_keras.export.converter.int4 import BLOCKS
from mtl_keras.export.ladder import check_budget
from mtl_keras.runtime.files import check_file

__all__ = ["CALIBRATED", "QUANTIZATIONS", "TFLiteOptions"]

#: Kinds of files that one call makes; "auto" chooses among them.
QUANTIZATIONS = (None, "float16", "weights", "dynamic", *BLOCKS, "int8", "int16x8")
#: Those whose activations are whole numbers, over ranges that are measured on data.
CALIBRATED = ("int8", "int16x8")


@dataclass(frozen=True, kw_only=True)
class TFLiteOptions:
    """The arguments of `mtl.export.tflite` but the network, checked: an object that exists is one
    that can be tried.

    Args:
        path: file to write.
        quantization, calibration, samples, tasks, keep_float, percentile, signatures, batch, io,
        decode, evaluate, max_drop,
            on_drop, budget: as in `mtl.export.tflite`.

    Raises:
        ValueError: an argument, or two that do not go together; says what would do.
        ExportError: a folder stands at `path`.
    """

    path: str | os.PathLike[str]
    quantization: str | None = None
    calibration: Any = field(default=None, repr=False, compare=False)
    samples: Any = field(default=None, repr=False, compare=False)
    evaluate: Any = field(default=None, repr=False, compare=False)
    tasks: Sequence[str] | None = None
    keep_float: Sequence[str] = ()
    percentile: float | None = None
    signatures: str = "default"
    batch: int = 1
    io: str = "float32"
    decode: Sequence[str] = ()
    max_drop: float | Mapping[str, float] | None = None
    on_drop: str = "raise"
    budget: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.is_auto:
            self._check_auto()
        elif self.quantization not in QUANTIZATIONS:
            known = ", ".join(map(repr, QUANTIZATIONS))
            raise ValueError(f"Unknown quantization {self.quantization!r}. Known: {known}, 'auto'.")
        self._check_path()
        self._check_data()
        self._check_io()
        self._check_int8_only()
        self._check_signatures()
        self._check_judgment()

    @property
    def is_auto(self) -> bool:
        return self.quantization == "auto"

    @property
    def measures_ranges(self) -> bool:
        """Whether a file is made whose ranges are measured on `calibration`."""
        return self.is_auto or self.quantization in CALIBRATED

    @property
    def limits_of_file(self) -> dict[str, float]:
        """The budget, as numbers; empty without one."""
        return check_budget(self.budget)

    def _check_auto(self) -> None:
        needed = ("calibration", "evaluate", "max_drop")
        lacking = [f"`{name}`" for name in needed if getattr(self, name) is None]
        if lacking:
            raise ValueError(
                f"quantization='auto' judges files by held-out data: give {', '.join(lacking)}."
            )
        chosen = {
            "io": self.io != "float32",
            "keep_float": len(self.keep_float) > 0,
            "percentile": self.percentile is not None,
            "on_drop": self.on_drop == "warn",
        }
        names = [f"`{name}`" for name, is_chosen in chosen.items() if is_chosen]
        if names:
            raise ValueError(
                f"quantization='auto' chooses these itself: leave out {', '.join(names)}."
            )

    def _check_path(self) -> None:
        if Path(self.path).suffix != ".tflite":
            raise ValueError(f"The file's name must end in .tflite, got {os.fspath(self.path)!r}.")
        check_file(self.path)

    def _check_data(self) -> None:
        if self.quantization in CALIBRATED and self.calibration is None:
            raise ValueError(
                f"{self.quantization} needs typical inputs to measure ranges on: give "
                f"`calibration`, a data set or arrays."
            )
        if not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"batch is a whole number of rows, at least 1; got {self.batch!r}.")

    def _check_io(self) -> None:
        is_known = self.io in ("float32", "int8", "uint8")
        if not is_known or (self.io != "float32" and self.quantization != "int8"):
            raise ValueError(
                f"io is 'float32', or 'int8' or 'uint8' with quantization='int8'; got {self.io!r} "
                f"with {self.quantization!r}."
            )
        if self.decode and self.io != "float32":
            raise ValueError(
                f"Decoded answers are real numbers or counts: `decode` goes with io='float32', "
                f"got {self.io!r}."
            )

    def _check_int8_only(self) -> None:
        if isinstance(self.keep_float, str):
            raise ValueError(f"`keep_float` is a list of names: keep_float=[{self.keep_float!r}].")
        settings = {
            "keep_float": len(self.keep_float) > 0,
            "percentile": self.percentile is not None,
        }
        for name, is_given in settings.items():
            if is_given and self.quantization != "int8":
                raise ValueError(
                    f"`{name}` goes with quantization='int8'; got {self.quantization!r}."
                )
        if self.keep_float and self.io != "float32":
            raise ValueError(
                f"Heads in float give real numbers: `keep_float` goes with io='float32', got "
                f"{self.io!r}."
            )
        if self.percentile is not None and not 50 < self.percentile < 100:
            raise ValueError(
                f"percentile lies between 50 and 100 (99.9, say), got {self.percentile!r}; None "
                f"takes all values."
            )

    def _check_signatures(self) -> None:
        if self.signatures == "default":
            return
        if self.percentile is not None:
            raise ValueError("`percentile` goes with signatures='default'.")
        if self.quantization == "int16x8":
            raise ValueError(
                "The converter's int16x8 measures no ranges beyond one signature: use "
                "signatures='default'."
            )

    def _check_judgment(self) -> None:
        if self.max_drop is not None and self.evaluate is None:
            raise ValueError("`max_drop` needs held-out data with labels: give `evaluate`.")
        if self.on_drop not in ("raise", "warn", "report"):
            raise ValueError(f"on_drop is 'raise', 'warn' or 'report', got {self.on_drop!r}.")
        if self.budget is not None and not self.is_auto:
            raise ValueError(f"`budget` goes with quantization='auto'; got {self.quantization!r}.")
        check_budget(self.budget)
