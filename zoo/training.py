"""Training of recipes: the multi-task network, and its single-task twins on the same data, backbone
and budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras import analysis
from mtl_keras.zoo.base import Prepared, Recipe

__all__ = ["evidence", "fit", "judged", "summarize"]


def fit(
    recipe: Recipe,
    prepared: Prepared,
    seed: int,
    tasks: Sequence[str] | None = None,
    epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    balancer: Any = None,
) -> Any:
    """Train one network of a recipe from scratch.

    Args:
        recipe: the recipe to train.
        prepared: its data.
        seed: int. Seed of the weights, the dropout and the order of the data.
        tasks: names of the tasks; None is all of them.
        epochs: int. None takes the recipe's.
        callbacks: Keras callbacks.
        balancer: as in `MultiTaskModel.compile`.

    Returns:
        The trained `MultiTaskModel`.
    """
    keras.utils.set_random_seed(seed)
    epochs = epochs or recipe.epochs
    chosen = [task for task in recipe.tasks() if tasks is None or task.name in tasks]
    model = recipe.build(chosen, prepared.encoder)
    model.compile(recipe.optimizer(prepared.steps, epochs), balancer=balancer)
    model.fit(
        _only(prepared.train(seed), chosen),
        steps_per_epoch=prepared.steps,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )
    return model


def evidence(
    recipe: Recipe, prepared: Prepared, seeds: Sequence[int], epochs: int | None, say: Any
) -> tuple[Any, dict[str, Any]]:
    """Train the network and a single-task twin of each task, for every seed, and score all of them
    on the test data.

    Args:
        say: function that takes a line of progress.

    Returns:
        `(model, results)`: the multi-task network of the first seed (the one that is shipped:
        chosen before training, not by its test scores), and the scores: `trivial`, `multi_task` and
        `single_task` (metric to mean, standard deviation and every seed's value), `judged_by` (the
        metric of each task) and `delta_m` (`analysis.DeltaReport` as a dict).
    """
    x, labels = analysis.collect(prepared.test)
    tasks = recipe.tasks()
    results: dict[str, Any] = {
        "trivial": analysis.trivial(tasks, prepared.train_labels, labels),
        "seconds": {},
    }
    multi, single, first = [], [], None
    for seed in seeds:
        start = time.perf_counter()
        model = fit(recipe, prepared, seed, epochs=epochs)
        results["seconds"][f"multi_task seed {seed}"] = round(time.perf_counter() - start, 1)
        multi.append(analysis.score(tasks, predict(model, x), labels))
        say(
            f"{recipe.name} seed {seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in multi[-1].items())
        )
        first = first or model
        twins: dict[str, float] = {}
        for task in tasks:
            start = time.perf_counter()
            twin = fit(recipe, prepared, seed, tasks=[task.name], epochs=epochs)
            results["seconds"][f"single_task {task.name} seed {seed}"] = round(
                time.perf_counter() - start, 1
            )
            twins.update(analysis.score([task], predict(twin, x), labels))
            say(
                f"{recipe.name} seed {seed}, {task.name} alone: "
                + ", ".join(f"{k} {v:.4f}" for k, v in twins.items())
            )
        single.append(twins)
    results["multi_task"], results["single_task"] = summarize(multi), summarize(single)
    return first, judged(results, tasks)


def judged(results: dict[str, Any], tasks: Sequence[Any]) -> dict[str, Any]:
    """Results with `judged_by` and `delta_m`, computed from the scores of every seed that they
    hold."""
    directions = analysis.judging_metrics(tasks)
    multi, single = (_runs(results[kind]) for kind in ("multi_task", "single_task"))
    report = analysis.delta_report(
        multi, single, directions, results["trivial"], [task.name for task in tasks]
    )
    return {**results, "judged_by": directions, "delta_m": report.to_dict()}


def _runs(summary: dict[str, dict[str, Any]]) -> list[dict[str, float]]:
    """The scores of each seed, from what `summarize` made of them."""
    count = len(next(iter(summary.values()))["by_seed"])
    return [{name: facts["by_seed"][i] for name, facts in summary.items()} for i in range(count)]


def predict(model: Any, x: Any) -> dict[str, np.ndarray]:
    """Raw outputs of all rows."""
    return {
        name: np.asarray(value)
        for name, value in model.predict(x, batch_size=512, verbose=0).items()
    }


def summarize(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation and all values of each metric over runs."""
    summary = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        summary[name] = {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values)),
            "by_seed": values,
        }
    return summary


def _only(dataset: Any, tasks: Sequence[Any]) -> Any:
    names = [task.name for task in tasks]
    if set(names) == set(dataset.element_spec[1]):
        return dataset
    return dataset.map(lambda x, y: (x, {name: y[name] for name in names}))
