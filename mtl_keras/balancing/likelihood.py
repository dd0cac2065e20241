"""How a loss is read as the logarithm of a likelihood."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["LIKELIHOODS", "likelihood_of"]

#: What a loss may be: squared errors, absolute errors, or the negative log likelihood of classes.
LIKELIHOODS = ("gaussian", "laplace", "categorical")

# By the name of Keras's function; classes of Keras are wrappers around these.
_FUNCTIONS = {
    "gaussian": ("mean_squared_error", "mean_squared_logarithmic_error"),
    # Linear where errors are large; the small ones say little of the noise.
    "laplace": ("mean_absolute_error", "mean_absolute_percentage_error", "huber", "log_cosh"),
    "categorical": (
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "sparse_categorical_crossentropy",
        "kl_divergence",
        "poisson",
        "ctc",
    ),
}
_BY_FUNCTION = {name: likelihood for likelihood, names in _FUNCTIONS.items() for name in names}
_CLASSES = {
    "gaussian": (keras.losses.MeanSquaredError, keras.losses.MeanSquaredLogarithmicError),
    "laplace": (
        keras.losses.MeanAbsoluteError,
        keras.losses.MeanAbsolutePercentageError,
        keras.losses.Huber,
        keras.losses.LogCosh,
    ),
    "categorical": (
        keras.losses.BinaryCrossentropy,
        keras.losses.BinaryFocalCrossentropy,
        keras.losses.CategoricalCrossentropy,
        keras.losses.CategoricalFocalCrossentropy,
        keras.losses.SparseCategoricalCrossentropy,
        keras.losses.KLDivergence,
        keras.losses.Poisson,
        keras.losses.CTC,
    ),
}


def likelihood_of(task: Any, loss: Any) -> str | None:
    """Whether a loss is the negative log likelihood of a Gaussian, of a Laplace distribution, or of
    classes.

    Args:
        task: `Task`, or an object that has a name only.
        loss: the loss that is trained with: a function or a `keras.losses.Loss`. An attribute
            `likelihood` of a loss of your own says what it is.

    Returns:
        "gaussian", "laplace" or "categorical"; None where nobody knows: a loss that is neither
        Keras's nor the task's own.
    """
    declared = getattr(loss, "likelihood", None)
    if declared in LIKELIHOODS:
        return str(declared)
    for likelihood, classes in _CLASSES.items():
        if isinstance(loss, classes):
            return likelihood
    function = getattr(loss, "fn", loss)
    if getattr(function, "__module__", "").startswith("keras."):
        known = _BY_FUNCTION.get(getattr(function, "__name__", ""))
        if known is not None:
            return known
    if loss is not None and _is_own(task, loss):
        return getattr(task, "likelihood", None)
    return None


def _is_own(task: Any, loss: Any) -> bool:
    """Whether a loss is of the kind that the task makes where it is told nothing else."""
    default = task.default_loss() if hasattr(task, "default_loss") else None
    return loss is default or (isinstance(loss, keras.losses.Loss) and type(loss) is type(default))
