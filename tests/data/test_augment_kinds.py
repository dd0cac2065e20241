"""Steps for sounds, texts, series and tables, held to their definitions."""

import numpy as np
import pytest

import mtl_keras as mtl
from mtl_keras.data import augment

T = mtl.tasks


def run(kind, steps, x, **options):
    rows = len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
    y = {"any": np.zeros(rows)}
    new, _ = augment.Augmenter(steps, [T.Binary("any")], kind=kind, **options)(x, y)
    return new


def waves(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.01, 1, (rows, 1)) * rng.standard_normal((rows, 4000))).astype("float32")


def test_noise_has_the_ratio_that_it_should_have():
    x = waves()
    noise = run("sound", [augment.Noise((15, 15))], x).numpy() - x
    ratio = 10 * np.log10((x**2).mean(1) / (noise**2).mean(1))
    np.testing.assert_allclose(ratio, 15, atol=0.3)
    assert np.abs(np.corrcoef(noise)[0, 1:]).max() < 0.1
    silence = np.zeros((2, 100), "float32")
    np.testing.assert_array_equal(run("sound", ["noise"], silence), silence)


@pytest.mark.parametrize("shape", [(8, 100), (8, 100, 1), (8, 100, 12), (8, 100, 12, 1)])
def test_shift_moves_times_and_brings_silence(shape):
    x = np.random.default_rng(0).uniform(1, 2, shape).astype("float32")
    new = run("sound", [augment.Shift(0.2)], x).numpy()
    offsets = set()
    for before, after in zip(x, new, strict=True):
        fill = 0 if shape[2:] in ((), (1,)) else before.min()
        shifted = {k: np.full_like(before, fill) for k in range(-20, 21)}
        for k, expected in shifted.items():
            expected[max(k, 0) : 100 + min(k, 0)] = before[max(-k, 0) : 100 - max(k, 0)]
        matches = [k for k, expected in shifted.items() if np.array_equal(expected, after)]
        assert len(matches) == 1
        offsets |= set(matches)
    assert len(offsets) > 3


@pytest.mark.parametrize("shape", [(6, 60, 40), (6, 60, 40, 1)])
def test_spec_augment_masks_whole_times_and_whole_bands_of_spectrograms(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    step = augment.SpecAugment(time_masks=1, frequency_masks=1, time=0.3, frequency=0.3)
    new = run("sound", [step], x).numpy()
    masked = 0
    for before, after in zip(x.reshape(6, 60, 40), new.reshape(6, 60, 40), strict=True):
        changed = before != after
        np.testing.assert_allclose(after[changed], before.mean(), atol=1e-5)
        times, bands = changed.all(1), changed.all(0)
        np.testing.assert_array_equal(changed, times[:, None] | bands[None])
        for line, limit in ((times, 18), (bands, 12)):
            places = np.flatnonzero(line)
            assert len(places) <= limit + 1
            assert not len(places) or np.ptp(places) == len(places) - 1
        masked += changed.mean()
    assert masked > 0.3


def test_spec_augment_takes_bands_out_of_waveforms():
    x = waves()
    step = augment.SpecAugment(time_masks=0, frequency_masks=1, frequency=0.5)
    new = run("sound", [step], x).numpy()
    before, after = np.abs(np.fft.rfft(x)), np.abs(np.fft.rfft(new))
    gone = after < 1e-3 * before
    assert gone.any(1).sum() >= 5
    for row, spectrum, other in zip(gone, before, after, strict=True):
        places = np.flatnonzero(row)
        assert not len(places) or np.ptp(places) == len(places) - 1
        np.testing.assert_allclose(other[~row], spectrum[~row], rtol=1e-2, atol=1e-2)
        # Half of the mel scale at most.
        hertz = places[[0, -1]] * 8000 / 2000 if len(places) else np.zeros(2)
        mel = np.log1p(hertz / 700) / np.log1p(8000 / 700)
        assert np.ptp(mel) <= 0.5 + 1e-3
    silent = run("sound", [augment.SpecAugment(1, 0, time=0.5)], x).numpy() == 0
    for row in silent:
        places = np.flatnonzero(row)
        assert not len(places) or np.ptp(places) == len(places) - 1


def test_word_dropout_replaces_words_and_leaves_padding_and_one_word():
    rng = np.random.default_rng(0)
    x = rng.integers(2, 50, (400, 12)).astype("int32")
    lengths = rng.integers(0, 13, 400)
    x[np.arange(12)[None] >= lengths[:, None]] = 0
    new = run("text", [augment.WordDropout(0.3)], x).numpy()
    changed = new != x
    assert (new[changed] == 1).all() and not changed[x == 0].any() and new.dtype == x.dtype
    assert ((~changed & (x > 0)).sum(1) >= (lengths > 0)).all()
    assert changed[lengths > 6][:, :6].mean() == pytest.approx(0.3, abs=0.04)
    all_but_one = run("text", [augment.WordDropout(1.0)], x).numpy()
    np.testing.assert_array_equal((all_but_one > 1).sum(1), lengths > 0)
    ids = run("text", [augment.WordDropout(1.0, unknown=7, keep=[2, 3])], x).numpy()
    np.testing.assert_array_equal(ids[(x == 2) | (x == 3)], x[(x == 2) | (x == 3)])
    assert ((ids == 7) & (x != 7)).any()


def test_the_unknown_word_is_the_encoders():
    tasks, words = [T.Binary("any")], mtl.data.WordTokenizer(["a", "b"], 4)
    augmenter = augment.Augmenter(["word_dropout"], tasks, kind="text", encoder=words)
    assert augmenter.steps[0].unknown == 1
    hashed = mtl.data.HashingTokenizer(100, 4)
    with pytest.raises(ValueError, match="HashingTokenizer has none"):
        augment.Augmenter(["word_dropout"], tasks, kind="text", encoder=hashed)


@pytest.mark.parametrize("shape", [(300, 50), (300, 50, 3)])
def test_jitter_and_scale_follow_the_spread_of_channels(shape):
    scale = np.array([1e-4, 1.0, 1e5])[: shape[-1]] if len(shape) == 3 else 1e-4
    x = (np.random.default_rng(0).standard_normal(shape) * scale).astype("float32")
    noise = run("array", [augment.Jitter(0.1)], x).numpy() - x
    np.testing.assert_allclose(noise.std(1) / x.std(1), 0.1, rtol=0.6)
    np.testing.assert_allclose((noise.std(1) / x.std(1)).mean(0), 0.1, rtol=0.03)
    factor = run("array", ["scale"], x).numpy() / x
    np.testing.assert_allclose(factor, factor[:, :1] * np.ones_like(x), rtol=1e-3)
    assert factor[:, 0].std(0) == pytest.approx(0.1, rel=0.2)
    assert factor[:, 0].mean() == pytest.approx(1, abs=0.02)


def table(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "numeric": (rng.standard_normal((rows, 3)) * [1e-4, 1, 1e5]).astype("float32"),
        "categorical": (rng.integers(0, 5, (rows, 2)) + [0, 10]).astype("int32"),
    }


def test_column_noise_follows_the_spread_of_columns_and_leaves_categories():
    x = table()
    new = run("table", [augment.ColumnNoise(0.2)], x)
    noise = new["numeric"].numpy() - x["numeric"]
    np.testing.assert_allclose(noise.std(0) / x["numeric"].std(0), 0.2, rtol=0.15)
    np.testing.assert_array_equal(new["categorical"], x["categorical"])
    encoder = mtl.data.TableEncoder({"a": [0, 1.0], "b": [0, 4.0], "c": [0, 9.0]}, {})
    new = run("table", [augment.ColumnNoise(0.2)], x, encoder=encoder)
    noise = new["numeric"].numpy() - x["numeric"]
    np.testing.assert_allclose(noise.std(0)[:2], [0.2, 0.4], rtol=0.15)


def test_swap_noise_takes_values_of_the_same_column():
    x = table()
    new = run("table", [augment.SwapNoise(0.3)], x)
    for name, block in x.items():
        swapped = new[name].numpy()
        assert swapped.dtype == block.dtype
        for column in range(block.shape[1]):
            assert set(swapped[:, column]) <= set(block[:, column])
    changed = (new["numeric"].numpy() != x["numeric"]).mean()
    assert changed == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(run("table", [augment.SwapNoise(0)], x)["numeric"], x["numeric"])
    one = {name: block[:1] for name, block in x.items()}
    np.testing.assert_array_equal(run("table", ["swap_noise"], one)["numeric"], one["numeric"])


@pytest.mark.parametrize(
    ("kind", "step", "shape", "dtype", "message"),
    [
        ("image", "color", (4, 8, 8), "float32", "rows, height, width, channels"),
        ("sound", "noise", (4, 50, 12), "float32", "Use 'spec_augment'"),
        ("sound", "spec_augment", (4, 50), "int16", "real numbers"),
        ("text", "word_dropout", (4, 8), "float32", "ids of words"),
        ("array", "jitter", (4, 8), "int32", "real"),
        ("table", "mixup", (4, 3), "int32", "swap_noise"),
    ],
)
def test_inputs_that_a_step_cannot_change_are_refused(kind, step, shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        run(kind, [step], np.zeros(shape, dtype))
