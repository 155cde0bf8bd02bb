"""Log-mel spectrograms, computed with the library's own operations (floor 4).

    samples (T,) -> frames, cut by time (K, L) -> short-time Fourier transform: a product with a windowed Fourier matrix
    (K, 2F) -> power (K, F) -> mel filter bank (K, M) -> decibels -> bytes (M, K), the highest band first

The Fourier matrix is made for each sample rate, with frames of the same duration and the same frequencies in hertz. So
recordings of different rates are compared without resampling, as long as their rate carries the highest frequency.
T samples, K frames, L samples in a frame, F frequencies, M mel bands.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ...creation import tensor
from ...grad_mode import no_grad
from ...tensor import Tensor
from .wav import Recording

BANDS = 64
HOP = 0.010  # seconds from one frame to the next, at least
FRAMES = 128  # at most: of longer sounds, frames lie further apart
STEP = 8  # frames are a multiple of it: halving them three times leaves no remainder
WINDOW = 2.5  # the duration of a frame in hops
QUIETEST = -100.0  # decibels below a sine of full scale; byte 0
BYTES_A_DECIBEL = 2.55


def frame_count(seconds: float) -> int:
    """Frames in a spectrogram of so many seconds."""
    return min(FRAMES, max(STEP, math.ceil(seconds / HOP / STEP) * STEP))


def log_mel(recording: Recording, seconds: float, highest: float) -> np.ndarray:
    """uint8 (M, K): the middle `seconds` of a recording, a shorter one with silence around it, up to `highest` hertz.

    255 is the loudness of a sine of full scale, 0 is 100 decibels below. Needs a rate of at least 2 * highest.
    """
    positions, fourier = fourier_matrix(recording.rate, seconds, highest)
    with no_grad():
        frames = tensor(_framed(recording, seconds, positions.shape[1]))[positions]  # (K, L)
        parts = frames @ fourier  # (K, 2F)
        power = (parts * parts).reshape(len(positions), 2, -1).sum(1)  # (K, F)
        mel = power @ mel_filters(highest)  # (K, M)
        decibels = (mel + 10 ** (QUIETEST / 10)).log() * (10 / math.log(10))
        levels = ((decibels - QUIETEST) * BYTES_A_DECIBEL).clamp(0, 255)
    return np.ascontiguousarray(np.rint(levels.numpy()).astype(np.uint8).T[::-1])  # (M, K)


def _framed(recording: Recording, seconds: float, length: int) -> np.ndarray:
    """The middle of the samples, brought to `seconds`, with the silence of half a frame on either side."""
    wanted = round(seconds * recording.rate)
    surplus = len(recording.samples) - wanted
    middle = recording.samples[max(surplus // 2, 0) :][:wanted]
    before = max(-surplus // 2, 0)
    padded = np.zeros(wanted + 2 * length)
    padded[length + before : length + before + len(middle)] = middle
    return padded


@lru_cache(maxsize=8)
def fourier_matrix(rate: int, seconds: float, highest: float) -> tuple[Tensor, Tensor]:
    """Positions int64 (K, L) of each frame's samples, as `_framed` pads them, and the windowed Fourier matrix (L, 2F).

    Frames lie evenly in `seconds`, each centred in its share. The matrix has the cosines, then the sines, of each
    frequency, times Hann's window; over all frequencies the power of a sine of full scale adds up to 1.
    """
    count = frame_count(seconds)
    hop = seconds / count * rate  # in samples
    length = max(round(WINDOW * max(hop, HOP * rate)), 2)
    starts = np.rint((np.arange(count) + 0.5) * hop - length / 2).astype(np.int64) + length
    positions = starts[:, None] + np.arange(length)
    window = np.hanning(length + 2)[1:-1]
    at = frequencies(highest)
    angles = 2 * np.pi / rate * np.arange(length)[:, None] * at  # (L, F)
    bandwidth = rate * (window**2).sum() / window.sum() ** 2  # in hertz, the equivalent noise bandwidth of the window
    gain = 2 / window.sum() * math.sqrt((at[1] - at[0]) / bandwidth)
    matrix = np.concatenate([np.cos(angles), np.sin(angles)], 1) * window[:, None] * gain
    return tensor(positions), tensor(matrix)


def frequencies(highest: float) -> np.ndarray:
    """The frequencies (F,) in hertz at which spectra are taken: two at least in each mel band."""
    lowest_band = float(hertz(mels(highest) / (BANDS + 1)))
    return np.arange(0.0, highest, lowest_band / 1.5)


@lru_cache(maxsize=8)
def mel_filters(highest: float) -> Tensor:
    """(F, M): triangles that overlap by half, evenly spaced in mels, from 0 to `highest` hertz."""
    edges = hertz(np.linspace(0, mels(highest), BANDS + 2))  # (M + 2,)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    f = frequencies(highest)[:, None]
    return tensor(np.maximum(0, np.minimum((f - low) / (peak - low), (high - f) / (high - peak))))


def mels(frequency: float) -> float:
    """The mel scale of O'Shaughnessy (1987)."""
    return 2595 * math.log10(1 + frequency / 700)


def hertz(mel: np.ndarray | float) -> np.ndarray:
    """The frequency of a place on the mel scale."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
