"""The methods in a table."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from mtl_keras.balancing.registry import get, names

__all__ = ["Entry", "list_"]

_NEEDS = {"losses": "losses", "gram": "Gram matrix", "gradients": "gradients"}


@dataclass(frozen=True)
class Entry:
    """One method: its name, what kind it is, what it needs, what a step costs, and who published it."""

    name: str
    kind: str
    needs: str
    cost: str
    citation: str


def list_() -> list[Entry]:
    """All registered methods: name, kind, needs, cost and citation; `mtl-keras balancers` prints them.

    Costs count backward passes over the shared variables for T tasks; the plain sum has one forward and one backward pass.

    Example:
        >>> [entry.name for entry in mtl.balancing.list() if entry.kind == "losses only"]
    """
    return [_entry(name) for name in names()]


def _entry(name: str) -> Entry:
    balancer = get(name)
    needs = [_NEEDS[balancer.needs]]
    cost = "1 backward"
    if balancer.needs in ("gram", "gradients"):
        cost = "T backward"
        if balancer.gradients == "representation":
            needs, cost = ["gradients at the representation"], "1 backward, T through the heads"
    if balancer.gradients == "layer":
        needs, cost = ["gradient norms at one layer"], "1 backward, T to one layer"
    if balancer.batches > 1:
        needs.append(f"{balancer.batches} independent batches")
        cost = "2 T + 1 backward on a third of the rows each"
    if balancer.second_look:
        cost += ", 1 forward"
    if balancer.held_out:
        needs.append("held-out data")
        cost = "3 backward, 3 forward"
    if balancer.positive:
        needs.append("positive losses")
    kind = {"losses": "losses only", "gram": "Gram matrix", "gradients": "gradients"}[
        balancer.needs
    ]
    if balancer.gradients == "layer":
        kind = "losses only"
    if balancer.held_out:
        kind = "validation data"
    return Entry(name, kind, ", ".join(needs), cost, citation(type(balancer)))


def citation(cls: type) -> str:
    """The first sentence with a year that the class's docstring has under "Reference:", in one line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    found = re.search(r"^Reference:\n((?:[ ]+.*\n?)+)", text, re.MULTILINE)
    if not found:
        return ""
    sentence = re.match(r".*?(?:19|20)\d\d.*?\.(?=\s|$)", " ".join(found.group(1).split()))
    return sentence.group(0).rstrip(".") if sentence else ""
