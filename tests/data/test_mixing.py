"""Several data sets in one stream: shares, epochs, orders, and what a batch holds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import same, table_data, table_model

import mtl_keras as mtl
from mtl_keras.data.sampling import unimax_budgets


@pytest.mark.large
def test_two_data_sets_with_one_task_each_train_one_model():
    x, y = table_data()
    model = table_model()
    first = tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]})).batch(8).repeat()
    second = tf.data.Dataset.from_tensor_slices((x, {"sold": y["sold"][:, None]})).batch(8).repeat()
    stream = mtl.data.mix([first, second], model, sampling=[0.5, 0.5], seed=3)
    kinds = [bool(np.isnan(labels["cost"]).all()) for _, labels in stream.take(200)]
    assert 60 < sum(kinds) < 140
    model.compile("adam")
    before = model.evaluate(x, y, verbose=0)
    model.fit(stream, steps_per_epoch=60, epochs=5, verbose=0)
    after = model.evaluate(x, y, verbose=0)
    assert after["cost_loss"] < before["cost_loss"] and after["sold_loss"] < before["sold_loss"]


# ------------------------------------------------------------------ mixing
def _numbered(count, task, first=0, weight=None):
    """Batches of one row, numbered in their first column."""
    x = np.zeros((count, 5), "float32")
    x[:, 0] = np.arange(first, first + count)
    label = {"cost": np.zeros(count, "float32"), "sold": np.zeros(count, "int32")}[task]
    parts = (x, {task: label}) if weight is None else (x, {task: label}, weight)
    return tf.data.Dataset.from_tensor_slices(parts).batch(1)


def _epoch(stream):
    return [int(batch[0][0, 0]) for batch in stream]


def test_a_mixture_ends_with_the_shortest_in_its_share_and_says_its_length():
    stream = mtl.data.mix(
        [_numbered(4, "cost"), _numbered(9, "sold", 100)], table_model(), sampling="uniform"
    )
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 8
    assert sorted(order) == [0, 1, 2, 3, 100, 101, 102, 103]
    # One of the first to three of the second: the second is used up first, with 3 of the first.
    stream = mtl.data.mix(
        [_numbered(4, "cost"), _numbered(9, "sold", 100)], table_model(), sampling=[1, 3]
    )
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 12
    assert sorted(order) == [0, 1, 2, *range(100, 109)]


def test_a_mixture_can_end_with_the_longest_and_the_others_start_anew():
    stream = mtl.data.mix(
        [_numbered(2, "cost"), _numbered(5, "sold", 100)],
        table_model(),
        sampling="uniform",
        ends="longest",
    )
    order = _epoch(stream)
    assert int(stream.cardinality()) == len(order) == 10
    assert sorted(order) == [0, 0, 0, 1, 1, *range(100, 105)]


def test_each_epoch_has_another_order_and_a_seed_has_the_same_orders():
    def epochs(seed):
        stream = mtl.data.mix(
            [_numbered(10, "cost"), _numbered(10, "sold", 100)], table_model(), seed=seed
        )
        return [_epoch(stream) for _ in range(3)]

    first = epochs(0)
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == sorted(first[0]) for order in first)
    assert first == epochs(0) != epochs(1)


def test_endless_data_sets_make_an_endless_stream_or_follow_the_finite_one():
    model = table_model()
    finite, endless = _numbered(3, "cost"), _numbered(2, "sold", 100).repeat()
    assert (
        int(mtl.data.mix([endless, endless], model, sampling="uniform").cardinality())
        == tf.data.INFINITE_CARDINALITY
    )
    assert (
        int(
            mtl.data.mix([finite, endless], model, sampling="uniform", ends="longest").cardinality()
        )
        == tf.data.INFINITE_CARDINALITY
    )
    assert sorted(_epoch(mtl.data.mix([finite, endless], model, sampling="uniform"))) == [
        0,
        1,
        2,
        100,
        100,
        101,
    ]
    stream = mtl.data.mix([endless, endless], model, sampling="uniform")
    assert _epoch(stream.take(40)) != _epoch(stream.take(40)) or _epoch(stream.take(40)) != _epoch(
        stream.take(40)
    )


def test_sample_weights_go_through_a_mixture_and_rows_without_weigh_one():
    weight = np.array([2.0, 3.0, 4.0], "float32")
    stream = mtl.data.mix(
        [_numbered(3, "cost", weight=weight), _numbered(3, "sold", 100)], table_model()
    )
    weights = {int(x[0, 0]): w.numpy().tolist() for x, _, w in stream}
    assert weights == {0: [2.0], 1: [3.0], 2: [4.0], 100: [1.0], 101: [1.0], 102: [1.0]}
    by_task = mtl.data.mix(
        [
            _numbered(3, "cost", weight={"cost": weight[:, None]}),
            _numbered(3, "sold", 100, weight=weight),
        ],
        table_model(),
    )
    weights = {
        int(x[0, 0]): {k: float(v.numpy().item()) for k, v in w.items()} for x, _, w in by_task
    }
    assert weights[1] == {"cost": 3.0, "sold": 1.0} and weights[102] == {"cost": 4.0, "sold": 4.0}


def test_a_weighted_mixture_evaluates_as_the_rows_with_their_weights():
    x, y = table_data(rows=16)
    weight = np.linspace(0.5, 2, 16).astype("float32")
    model = table_model()
    model.compile("sgd", run_eagerly=True)
    parts = [
        tf.data.Dataset.from_tensor_slices((x, {"cost": y["cost"]}, weight)).batch(16),
        tf.data.Dataset.from_tensor_slices((x, {"sold": y["sold"]})).batch(16),
    ]
    logs = model.evaluate(mtl.data.mix(parts, model), verbose=0)
    plain = model.evaluate(
        x,
        mtl.data.complete({"cost": y["cost"]}, model),
        sample_weight=weight,
        batch_size=16,
        verbose=0,
    )
    np.testing.assert_allclose(logs["cost_loss"], plain["cost_loss"], rtol=1e-5)
    unweighted = model.evaluate(x, y, batch_size=16, verbose=0)
    assert abs(logs["cost_loss"] - unweighted["cost_loss"]) > 1e-3
    np.testing.assert_allclose(logs["sold_loss"], unweighted["sold_loss"], rtol=1e-5)


def test_probabilities_and_missing_numbers_survive_a_mixture():
    tasks = [
        mtl.tasks.Binary("sold", hidden=0),
        mtl.tasks.Classification("kind", num_classes=3, hidden=0),
    ]
    model = table_model(tasks)
    x = np.zeros((3, 5), "float32")
    share = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [-1, -1, -1]], "float32")
    yes = np.array([0.7, np.nan, 0.0], "float32")
    first = tf.data.Dataset.from_tensor_slices((x, {"sold": yes, "kind": share})).batch(3)
    second = tf.data.Dataset.from_tensor_slices((x + 1, {"kind": np.array([2, -1, 0])})).batch(3)
    labels = {int(x[0, 0]): y for x, y in mtl.data.mix([first, second], model)}
    np.testing.assert_array_equal(labels[0]["sold"][:, 0], yes)
    np.testing.assert_array_equal(labels[0]["kind"], share)
    np.testing.assert_array_equal(labels[1]["kind"].numpy()[[0, 2]], [[0, 0, 1], [1, 0, 0]])
    assert (
        not model.task("sold")
        .target(keras.ops.convert_to_tensor(labels[1]["sold"]))[1]
        .numpy()
        .any()
    )
    assert model.task("kind").target(labels[1]["kind"])[1].numpy().tolist() == [True, False, True]


def test_keras_does_not_warn_of_a_mixtures_end(recwarn):
    model = table_model()
    model.compile("sgd", run_eagerly=True)
    model.fit(
        mtl.data.mix([_numbered(2, "cost"), _numbered(2, "sold")], model), epochs=2, verbose=0
    )
    assert not [w for w in recwarn if "ran out of data" in str(w.message)]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (list, {}, "at least one data set"),
        (lambda: [_numbered(2, "cost")] * 2, {"sampling": [1.0]}, "2 numbers >= 0"),
        (lambda: [_numbered(2, "cost")] * 2, {"sampling": [0, 0]}, "not all of them 0"),
        (lambda: [_numbered(2, "cost")], {"ends": "never"}, "'shortest' or 'longest'"),
        (lambda: [_numbered(2, "cost").take(0)], {}, "should have rows"),
        (
            lambda: [_numbered(2, "cost").filter(lambda x, y: True)],
            {"sampling": "uniform", "ends": "longest"},
            "assert_cardinality",
        ),
        (
            lambda: [_numbered(2, "cost"), _numbered(2, "sold").map(lambda x, y: ({"a": x}, y))],
            {},
            "same inputs.*data set '1'",
        ),
    ],
)
def test_what_can_not_be_mixed_is_refused(make, options, words):
    with pytest.raises(ValueError, match=words):
        mtl.data.mix(make(), table_model(), **options)


# ------------------------------------------------------------------ shares, by their papers
SIZES = {"en": 900_000, "de": 90_000, "sw": 5_000, "yo": 700}


def _as_written(kind, epoch=0):
    """Each paper's formula, source by source."""
    n = np.array(list(SIZES.values()), "float64")
    if kind == "temperature":
        # T5, section 3.5.2: r_m = min(e_m, K) / sum min(e_n, K), to the power 1/T, renormalized.
        limited = np.minimum(n, 50_000)
        rates = (limited / limited.sum()) ** (1 / 3.0)
        return rates / rates.sum()
    if kind == "annealed":
        # PALs, section 4.2: p_i ~ N_i^alpha, alpha = 1 - 0.8 (e - 1) / (E - 1), e from 1 to E.
        rates = n ** (1 - 0.8 * (epoch + 1 - 1) / (5 - 1))
        return rates / rates.sum()
    # UniMax: the level that fills the budget when each source takes min(level, N c_l).
    budget, caps = 5 * n.sum(), 20.0 * n
    low, high = 0.0, budget
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(level, caps).sum() < budget else (low, level)
    rates = np.minimum(level, caps)
    return rates / rates.sum()


@pytest.mark.parametrize(
    ("kind", "epoch", "options"),
    [
        ("temperature", 0, {"temperature": 3.0, "limit": 50_000}),
        ("annealed", 0, {"epochs": 5}),
        ("annealed", 2, {"epochs": 5}),
        ("annealed", 4, {"epochs": 5}),
        ("unimax", 0, {"epochs": 5, "max_passes": 20}),
    ],
)
def test_rates_are_those_of_the_papers(kind, epoch, options):
    rates = mtl.data.sampling_rates(SIZES, kind, epoch=epoch, **options)
    np.testing.assert_allclose(list(rates.values()), _as_written(kind, epoch), rtol=1e-9)


def test_rates_meet_where_their_formulas_do():
    def rates(kind, **options):
        return list(mtl.data.sampling_rates(SIZES, kind, **options).values())

    proportional = rates("proportional")
    same([rates("temperature", temperature=1.0)], [proportional])
    same([rates("annealed", epochs=1)], [proportional])
    np.testing.assert_allclose(rates("temperature", temperature=1e9), rates("uniform"), rtol=1e-7)
    np.testing.assert_allclose(
        rates("annealed", epochs=7, epoch=6), rates("temperature", temperature=5.0)
    )
    # A budget that no cap cuts is shared equally; one above all caps is proportional.
    same([unimax_budgets([5, 9, 7], 3.0, 1)], [[1, 1, 1]])
    same([unimax_budgets([5, 9, 7], 1e9, 2)], [[10, 18, 14]])


@pytest.mark.large
def test_a_mixture_draws_by_the_rates():
    def rows(count, first):
        return np.full((count, 5), first, "float32"), {"cost": np.zeros(count, "float32")}

    sizes = {"a": 64, "b": 16, "c": 4}
    data = {name: rows(size, i) for i, (name, size) in enumerate(sizes.items())}
    options = {"epochs": 4, "max_passes": 8}
    for sampling in ("proportional", "temperature", "annealed", "unimax"):
        stream = mtl.data.mix(
            data,
            table_model(),
            sampling=sampling,
            within_batch=True,
            batch_size=7,
            steps=12,
            **options,
        )
        for epoch in range(3):
            drawn = np.concatenate([x[:, 0] for x, _ in stream]).astype(int)
            shares = mtl.data.sampling_rates(sizes, sampling, epoch=epoch, **options)
            assert len(drawn) == 84
            exact = 84 * np.array(list(shares.values()))
            assert np.abs(np.bincount(drawn, minlength=3) - exact).max() < 1, sampling


def test_a_schedule_gives_each_epoch_its_weights_and_all_epochs_one_length():
    data = {"a": _rows(8, "cost"), "b": _rows(8, "sold", 100)}
    stream = mtl.data.mix(
        data, table_model(), sampling=lambda epoch: {"a": 3 - epoch, "b": 1 + epoch}, batch_size=1
    )
    steps = int(stream.cardinality())
    # 8 of the first are 3/4 of 10.7 rows.
    counts = [sum(number >= 100 for number in _epoch(stream)) for _ in range(3)]
    assert steps == 11 and counts == [3, 5, 8]


# ------------------------------------------------------------------ several sources in one batch
def _rows(count, task, first=0, weight=None):
    """Arrays of rows that are numbered in their first column."""
    x = np.zeros((count, 5), "float32")
    x[:, 0] = np.arange(first, first + count)
    label = {"cost": np.arange(count) / 10, "sold": np.arange(count) % 2}[task]
    parts = (x, {task: label.astype({"cost": "float32", "sold": "int32"}[task])})
    return parts if weight is None else (*parts, weight)


def _task_data(parts):
    tasks = [mtl.tasks.Regression("cost", hidden=0), mtl.tasks.Binary("sold", hidden=0)]
    return mtl.data.from_arrays({"table": parts[0]}, parts[1], tasks)


FORMS = {
    "arrays": lambda parts: parts,
    "rows": tf.data.Dataset.from_tensor_slices,
    "batches": lambda parts: tf.data.Dataset.from_tensor_slices(parts).batch(3),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_several_sources_share_a_batch(form):
    weight = np.linspace(1, 2, 8).astype("float32")
    data = {
        "costs": FORMS[form](_rows(8, "cost", weight=weight)),
        "sales": FORMS[form](_rows(12, "sold", 100)),
    }
    stream = mtl.data.mix(data, table_model(), within_batch=True, batch_size=6)
    batches = list(stream.as_numpy_iterator())
    assert int(stream.cardinality()) == len(batches) == 4
    assert [len(x) for x, _, _ in batches] == [6, 6, 6, 2]
    assert any(len({number >= 100 for number in x[:, 0]}) == 2 for x, _, _ in batches)
    x, y, weights = (
        np.concatenate([np.ravel(part) for part in parts])
        for parts in zip(*[(x[:, 0], y["cost"], w) for x, y, w in batches], strict=True)
    )
    sold = np.concatenate([np.ravel(y["sold"]) for _, y, _ in batches])
    assert sorted(x) == [*range(8), *range(100, 112)]
    for number, cost, sale, row_weight in zip(x, y, sold, weights, strict=True):
        if number < 100:
            assert (cost, sale) == (np.float32(number / 10), -1) and row_weight == weight[
                int(number)
            ]
        else:
            assert np.isnan(cost) and sale == number % 2 and row_weight == 1


def test_a_mixed_batch_has_the_loss_of_its_rows():
    x, y = table_data(rows=24)
    model = table_model()
    model.compile("sgd", run_eagerly=True)
    data = {"a": (x[:16], {"cost": y["cost"][:16]}), "b": (x[16:], {"sold": y["sold"][16:]})}
    logs = model.evaluate(mtl.data.mix(data, model, within_batch=True, batch_size=24), verbose=0)
    answers = {name: np.asarray(value, "float64") for name, value in model(x).items()}
    cost = np.mean((answers["cost"][:16, 0] - y["cost"][:16]) ** 2)
    p, sold = answers["sold"][16:, 0], y["sold"][16:]
    assert logs["cost_loss"] == pytest.approx(cost, rel=1e-5)
    entropy = -np.mean(sold * np.log(p) + (1 - sold) * np.log(1 - p))
    assert logs["sold_loss"] == pytest.approx(entropy, rel=1e-4)


@pytest.mark.large
def test_forms_may_differ_and_data_sets_of_tasks_are_read_by_number():
    data = {
        "a": _task_data(_rows(5, "cost")),
        "b": _task_data(_rows(7, "sold", 100))[2:],
        "c": tf.data.Dataset.from_tensor_slices(
            ({"table": _rows(4, "cost", 200)[0]}, {"cost": np.zeros(4)})
        ),
    }
    for within_batch in (True, False):
        stream = mtl.data.mix(data, data["a"].tasks, within_batch=within_batch, batch_size=4)
        numbers = np.concatenate([x["table"][:, 0] for x, _ in stream])
        assert sorted(numbers) == [*range(5), *range(102, 107), *range(200, 204)]


def test_maps_objects_and_letters_fill_up_where_a_source_lacks_them():
    tasks = [
        mtl.tasks.Segmentation("mask", 3),
        mtl.tasks.Detection("things", 2),
        mtl.tasks.SequenceTranscription("word", "abc"),
    ]
    x = np.zeros((4, 8, 8, 1), "float32")
    objects = np.tile(np.float32([0.1, 0.1, 0.5, 0.5, 1]), (4, 2, 1))
    data = {
        "masks": (x, {"mask": np.ones((4, 8, 8), "int32")}),
        "boxes": (x + 1, {"things": objects, "word": np.ones((4, 3), "int32")}),
        "words": (x + 2, {"word": np.ones((4, 5), "int32"), "things": objects[:, :1]}),
    }
    streams = {
        "numbers": data,
        "streams": {k: tf.data.Dataset.from_tensor_slices(v).batch(2) for k, v in data.items()},
    }
    for sources in streams.values():
        (batch,) = mtl.data.mix(
            sources, tasks, within_batch=True, batch_size=12
        ).as_numpy_iterator()
        x_mixed, y = batch
        source = x_mixed[:, 0, 0, 0].astype(int)
        assert y["mask"].shape == (12, 8, 8, 1) and y["things"].shape == (12, 2, 5)
        assert y["word"].shape == (12, 5)
        assert (y["mask"][source == 0] == 1).all() and (y["mask"][source > 0] == -1).all()
        assert np.isnan(y["things"][source == 0]).all()
        np.testing.assert_array_equal(y["things"][source == 1], objects)
        present = np.asarray(tasks[1].target(y["things"])[1])
        np.testing.assert_array_equal(present, source > 0)
        assert (y["word"][source == 1] == [1, 1, 1, -1, -1]).all() and (
            y["word"][source == 0] == -1
        ).all()


# ------------------------------------------------------------------ orders
@pytest.mark.parametrize("within_batch", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_stream_that_begins_later_gives_the_epochs_that_would_have_followed(form, within_batch):
    def stream(initial_epoch):
        data = [FORMS[form](_rows(8, "cost")), FORMS[form](_rows(12, "sold", 100))]
        return mtl.data.mix(
            data,
            table_model(),
            within_batch=within_batch,
            batch_size=4,
            shuffle=8 if form != "arrays" else None,
            seed=5,
            initial_epoch=initial_epoch,
        )

    def numbers(stream):
        return [tuple(x[:, 0].numpy()) for x, _ in stream]

    unbroken = stream(0)
    epochs = [numbers(unbroken) for _ in range(4)]
    assert len(set(map(tuple, epochs))) == 4
    resumed = stream(2)
    # A look at the first batch is no epoch.
    assert numbers(resumed.take(1)) == epochs[2][:1]
    assert [numbers(resumed), numbers(resumed)] == epochs[2:]


def test_rows_are_drawn_without_repetition_and_other_rows_are_left_out_each_time():
    stream = mtl.data.mix(
        {"few": _rows(4, "cost"), "many": _rows(40, "sold", 100)},
        table_model(),
        sampling="uniform",
        within_batch=True,
        batch_size=4,
    )
    epochs = [sorted(int(n) for x, _ in stream for n in x[:, 0]) for _ in range(8)]
    assert all(len(set(epoch)) == 8 and epoch[:4] == [0, 1, 2, 3] for epoch in epochs)
    assert len({number for epoch in epochs for number in epoch}) > 20
    thrice = mtl.data.mix(
        {"few": _rows(4, "cost"), "many": _rows(12, "sold", 100)},
        table_model(),
        sampling="uniform",
        ends="longest",
        batch_size=2,
    )
    drawn = sorted(int(n) for x, _ in thrice for n in x[:, 0])
    assert drawn == [*sorted([*range(4)] * 3), *range(100, 112)]


class _Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.large
@pytest.mark.parametrize("sampling", ["temperature", "annealed"])
def test_a_training_that_was_killed_goes_on_as_if_it_was_not(sampling, tmp_path):
    def train(epochs, callbacks=(), initial_epoch=0, weights=None):
        model = table_model()
        rng = np.random.default_rng(0)
        model.set_weights(
            weights or [rng.normal(0, 0.3, w.shape).astype("float32") for w in model.get_weights()]
        )
        model.compile(keras.optimizers.SGD(0.05))
        stream = mtl.data.mix(
            {"a": _rows(8, "cost"), "b": _rows(30, "sold", 0)},
            model,
            sampling=sampling,
            epochs=4,
            within_batch=True,
            batch_size=5,
        )
        # What stands behind the mixture does not hide the number of its epoch.
        stream = stream.map(lambda x, y: (x / 10, y)).prefetch(2)
        model.fit(
            stream, epochs=epochs, initial_epoch=initial_epoch, callbacks=[*callbacks], verbose=0
        )
        return model.get_weights()

    unbroken = train(4)
    same(train(4, initial_epoch=2, weights=train(2)), unbroken)
    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        train(4, [keras.callbacks.BackupAndRestore(backup), _Kill()])
    same(train(4, [keras.callbacks.BackupAndRestore(backup)]), unbroken)
    other_order = train(4, initial_epoch=1, weights=train(2))
    assert any((a != b).any() for a, b in zip(other_order, unbroken, strict=True))


def test_a_second_fit_sees_further_orders():
    model = table_model()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    stream = mtl.data.mix([_rows(9, "cost"), _rows(9, "sold")], model, batch_size=3)
    model.fit(stream, epochs=2, verbose=0)
    model.fit(stream, epochs=2, verbose=0)
    assert stream.epoch_counter.epoch == 4
    # A new process goes on where Keras says, also behind other steps of the pipeline.
    stream = mtl.data.mix([_rows(9, "cost"), _rows(9, "sold")], model, batch_size=3)
    later = stream.map(lambda x, y: (x, y)).prefetch(1)
    model.fit(later, initial_epoch=5, epochs=6, verbose=0)
    assert stream.epoch_counter.epoch == 6


def test_sources_of_unknown_length_and_none():
    endless = tf.data.Dataset.from_tensor_slices(_rows(2, "sold", 100)).repeat()
    unknown = tf.data.Dataset.from_tensor_slices(_rows(6, "cost")).filter(lambda x, y: True)
    model = table_model()
    stream = mtl.data.mix([unknown, endless], model, sampling="uniform", batch_size=2)
    epochs = [_epoch(stream) for _ in range(3)]
    assert int(stream.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert all([number for number in epoch if number < 100] == [0, 2, 4] for epoch in epochs)
    stream = mtl.data.mix(
        {"a": unknown, "b": endless}, model, sampling="uniform", batch_size=2, sizes={"a": 6}
    )
    assert int(stream.cardinality()) == len(_epoch(stream)) == 6
    both = mtl.data.mix(
        {"a": _rows(4, "cost"), "b": endless},
        model,
        sampling="round_robin",
        ends="longest",
        batch_size=2,
    )
    numbers = _epoch(both.take(12))
    assert [number >= 100 for number in numbers] == [False, True] * 6
    assert int(both.cardinality()) == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampling": "temprature"}, "Did you mean 'temperature'"),
        ({"sampling": "annealed"}, "give `epochs=`"),
        ({"sampling": "unimax", "epochs": 3}, "`max_passes=`"),
        ({"temperature": 0.0}, "`temperature` should be"),
        ({"sampling": {"a": 1}}, "they lack 'b'"),
        ({"sampling": {"a": 1, "b": 1, "c": 1}}, "source in the weights: 'c'"),
        ({"sampling": lambda epoch: [1, float("nan")]}, "weights of epoch 0"),
        ({"batch_size": 0}, "`batch_size` should be a whole number >= 1"),
        ({"steps": 1.5}, "`steps` should be"),
        ({"shuffle": "yes"}, "`shuffle` should be"),
        ({"labelled": {"z": ["x"]}}, "data set in `labelled`: 'z'"),
    ],
)
def test_settings_that_can_not_be_are_refused(options, words):
    data = {"a": _rows(4, "cost"), "b": _rows(4, "sold")}
    with pytest.raises(ValueError, match=words):
        mtl.data.mix(data, table_model(), **options)


def test_sources_that_do_not_fit_are_refused_by_name():
    model = table_model()
    good = _rows(4, "cost")
    with pytest.raises(ValueError, match="same inputs.*'good'.*'wide'"):
        mtl.data.mix({"good": good, "wide": (np.zeros((4, 6), "float32"), good[1])}, model)
    with pytest.raises(ValueError, match="same inputs.*'good'.*'whole'"):
        mtl.data.mix({"good": good, "whole": (np.zeros((4, 5), "int32"), good[1])}, model)
    with pytest.raises(ValueError, match="data set 'bad': 'costs'.*Did you mean 'cost'"):
        mtl.data.mix({"bad": (good[0], {"costs": good[1]["cost"]})}, model)
    with pytest.raises(TypeError, match="Data set 'bad' should be a TaskDataset"):
        mtl.data.mix({"bad": [1, 2]}, model)
    endless = tf.data.Dataset.from_tensor_slices(good).repeat()
    with pytest.raises(ValueError, match="'endless': -1.*sampling='uniform'"):
        mtl.data.mix({"endless": endless}, model)
