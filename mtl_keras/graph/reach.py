"""Which losses reach which variables, read from the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mtl_keras.graph.walking import output_of

__all__ = ["Reach"]


class Reach:
    """The trainable variables that each task's output depends on through operations that have a
    gradient.

    Args:
        model: the model.
        tasks: names of the outputs to look at.
        stop: names of layers whose outputs are ends: what lies before them is not followed.
    """

    def __init__(self, model: Any, tasks: Sequence[str], stop: Sequence[str] = ()) -> None:
        self.tasks = list(tasks)
        variables = model.trainable_variables
        reached = _trace_and_walk(model, self.tasks, stop)
        self._tasks_of = {
            id(v): [name for name in self.tasks if id(v) in reached[name]] for v in variables
        }
        self.variables = variables

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, Any], variables: Sequence[Any]) -> Reach:
        """The same from tensors of the graph that is being traced: the outputs of a forward pass.

        Args:
            outputs: tensors, by task name.
            variables: the model's trainable variables.
        """
        reach = object.__new__(cls)
        reach.tasks, reach.variables = list(outputs), list(variables)
        reached = _walk(tf.compat.v1.get_default_graph(), outputs, variables)
        reach._tasks_of = {
            id(v): [name for name in reach.tasks if id(v) in reached[name]] for v in variables
        }
        return reach

    def tasks_of(self, variable: Any) -> list[str]:
        """Names of the tasks that reach a variable."""
        return self._tasks_of[id(variable)]

    @property
    def shared(self) -> list[Any]:
        """Variables that two or more tasks reach (all that are reached, where there is one
        task)."""
        return [v for v in self.variables if len(self.tasks_of(v)) >= min(2, len(self.tasks))]


def _trace_and_walk(model: Any, tasks: Sequence[str], stop: Sequence[str]) -> dict[str, set[int]]:
    """By task, ids of the Keras variables that its output depends on."""
    network = model
    if stop:
        ends = {f"end{i}": output_of(model, name) for i, name in enumerate(stop)}
        network = keras.Model(model.inputs, {**model.output, **ends})
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), model.input)
    function = tf.function(lambda x: network(x, training=True), autograph=False)
    graph = function.get_concrete_function(specs).graph
    ends_here = set()
    if stop:
        for name in ends:
            ends_here |= {t.ref() for t in tf.nest.flatten(graph.structured_outputs[name])}
            # An output is an identity of the tensor that the heads take.
            ends_here |= {
                t.op.inputs[0].ref()
                for t in tf.nest.flatten(graph.structured_outputs[name])
                if t.op.inputs
            }
    outputs = {task: graph.structured_outputs[task] for task in tasks}
    return _walk(graph, outputs, model.trainable_variables, ends_here)


def _walk(
    graph: Any, outputs: Mapping[str, Any], variables: Sequence[Any], ends: Collection[Any] = ()
) -> dict[str, set[int]]:
    """By task, ids of the Keras variables behind its output; references in `ends` are not
    followed."""
    # Variables come into the graph as captured handles.
    handles: dict[int, int] = {}
    for variable in variables:
        for local in tf.distribute.get_strategy().experimental_local_results(variable.value):
            handles[id(local.handle)] = id(variable)
    inside = {
        inner.ref(): handles[id(outer)] for outer, inner in graph.captures if id(outer) in handles
    }
    result = {}
    for task, output in outputs.items():
        seen, reached = set(), set()
        waiting = list(tf.nest.flatten(output))
        while waiting:
            tensor = waiting.pop()
            if tensor.ref() in seen or tensor.ref() in ends:
                continue
            seen.add(tensor.ref())
            if tensor.ref() in inside:
                reached.add(inside[tensor.ref()])
                continue
            if tensor.op.type in ("StopGradient", "PreventGradient"):
                continue
            # Gradients flow through real numbers only; resources are the variables themselves, and
            # loops keep the numbers of all turns in lists, which are variants.
            waiting += [
                t
                for t in tensor.op.inputs
                if t.dtype.is_floating or t.dtype in (tf.resource, tf.variant)
            ]
        result[task] = reached
    return result
