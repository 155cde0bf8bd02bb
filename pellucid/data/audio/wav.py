"""WAV files as samples: PCM of 8, 16, 24 or 32 bits, mono or several channels mixed to one (floor 4).

Read with the standard library's `wave`. What a network makes of the samples is decided in `spectrogram.py`.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # samples a second that a file may claim
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # WAVE format tags
SUBFORMAT = 24  # bytes from the format tag of an extensible file to the tag of what is in it


@dataclass
class Recording:
    """samples: float64 (T,), from -1 up to 1. rate: samples a second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_wav(content: Path | bytes, name: object) -> Recording:
    """The recording in a file, or in its bytes. Raises DataError with the file's name, and what to do."""
    try:
        data = content if isinstance(content, bytes) else content.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; expected a WAV file; check the name") from None
    except OSError as error:
        raise DataError(
            f"{name}: cannot be read ({error.strerror or error}); expected a WAV file; check its permissions"
        ) from None
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(
            f"{name}: not a WAV file; expected one; convert the sound: ffmpeg -i SOUND {Path(str(name)).stem}.wav"
        )
    try:
        with wave.open(io.BytesIO(_plain_pcm(data, name)), "rb") as file:
            channels, width, rate, count = (
                file.getnchannels(),
                file.getsampwidth(),
                file.getframerate(),
                file.getnframes(),
            )
            frames = file.readframes(count)
    except (
        wave.Error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        ZeroDivisionError,
    ) as error:  # how `wave` reports damage
        raise DataError(f"{name}: cannot be decoded ({str(error) or 'its chunks are damaged'}); expected PCM samples of 8, 16, 24 or 32 bits; save it as "
                        "a 16-bit WAV file") from None  # fmt: skip
    if width not in (1, 2, 3, 4) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(f"{name}: {8 * width} bits, {rate:,} samples a second; expected 8, 16, 24 or 32 bits and {LOWEST_RATE:,} to "
                        f"{HIGHEST_RATE:,} samples a second; save it as a 16-bit WAV file")  # fmt: skip
    if len(frames) < count * channels * width:
        raise DataError(f"{name}: {len(frames):,} bytes of sound where its header promises {count * channels * width:,}; expected a whole "
                        "file; copy or save it again")  # fmt: skip
    if not frames:
        raise DataError(f"{name}: no samples in it; expected a sound; record it again, or remove the file")
    return Recording(_samples(frames, width).reshape(-1, channels).mean(1), rate)


def _samples(frames: bytes, width: int) -> np.ndarray:
    """Little-endian samples of `width` bytes as float64 from -1 up to 1; those of 8 bits are unsigned, as WAV has them."""
    if width == 1:
        return (np.frombuffer(frames, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        # Each sample becomes the upper three bytes of four, which keeps its sign.
        padded = np.zeros((len(frames) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(frames, f"<i{width}") / 2.0 ** (8 * width - 1)


def _plain_pcm(data: bytes, name: object) -> bytes:
    """The file with the format tag of plain PCM where it is PCM in the extensible form, which `wave` reads from Python 3.12 on.

    Raises DataError for floating-point samples, with what to do.
    """
    at = data.find(b"fmt ", 12) + 8
    tag = int.from_bytes(data[at : at + 2], "little") if at > 8 else PCM
    if tag == EXTENSIBLE and len(data) > at + SUBFORMAT + 2:
        tag = int.from_bytes(data[at + SUBFORMAT : at + SUBFORMAT + 2], "little")
        data = data[:at] + tag.to_bytes(2, "little") + data[at + 2 :]
    if tag == FLOAT:
        raise DataError(f"{name}: floating-point samples; expected PCM samples of 8, 16, 24 or 32 bits; convert it: ffmpeg -i SOUND "
                        "-c:a pcm_s16le OUT.wav")  # fmt: skip
    return data
