"""From what the attribution of a run's answer counts: no ink, the mean of the training part, or an example of one's own (floor 8)."""

from __future__ import annotations

import numpy as np

from ..data.input_spec import ImageSpec, SeriesSpec, TableSpec
from ..errors import DataError, OptionError
from ..inspect.baselines import Baseline, mean_baseline
from ..inspect.entries import Entries, entries
from ..tensor import Tensor
from .asked import Asked, RunExamples

ROWS = 1000  # of the training part, whose mean is taken
PICTURES = 200  # of it, to tell ink from paper
PAPER = 0.4  # a mean less far from black or white than this share of the way says what the paper is
KEPT = "class"  # an input that is asked about, and so is part of the baseline too
EMPTY = "text_weights"  # an input of which zeros are an empty text


def baseline_of(examples: RunExamples, asked: Asked, wanted: str | None = None) -> Baseline:
    """The baseline `wanted`: "mean", "zero", or a file with one example; None for that which suits the data.

    It is no ink for pictures, the training mean for tables and series (of categories what is looked up, on average; no text),
    and no word for text. Raises OptionError or DataError where it cannot be made.
    """
    found = entries(asked.question)
    spec = examples.preprocessor.input_spec()
    if wanted not in (None, "mean", "zero"):
        return _example(examples, found, str(wanted))
    if wanted is None and isinstance(spec, ImageSpec):
        return _kept(_no_ink(examples, found, spec), found)
    if wanted == "mean" or (wanted is None and isinstance(spec, TableSpec | SeriesSpec)):
        try:
            return _kept(_training_mean(examples, found), found)
        except DataError:
            if wanted == "mean":
                raise
            return Baseline(said="zero, the mean of scaled numbers, as the training part cannot be read")
    words = {True: "zeros, black", False: "zeros"}[isinstance(spec, ImageSpec)]
    return _kept(Baseline(said=words if _has_numbers(found) else "no token, a zero embedding in place of each"), found)


def _has_numbers(found: Entries) -> bool:
    return not all(entry.looked_up for entry in found.values())


def _no_ink(examples: RunExamples, found: Entries, spec: ImageSpec) -> Baseline:
    """Black or white, whichever is the paper. Photos have none: their baseline is the mean of all pixels of a channel."""
    try:
        pixels = _training_part(examples, PICTURES)[0].numpy().astype(np.float64)
        channels = pixels.mean((0, 2, 3)) if pixels.ndim == 4 else pixels.mean(keepdims=True).reshape(1)
    except DataError:  # the run knows no more than the mean by which it scales
        channels = np.asarray(spec.mean or [0.0], np.float64)
    share = float(channels.mean()) / spec.white
    name = next(name for name, entry in found.items() if entry.of == "image")
    value = found[name].value
    told = f"the mean of the training pixels is {100 * share:.0f}% of white"
    if share < PAPER:
        return Baseline({}, f"no ink: black, as {told}")
    if share > 1 - PAPER:
        return Baseline({name: Tensor(np.full_like(value.numpy(), spec.white))}, f"no ink: white, as {told}")
    shape = (1, -1, 1, 1) if value.ndim == 4 and len(channels) == value.shape[1] else (1,) * value.ndim
    filled = np.broadcast_to(channels.reshape(shape), value.shape).astype(np.float32)
    return Baseline({name: Tensor(filled)}, f"the mean colour, as {told}: neither black nor white is paper")


def _training_part(examples: RunExamples, most: int = ROWS) -> list[Tensor]:
    """The inputs of some training examples, (N, ...) each."""
    part = examples.part("train", most)
    return [Tensor(np.asarray(part.inputs[name][:])) for name in examples.network.input_names]


def _training_mean(examples: RunExamples, found: Entries) -> Baseline:
    """The mean of each entry over training examples; of a text no word."""
    question = found.question
    inputs = _training_part(examples)
    count = len(inputs[0])
    given = question.inputs[len(inputs) :]  # the class that is asked about, which no array of the data holds
    inputs += [value.expand(count, *value.shape[1:]) for value in given]
    numbers = dict(zip(question.names, inputs, strict=True))
    said = f"the mean of {count:,} training examples"
    found_mean = mean_baseline(found, list(numbers.values()), said)
    if EMPTY not in numbers:
        return found_mean
    values = {name: value for name, value in found_mean.values.items() if found[name].of != EMPTY}
    return Baseline(values, f"{said}, without any text")


def _kept(baseline: Baseline, found: Entries) -> Baseline:
    """`baseline` with the class as it is: the picture is explained, for this class."""
    own = {name: entry.value for name, entry in found.items() if entry.of == KEPT and entry.looked_up}
    return Baseline({**baseline.values, **own}, baseline.said)


def _example(examples: RunExamples, found: Entries, file: str) -> Baseline:
    """The first example of a file."""
    other = entries(examples.ask_new(file).question)
    values = {name: entry.value for name, entry in other.items()}
    for name, entry in found.items():
        if name not in values or values[name].shape != entry.value.shape:
            raise OptionError(
                f"--baseline {file}: its first example has another form than the one asked about; expected one of the same size; "
                "give a picture of the same size, a row with the same columns, or a text as long"
            )
    return _kept(Baseline(values, f"the first example of {file}"), found)
