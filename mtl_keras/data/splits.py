"""Splits of a data set: which rows train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.data.sources import DataError

if TYPE_CHECKING:
    from mtl_keras.data.dataset import TaskDataset

__all__ = ["split_rows"]


def split_rows(
    data: TaskDataset,
    fractions: Sequence[float],
    *,
    seed: int,
    by: str | None,
    stratify: bool | Sequence[str],
) -> list[np.ndarray]:
    """Row numbers of each part. Arguments are those of `TaskDataset.split`."""
    shares = _check_fractions(fractions)
    order = np.random.default_rng(seed).permutation(len(data))
    ends = np.round(np.cumsum(shares) * len(data)).astype(int)
    parts = [np.sort(part) for part in np.split(order, ends)[: len(shares)]]
    for number, part in enumerate(parts):
        if not len(part):
            raise DataError(
                f"Part {number} of the split has no row: {len(data)} rows are too few for a share "
                f"of {shares[number]:g}."
            )
    return parts


def _check_fractions(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, float)
    is_valid = shares.ndim == 1 and len(shares) and np.isfinite(shares).all()
    if not is_valid or (shares <= 0).any() or shares.sum() > 1 + 1e-9:
        raise DataError(
            f"Fractions should be numbers > 0 that add up to at most 1, such as 0.8, 0.1, 0.1. "
            f"Received: {', '.join(map(str, fractions)) or 'none'}."
        )
    return shares
