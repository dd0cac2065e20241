"""Small convex problems over task weights, solved to the last digits of float64.

Everything is `keras.ops` on matrices of at most a few tasks: no external solver, safe in graphs and under XLA. Problems
come in row-normalized coordinates (unit diagonal), so that no absolute threshold is needed anywhere. Masked tasks have no
part in a solution.
"""

from __future__ import annotations

from keras import ops

__all__ = ["dual_cone", "masked_cosines", "min_norm", "nash", "pseudo_inverse", "pseudo_inverse_root"]

_ITERATIONS = 40
_EPS = 2.0**-52
# Keeps a singular system solvable. It bends the path to the solution, not the solution.
_RIDGE = 1e-14


def masked_cosines(gram, present):
    """Row-normalized Gram matrix and the rows' norms, in float64.

    Returns:
        `(cosines, norms, live)`: cosines with unit diagonal; rows that are masked or zero are rows of the identity, their
        norm is 1, and `live` is False there.
    """
    gram = ops.cast(gram, "float64")
    size = gram.shape[0]
    diagonal = ops.diagonal(gram)
    live = ops.logical_and(present, diagonal > 0)
    norms = ops.sqrt(ops.where(live, diagonal, ops.ones_like(diagonal)))
    both = ops.logical_and(live[:, None], live[None, :])
    cosines = ops.where(both, gram / norms[:, None] / norms[None, :], ops.zeros_like(gram))
    off = ops.clip((cosines + ops.transpose(cosines)) / 2, -1.0, 1.0) * (1 - ops.eye(size, dtype="float64"))
    return off + ops.eye(size, dtype="float64"), norms, live


def min_norm(matrix, costs, live):
    """The minimizer of `x^T M x` over `x >= 0` with `costs . x = 1` (for M = G, costs = 1: the min-norm point of MGDA).

    A primal-dual interior-point method (Mehrotra, SIAM J. Optim. 1992).

    Args:
        matrix: `(tasks, tasks)`, positive semidefinite, unit diagonal.
        costs: `(tasks,)`, positive.
        live: bool `(tasks,)`; other entries of `x` are 0. At least one must be True.
    """
    both = ops.logical_and(live[:, None], live[None, :])
    eye = ops.eye(matrix.shape[0], dtype="float64")
    matrix = ops.where(both, matrix, eye)
    mask = ops.cast(live, "float64")
    scale = ops.max(ops.where(live, costs, ops.zeros_like(costs)))
    costs = ops.where(live, costs / scale, ops.zeros_like(costs))
    x = mask / ops.sum(costs) + (1 - mask)
    slope = ops.matmul(matrix, x)
    level = ops.min(ops.where(live, slope / ops.where(live, costs, 1.0), float("inf"))) - 1.0
    z = ops.where(live, ops.maximum(slope - level * costs, 1e-8), ops.ones_like(x))

    def step(_, state):
        x, level, z = state
        dual = ops.matmul(matrix, x) - level * costs - z  # 0 at the solution
        primal = 1.0 - ops.sum(costs * x)
        gap = ops.sum(mask * x * z) / ops.sum(mask)

        def newton(target):
            # target: what x z should become, as a change of it.
            ratio = z / x
            system = matrix + _diag(ops.maximum(ratio, _RIDGE))
            right = ops.stack([-dual + target / x, costs], axis=1)
            solved = ops.solve(system, right)
            a, b = solved[:, 0], solved[:, 1]
            change = (primal - ops.sum(costs * a)) / ops.sum(costs * b)
            dx = mask * (a + change * b)
            return dx, change, mask * (target / x - ratio * dx)

        dx, dlevel, dz = newton(-x * z)
        affine = ops.sum(mask * (x + _length(x, dx, mask) * dx) * (z + _length(z, dz, mask) * dz)) / ops.sum(mask)
        sigma = (affine / ops.maximum(gap, 1e-300)) ** 3
        dx, dlevel, dz = newton(-x * z + sigma * gap - dx * dz)
        ax, az = 0.995 * _length(x, dx, mask), 0.995 * _length(z, dz, mask)
        length = ops.minimum(ax, az)
        # Rounding ends the progress: the last good point is kept.
        going = ops.logical_and(gap > 1e-22, _all_finite(dx, dz))
        length = ops.where(going, length, ops.zeros_like(length))
        dx, dz = (ops.where(going, v, ops.zeros_like(v)) for v in (dx, dz))
        dlevel = ops.where(going, dlevel, ops.zeros_like(dlevel))
        return x + length * dx, level + length * dlevel, z + length * dz

    x, _, _ = ops.fori_loop(0, _ITERATIONS, step, (x, level, z))
    x = x * mask
    return x / ops.sum(costs * x) / scale


def dual_cone(matrix, start, live):
    """`v >= u` with the least `v^T M v`: the weights of the projection of `J^T u` onto the cone of non-conflicting updates.

    Args:
        matrix: `(tasks, tasks)`, positive semidefinite, unit diagonal.
        start: `(problems, tasks)`, one `u` a row.
        live: bool `(tasks,)`; other entries stay 0.

    Returns:
        `(problems, tasks)`.
    """
    mask = ops.cast(live, "float64")
    start = start * mask
    both = ops.logical_and(live[:, None], live[None, :])
    matrix = ops.where(both, matrix, ops.eye(matrix.shape[0], dtype="float64"))
    slope = ops.matmul(start, matrix) * mask + (1 - mask)
    # min s^T M s / 2 + slope . s over s >= 0; slopes are at most a few times the size of u.
    size = ops.maximum(ops.max(ops.abs(start), axis=-1, keepdims=True), 1e-300)
    slope = ops.where(live, slope / size, ops.ones_like(slope))
    x, z = ops.ones_like(slope), ops.maximum(slope + 1.0, ops.ones_like(slope))

    def step(_, state):
        x, z = state
        dual = ops.matmul(x, matrix) + slope - z
        gap = ops.mean(x * z, axis=-1, keepdims=True)

        def newton(target):
            system = matrix[None] + _diag(ops.maximum(z / x, _RIDGE))
            dx = ops.solve(system, (-dual + target / x)[..., None])[..., 0]
            return dx, target / x - z / x * dx

        dx, dz = newton(-x * z)
        ones = ops.ones_like(x)
        affine = ops.mean((x + _length(x, dx, ones) * dx) * (z + _length(z, dz, ones) * dz), axis=-1, keepdims=True)
        sigma = (affine / ops.maximum(gap, 1e-300)) ** 3
        dx, dz = newton(-x * z + sigma * gap - dx * dz)
        length = 0.995 * ops.minimum(_length(x, dx, ones), _length(z, dz, ones))
        going = ops.logical_and(gap > 1e-22, _all_finite(dx, dz, axis=-1))
        return (
            ops.where(going, x + length * dx, x),
            ops.where(going, z + length * dz, z),
        )

    x, z = ops.fori_loop(0, _ITERATIONS, step, (x, z))
    # What is held at its bound is exactly there.
    x = ops.where(z > x, ops.zeros_like(x), x) * mask
    return start + size * x


def nash(matrix, live):
    """The positive solution of `M a = 1 / a`: the minimizer of `a^T M a / 2 - sum(log a)`, by damped Newton steps.

    Without a solution (a positive combination of rows is 0, and `a` has no bound) a ridge of 1e-13 bounds it.
    """
    mask = ops.cast(live, "float64")
    eye = ops.eye(matrix.shape[0], dtype="float64")
    both = ops.logical_and(live[:, None], live[None, :])
    matrix = ops.where(both, matrix, eye) + 1e-13 * eye
    a = ops.ones_like(mask) / ops.sqrt(ops.maximum(ops.sum(mask), 1.0))

    def step(_, a):
        gradient = ops.matmul(matrix, a) - 1.0 / a
        direction = -ops.solve(matrix + _diag(1.0 / a**2), gradient[:, None])[:, 0]
        decrement = ops.sqrt(ops.maximum(-ops.sum(gradient * direction), 0.0))
        # Self-concordant: a step of 1 / (1 + decrement) stays inside and descends; near the end it is 1.
        length = ops.where(decrement < 0.25, ops.ones_like(decrement), 1.0 / (1.0 + decrement))
        length = ops.minimum(length, 0.99 * _length(a, direction, ops.ones_like(a)))
        return a + length * direction

    return ops.fori_loop(0, 2 * _ITERATIONS, step, a) * mask


def pseudo_inverse(matrix):
    """Moore-Penrose inverse of a symmetric matrix, small eigenvalues (relative to the largest) as zeros."""
    values, vectors = ops.eigh(matrix)
    kept = values > ops.max(values) * matrix.shape[0] * 16 * _EPS
    inverse = ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)
    return ops.matmul(vectors * inverse[None, :], ops.transpose(vectors))


def pseudo_inverse_root(matrix, tolerance):
    """`(root, kept, values)`: the inverse square root of a symmetric matrix, which eigenvalues count, and all of them."""
    values, vectors = ops.eigh(matrix)
    kept = values > ops.max(values) * matrix.shape[0] * tolerance
    inverse = ops.where(kept, 1.0 / ops.sqrt(ops.where(kept, values, 1.0)), 0.0)
    return ops.matmul(vectors * inverse[None, :], ops.transpose(vectors)), kept, values


def _diag(x):
    return x[..., None] * ops.eye(x.shape[-1], dtype="float64")


def _length(x, dx, mask):
    """The longest step, at most 1, along which `x` stays >= 0."""
    ratio = ops.where(ops.logical_and(dx < 0, mask > 0), -x / ops.where(dx < 0, dx, -1.0), float("inf"))
    return ops.minimum(ops.min(ratio, axis=-1, keepdims=len(x.shape) > 1), 1.0)


def _all_finite(*tensors, axis=None):
    found = [ops.all(ops.isfinite(t), axis=axis, keepdims=axis is not None) for t in tensors]
    return ops.logical_and(*found)
