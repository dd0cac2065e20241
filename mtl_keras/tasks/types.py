"""What `Any` means in the annotations of this package."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Config", "Tensor"]

#: A tensor of Keras's backend. The backends share no class.
Tensor: TypeAlias = Any

#: What `get_config` returns.
Config: TypeAlias = dict[str, Any]
