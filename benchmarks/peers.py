"""The network of `balancing_speed.py` in PyTorch, balanced by TorchJD and LibMTL where they are installed.

Never a dependency: without PyTorch `runs` is empty.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["runs"]


def runs(tasks: int, x: np.ndarray, y: Mapping[str, np.ndarray], steps: int) -> dict[str, Callable[[Any], None]]:
    """By name, functions that take `steps` training steps."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(2)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    labels = [torch.tensor(value, dtype=torch.long) for value in y.values()]
    found = {"torch plain sum": _plain(torch, tasks, images, labels, steps)}
    for peer in (_torchjd, _libmtl):
        with contextlib.suppress(ImportError):
            found.update(peer(torch, tasks, images, labels, steps))
    return {name: run for name, run in found.items() if _works(name, run)}


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
            self.one, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.two, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.short = None
            if stride == 2:
                self.short = nn.Sequential(nn.Conv2d(before, width, 1, 2, bias=False), nn.BatchNorm2d(width))

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
    heads = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in range(tasks))
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], 1e-3)
    return trunk, heads, optimizer


def _losses(torch, trunk, heads, images, labels):
    shared = trunk(images)
    outputs = [head(shared) for head in heads]
    return shared, [torch.nn.functional.cross_entropy(o, t) for o, t in zip(outputs, labels, strict=True)]


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

            def run(_, trunk=trunk, heads=heads, optimizer=optimizer, aggregator=aggregator, chunk=chunk):
                for _ in range(steps):
                    optimizer.zero_grad()
                    shared, losses = _losses(torch, trunk, heads, images, labels)
                    found_jac = mtl_backward(losses, features=shared, parallel_chunk_size=chunk, **_into(aggregator))
                    del found_jac
                    _accumulate(trunk, aggregator)
                    optimizer.step()

            found[f"torchjd {name}" + ("" if chunk is None else " (chunk 1)")] = run
    return found


def _into(aggregator):
    """TorchJD before 0.8 takes the aggregator in the backward call; later versions put Jacobians into `.jac` fields."""
    import inspect

    from torchjd.autojac import mtl_backward

    return {"aggregator": aggregator} if "aggregator" in inspect.signature(mtl_backward).parameters else {}


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
    for name in ("EW", "UW", "PCGrad", "CAGrad", "MGDA", "IMTL", "Nash_MTL", "Aligned_MTL", "FairGrad", "UPGrad"):
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
        settings |= {"alpha": 1.0, "FairGrad_alpha": 1.0, "UPGrad_norm_eps": 1e-4, "UPGrad_reg_eps": 1e-4}

        def run(_, model=model, optimizer=optimizer, settings=settings):
            for _ in range(steps):
                optimizer.zero_grad()
                losses = torch.stack(_losses(torch, model.encoder, model.heads, images, labels)[1])
                model.backward(losses, **settings)
                optimizer.step()

        found[f"libmtl {name}"] = run
    return found
