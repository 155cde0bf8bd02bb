"""Sounds as a kind of data: WAV files, a folder for each class (floor 4).

Decided here: the one duration that sounds are brought to, and the highest frequency. Every choice is a note.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError, OptionError
from ..base import DataOption, Source
from ..file_kind import LABEL_OPTIONS, FileKind, data_module
from ..folders import ExampleFile, FileType
from ..image.image_set import ImageSet, read_images
from ..labelled_files import FileHeader, labelled_files, some
from ..problem import SPLITS, DataModule
from .preprocess import AudioPreprocessor
from .wav import read_wav

SOUNDS = FileType("sound", frozenset({".wav", ".wave"}))
LONGEST_DEFAULT = 5.0  # seconds, unless told otherwise
SHORTEST, LONGEST = 0.05, 60.0  # seconds
HIGHEST = 8000.0  # hertz, where all recordings carry it
USUAL = 0.9  # the share of training sounds that are heard whole


@dataclass
class AudioHeader(FileHeader):
    """rate: samples a second. seconds: the duration."""

    rate: int = 0
    seconds: float = 0.0


class AudioKind(FileKind[AudioPreprocessor]):
    """Labelled sounds, seen by the network as log-mel spectrograms."""

    name = "audio"
    title = "sounds, whose labels are known"
    container = "a folder of WAV files"
    folder_form = "a folder of WAV files for each class"
    type = SOUNDS
    noun = SOUNDS.noun
    endings = SOUNDS.endings
    formats = "WAV files"
    options = (
        *LABEL_OPTIONS,
        DataOption(
            "seconds",
            (int, float),
            "Seconds of each sound that are listened to (else as long as most; at most 5).",
            "X",
            heading="Reading",
        ),
    )
    default_family = "cnn"
    inputs = ("image",)
    preprocessor = AudioPreprocessor

    def load(self, source: Source) -> DataModule:
        seconds = source.options.get("seconds")
        if seconds is not None and not SHORTEST <= seconds <= LONGEST:
            raise OptionError(f"seconds: {seconds:g}; expected {SHORTEST:g} to {LONGEST:g}; write --seconds 1, say")
        files = labelled_files(source, SOUNDS, read_header)
        headers = [header for split in SPLITS for header in files.splits[split]]
        lengths = [header.seconds for header in files.splits["train"]]
        chosen = float(seconds) if seconds else _usual_length(lengths)
        highest = min(HIGHEST, min(header.rate for header in headers) / 2)
        unfitted = AudioPreprocessor(chosen, highest, files.classes)
        spectrograms = [self.decode(unfitted, [header.file for header in files.splits[split]]) for split in SPLITS]
        for one in spectrograms:
            files.broken += one.broken
        files.check_decoded([one.rows for one in spectrograms])
        preprocessor = AudioPreprocessor.fit(chosen, highest, files.classes, spectrograms[0].counts)
        count = sum(len(one.rows) for one in spectrograms)
        span = (
            f"{min(lengths):.2g} to {max(lengths):.2g} seconds"
            if max(lengths) > min(lengths)
            else f"{lengths[0]:.2g} seconds"
        )
        _, bands, frames = preprocessor.size
        summary = (
            f"{source.name}: {count:,} sounds, {len(files.classes)} classes ({some(files.classes)}); {span}, the middle {chosen:.3g} as "
            f"{bands} mel bands up to {highest:,.0f} Hz by {frames} frames"
        )
        return data_module(source, files, spectrograms, preprocessor, summary)

    def decode(self, preprocessor: AudioPreprocessor, files: Sequence[ExampleFile]) -> ImageSet:
        return read_images(files, preprocessor.size, read=lambda file: self.decode_one(preprocessor, file))

    def decode_one(self, preprocessor: AudioPreprocessor, file: ExampleFile) -> np.ndarray:
        return preprocessor.read_sound(file.content, file.name)


def read_header(file: ExampleFile) -> AudioHeader:
    """A broken file is read to its end already here: its header says little."""
    try:
        content = file.read()
    except OSError:
        return AudioHeader(file, b"")
    digest = hashlib.sha256(content).digest()
    try:
        recording = read_wav(content, file.name)
    except DataError:
        return AudioHeader(file, digest)
    return AudioHeader(file, digest, True, recording.rate, recording.seconds)


def _usual_length(lengths: Sequence[float]) -> float:
    """Seconds that most training sounds do not exceed, in whole hundredths."""
    usual = float(np.quantile(lengths, USUAL))
    return max(SHORTEST, min(LONGEST_DEFAULT, math.ceil(usual * 100 - 1e-6) / 100))
