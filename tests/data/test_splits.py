"""`TaskDataset.split`: which rows train, validate and test."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data import DataError
from mtl_keras.data.splits import split_rows

PRICE = mtl.tasks.Regression("price")


def test_parts_share_no_row_and_have_their_sizes():
    data = mtl.data.from_arrays(np.ones((100, 2)), {"price": np.arange(100.0)}, [PRICE])
    parts = data.split(0.7, 0.2, 0.1, seed=1)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert sorted(np.concatenate([part.labels("price") for part in parts])) == list(range(100))
    rows = split_rows(data, (0.7, 0.2, 0.1), seed=1, by=None, stratify=False)
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate([p._rows for p in parts]))
    with pytest.raises(DataError, match="Part 1 of the split has no row"):
        data[:3].split(0.9, 0.1)
