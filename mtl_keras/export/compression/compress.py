"""Smaller networks: pruned, clustered, trained for int8, in any combination that the tools have."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.data import labels
from mtl_keras.export import judge
from mtl_keras.export.backend import needs_tensorflow
from mtl_keras.export.compression.training_aware import (
    is_quantization_aware,
    own_layers,
    quantization_aware,
)
from mtl_keras.export.models import inputs_by_name, pack_inputs
from mtl_keras.graph import nodes
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import TaskOutput

__all__ = ["CompressionReport", "compress", "distinct", "zeros"]

#: In the order in which they follow each other.
STAGES = ("prune", "cluster", "qat")
#: Batches that set the ranges of activations before quantization-aware training.
_WARMING = 8


@dataclass
class CompressionReport:
    """What `compress` did.

    Attributes:
        method: its stages, joined by "+".
        engine: "keras" or "tfmot".
        zeros: share of the kernels' weights that are zero.
        distinct: by kernel, how many different values it has.
        heads: by task, its first metric's `(name, before, after)` on held-out data; empty without.
    """

    method: str
    engine: str
    zeros: float
    distinct: dict[str, int]
    heads: dict[str, tuple[str, float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.method} ({self.engine}): {self.zeros:.1%} of the weights are zero"]
        lines += [
            f"  {task} {metric}: {before:.4f} -> {after:.4f}"
            for task, (metric, before, after) in self.heads.items()
        ]
        return "\n".join(lines)


@needs_tensorflow
def compress(
    model: keras.Model,
    train: Any,
    val: Any = None,
    *,
    method: str = "qat",
    engine: str | None = None,
    epochs: int = 2,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    sparsity: float = 0.5,
    schedule: str = "polynomial",
    pattern: tuple[int, int] | None = None,
    clusters: int = 16,
    keep: Sequence[str] = (),
    max_drop: float | Mapping[str, float] | None = None,
    verbose: int = 0,
) -> keras.Model:
    """Train a copy of a network so that its file gets smaller: zeros, few distinct weights, or
    weights that int8 suits.

    Zeros and repeated values make a file smaller where it is compressed (as applications and
    downloads are); the report of `mtl.export.tflite` tells its size after gzip, and in the
    flatbuffer's own encoding of sparse tensors.

    Args:
        model: `MultiTaskModel`, compiled and trained.
        train: what `fit` takes: `(x, y)` or `(x, y, sample_weight)` arrays, or a finite
            `tf.data.Dataset` of batches.
        val: held-out data with labels, for each task's metric before and after, or None.
        method: "qat" (quantization-aware training), "prune", "cluster", or several joined by "+",
            in this order of work: prune, cluster, qat. Each keeps what the ones before it did.
        engine: "keras" (for "qat" alone: every builder, the model's own balancer) or "tfmot"
            (TensorFlow Model Optimization, which knows plain layers only and trains on the sum of
            the losses with their weights). None takes the first that does it.
        epochs: int, a stage. With `val` and engine "keras", the epoch is kept whose worst head is
            best beside the given model's (of equals, the one whose heads are better together). The
            network before training counts as one, so that training never makes the worst head worse
            there.
        learning_rate: of Adam. With engine "keras" it falls to 0 over the steps, as a cosine does.
        batch_size: rows, where `train` is arrays.
        sparsity: share of each kernel's weights to become zero, in (0, 1).
        schedule: "polynomial" (more and more, over the first half of the steps) or "constant" (at
            once).
        pattern: `(m, n)`: m zeros in every n neighboring weights, such as (2, 4), in place of
            `sparsity`.
        clusters: int. Number of distinct values of a kernel. In a file they hold for each output
            channel: the converter folds normalization into kernels, and int8 has a scale a channel.
        keep: names of tasks, whose own layers are left alone, or of layers.
        max_drop: with `val`, by how much a head's own metric may get worse (a number, or a dict by
            task).
        verbose: 0 or 1.

    Returns:
        A model like the given one, with `compression`, a `CompressionReport`, as an attribute. For
        "qat" alone with engine "keras" it is quantization-aware (`mtl.export.float_twin` gives the
        float network). It is compiled like the given one.

    Raises:
        ExportError: TFMOT is not installed, can't carry a layer (each is named, with the reason),
            or fails; a head that gets worse than `max_drop` allows.
        ValueError: an unknown method, engine, task or layer; settings out of range; a model that is
            not compiled; labels that don't fit.

    Examples:
        >>> small = mtl.export.compress(model, train, val, method="prune+qat", sparsity=0.6)
        >>> mtl.export.tflite(small, "small.tflite", "int8", calibration=train).show()

    Reference:
        Zhu and Gupta, "To prune, or not to prune", ICLR Workshop 2018 (magnitude pruning,
        polynomial schedule); Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021 (2:4);
        Han, Mao and Dally, "Deep Compression", ICLR 2016 (clustering); Jacob et al., CVPR 2018
        (quantization-aware training).
    """
    stages = _stages(method)
    engine = _engine(engine, stages)
    _check(
        model, train, val, epochs, learning_rate, sparsity, schedule, pattern, clusters, max_drop
    )
    held_out = None if val is None else judge.held_out(model, val)
    before: Any = None if held_out is None else judge.scores(model, held_out)
    limits = judge.limits(model, max_drop)
    if engine == "keras":
        small = quantization_aware(model, keep_float=own_layers(model, keep, "keep"))
        _compile_as(small, model, learning_rate)
        best = None if held_out is None else _Best(small, before, held_out)
        _fine_tune(small, train, best, epochs, learning_rate, batch_size, verbose)
    else:
        options = {
            "stages": stages, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
            "sparsity": sparsity, "schedule": schedule, "pattern": pattern, "clusters": clusters, "verbose": verbose,
            "keep": sorted(own_layers(model, keep, "keep")), "seed": int(keras.random.randint((), 0, 2**31 - 1)),
        }  # fmt: skip
        _refuse(model)
        small = _in_its_own_process(model, train, options)
    report = CompressionReport("+".join(stages), engine, zeros(small), distinct(small))
    if held_out is not None:
        _judge(small, before, held_out, limits, report)
    small.compression = report
    if verbose:
        print(report)
    return small


def zeros(model: keras.Model) -> float:
    """Share of the weights of all kernels that are zero."""
    kernels = [value for _, value in _kernels(model)]
    return float(sum((k == 0).sum() for k in kernels) / max(1, sum(k.size for k in kernels)))


def distinct(model: keras.Model) -> dict[str, int]:
    """How many different values each kernel has, by its path."""
    return {path: int(np.unique(value).size) for path, value in _kernels(model)}


def _kernels(model: keras.Model) -> list[tuple[str, np.ndarray]]:
    kernels = (v for v in model.trainable_variables if len(v.shape) >= 2)
    return [(v.path, keras.ops.convert_to_numpy(v)) for v in kernels]


# ------------------------------------------------------------------ settings
def _stages(method: str) -> list[str]:
    parts = [part.strip() for part in method.split("+")] if isinstance(method, str) else []
    for part in parts:
        if part not in STAGES:
            raise ValueError(unknown_name("method", part, list(STAGES)) + ' Join several by "+".')
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(
            f'A method is "prune", "cluster", "qat", or some of them joined by "+"; got {method!r}.'
        )
    return [stage for stage in STAGES if stage in parts]


def _engine(engine: str | None, stages: Sequence[str]) -> str:
    if engine not in (None, "keras", "tfmot"):
        raise ValueError(f"engine is 'keras', 'tfmot' or None, got {engine!r}.")
    alone = list(stages) == ["qat"]
    if engine == "keras" and not alone:
        raise ValueError(
            f"Engine 'keras' does 'qat' alone; '{'+'.join(stages)}' needs engine='tfmot'."
        )
    engine = engine or ("keras" if alone else "tfmot")
    # Looked up, never imported: TFMOT turns this process to the older Keras.
    lacking = [
        name
        for name in ("tensorflow_model_optimization", "tf_keras")
        if not importlib.util.find_spec(name)
    ]
    if engine == "tfmot" and lacking:
        raise ExportError(
            f"'{'+'.join(stages)}' needs {' and '.join(lacking)}: pip install "
            f"'mtl-keras[compression]'."
        )
    return engine


def _check(
    model: Any,
    train: Any,
    val: Any,
    epochs: int,
    learning_rate: float,
    sparsity: float,
    schedule: str,
    pattern: Sequence[int] | None,
    clusters: int,
    max_drop: float | Mapping[str, float] | None,
) -> None:
    if not hasattr(model, "tasks"):
        raise ValueError("`compress` trains on the tasks' losses: it needs a MultiTaskModel.")
    if is_quantization_aware(model):
        raise ValueError(
            f"Model '{model.name}' is quantization-aware: compress its `mtl.export.float_twin`."
        )
    _ = model.compiled_tasks
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs is a whole number, at least 1; got {epochs!r}.")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is above 0, got {learning_rate!r}.")
    if not 0 < sparsity < 1:
        raise ValueError(f"sparsity lies between 0 and 1, got {sparsity!r}.")
    if schedule not in ("polynomial", "constant"):
        raise ValueError(f"schedule is 'polynomial' or 'constant', got {schedule!r}.")
    if pattern is not None and not (len(pattern) == 2 and 0 < pattern[0] < pattern[1]):
        raise ValueError(f"pattern is (zeros, of how many): (2, 4); got {pattern!r}.")
    if not isinstance(clusters, int) or clusters < 2:
        raise ValueError(f"clusters is a whole number, at least 2; got {clusters!r}.")
    if max_drop is not None and val is None:
        raise ValueError("`max_drop` needs held-out data with labels: give `val`.")
    if hasattr(train, "element_spec"):
        if int(train.cardinality()) == -1:
            raise ValueError("`train` never ends: give a part of it, `train.take(steps)`.")
        labels.check_data(train, None, None, model, "training")
    elif isinstance(train, (tuple, list)) and len(train) in (2, 3):
        labels.check_data(
            train[0], train[1], train[2] if len(train) > 2 else None, model, "training"
        )
    else:
        raise ValueError(
            "`train` is (x, y) or (x, y, sample_weight), or a tf.data.Dataset of such batches."
        )


def _compile_as(small: Any, model: Any, learning_rate: float) -> None:
    """As the model is compiled, with an optimizer of its own."""
    config = model.get_compile_config()
    config["optimizer"] = keras.saving.serialize_keras_object(keras.optimizers.Adam(learning_rate))
    small.compile_from_config(config)
    if model.balancer.data is not None:
        small.balancer.data = model.balancer.data


def _fine_tune(
    small: Any,
    train: Any,
    best: _Best | None,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    verbose: int,
) -> None:
    """Train a quantization-aware network, and keep the best epoch, if someone knows which."""
    if hasattr(train, "element_spec"):
        data, options = (train,), {}
        steps = int(train.cardinality())
        if steps < 0:
            steps = sum(1 for _ in train)
        first = [batch[0] for batch in train.take(_WARMING)]
    else:
        data, options = (
            tuple(train[:2]),
            {"batch_size": batch_size, "sample_weight": train[2] if len(train) > 2 else None},
        )
        x = inputs_by_name(small, train[0])
        steps = -(-len(next(iter(x.values()))) // batch_size)
        first = [
            {k: v[i * batch_size : (i + 1) * batch_size] for k, v in x.items()}
            for i in range(min(steps, _WARMING))
        ]
    for x in first:  # ranges are there before the first gradient
        small(pack_inputs(small, inputs_by_name(small, x)), training=True)
    callbacks: list[keras.callbacks.Callback] = [_Falling(learning_rate, epochs * steps)]
    if best is not None:
        best.on_epoch_end(-1)  # the network before training
        callbacks.append(best)
    small.fit(*data, epochs=epochs, verbose=verbose, callbacks=callbacks, **options)
    if best is not None:
        small.set_weights(best.weights)


class _Falling(keras.callbacks.Callback):
    """The learning rate along half a cosine; afterwards it is what it was, for whoever trains
    on."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self.rate, self.steps = rate, steps

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Not counted here: Keras begins a batch more where it meets the end of data without a
        # length.
        done = int(self.model.optimizer.iterations) / self.steps
        self.model.optimizer.learning_rate = self.rate * (1 + np.cos(np.pi * done)) / 2

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.model.optimizer.learning_rate = self.rate


class _Best(keras.callbacks.Callback):
    """The weights of the epoch whose worst head is best, as a share of the float network's; of
    equals, the best together."""

    def __init__(
        self,
        small: Any,
        before: Mapping[str, float],
        held_out: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    ) -> None:
        super().__init__()
        self.small, self.before, self.held_out = small, before, held_out
        self.lost, self.weights = (np.inf, np.inf), small.get_weights()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        metrics, _ = judge.metric_drops(
            self.small, self.before, judge.scores(self.small, self.held_out), {}
        )
        # A metric that the data do not define (of one class only, say) tells nothing; one that
        # training lost tells enough.
        drops = [
            drop / max(abs(before), 1e-12) if np.isfinite(after) else np.inf
            for _, before, after, drop in metrics.values()
            if np.isfinite(before)
        ]
        lost = (max(drops, default=0.0), sum(drops))
        if lost < self.lost or not drops:
            self.lost, self.weights = lost, self.small.get_weights()


# ------------------------------------------------------------------ TFMOT
def _refuse(model: Any) -> None:
    """Refuse what the older Keras has no layers for, all of it in one message.

    Raises:
        ExportError: names each layer and says why.
    """
    reasons = {}
    for layer in model.layers:
        kind = type(layer)
        if isinstance(layer, (TaskOutput, keras.layers.InputLayer)):
            continue
        if isinstance(layer, keras.Model):
            reasons[layer.name] = "a model inside the model"
        elif not kind.__module__.startswith("keras."):
            reasons[layer.name] = f"{kind.__name__}, which only Keras 3 knows"
        elif getattr(layer.dtype_policy, "name", "float32") != "float32":
            reasons[layer.name] = f"computes in {layer.dtype_policy.name}"
    for node in nodes(model):
        if not isinstance(node.operation, keras.layers.Layer):
            reasons[node.operation.name] = (
                f"an operation without a layer ({type(node.operation).__name__})"
            )
    if model.tie is not None:
        reasons["the model"] = "a penalty that ties layers"
    if reasons:
        raise ExportError(_cannot(reasons))


def _cannot(reasons: Mapping[str, str]) -> str:
    refused = "; ".join(f"'{name}': {reason}" for name, reason in reasons.items())
    return (
        f"TensorFlow Model Optimization can't carry {refused}. Leave them out of it with `keep` "
        f"where they may stay as they are, "
        'or use method="qat" with engine="keras", which carries every layer.'
    )


def _in_its_own_process(model: Any, train: Any, options: dict[str, Any]) -> Any:
    """A copy of the model, as it is compiled, trained by TFMOT in a process that this one shares
    nothing with but files."""
    with tempfile.TemporaryDirectory(prefix="mtl_keras_") as name:
        folder = Path(name)
        model.save(folder / "model.keras")
        _save_data(model, train, folder)
        (folder / "options.json").write_text(json.dumps(options))
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        environment.pop("TF_USE_LEGACY_KERAS", None)
        command = [sys.executable, "-m", "mtl_keras.export.compression.tfmot", name]
        shown = None if options["verbose"] else subprocess.PIPE
        done = subprocess.run(
            command, stdout=shown, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
        if (folder / "reasons.json").exists():
            raise ExportError(_cannot(json.loads((folder / "reasons.json").read_text())))
        if done.returncode or not (folder / "weights.npz").exists():
            last = "\n".join((done.stderr or "").strip().splitlines()[-15:])
            raise ExportError(
                f"TensorFlow Model Optimization ended with status {done.returncode}:\n{last}"
            )
        with warnings.catch_warnings():
            # Of a model that was compiled and never trained: its optimizer has nothing to load.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            copy = keras.saving.load_model(folder / "model.keras")
        weights: dict[str, list[np.ndarray]] = {}
        with np.load(folder / "weights.npz") as stored:
            for key in sorted(
                stored.files, key=lambda k: (k.rsplit("/", 1)[0], int(k.rsplit("/", 1)[1]))
            ):
                weights.setdefault(key.rsplit("/", 1)[0], []).append(stored[key])
    for layer, values in weights.items():
        copy.get_layer(layer).set_weights(values)
    if model.balancer.data is not None:
        copy.balancer.data = model.balancer.data
    return copy


def _save_data(model: Any, train: Any, folder: Path) -> None:
    if hasattr(train, "element_spec"):
        train.save(str(folder / "data"))
        return
    arrays = {f"x/{name}": value for name, value in inputs_by_name(model, train[0]).items()}
    y = train[1] if isinstance(train[1], Mapping) else {model.task_names[0]: train[1]}
    arrays |= {f"y/{name}": np.asarray(value) for name, value in y.items()}
    if len(train) > 2 and train[2] is not None:
        weights = (
            train[2] if isinstance(train[2], Mapping) else dict.fromkeys(model.task_names, train[2])
        )
        arrays |= {f"w/{name}": np.asarray(value) for name, value in weights.items()}
    (folder / "arrays").mkdir()
    names = {}
    for i, (name, value) in enumerate(arrays.items()):
        names[name] = f"{i}.npy"
        np.save(folder / "arrays" / names[name], value)
    (folder / "arrays" / "names.json").write_text(json.dumps(names))


def _judge(
    small: Any,
    before: Mapping[str, float],
    data: Any,
    limits: Mapping[str, float],
    report: CompressionReport,
) -> None:
    metrics, too_much = judge.metric_drops(small, before, judge.scores(small, data), limits)
    report.heads.update({name: values[:3] for name, values in metrics.items()})
    if too_much:
        raise ExportError(
            f"'{report.method}' loses more than `max_drop` allows on "
            f"{'; '.join(loss for _, loss in too_much)}. Train for "
            "longer, compress less (`sparsity`, `clusters`), or leave these heads alone (`keep`).",
            [name for name, _ in too_much],
        )
