"""The small network and the small data on which parts are tried."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtl_keras.builders import hard_sharing
from mtl_keras.model import MultiTaskModel
from mtl_keras.tasks import Binary, Regression, Task

__all__ = ["table_data", "table_model"]


def table_model(
    tasks: Sequence[Task] | None = None,
    widths: Sequence[int] = (8,),
    normalize: bool = False,
    name: str = "table",
) -> MultiTaskModel:
    """A small network on rows of five numbers.

    It has neither dropout nor batch normalization: what one task does to another is then exact.

    Args:
        tasks: list of `Task`. Defaults to a regression "cost" and a yes-or-no "sold", each with a
            linear head.
        widths: units of the shared layers.
        normalize: bool. Whether batch normalization follows each shared layer.
        name: str. The model's name.

    Returns:
        `MultiTaskModel`, not compiled.

    Examples:
        >>> model = mtl.testing.table_model()
        >>> x, y = mtl.testing.table_data()
        >>> model.compile("sgd", balancer="uncertainty")
        >>> history = model.fit(x, y, verbose=0)
    """
    return hard_sharing(
        (5,),
        tasks or [Regression("cost", hidden=0), Binary("sold", hidden=0)],
        backbone="mlp",
        backbone_options={"widths": widths, "normalize": normalize},
        name=name,
    )


def table_data(rows: int = 32, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Data for `table_model`: both labels follow from the five numbers.

    Args:
        rows: int.
        seed: int. Other seeds give other rows and other rules.

    Returns:
        `(x, y)`: float32 `(rows, 5)`, and a dict with "cost" (float32) and "sold" (0 or 1), one a
        row.

    Examples:
        >>> x, y = mtl.testing.table_data(rows=8)
        >>> x.shape, sorted(y)
        ((8, 5), ['cost', 'sold'])
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype("float32")
    cost = (x @ rng.standard_normal(5) + 0.1 * rng.standard_normal(rows)).astype("float32")
    sold = (x @ rng.standard_normal(5) > 0).astype("int32")
    return x, {"cost": cost, "sold": sold}
