"""Made-up sounds and WAV files for tests."""

from __future__ import annotations

import wave

import numpy as np

KINDS = ("falling", "noise", "rising", "tone")


def sound(kind, random, rate=8000, seconds=0.5):
    """A tone, a chirp up or down, or noise, with a little noise everywhere: float64 (T,)."""
    t = np.arange(round(rate * seconds)) / rate
    loud, hiss = random.uniform(0.2, 0.8), 0.02 * random.standard_normal(len(t))
    if kind == "noise":
        return 0.3 * loud * random.standard_normal(len(t)) + hiss
    start, sweep = random.uniform(800, 1800), {"tone": 0, "rising": 1600, "falling": -1600}[kind]
    return loud * np.sin(2 * np.pi * (start * t + sweep / seconds * t**2 / 2)) + hiss


def write(path, samples, rate=8000, width=2, channels=1):
    """Samples (T,), or (T, channels), as a PCM file; those of one channel are written to all of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.asarray(samples, np.float64)
    if samples.ndim == 1:
        samples = samples[:, None].repeat(channels, 1)
    whole = np.rint(samples.clip(-1, 1) * (2.0 ** (8 * width - 1) - 1)).astype(np.int64).ravel()
    if width == 1:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def fill(folder, each=20, kinds=KINDS, seed=0, **form):
    """`each` sounds of every kind, a folder for each."""
    random = np.random.default_rng(seed)
    for kind in kinds:
        for i in range(each):
            write(folder / kind / f"{i:02}.wav", sound(kind, random, form.get("rate", 8000)), **form)
    return folder
