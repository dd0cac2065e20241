"""Every balancing method on the two-objective problem of CAGrad, Nash-MTL and FAMO, from the five
published starts.

    python benchmarks/toy_fronts.py                      # all methods, 50,000 steps: some minutes
    python benchmarks/toy_fronts.py --methods mgda famo --steps 20000

Prints where each method ends from each start, beside what the official code (or an independent
simulation of it) reaches, and writes the trajectories with the Pareto front to
`benchmarks/results/toy_fronts.png`. The problem: benchmarks.md, part (a), as in the code of Navon
et al. (ICML 2022) and Liu et al. (NeurIPS 2023), scale 0.1, Adam at 1e-3. Two traps: clamps let the
gradient through at their bound (or nothing leaves the origin), and whether PCGrad and UPGrad leave
the start (9, 9) for the front depends on whether the gradient of the summed losses is shortened to
length 1, as FAMO's code does for the methods of `CLIPPED` alone (`--clip 1`, the default).
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import common
import numpy as np
import tensorflow as tf

from mtl_keras import balancing

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
FRONT = -8.3552  # x2 of the Pareto set; x1 runs from -7 to 7
LEAST = {"row0": -2.1, "row1": -21.0}

# x1 at the end after 50,000 steps; None: the start does not reach the front. Source: the official
# code, run in float32, where it has the method (FAMO repository), else an independent float64
# simulation; PCGrad and UPGrad with gradients clipped to 1. From (9, 9) the official CAGrad, with
# an inexact solver, stays at the saddle (7, 0); with exact weights it passes.
PUBLISHED = {
    "equal": (-5.73, -5.73, None, -5.73, -5.73),
    "mgda": (-1.96, 6.13, 6.98, -4.19, 7.00),
    "pcgrad": (-4.16, -3.38, 2.22, -3.72, 4.56),
    "cagrad": (-5.73, -5.73, None, -5.73, -5.73),
    "nash_mtl": (-2.90, 0.00, 2.92, -3.29, 4.89),
    "imtl_g": (-2.27, -0.40, 2.30, -3.39, 5.29),
    "upgrad": (-4.10, -3.36, 2.19, -3.66, 4.99),
    "fairgrad": (-3.14, 3.60, 4.26, -3.68, 5.66),
    "aligned_mtl": (-5.73, -5.73, None, -5.73, -5.73),
    "config": (-2.33, 0.00, 2.19, -3.70, 5.02),
    "famo": (-0.26, 0.07, 0.37, -0.95, 1.74),
}
# Methods whose gradient the official code shortens; and those that combine to a mean, which it
# multiplies by the tasks.
CLIPPED = ("pcgrad", "cagrad", "graddrop", "upgrad", "dualproj", "gradvac")
MEANS = ("cagrad", "upgrad", "dualproj")
# The settings of the published runs, where they are not our defaults.
SETTINGS = {
    "cagrad": lambda: balancing.CAGrad(c=0.4),
    "famo": lambda: balancing.FAMO(decay=0.0, least=LEAST, observe="next_batch"),
    "graddrop": lambda: balancing.GradDrop(gradients="parameters"),
    "gradnorm": None,  # needs positive losses and a layer
    "auto_lambda": None,  # needs held-out data
    "gls": None,  # these need positive losses; the problem's are negative on the front
    "log_loss": None,
    "db_mtl": None,
}


def losses_and_gradients(x: tf.Tensor, scale: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Both losses of every row of x, `(rows, 2)`, and their gradients, `(rows, 2, 2)`, in
    float64."""

    def clamp(value, least):
        # The gradient passes at the bound itself, as in torch.
        return tf.where(value >= least, value, least)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        x1, x2 = x[:, 0], x[:, 1]
        f1 = tf.math.log(clamp(tf.abs(0.5 * (-x1 - 7) - tf.tanh(-x2)), tf.cast(5e-6, x.dtype))) + 6
        f2 = (
            tf.math.log(clamp(tf.abs(0.5 * (-x1 + 3) + tf.tanh(-x2) + 2), tf.cast(5e-6, x.dtype)))
            + 6
        )
        c1, c2 = (
            clamp(tf.tanh(0.5 * x2), tf.zeros((), x.dtype)),
            clamp(tf.tanh(-0.5 * x2), tf.zeros((), x.dtype)),
        )
        q1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
        q2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
        one, two = scale * (f1 * c1 + q1 * c2), f2 * c1 + q2 * c2
    return tf.stack([one, two], 1), tf.stack([tape.gradient(one, x), tape.gradient(two, x)], 1)


def on_the_front(x) -> bool:
    """Whether a point is on the Pareto set."""
    return bool(abs(x[1] - FRONT) < 0.1 and -7.1 < x[0] < 7.1)


def run(
    make,
    starts,
    steps: int,
    scale: float = 0.1,
    clip: float | None = 1.0,
    rate: float = 1e-3,
    every: int = 500,
):
    """From every start, a trajectory `(points, 2)` under Adam: a point every `every` steps, and the
    last."""
    balancer = make()
    tasks = [type("Row", (), {"name": f"row{i}", "likelihood": "gaussian"})() for i in range(2)]
    balancer.build(tasks)
    if balancer.strategy == "gradients":
        balancer.build_rows({"x": (2,)})
    there = tf.constant([True, True])
    x = tf.Variable(tf.zeros((1, 2), tf.float64))
    first, second = (tf.Variable(tf.zeros((1, 2), tf.float64)) for _ in range(2))
    count = tf.Variable(0.0, dtype=tf.float64)

    def update(x):
        losses, rows = losses_and_gradients(x, scale)
        seen, rows = tf.cast(losses[0], tf.float32), rows[0]
        raw, pre_weights = seen, balancer.pre_weights(seen, there)
        if pre_weights is not None:
            seen = seen * pre_weights
            rows = rows * tf.cast(pre_weights, rows.dtype)[:, None]
        by_key = None
        if balancer.strategy == "gradients":
            single = tf.cast(rows, tf.float32) * balancer.row_scale(seen, there)[:, None]
            single = balancer.transform(single, "x", there)
            by_key, measured = {"x": single}, balancer.measure(single, "x", there)
            weights, _ = balancer.weigh_all(seen, there, measured)
            step = tf.cast(balancer.combine(single, weights, "x", there), tf.float64)
        else:
            measured = tf.matmul(rows, rows, transpose_b=True)
            weights, _ = balancer.weigh_all(seen, there, measured)
            step = tf.linalg.matvec(rows, tf.cast(weights, tf.float64), transpose_a=True)
        balancer.update(seen, there, rate, measured, weights, by_key)
        balancer.end_step(raw, there, rate, pre_weights)
        return step

    def one(i):
        g = update(x.value())[None] * (2.0 if balancer.name in MEANS else 1.0)
        if clip is not None and balancer.name in CLIPPED:
            g = g / tf.maximum(tf.norm(g) / clip, 1.0)
        count.assign_add(1.0)
        first.assign(0.9 * first + 0.1 * g)
        second.assign(0.999 * second + 0.001 * g * g)
        move = first / (1 - 0.9**count) / (tf.sqrt(second / (1 - 0.999**count)) + 1e-8)
        x.assign_sub(rate * move)
        return i + 1

    # The loop is compiled: its operations are tiny.
    @tf.function(jit_compile=True, autograph=False)
    def many(number):
        tf.while_loop(lambda i: i < number, lambda i: (one(i),), (tf.constant(0),))

    state = [x, first, second, count, *(v.value for v in balancer.variables)]
    fresh = [v.numpy() for v in state]
    paths = []
    for start in starts:
        for variable, value in zip(state, fresh, strict=True):
            variable.assign(value)
        x.assign([start])
        points, done = [np.array(start)], 0
        while done < steps:
            number = min(every, steps - done)
            many(tf.constant(number))
            done += number
            points.append(x.numpy()[0].copy())
        paths.append(np.array(points))
    return paths


def chosen(names) -> dict[str, object]:
    """What makes each method, for those that the problem suits."""
    return {
        name: make
        for name in names
        if (make := SETTINGS.get(name, lambda name=name: balancing.get(name))) is not None
    }


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=balancing.names())
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument(
        "--clip", type=float, default=1.0, help="longest gradient of the methods in CLIPPED; 0: any"
    )
    options = parser.parse_args()
    makers = chosen(options.methods)
    found = {}
    for name, make in makers.items():
        found[name] = run(make, STARTS, options.steps, options.scale, options.clip or None)
        print(name, *(f"({p[-1][0]:.2f}, {p[-1][1]:.2f})" for p in found[name]), flush=True)

    table = Table(
        title=f"x1 at the end, {options.steps} steps; in brackets what is published; - : not on "
        f"the front"
    )
    for column in ("method", *(f"from {start}" for start in STARTS)):
        table.add_column(column)
    for name, paths in found.items():
        cells = []
        for i, path in enumerate(paths):
            text = f"{path[-1][0]:.2f}" if on_the_front(path[-1]) else "-"
            if name in PUBLISHED:
                told = PUBLISHED[name][i]
                text += " (-)" if told is None else f" ({told:.2f})"
            cells.append(text)
        table.add_row(name, *cells)
    Console(width=120).print(table)
    picture(found, options.scale)
    ends = {
        name: [[round(float(v), 3) for v in path[-1]] for path in paths]
        for name, paths in found.items()
    }
    common.write(
        "toy_fronts",
        {"steps": options.steps, "scale": options.scale, "clip": options.clip, "ends": ends},
    )


def picture(found, scale: float) -> None:
    """Trajectories over the contours of the sum of losses."""
    from matplotlib.figure import Figure

    columns = 6
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    side = np.linspace(-10, 10, 120)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    values = losses_and_gradients(tf.constant(grid), scale)[0].numpy()
    heights = (values[:, 0] / scale + values[:, 1]).reshape(120, 120)
    for axis, (name, paths) in zip(axes, found.items(), strict=False):
        axis.contour(side, side, heights, 30, cmap="Greys", linewidths=0.4)
        axis.plot([-7, 7], [FRONT] * 2, color="black", linewidth=2)
        for path in paths:
            axis.plot(*path.T, linewidth=1)
            axis.plot(*path[0], "k.", markersize=4)
            axis.plot(*path[-1], "r*", markersize=6)
        axis.set(title=name, xlim=(-10, 10), ylim=(-10, 10), xticks=[], yticks=[])
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    common.RESULTS.mkdir(exist_ok=True)
    figure.savefig(common.RESULTS / "toy_fronts.png", dpi=70)
    print(f"written: {common.RESULTS / 'toy_fronts.png'}")


if __name__ == "__main__":
    main()
