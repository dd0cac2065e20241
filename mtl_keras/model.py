"""The model: a functional Keras model that knows its tasks and its balancer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras import balancing, trainer
from mtl_keras.balancing.registry import warn_unregistered
from mtl_keras.data import labels
from mtl_keras.data.epochs import EpochFollower
from mtl_keras.graph import layer_of
from mtl_keras.graph.sharing import SharingReport, sharing_report
from mtl_keras.runtime import encoders
from mtl_keras.runtime.names import check_input_name, check_task_names, unknown_name
from mtl_keras.tasks import Task, TaskOutput
from mtl_keras.trainer import arguments, class_counts, fitting, weighting
from mtl_keras.trainer.augmentation_layers import check_augmentation_layers
from mtl_keras.trainer.checks import check_balancer
from mtl_keras.trainer.label_scale import check_scales, fit_scales, warn_of_label_scale
from mtl_keras.trainer.shared_variables import BalancingReport
from mtl_keras.trainer.step_functions import StepPerRanks
from mtl_keras.trainer.support import check_strategy, check_tensorflow

__all__ = ["MultiTaskModel"]


@keras.saving.register_keras_serializable("mtl_keras")
class MultiTaskModel(keras.Model):
    """A functional `keras.Model` whose outputs are tasks: a flat dict, each key the task's and its
    output layer's name.

    Builders make one; `MultiTaskModel(inputs, outputs)` makes one of any functional graph whose
    heads end in `mtl.tasks.TaskOutput`. Everything Keras does with a functional model works:
    callbacks, `tf.data`, strategies, mixed precision, cloning, saving, and
    `keras.saving.load_model` in safe mode.

    Args:
        inputs: symbolic input tensor, or a dict of them.
        outputs: dict of task name to the tensor of that task's `TaskOutput`.
        encoder: optional object of `mtl.data` (tokenizer, table or image encoder) that turns what a
            person has into what the network takes; it is saved with the model.
        representation: list of str. Names of the layers whose outputs the heads share, where the
            builder knows them.
        name: str.

    Raises:
        ValueError: outputs that are no dict, nested, named otherwise than their layers, or not made
            by `TaskOutput`; an input whose name some format would change.

    Examples:
        >>> model = mtl.builders.hard_sharing((32, 32, 3), [
        ...     mtl.tasks.Classification("digit", num_classes=10, loss_weight=0.7),
        ...     mtl.tasks.BoundingBox("box", loss_weight=0.3)])
        >>> model.compile("adam", balancer="uncertainty")
        >>> model.fit(images, {"digit": digits, "box": boxes})
    """

    # Keras rebuilds and clones a subclass as functional only where its signature is (*args,
    # **kwargs).
    def __init__(
        self, *args: Any, encoder: Any = None, representation: Any = None, **kwargs: Any
    ) -> None:
        outputs: Any = (
            kwargs["outputs"] if "outputs" in kwargs else (args[1] if len(args) > 1 else None)
        )
        tasks = _tasks_of(outputs)
        inputs = kwargs["inputs"] if "inputs" in kwargs else args[0]
        for tensor in keras.tree.flatten(inputs):
            if tensor.name in outputs:
                raise ValueError(
                    f"An input and a task are both named '{tensor.name}': rename one of them."
                )
        super().__init__(*args, **kwargs)
        for tensor in self.inputs:
            check_input_name(tensor.name)
        # In a tuple inside a plain object: Keras would wrap bare lists and dicts, and count what is
        # in them as layers.
        self._properties = _Properties(tuple(tasks), encoder, tuple(representation or ()))
        self._compiled: trainer.CompiledTasks | None = None

    @classmethod
    def from_keras(
        cls,
        model: keras.Model,
        tasks: Any,
        *,
        activated: Sequence[str] | None = None,
        representation: Sequence[str] = (),
        encoder: Any = None,
        name: str | None = None,
    ) -> MultiTaskModel:
        """Make a multi-task model of an ordinary functional model with named outputs.

        The new model is a copy with the same weights; `model` stays as it is. Its answers are the
        same: an output that ends in the task's softmax or sigmoid passes as it is, and logits get
            the task's activation. A layer with the name of a
        task is called `<name>_head` in the copy, because that name belongs to the task's output.

        Args:
            model: functional model, or a built `Sequential`. Outputs go by the keys of a dict, or
                by their layers' names.
            tasks: list of tasks named as the outputs, or a dict of output name to task. Outputs
                without a task are left out. A task for a model's only output may have any name.
            activated: list of str. Names of the tasks whose outputs are the answers already. None,
                the default, looks for softmax and sigmoid, also behind averages and in nested
                models.
            representation: list of str. Names of the layers whose outputs the heads share, for
                balancing at the representation and for exporting features.
            encoder, name: as in `MultiTaskModel`; the name defaults to the model's.

        Raises:
            ValueError: no functional model, a task without an output, an output whose shape or
                activation is not the task's.

        Examples:
            >>> x = keras.Input((32, 32, 3))
            >>> h = keras.applications.MobileNetV2(include_top=False, weights=None, pooling="avg", input_shape=(32, 32, 3))(x)
            >>> plain = keras.Model(x, {
            ...     "animal": keras.layers.Dense(10, activation="softmax", name="animal")(h),
            ...     "age": keras.layers.Dense(1, name="age")(h)})
            >>> model = mtl.MultiTaskModel.from_keras(
            ...     plain, [mtl.tasks.Classification("animal", num_classes=10), mtl.tasks.Regression("age")])
        """
        from mtl_keras.builders.from_keras import task_graph

        inputs, outputs = task_graph(model, tasks, activated)
        return cls(
            inputs,
            outputs,
            encoder=encoder,
            representation=list(representation),
            name=name or model.name,
        )

    # ------------------------------------------------------------------ tasks
    @property
    def tasks(self) -> list[Task]:
        """The tasks, in the order of the outputs."""
        return list(self._properties.tasks)

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self._properties.tasks]

    @property
    def encoder(self) -> Any:
        """What turns raw input (text, table rows, picture files) into the network's input, or
        None."""
        return self._properties.encoder

    @property
    def representation(self) -> list[str]:
        """Names of the layers whose outputs the heads share."""
        return list(self._properties.representation)

    @property
    def tie(self) -> Any:
        """The penalty that ties layers of this model, or None."""
        for task in self.task_names:
            tie = self.get_layer(task).tie
            if tie is not None:
                return tie
        return None

    @property
    def losses(self) -> list[Any]:
        """Regularization, what layers added, and the penalty that ties layers."""
        inherited = super().losses
        # Keras asks while the model is being made.
        tie = self.tie if getattr(self, "_properties", None) is not None else None
        return inherited if tie is None or not tie.penalty_weight else [*inherited, tie(self)]

    def task(self, name: str) -> Task:
        """The task of this name."""
        for task in self._properties.tasks:
            if task.name == name:
                return task
        raise ValueError(unknown_name("task", name, self.task_names))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> dict[str, Any]:
        # Data sets name every input, also the only one.
        only = self.input
        if isinstance(inputs, Mapping) and isinstance(only, keras.KerasTensor):
            inputs = inputs.get(only.name, inputs) if len(inputs) == 1 else inputs
        # Not left to the layers: one that is given `training=True` in the graph (preprocessing
        # layers are, in Keras 3.15) would put all behind it into training, and a call without
        # saying would move the statistics of normalization.
        return super().call(inputs, training=bool(training), mask=mask)

    # ------------------------------------------------------------------ compile
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Mapping[str, Any] | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        balancer: Any = None,
        shared: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure training. Losses, metrics and loss weights come from the tasks; every argument
        overrides a part.

        Args:
            optimizer: as in Keras.
            loss: dict of task name to loss; None for a task switches it off; tasks that are not
                named keep their own. One loss for all tasks is taken too.
            loss_weights: dict of task name to a number >= 0 or a `keras.Variable`. They are live:
                assign to `model.loss_weights[name]` (or to the variable given) and the next step
                uses the new value.
            metrics, weighted_metrics: dict of task name to a metric or a list; tasks that are not
                named keep their own metrics. Metrics see only rows with a label; `weighted_metrics`
                see sample weights too.
            balancer: name, `mtl.balancing.Balancer`, or a list of a loss weighting and a second
                method. Defaults to "equal", the plain sum of weighted losses.
            shared: regular expression, or a list of them. Narrows the shared variables whose
                gradients the balancer looks at to those whose path matches; its weights still hold
                for all (methods that change the gradients themselves leave the others as the plain
                sum). `balancing_report()` shows what they are.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, `auto_scale_loss`, as in
                Keras.

        Raises:
            ValueError: a task or balancer nobody knows, lists (tasks go by name), a bad loss
                weight, a layer such as `RandomFlip` whose moves the labels cannot follow.
            NotImplementedError: Keras on another backend than TensorFlow, or a strategy over
                several machines.
        """
        check_tensorflow("compile")
        check_strategy(self.distribute_strategy)
        with self.distribute_strategy.scope():
            losses = arguments.losses_by_task(self.tasks, loss)
            weights = arguments.loss_weights_by_task(self.tasks, loss_weights)
            metric_lists = {t.name: t.new_metrics() for t in self.tasks}
            metric_lists.update(arguments.metrics_by_task(self.tasks, "metrics", metrics))
            weighted = arguments.metrics_by_task(self.tasks, "weighted_metrics", weighted_metrics)
            balancer = balancing.get(balancer)
            # Refuses a strategy that nobody has registered, before anything is changed.
            trainer.strategies.get(balancer)
            active = [task for task in self.tasks if losses[task.name] is not None]
            if not active:
                raise ValueError(
                    "Every task's loss is None: nothing is left to train. Give at least one task "
                    "a loss."
                )
            functions = {
                name: keras.losses.get(fn) for name, fn in losses.items() if fn is not None
            }
            warn_unregistered(balancer)
            balancer.build(active, functions)
            super().compile(optimizer=optimizer, **kwargs)
            self._compiled = trainer.CompiledTasks(
                tasks=active,
                losses=functions,
                loss_weights=weights,
                metrics=metric_lists,
                weighted_metrics=weighted,
                balancer=balancer,
                arguments={
                    "loss": loss,
                    "metrics": metrics,
                    "weighted_metrics": weighted_metrics,
                    "run_eagerly": kwargs.get("run_eagerly", False),
                    "steps_per_execution": kwargs.get("steps_per_execution", 1),
                    "jit_compile": kwargs.get("jit_compile", "auto"),
                    "shared": shared if shared is None or isinstance(shared, str) else list(shared),
                },
                model=self,
            )
            try:
                check_balancer(self, self._compiled, loading=self._properties.loading)
                check_augmentation_layers(self, active)
            except ValueError:
                # What was refused must not be trained with, nor saved.
                self._compiled, self.compiled = None, False
                raise
            self._compiled.strategy.build(self._compiled)
            self._compiled.build_metrics(
                {name: tensor.shape for name, tensor in self.output.items()}
            )

    @property
    def compiled_tasks(self) -> trainer.CompiledTasks:
        """What `compile` made. Raises where the model is not compiled."""
        if self._compiled is None:
            check_tensorflow("compile")
            raise ValueError("The model is not compiled. Call `model.compile(...)` first.")
        return self._compiled

    @property
    def loss_weights(self) -> dict[str, keras.Variable]:
        """The live loss weights by task name."""
        return self.compiled_tasks.loss_weights

    @property
    def balancer(self) -> balancing.Balancer | None:
        """The balancer of the compiled model, else None."""
        return None if self._compiled is None else self._compiled.balancer

    @property
    def metric_directions(self) -> dict[str, str]:
        """ "max" or "min" for every logged metric, by the name under which it is logged."""
        return self.compiled_tasks.directions()

    # ------------------------------------------------------------------ fit, evaluate, predict
    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train, as `keras.Model.fit` does. Labels are a dict by task name; they are checked before
        the first step.

        A row's label may be missing (NaN for numbers, -1 for classes, or sample weight 0). Labels
        that lack a whole task go through `mtl.data.complete`.

        Args:
            x, y: as in Keras: arrays, or a `tf.data.Dataset`, `PyDataset` or generator of `(x, y)`
                or `(x, y, sample_weight)`.
            *args, **kwargs: every argument of `keras.Model.fit`. Two of them also go by task, and
                may be given together:

                - `sample_weight`: a dict of task name to weights; rows of tasks that are not named
                  weigh 1. The third part of `validation_data` takes the same.
                - `class_weight`: a dict of task name to `{class: weight}`, for tasks whose labels
                  are classes (of a row, a pixel or a token); classes that are not named weigh 1.
                  For `MultiLabel` to `{label: weight of yes}` or `{label: (no, yes)}`. Names work
                  as well as numbers. It holds for all kinds of data, and for training only;
                  `mtl.data.class_weights` measures it.

        Raises:
            ValueError: labels of unknown or missing tasks, of a wrong shape or dtype, or out of
                range; weights of unknown tasks or classes; a loss that is not finite, by task and
                step.

        Examples:
            >>> model.fit(images, {"digit": digits, "box": boxes}, class_weight={"digit": {0: 1.0, 1: 5.0}})
        """
        compiled = self.compiled_tasks
        kwargs = fitting.by_name(fitting.FIT_ARGUMENTS, args, kwargs)
        if hasattr(x, "element_spec"):
            # Keras warns of its own default, `shuffle=True`, where it has no effect.
            kwargs.setdefault("shuffle", False)
        follower = EpochFollower(x)
        looked_at = labels.check_data(x, y, kwargs.get("sample_weight"), self, "training")
        kwargs["sample_weight"] = weighting.complete_sample_weight(
            kwargs.get("sample_weight"), y, self, "training"
        )
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
            x_val, y_val, weight = (*validation, None)[:3]
            labels.check_data(x_val, y_val, weight, self, "validation")
            weight = weighting.complete_sample_weight(weight, y_val, self, "validation")
            kwargs["validation_data"] = (x_val, y_val) if weight is None else (x_val, y_val, weight)
        elif validation is not None:
            labels.check_data(validation, None, None, self, "validation")
        self._weigh_classes(kwargs.pop("class_weight", None))
        fit_scales(self, x, y, kwargs)
        warn_of_label_scale(self, *looked_at)
        self._build_optimizer()
        class_counts.count_for_fit(self, x, y, kwargs)
        with fitting.readable_errors(compiled):
            x, y, kwargs = fitting.prepare_fit_data(self, x, y, kwargs, follower)
            try:
                return super().fit(x, y, **kwargs)
            finally:
                compiled.zipped = False
                if compiled.monitor is not None:
                    compiled.monitor = None
                    self.train_function = None

    def _weigh_classes(self, class_weight: Any) -> None:
        """Make the training step weigh classes so; a step that was traced with other weights is
        traced anew."""
        weights = weighting.class_weights_by_task(class_weight, self)
        before = self.compiled_tasks.class_weights
        self.compiled_tasks.class_weights = weights
        if before.keys() != weights.keys() or any(
            (before[name] != weights[name]).any() for name in weights
        ):
            self.train_function = None

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """As in Keras; weights go by task as in `fit`, and errors of a loss name its task.

        Raises:
            ValueError: a task whose class weights come from counts, and no labels were counted
                (`count_classes`).
        """
        class_counts.check_counted(self)
        check_scales(self)
        self._weigh_classes(class_weight)
        sample_weight = weighting.complete_sample_weight(sample_weight, y, self, "training")
        self._build_optimizer()
        with fitting.readable_errors(self.compiled_tasks):
            return super().train_on_batch(
                x, y, sample_weight=sample_weight, return_dict=return_dict
            )

    def count_classes(self, data: Any) -> dict[str, np.ndarray]:
        """Count the classes of labels, and set the weights of tasks with `class_weights="balanced"`
        or `"effective"`.

        `fit` does so once, with its own labels, where no weights are there yet. Call this for other
        labels, or for training without `fit`. The weights are saved with the model.

        Args:
            data: dict of task name to labels, or a batched data set of `(x, y)` or
                `(x, y, sample_weight)`. Rows of weight 0 are left out.

        Returns:
            Counts by task name, one per class (for `MultiLabel` no and yes per label).

        Raises:
            ValueError: no task counts classes, an unknown task, or no label is there.

        Examples:
            >>> model.count_classes({"kind": kinds})
        """
        tasks = [task for task in self.tasks if getattr(task, "counts_classes", False)]
        if isinstance(data, Mapping):
            arguments.check_task_keys(self.tasks, "data", data)
            tasks = [task for task in tasks if task.name in data]
        if not tasks:
            raise ValueError(
                "No task with labels counts classes: class_weights='balanced' or 'effective' does."
            )
        is_labels = isinstance(data, Mapping)
        return class_counts.count_classes(
            self, tasks, None if is_labels else data, data if is_labels else None
        )

    def _build_optimizer(self) -> None:
        """Make the optimizer's variables before the step is traced: a trace that makes variables is
        made twice."""
        variables = self.trainable_variables
        if variables and self.compiled and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(variables)

    def balancing_report(self) -> BalancingReport:
        """Print which tasks reach which variables, and which of them the balancer looks at; return
        the same as an object.

        Raises:
            ValueError: the model is not compiled.
        """
        report = self.compiled_tasks.report()
        print(report)
        return report

    def summary_sharing(self, path: Any = None) -> SharingReport:
        """Print which variables, and how many multiply-adds, are used by which tasks, and what
        separate networks would need; return the same as an object.

        Args:
            path: where to draw it as a PNG, or None.

        Examples:
            >>> report = model.summary_sharing("sharing.png")
        """
        check_tensorflow("summary_sharing")
        report = sharing_report(self)
        print(report)
        if path is not None:
            report.draw(path)
        return report

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, return_dict: bool = True, **kwargs: Any
    ) -> Any:
        """Losses and metrics on data: a flat dict, `loss`, `<task>_loss`, `<task>_<metric>`.

        Unlike Keras's, which returns a list unless told otherwise; `return_dict=False` gives that
        list. A task of which no label was seen reports NaN.
        """
        kwargs = fitting.by_name(fitting.EVALUATE_ARGUMENTS, args, kwargs)
        compiled = self.compiled_tasks
        if not kwargs.get("_use_cached_eval_dataset", False):
            weight = kwargs.get("sample_weight")
            labels.check_data(x, y, weight, self, "evaluation")
            kwargs["sample_weight"] = weighting.complete_sample_weight(
                weight, y, self, "evaluation"
            )
        with compiled.evaluation():
            return super().evaluate(x, y, return_dict=return_dict, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """As in Keras; sample weights go by task as in `evaluate`."""
        sample_weight = weighting.complete_sample_weight(sample_weight, y, self, "evaluation")
        with self.compiled_tasks.evaluation():
            return super().test_on_batch(x, y, sample_weight=sample_weight, return_dict=return_dict)

    def make_train_function(self, force: bool = False) -> Any:
        """As in Keras; the step is traced for each set of ranks, so that labels may come as
        `(rows,)` or `(rows, 1)`."""
        if force or self.train_function is None:
            self.train_function = StepPerRanks(self._make_train_step)  # type: ignore[assignment]
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """As in Keras; traced as the training step is."""
        if force or self.test_function is None:
            self.test_function: Any = StepPerRanks(self._make_test_step)
        return self.test_function

    def _make_train_step(self) -> Any:
        """A training step of Keras's that has traced nothing yet."""
        current, self.train_function = self.train_function, None
        super().make_train_function()
        step, self.train_function = self.train_function, current
        return step

    def _make_test_step(self) -> Any:
        current, self.test_function = self.test_function, None
        super().make_test_function()
        step, self.test_function = self.test_function, current
        return step

    def train_step(self, data: Any) -> dict[str, Any]:
        return trainer.train_step(self, data)

    def test_step(self, data: Any) -> dict[str, Any]:
        return trainer.test_step(self, data)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        inherited = super().metrics
        if self._compiled is None:
            return inherited
        # Keras's own tracker of the total, which averages over batches, gives way to the tasks'.
        return [
            *self._compiled.metric_objects(),
            *(m for m in inherited if m is not self._loss_tracker),
        ]

    def get_metrics_result(self) -> dict[str, Any]:
        return self.compiled_tasks.results()

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Turn raw outputs, as `predict` gives them, into what a person reads: a list a task, one
        entry a row.

        Raises:
            ValueError: an output of a task that the model does not have.
        """
        arguments.check_task_keys(self.tasks, "outputs", outputs)
        return {name: self.task(name).decode(np.asarray(value)) for name, value in outputs.items()}

    # ------------------------------------------------------------------ config and state
    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.encoder is not None:
            config["encoder"] = keras.saving.serialize_keras_object(self.encoder)
        if self.representation:
            config["representation"] = self.representation
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MultiTaskModel:
        config = dict(config)
        if isinstance(config.get("encoder"), dict):
            config["encoder"] = keras.saving.deserialize_keras_object(
                config["encoder"], custom_objects
            )
        return super().from_config(config, custom_objects)

    def get_compile_config(self) -> dict[str, Any] | None:
        if self._compiled is None:
            return None
        config = {
            **self._compiled.arguments,
            "optimizer": self.optimizer,
            "balancer": self._compiled.balancer,
            "loss_weights": {name: float(w.numpy()) for name, w in self.loss_weights.items()},
        }
        return keras.saving.serialize_keras_object(config)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self._properties.loading = True
        try:
            self.compile(**keras.saving.deserialize_keras_object(config))
        except NotImplementedError as error:
            # Where it can't be trained it can still be used.
            warnings.warn(f"The model was loaded, but not compiled. {error}", stacklevel=2)
            return
        finally:
            self._properties.loading = False
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self._compiled is not None:
            self._compiled.balancer.save_state(store, "balancer.")

    def load_own_variables(self, store: Any) -> None:
        values = {key: store[key] for key in store.keys() if not key.startswith("balancer.")}  # noqa: SIM118
        super().load_own_variables(values)
        if self._compiled is not None:
            self._compiled.balancer.load_state(store, "balancer.")


# The encoders themselves know nothing of Keras, so that they run where it is not installed.
for _encoder in tuple(encoders.ENCODERS.values()):
    keras.saving.register_keras_serializable("mtl_keras")(_encoder)


class _Properties:
    """What a model knows apart from its graph."""

    def __init__(
        self, tasks: tuple[Task, ...], encoder: Any, representation: tuple[str, ...]
    ) -> None:
        self.tasks, self.encoder, self.representation = tasks, encoder, representation
        self.loading = False


def _tasks_of(outputs: Any) -> list[Task]:
    """The tasks that a dict of outputs carries; refuses outputs that are no tasks."""
    if not isinstance(outputs, Mapping):
        raise ValueError(
            "The outputs of a multi-task model are a dict of task name to tensor, got "
            f"{type(outputs).__name__}: tasks go by name, never by position."
        )
    tasks = []
    for name, tensor in outputs.items():
        layer = layer_of(tensor)
        if not isinstance(layer, TaskOutput):
            kind = type(layer).__name__ if layer is not None else type(tensor).__name__
            raise ValueError(
                f"Output '{name}' must come from `mtl.tasks.TaskOutput`, which names it and "
                f"carries its task; it comes "
                f"from {kind}. For example: outputs['{name}'] = mtl.tasks.TaskOutput(task)(x)."
            )
        if layer.name != name:
            raise ValueError(
                f"Output '{name}' is made by the output layer of task '{layer.name}'. Key and "
                f"task must agree."
            )
        tasks.append(layer.task)
    check_task_names(task.name for task in tasks)
    return tasks
