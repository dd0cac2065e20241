"""Checks that backbones share."""

from __future__ import annotations

from typing import Any

__all__ = ["image_input", "rank_input"]


def image_input(backbone: str, inputs: Any) -> None:
    """Refuse what is no image of fixed channels."""
    rank_input(backbone, inputs, 4, "images (rows, height, width, channels)")


def rank_input(backbone: str, inputs: Any, rank: int, what: str) -> None:
    """Refuse an input of another rank, or several inputs."""
    shape = getattr(inputs, "shape", None)
    if shape is None or len(shape) != rank:
        raise ValueError(f"Backbone '{backbone}' takes {what}, got {inputs if shape is None else tuple(shape)}.")
