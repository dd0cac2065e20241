"""What stands between parallel networks: layers that map a list of streams' tensors to a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

__all__ = [
    "BlockIdentity",
    "BranchChoice",
    "BranchPath",
    "CrossStitch",
    "MutualInformation",
    "SubspaceStitch",
]


class _Streams(layers.Layer):
    """A layer over several tensors of one shape, place by place: each stream keeps its Keras
    mask."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def _check_streams(self, shapes: Any, count: int | None = None) -> tuple[Any, ...]:
        if not shapes or not isinstance(shapes[0], (tuple, list)):
            raise ValueError(
                f"Layer '{self.name}' takes a list of tensors, one a stream; got one of shape "
                f"{shapes}."
            )
        first = tuple(shapes[0])
        if count is not None and len(shapes) != count:
            raise ValueError(f"Layer '{self.name}' joins {count} streams, got {len(shapes)}.")
        for i, shape in enumerate(shapes):
            if tuple(shape[1:]) != first[1:]:
                raise ValueError(
                    f"Layer '{self.name}' joins streams of one shape; stream 0 has {first}, "
                    f"stream {i} {tuple(shape)}. Give "
                    "all streams the same backbone with the same options."
                )
        return first

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        return [tuple(shape) for shape in input_shape]


@keras.saving.register_keras_serializable("mtl_keras")
class CrossStitch(_Streams):
    """Each stream goes on with a learned linear mixture of all streams, channel by channel.

    `y_i = sum_j alpha_ij * x_j`, with `alpha_ii = self_weight` and the rest of 1 spread over the
    others at the start. Each target's factors are one variable.

    Args:
        self_weight: float. Starting factor of a stream for itself. 1 starts as independent
            networks. Defaults to 0.9.
        per_channel: bool. A factor a channel, else one a pair of streams. Defaults to True.

    Shapes:
        List of `(rows, ..., channels)` to a list of the same.

    Reference:
        Misra, Shrivastava, Gupta, Hebert, "Cross-stitch Networks for Multi-task Learning", CVPR
        2016.
    """

    def __init__(self, self_weight: float = 0.9, per_channel: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.self_weight, self.per_channel = float(self_weight), bool(per_channel)

    def build(self, input_shape: Any) -> None:
        first = self._check_streams(input_shape)
        count = len(input_shape)
        size = first[-1] if self.per_channel else 1
        self.alpha = []
        for i in range(count):
            start = [
                [self.self_weight if i == j else (1 - self.self_weight) / max(count - 1, 1)] * size
                for j in range(count)
            ]
            self.alpha.append(
                self.add_weight(shape=(count, size), initializer=_Given(start), name=f"alpha_{i}")
            )

    def call(self, inputs: Any) -> list[Any]:
        return [sum(x * row[j] for j, x in enumerate(inputs)) for row in self.alpha]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "self_weight": self.self_weight,
            "per_channel": self.per_channel,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class SubspaceStitch(_Streams):
    """A cross-stitch between parts of the streams: each stream's channels are cut into subspaces,
    and every subspace goes on as a mixture of all streams' subspaces. A penalty keeps a stream's
    subspaces from saying the same.

    `[y_i1; ..; y_iG] = A_i [x_11; ..; x_TG]`, `A` starting at `self_weight` on the diagonal and the
    rest of 1 spread over the others. The penalty is the squared Frobenius norm of the products
    between subspaces' columns (features over all rows and places, each of unit length), averaged
    over pairs of columns, times `penalty_weight`.

    Args:
        subspaces: int >= 1. Defaults to 2, one to share and one to keep.
        self_weight: float. Defaults to 0.9.
        penalty_weight: float >= 0. Defaults to 0.

    Reference:
        Ruder, Bingel, Augenstein, Sogaard, "Latent Multi-task Architecture Learning", AAAI 2019
        (sluice networks). There the penalty is on the layers' weights; on features it is defined
        for every kind of layer.
    """

    def __init__(
        self,
        subspaces: int = 2,
        self_weight: float = 0.9,
        penalty_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if subspaces < 1 or penalty_weight < 0:
            raise ValueError(
                f"Layer '{self.name}' needs subspaces >= 1 and penalty_weight >= 0, got "
                f"{subspaces} and {penalty_weight}."
            )
        self.subspaces, self.self_weight, self.penalty_weight = (
            int(subspaces),
            float(self_weight),
            float(penalty_weight),
        )

    def build(self, input_shape: Any) -> None:
        first = self._check_streams(input_shape)
        if first[-1] % self.subspaces:
            raise ValueError(
                f"Layer '{self.name}' cuts {first[-1]} channels into {self.subspaces} subspaces: "
                f"choose a number that divides "
                "the channels of every stage."
            )
        total = len(input_shape) * self.subspaces
        self.alpha = []
        for i in range(len(input_shape)):
            start = [
                [
                    self.self_weight
                    if g == i * self.subspaces + p
                    else (1 - self.self_weight) / max(total - 1, 1)
                    for g in range(total)
                ]
                for p in range(self.subspaces)
            ]
            self.alpha.append(
                self.add_weight(
                    shape=(self.subspaces, total), initializer=_Given(start), name=f"alpha_{i}"
                )
            )

    def call(self, inputs: Any, training: bool = False) -> list[Any]:
        parts = [part for x in inputs for part in ops.split(x, self.subspaces, axis=-1)]
        if training and self.penalty_weight and self.subspaces > 1:
            for i in range(len(inputs)):
                self.add_loss(
                    self.penalty_weight
                    * _overlap(parts[i * self.subspaces : (i + 1) * self.subspaces])
                )
        mixed = []
        for row in self.alpha:
            outputs = [
                sum(part * row[p, g] for g, part in enumerate(parts)) for p in range(self.subspaces)
            ]
            mixed.append(outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1))
        return mixed

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "subspaces": self.subspaces,
            "self_weight": self.self_weight,
            "penalty_weight": self.penalty_weight,
        }


def _overlap(parts: Sequence[Any]) -> Any:
    """The mean squared cosine between columns of different subspaces."""
    columns = [ops.reshape(ops.cast(part, "float32"), (-1, part.shape[-1])) for part in parts]
    lengths = [ops.sum(ops.square(c), axis=0, keepdims=True) for c in columns]
    total, pairs = 0.0, 0
    for i in range(len(parts)):
        for j in range(i):
            product = ops.square(ops.matmul(ops.transpose(columns[i]), columns[j]))
            size = ops.matmul(ops.transpose(lengths[i]), lengths[j])
            total = total + ops.mean(
                ops.where(size > 0, product / ops.where(size > 0, size, 1.0), 0.0)
            )
            pairs += 1
    return total / pairs


@keras.saving.register_keras_serializable("mtl_keras")
class MutualInformation(_Streams):
    """Streams as they are, with a penalty that falls as corresponding channels tell more about each
    other.

    For two channels that are jointly Gaussian over the rows, with correlation r, the mutual
    information is `-log(1 - r^2) / 2`; the penalty is `1 - r^2 = exp(-2 I)`, which is bounded,
    averaged over channels and pairs of streams. Feature maps and sequences count by their means. It
    is there while training.

    Args:
        penalty_weight: float >= 0.
    """

    def __init__(self, penalty_weight: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.penalty_weight = float(penalty_weight)

    def build(self, input_shape: Any) -> None:
        self._check_streams(input_shape)

    def call(self, inputs: Any, training: bool = False) -> list[Any]:
        if training and self.penalty_weight and len(inputs) > 1:
            rows = []
            for x in inputs:
                places = tuple(range(1, len(x.shape) - 1))
                x = ops.cast(ops.mean(x, axis=places) if places else x, "float32")
                rows.append(x - ops.mean(x, axis=0, keepdims=True))
            total, pairs = 0.0, 0
            for i in range(len(rows)):
                for j in range(i):
                    shared = ops.square(ops.sum(rows[i] * rows[j], axis=0))
                    size = ops.sum(ops.square(rows[i]), axis=0) * ops.sum(
                        ops.square(rows[j]), axis=0
                    )
                    known = size > 0
                    total = total + ops.mean(
                        1.0 - ops.where(known, shared / ops.where(known, size, 1.0), 0.0)
                    )
                    pairs += 1
            self.add_loss(self.penalty_weight * total / pairs)
        return [x * 1.0 for x in inputs]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "penalty_weight": self.penalty_weight}


@keras.saving.register_keras_serializable("mtl_keras")
class BranchChoice(layers.Layer):
    """Each child takes one of several parents, chosen by logits that are learned.

    While training a child takes the parents' mixture by a sample of the Gumbel-softmax at a
    temperature that falls from `temperature` by the factor `temperature_decay` a step, down to
    `min_temperature`; for the first `warmup_steps` steps it takes their plain mean. At inference it
    takes the parent with the largest logit, the first of equals. Each child's logits are one
    variable.

    Args:
        children: int. How many tensors come out.
        temperature, temperature_decay, min_temperature: floats > 0. Defaults 5, 0.999, 0.1.
        warmup_steps: int. Steps of training before the choice begins. Defaults to 0.
        stage: str. Whose copies the parents are, for `mtl.builders.branches`.
        seed: int or None. Of the samples.

    Shapes:
        List of `parents` tensors `(rows, ...)` to a list of `children` of the same shape and, last,
        each child's shares of its parents, `(children, parents)`; rows sum to 1.

    Reference:
        Guo, Lee, Ulbricht, "Learning to Branch for Multi-Task Learning", ICML 2020; Jang, Gu,
        Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
    """

    def __init__(
        self,
        children: int,
        temperature: float = 5.0,
        temperature_decay: float = 0.999,
        min_temperature: float = 0.1,
        warmup_steps: int = 0,
        stage: str = "",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (
            children < 1
            or not 0 < min_temperature <= temperature
            or not 0 < temperature_decay <= 1
            or warmup_steps < 0
        ):
            raise ValueError(
                f"Layer '{self.name}' needs children >= 1, 0 < min_temperature <= temperature, "
                "0 < temperature_decay <= 1 and warmup_steps >= 0; got "
                f"{children}, {min_temperature}, {temperature}, {temperature_decay}, "
                f"{warmup_steps}."
            )
        self.children, self.temperature, self.temperature_decay = (
            int(children),
            float(temperature),
            float(temperature_decay),
        )
        self.min_temperature, self.warmup_steps, self.stage, self.seed = (
            float(min_temperature),
            int(warmup_steps),
            str(stage),
            seed,
        )
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        self.parents = len(input_shape)
        self.logits = [
            # In float32 under mixed precision too: half floats would round what training adds, and
            # stop counting at 2048.
            self.add_weight(
                shape=(self.parents,),
                initializer="zeros",
                name=f"logits_{i}",
                dtype="float32",
                autocast=False,
            )
            for i in range(self.children)
        ]
        self.steps = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
            name="steps",
            aggregation="only_first_replica",
        )

    def shares(self, training: bool = False) -> Any:
        """Each child's shares of its parents, `(children, parents)`; rows sum to 1."""
        logits = ops.stack([ops.cast(row, "float32") for row in self.logits])
        if not training:
            _, first = ops.top_k(logits, k=1)
            return ops.one_hot(ops.squeeze(first, axis=-1), self.parents, dtype="float32")
        noise = keras.random.uniform(
            (self.children, self.parents), 1e-6, 1 - 1e-6, dtype="float32", seed=self.generator
        )
        heat = ops.maximum(
            self.temperature * ops.power(self.temperature_decay, self.steps), self.min_temperature
        )
        sampled = ops.softmax((ops.log_softmax(logits) - ops.log(-ops.log(noise))) / heat)
        return ops.where(
            self.steps < self.warmup_steps, ops.full_like(sampled, 1 / self.parents), sampled
        )

    def call(self, inputs: Any, training: bool = False) -> list[Any]:
        shares = ops.cast(self.shares(training), self.compute_dtype)
        if training:
            self.steps.assign_add(1.0)
        return [*_mixtures(shares, inputs), shares]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        # Parents are the same sequence at the same depth: one mask for all.
        return None if mask is None else [*[mask[0]] * self.children, None]

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        return [*[tuple(input_shape[0])] * self.children, (self.children, len(input_shape))]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "children": self.children,
            "temperature": self.temperature,
            "temperature_decay": self.temperature_decay,
            "min_temperature": self.min_temperature,
            "warmup_steps": self.warmup_steps,
            "stage": self.stage,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class BranchPath(layers.Layer):
    """What lies on chosen paths at an earlier stage.

    Shapes:
        A list of two lists: shares from the ends back to this stage, `(ends, n)`, ..., `(m,
            copies)`, and the stage's copies,
        tensors of one shape; to a list of `ends` tensors of that shape.
    """

    def call(self, inputs: Any) -> list[Any]:
        shares, copies = inputs
        path = shares[0]
        for earlier in shares[1:]:
            path = ops.matmul(path, earlier)
        return _mixtures(ops.cast(path, self.compute_dtype), copies)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else [mask[1][0]] * inputs[0][0].shape[0]

    def compute_output_shape(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        shares, copies = input_shape
        return [tuple(copies[0])] * shares[0][0]


def _mixtures(shares: Any, tensors: Sequence[Any]) -> list[Any]:
    return [sum(x * shares[i, j] for j, x in enumerate(tensors)) for i in range(shares.shape[0])]


@keras.saving.register_keras_serializable("mtl_keras")
class BlockIdentity(keras.initializers.Initializer):
    """A kernel over several streams' channels side by side: `self_weight` times the identity for
    one of them, the rest of 1 spread over the others' identities.

    Args:
        index: int. Which stream is its own.
        streams: int.
        self_weight: float. Defaults to 0.9.
    """

    def __init__(self, index: int, streams: int, self_weight: float = 0.9) -> None:
        self.index, self.streams, self.self_weight = int(index), int(streams), float(self_weight)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        width = shape[-1]
        rest = (1 - self.self_weight) / max(self.streams - 1, 1)
        blocks = [
            ops.eye(width, dtype=dtype) * (self.self_weight if j == self.index else rest)
            for j in range(self.streams)
        ]
        return ops.reshape(ops.concatenate(blocks, axis=0), shape)

    def get_config(self) -> dict[str, Any]:
        return {"index": self.index, "streams": self.streams, "self_weight": self.self_weight}


class _Given(keras.initializers.Initializer):
    """Values that a layer's own settings decide; never saved."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return ops.reshape(ops.convert_to_tensor(self.values, dtype=dtype), shape)
