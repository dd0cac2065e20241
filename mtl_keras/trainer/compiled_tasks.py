"""What `compile` makes."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mtl_keras.balancing import Balancer
from mtl_keras.balancing.balancer import SharedLayer
from mtl_keras.graph import split, sublayers
from mtl_keras.graph.reach import Reach
from mtl_keras.tasks import Task, TaskMetric
from mtl_keras.trainer import strategies
from mtl_keras.trainer.shared_variables import BalancingReport, narrow
from mtl_keras.trainer.task_losses import TaskLosses

__all__ = ["CompiledTasks"]


class CompiledTasks:
    """What `compile` makes: each task's loss, weight and metrics, and the balancer. Plain, so Keras
    does not track it."""

    def __init__(
        self,
        tasks: Sequence[Task],
        losses: Mapping[str, Any],
        loss_weights: Mapping[str, keras.Variable],
        metrics: Mapping[str, list[TaskMetric]],
        weighted_metrics: Mapping[str, list[TaskMetric]],
        balancer: Balancer,
        arguments: dict[str, Any],
        model: Any,
    ) -> None:
        self.tasks = list(tasks)
        self.losses = dict(losses)
        self.loss_weights = dict(loss_weights)
        self.task_metrics = {t.name: list(metrics.get(t.name, ())) for t in tasks}
        self.weighted_metrics = {t.name: list(weighted_metrics.get(t.name, ())) for t in tasks}
        self.balancer = balancer
        self.strategy = strategies.get(balancer)
        self.arguments = arguments
        self.task_losses = TaskLosses([t.name for t in tasks])
        self._loss_by_task = self.task_losses.by_task()
        #: What looks at weights and gradients, or None; see `mtl.callbacks.BalanceMonitor`.
        self.monitor: Any = None
        #: Whether `fit` has put the balancer's own data beside the training data.
        self.zipped = False
        #: Weights of classes in training, vectors by task name; see `mtl_keras.trainer.weighting`.
        self.class_weights: dict[str, Any] = {}
        #: Whether the model is being evaluated: the logs are then those that evaluation has too.
        self.evaluating = False
        self._model = weakref.ref(model)
        self._reach: Reach | None = None
        self._parts: tuple[Any, Any, bool] | None = None
        self.total_tracker = (
            keras.metrics.Mean(name="balanced_loss") if balancer.reports_total else None
        )

    def build_metrics(self, output_shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Make the variables of metrics that otherwise make them in the first step, where replicas
        can't."""
        for task in self.tasks:
            shape = tuple(8 if size is None else size for size in output_shapes[task.name][1:])
            target, present = task.target(ops.convert_to_tensor(task.missing(2, (2, *shape))))
            for m in self.task_metrics[task.name] + self.weighted_metrics[task.name]:
                output = ops.zeros((2, *shape))
                m.metric.update_state(
                    task.metric_target(target, output),
                    output,
                    sample_weight=ops.cast(present, "float32"),
                )
                m.metric.reset_state()

    def metric_objects(self) -> list[keras.metrics.Metric]:
        metrics: list[keras.metrics.Metric] = [self.task_losses, *self._loss_by_task]
        if self.total_tracker is not None:
            metrics.append(self.total_tracker)
        for task in self.tasks:
            metrics += [
                m.metric for m in self.task_metrics[task.name] + self.weighted_metrics[task.name]
            ]
        if self.monitor is not None:
            metrics += self.monitor.metric_objects()
        return metrics

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """While this lasts, the logs are those of an evaluation.

        Keras compares the names that a step logged with those that `results` gives. Where they
        differ, it takes the step's, which on several replicas are averages over replicas.
        """
        before, self.evaluating = self.evaluating, True
        try:
            yield
        finally:
            self.evaluating = before

    def results(self) -> dict[str, Any]:
        """The logs: total, then every task's loss, then every task's metrics. NaN where no label
        was seen."""
        logs = {"loss": self.task_losses.result()}
        if self.total_tracker is not None and not self.evaluating:
            # Training only: validation does not balance, and has no such value.
            logs["balanced_loss"] = _seen(self.total_tracker.count > 0, self.total_tracker.result())
        means, seen = ops.unstack(self.task_losses.means()), ops.unstack(self.task_losses.is_seen())
        logs.update({f"{t.name}_loss": mean for t, mean in zip(self.tasks, means, strict=True)})
        for task, is_seen in zip(self.tasks, seen, strict=True):
            name = task.name
            for prefix, metrics in (
                ("", self.task_metrics[name]),
                ("weighted_", self.weighted_metrics[name]),
            ):
                for m in metrics:
                    # A plain metric of the same name keeps it; the weighted one is told apart.
                    key = f"{name}_{m.name}"
                    key = f"{name}_{prefix}{m.name}" if key in logs else key
                    logs[key] = _seen(is_seen, m.metric.result())
        if self.monitor is not None and not self.evaluating:
            logs.update(
                {
                    name: _seen(mean.count > 0, mean.result())
                    for name, mean in self.monitor.means.items()
                }
            )
        return logs

    def directions(self) -> dict[str, str]:
        directions = {"loss": "min", **{f"{t.name}_loss": "min" for t in self.tasks}}
        for name, metrics in self.task_metrics.items():
            directions.update(
                {f"{name}_{m.name}": "max" if m.higher_is_better else "min" for m in metrics}
            )
        for name, metrics in self.weighted_metrics.items():
            for m in metrics:
                directions.setdefault(f"{name}_{m.name}", "max" if m.higher_is_better else "min")
        return directions

    # ------------------------------------------------------------------ what reaches what
    @property
    def model(self) -> Any:
        return self._model()

    @property
    def reach(self) -> Reach:
        """Which tasks' losses reach which variables; read from the graph when it is first asked
        for."""
        if not self._is_reach_known():
            self._reach = Reach(self.model, [task.name for task in self.tasks])
        return self._reach  # type: ignore[return-value]

    def _is_reach_known(self) -> bool:
        known = self._reach
        return known is not None and {id(v) for v in known.variables} == {
            id(v) for v in self.model.trainable_variables
        }

    def know_reach(self, outputs: Mapping[str, Any]) -> None:
        """Read the reach from a forward pass that is being traced, which saves tracing the model
        once more."""
        if not self._is_reach_known() and not tf.executing_eagerly():
            outputs = {task.name: outputs[task.name] for task in self.tasks}
            self._reach = Reach.of_outputs(outputs, self.model.trainable_variables)

    @property
    def narrowed(self) -> bool:
        """Whether fewer than all shared variables are looked at."""
        return self.arguments.get("shared") is not None

    @property
    def sources(self) -> list[Any]:
        """The shared variables whose gradients the balancer looks at."""
        if self.balancer.gradients == "layer":
            return self._layer_variables()
        return narrow(self.reach.shared, self.arguments.get("shared"))

    def is_head(self, variable: Any) -> bool:
        """Whether only one task's loss reaches a variable."""
        return len(self.tasks) > 1 and len(self.reach.tasks_of(variable)) < 2

    def _layer_variables(self) -> list[Any]:
        """Variables of the one layer that the balancer looks at."""
        shared = {id(v) for v in self.reach.shared}
        layers = []
        for layer in sublayers(self.model, include_self=False):
            variables = tuple(v for v in layer.trainable_variables if id(v) in shared)
            if not variables or hasattr(layer, "layers"):
                continue
            tasks = max(len(self.reach.tasks_of(v)) for v in layer.trainable_variables)
            layers.append(SharedLayer(layer.name, tasks == len(self.tasks), variables))
        layer = self.balancer.choose_layer(layers)
        return [] if layer is None else list(layer.variables)

    # ------------------------------------------------------------------ the representation
    def _split(self) -> tuple[Any, Any, bool]:
        """The network in two: what makes the tensors that heads share, and the heads."""
        if self._parts is None:
            self._parts = split(self.model, self.model.representation)
        return self._parts

    @property
    def trunk(self) -> Any:
        return self._split()[0]

    @property
    def heads(self) -> Any:
        return self._split()[1]

    def heads_input(self, representation: Mapping[str, Any], x: Any) -> Any:
        """What the heads' network takes: the shared tensors, and the inputs where heads look at
        them too."""
        tensors = [representation[name] for name in self.model.representation]
        if self._split()[2]:
            flat = x if isinstance(x, Mapping) else {self.model.inputs[0].name: x}
            tensors += [flat[t.name] for t in self.model.inputs]
        return tensors

    def sides(self, variables: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Variables before the shared tensors, and those behind them."""
        before = {id(v) for v in self.trunk.trainable_variables}
        behind = {id(v) for v in self.heads.trainable_variables}
        return [v for v in variables if id(v) in before], [v for v in variables if id(v) in behind]

    # ------------------------------------------------------------------ checks and report
    def report(self) -> BalancingReport:
        uses_gradients = self.strategy.uses_gradients
        looked_at = {id(v) for v in (self.sources if uses_gradients else self.reach.shared)}
        rows = []
        for variable in self.reach.variables:
            tasks = self.reach.tasks_of(variable)
            role = (
                "head"
                if self.is_head(variable)
                else "shared"
                if id(variable) in looked_at
                else "not looked at"
            )
            if not tasks:
                role = "not reached"
            rows.append((variable.path, tuple(variable.shape), tuple(tasks), role))
        basis = f"gradients of the {self.balancer.gradients}" if uses_gradients else "losses only"
        return BalancingReport(
            self.balancer.name, basis, tuple(rows), tuple(self.model.representation)
        )


def _seen(is_seen: Any, value: Any) -> Any:
    return ops.where(is_seen, ops.cast(value, "float32"), float("nan"))
