"""The preprocessor of sounds: log-mel spectrograms as grey images, which the network standardises (floor 4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...errors import DataError
from ...files import Json
from ..image.decode import moments
from ..input_spec import ImageSpec
from ..problem import Inputs, Preprocessor, plain_fields
from .spectrogram import BANDS, frame_count, log_mel
from .wav import read_wav


@dataclass
class AudioPreprocessor(Preprocessor[np.ndarray]):
    """Sounds of one duration. seconds: theirs. highest: the highest frequency in hertz. mean, std: of the training bytes."""

    kind: ClassVar[str] = "audio"

    seconds: float
    highest: float
    classes: list[str] = field(default_factory=list)  # names, in the order of the label indices
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [255.0])
    task: str = "classification"
    target_name: str | None = None

    @classmethod
    def fit(cls, seconds: float, highest: float, classes: list[str], counts: np.ndarray) -> AudioPreprocessor:
        """counts: how often the training spectrograms have each value, int64 (1, 256)."""
        mean, std = moments(counts[0])
        return cls(seconds, highest, classes, [mean], [std])

    @property
    def size(self) -> tuple[int, int, int]:
        """1, mel bands, frames."""
        return 1, BANDS, frame_count(self.seconds)

    def input_spec(self) -> ImageSpec:
        """Of size (1, M, K): a spectrogram is read as an image is."""
        return ImageSpec(self.size, tuple(self.mean), tuple(self.std))

    def encode(self, raw: np.ndarray) -> Inputs:
        """uint8 spectrograms (N, 1, M, K) as {"image": the same}. Raises DataError for another shape or dtype."""
        spectrograms = np.asarray(raw)
        if spectrograms.ndim != 4 or spectrograms.shape[1:] != self.size or spectrograms.dtype != np.uint8:
            raise DataError(f"sounds: {spectrograms.dtype} of shape {spectrograms.shape}; expected uint8 (N, {', '.join(map(str, self.size))}), "
                            "as in training; a WAV file is made into that by read_sound")  # fmt: skip
        return {"image": spectrograms}

    def read_sound(self, content: Path | bytes, name: object) -> np.ndarray:
        """The sound in a WAV file (or its bytes) as a spectrogram uint8 (1, M, K). Raises DataError."""
        recording = read_wav(content, name)
        if recording.rate < 2 * self.highest:
            raise DataError(f"{name}: {recording.rate:,} samples a second; expected {2 * self.highest:,.0f} at least, since the network listens "
                            f"up to {self.highest:,.0f} Hz; record it at a higher rate, or train with sounds of this rate")  # fmt: skip
        return log_mel(recording, self.seconds, self.highest)[None]

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> AudioPreprocessor:
        return cls(**plain_fields(json))
