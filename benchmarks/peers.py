"""The network of `balancing_speed.py` in PyTorch, balanced by TorchJD and LibMTL where they are
installed.

Never a dependency: without PyTorch there are no peers. They run in a process of their own, because
PyTorch and TensorFlow bring two copies of LLVM that can abort when loaded together; the process is
told which method to run next, and answers with the seconds of wall-clock and CPU time of one step.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Peers"]


class Peers:
    """The process that runs the peers' methods. `names` is empty where PyTorch is missing."""

    def __init__(self, tasks: int, steps: int, pattern: str = ""):
        self.names: list[str] = []
        if pattern == "none" or importlib.util.find_spec("torch") is None:
            return
        command = [sys.executable, __file__, str(tasks), str(steps), pattern]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.names = self._answer()

    def _answer(self) -> Any:
        for line in self.process.stdout:
            if line.startswith("="):
                return json.loads(line[1:])
            print(line, end="")
        raise RuntimeError(f"the process of the peers ended with {self.process.wait()}")

    def step(self, name: str) -> tuple[float, float]:
        """Seconds of wall-clock and of CPU time for one step."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return tuple(self._answer())

    def close(self) -> None:
        if self.names:
            self.process.stdin.close()
            self.process.wait()


def _serve(tasks: int, steps: int, pattern: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((64, 32, 32, 3), "float32")
    y = {f"t{i}": rng.integers(0, 10, 64).astype("int32") for i in range(tasks)}
    runs = _runs(tasks, x, y, steps, pattern)
    print("=" + json.dumps(list(runs)), flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        runs[line.strip()](None)
        print(
            f"=[{(time.perf_counter() - start) / steps}, {(time.process_time() - cpu) / steps}]",
            flush=True,
        )


def _runs(
    tasks: int, x: np.ndarray, y: Mapping[str, np.ndarray], steps: int, pattern: str
) -> dict[str, Callable[[Any], None]]:
    """By name, functions that take `steps` training steps: the plain sum, and what `pattern`
    finds."""
    import torch

    torch.set_num_threads(2)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    labels = [torch.tensor(value, dtype=torch.long) for value in y.values()]
    found = {"torch plain sum": _plain(torch, tasks, images, labels, steps)}
    for peer in (_torchjd, _libmtl):
        with contextlib.suppress(ImportError):
            found.update(peer(torch, tasks, images, labels, steps))
    wanted = {
        name: run
        for name, run in found.items()
        if name == "torch plain sum" or re.search(pattern, name)
    }
    return {name: run for name, run in wanted.items() if _works(name, run)}


def _works(name: str, run: Callable[[Any], None]) -> bool:
    """Whether a peer's method runs here; says why not."""
    try:
        run(None)
    except Exception as error:
        print(f"  {name} does not run: {type(error).__name__}: {error}")
        return False
    return True


def _trunk(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.one, self.norm1 = (
                nn.Conv2d(before, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            self.two, self.norm2 = (
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            self.short = None
            if stride == 2:
                self.short = nn.Sequential(
                    nn.Conv2d(before, width, 1, 2, bias=False), nn.BatchNorm2d(width)
                )

        def forward(self, x):
            z = self.norm2(self.two(torch.relu(self.norm1(self.one(x)))))
            return torch.relu(z + (x if self.short is None else self.short(x)))

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(Block(before, width, 2 if stage and not block else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _network(torch, tasks):
    nn = torch.nn
    trunk = _trunk(torch)
    heads = nn.ModuleList(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in range(tasks)
    )
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], 1e-3)
    return trunk, heads, optimizer


def _losses(torch, trunk, heads, images, labels):
    shared = trunk(images)
    outputs = [head(shared) for head in heads]
    return shared, [
        torch.nn.functional.cross_entropy(o, t) for o, t in zip(outputs, labels, strict=True)
    ]


def _plain(torch, tasks, images, labels, steps):
    trunk, heads, optimizer = _network(torch, tasks)

    def run(_):
        for _ in range(steps):
            optimizer.zero_grad()
            sum(_losses(torch, trunk, heads, images, labels)[1]).backward()
            optimizer.step()

    return run


def _torchjd(torch, tasks, images, labels, steps):
    from torchjd import aggregation
    from torchjd.autojac import mtl_backward

    found = {}
    makers = {
        "UPGrad": lambda: aggregation.UPGrad(),
        "PCGrad": lambda: aggregation.PCGrad(),
        "MGDA": lambda: aggregation.MGDA(),
        "IMTLG": lambda: aggregation.IMTLG(),
        "AlignedMTL": lambda: aggregation.AlignedMTL(),
    }
    for name, make in makers.items():
        for chunk in (None, 1):
            trunk, heads, optimizer = _network(torch, tasks)
            try:
                aggregator = make()
            except ImportError as error:
                print(f"  torchjd {name} does not run: {error}")
                continue

            def run(
                _, trunk=trunk, heads=heads, optimizer=optimizer, aggregator=aggregator, chunk=chunk
            ):
                for _ in range(steps):
                    optimizer.zero_grad()
                    shared, losses = _losses(torch, trunk, heads, images, labels)
                    found_jac = mtl_backward(
                        losses, features=shared, parallel_chunk_size=chunk, **_into(aggregator)
                    )
                    del found_jac
                    _accumulate(trunk, aggregator)
                    optimizer.step()

            found[f"torchjd {name}" + ("" if chunk is None else " (chunk 1)")] = run
    return found


def _into(aggregator):
    """TorchJD before 0.8 takes the aggregator in the backward call; later versions put Jacobians
    into `.jac` fields."""
    import inspect

    from torchjd.autojac import mtl_backward

    return (
        {"aggregator": aggregator}
        if "aggregator" in inspect.signature(mtl_backward).parameters
        else {}
    )


def _accumulate(trunk, aggregator):
    if _into(aggregator):
        return
    from torchjd.autojac import jac_to_grad

    jac_to_grad(trunk.parameters(), aggregator)


def _libmtl(torch, tasks, images, labels, steps):
    # LibMTL 1.1.5 asks for a module that torchvision has dropped, and only for its image networks.
    shim = types.ModuleType("torchvision.models.utils")
    shim.load_state_dict_from_url = torch.hub.load_state_dict_from_url
    sys.modules.setdefault(shim.__name__, shim)
    import LibMTL.weighting as weighting

    found = {}
    for name in (
        "EW",
        "UW",
        "PCGrad",
        "CAGrad",
        "MGDA",
        "IMTL",
        "Nash_MTL",
        "Aligned_MTL",
        "FairGrad",
        "UPGrad",
    ):
        method = getattr(weighting, name, None)
        if method is None:
            continue
        trunk, heads, _ = _network(torch, tasks)

        class Model(method):
            def __init__(self, trunk=trunk, heads=heads, method=method):
                method.__init__(self)
                self.encoder, self.heads = trunk, heads
                self.task_name, self.task_num = [f"t{i}" for i in range(tasks)], tasks
                self.rep_grad, self.multi_input, self.device = False, False, torch.device("cpu")
                self.epoch, self.epochs, self.train_loss_buffer = 0, 1, np.zeros((tasks, 1))

            def get_share_params(self):
                return self.encoder.parameters()

            def zero_grad_share_params(self):
                self.encoder.zero_grad(set_to_none=False)

        model = Model()
        if hasattr(model, "init_param"):
            model.init_param()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        settings = {
            "calpha": 0.5,
            "rescale": 1,
            "mgda_gn": "none",
            "update_weights_every": 1,
            "optim_niter": 20,
            "max_norm": 1.0,
        }
        settings |= {
            "alpha": 1.0,
            "FairGrad_alpha": 1.0,
            "UPGrad_norm_eps": 1e-4,
            "UPGrad_reg_eps": 1e-4,
        }

        def run(_, model=model, optimizer=optimizer, settings=settings):
            for _ in range(steps):
                optimizer.zero_grad()
                losses = torch.stack(_losses(torch, model.encoder, model.heads, images, labels)[1])
                model.backward(losses, **settings)
                optimizer.step()

        found[f"libmtl {name}"] = run
    return found


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
