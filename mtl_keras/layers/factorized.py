"""Layers of several networks whose kernels, stacked, are one factorized tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

__all__ = ["FactorizedConv1D", "FactorizedConv2D", "FactorizedDense"]

FACTORIZATIONS = ("tucker", "tensor_train", "last_axis")


class _Factorized(layers.Layer):
    """One kernel a task, slices of a tensor `(in, out, tasks)` that is kept as factors of low rank.

    `in` stands for the kernel's window and input channels together.

    - "tucker": core `(r, r, k)` with factors for in, out and tasks.
    - "tensor_train": `(in, r)`, `(r, out, k)`, and a factor for tasks.
    - "last_axis": `(in, out, k)`, and a factor for tasks.

    `r` is the rank, at most in and out; `k` the rank of the tasks' axis, at most the number of
    tasks. A task's row of the last factor is a variable of its own, and so is its bias; all else is
    shared."""

    def __init__(
        self,
        units: int,
        tasks: Sequence[str],
        factorization: str = "tucker",
        rank: int = 8,
        task_rank: int | None = None,
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if factorization not in FACTORIZATIONS:
            raise ValueError(
                f"Unknown factorization {factorization!r}. Known: {', '.join(FACTORIZATIONS)}."
            )
        task_rank = min(2, len(tasks)) if task_rank is None else int(task_rank)
        if rank < 1 or not 1 <= task_rank <= len(tasks):
            raise ValueError(
                f"Layer '{self.name}' needs rank >= 1 and 1 <= task_rank <= {len(tasks)} (the "
                f"tasks), got {rank} and "
                f"{task_rank}."
            )
        self.units, self.tasks, self.factorization = int(units), list(tasks), factorization
        self.rank, self.task_rank = int(rank), task_rank
        self.activation, self.use_bias = keras.activations.get(activation), bool(use_bias)

    def _build_kernel(self, size: int) -> None:
        r_in, r_out, k = min(self.rank, size), min(self.rank, self.units), self.task_rank
        # Factors whose product has the variance of Glorot's initialization.
        spread = 2.0 / (size + self.units)

        def factor(shape: Sequence[int], name: str, variance: float) -> Any:
            start = keras.initializers.RandomNormal(stddev=variance**0.5)
            return self.add_weight(shape=shape, initializer=start, name=name)

        if self.factorization == "tucker":
            self.core = factor((r_in, r_out, k), "core", spread)
            self.into = factor((size, r_in), "in", 1.0 / r_in)
            self.out = factor((self.units, r_out), "out", 1.0 / r_out)
        elif self.factorization == "tensor_train":
            self.into = factor((size, r_in), "in", 1.0 / r_in)
            self.core = factor((r_in, self.units, k), "core", spread)
        else:
            self.core = factor((size, self.units, k), "core", spread)
        self.rows = [factor((k,), f"task_{task}", 1.0 / k) for task in self.tasks]
        self.biases: Any = None
        if self.use_bias:
            self.biases = [
                self.add_weight(shape=(self.units,), initializer="zeros", name=f"bias_{task}")
                for task in self.tasks
            ]

    def kernels(self) -> list[Any]:
        """Each task's kernel, `(in, out)`."""
        kernels = []
        for row in self.rows:
            kernel = ops.matmul(self.core, ops.expand_dims(row, -1))[..., 0]
            if self.factorization != "last_axis":
                kernel = ops.matmul(self.into, kernel)
            if self.factorization == "tucker":
                kernel = ops.matmul(kernel, ops.transpose(self.out))
            kernels.append(kernel)
        return kernels

    def _finish(self, outputs: Sequence[Any]) -> list[Any]:
        if self.use_bias:
            outputs = [y + bias for y, bias in zip(outputs, self.biases, strict=True)]
        return [self.activation(y) for y in outputs]

    def _check_streams(self, shapes: Any) -> tuple[Any, ...]:
        if len(shapes) != len(self.tasks) or any(
            tuple(s[1:]) != tuple(shapes[0][1:]) for s in shapes
        ):
            raise ValueError(
                f"Layer '{self.name}' takes {len(self.tasks)} tensors of one shape, one a task; "
                f"got "
                f"{[tuple(s) for s in shapes]}."
            )
        return tuple(shapes[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "tasks": self.tasks,
            "factorization": self.factorization,
            "rank": self.rank,
            "task_rank": self.task_rank,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class FactorizedDense(_Factorized):
    """Dense layers of several networks with factorized kernels.

    Args:
        units: int. Width of each.
        tasks: list of str. One network each.
        factorization: "tucker", "tensor_train" or "last_axis".
        rank, task_rank: int. Largest rank of the kernels' axes, and rank of the tasks' axis (2
            unless given).
        activation, use_bias: as in `keras.layers.Dense`.

    Shapes:
        List of `(rows, ..., in)`, one a task, to a list of `(rows, ..., units)`.

    Reference:
        Yang & Hospedales, "Deep Multi-task Representation Learning: A Tensor Factorisation
        Approach", ICLR 2017.
    """

    def build(self, input_shape: Any) -> None:
        self._build_kernel(self._check_streams(input_shape)[-1])

    def call(self, inputs: Any) -> list[Any]:
        return self._finish(
            [ops.matmul(x, kernel) for x, kernel in zip(inputs, self.kernels(), strict=True)]
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        return [(*shape[:-1], self.units) for shape in input_shape]


class _FactorizedConv(_Factorized):
    """Convolutions over `places` axes of several networks."""

    places = 2

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        tasks: Sequence[str],
        strides: Any = 1,
        padding: str = "valid",
        **kwargs: Any,
    ) -> None:
        super().__init__(units=filters, tasks=tasks, **kwargs)
        self.kernel_size, self.strides = self._each(kernel_size), self._each(strides)
        self.padding = padding

    def _each(self, value: Any) -> tuple[int, ...]:
        return (value,) * self.places if isinstance(value, int) else tuple(value)

    def build(self, input_shape: Any) -> None:
        self.channels = self._check_streams(input_shape)[-1]
        self._build_kernel(math.prod(self.kernel_size) * self.channels)

    def call(self, inputs: Any) -> list[Any]:
        window = (*self.kernel_size, self.channels, self.units)
        outputs = [
            ops.conv(x, ops.reshape(kernel, window), strides=self.strides, padding=self.padding)
            for x, kernel in zip(inputs, self.kernels(), strict=True)
        ]
        return self._finish(outputs)

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        output_shapes = []
        for shape in input_shape:
            sizes = []
            for size, window, stride in zip(
                shape[1:-1], self.kernel_size, self.strides, strict=True
            ):
                if size is not None:
                    size = (
                        -(-size // stride)
                        if self.padding == "same"
                        else (size - window) // stride + 1
                    )
                sizes.append(size)
            output_shapes.append((shape[0], *sizes, self.units))
        return output_shapes

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["filters"] = config.pop("units")
        return {
            **config,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class FactorizedConv1D(_FactorizedConv):
    """1-D convolutions of several networks with factorized kernels.

    Args:
        filters: int. Output channels of each.
        kernel_size, strides, padding: as in `keras.layers.Conv1D`; padding is "valid" or "same".
        tasks, factorization, rank, task_rank, activation, use_bias: as in `FactorizedDense`.

    Shapes:
        List of `(rows, length, channels)`, one a task, to a list of sequences with `filters`
        channels.

    Reference:
        Yang & Hospedales, ICLR 2017.
    """

    places = 1


@keras.saving.register_keras_serializable("mtl_keras")
class FactorizedConv2D(_FactorizedConv):
    """2-D convolutions of several networks with factorized kernels.

    Args:
        filters: int. Output channels of each.
        kernel_size, strides, padding: as in `keras.layers.Conv2D`.
        tasks, factorization, rank, task_rank, activation, use_bias: as in `FactorizedDense`.

    Shapes:
        List of `(rows, height, width, channels)`, one a task, to a list of maps with `filters`
        channels.

    Reference:
        Yang & Hospedales, ICLR 2017.
    """
