"""Which variables a balancer balances: a choice of the shared ones, and a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.tables import format_table

__all__ = ["BalancingReport", "narrow"]


def narrow(shared: Sequence[Any], chosen: Any) -> list[Any]:
    """The shared variables whose path matches a regular expression, or one of several.

    Raises:
        ValueError: an expression that matches none.
    """
    if chosen is None:
        return list(shared)
    patterns = [chosen] if isinstance(chosen, str) else list(chosen)
    chosen_ids = set()
    for pattern in patterns:
        matches = {id(v) for v in shared if re.search(pattern, v.path)}
        if not matches:
            raise ValueError(unknown_name("shared variables:", pattern, [v.path for v in shared]))
        chosen_ids |= matches
    return [v for v in shared if id(v) in chosen_ids]


@dataclass(frozen=True)
class BalancingReport:
    """What the balancer balances. Printing it shows a table.

    Attributes:
        balancer: the balancer's name.
        gradients: whose gradients it looks at.
        rows: one a trainable variable: `(path, shape, tasks that reach it, "shared", "narrowed out"
            or "head")`.
        representation: names of the layers whose outputs the heads share.
    """

    balancer: str
    gradients: str
    rows: tuple[tuple[str, tuple[int, ...], tuple[str, ...], str], ...]
    representation: tuple[str, ...]

    @property
    def shared(self) -> list[str]:
        """Paths of the shared variables that are balanced."""
        return [row[0] for row in self.rows if row[3] == "shared"]

    def __str__(self) -> str:
        rows = [
            (path, "x".join(map(str, s)) or "scalar", ", ".join(tasks), role)
            for path, s, tasks, role in self.rows
        ]
        text = format_table(
            f"balancer '{self.balancer}' ({self.gradients})",
            ("variable", "shape", "tasks", "role"),
            rows,
        )
        return text + (
            f"representation: {', '.join(self.representation)}\n" if self.representation else ""
        )
