"""What importing the package adds to `import keras`, and how fast the command line answers.

    python benchmarks/import_cost.py

Runs each line in fresh processes, in turns, and compares medians. `import mtl_keras` and
`mtl_keras.runtime` import no Keras; with Keras, the classes that register should add at most 10 %
to `import keras`; `mtl-keras --help` and `mtl-keras zoo list` should answer in under 0.4 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import common

PROGRAM = str(Path(sys.executable).with_name("mtl-keras"))
LINES = {
    "import keras": [sys.executable, "-c", "import keras"],
    "import mtl_keras": [sys.executable, "-c", "import mtl_keras"],
    "import mtl_keras, keras": [sys.executable, "-c", "import mtl_keras, keras"],
    "mtl_keras.runtime": [sys.executable, "-c", "from mtl_keras import runtime"],
    "mtl-keras --help": [PROGRAM, "--help"],
    "mtl-keras zoo list": [PROGRAM, "zoo", "list"],
}


def main(rounds: int = 9) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in LINES}
    for _ in range(rounds + 1):
        for name, command in LINES.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {
        name: statistics.median(values[1:]) for name, values in seconds.items()
    }  # the first round fills caches
    for name, value in medians.items():
        print(f"{name:24s} {value:.3f} s")
    ratio = medians["import mtl_keras, keras"] / medians["import keras"]
    print(f"import mtl_keras, keras / import keras: {ratio:.3f}")
    common.write("import_cost", {"seconds": medians, "ratio": ratio, "rounds": rounds})


if __name__ == "__main__":
    main()
