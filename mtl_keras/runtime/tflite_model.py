"""A `.tflite` file: what it says of itself, and its predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.quiet import quiet
from mtl_keras.runtime import decoding, encoders, flatbuffer, metadata
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.measure import main_runner
from mtl_keras.runtime.names import unknown_name

__all__ = ["TFLiteModel", "padded"]


class TFLiteModel:
    """A `.tflite` file: its metadata, raw outputs and decoded predictions.

    Files that `mtl.export.tflite` wrote carry metadata: the tasks' kinds, labels, units and
    thresholds, the encoder, and the package's version. So raw inputs can be encoded and outputs are
    decoded. Files of other tools run too, with raw
    outputs: with their own signature, or by the names of their tensors where they have none.

    Args:
        path: the file.
        threads: int or None. Number of threads of the interpreter.

    Raises:
        ExportError: the file is missing, no TFLite file, or damaged.

    Examples:
        >>> model = mtl.runtime.TFLiteModel("model.tflite")
        >>> model.predict({"image": images})["digit"]
        [{'label': 3, 'probability': 0.98}]
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ExportError(f"{self.path} can't be read: {error.strerror or error}.") from None
        try:
            self.facts = metadata.facts_of(content) or {}
            with quiet():
                self.interpreter = Interpreter(model_path=os.fspath(self.path), num_threads=threads)
                self._signatures = list(self.interpreter.get_signature_list())
                self._main, runner = main_runner(self.interpreter)
                self._runners = {self._main: runner}
        except (ValueError, RuntimeError) as error:
            if isinstance(error, ExportError):
                raise ExportError(f"{self.path}: {error}") from None
            raise ExportError(
                f"{self.path} can't be loaded: {str(error).splitlines()[0][:200]}."
            ) from None
        self.size = len(content)

    @property
    def signatures(self) -> list[str]:
        """What can be run: "serving_default" (in files of others, their first), and what else was
        exported.

        Empty for a file without signatures, which has one way to run.
        """
        first = [] if self._main is None else [self._main]
        return [*first, *sorted(name for name in self._signatures if name != self._main)]

    def _runner(self, signature: str | None) -> Any:
        if signature is None:
            signature = self._main
        if signature is not None and signature not in self._signatures:
            raise ValueError(unknown_name("signature", signature, self.signatures))
        if signature not in self._runners:
            self._runners[signature] = self.interpreter.get_signature_runner(signature)
        return self._runners[signature]

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks' facts, in the file's order; empty where the file says nothing."""
        return list(self.facts.get("tasks", ()))

    @property
    def encoder(self) -> Any:
        """What turns pictures, sentences or table rows into the inputs, or None."""
        description = self.facts.get("encoder")
        return None if description is None else encoders.encoder_from_dict(description)

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """By name: shape, dtype, scale and zero point (0 and 0 where there are none)."""
        return {
            name: _details(detail)
            for name, detail in self._runner(None).get_input_details().items()
        }

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """By name, in the tasks' order: shape, dtype, scale and zero point."""
        return self._outputs(None)

    def _outputs(self, signature: str | None) -> dict[str, dict[str, Any]]:
        details = self._runner(signature).get_output_details()
        order = [task["name"] for task in self.tasks if task["name"] in details]
        # Decoded answers stand in the tasks' order too.
        position = {f"{name}{decoding.SUFFIX}": i for i, name in enumerate(order)}
        rest = sorted(
            (name for name in details if name not in order),
            key=lambda name: position.get(name, len(order)),
        )
        return {name: _details(details[name]) for name in [*order, *rest]}

    def run(self, x: Any, signature: str | None = None) -> dict[str, np.ndarray]:
        """Raw outputs by name, for any number of rows; real numbers go in and come out also of
        whole-integer files.

        Args:
            x: dict of input name to array, `(rows, ...)`. Where there is one input, the array alone
                is enough.
            signature: one of `signatures`, None for the first: "predict_<head>" runs one head,
                "features" what heads share, and "<head>_from_features" one head on that, where the
                file has them. A head takes all of "features", and leaves alone what others need.

        Raises:
            ValueError: an unknown signature; inputs that are missing, unknown, or of another shape.
        """
        runner = self._runner(signature)
        takes, gives = runner.get_input_details(), runner.get_output_details()
        is_head = str(signature).endswith("_from_features") and "features" in self._signatures
        features = set(self._runner("features").get_output_details()) if is_head else set()
        if not isinstance(x, Mapping):
            if len(takes) > 1:
                raise ValueError(
                    f"Inputs should come in a dict by name: {', '.join(takes)}. Received: "
                    f"{type(x).__name__}."
                )
            x = dict.fromkeys(takes, x)
        for name in x:
            if name not in takes and name not in features:
                raise ValueError(unknown_name("input", name, list(takes)))
        ready = {}
        for name, detail in takes.items():
            if name not in x:
                raise ValueError(f"Input '{name}' is missing; the file takes {', '.join(takes)}.")
            value = np.asarray(x[name])
            if (
                tuple(value.shape[1:]) != tuple(detail["shape"][1:])
                or value.dtype.kind not in "iufb"
            ):
                expected = ("rows", *detail["shape"][1:].tolist())
                raise ValueError(
                    f"Input '{name}' has shape {value.shape} and dtype {value.dtype}; the file "
                    f"takes {expected}."
                )
            ready[name] = _to_file(name, value, detail)
        sizes = {name: len(value) for name, value in ready.items()}
        if len(set(sizes.values())) != 1 or not next(iter(sizes.values())):
            raise ValueError(f"All inputs need the same number of rows, at least one; got {sizes}.")
        rows, batch = (
            next(iter(sizes.values())),
            max(int(next(iter(takes.values()))["shape"][0]), 1),
        )
        with quiet():
            batches = [
                runner(**{n: padded(v[i : i + batch], batch) for n, v in ready.items()})
                for i in range(0, rows, batch)
            ]
        whole = {
            name: np.concatenate([part[name] for part in batches])[:rows]
            for name in self._outputs(signature)
        }
        return {name: _from_file(value, gives[name]) for name, value in whole.items()}

    def predict(self, x: Any, signature: str | None = None) -> dict[str, list[Any]]:
        """Decoded answers by task, one entry per row; raw rows for outputs that the file says
        nothing of. Arguments as in `run`."""
        by_name = {task["name"]: task for task in self.tasks}
        return {
            name: decoding.decode(by_name.get(name, {}), value)
            for name, value in self.run(x, signature).items()
        }

    def describe(self) -> dict[str, Any]:
        """Everything the file tells, as plain values: size, operators, inputs, outputs, tasks, and
        what made it."""
        rest = {key: value for key, value in self.facts.items() if key not in ("encoder", "inputs")}
        operators = flatbuffer.ops(self.path.read_bytes())
        inputs = self.inputs
        for entry in self.facts.get("inputs", ()):
            if entry["name"] in inputs and "range" in entry:
                inputs[entry["name"]]["range"] = entry["range"]
        sides = {"inputs": inputs, "outputs": self.outputs}
        head = {"file": self.path.name, "bytes": self.size, "signatures": self.signatures}
        return {**head, "operators": operators, **sides, **rest}


def padded(value: np.ndarray, rows: int) -> np.ndarray:
    """Rows of zeros behind a batch that is too short."""
    missing = rows - len(value)
    return (
        value
        if not missing
        else np.concatenate([value, np.zeros((missing, *value.shape[1:]), value.dtype)])
    )


def _details(detail: Mapping[str, Any]) -> dict[str, Any]:
    scale, zero = detail["quantization"]
    shape = [int(s) for s in detail["shape"]]
    return {
        "shape": shape,
        "dtype": np.dtype(detail["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero),
    }


def _to_file(name: str, value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """Real numbers as the integers that a quantized input takes; everything else in the input's
    dtype.

    Raises:
        ValueError: fractions, or numbers beyond its ends, for an input of whole numbers.
    """
    scale, zero = detail["quantization"]
    if scale and value.dtype.kind == "f" and np.dtype(detail["dtype"]).kind != "f":
        limits = np.iinfo(detail["dtype"])
        value = np.clip(np.round(value / scale) + zero, limits.min, limits.max)
    with np.errstate(invalid="ignore"):
        ready = value.astype(detail["dtype"])
    if ready.dtype.kind in "iu" and (ready != value).any():
        raise ValueError(
            f"Input '{name}' takes whole numbers of {ready.dtype}; these go from {value.min():g} "
            f"to {value.max():g}."
        )
    return ready


def _from_file(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or value.dtype.kind == "f":
        return value
    return ((value.astype("float32") - zero) * scale).astype("float32")
