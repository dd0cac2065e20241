"""Where a warning points to: the user's own line."""

from __future__ import annotations

import sys

__all__ = ["caller_level"]


def caller_level() -> int:
    """The `stacklevel` of the first caller outside this package, for a `warnings.warn` in the
    function that calls this one."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mtl_keras"):
        frame, level = frame.f_back, level + 1
    return level
