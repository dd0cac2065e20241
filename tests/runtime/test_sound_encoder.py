"""Sound files against samples that are written byte by byte, and against soundfile and SciPy."""

import struct
import subprocess
import sys
import wave

import numpy as np
import pytest
import soundfile
from scipy import signal

import mtl_keras as mtl
from mtl_keras.runtime.encoders import waveforms

RATE = 8000


def _tone(seconds=0.5, rate=RATE, channels=1):
    time = np.arange(round(seconds * rate)) / rate
    tones = [0.5 * np.sin(2 * np.pi * 300 * (i + 1) * time) for i in range(channels)]
    return np.stack(tones, -1).astype("float32")


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_files_hold_what_soundfile_wrote(tmp_path, subtype, channels):
    tone = _tone(channels=channels)
    for form in ("WAV", "WAVEX"):
        soundfile.write(tmp_path / "a.wav", tone, RATE, subtype=subtype, format=form)
        samples, rate = waveforms.read_sound(tmp_path / "a.wav")
        assert rate == RATE and samples.shape == tone.shape and samples.dtype == np.float32
        expected = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0]
        np.testing.assert_allclose(samples, expected, atol=1e-7)
        assert waveforms.sound_length(tmp_path / "a.wav") == (len(tone), RATE)


def test_wav_bytes_by_hand(tmp_path):
    path = tmp_path / "a.wav"
    body = struct.pack("<4h", 0, 16384, -32768, 32767)
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44100, 44100 * 4, 4, 16)
    # A chunk of odd length stands before the sound.
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    data = b"data" + struct.pack("<I", len(body)) + body
    content = b"WAVE" + head + extra + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
    samples, rate = waveforms.read_sound(path)
    assert rate == 44100
    np.testing.assert_array_equal(samples, [[0, 0.5], [-1, 32767 / 32768]])
    with wave.open(str(path)) as file:
        assert file.getnframes() == 2
    # A recorder that was cut off did not write the size.
    open_size = content.replace(struct.pack("<I", len(body)) + body, b"\xff\xff\xff\xff" + body)
    path.write_bytes(b"RIFF\xff\xff\xff\xff" + open_size)
    assert waveforms.read_sound(path)[0].shape == (2, 2)


def test_flac_and_other_formats_come_through_soundfile(tmp_path):
    tone = _tone(channels=2)
    soundfile.write(tmp_path / "a.flac", tone, RATE)
    samples, rate = waveforms.read_sound(tmp_path / "a.flac")
    assert rate == RATE
    np.testing.assert_allclose(samples, tone, atol=1e-4)
    assert waveforms.sound_length(tmp_path / "a.flac") == (len(tone), RATE)


def test_damaged_and_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, _tone(), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"a\.wav is damaged: it ends after \d+ of 8000 bytes"):
        waveforms.read_sound(path)
    path.write_bytes(whole[:30])
    with pytest.raises(ValueError, match=r"a\.wav is damaged: a WAV file without sound"):
        waveforms.read_sound(path)
    path.write_text("no sound")
    with pytest.raises(ValueError, match=r"a\.wav is not a sound that can be read"):
        waveforms.read_sound(path)
    soundfile.write(path, _tone(), RATE, subtype="ULAW")
    with pytest.raises(ValueError, match=r"format 7 with 8 bits"):
        waveforms.read_sound(path)


def test_sounds_are_averaged_cut_and_filled_up(tmp_path):
    encoder = mtl.data.SoundEncoder(sample_rate=RATE, seconds=0.25)
    assert len(encoder) == 2000
    soundfile.write(tmp_path / "long.wav", _tone(0.5, channels=2), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", _tone(0.1), RATE, subtype="FLOAT")
    rows = encoder.encode([tmp_path / "long.wav", str(tmp_path / "short.wav")])
    assert rows.shape == (2, 2000) and rows.dtype == np.float32
    np.testing.assert_allclose(rows[0], _tone(0.5, channels=2).mean(1)[:2000], atol=1e-6)
    np.testing.assert_array_equal(rows[1, :800], _tone(0.1)[:, 0])
    assert not rows[1, 800:].any()
    # Arrays give the same.
    arrays = encoder.encode([_tone(0.5, channels=2), _tone(0.1)[:, 0]])
    np.testing.assert_allclose(arrays, rows, atol=1e-6)
    whole = (np.array([0, 0.5, -1]) * 32768).astype("int16")
    assert encoder.encode([whole])[0, :3].tolist() == [0, 0.5, -1]


def test_another_rate_is_changed_as_scipy_does(tmp_path):
    tone = _tone(0.5, 44100)
    soundfile.write(tmp_path / "a.wav", tone, 44100, subtype="FLOAT")
    encoder = mtl.data.SoundEncoder(sample_rate=RATE, seconds=0.25)
    expected = signal.resample_poly(tone[:, 0].astype(float), 80, 441)[:2000]
    np.testing.assert_allclose(encoder.encode([tmp_path / "a.wav"])[0], expected, atol=1e-5)
    # It is the tone at the new rate.
    middle = slice(500, 1500)
    np.testing.assert_allclose(expected[middle], _tone(0.25)[middle, 0], atol=1e-2)


@pytest.mark.parametrize(
    ("sounds", "error", "message"),
    [
        ("a.wav", TypeError, "`sounds` should be a list"),
        ([np.zeros((2, 3, 4))], ValueError, r"shape \(samples,\)"),
        ([np.zeros((2, 100))], ValueError, r"shape \(samples,\)"),
        ([np.array([0.0, 300.0])], ValueError, "from -1 to 1"),
        ([np.array([0, 300])], ValueError, "integers of 16 or 32 bits"),
    ],
)
def test_other_sounds_are_refused(sounds, error, message):
    with pytest.raises(error, match=message):
        mtl.data.SoundEncoder().encode(sounds)
    with pytest.raises(ValueError, match="should be above 0"):
        mtl.data.SoundEncoder(seconds=0)


def test_packages_that_are_missing_are_named(tmp_path):
    soundfile.write(tmp_path / "a.flac", _tone(), RATE)
    soundfile.write(tmp_path / "a.wav", _tone(), RATE)
    code = f"""
import sys
sys.modules["soundfile"] = sys.modules["scipy"] = sys.modules["scipy.signal"] = None
from mtl_keras.runtime.encoders import SoundEncoder
folder = {str(tmp_path)!r}
assert SoundEncoder({RATE}, 0.1).encode([folder + "/a.wav"]).any()
for name, word in (("a.flac", "soundfile"), ("a.wav", "scipy")):
    try:
        SoundEncoder(16000, 0.1).encode([folder + "/" + name])
    except ImportError as error:
        assert word in str(error) and name in str(error) and "mtl_keras[data]" in str(error), error
    else:
        raise AssertionError(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
