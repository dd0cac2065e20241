"""Whether heads should get their gradients times the tasks' weights: every method whose public
codes differ, both ways.

Three small problems, five seeds each. A head's score is what it leaves unexplained: 1 - R2 for
numbers, and for classes the share of errors over that of the most frequent class; 0 is perfect, 1
is the best constant answer.

    python benchmarks/scale_heads.py [--quick] [--problems pictures]
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np

import mtl_keras as mtl
from mtl_keras.data.scenes import fashion

#: What the authors' own code does with heads, and which other public codes do the opposite.
METHODS = {
    "krum": (
        "as they are (mtl_backward)",
        "the same library's other engine, `autogram`, scales heads",
    ),
    "mgda": ("scaled", "LibMTL and SamsungLabs/MTL leave heads as they are"),
    "nash_mtl": ("scaled", "SamsungLabs/MTL leaves heads as they are"),
    "imtl_g": ("as they are (the paper; no code of the authors)", "nash-mtl scales heads"),
    "aligned_mtl": ("as they are (option scale_decoder_grad)", "the option"),
    "fairgrad": ("as they are", "LibMTL scales heads"),
    "upgrad": (
        "as they are (mtl_backward)",
        "the same library's other engine, `autogram`, scales heads",
    ),
}


def three_regressions(seed: int):
    """Three noisy functions of a table that share half of their inputs; momentum, whose steps
    depend on a gradient's size."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1024, 8)).astype("float32")
    mixing = np.random.default_rng(100).standard_normal((8, 3))
    clean = np.stack([x @ mixing[:, 0], np.tanh(x @ mixing[:, 1]) * 2, np.abs(x @ mixing[:, 2])], 1)
    clean = (clean - clean.mean(0)) / clean.std(0)
    y = (clean + rng.standard_normal(clean.shape) * [0.2, 0.4, 0.6]).astype("float32")
    labels = {name: y[:, i] for i, name in enumerate(("first", "second", "third"))}
    return x, labels


def mixed_table(seed: int):
    """A class, a number and a yes or no from one table."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1536, 10)).astype("float32")
    mixing = np.random.default_rng(200).standard_normal((10, 6))
    scores = x @ mixing[:, :4] + 0.5 * rng.standard_normal((1536, 4))
    amount = np.sin(x @ mixing[:, 4]) + 0.3 * rng.standard_normal(1536)
    sold = x[:, 0] * x[:, 1] + x @ mixing[:, 5] > 0
    return x, {
        "kind": scores.argmax(1).astype("int32"),
        "amount": amount.astype("float32"),
        "sold": sold.astype("int32"),
    }


def pictures(seed: int):
    """Fashion-MNIST at 14 x 14: the item, how much ink it takes, and whether it is a shoe."""
    images, items = _images()
    chosen = np.random.default_rng(seed).permutation(len(images))[:3000]
    x, item = images[chosen], items[chosen]
    ink = x.mean((1, 2, 3))
    return x, {
        "item": item.astype("int32"),
        "ink": ((ink - ink.mean()) / ink.std()).astype("float32"),
        "shoe": np.isin(item, (5, 7, 9)).astype("int32"),
    }


def _images():
    images, items = fashion()["train_images"][:6000], fashion()["train_labels"][:6000]
    halves = images.reshape(-1, 14, 2, 14, 2).mean((2, 4))[..., None] / 255.0
    return halves.astype("float32"), items


def _table_network(size, tasks):
    return mtl.builders.hard_sharing(
        (size,), tasks, backbone="mlp", backbone_options={"widths": (32, 32), "normalize": False}
    )


PROBLEMS = {
    "three_regressions": (
        three_regressions,
        lambda: _table_network(
            8, [mtl.tasks.Regression(name, hidden=8) for name in ("first", "second", "third")]
        ),
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        14,
    ),
    "mixed_table": (
        mixed_table,
        lambda: _table_network(
            10,
            [
                mtl.tasks.Classification("kind", num_classes=4, hidden=8),
                mtl.tasks.Regression("amount", hidden=8),
                mtl.tasks.Binary("sold", hidden=8),
            ],
        ),
        lambda: keras.optimizers.Adam(1e-2),
        10,
    ),
    "pictures": (
        pictures,
        lambda: mtl.builders.hard_sharing(
            (14, 14, 1),
            [
                mtl.tasks.Classification("item", num_classes=10, hidden=16),
                mtl.tasks.Regression("ink", hidden=16),
                mtl.tasks.Binary("shoe", hidden=16),
            ],
            backbone_options={"widths": (8, 16), "depth": 1},
        ),
        lambda: keras.optimizers.Adam(1e-2),
        4,
    ),
}
TEST_SHARE = 3


def unexplained(model, x, y) -> dict[str, float]:
    """What each head leaves unexplained."""
    outputs = model.predict(x, batch_size=1024, verbose=0)
    scores = {}
    for task in model.tasks:
        truth, answer = y[task.name], outputs[task.name]
        if task.kind == "regression":
            scores[task.name] = float(np.mean((answer[:, 0] - truth) ** 2) / np.var(truth))
        else:
            guess = answer.argmax(-1) if answer.shape[-1] > 1 else answer[:, 0] > 0.5
            scores[task.name] = float(
                np.mean(guess != truth) / (1 - np.bincount(truth).max() / len(truth))
            )
    return scores


def measure(
    problem: str, method: str, scale_heads: bool | None, seeds, epochs: int | None
) -> list[dict[str, float]]:
    """The scores of each seed. The network is traced once; every seed starts it anew."""
    data, network, optimizer, usual = PROBLEMS[problem]
    options = {} if scale_heads is None else {"scale_heads": scale_heads}
    scores, model, start = [], None, None
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        fresh = network()
        x, y = data(seed)
        cut = len(x) // TEST_SHARE
        if model is None:
            model = fresh
            no_metrics = {task.name: [] for task in model.tasks}
            model.compile(
                optimizer(), balancer=mtl.balancing.get(method, **options), metrics=no_metrics
            )
            model.optimizer.build(model.trainable_variables)
            start = [
                (v, v.numpy()) for v in (*model.optimizer.variables, *model.balancer.variables)
            ]
        else:
            model.set_weights(fresh.get_weights())
            for variable, value in start:
                variable.assign(value)
        train = {name: labels[cut:] for name, labels in y.items()}
        model.fit(x[cut:], train, epochs=epochs or usual, batch_size=64, verbose=0)
        scores.append(
            unexplained(model, x[:cut], {name: labels[:cut] for name, labels in y.items()})
        )
    return scores


def summary(scores: list[dict[str, float]]) -> dict:
    """Each head's mean and standard deviation, the mean over heads, and the worst head, over the
    seeds."""
    mean = [float(np.mean(list(run.values()))) for run in scores]
    worst = [max(run.values()) for run in scores]
    heads = {name: [run[name] for run in scores] for name in scores[0]}
    return {
        "mean": [round(float(np.mean(mean)), 4), round(float(np.std(mean)), 4)],
        "worst_head": [round(float(np.mean(worst)), 4), round(float(np.std(worst)), 4)],
        "heads": {
            name: [round(float(np.mean(v)), 4), round(float(np.std(v)), 4)]
            for name, v in heads.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: whether it runs")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    arguments = parser.parse_args()
    seeds, epochs = (range(1), 1) if arguments.quick else (range(5), None)
    results = {}
    for problem in arguments.problems:
        begin = time.time()
        results[problem] = {"equal": summary(measure(problem, "equal", None, seeds, epochs))}
        for method, (authors, others) in METHODS.items():
            choices = {"scaled": True, "as they are": False}
            ways = {
                way: summary(measure(problem, method, choice, seeds, epochs))
                for way, choice in choices.items()
            }
            ours = "scaled" if mtl.balancing.get(method).scales_heads else "as they are"
            results[problem][method] = {
                "authors": authors,
                "others": others,
                "default": ours,
                **ways,
            }
            print(
                problem,
                method,
                {way: (r["mean"], r["worst_head"]) for way, r in ways.items()},
                flush=True,
            )
        print(f"{problem}: {time.time() - begin:.0f} s", flush=True)
        if not arguments.quick:
            common.write("scale_heads", results, keep_others=True)


if __name__ == "__main__":
    main()
