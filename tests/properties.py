"""Which of the properties each method has by its definition; the tests hold it to them."""

# finite:      whatever the gradients, also where nothing is defined.
# permutation: tasks in another order have the same weights in that order (random orders and draws
# excepted). peaceful:    no present task's loss rises to first order; where that is the solution of
# a problem that gradients which
#              cancel do not have, only for gradients that don't.
# linear:      the update of c J is c times that of J ("const": the same, whatever c).
# rows:        the direction does not depend on how long any one gradient is.
# stationary:  gradients that cancel give the update 0.
PROPERTIES = {
    "mgda": {"finite", "permutation", "peaceful", "linear", "stationary"},
    "ema": {"finite", "permutation", "peaceful", "linear", "stationary"},
    "pcgrad": {"finite", "linear"},
    "gradvac": {"finite", "linear"},
    "cagrad": {"finite", "permutation", "linear"},
    "imtl_g": {"finite", "permutation", "linear", "rows"},
    "imtl": {"finite", "permutation", "linear", "rows"},
    "nash_mtl": {"finite", "permutation", "peaceful_if_solvable", "const", "rows"},
    "fairgrad": {"finite", "permutation", "peaceful_if_solvable"},
    "aligned_mtl": {"finite", "permutation", "linear"},
    "upgrad": {"finite", "permutation", "peaceful", "linear", "stationary"},
    "dualproj": {"finite", "permutation", "peaceful", "linear", "stationary"},
    "config": {"finite", "permutation", "peaceful_if_solvable", "linear", "rows"},
    "krum": {"finite", "permutation", "linear"},
    "sdmgrad": {"finite", "permutation", "linear"},
    "modo": {"finite", "permutation"},
    "graddrop": {"finite", "linear"},
    "trimmed_mean": {"finite", "permutation", "linear"},
    "moco": {"finite", "permutation"},
    "db_mtl": {"finite", "permutation", "linear"},
    "excess_mtl": {"finite", "permutation", "linear"},
    "metabalance": {"finite", "linear"},
    "gradnorm": {"finite", "permutation"},
    "equal": {"finite", "permutation"},
    "static": {"finite"},
    "uncertainty": {"finite", "permutation"},
    "imtl_l": {"finite", "permutation"},
    "dwa": {"finite", "permutation"},
    "gls": {"finite", "permutation"},
    "log_loss": {"finite", "permutation"},
    "rlw": {"finite"},
    "famo": {"finite", "permutation"},
    "stch": {"finite", "permutation"},
    "chebyshev": {"finite", "permutation"},
    "pbi": {"finite", "permutation"},
    "auto_lambda": {"finite", "permutation"},
}
