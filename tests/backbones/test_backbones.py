import keras
import numpy as np
import pytest

from mtl_keras import backbones


def test_small_cnn_halves_each_stage():
    model = backbones.small_cnn(
        keras.Input((40, 40, 3)), widths=(4, 6, 8), depth=1, rescale=1 / 255
    )
    assert {k: tuple(v.shape[1:]) for k, v in model.output.items()} == {
        "stage1": (20, 20, 4),
        "stage2": (10, 10, 6),
        "stage3": (5, 5, 8),
    }


def test_mlp_normalizes_with_the_given_statistics():
    inputs = keras.Input((2,), name="numeric")
    model = backbones.mlp(
        inputs, widths=(3,), mean=[10.0, -4.0], variance=[4.0, 9.0], normalize=False
    )
    dense = model.get_layer("mlp_stage1_dense")
    dense.set_weights([np.eye(2, 3), np.zeros(3)])
    found = model.predict(np.array([[14.0, -1.0]]), verbose=0)["stage1"]
    np.testing.assert_allclose(found, [[2.0, 1.0, 0.0]], rtol=1e-5)


def test_mlp_needs_mean_and_variance_together():
    with pytest.raises(ValueError, match="mean and variance together"):
        backbones.mlp(keras.Input((2,)), mean=[0.0, 0.0])


def test_mlp_takes_categories_alone():
    model = backbones.mlp(
        keras.Input((2,), dtype="int32", name="categorical"), cardinalities=[3, 4], embedding_dim=2
    )
    assert model.predict(np.array([[2, 3]]), verbose=0)["stage2"].shape == (1, 64)


def test_bilstm_reads_in_both_directions():
    model = backbones.bilstm(
        keras.Input((5,), dtype="int32", name="tokens"), vocabulary_size=9, embedding_dim=3, units=2
    )
    ids = np.array([[1, 2, 3, 4, 5]])
    states = model.predict(ids, verbose=0)["stage1"]
    later, earlier = ids.copy(), ids.copy()
    later[0, 4], earlier[0, 0] = 8, 8
    # The forward half of the first state sees the first word only, the backward half of the last
    # state the last only.
    np.testing.assert_allclose(
        model.predict(later, verbose=0)["stage1"][0, 0, :2], states[0, 0, :2], rtol=1e-5
    )
    np.testing.assert_allclose(
        model.predict(earlier, verbose=0)["stage1"][0, 4, 2:], states[0, 4, 2:], rtol=1e-5
    )
    assert not np.allclose(model.predict(later, verbose=0)["stage1"][0, 0, 2:], states[0, 0, 2:])
    assert model.output["stage2"].shape == (None, 8)


def test_unknown_names_list_the_close_ones():
    with pytest.raises(ValueError, match="Did you mean 'bilstm'"):
        backbones.get("bi_lstm")
