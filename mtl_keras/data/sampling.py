"""How often each of several data sets is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_keras.runtime.names import unknown_name

__all__ = ["Sampling", "sampling_rates", "unimax_budgets"]

_NAMES = ("proportional", "uniform", "temperature", "unimax", "annealed", "round_robin")
#: Samplings that follow from the numbers of rows.
_BY_SIZE = ("proportional", "temperature", "unimax", "annealed")


@dataclass(frozen=True)
class Sampling:
    """A sampling by name, by weights, or by schedule, with its settings checked.

    Attributes:
        kind: name of a sampling, weights (a list, or a dict by source), or a function of the
            epoch's number, from 0, to weights.
        temperature, limit, epochs, max_passes: see `sampling_rates`.
    """

    kind: str | Mapping[str, float] | Sequence[float] | Callable[[int], Any] = "proportional"
    temperature: float = 2.0
    limit: float | None = None
    epochs: int | None = None
    max_passes: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.kind, str) and self.kind not in _NAMES:
            raise ValueError(unknown_name("sampling", self.kind, _NAMES))
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(
                f"`temperature` should be a number > 0. Received: {self.temperature!r}."
            )
        for name in ("limit", "max_passes", "epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` should be a number > 0. Received: {value!r}.")
        if self.kind in ("annealed", "unimax") and self.epochs is None:
            raise ValueError(
                f"`sampling='{self.kind}'` needs to know how many epochs the training has: give "
                f"`epochs=`."
            )
        if self.kind == "unimax" and self.max_passes is None:
            raise ValueError(
                "`sampling='unimax'` needs `max_passes=`: how often a row may come in the whole "
                "training."
            )

    @property
    def needs_sizes(self) -> bool:
        """Whether rates follow from the numbers of rows."""
        return self.kind in _BY_SIZE

    @property
    def changes(self) -> bool:
        """Whether an epoch may have other rates than the one before."""
        return self.kind == "annealed" or callable(self.kind)

    def rates(
        self, sizes: Mapping[str, float], epoch: int = 0, units_per_epoch: float | None = None
    ) -> np.ndarray:
        """The share of each source in an epoch; they add up to 1.

        Args:
            sizes: rows of each source, by name, in order.
            epoch: int >= 0.
            units_per_epoch: rows of an epoch, for UniMax's budget. Defaults to all rows once.
        """
        counts = np.array(list(sizes.values()), "float64")
        if isinstance(self.kind, str):
            if self.kind in ("uniform", "round_robin"):
                return np.full(len(counts), 1 / len(counts))
            return _normalized(self._by_size(counts, epoch, units_per_epoch))
        weights = self.kind(epoch) if callable(self.kind) else self.kind
        where = f" of epoch {epoch}" if callable(self.kind) else ""
        return _normalized(_weights(weights, list(sizes), where))

    def _by_size(self, counts: np.ndarray, epoch: int, units: float | None) -> np.ndarray:
        if self.kind == "annealed":
            progress = min(epoch, self.epochs - 1) / max(self.epochs - 1, 1)  # type: ignore[operator]
            return counts ** (1.0 - 0.8 * progress)
        if self.kind == "unimax":
            budget = self.epochs * (counts.sum() if units is None else units)  # type: ignore[operator]
            return unimax_budgets(counts, budget, float(self.max_passes or 0))
        limited = counts if self.limit is None else np.minimum(counts, self.limit)
        power = 1.0 / self.temperature if self.kind == "temperature" else 1.0
        return (limited / limited.sum()) ** power


def unimax_budgets(sizes: Any, budget: float, max_passes: float) -> np.ndarray:
    """UniMax: as equal a share of the budget for each source as `max_passes` allows.

    Sources are visited from the smallest on. Each takes an equal part of what is left of the
    budget, or `max_passes` times its size where that is less.

    Args:
        sizes: rows of each source.
        budget: rows that are drawn in the whole training.
        max_passes: how often a row may come.

    Returns:
        float64 array: the rows that are drawn from each source.

    References:
        Chung, Constant, Garcia, Roberts, Tay, Narang, Firat, "UniMax: Fairer and more Effective
        Language Sampling for Large-Scale Multilingual Pretraining", ICLR 2023, algorithm 1.
    """
    sizes = np.asarray(sizes, "float64")
    budgets = np.zeros(len(sizes))
    left = float(budget)
    for position, source in enumerate(np.argsort(sizes, kind="stable")):
        equal_part = left / (len(sizes) - position)
        budgets[source] = min(equal_part, sizes[source] * max_passes)
        left -= budgets[source]
    return budgets


def sampling_rates(
    sizes: Mapping[str, int],
    sampling: Any = "proportional",
    *,
    epoch: int = 0,
    temperature: float = 2.0,
    limit: float | None = None,
    epochs: int | None = None,
    max_passes: float | None = None,
) -> dict[str, float]:
    """The share of each source in an epoch of `mtl.data.mix`, to look at before training.

    With `n_i` rows in source i:

    - "proportional": `n_i`.
    - "uniform", "round_robin": equal shares.
    - "temperature": `(min(n_i, limit) / sum_j min(n_j, limit))^(1 / temperature)`.
    - "annealed": `n_i^a` with `a = 1 - 0.8 e / (epochs - 1)` in epoch e (from 0): proportional at
      first, nearly uniform in the end.
    - "unimax": as equal as can be while no row comes more than `max_passes` times in the whole
      training; see `mtl_keras.data.sampling.unimax_budgets`.
    - a dict or a list: these weights. A function of the epoch (from 0): the weights it returns.

    Args:
        sizes: dict of source to its number of rows.
        sampling: one of the names, weights, or a function of the epoch.
        epoch: int. Defaults to 0, the first.
        temperature: float > 0. 1 is proportional; the higher, the more uniform. Defaults to 2.
        limit: int or None. Rows of a source above it do not count, for "proportional" and
            "temperature". Defaults to None.
        epochs: int. Of the whole training; "annealed" and "unimax" need it.
        max_passes: float. "unimax" needs it.

    Returns:
        dict of source to share; the shares add up to 1.

    Raises:
        ValueError: an unknown sampling, settings out of range, or invalid weights.

    Examples:
        >>> mtl.data.sampling_rates({"large": 9000, "small": 1000}, "temperature", temperature=2)
        {'large': 0.75, 'small': 0.25}

    References:
        Temperature: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the
        Wild", 2019; with a limit: Raffel et al., "Exploring the Limits of Transfer Learning with a
        Unified Text-to-Text Transformer", JMLR 2020, section 3.5.2. Annealed: Stickland and
        Murray, "BERT and PALs", ICML 2019, section 4.2. UniMax: Chung et al., ICLR 2023.
    """
    if not sizes or any(not size > 0 for size in sizes.values()):
        raise ValueError(f"`sizes` should be rows > 0 by source. Received: {dict(sizes)!r}.")
    settings = Sampling(sampling, temperature, limit, epochs, max_passes)
    return {
        name: float(rate) for name, rate in zip(sizes, settings.rates(sizes, epoch), strict=True)
    }


def _weights(weights: Any, names: list[str], where: str) -> np.ndarray:
    """Weights in the sources' order."""
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise ValueError(unknown_name(f"source in the weights{where}:", name, names))
        lacking = [name for name in names if name not in weights]
        if lacking:
            raise ValueError(
                f"The weights{where} should name every source; they lack "
                f"{', '.join(map(repr, lacking))}. 0 leaves a source out."
            )
        weights = [weights[name] for name in names]
    values = np.asarray(weights, "float64")
    is_valid = values.shape == (len(names),) and np.isfinite(values).all() and (values >= 0).all()
    if not is_valid or not values.sum():
        raise ValueError(
            f"The weights{where} should be {len(names)} numbers >= 0, one for each data set, not "
            f"all of them 0. Received: {weights!r}."
        )
    return values


def _normalized(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / values.sum())
