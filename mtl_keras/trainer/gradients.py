"""From task losses to one gradient a variable: the ways a balancer may ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from mtl_keras.trainer.losses import all_sum, replicas

__all__ = [
    "Found",
    "elementwise",
    "from_losses",
    "from_products",
    "from_representation",
    "from_rows",
    "from_samples",
    "watched",
]


class Found:
    """What a way found: a gradient a variable (or None), the tasks' weights, and the products of their gradients, if any.

    `fresh` is 1 in a step whose weights were computed anew, else 0.
    """

    def __init__(self, gradients, weights, gram=None, fresh=None):
        self.gradients, self.weights, self.gram = gradients, weights, gram
        self.fresh = tf.ones(()) if fresh is None else fresh


# ------------------------------------------------------------------ weights
def _decide(balancer, forward, gram):
    """Weights for the shared variables and for the heads. A step that is not finite leaves the state as it is."""
    # Gradients that are not finite make a step that a loss scale skips; solvers must not meet them.
    finite = ops.all(ops.isfinite(gram))
    present = ops.logical_and(forward.present, finite)
    weights, heads = balancer.weigh_all(
        forward.seen, present, ops.where(finite, gram, ops.zeros_like(gram))
    )
    ones = ops.ones(gram.shape[:1], "float32")
    weights, heads = (ops.where(finite, ops.cast(w, "float32"), ones) for w in (weights, heads))
    if balancer.every > 1:
        balancer.kept.assign(ops.where(present, weights, balancer.kept.value))
        balancer.kept_heads.assign(ops.where(present, heads, balancer.kept_heads.value))
    return weights, heads


def _decide_if(due, balancer, forward, gram):
    """`_decide` where due, else what was kept. Without a condition: replicas can't write their state inside one."""
    seeds = [v for name, v in balancer._state.items() if name.endswith("seed")]
    before = [v.value * 1 for v in seeds]
    weights, heads = _decide(
        balancer, forward.with_present(tf.logical_and(forward.present, due)), gram
    )
    for variable, old in zip(seeds, before, strict=True):
        variable.assign(tf.where(due, variable.value, old))
    kept, kept_heads = (tf.convert_to_tensor(v.value) for v in (balancer.kept, balancer.kept_heads))
    return tf.where(due, weights, kept), tf.where(due, heads, kept_heads)


def _due(balancer):
    """Whether this step computes weights; counts the step."""
    due = balancer.steps.value < 0.5
    after = balancer.steps.value + 1.0
    balancer.steps.assign(ops.where(after >= balancer.every, 0.0, after))
    return due


# ------------------------------------------------------------------ pieces
def _groups(sources, number: int) -> list[list[Any]]:
    """Variables in groups of about equal size, those nearest to the outputs first: their passes are short."""
    sources = list(reversed(sources))
    sizes = [int(np.prod(v.shape)) for v in sources]
    groups: list[list[Any]] = [[] for _ in range(max(1, min(number, len(sources))))]
    done = 0
    for variable, size in zip(sources, sizes, strict=True):
        groups[min(done * len(groups) // max(sum(sizes), 1), len(groups) - 1)].append(variable)
        done += size
    return [group for group in groups if group]


def _rows(tape, forward, sources, seed=None) -> list[list[Any]]:
    """For every task, the gradients of its loss, dense; None where it does not reach a source."""
    rows = [tape.gradient(loss, sources, output_gradients=seed) for loss in forward.each]
    return [[None if g is None else tf.convert_to_tensor(g) for g in row] for row in rows]


def _weighted(
    tape, forward, variables, weights, heads, is_head: Callable[[Any], bool]
) -> list[Any]:
    """One backward pass of the weighted losses; heads have weights of their own, and take a pass through them alone."""
    if heads is weights:
        return tape.gradient(forward.each, variables, output_gradients=tf.unstack(weights))
    own = [v for v in variables if is_head(v)]
    rest = [v for v in variables if not is_head(v)]
    found = dict(
        zip(
            map(id, rest),
            tape.gradient(forward.each, rest, output_gradients=tf.unstack(weights)),
            strict=True,
        )
        if rest
        else ()
    )
    if own:
        found.update(
            zip(
                map(id, own),
                tape.gradient(forward.each, own, output_gradients=tf.unstack(heads)),
                strict=True,
            )
        )
    return [found[id(v)] for v in variables]


def _flat(column, scale):
    """The gradients of one variable as float32 rows `(tasks, size)`, the loss scale taken out."""
    like = next(g for g in column if g is not None)
    flat = tf.stack([tf.reshape(tf.zeros_like(like) if g is None else g, [-1]) for g in column])
    return ops.cast(flat, "float32") / scale


# Products of longer gradients are summed over pieces of this length, so that no copy of them is made.
_PIECE = 2**18


def _gram(columns, scale, others=None) -> Any:
    """Inner products, summed up variable by variable; with `others`, between two batches' gradients.

    In float64: gradients that are nearly opposed differ in digits that products in float32 have lost.
    """
    tasks = len(columns[0])
    total = tf.zeros((tasks, tasks), tf.float64)
    for i, column in enumerate(columns):
        if all(g is None for g in column) or (
            others is not None and all(g is None for g in others[i])
        ):
            continue
        total = total + _products(column, column if others is None else others[i])
    return total / tf.cast(scale, tf.float64) ** 2


def _products(left, right):
    """The products `(tasks, tasks)` of one variable's gradients."""
    same = left is right
    left = [None if g is None else tf.reshape(g, [-1]) for g in left]
    right = left if same else [None if g is None else tf.reshape(g, [-1]) for g in right]
    like = next(g for g in left if g is not None)

    def piece(column, begin, length):
        parts = [
            tf.zeros((length,), like.dtype) if g is None else g[begin : begin + length]
            for g in column
        ]
        return tf.cast(tf.stack(parts), tf.float64)

    def product(begin, length):
        rows = piece(left, begin, length)
        return tf.matmul(rows, rows if same else piece(right, begin, length), transpose_b=True)

    size = like.shape[0]
    if size is None or size <= 2 * _PIECE:
        return product(0, tf.shape(like)[0] if size is None else size)
    whole = size // _PIECE
    total = tf.zeros((len(left), len(left)), tf.float64)
    _, total = tf.while_loop(
        lambda i, _: i < whole,
        lambda i, total: (i + 1, total + product(i * _PIECE, _PIECE)),
        (tf.constant(0), total),
        parallel_iterations=1,
    )
    rest = size - whole * _PIECE
    return total + product(whole * _PIECE, rest) if rest else total


def _summed(columns):
    """Columns whose gradients are summed over the replicas."""
    return [[None if g is None else all_sum(g) for g in column] for column in columns]


def _columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def _mix(column, factors):
    """The combination of one variable's gradients."""
    terms = [g * ops.cast(factors[i], g.dtype) for i, g in enumerate(column) if g is not None]
    return tf.add_n(terms) if terms else None


def _plus(a, b):
    if a is None or b is None:
        return a if b is None else tf.convert_to_tensor(b)
    return a + tf.convert_to_tensor(b)


def _with_added(tape, forward, variables, gradients):
    """Regularization and `add_loss` take no part in balancing."""
    if forward.added is None:
        return gradients
    return [
        _plus(a, b) for a, b in zip(gradients, tape.gradient(forward.added, variables), strict=True)
    ]


# ------------------------------------------------------------------ the ways
def from_losses(balancer, tape, forward, variables) -> Found:
    """Weights from the losses; one backward pass."""
    # A loss scale skips a step whose losses are not finite; no state may take them in.
    finite = tf.reduce_all(tf.math.is_finite(forward.seen))
    seen = tf.where(finite, forward.seen, tf.ones_like(forward.seen))
    weights = tf.cast(
        balancer.weigh_all(seen, tf.logical_and(forward.present, finite))[0], tf.float32
    )
    weights = tf.where(forward.present, tf.where(finite, weights, tf.ones_like(weights)), 0.0)
    targets, factors = list(forward.each), tf.unstack(tf.stop_gradient(weights))
    if forward.added is not None:
        targets, factors = [*targets, forward.added], [*factors, tf.ones(())]
    return Found(tape.gradient(targets, variables, output_gradients=factors), weights)


def watched(balancer, found, tape, forward, sources) -> Found:
    """What a loss weighting found, and the products of the gradients, which it does not need but someone looks at."""
    if not sources:
        return found
    gram = _gram(_summed(_columns(_rows(tape, forward, sources))), forward.scale)
    return Found(found.gradients, found.weights, gram)


def from_rows(balancer, tape, forward, variables, is_head) -> Found:
    """Exact gradients: one backward pass a task; the gradients are combined as they are."""

    def solve():
        columns = _columns(_rows(tape, forward, variables))
        shared = [sum(g is not None for g in column) >= min(2, len(column)) for column in columns]
        columns = [_summed([c])[0] if both else c for c, both in zip(columns, shared, strict=True)]
        gram = _gram([c for c, both in zip(columns, shared, strict=True) if both], forward.scale)
        weights, heads = _decide(balancer, forward, gram)
        gradients = [
            _mix(column, weights / replicas() if both else heads)
            for column, both in zip(columns, shared, strict=True)
        ]
        return gradients, weights, gram

    def reuse():
        weights, heads = (
            tf.convert_to_tensor(v.value) for v in (balancer.kept, balancer.kept_heads)
        )
        heads = weights if balancer.scales_heads else heads
        gradients = _weighted(tape, forward, variables, weights, heads, is_head)
        dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        return dense, weights, tf.zeros((len(forward.each),) * 2, tf.float64)

    if balancer.every == 1:
        gradients, weights, gram = solve()
        fresh = None
    else:
        due = _due(balancer)
        gradients, weights, gram = _either(due, solve, reuse)
        fresh = tf.cast(due, tf.float32)
    return Found(_with_added(tape, forward, variables, gradients), weights, gram, fresh)


def from_products(
    balancer, tape, forward, variables, sources, is_head, local: bool = False
) -> Found:
    """Products of the gradients at some sources, then one weighted backward pass.

    For one layer, for some of the shared variables, for less memory, and (`local`: each replica has rows of its own) for
    the representation.
    """

    def products():
        gram = None
        for group in _groups(sources, int(balancer.two_pass)) if not local else [sources]:
            # A group's gradients are let go before the next one's are made.
            with tf.control_dependencies([] if gram is None else [gram]):
                seed = tf.ones(())
            columns = _columns(_rows(tape, forward, group, None if gram is None else seed))
            part = _gram(columns if local else _summed(columns), forward.scale)
            gram = part if gram is None else gram + part
        return gram

    weights, heads, gram, fresh = _weights_of(balancer, tape, forward, sources, products, local)
    gradients = _weighted(tape, forward, variables, weights, heads, is_head)
    return Found(_with_added(tape, forward, variables, gradients), weights, gram, fresh)


def _weights_of(balancer, tape, forward, sources, products, local, always=False):
    """Weights, those of the heads, the Gram matrix, and whether they are fresh."""
    tasks = len(forward.each)
    if balancer.every == 1:
        gram = products()
        gram = all_sum(gram) if local else gram
        weights, heads = _decide(balancer, forward, gram)
        return weights, weights if balancer.scales_heads else heads, gram, None
    due = _due(balancer)
    nothing = tf.zeros((tasks, tasks), tf.float64)
    if always:
        gram = products()
    elif replicas() == 1:
        gram = tf.cond(due, products, lambda: nothing)
    else:
        # Replicas can't meet inside a condition: each one's rows are computed there, and summed outside.
        reached = [[g is not None for g in row] for row in _rows(tape, forward, sources)]

        def rows():
            return [g for row in _rows(tape, forward, sources) for g in row if g is not None]

        def none():
            return [
                tf.zeros_like(tf.convert_to_tensor(s))
                for row in reached
                for s, r in zip(sources, row, strict=True)
                if r
            ]

        flat = iter(tf.cond(due, rows, none))
        columns = _columns([[next(flat) if r else None for r in row] for row in reached])
        gram = (
            all_sum(_gram(columns, forward.scale))
            if local
            else _gram(_summed(columns), forward.scale)
        )

    def kept():
        return tf.convert_to_tensor(balancer.kept.value), tf.convert_to_tensor(
            balancer.kept_heads.value
        )

    if replicas() > 1:
        weights, heads = _decide_if(due, balancer, forward, gram)
    else:
        weights, heads = tf.cond(due, lambda: _decide(balancer, forward, gram), kept)
    return weights, weights if balancer.scales_heads else heads, gram, tf.cast(due, tf.float32)


def from_representation(balancer, tape, forward, variables, trunk, head_variables) -> Found:
    """Gradients at the tensors that the heads share, and one backward pass through what lies before them.

    Each task's pass through the heads gives the gradients of its own head too.
    """
    count, names = len(forward.representation), list(forward.representation)
    tensors = [forward.representation[name] for name in names]
    columns = _columns(_rows(tape, forward, [*tensors, *head_variables]))
    at, below = columns[:count], columns[count:]
    if balancer.needs == "gradients":
        combined = _dropped(balancer, forward, tensors, at)
        weights = heads = tf.ones((len(forward.each),))
        gram = None
    else:
        gram = all_sum(_gram(at, forward.scale))
        weights, heads = _decide(balancer, forward, gram)
        combined = [_mix(column, weights) for column in at]
    used = [i for i, g in enumerate(combined) if g is not None]
    through = tape.gradient(
        [tensors[i] for i in used],
        trunk,
        output_gradients=[tf.cast(combined[i], tensors[i].dtype) for i in used],
    )
    found: dict[int, Any] = dict(zip(map(id, trunk), through, strict=True))
    for variable, column in zip(head_variables, below, strict=True):
        both = sum(g is not None for g in column) > 1
        found[id(variable)] = _plus(
            found.get(id(variable)), _mix(column, weights if both else heads)
        )
    gradients = [found.get(id(v)) for v in variables]
    return Found(_with_added(tape, forward, variables, gradients), weights, gram)


def _dropped(balancer, forward, tensors, columns):
    """Gradient sign dropout at every tensor: its signs are summed over the rows, and its masks hold for all of them."""
    combined = []
    for tensor, column in zip(tensors, columns, strict=True):
        if all(g is None for g in column):
            combined.append(None)
            continue
        rows = tf.stack([tf.zeros_like(tensor) if g is None else g for g in column])
        rows = tf.cast(rows, tf.float32)
        signs = all_sum(tf.reduce_sum(tf.sign(tf.cast(tensor, tf.float32))[None] * rows, axis=1))
        masks = balancer.masks(signs, forward.present)
        combined.append(tf.reduce_sum(masks[:, None] * rows, axis=0))
    return combined


def from_samples(balancer, tapes, forwards, variables, sources, is_head) -> Found:
    """Weights from the products of two batches' gradients; the step is the third's."""
    first, second, third = forwards
    present = tf.logical_and(tf.logical_and(first.present, second.present), third.present)
    third = third.with_present(present)

    def products():
        one, two = (
            _summed(_columns(_rows(t, f, sources)))
            for t, f in zip(tapes[:2], (first, second), strict=True)
        )
        return _gram(one, third.scale, two)

    # Replicas can't meet inside a condition, so that there the products are computed in every step.
    weights, heads, gram, fresh = _weights_of(
        balancer, tapes[2], third, sources, products, False, always=replicas() > 1
    )
    weights = tf.where(present, weights, 0.0)
    heads = tf.where(third.here, heads, 0.0)
    gradients = _weighted(tapes[2], third, variables, weights, heads, is_head)
    return Found(_with_added(tapes[2], third, variables, gradients), weights, gram, fresh)


def elementwise(
    balancer, tape, forward, variables, allowed: set[int], watch: bool = False
) -> Found:
    """Methods that work on the gradients themselves, one variable at a time."""
    columns = _columns(_rows(tape, forward, variables))
    shared = [
        sum(g is not None for g in column) >= min(2, len(column)) and id(v) in allowed
        for column, v in zip(columns, variables, strict=True)
    ]
    scaled = balancer.row_scale(forward.seen, forward.present)[:, None]
    rows = {
        i: _flat(_summed([column])[0], forward.scale)
        for i, (column, both) in enumerate(zip(columns, shared, strict=True))
        if both
    }
    gram = None
    if watch:
        gram = tf.add_n([tf.matmul(r, r, transpose_b=True) for r in rows.values()])
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(r)) for r in rows.values()])
    present = tf.logical_and(forward.present, finite)
    measured = None
    for i in rows:
        key = variables[i].path
        rows[i] = balancer.transform(
            tf.where(finite, rows[i], tf.zeros_like(rows[i])) * scaled, key, present
        )
        part = balancer.measure(rows[i], key, present)
        measured = part if measured is None else measured + part
    weights, heads = balancer.weigh_all(forward.seen, present, measured)
    gradients = []
    for i, (column, variable) in enumerate(zip(columns, variables, strict=True)):
        if i not in rows:
            several = sum(g is not None for g in column) > 1
            gradients.append(_mix(column, tf.ones_like(heads) if several else heads))
            continue
        made = balancer.combine(rows[i], tf.where(present, weights, 0.0), variable.path, present)
        # What was not finite goes on so, for the loss scale to see.
        made = tf.where(
            finite, made * forward.scale / replicas(), tf.fill(tf.shape(made), float("nan"))
        )
        like = next(g for g in column if g is not None)
        gradients.append(tf.cast(tf.reshape(made, tf.shape(like)), like.dtype))
    return Found(
        _with_added(tape, forward, variables, gradients), tf.cast(weights, tf.float32), gram
    )


def _either(due, first: Callable, second: Callable):
    """`tf.cond` for branches that return gradients, weights and products; gradients may be None in both."""
    mask: dict[str, Sequence[bool]] = {}

    def branch(function, key):
        def run():
            gradients, weights, gram = function()
            mask[key] = [g is not None for g in gradients]
            return [g for g in gradients if g is not None], weights, gram

        return run

    if tf.executing_eagerly():
        return first() if bool(due) else second()
    gradients, weights, gram = tf.cond(due, branch(first, "first"), branch(second, "second"))
    if mask["first"] != mask["second"]:
        raise RuntimeError(
            "The two kinds of steps of an amortized balancer reach different variables."
        )
    rest = iter(gradients)
    return [next(rest) if there else None for there in mask["first"]], weights, gram
