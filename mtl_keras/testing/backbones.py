"""The harness of backbones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.builders import hard_sharing
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Binary, Regression
from mtl_keras.testing.builders import run_builder_test
from mtl_keras.testing.checks import expect

__all__ = ["run_backbone_test"]


def run_backbone_test(
    backbone: Callable[..., keras.Model],
    x: Any,
    options: Mapping[str, Any] | None = None,
    *,
    stages: Mapping[str, Sequence[int | None]] | None = None,
    input_name: str | None = None,
    is_prefixed: bool = True,
    export: Sequence[str] = (),
) -> MultiTaskModel:
    """Hold a backbone to what every backbone promises.

    The promises: it returns a `keras.Model` with a dict of stages, ordered from the input to the
    deepest, of the shapes that were announced; its layers bear the prefix `name`, so that two of
    them fit into one network; under two heads it keeps all that `run_builder_test` asks for.

    Args:
        backbone: function of symbolic inputs and of `name`.
        x: array of inputs, four rows or more.
        options: dict of the backbone's other arguments.
        stages: dict of stage name to the shape of one row, in order. None checks no shapes.
        input_name: str. What the network's input is called; the default is the kind of input's.
        is_prefixed: bool. False for a backbone around another one, whose layers have the other's
            names.
        export: precisions to export to, such as `("float32", "int8")`.

    Returns:
        The trained model, with the heads "cost" and "sold".

    Raises:
        AssertionError: which promise is broken, and where.

    Examples:
        >>> x = np.random.default_rng(0).random((4, 5)).astype("float32")
        >>> model = mtl.testing.run_backbone_test(
        ...     mtl.backbones.mlp, x, {"widths": (8, 6)}, stages={"stage1": (8,), "stage2": (6,)})
    """
    subject = f"Backbone {getattr(backbone, '__name__', backbone)!r}"
    options = dict(options or {})
    rows, shape = len(x), tuple(np.shape(x)[1:])

    # Stages
    inputs = keras.Input(shape, dtype=np.asarray(x).dtype.name)
    network = backbone(inputs, name="prefix", **options)
    expect(isinstance(network, keras.Model), subject, "it returns a `keras.Model`", type(network))
    outputs = network.output
    expect(isinstance(outputs, dict), subject, "its outputs are a dict of stages", type(outputs))
    if stages is not None:
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()}
        expected = {name: tuple(shape) for name, shape in stages.items()}
        expect(
            list(shapes.items()) == list(expected.items()),
            subject,
            "its stages have the announced names and shapes, in order",
            f"{shapes} instead of {expected}.",
        )
    if is_prefixed:
        _check_prefix(subject, network)

    # In a network
    def build(tasks: Sequence[Any]) -> MultiTaskModel:
        network_inputs = {input_name: shape} if input_name else shape
        return hard_sharing(network_inputs, tasks, backbone, backbone_options=options)

    build.__name__ = f"hard_sharing on {getattr(backbone, '__name__', backbone)}"
    tasks = [Regression("cost", hidden=0), Binary("sold", hidden=0)]
    y = {"cost": np.linspace(-1, 1, rows).astype("float32"), "sold": np.arange(rows) % 2}
    return run_builder_test(build, {"tasks": tasks}, x, y, balancers=("equal",), export=export)


def _check_prefix(subject: str, network: keras.Model) -> None:
    """Layers are named by the prefix that was asked for."""
    names = [
        layer.name for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    strange = [name for name in names if not name.startswith("prefix_")]
    expect(
        not strange,
        subject,
        "its layers' names begin with the argument `name`, so that two fit into one network",
        f"Others: {strange}.",
    )
