"""Which quantization comes first: files in the order of what they cost, as measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mtl_keras.export.report import Rung

__all__ = ["KINDS", "beyond_budget", "check_budget", "in_order"]

#: What "auto" makes.
KINDS = ("int8", "dynamic", "weights", "int16x8", "float16", "float32")
#: Latencies are as good as equal within this factor: the next measurement differs by as much.
_EQUAL = 1.5
#: Milliseconds under which no application sees a difference.
_FAST = 0.1


def check_budget(budget: Any) -> dict[str, float]:
    """A budget as numbers.

    Raises:
        ValueError: other keys than "bytes" and "ms", or no positive numbers.
    """
    if budget is None:
        return {}
    if not isinstance(budget, Mapping) or set(budget) - {"bytes", "ms"}:
        raise ValueError(
            f'`budget` should be a dict of "bytes", "ms" or both. Received: {budget!r}.'
        )
    for key, value in budget.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(
                f'`budget` should hold positive numbers. Received: "{key}": {value!r}.'
            )
    return {key: float(value) for key, value in budget.items()}


def beyond_budget(rung: Rung, budget: Mapping[str, float]) -> str | None:
    """Why a file does not fit, or None."""
    reasons = []
    if "bytes" in budget and cast(int, rung.size) > budget["bytes"]:
        reasons.append(f"{rung.size:,} bytes, and the budget is {budget['bytes']:,.0f}")
    if "ms" in budget and cast(float, rung.latency_ms) > budget["ms"]:
        reasons.append(f"{rung.latency_ms:.2f} ms a call here, and the budget is {budget['ms']:g}")
    return "; ".join(reasons) or None


def in_order(rungs: Sequence[Rung], budget: Mapping[str, float]) -> list[Rung]:
    """Files from the cheapest to the dearest.

    With a budget of milliseconds the smallest comes first: all that fit are fast enough. With one
    of bytes alone, the fastest. With none, sizes count, multiplied by how many times slower a file
    is than the fastest (from 1.5 times on).
    """
    fastest = max(min((cast(float, rung.latency_ms) for rung in rungs), default=_FAST), _FAST)

    def cost(rung: Rung) -> tuple[float, float]:
        slower = max(cast(float, rung.latency_ms), _FAST) / fastest
        if "ms" in budget:
            return cast(int, rung.size), slower
        if "bytes" in budget:
            return math.floor(math.log(slower, _EQUAL)), cast(int, rung.size)
        return cast(int, rung.size) * (slower if slower > _EQUAL else 1.0), slower

    return sorted(rungs, key=cost)
