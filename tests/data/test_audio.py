"""WAV files and their spectrograms: every form of PCM, what lies where, what is refused; folders of sounds as data."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from sounds import KINDS, fill, sound, write

from pellucid.data.audio.preprocess import AudioPreprocessor
from pellucid.data.audio.spectrogram import BANDS, frame_count, hertz, log_mel, mel_filters, mels
from pellucid.data.audio.wav import Recording, read_wav
from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.errors import DataError, OptionError


def tone(frequency, rate=16_000, seconds=0.5, loud=1.0):
    return loud * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


# ---- WAV files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_and_number_of_channels(tmp_path, width, channels):
    samples = tone(440, 8000, 0.1)
    recording = read_wav(write(tmp_path / "a.wav", samples, 8000, width, channels), "a.wav")
    assert recording.rate == 8000 and recording.samples.shape == samples.shape and recording.seconds == 0.1
    assert np.abs(recording.samples - samples).max() <= 1.51 / 2 ** (8 * width - 1)


def test_the_ends_of_the_scale_and_silence(tmp_path):
    for width in (1, 2, 3, 4):
        lowest = b"\x00" if width == 1 else b"\x00" * (width - 1) + b"\x80"
        path = write(tmp_path / "a.wav", [0.0, 0.0], width=width)
        path.write_bytes(path.read_bytes()[: -2 * width] + lowest + (b"\x80" if width == 1 else bytes(width)))
        np.testing.assert_array_equal(read_wav(path, "a.wav").samples, [-1.0, 0.0])


def test_channels_are_mixed(tmp_path):
    both = np.stack([tone(300), -tone(300)], 1)
    assert np.abs(read_wav(write(tmp_path / "a.wav", both), "a").samples).max() < 1e-4


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data


def riff(form, data, *before):
    body = b"WAVE" + b"".join(before) + chunk(b"fmt ", form) + chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_pcm_in_the_extensible_form(tmp_path):
    samples = np.array([0, 1000, -1000, 32767], "<i2")
    form = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, 8000, 16_000, 2, 16, 22, 16, 0, 1, b"\x00" * 14)
    for before in ((), (chunk(b"LIST", b"INFO"),)):
        recording = read_wav(riff(form, samples.tobytes(), *before), "a.wav")
        np.testing.assert_array_equal(recording.samples, samples / 32768)


def form(tag=1, channels=1, rate=8000, bits=16):
    return struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)


SAMPLES = bytes(200)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a WAV file; expected one; convert the sound"),
        (b"ID3 and so on, an MP3", "not a WAV file"),
        (riff(form(tag=3, bits=32), SAMPLES), "floating-point samples; expected PCM .*pcm_s16le"),
        (riff(form(tag=7, bits=8), SAMPLES), r"cannot be decoded \(unknown format: 7\)"),
        (riff(form(bits=40), SAMPLES), "40 bits, 8,000 samples a second; expected 8, 16, 24 or 32 bits"),
        (riff(form(rate=0), SAMPLES), "0 samples a second"),
        (riff(form(rate=4_000_000), SAMPLES), "4,000,000 samples a second"),
        (riff(form(), b""), "no samples in it"),
        (riff(form(channels=0), SAMPLES), "cannot be decoded"),
        (b"RIFF\x10\x00\x00\x00WAVEjunk", "cannot be decoded"),
    ],
)
def test_what_is_no_sound_is_named_with_what_to_do(data, words):
    with pytest.raises(DataError, match=rf"^bad\.wav: .*{words}"):
        read_wav(data, "bad.wav")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.wav: no such file"):
        read_wav(tmp_path / "gone.wav", tmp_path / "gone.wav")


def test_a_file_cut_short(tmp_path):
    whole = write(tmp_path / "a.wav", tone(440)).read_bytes()
    with pytest.raises(
        DataError, match=r"a\.wav: .* bytes of sound where its header promises 16,000; .*copy or save it again"
    ):
        read_wav(whole[:5000], "a.wav")


def test_damaged_bytes_are_a_sound_or_an_error_of_ours(tmp_path):
    whole = write(tmp_path / "a.wav", tone(440, 8000, 0.02), 8000, 2, 2).read_bytes()
    random, read = np.random.default_rng(1), 0
    for _ in range(2000):
        data = bytearray(whole)
        for position in random.integers(0, 48, 3):
            data[position] = random.integers(0, 256)
        try:
            samples = read_wav(bytes(data[: random.integers(1, len(data) + 200)]), "x").samples
            assert samples.ndim == 1 and len(samples) and np.abs(samples).max() <= 1
            read += 1
        except DataError as error:
            assert str(error).startswith("x: ")
    assert 0 < read < 2000


# ---- spectrograms --------------------------------------------------------------------------------------------------------


def loudest_band(image):
    return BANDS - 1 - image.astype(float).mean(1).argmax()


@pytest.mark.parametrize("frequency", [150, 440, 1000, 3000])
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100])
def test_a_tone_lies_in_its_band_at_every_rate(frequency, rate):
    image = log_mel(Recording(tone(frequency, rate), rate), 0.5, 4000.0)
    assert image.shape == (BANDS, frame_count(0.5)) and image.dtype == np.uint8
    peaks = hertz(np.linspace(0, mels(4000.0), BANDS + 2)[1:-1])
    assert abs(loudest_band(image) - np.abs(peaks - frequency).argmin()) <= 1


def test_the_same_sound_at_other_rates_has_the_same_spectrogram():
    images = [
        log_mel(Recording(tone(700, rate, loud=0.5), rate), 0.5, 4000.0).astype(int) for rate in (8000, 22_050, 48_000)
    ]
    inside = np.abs(images[0] - images[1])[:, 4:-4], np.abs(images[1] - images[2])[:, 4:-4]
    loud = images[0][:, 4:-4] > 150
    assert loud.any() and max(diff[loud].max() for diff in inside) <= 3


def test_bytes_are_decibels_below_a_sine_of_full_scale():
    peak = float(hertz(mels(4000.0) * 33 / (BANDS + 1)))  # the middle of a band
    loud, soft = (log_mel(Recording(tone(peak, loud=loud), 16_000), 0.5, 4000.0)[:, 5:-5].max() for loud in (1.0, 0.1))
    assert 245 <= loud <= 255 and abs(int(loud) - int(soft) - 20 * 2.55) <= 1
    assert log_mel(Recording(np.zeros(8000), 16_000), 0.5, 4000.0).max() == 0


def test_it_is_a_short_time_fourier_transform():
    """Against NumPy's FFT of the same frames, added up in the same bands."""
    rate, seconds, highest = 8000, 0.4, 4000.0
    recording = Recording(np.random.default_rng(0).standard_normal(round(rate * seconds)) * 0.1, rate)
    image = log_mel(recording, seconds, highest)
    count = frame_count(seconds)
    hop, length = seconds * rate / count, round(2.5 * seconds * rate / count)
    padded, window = np.pad(recording.samples, length), np.hanning(length + 2)[1:-1]
    bins = 2**14
    at = np.arange(0, highest, float(hertz(mels(highest) / (BANDS + 1))) / 1.5)
    spectra = []
    for k in range(count):
        start = round((k + 0.5) * hop - length / 2) + length
        spectrum = np.fft.rfft(padded[start : start + length] * window, bins) * 2 / window.sum()
        spectra.append(np.interp(at, np.arange(bins // 2 + 1) * rate / bins, np.abs(spectrum) ** 2))
    one = np.fft.rfft(window * np.sin(2 * np.pi * 1000 / rate * np.arange(length)), bins) * 2 / window.sum()
    power_of_a_sine = np.interp(at, np.arange(bins // 2 + 1) * rate / bins, np.abs(one) ** 2).sum()
    decibels = 10 * np.log10(np.array(spectra) / power_of_a_sine @ mel_filters(highest).numpy() + 1e-10)
    expected = ((decibels + 100) * 2.55).clip(0, 255).T[::-1]
    assert np.abs(image - expected).max() < 1.0 and image.std() > 5


def test_chirps_rise_and_fall():
    random = np.random.default_rng(0)
    for kind, sign in (("rising", 1), ("falling", -1), ("tone", 0)):
        image = log_mel(Recording(sound(kind, random), 8000), 0.5, 4000.0)[:, 6:-6]
        track = BANDS - 1 - image.argmax(0)
        slope = np.polyfit(np.arange(len(track)), track, 1)[0]
        assert (slope > 0.1, slope < -0.1) == (sign > 0, sign < 0), kind


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 5.0, 60.0])
def test_longer_and_shorter_sounds_are_brought_to_one_size(seconds):
    for length in (0.01, seconds, 2 * seconds + 0.1):
        image = log_mel(Recording(tone(500, 8000, length), 8000), seconds, 4000.0)
        assert image.shape == (BANDS, frame_count(seconds)) and image.shape[1] % 8 == 0
        assert image[:, image.shape[1] // 2].max() > 100 or seconds > 20  # of an hour, a blink is not seen


def test_every_mel_band_has_frequencies():
    for highest in (500.0, 4000.0, 8000.0):
        filters = mel_filters(highest).numpy()
        assert filters.shape[1] == BANDS and (filters.max(0) > 0.3).all() and filters.min() >= 0


# ---- folders -------------------------------------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path):
    data = load_problem(str(fill(tmp_path / "sounds")))
    assert (data.name, data.kind, data.task) == ("sounds", "audio", "classification")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [56, 12, 12]
    assert data.preprocessor.classes == list(KINDS) and np.bincount(data.test.target).tolist() == [3] * 4
    images = data.train.inputs["image"]
    assert images.dtype == np.uint8 and images.shape[1:] == data.preprocessor.size == (1, 64, 56)
    spec = data.preprocessor.input_spec()
    assert spec.size == (1, 64, 56)
    np.testing.assert_allclose([spec.mean[0], spec.std[0]], [images.mean(), images.std()], rtol=1e-9)
    assert data.notes == [
        "sounds: 80 sounds, 4 classes (falling, noise, rising, tone); 0.5 seconds, the middle 0.5 as 64 mel bands up to 4,000 Hz by 56 frames",
        "split: 70/15/15 by class",
    ]
    np.testing.assert_array_equal(data.raw_example("test", 2), data.test.inputs["image"][2, 0])
    assert preprocessor_from_json(json.loads(json.dumps(data.preprocessor.to_json()))) == data.preprocessor
    again = load_problem(**json.loads(json.dumps(data.source)))
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.test.inputs["image"], data.test.inputs["image"])


def test_the_lowest_rate_decides_how_high_it_listens(tmp_path):
    fill(tmp_path / "sounds", 12, rate=44_100)
    assert load_problem(str(tmp_path / "sounds")).preprocessor.highest == 8000
    write(tmp_path / "sounds" / "tone" / "low.wav", tone(300, 6000), 6000)
    data = load_problem(str(tmp_path / "sounds"), seconds=0.25)
    assert (data.preprocessor.highest, data.preprocessor.seconds) == (3000, 0.25)


def test_a_new_sound_of_too_low_a_rate_is_refused(tmp_path):
    known = AudioPreprocessor(0.5, 4000.0, list(KINDS))
    path = write(tmp_path / "a.wav", tone(300, 6000), 6000)
    with pytest.raises(
        DataError, match=r"a\.wav: 6,000 samples a second; expected 8,000 at least, .* listens up to 4,000 Hz"
    ):
        known.read_sound(path, path)
    assert known.read_sound(write(path, tone(300, 8000), 8000), path).shape == known.size
    for raw in (
        np.zeros((2, 1, 64, 8), np.uint8),
        np.zeros((2, *known.size), np.float32),
        np.zeros(known.size, np.uint8),
    ):
        with pytest.raises(DataError, match=r"expected uint8 \(N, 1, 64, 56\)"):
            known.encode(raw)


def test_a_broken_file_is_named_and_too_many_are_refused(tmp_path):
    folder = fill(tmp_path / "sounds")
    (folder / "tone" / "bad.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    data = load_problem(str(folder))
    assert "file: left out, sounds that cannot be read: tone/bad.wav" in data.notes
    (folder / "tone" / "worse.wav").write_bytes(b"no")
    with pytest.raises(DataError, match="2 of 82 sounds cannot be read: tone/bad.wav, tone/worse.wav"):
        load_problem(str(folder))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0.01}, "^seconds: 0.01; expected 0.05 to 60"),
        ({"image_size": 8}, "--image-size: .* holds sounds, whose labels are known; expected a folder of pictures"),
        ({"target": "x"}, "--target x: .* holds sounds and no table"),
    ],
)
def test_options_that_sounds_do_not_take(tmp_path, options, words):
    with pytest.raises(OptionError, match=words):
        load_problem(str(fill(tmp_path / "sounds", 6)), **options)


def test_one_sound_is_no_data_set(tmp_path):
    path = write(tmp_path / "a.wav", tone(300))
    with pytest.raises(
        DataError, match=r"a\.wav: a sound; expected .*a folder of WAV files.* use pellucid predict RUN .*a\.wav"
    ):
        load_problem(str(path))
