"""Small convex problems over task weights, solved to the last digits of float64.

Everything is `keras.ops` on matrices of at most a few tasks: no external solver, safe in graphs and
under XLA. Problems come in row-normalized coordinates (unit diagonal), so that no absolute
threshold is needed anywhere. Masked tasks have no part in a solution.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.types import Tensor

__all__ = [
    "ball",
    "dual_cone",
    "fair",
    "masked_cosines",
    "min_norm",
    "nash",
    "project_simplex",
    "pseudo_inverse",
    "pseudo_inverse_root",
]

_ITERATIONS = 40
_EPS = 2.0**-52
# Keeps a singular system solvable. It bends the path to the solution, not the solution.
_RIDGE = 1e-14


def masked_cosines(gram: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row-normalized Gram matrix and the rows' norms, in float64.

    Returns:
        `(cosines, norms, live)`: cosines with unit diagonal; rows that are masked or zero are rows
        of the identity, their norm is 1, and `live` is False there.
    """
    gram = ops.cast(gram, "float64")
    size = gram.shape[0]
    diagonal = ops.diagonal(gram)
    live = ops.logical_and(present, diagonal > 0)
    norms = ops.sqrt(ops.where(live, diagonal, ops.ones_like(diagonal)))
    both = ops.logical_and(live[:, None], live[None, :])
    cosines = ops.where(both, gram / norms[:, None] / norms[None, :], ops.zeros_like(gram))
    off = ops.clip((cosines + ops.transpose(cosines)) / 2, -1.0, 1.0) * (
        1 - ops.eye(size, dtype="float64")
    )
    return off + ops.eye(size, dtype="float64"), norms, live


def min_norm(matrix: Tensor, costs: Tensor, live: Tensor) -> Tensor:
    """The minimizer of `x^T M x` over `x >= 0` with `costs . x = 1` (for M = G, costs = 1: the
    min-norm point of MGDA).

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
    level = ops.min(ops.where(live, ops.divide_no_nan(slope, costs), float("inf"))) - 1.0
    z = ops.where(live, ops.maximum(slope - level * costs, 1e-8), ops.ones_like(x))

    def step(x: Tensor, level: Any, z: Tensor, _: Any) -> Tensor:
        dual = ops.matmul(matrix, x) - level * costs - z  # 0 at the solution
        primal = 1.0 - ops.sum(costs * x)
        gap = ops.sum(mask * x * z) / ops.sum(mask)

        def newton(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        affine = ops.sum(
            mask * (x + _length(x, dx, mask) * dx) * (z + _length(z, dz, mask) * dz)
        ) / ops.sum(mask)
        sigma = (affine / ops.maximum(gap, 1e-300)) ** 3
        dx, dlevel, dz = newton(-x * z + sigma * gap - dx * dz)
        ax, az = 0.995 * _length(x, dx, mask), 0.995 * _length(z, dz, mask)
        length = ops.minimum(ax, az)
        # Rounding ends the progress: the last good point is is_kept.
        going = ops.logical_and(gap > 1e-22, _all_finite(dx, dz))
        length = ops.where(going, length, ops.zeros_like(length))
        dx, dz = (ops.where(going, v, ops.zeros_like(v)) for v in (dx, dz))
        dlevel = ops.where(going, dlevel, ops.zeros_like(dlevel))
        return x + length * dx, level + length * dlevel, z + length * dz, going

    x, _, _, _ = _until(step, (x, level, z), _ITERATIONS)
    x = x * mask
    return x / ops.sum(costs * x) / scale


def dual_cone(matrix: Tensor, start: Tensor, live: Tensor) -> Tensor:
    """`v >= u` with the least `v^T M v`: the weights of the projection of `J^T u` onto the cone of
    non-conflicting updates.

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

    def step(x: Tensor, z: Tensor, _: Any) -> Tensor:
        dual = ops.matmul(x, matrix) + slope - z
        gap = ops.mean(x * z, axis=-1, keepdims=True)

        def newton(target: Tensor) -> tuple[Tensor, Tensor]:
            system = matrix[None] + _diag(ops.maximum(z / x, _RIDGE))
            dx = ops.solve(system, (-dual + target / x)[..., None])[..., 0]
            return dx, target / x - z / x * dx

        dx, dz = newton(-x * z)
        ones = ops.ones_like(x)
        affine = ops.mean(
            (x + _length(x, dx, ones) * dx) * (z + _length(z, dz, ones) * dz),
            axis=-1,
            keepdims=True,
        )
        sigma = (affine / ops.maximum(gap, 1e-300)) ** 3
        dx, dz = newton(-x * z + sigma * gap - dx * dz)
        length = 0.995 * ops.minimum(_length(x, dx, ones), _length(z, dz, ones))
        going = ops.logical_and(gap > 1e-22, _all_finite(dx, dz, axis=-1))
        return (
            ops.where(going, x + length * dx, x),
            ops.where(going, z + length * dz, z),
            ops.any(going),
        )

    x, z, _ = _until(step, (x, z), _ITERATIONS)
    # What is held at its bound is exactly there.
    x = ops.where(z > x, ops.zeros_like(x), x) * mask
    return start + size * x


def nash(matrix: Tensor, live: Tensor) -> Tensor:
    """The positive solution of `M a = 1 / a`: the minimizer of `a^T M a / 2 - sum(log a)`, by
    damped Newton steps.

    Without a solution (a positive combination of rows is 0, and `a` has no bound) a ridge of 1e-13
    bounds it.
    """
    mask = ops.cast(live, "float64")
    eye = ops.eye(matrix.shape[0], dtype="float64")
    both = ops.logical_and(live[:, None], live[None, :])
    matrix = ops.where(both, matrix, eye) + 1e-13 * eye
    a = ops.ones_like(mask) / ops.sqrt(ops.maximum(ops.sum(mask), 1.0))

    def step(a: Tensor, _: Any) -> tuple[Tensor, Tensor]:
        gradient = ops.matmul(matrix, a) - 1.0 / a
        direction = -ops.solve(matrix + _diag(1.0 / a**2), gradient[:, None])[:, 0]
        decrement = ops.sqrt(ops.maximum(-ops.sum(gradient * direction), 0.0))
        # Self-concordant: a step of 1 / (1 + decrement) stays inside and descends; near the end it
        # is 1.
        length = ops.where(decrement < 0.25, ops.ones_like(decrement), 1.0 / (1.0 + decrement))
        length = ops.minimum(length, 0.99 * _length(a, direction, ops.ones_like(a)))
        return a + length * direction, decrement > 1e-14

    return _until(step, (a,), 2 * _ITERATIONS)[0] * mask


def ball(matrix: Tensor, costs: Tensor, start: Tensor, radius: float, live: Tensor) -> Tensor:
    """The `y >= 0` that lifts the lowest of several slopes as far as a ball allows.

    Of `d = g_0 + sum_i y_i u_i` with `||d - g_0|| <= radius`, the one with the largest `level` such
    that every slope `u_i . d` is at least `level * costs_i`. The solution moves along straight
    lines as the level rises, with a new line wherever a row becomes active or free; the path is
    followed to where it meets the sphere, or the level can't rise.

    Args:
        matrix: `(tasks, tasks)`, the products of the rows `u_i`, unit diagonal.
        costs: `(tasks,)`, positive, at most 1.
        start: `(tasks,)`, the products of the rows with `g_0`.
        radius: scalar >= 0.
        live: bool `(tasks,)`; other entries stay 0. At least one must be True.
    """
    size = matrix.shape[0]
    eye = ops.eye(size, dtype="float64")
    matrix = matrix + _RIDGE * eye
    infinity = ops.full((size,), float("inf"), "float64")
    ratio = ops.where(live, start / costs, infinity)
    level = ops.min(ratio)
    active = ops.logical_and(live, _first(ratio == level))

    def lines(level: Any, active: Any) -> tuple[Tensor, Tensor]:
        both = ops.logical_and(active[:, None], active[None, :])
        right = ops.where(active[:, None], ops.stack([costs, start], axis=1), 0.0)
        solved = ops.where(active[:, None], ops.solve(ops.where(both, matrix, eye), right), 0.0)
        return level * solved[:, 0] - solved[:, 1], solved[:, 0]

    def step(level: Any, active: Any, _: Any) -> tuple[Tensor, Tensor, Tensor]:
        y, dy = lines(level, active)
        z, dz = start + ops.matmul(matrix, y) - level * costs, ops.matmul(matrix, dy) - costs
        leaving = ops.logical_and(active, dy < 0)
        leave = ops.where(leaving, ops.divide_no_nan(ops.maximum(y, 0.0), -dy), infinity)
        # What is parallel to an active row stays where it is, up to rounding: it must not enter.
        noise = 1e-12 * costs + 2 * size * _EPS * ops.max(ops.abs(dy))
        entering = ops.logical_and(ops.logical_and(live, ops.logical_not(active)), dz < -noise)
        enter = ops.where(entering, ops.divide_no_nan(ops.maximum(z, 0.0), -dz), infinity)
        slope = ops.matmul(matrix, dy)
        square, cross = ops.sum(dy * slope), ops.sum(y * slope)
        short = ops.maximum(radius**2 - ops.sum(y * ops.matmul(matrix, y)), 0.0)
        root = cross + ops.sqrt(ops.maximum(cross**2 + square * short, 0.0))
        sphere = ops.where(root > 0, ops.divide_no_nan(short, root), 0.0)
        first_leave, first_enter = ops.min(leave), ops.min(enter)
        length = ops.minimum(ops.minimum(first_leave, first_enter), sphere)
        ends = sphere <= ops.minimum(first_leave, first_enter)
        changed = ops.where(
            first_leave <= first_enter,
            ops.logical_and(active, ops.logical_not(_first(leave == first_leave))),
            ops.logical_or(active, _first(enter == first_enter)),
        )
        return level + length, ops.where(ends, active, changed), ops.logical_not(ends)

    level, active, _ = _until(step, (level, active), 2 * size + 8)
    y = ops.maximum(lines(level, active)[0], 0.0)
    norm = ops.sqrt(ops.maximum(ops.sum(y * ops.matmul(matrix, y)), 0.0))
    return y * ops.where(norm > radius, radius / ops.where(norm > radius, norm, 1.0), 1.0)


def fair(matrix: Tensor, norms: Tensor, live: Tensor, power: float) -> Tensor:
    """The positive solution `x` of `(G x)_i = x_i^(-power)`, with `G_ij = norms_i M_ij norms_j`;
    `power` 1 is `nash`.

    It is the minimizer of a convex function, found by Newton's method with the best of a few step
    lengths. Without a solution a ridge of 1e-13 bounds it.
    """
    eye = ops.eye(matrix.shape[0], dtype="float64")
    both = ops.logical_and(live[:, None], live[None, :])
    matrix = ops.where(both, matrix, eye) + 1e-13 * eye
    # With a_i = norms_i x_i the problem is (M a)_i = k_i a_i^(-power); `unit` solves it where M is
    # the identity.
    unit = ops.exp(
        (power - 1.0) / (power + 1.0) * ops.log(ops.where(live, norms, ops.ones_like(norms)))
    )
    top = ops.max(ops.where(live, unit, ops.zeros_like(unit)))
    top = ops.where(top > 0, top, ops.ones_like(top))
    unit = ops.where(live, unit / top, ops.ones_like(unit))
    scaled = matrix * unit[:, None] * unit[None, :]
    weight = unit**2
    lengths = ops.convert_to_tensor([2.0**-i for i in range(12)], "float64")

    def value(y: Tensor) -> Tensor:
        pull = ops.log(y) if power == 1 else y ** (1.0 - power) / (1.0 - power)
        return 0.5 * ops.sum(y * ops.matmul(y, scaled), axis=-1) - ops.sum(weight * pull, axis=-1)

    def step(y: Tensor, _: Any) -> tuple[Tensor, Tensor]:
        gradient = ops.matmul(scaled, y) - weight * y**-power
        # Rows and columns are divided by `unit`, so that no row is small.
        system = matrix + _diag(power * y ** (-power - 1.0))
        direction = -ops.solve(system, (gradient / unit)[:, None])[:, 0] / unit
        furthest = _length(y, direction, ops.ones_like(y))
        furthest = ops.where(furthest < 1.0, 0.95 * furthest, 1.0)
        tried = y[None, :] + (furthest * lengths)[:, None] * direction[None, :]
        values = value(tried)
        values = ops.where(ops.isfinite(values), values, float("inf"))
        best = ops.take(tried, ops.argmin(values), axis=0)
        # Where rounding hides the difference of values, the gradient decides: Newton's own step, if
        # it is smaller.
        full = tried[0]
        size = ops.max(ops.abs(gradient / unit))
        new = ops.max(ops.abs((ops.matmul(scaled, full) - weight * full**-power) / unit))
        best = ops.where(new < size, full, best)
        best = ops.where(ops.all(ops.isfinite(best)), best, y)
        return best, ops.max(ops.abs(best / y - 1.0)) > 4 * _EPS

    y = _until(step, (ops.ones_like(unit),), 60)[0]
    # Undo the scaling by `top`: a = unit * top * y solves the problem with k where y solves it with
    # k / top^(power+1).
    return ops.where(live, unit * top * y / norms, 0.0)


def project_simplex(x: Tensor, live: Tensor) -> Tensor:
    """The nearest point with entries >= 0 that sum to 1; entries that are not live are 0."""
    low = ops.where(live, x, ops.full_like(x, -float("inf")))
    ordered = ops.flip(ops.sort(low), axis=0)
    count = ops.arange(1, x.shape[0] + 1, dtype=x.dtype)
    finite = ops.isfinite(ordered)
    sums = ops.cumsum(ops.where(finite, ordered, ops.zeros_like(ordered)))
    inside = ops.logical_and(finite, ordered + (1.0 - sums) / count > 0)
    number = ops.maximum(ops.sum(ops.cast(inside, "int32")), 1)
    shift = (1.0 - ops.take(sums, number - 1)) / ops.cast(number, x.dtype)
    return ops.where(live, ops.maximum(x + shift, 0.0), ops.zeros_like(x))


def pseudo_inverse(matrix: Tensor, rounding: float = _EPS) -> Tensor:
    """Moore-Penrose inverse of a symmetric matrix; eigenvalues that its rounding may have made
    count as zeros."""
    values, vectors = ops.eigh(matrix)
    is_kept = values > ops.max(values) * matrix.shape[0] * 4 * rounding
    inverse = ops.where(is_kept, ops.divide_no_nan(1.0, values), 0.0)
    return ops.matmul(vectors * inverse[None, :], ops.transpose(vectors))


def pseudo_inverse_root(matrix: Tensor, rounding: float = _EPS) -> tuple[Tensor, Tensor, Tensor]:
    """`(root, is_kept, values)`: the inverse square root of a symmetric matrix, which eigenvalues
    count, and all of them."""
    values, vectors = ops.eigh(matrix)
    is_kept = values > ops.max(values) * matrix.shape[0] * 4 * rounding
    inverse = ops.where(is_kept, 1.0 / ops.sqrt(ops.where(is_kept, values, 1.0)), 0.0)
    return ops.matmul(vectors * inverse[None, :], ops.transpose(vectors)), is_kept, values


def _until(step: Any, state: Any, limit: int) -> Tensor:
    """Repeat `state = step(*state)`, whose last part says whether to go on, at most `limit`
    times."""
    state = (*state, ops.convert_to_tensor(True))
    return ops.while_loop(lambda *state: state[-1], step, state, maximum_iterations=limit)


def _first(mask: Tensor) -> Tensor:
    """The first True of a mask alone."""
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32")) == 1)


def _diag(x: Tensor) -> Tensor:
    return x[..., None] * ops.eye(x.shape[-1], dtype="float64")


def _length(x: Tensor, dx: Tensor, mask: Tensor) -> Tensor:
    """The longest step, at most 1, along which `x` stays >= 0."""
    ratio = ops.where(
        ops.logical_and(dx < 0, mask > 0), -x / ops.where(dx < 0, dx, -1.0), float("inf")
    )
    return ops.minimum(ops.min(ratio, axis=-1, keepdims=len(x.shape) > 1), 1.0)


def _all_finite(*tensors: Any, axis: Any = None) -> Tensor:
    finite = [ops.all(ops.isfinite(t), axis=axis, keepdims=axis is not None) for t in tensors]
    return ops.logical_and(*finite)
