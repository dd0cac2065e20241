"""What tasks share: variables and multiply-adds, counted on the graph."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mtl_keras.graph.reach import Reach

__all__ = ["SharingReport", "sharing_report"]


@dataclass(frozen=True)
class SharingReport:
    """Which tasks use what of a model, at inference on one row.

    Attributes:
        tasks: the tasks' names.
        variables: `(path, shape, tasks that its value reaches)` for every trainable variable.
        parameters, multiply_adds: dict of tuple of task names to how many only these tasks use
            together.
        separate_parameters, separate_multiply_adds: dict of task name to what a separate network
            would need: the one that `hard_sharing` builds for this task alone on the same backbone.
            For models that no builder with one backbone made, all that the task uses here.
    """

    tasks: tuple[str, ...]
    variables: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...]
    parameters: dict[tuple[str, ...], int]
    multiply_adds: dict[tuple[str, ...], int]
    separate_parameters: dict[str, int]
    separate_multiply_adds: dict[str, int]

    def separate(self, counts: Mapping[tuple[str, ...], int]) -> dict[str, int]:
        """What a separate network for each task would need.

        Args:
            counts: `report.parameters` or `report.multiply_adds`.

        Raises:
            ValueError: other counts.
        """
        for known, separate in (
            (self.parameters, self.separate_parameters),
            (self.multiply_adds, self.separate_multiply_adds),
        ):
            if counts is known:
                return dict(separate)
        raise ValueError("`counts` should be this report's `parameters` or `multiply_adds`.")

    def rows(self) -> list[tuple[str, ...]]:
        """The table's rows: users, parameters, multiply-adds, then totals against separate
        networks."""
        users = sorted(
            {*self.parameters, *self.multiply_adds},
            key=lambda u: (-len(u), [self.tasks.index(t) for t in u]),
        )
        rows: list[tuple[str, ...]] = [
            (
                ", ".join(u),
                f"{self.parameters.get(u, 0):,}",
                f"{self.multiply_adds.get(u, 0):,}",
                _kind(u, self.tasks),
            )
            for u in users
            if u
        ]
        totals = [sum(counts.values()) for counts in (self.parameters, self.multiply_adds)]
        alone = [
            sum(self.separate(counts).values()) for counts in (self.parameters, self.multiply_adds)
        ]
        rows.append(("together", *(f"{n:,}" for n in totals), ""))
        rows.append(("separate networks", *(f"{n:,}" for n in alone), ""))
        rows.append(
            (
                "together / separate",
                *(f"{w / a:.3f}" if a else "-" for w, a in zip(totals, alone, strict=True)),
                "",
            )
        )
        return rows

    def __str__(self) -> str:
        from mtl_keras.runtime.tables import format_table

        variables = [
            ("x".join(map(str, shape)) or "scalar", ", ".join(users), path)
            for path, shape, users in self.variables
        ]
        return format_table(
            "variables and who uses them", ("shape", "tasks", "variable"), variables
        ) + format_table(
            "a row's cost", ("used by", "parameters", "multiply-adds", "kind"), self.rows()
        )

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG: for each task what it shares, and with whom, beside a network of its own."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 1.8 + 0.5 * len(self.tasks)), layout="constrained")
        for axis, (title, counts) in zip(
            figure.subplots(1, 2, sharey=True),
            (("parameters", self.parameters), ("multiply-adds a row", self.multiply_adds)),
            strict=True,
        ):
            left = dict.fromkeys(self.tasks, 0)
            ordered = sorted((u for u in counts if u), key=lambda u: (-len(u), u))
            for i, users in enumerate(ordered):
                tasks = [t for t in self.tasks if t in users]
                axis.barh(
                    tasks,
                    [counts[users]] * len(tasks),
                    left=[left[t] for t in tasks],
                    color=f"C{i % 10}",
                    label=_kind(users, self.tasks)
                    + (f": {', '.join(users)}" if len(users) < len(self.tasks) else ""),
                )
                for task in tasks:
                    left[task] += counts[users]
            total, alone = sum(counts.values()), sum(self.separate(counts).values())
            axis.set_title(f"{title}: {total:,}, separate {alone:,}", fontsize=9)
            axis.tick_params(labelsize=8)
            axis.legend(fontsize=6)
        figure.savefig(path, dpi=100)


def _kind(users: tuple[str, ...], tasks: Iterable[str]) -> str:
    if len(users) == 1:
        return "own"
    return "shared by all" if set(users) == set(tasks) else "shared"


def sharing_report(model: Any) -> SharingReport:
    """Count a model's variables and multiply-adds by the tasks that use them.

    What separate networks need is counted on the networks that `hard_sharing` would build for one
    task each.

    Multiply-adds are those of matrix products and convolutions at inference, for one row; loops
    count every turn (once where the number of turns is not known before)."""
    tasks = tuple(model.task_names)
    variables, parameters, multiply_adds = _count(model, tasks)
    network = _separate_networks(model)
    counts = (parameters, multiply_adds) if network is None else _count(network, tasks)[1:]
    separate = [
        {task: sum(n for users, n in c.items() if task in users) for task in tasks} for c in counts
    ]
    return SharingReport(tasks, tuple(variables), parameters, multiply_adds, *separate)


def _separate_networks(model: Any) -> Any:
    """The model of separate networks that the builder left with the first output, or None."""
    for task in model.task_names:
        separate = model.get_layer(task).separate
        if isinstance(separate, str):
            return keras.saving.deserialize_keras_object(json.loads(separate))
        if separate is not None:
            return separate.network()
    return None


def _count(model: Any, tasks: tuple[str, ...]) -> tuple[list[Any], dict[Any, int], dict[Any, int]]:
    """A row for each variable, and parameters and multiply-adds by the tasks that use them."""
    reach = Reach(model, tasks)
    variables: list[Any] = []
    parameters: dict[tuple[str, ...], int] = {}
    for variable in reach.variables:
        users = tuple(reach.tasks_of(variable))
        variables.append((variable.path, tuple(variable.shape), users))
        parameters[users] = parameters.get(users, 0) + math.prod(variable.shape)
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec((1, *x.shape[1:]), x.dtype), model.input)
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    graph = function.get_concrete_function(specs).graph
    users_of: dict[str, list[str]] = {}
    for task in tasks:
        for op in _behind(graph.structured_outputs[task]):
            users_of.setdefault(op.name, []).append(task)
    multiply_adds: dict[tuple[str, ...], int] = {}
    for op in graph.get_operations():
        users = tuple(users_of.get(op.name, ()))
        count = _multiply_adds(op, graph)
        if users and count:
            multiply_adds[users] = multiply_adds.get(users, 0) + count
    return variables, parameters, multiply_adds


def _behind(outputs: Any) -> list[Any]:
    """The operations that tensors depend on."""
    seen: dict[str, Any] = {}
    waiting = [tensor.op for tensor in tf.nest.flatten(outputs)]
    while waiting:
        op = waiting.pop()
        if op.name not in seen:
            seen[op.name] = op
            waiting += [tensor.op for tensor in op.inputs]
    return list(seen.values())


def _multiply_adds(op: Any, graph: Any) -> int:
    kind = op.type
    if kind in ("While", "StatelessWhile"):
        return _turns(op) * _inside(graph._get_function(op.get_attr("body").name))
    if kind in ("PartitionedCall", "StatefulPartitionedCall"):
        return _inside(graph._get_function(op.get_attr("f").name))
    if kind not in (
        "MatMul",
        "BatchMatMul",
        "BatchMatMulV2",
        "Conv2D",
        "DepthwiseConv2dNative",
        "Conv3D",
        "Einsum",
    ):
        return 0
    out = [size or 1 for size in op.outputs[0].shape]
    first, second = ([size or 1 for size in tensor.shape] for tensor in op.inputs[:2])
    if kind == "MatMul":
        return math.prod(out) * first[0 if op.get_attr("transpose_a") else 1]
    if kind.startswith("BatchMatMul"):
        return math.prod(out) * first[-2 if op.get_attr("adj_x") else -1]
    if kind == "DepthwiseConv2dNative":
        return math.prod(out) * second[0] * second[1]
    if kind.startswith("Conv"):
        return math.prod(out) * math.prod(second[:-1])
    equation = op.get_attr("equation").decode()
    left, _, _right = equation.partition("->")
    sizes: dict[str, int] = {}
    for letters, shape in zip(left.split(","), (first, second), strict=False):
        sizes.update(
            zip(letters.replace(".", ""), shape[-len(letters.replace(".", "")) :], strict=False)
        )
    return math.prod(sizes.values())


def _turns(op: Any) -> int:
    """How often a loop runs: its limit where that is a constant, else the length of the lists it
    reads."""
    limit = tf.get_static_value(op.inputs[1])
    if limit is not None and limit > 0:
        return int(limit)
    lists = [t.op.inputs[0].shape[0] for t in op.inputs if t.op.type == "TensorListFromTensor"]
    return max((size for size in lists if size is not None), default=1)


def _inside(function: Any) -> int:
    graph = function.graph if hasattr(function, "graph") else function
    return sum(_multiply_adds(op, graph) for op in graph.get_operations())
