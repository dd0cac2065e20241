import numpy as np
import pytest

from mtl_keras.data import batches

X, Y = np.arange(10), {"t": np.arange(10) * 2}


def test_one_pass_in_order():
    data = batches.from_arrays(X, Y, 4, shuffle=False)
    found = [(x.numpy().tolist(), y["t"].numpy().tolist()) for x, y in data]
    assert found[0] == ([0, 1, 2, 3], [0, 2, 4, 6]) and len(found[2][0]) == 2
    assert int(data.cardinality()) == 3


def test_endless_passes_see_every_row_once_each_in_an_order_of_the_seed():
    def rows(seed):
        return np.concatenate(
            [x.numpy() for x, _ in batches.from_arrays(X, Y, 5, seed=seed).take(4)]
        )

    first = rows(0)
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    assert first[:10].tolist() != first[10:].tolist()
    np.testing.assert_array_equal(first, rows(0))
    assert first.tolist() != rows(1).tolist()


def test_dicts_of_inputs_stay_dicts():
    x, _ = next(iter(batches.from_arrays({"a": X, "b": X * 3}, Y, 4)))
    np.testing.assert_array_equal(x["a"] * 3, x["b"])


def test_sample_weights_stay_with_their_rows():
    for x, _, w in batches.from_arrays(X, Y, 4, sample_weight=X * 0.5).take(3):
        np.testing.assert_array_equal(w, x.numpy() * 0.5)


@pytest.mark.parametrize(("x", "y"), [(X, {"t": np.arange(9)}), (X[:0], {"t": X[:0]})])
def test_arrays_that_do_not_fit_are_refused(x, y):
    with pytest.raises(ValueError, match="one number of rows"):
        batches.from_arrays(x, y, 4)
