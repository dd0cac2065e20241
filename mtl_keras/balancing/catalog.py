"""The methods in a table."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from mtl_keras.balancing.registry import get, names

__all__ = ["Entry", "list_balancers"]

#: By strategy: what kind of method it is, what it needs, and what a step costs.
_STRATEGIES = {
    "losses": ("losses only", "losses", "1 backward"),
    "gram": ("Gram matrix", "Gram matrix", "T backward"),
    "gradients": ("gradients", "gradients", "T backward"),
    "samples": (
        "Gram matrix",
        "Gram matrix, 3 independent batches",
        "2 T + 1 backward on a third of the rows each",
    ),
    "held_out": ("validation data", "losses, held-out data", "3 backward, 3 forward"),
}
#: By whose gradients, where it is not the shared variables'.
_SOURCES = {
    "representation": ("gradients at the representation", "1 backward, T through the heads"),
    "layer": ("gradient norms at one layer", "1 backward, T to one layer"),
}


@dataclass(frozen=True)
class Entry:
    """One method: its name, what kind it is, what it needs, what a step costs, and who published
    it."""

    name: str
    kind: str
    needs: str
    cost: str
    citation: str


def list_balancers() -> list[Entry]:
    """All registered methods: name, kind, needs, cost and citation; `mtl-keras balancers` prints
    them.

    Costs count backward passes over the shared variables for T tasks; the plain sum has one forward
    and one backward pass.

    Examples:
        >>> [entry.name for entry in mtl.balancing.list_balancers() if entry.kind == "losses only"]
    """
    return [_entry(name) for name in names()]


def _entry(name: str) -> Entry:
    balancer = get(name)
    unknown = (balancer.strategy, balancer.strategy, "")
    kind, needs, cost = _STRATEGIES.get(balancer.strategy, unknown)
    if balancer.gradients in _SOURCES:
        needs, cost = _SOURCES[balancer.gradients]
    if balancer.gradients == "layer":
        kind = "losses only"
    if balancer.observes_updated_losses:
        cost += ", 1 forward"
    if balancer.positive:
        needs += ", positive losses"
    return Entry(name, kind, needs, cost, citation(type(balancer)))


def citation(cls: type) -> str:
    """The first sentence with a year that the class's docstring has under "Reference:", in one
    line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    section = re.search(r"^Reference:\n((?:[ ]+.*\n?)+)", text, re.MULTILINE)
    if not section:
        return ""
    sentence = re.match(r".*?(?:19|20)\d\d.*?\.(?=\s|$)", " ".join(section.group(1).split()))
    return sentence.group(0).rstrip(".") if sentence else ""
