"""What the methods promise by their papers, on many matrices of controlled rank, stationarity and
scale."""

import functools
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import tensorflow as tf
from helpers import large_but
from properties import PROPERTIES

import mtl_keras as mtl
from mtl_keras import balancing
from mtl_keras.balancing.solvers import ball, masked_cosines, project_simplex

VECTORS = [n for n in balancing.names() if hasattr(balancing.get(n), "aggregate")]
# Methods that work on float32 gradients themselves.
SINGLE = [n for n in VECTORS if balancing.get(n).strategy == "gradients"]


def _having(kind, names=None):
    return [n for n in names or PROPERTIES if kind in PROPERTIES[n]]


def _matrices(seed=0, sizes=(2, 3, 8)):
    """Low and full rank; duplicated, opposed, zero, collinear and badly scaled rows."""
    rng = np.random.default_rng(seed)
    for tasks in sizes:
        for rank in (1, max(1, tasks - 1), tasks):
            jacobian = rng.standard_normal((tasks, rank)) @ rng.standard_normal((rank, 12))
            yield jacobian
            yield jacobian * 10.0 ** rng.uniform(-3, 3, (tasks, 1))
            if tasks > 2 and rank > 1:
                for change in (
                    lambda j: j[0],
                    lambda j: -j[0],
                    lambda j: 0 * j[0],
                    lambda j: 3 * j[0],
                ):
                    changed = jacobian.copy()
                    changed[1] = change(jacobian)
                    yield changed


def _independent(seed=0, sizes=(2, 3, 5, 8)):
    rng = np.random.default_rng(seed)
    for tasks in sizes:
        for spread in (0, 1):
            yield rng.standard_normal((tasks, 24)) * 10.0 ** rng.uniform(
                -spread, spread, (tasks, 1)
            )


def _stationary(seed=0):
    """Rows of which some positive combination is 0."""
    rng = np.random.default_rng(seed)
    for tasks in (2, 3, 5):
        jacobian = rng.standard_normal((tasks, 9))
        weights = rng.uniform(0.2, 1, tasks)
        jacobian[-1] = -(weights[:-1] @ jacobian[:-1]) / weights[-1]
        yield jacobian


#: Columns of all matrices: those with fewer are filled with zeros, which changes no inner product
#: and saves traces.
COLUMNS = 24
#: One method of each kind of solution: the others run with `--run-large`.
QUICK = ("mgda", "cagrad", "fairgrad", "aligned_mtl", "pcgrad", "graddrop", "db_mtl", "config")


@functools.cache
def _fast(name):
    """`aggregate` in graphs, one a shape, with fresh state every time."""
    made = {}

    def run(jacobian):
        columns = np.shape(jacobian)[1]
        jacobian = np.pad(jacobian, [(0, 0), (0, COLUMNS - columns)])
        return _run(jacobian)[:columns]

    def _run(jacobian):
        shape = np.shape(jacobian)
        if shape not in made:
            balancer = balancing.get(name)
            balancer.aggregate(np.ones(shape))  # makes its state
            start = [v.numpy() for v in balancer.variables]
            made[shape] = balancer, start, tf.function(balancer.aggregate)
        balancer, start, function = made[shape]
        for variable, value in zip(balancer.variables, start, strict=True):
            variable.assign(
                value if name in ("pcgrad", "gradvac", "graddrop") else np.zeros_like(value)
            )
        if hasattr(balancer, "simplex"):
            balancer.simplex.assign(np.full(shape[0], 1 / shape[0]))
        for state in ("task_weights", "kept"):
            if hasattr(balancer, state):
                getattr(balancer, state).assign(np.ones(shape[0]))
        if name == "gradvac":
            balancer.targets.assign(np.zeros((shape[0],) * 2))
        return np.asarray(function(tf.constant(jacobian)))

    return run


@pytest.mark.large
@pytest.mark.parametrize("name", large_but(QUICK, VECTORS))
def test_finite(name):
    run = _fast(name)
    scales = (1e-10, 1.0, 1e10)
    for jacobian in [*_matrices(), *_stationary()]:
        for scale in scales:
            assert np.isfinite(run(jacobian * scale)).all(), (jacobian.shape, scale)
    assert np.isfinite(run(np.zeros((3, 4)))).all()
    assert np.isfinite(run(np.array([[1.0, 0.0], [-1.0, 0.0]]))).all()


@pytest.mark.parametrize("name", large_but(("pcgrad", "config"), _having("permutation", VECTORS)))
def test_permutations_of_tasks_permute_nothing(name):
    rng, run = np.random.default_rng(1), _fast(name)
    for jacobian in _independent(1):
        np.testing.assert_allclose(
            run(jacobian[rng.permutation(len(jacobian))]), run(jacobian), rtol=2e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "name",
    large_but(QUICK, _having("peaceful", VECTORS) + _having("peaceful_if_solvable", VECTORS)),
)
def test_no_task_objects_to_the_update(name):
    run = _fast(name)
    matrices = _matrices(2) if name in _having("peaceful") else _independent(2)
    for jacobian in matrices:
        for scale in (1e-10, 1.0, 1e10):
            rows = jacobian * scale
            d, norms = run(rows), np.linalg.norm(rows, axis=1)
            # Where the update is 0, what is left of it is rounding.
            size = max(np.linalg.norm(d), 0.1 * norms.max())
            assert (rows @ d >= -1e-6 * norms * size).all(), (jacobian.shape, scale)


@pytest.mark.large
@pytest.mark.parametrize(
    "name", large_but(QUICK, _having("linear", VECTORS) + _having("const", VECTORS))
)
@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_scales_of_all_gradients(name, scale):
    if name in ("excess_mtl", "db_mtl") and scale < 1:
        scale = 1e-3  # the papers' own constants stop the rest
    run = _fast(name)
    for jacobian in _independent(3):
        one = run(jacobian)
        factor = 1.0 if "const" in PROPERTIES[name] else scale
        np.testing.assert_allclose(
            run(jacobian * scale) / factor, one, rtol=1e-4, atol=1e-5 * np.abs(one).max()
        )


@pytest.mark.parametrize("name", large_but(QUICK, _having("rows", VECTORS)))
def test_the_direction_does_not_depend_on_the_length_of_a_gradient(name):
    run, rng = _fast(name), np.random.default_rng(4)
    for jacobian in _independent(4):
        one, other = run(jacobian), run(jacobian * 10.0 ** rng.uniform(-2, 2, (len(jacobian), 1)))
        np.testing.assert_allclose(
            other / np.linalg.norm(other), one / np.linalg.norm(one), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", large_but(QUICK, _having("stationary", VECTORS)))
def test_gradients_that_cancel_stop_the_update(name):
    run = _fast(name)
    for jacobian in _stationary():
        for scale in (1e-10, 1.0, 1e10):
            assert np.linalg.norm(run(jacobian * scale)) < 1e-6 * np.linalg.norm(jacobian) * scale


@pytest.mark.parametrize("name", [n for n in PROPERTIES if n not in VECTORS])
def test_weights_from_losses_are_finite_and_follow_the_tasks(name):
    rng = np.random.default_rng(5)
    tasks = [mtl.tasks.Regression(n) for n in "abcde"]
    for scale in (1e-10, 1.0, 1e10):
        losses = (rng.uniform(0.1, 2, 5) * scale).astype("float32")
        gram = np.diag(rng.uniform(0.1, 2, 5)).astype("float32") * scale
        order, there = rng.permutation(5), tf.constant([True] * 5)

        def weights(index, losses=losses, gram=gram, there=there):
            balancer = balancing.get(name)
            balancer.build(tasks)
            found = balancer.weigh(
                tf.constant(losses[index]), there, tf.constant(gram[index][:, index])
            )
            balancer.update(tf.constant(losses[index]), there, 0.01)
            assert all(np.isfinite(v.numpy()).all() for v in balancer.variables)
            return np.asarray(found)

        plain = weights(np.arange(5))
        assert np.isfinite(plain).all()
        if "permutation" in PROPERTIES[name]:
            np.testing.assert_allclose(weights(order), plain[order], rtol=1e-5)


# ------------------------------------------------------------------ solvers, against exact arithmetic
def _exact_min_norm(jacobian):
    """The least squared norm in the hull of the rows, in fractions: the best of all supports'
    stationary points."""
    rows = [[Fraction(float(v)) for v in row] for row in jacobian]
    gram = [[sum(a * b for a, b in zip(r, s, strict=True)) for s in rows] for r in rows]
    best = None
    for size in range(1, len(rows) + 1):
        for support in combinations(range(len(rows)), size):
            solved = _solve([[gram[i][j] for j in support] for i in support], [Fraction(1)] * size)
            if solved is None or sum(solved) <= 0 or min(solved) < 0:
                continue
            value = 1 / sum(solved)
            best = value if best is None else min(best, value)
    return best


def _solve(matrix, right):
    """Gaussian elimination in fractions; None where singular."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(size):
        pivot = next((k for k in range(i, size) if rows[k][i] != 0), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(size):
            if k != i and rows[k][i] != 0:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def test_min_norm_weights_are_optimal_in_exact_arithmetic_also_with_scales_spread_over_1e12():
    rng = np.random.default_rng(6)
    solve = tf.function(lambda gram: balancing.get("mgda").weights(gram))
    for spread in (0, 3, 6):
        for _ in range(6):
            jacobian = np.round(rng.standard_normal((4, 6)), 3) * 10.0 ** np.round(
                rng.uniform(-spread, spread, (4, 1))
            )
            weights = np.asarray(solve(tf.constant(jacobian @ jacobian.T)))
            combined = [
                sum(
                    Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, c, strict=True)
                )
                for c in jacobian.T
            ]
            found = float(sum(v * v for v in combined) / _exact_min_norm(jacobian))
            assert abs(weights.sum() - 1) < 1e-12 and 1 - 1e-9 < found < 1 + 1e-9


@pytest.mark.parametrize("c", large_but((0.4,), [0.1, 0.4, 0.9, 1.0, 1.5, 10.0]))
def test_cagrad_meets_its_dual(c):
    """The least slope of the update equals the dual's value at the weights that made it: a gap of
    0."""
    function = tf.function(
        lambda j: balancing.CAGrad(c, rescale=0).aggregate(j), reduce_retracing=False
    )
    for jacobian in [*_independent(7), *_independent(8, (16,))]:
        d = np.asarray(function(tf.constant(jacobian)))
        mean = jacobian.mean(0)
        radius = c * np.linalg.norm(mean)
        assert np.linalg.norm(d - mean) <= radius * (1 + 1e-9)
        lift = np.linalg.lstsq(jacobian.T, d - mean, rcond=None)[0]
        weights = np.maximum(lift, 0) / np.maximum(lift, 0).sum()
        dual = weights @ jacobian @ mean + radius * np.linalg.norm(weights @ jacobian)
        scale = np.linalg.norm(mean) * np.linalg.norm(jacobian, axis=1).min()
        assert abs(dual - (jacobian @ d).min()) < 1e-10 * max(scale, abs(dual))


def test_cagrad_at_its_ends():
    rng = np.random.default_rng(9)
    jacobian = rng.standard_normal((4, 9))
    np.testing.assert_allclose(
        balancing.CAGrad(0.0).aggregate(jacobian), jacobian.mean(0), rtol=1e-9
    )
    far, mgda = (
        np.asarray(b.aggregate(jacobian))
        for b in (balancing.CAGrad(1e7, rescale=2), balancing.get("mgda"))
    )
    np.testing.assert_allclose(far / np.linalg.norm(far), mgda / np.linalg.norm(mgda), atol=1e-6)


def test_the_ball_solver_gives_the_worst_off_as_much_as_can_be_where_gradients_cancel():
    for jacobian in _stationary(10):
        cosines, norms, live = masked_cosines(jacobian @ jacobian.T, np.ones(len(jacobian), bool))
        start = np.asarray(cosines).mean(1)
        for radius in (0.5, 5.0):
            lift = np.asarray(
                ball(
                    cosines,
                    1.0 / np.asarray(norms) / (1.0 / np.asarray(norms)).max(),
                    start,
                    radius,
                    live,
                )
            )
            assert np.isfinite(lift).all() and (lift >= 0).all()


@pytest.mark.parametrize("alpha", large_but((2.0,), [0.5, 1.0, 2.0, 5.0]))
def test_fair_gains(alpha):
    """(G x)_i = x_i^(-1/alpha), to rounding, with badly scaled and duplicated rows."""
    rng, balancer = np.random.default_rng(11), balancing.FairGrad(alpha, max_norm=None)
    for tasks in (1, 2, 5, 16):
        for spread in (0, 3):
            jacobian = rng.standard_normal((tasks, 20)) * 10.0 ** rng.uniform(
                -spread, spread, (tasks, 1)
            )
            if tasks > 2:
                jacobian[1] = jacobian[0]
            x = np.asarray(balancer.weights(jacobian @ jacobian.T))
            assert (x > 0).all()
            np.testing.assert_allclose(jacobian @ (x @ jacobian) * x ** (1 / alpha), 1.0, rtol=1e-7)
    gram = jacobian @ jacobian.T
    np.testing.assert_allclose(
        balancing.FairGrad(1.0).weights(gram), balancing.NashMTL().weights(gram), rtol=1e-8
    )


def test_projection_onto_the_simplex():
    rng = np.random.default_rng(12)
    for _ in range(20):
        x, live = rng.standard_normal(6) * 3, rng.random(6) < 0.7
        if not live.any():
            continue
        p = np.asarray(project_simplex(tf.constant(x), tf.constant(live)))
        assert np.isclose(p.sum(), 1) and (p >= 0).all() and (p[~live] == 0).all()
        # Optimality: x - p is the same number where p > 0, and not larger elsewhere.
        shift = (x - p)[p > 0]
        np.testing.assert_allclose(shift, shift[0], atol=1e-12)
        assert ((x - p)[live] <= shift[0] + 1e-12).all()


def test_db_mtl_contributions_are_equally_long():
    rng = np.random.default_rng(13)
    jacobian = rng.standard_normal((3, 7)) * np.array([[1.0], [10.0], [0.1]])
    balancer = balancing.DBMTL(beta=0.0)
    total = np.asarray(balancer.aggregate(jacobian, losses=[0.5, 2.0, 8.0]))
    logs = jacobian / np.array([[0.5], [2.0], [8.0]])
    norms = np.linalg.norm(logs, axis=1)
    np.testing.assert_allclose(total, (norms.max() / norms) @ logs, rtol=1e-4)
