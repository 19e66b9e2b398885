"""wav: pictures that show where the sound is, whatever the file's kind; classes by folder or name; speakers apart."""

import numpy as np
import pytest
from scipy.io import wavfile

from mtl_jax.data import datasets
from mtl_jax.data.sets.audio import _mel_bands, log_mel, read_sound

RATE = 8000


def tone(hertz, seconds=0.5, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def record(tmp_path):
    """record("cat/0.wav", 440): a tone, below tmp_path/f."""

    def write(path, hertz=440, seconds=0.5, rate=RATE, dtype=np.int16):
        file = tmp_path / "f" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(file, rate, (tone(hertz, seconds, rate) * 30000).astype(dtype))

    return write


@pytest.fixture
def load(tmp_path):
    """load(split, options) of that folder."""
    return lambda split="train", options="", **settings: datasets.load(
        f"wav:{tmp_path / 'f'}{options}", split, cache_dir=tmp_path / "cache", **settings
    )


@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000])
@pytest.mark.parametrize("size", [28, 64])
def test_a_tone_is_a_bright_row_at_its_mel(hertz, size):
    picture = log_mel(tone(hertz), RATE, size)
    assert picture.shape == (size, size)
    assert picture.dtype == np.uint8
    mel = 2595 * np.log10(1 + np.asarray([hertz, RATE / 2]) / 700)
    row = mel[0] / mel[1] * (size + 1) - 1
    first = picture[:, : size // 2 - 2]
    assert abs(first.mean(1).argmax() - row) <= 1
    assert picture.max() == 255
    assert picture[:, size // 2 + 4 :].max() == 0, "the second half is silence"


def test_loudness_and_silence():
    np.testing.assert_allclose(log_mel(tone(440), RATE), log_mel(tone(440) * 1e-3, RATE), atol=1)
    assert (log_mel(np.zeros(100), RATE) == 0).all()
    long = log_mel(tone(440, 3), RATE)
    np.testing.assert_array_equal(long[:, :60], log_mel(tone(440, 1), RATE)[:, :60])


@pytest.mark.parametrize("size", [16, 28, 64, 84, 128])
def test_every_band_has_a_bin_and_bands_overlap_to_one(size):
    frequencies = np.linspace(0, RATE / 2, 4 * size + 1)
    bands = _mel_bands(size, frequencies)
    picture = log_mel(np.random.default_rng(0).normal(size=RATE), RATE, size)
    assert (picture.max(1) > 0).all(), "no band is empty"
    inside = (bands.argmax(0) > 0) & (bands.argmax(0) < size - 1)
    np.testing.assert_allclose(bands.sum(0)[inside], 1, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.uint8])
def test_every_kind_of_sample_gives_the_same_sound(tmp_path, dtype):
    sound = tone(440)
    scaled = {np.int16: sound * 32767, np.int32: sound * (2**31 - 1), np.float32: sound, np.uint8: sound * 127 + 128}
    wavfile.write(tmp_path / "x.wav", RATE, np.stack([scaled[dtype].astype(dtype)] * 2, 1))
    got = read_sound(tmp_path / "x.wav", RATE)
    np.testing.assert_allclose(got, sound, atol=2 / 128 if dtype == np.uint8 else 1e-3)


def test_rates_are_brought_to_one(tmp_path):
    wavfile.write(tmp_path / "x.wav", 22050, (tone(440, 1, 22050) * 30000).astype(np.int16))
    got = read_sound(tmp_path / "x.wav", RATE)
    assert len(got) == RATE
    np.testing.assert_allclose(got[200:-200], tone(440, 1)[200:-200] * 30000 / 32768, atol=0.02)


def test_folders_are_classes_in_pictures_of_any_size(record, load, tmp_path):
    for path in ("low/0.wav", "low/more/1.wav", "high/0.wav"):
        record(path)
    pool = load()
    assert pool.names == ("high", "low")
    assert pool.x.shape == (3, 64, 64, 1)
    assert load(image_size=28, channels=3).x.shape == (3, 28, 28, 3)
    assert datasets.info(f"wav:{tmp_path / 'f'}").image_shape == (64, 64, 1)
    assert (np.asarray(load(options="?seconds=0.5").x)[..., 40:, 0].max() > 0).all()


def test_names_of_free_spoken_digits_and_held_out_speakers(record, load, tmp_path, caplog):
    for digit in range(10):
        for speaker in ("ann", "bob", "eve"):
            record(f"recordings/{digit}_{speaker}_0.wav", 200 + 100 * digit)
    record("recordings/odd.wav")
    assert load("train").classes == 6
    assert "split by seed 0 into train 6, val 2, test 2" in caplog.text
    assert "left out 1 recordings whose names are not LABEL_SPEAKER_NUMBER.wav" in caplog.text
    held = "?test=eve&val=bob"
    for split in ("train", "val", "test"):
        pool = load(split, held)
        assert pool.names == tuple("0123456789")
        assert pool.count.tolist() == [1] * 10
    assert load("train", "?test=eve").count.tolist() == [2] * 10
    assert datasets.info(f"wav:{tmp_path / 'f'}?test=eve").classes == {"train": 10, "test": 10}
    for options, message in (
        ("?test=eva", "no recording of a speaker 'eva': choose from ann, bob, eve"),
        ("?test=eve&val=eve", "named for val and for test"),
        ("?test=ann,bob,eve", "all 3 speakers are held out"),
        ("?seconds=0", "seconds must be a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            load("test", options)


def test_speakers_begin_the_names_in_folders_by_class(record, load):
    for name in ("yes", "no"):
        for speaker in ("a1", "b2"):
            record(f"{name}/{speaker}_nohash_0.wav")
    assert load("test", "?test=b2").count.tolist() == [1, 1]


def test_damaged_recordings_are_named_and_skipped(record, load, tmp_path, caplog):
    record("a/0.wav")
    record("b/0.wav")
    (tmp_path / "f" / "a" / "1.wav").write_bytes(b"RIFF no sound")
    assert load().count.tolist() == [1, 1]
    assert "skipped 1 recordings that cannot be read" in caplog.text
    (tmp_path / "f" / "a" / "0.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="class 'a' runs empty"):
        load()
