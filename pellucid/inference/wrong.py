"""Which examples a run's network answers wrongly (floor 8)."""

from __future__ import annotations

import numpy as np

from ..data.problem import Examples
from ..errors import OptionError
from ..inspect.undisturbed import undisturbed
from ..models.heads.language import LanguageModel
from ..tensor import Tensor
from .asked import Asked, RunExamples

BATCH = 512


def wrong_answers(examples: RunExamples, most: int, part: str = "test") -> list[Asked]:
    """The first `most` examples of a part whose class the network gets wrong, or of lines of text the token asked about.

    Raises OptionError where answers are no classes, for running text, and where none is wrong.
    """
    if examples.classes is None:
        raise OptionError(
            f"--wrong {most}: {examples.run.name} answers with numbers, of which none is plainly wrong; expected classes; "
            "write --example N"
        )
    split = examples.data.examples(part)
    rows = _one_by_one(examples, split, most, part) if isinstance(examples.network, LanguageModel) else _in_batches(examples, split, most)  # fmt: skip
    if not rows:
        raise OptionError(
            f"--wrong {most}: all {len(split):,} answers of the {part} part are right; expected a wrong one; write --example N"
        )
    return [examples.ask(row, part) for row in rows]


def _in_batches(examples: RunExamples, split: Examples, most: int) -> list[int]:
    network, found = examples.network, list[int]()
    with undisturbed(network):
        for start in range(0, len(split), BATCH):
            rows = slice(start, start + BATCH)
            said = network.answer(*(Tensor(np.asarray(split.inputs[name][rows])) for name in network.input_names))
            if said.ndim != 2 or np.ndim(split.target) != 1:
                raise OptionError(
                    f"--wrong {most}: {examples.run.name} gives several labels at once; expected one class an example; "
                    "write --example N"
                )
            wrong = examples.named(said.numpy()) != np.asarray(split.target[rows])
            found += (np.flatnonzero(wrong) + start + 1).tolist()
            if len(found) >= most:
                break
    return found[:most]


def _one_by_one(examples: RunExamples, split: Examples, most: int, part: str) -> list[int]:
    found = list[int]()
    for row in range(1, len(split) + 1):
        asked = examples.ask(row, part)
        if asked.answer()[0] != asked.right:
            found.append(row)
        if len(found) >= most:
            break
    return found
