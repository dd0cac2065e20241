"""TensorFlow Model Optimization at work on one of our networks, as
`python -m mtl_keras.export.compression.tfmot FOLDER`.

TFMOT knows `tf_keras` only, and turns whatever process imports it to it. So `compress` writes the
model, the data and its options to a folder, this program rebuilds the network in `tf_keras`, layer
by layer, trains it, and leaves the weights there.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]


class CannotCarry(Exception):
    """Layers that can't be rebuilt, by name, with the reason."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(str(reasons))
        self.reasons = reasons


def main(folder: str) -> None:
    import keras

    import mtl_keras  # noqa: F401 - its layers, for loading

    directory = Path(folder)
    options = json.loads((directory / "options.json").read_text())
    keras.utils.set_random_seed(options["seed"])
    model = keras.saving.load_model(directory / "model.keras")
    try:
        weights = compressed(model, directory, options)
    except CannotCarry as error:
        (directory / "reasons.json").write_text(json.dumps(error.reasons))
        return
    # Written beside, then renamed: a file that is there is whole.
    np.savez(
        directory / "unfinished.npz",
        **{  # type: ignore[arg-type]
            f"{name}/{i}": v for name, values in weights.items() for i, v in enumerate(values)
        },
    )
    (directory / "unfinished.npz").rename(directory / "weights.npz")


def compressed(model: Any, place: Path, options: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    """Weights by layer after all stages."""
    network, names = rebuilt(model)
    _same_answers(model, network, place, options)
    _rehearse(model, options)
    chosen = {layer.name for layer in network.layers} - set(options["keep"])
    done: list[str] = []
    for stage in options["stages"]:
        steps = options["epochs"] * sum(
            1 for _ in _batches(model, place, options, np.random.default_rng(0))
        )
        wrapped, strip, callback = _STAGES[stage](network, chosen, options, done, steps)
        _train(model, wrapped, place, options, callback, stage)
        network = strip(wrapped)
        done.append(stage)
    layers = {_inside(layer).name: layer for layer in network.layers}
    return {name: _weights(layers[name], weights) for name, weights in names.items()}


def _rehearse(model: Any, options: dict[str, Any]) -> None:
    """Walk through every stage without training: what TFMOT can't do is then said before hours of
    work.

    Works on a copy of the network, since TFMOT's wrappers hold the layers themselves.

    Raises:
        CannotCarry: a stage refuses a layer.
        RuntimeError: the network does not come back whole.
    """
    network, names = rebuilt(model)
    chosen = {layer.name for layer in network.layers} - set(options["keep"])
    done: list[str] = []
    for stage in options["stages"]:
        wrapped, strip, _ = _STAGES[stage](network, chosen, options, done, steps=4)
        network = strip(wrapped)
        done.append(stage)
    layers = {_inside(layer).name: layer for layer in network.layers}
    for layer, weights in names.items():
        _weights(layers[layer], weights)


# ------------------------------------------------------------------ the network in tf_keras
def rebuilt(model: Any) -> tuple[Any, dict[str, list[str]]]:
    """The network up to its heads' activations, in tf_keras, with its weights; names of each
    layer's weights."""
    import tf_keras

    from mtl_keras.graph import rewire_graph
    from mtl_keras.tasks import TaskOutput

    tensors: dict[int, Any] = {}
    inputs = []
    for tensor in model.inputs:
        input_tensor = tf_keras.Input(tuple(tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
        tensors[id(tensor)] = input_tensor
        inputs.append(input_tensor)
    copies: dict[int, Any] = {}
    names: dict[str, list[str]] = {}

    def call(node: Any, args: Any, kwargs: Any) -> Any:
        layer = node.operation
        if isinstance(layer, TaskOutput):
            return args[0]
        try:
            fresh = id(layer) not in copies
            if fresh:
                copies[id(layer)] = _old_layer(layer, tf_keras)
            outputs = copies[id(layer)](
                *args, **{k: v for k, v in kwargs.items() if v is not None and k != "training"}
            )
            if fresh and layer.weights:
                copies[id(layer)].set_weights(layer.get_weights())
                names[layer.name] = [weight.name for weight in copies[id(layer)].weights]
        except Exception as error:
            raise CannotCarry(
                {layer.name: f"{type(layer).__name__}: {' '.join(str(error).split())[:160]}"}
            ) from error
        return outputs

    rewire_graph(model, tensors, call)
    outputs = [tensors[id(model.output[name])] for name in model.task_names]
    return tf_keras.Model(inputs, outputs, name=model.name), names


def _old_layer(layer: Any, tf_keras: Any) -> Any:
    kind = getattr(tf_keras.layers, type(layer).__name__, None)
    if kind is None:
        raise ValueError("tf_keras has no such layer")
    return kind.from_config(_old_config(layer.get_config(), type(layer), kind, tf_keras))


def _old_config(
    config: dict[str, Any], new_kind: type, kind: type, tf_keras: Any
) -> dict[str, Any]:
    import keras

    taken = {
        name
        for base in kind.__mro__
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    }
    defaults = {
        name: p.default
        for base in new_kind.__mro__[::-1]
        for name, p in inspect.signature(base).parameters.items()
    }
    old: dict[str, Any] = {}
    for key, value in config.items():
        if key.endswith("_initializer"):
            continue
        if key not in taken | {"name", "trainable", "dtype"}:
            # What only Keras 3 knows may fall away where it says nothing.
            if (
                value
                and value != defaults.get(key)
                and (key, value) != ("data_format", "channels_last")
            ):
                raise ValueError(f"tf_keras knows no {key}={value!r}")
            continue
        if key == "dtype":
            value = "float32"
        elif isinstance(value, dict) and "class_name" in value and key.endswith("_regularizer"):
            value = tf_keras.regularizers.get(
                {"class_name": value["class_name"], "config": value["config"]}
            )
        elif isinstance(value, dict) and "class_name" in value and key.endswith("_constraint"):
            value = tf_keras.constraints.get(
                {"class_name": value["class_name"], "config": value["config"]}
            )
        elif (
            isinstance(value, dict) and "class_name" in value and key in ("layer", "backward_layer")
        ):
            new, inner = (getattr(where.layers, value["class_name"]) for where in (keras, tf_keras))
            value = {
                "class_name": inner.__name__,
                "config": _old_config(value["config"], new, inner, tf_keras),
            }
        elif isinstance(value, dict) and "class_name" in value:
            raise ValueError(f"its {key} is {value['class_name']}")
        old[key] = value
    return old


def _same_answers(model: Any, network: Any, place: Path, options: dict[str, Any]) -> None:
    from mtl_keras.export.models import pack_inputs

    x, _, _ = next(_batches(model, place, options, np.random.default_rng(0)))
    raw = network(_listed(model, x), training=False)
    expected = model(pack_inputs(model, x), training=False)
    for name, value in zip(
        model.task_names, raw if isinstance(raw, (list, tuple)) else [raw], strict=True
    ):
        answers, wanted = np.asarray(model.task(name).activate(value)), np.asarray(expected[name])
        if not np.allclose(
            answers,
            wanted,
            rtol=1e-3,
            atol=1e-4 * max(1.0, float(np.abs(wanted).max())),
            equal_nan=True,
        ):
            raise RuntimeError(
                f"Head '{name}' answers otherwise in tf_keras: by "
                f"{np.abs(answers - wanted).max():.3g}."
            )


# ------------------------------------------------------------------ stages
def _kernel_layers(network: Any, chosen: set[str]) -> list[str]:
    from tf_keras import layers

    kinds = (
        layers.Dense,
        layers.Conv1D,
        layers.Conv2D,
        layers.Conv2DTranspose,
        layers.SeparableConv2D,
        layers.Embedding,
    )
    return [layer.name for layer in network.layers if layer.name in chosen and isinstance(layer, kinds)
            and not isinstance(layer, layers.DepthwiseConv2D)]  # fmt: skip


def _with(network: Any, names: Sequence[str], wrap: Callable[[Any], Any]) -> Any:
    import tf_keras

    return tf_keras.models.clone_model(
        network, clone_function=lambda layer: wrap(layer) if layer.name in names else layer
    )


def _prune(
    network: Any, chosen: set[str], options: dict[str, Any], done: Sequence[str], steps: int
) -> tuple[Any, Any, Any]:
    from tensorflow_model_optimization.sparsity import keras as sparsity

    frequency = max(1, steps // 40)
    arguments: dict[str, Any] = {}
    if options["pattern"]:
        arguments["sparsity_m_by_n"] = tuple(options["pattern"])
        share = options["pattern"][0] / options["pattern"][1]
    else:
        share = options["sparsity"]
    if options["schedule"] == "constant" or options["pattern"]:
        schedule = sparsity.ConstantSparsity(share, begin_step=0, frequency=frequency)
    else:
        # The last mask is drawn where the schedule ends: on a step at which masks are drawn.
        end = max(frequency, steps // 2 // frequency * frequency)
        schedule = sparsity.PolynomialDecay(
            0.0, share, begin_step=0, end_step=end, frequency=frequency
        )
    wrapped = _with(
        network,
        _kernel_layers(network, chosen),
        lambda layer: sparsity.prune_low_magnitude(layer, pruning_schedule=schedule, **arguments),
    )
    return wrapped, sparsity.strip_pruning, sparsity.UpdatePruningStep()


def _cluster(
    network: Any, chosen: set[str], options: dict[str, Any], done: Sequence[str], steps: int
) -> tuple[Any, Any, Any]:
    from tensorflow_model_optimization.clustering import keras as clustering
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    # A kernel with fewer weights than clusters has few values as it is.
    names = [
        name
        for name in _kernel_layers(network, chosen)
        if max(np.asarray(w).size for w in network.get_layer(name).weights) > options["clusters"]
    ]
    wrapped = _with(
        network,
        names,
        lambda layer: cluster.cluster_weights(
            layer,
            number_of_clusters=options["clusters"],
            cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
            preserve_sparsity="prune" in done,
        ),
    )
    return wrapped, clustering.strip_clustering, None


def _qat(
    network: Any, chosen: set[str], options: dict[str, Any], done: Sequence[str], steps: int
) -> tuple[Any, Any, Any]:
    from tensorflow_model_optimization.experimental import combine
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry,
    )
    from tensorflow_model_optimization.quantization import keras as quantization
    from tf_keras import layers

    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
    reasons = {}
    # Normalization behind a convolution goes into it; elsewhere TFMOT says itself what it can't do.
    passed = (layers.InputLayer, layers.BatchNormalization)
    for layer in network.layers:
        if layer.name in chosen and not isinstance(layer, passed) and not registry.supports(layer):
            reasons[layer.name] = f"{type(layer).__name__}, which it does not quantize"
    if reasons:
        raise CannotCarry(reasons)
    if "cluster" in done:
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity="prune" in done)
    elif "prune" in done:
        scheme = combine.Default8BitPrunePreserveQuantizeScheme()
    else:
        scheme = quantization.default_8bit.Default8BitQuantizeScheme()
    names = [
        layer.name
        for layer in network.layers
        if layer.name in chosen and not isinstance(layer, layers.InputLayer)
    ]
    try:
        annotated = _with(network, names, quantization.quantize_annotate_layer)
        with quantization.quantize_scope():
            wrapped = quantization.quantize_apply(annotated, scheme)
    except (RuntimeError, ValueError) as error:
        raise CannotCarry({"the network": " ".join(str(error).split())[:300]}) from error
    return (
        wrapped,
        combine.strip_clustering_cqat if "cluster" in done else lambda found: found,
        None,
    )


_STAGES = {"prune": _prune, "cluster": _cluster, "qat": _qat}


# ------------------------------------------------------------------ training
def _train(
    model: Any, network: Any, place: Path, options: dict[str, Any], callback: Any, stage: str
) -> None:
    import tensorflow as tf
    import tf_keras

    from mtl_keras.trainer.losses import batch_losses

    training = model.compiled_tasks
    optimizer = tf_keras.optimizers.Adam(options["learning_rate"])
    network.compile(optimizer)
    trained = network.trainable_variables

    @tf.function(reduce_retracing=True)
    def step(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            raw = network(x, training=True)
            raw = raw if isinstance(raw, (list, tuple)) else [raw]
            heads = zip(model.task_names, raw, strict=True)
            outputs = {name: model.task(name).activate(value) for name, value in heads}
            total = tf.add_n([*batch_losses(training, y, outputs, weight).each, *network.losses])
        gradients = tape.gradient(total, trained)
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, trained, strict=True)
            if gradient is not None
        ]
        optimizer.apply_gradients(pairs)
        return total

    if callback is not None:
        callback.set_model(network)
        callback.on_train_begin()
    rng = np.random.default_rng(options["seed"])
    for epoch in range(options["epochs"]):
        losses = []
        for x, y, weight in _batches(model, place, options, rng):
            if callback is not None:
                callback.on_train_batch_begin(batch=None)
            losses.append(float(step(_listed(model, x), y, weight)))
            if not np.isfinite(losses[-1]):
                raise RuntimeError(
                    f"The loss of step {len(losses)} of epoch {epoch + 1} of '{stage}' is not "
                    f"finite."
                )
        if callback is not None:
            callback.on_epoch_end(batch=None)
        if options["verbose"]:
            print(
                f"{stage}: epoch {epoch + 1}/{options['epochs']}, loss {np.mean(losses):.4f}",
                flush=True,
            )


def _batches(
    model: Any, place: Path, options: dict[str, Any], rng: np.random.Generator
) -> Iterator[tuple[Any, Any, Any]]:
    """`(inputs by name, labels by task, sample weights by task or None)`, shuffled where they are
    arrays."""
    from mtl_keras.export.models import inputs_by_name

    if (place / "data").exists():
        import tensorflow as tf

        for batch in tf.data.Dataset.load(str(place / "data")).as_numpy_iterator():
            y = batch[1] if isinstance(batch[1], dict) else {model.task_names[0]: batch[1]}
            yield inputs_by_name(model, batch[0]), y, batch[2] if len(batch) > 2 else None
        return
    names = json.loads((place / "arrays" / "names.json").read_text())
    arrays = {name: np.load(place / "arrays" / file, mmap_mode="r") for name, file in names.items()}
    order = rng.permutation(len(next(iter(arrays.values()))))
    for start in range(0, len(order), options["batch_size"]):
        rows = np.sort(order[start : start + options["batch_size"]])
        parts: dict[str, dict[str, np.ndarray]] = {"x": {}, "y": {}, "w": {}}
        for name, value in arrays.items():
            side, key = name.split("/", 1)
            parts[side][key] = np.asarray(value[rows])
        yield parts["x"], parts["y"], parts["w"] or None


def _listed(model: Any, x: dict[str, np.ndarray]) -> Any:
    values = [x[tensor.name].astype(tensor.dtype) for tensor in model.inputs]
    return values[0] if len(values) == 1 else values


# ------------------------------------------------------------------ and back
def _inside(layer: Any) -> Any:
    """The layer in one of TFMOT's wrappers, or the layer."""
    return (
        getattr(layer, "layer", layer)
        if type(layer).__module__.startswith("tensorflow_model_optimization")
        else layer
    )


def _weights(layer: Any, names: Sequence[str]) -> list[np.ndarray]:
    """The layer's own weights, in their order: a wrapper holds them beside ranges and steps of its
    own.

    A layer that `strip_clustering` built anew has lost the prefix of its weights' names:
    `kernel:0`, not `dense/kernel:0`.
    """
    known = {weight.name: weight for weight in [*layer.weights, *_inside(layer).weights]}
    short = [name.rsplit("/", 1)[-1] for name in names]
    if len(set(short)) == len(short) and not set(names) & set(known):
        names = short
    lacking = [name for name in names if name not in known]
    if lacking:
        raise RuntimeError(
            f"Layer '{layer.name}' came back without {', '.join(lacking)}; it has {sorted(known)}."
        )
    return [np.asarray(known[name]) for name in names]


if __name__ == "__main__":
    main(sys.argv[1])
