"""What builders take as `inputs`, and what a source holds before an encoder is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mtl_keras.data.fields import Field

__all__ = ["Inputs", "RawInputs"]


class Inputs(dict[str, Any]):
    """Shapes of a network's inputs by name, with what suits them: every builder takes it.

    A builder that is called with it takes the encoder, the backbone, and the backbone's options
    from here where its own arguments do not name others.

    Args:
        shapes: dict of input name to the shape of one row.
        dtypes: dict of input name to dtype. Whole numbers are ids, such as tokens. Inputs that are
            not named are "float32", or "int32" where they are called `tokens` or `categorical`.
        encoder: what makes these inputs from raw rows, or None.
        backbone: name of a backbone that takes them, or None for the builder's default.
        backbone_options: dict of the backbone's arguments, such as `cardinalities`.

    Examples:
        >>> inputs = mtl.data.Inputs({"image": (32, 32, 3)}, backbone="small_cnn")
        >>> model = mtl.builders.hard_sharing(inputs, tasks)
    """

    def __init__(
        self,
        shapes: Mapping[str, Any],
        *,
        dtypes: Mapping[str, str] | None = None,
        encoder: Any = None,
        backbone: Any = None,
        backbone_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(shapes)
        self.dtypes = dict(dtypes or {})
        self.encoder = encoder
        self.backbone = backbone
        self.backbone_options = dict(backbone_options or {})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {shape}" for name, shape in self.items())
        return f"Inputs({{{shapes}}}, backbone={self.backbone!r})"


class RawInputs(Protocol):
    """Rows as a person has them, such as texts and table columns, whose encoder is fitted."""

    def fit(self, rows: np.ndarray) -> Any:
        """An encoder, fitted on these rows."""

    def encode(self, encoder: Any) -> dict[str, Field]:
        """The network's inputs for all rows."""

    def suggest_backbone(self, encoder: Any) -> tuple[Any, dict[str, Any]]:
        """A backbone for these inputs, None for the builder's default, and its options."""

    def select(self, rows: np.ndarray) -> RawInputs:
        """These rows only."""
