"""Networks whose stacked weights are factorized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from mtl_keras.builders.arguments import SharedArguments, Unpack, builder
from mtl_keras.builders.common import finish, start
from mtl_keras.builders.copies import is_trained
from mtl_keras.builders.streams import build_parallel_streams
from mtl_keras.layers import FactorizedConv1D, FactorizedConv2D, FactorizedDense
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Task

__all__ = ["tensor_factorized"]


@builder
def tensor_factorized(
    inputs: Any,
    tasks: Sequence[Task],
    backbone: str | Callable[..., Any] | keras.Model | None = None,
    *,
    factorization: str = "tucker",
    rank: int = 8,
    task_rank: int | None = None,
    **shared: Unpack[SharedArguments],
) -> MultiTaskModel:
    """A network per task; the kernels of corresponding layers, stacked over tasks, are one tensor of
    low rank.

    What is shared, and how much in every layer, is learned with the factors. Dense and plain 1-D
    and 2-D convolution layers are factorized; other layers with weights (normalization, embeddings,
    recurrent) stay one a task.

    Args:
        inputs, tasks, backbone, backbone_options, encoder, name: as in `hard_sharing`.
        factorization: "tucker", "tensor_train" or "last_axis".
        rank: int. Largest rank of the kernels' own axes. Defaults to 8.
        task_rank: int. Rank of the tasks' axis, at most their number. Defaults to 2.

    Returns:
        `MultiTaskModel`. A dense layer `n -> m` for T tasks has, biases apart, with ranks r and k:
        Tucker `r^2 k + n r + m r + T k`, tensor train `n r + r m k + T k`, last axis `n m k + T k`
        parameters.

    Raises:
        ValueError: a backbone without a layer that can be factorized, or with weights of its own
            (factors start anew); an unknown factorization or rank; what `hard_sharing` refuses.

    Examples:
        >>> model = mtl.builders.tensor_factorized((10,), [mtl.tasks.Regression("a"), mtl.tasks.Regression("b")],
        ...     backbone="mlp", factorization="tensor_train", rank=4)

    Reference:
        Yang & Hospedales, "Deep Multi-task Representation Learning: A Tensor Factorisation
        Approach", ICLR 2017.
    """
    base = start(inputs, tasks, backbone, **shared)
    if base.pretrained:
        raise ValueError(
            f"Builder '{base.name}' makes the kernels of the backbone anew, as factors: give a "
            f"backbone's "
            "name or function without weights."
        )
    common = {
        "tasks": base.names,
        "factorization": factorization,
        "rank": rank,
        "task_rank": task_rank,
    }
    factorized: dict[str, keras.layers.Layer] = {}
    convolutions = {keras.layers.Conv1D: FactorizedConv1D, keras.layers.Conv2D: FactorizedConv2D}

    def joint(layer: Any) -> keras.layers.Layer | None:
        if type(layer) in (keras.layers.Dense, *convolutions) and is_trained(layer):
            raise ValueError(
                f"Builder '{base.name}' makes the kernels of the backbone anew, as factors, and "
                f"layer '{layer.name}' of this "
                "backbone has trained weights, which would be lost. Give a backbone without "
                "weights."
            )
        config = {"name": layer.name, "use_bias": getattr(layer, "use_bias", None), **common}
        if type(layer) is keras.layers.Dense:
            factorized.setdefault(
                layer.name, FactorizedDense(layer.units, activation=layer.activation, **config)
            )
        elif type(layer) in convolutions and _plain(layer):
            config |= {
                "kernel_size": layer.kernel_size,
                "strides": layer.strides,
                "padding": layer.padding,
            }
            factorized.setdefault(
                layer.name,
                convolutions[type(layer)](layer.filters, activation=layer.activation, **config),
            )
        return factorized.get(layer.name)

    streams = build_parallel_streams(base.trunk, base.names, joint=joint)
    if not factorized:
        kinds = sorted({type(layer).__name__ for layer in base.trunk.layers if layer.weights})
        raise ValueError(
            f"Builder '{base.name}' factorizes Dense, Conv1D and Conv2D layers, and the backbone "
            f"has none; "
            f"its layers with weights are {', '.join(kinds) or 'none'}."
        )
    return finish(base, dict(zip(base.names, streams, strict=True)))


def _plain(layer: keras.layers.Layer) -> bool:
    """Whether a convolution is one without groups, holes, or a padding of its own kind."""
    return (
        layer.groups == 1 and set(layer.dilation_rate) == {1} and layer.padding in ("valid", "same")
    )
