"""Peak memory of exact gradients, kept (`gradient_groups=0`) and let go (`gradient_groups`), each
in a process of its own.

    python benchmarks/balancing_memory.py --width 3000 --layers 4 --tasks 4

A network of wide dense layers: its task gradients are what fills the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODES = {
    "equal": None,
    "cagrad": {},
    "cagrad, gradient_groups": {"gradient_groups": 1},
    "cagrad, gradient_groups=4": {"gradient_groups": 4},
    "cagrad, gradient_groups=8": {"gradient_groups": 8},
}


def measure(mode: str, width: int, layers: int, tasks: int) -> dict[str, float]:
    """Peak resident megabytes of a few steps, and the parameters' own size."""
    import keras
    import numpy as np

    import mtl_keras as mtl

    def trunk(inputs):
        x = inputs
        for i in range(layers):
            x = keras.layers.Dense(width, activation="relu", name=f"dense{i}")(x)
        return x

    heads = [mtl.tasks.Regression(f"t{i}", hidden=0, metrics=[]) for i in range(tasks)]
    model = mtl.builders.hard_sharing((width,), heads, backbone=trunk)
    options = MODES[mode]
    model.compile("sgd", balancer="equal" if options is None else mtl.balancing.CAGrad(**options))
    x = np.random.default_rng(0).standard_normal((32, width)).astype("float32")
    model.fit(x, {f"t{i}": x[:, 0] for i in range(tasks)}, batch_size=8, verbose=0)
    size = sum(int(np.prod(v.shape)) for v in model.trainable_variables) * 4 / 2**20
    return {
        "parameters_mb": round(size),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--mode", choices=MODES)
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(measure(options.mode, options.width, options.layers, options.tasks)))
        return
    import common

    found = {}
    for mode in MODES:
        command = [sys.executable, __file__, "--mode", mode]
        command += [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "tasks")]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[mode] = json.loads(out.strip().splitlines()[-1])
        print(mode, found[mode])
    common.write("balancing_memory", {"settings": vars(options), **found})


if __name__ == "__main__":
    main()
