"""The synthetic tasks of the MMoE paper: what one gate, a gate a task, and a shared bottom reach as
tasks grow unlike.

    python benchmarks/mmoe_synthetic.py --seeds 8                               # some minutes
    python benchmarks/mmoe_synthetic.py --rows 10000 --epochs 50 --scale 4 --rate 0.001

Two regressions `y_k = w_k.x + sum_j sin(a_j w_k.x + b_j) + noise` on x ~ N(0, I_100),
`w_1 = c u_1`, `w_2 = c (p u_1 + sqrt(1 - p^2) u_2)`: the task correlation p is the cosine of their
weights (Ma et al., KDD 2018; c, a and b are not given there). With 10,000 rows seen many times
(second line), as others rebuilt it, what the networks overfit hides what they share; the default is
100,000 rows, seen six times. Every network has about as many parameters: 8 experts of 16 units, or
a shared bottom of 113. Reported is the best test error on the way, the sum of both tasks', as mean
and standard deviation over the seeds; the difference between one gate and a gate a task, seed by
seed (the problems differ far more than the networks), with its standard error; and a plot goes to
`benchmarks/results/mmoe_synthetic.png`.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np

import mtl_keras as mtl

SIZE = 100


def tasks_data(correlation: float, rows: int, seed: int, scale: float, terms: int = 5):
    """Inputs and both tasks' targets."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((SIZE, 2)))[0].T
    weights = scale * np.stack(
        [basis[0], correlation * basis[0] + np.sqrt(1 - correlation**2) * basis[1]]
    )
    alpha, beta = rng.standard_normal(terms), rng.standard_normal(terms)
    x = rng.standard_normal((rows, SIZE)).astype("float32")
    z = x @ weights.T
    y = z + np.sin(alpha * z[..., None] + beta).sum(-1) + 0.1 * rng.standard_normal((rows, 2))
    return x, {f"task{i}": y[:, i].astype("float32") for i in range(2)}


def network(kind: str) -> mtl.MultiTaskModel:
    """One of the three networks, with towers of 8 units."""
    heads = [mtl.tasks.Regression(f"task{i}", hidden=8, metrics=[]) for i in range(2)]
    if kind == "shared bottom":
        bottom = lambda inputs: keras.layers.Dense(113, activation="relu", name="bottom")(inputs)  # noqa: E731
        return mtl.builders.hard_sharing((SIZE,), heads, backbone=bottom)
    builder = {"one gate": mtl.builders.omoe, "a gate a task": mtl.builders.mmoe}[kind]
    return builder((SIZE,), heads, experts=8, units=16)


KINDS = ("shared bottom", "one gate", "a gate a task")


def run(kind: str, correlation: float, seed: int, options: argparse.Namespace) -> float:
    """The least sum of both tasks' test errors after any epoch."""
    keras.utils.set_random_seed(seed)
    rows = options.rows
    x, y = tasks_data(correlation, rows + 4000, seed, options.scale)
    train, test = (
        (x[:rows], {k: v[:rows] for k, v in y.items()}),
        (x[rows:], {k: v[rows:] for k, v in y.items()}),
    )
    model = network(kind)
    model.compile(keras.optimizers.Adam(options.rate), steps_per_execution=10)
    settings = {
        "validation_batch_size": 2000,
        "batch_size": 256,
        "epochs": options.epochs,
        "verbose": 0,
    }
    return min(model.fit(*train, validation_data=test, **settings).history["val_loss"])


def main() -> None:
    from matplotlib.figure import Figure
    from rich.progress import track

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--correlations", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--scale", type=float, default=2.0, help="c: larger is harder")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's learning rate")
    options = parser.parse_args()
    jobs = [(k, p, s) for k in KINDS for p in options.correlations for s in range(options.seeds)]
    errors: dict[tuple[str, float], list[float]] = {}
    for kind, correlation, seed in track(jobs, description="runs"):
        errors.setdefault((kind, correlation), []).append(run(kind, correlation, seed, options))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    found = {}
    for kind in KINDS:
        means = [np.mean(errors[kind, p]) for p in options.correlations]
        spread = [np.std(errors[kind, p]) for p in options.correlations]
        axis.errorbar(options.correlations, means, spread, marker="o", capsize=3, label=kind)
        found[kind] = {
            str(p): [round(float(v), 3) for v in errors[kind, p]] for p in options.correlations
        }
        cells = (
            f"p={p:g}: {m:.3f} +- {s:.3f}"
            for p, m, s in zip(options.correlations, means, spread, strict=True)
        )
        print(f"{kind:14s}", "   ".join(cells))
    differences = {}
    for p in options.correlations:
        gap = np.subtract(errors["one gate", p], errors["a gate a task", p])
        error = np.std(gap, ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
        differences[str(p)] = {
            "mean": round(float(gap.mean()), 4),
            "standard_error": round(float(error), 4),
        }
        print(f"one gate - a gate a task, p={p:g}: {gap.mean():+.3f} +- {error:.3f}")
    axis.set(
        xlabel="task correlation p",
        ylabel="test error, both tasks",
        title=f"c = {options.scale:g}, {options.seeds} seeds",
    )
    axis.legend()
    common.write(
        "mmoe_synthetic",
        {"settings": vars(options), "errors": found, "one_gate_minus_own": differences},
    )
    figure.savefig(common.RESULTS / "mmoe_synthetic.png", dpi=80)


if __name__ == "__main__":
    main()
