"""Which parts of its input made an answer: the attribution of a run's example (floor 8)."""

from __future__ import annotations

import dataclasses

from ..errors import OptionError, suggestion
from ..inspect.attribute import attribute
from ..inspect.attribution import Attribution
from ..models.heads.generation import ImageGenerator
from .asked import Asked, RunExamples
from .baselines import baseline_of


def attribution_of(
    examples: RunExamples,
    asked: Asked,
    method: str = "integrated_gradients",
    target: int | str | None = None,
    baseline: str | None = None,
    with_examples: bool = False,
) -> Attribution:
    """How much each part of the example counts for its answer.

    target: the answer that is explained, by name or index; by default what the network says.
    baseline: "mean", "zero" or a file with one example; by default no ink, the training mean, or no token.
    with_examples: whether the result as JSON may show the example. Raises OptionError and DataError.
    """
    start = baseline_of(examples, asked, baseline)
    explained = asked.answer()[0] if target is None and asked.named is not None else _target(asked, target)
    found = attribute(asked.question, explained, method, start, columns=asked.columns)
    raw = asked.raw
    return dataclasses.replace(
        found,
        target_name=_target_name(asked, found.target),
        labels=tuple(map(str, raw)) if isinstance(raw, list) else (),
        cells={name: str(raw[name]) for name in _of_rows(asked) if name in raw} if isinstance(raw, dict) else {},
        shows_example=with_examples,
    )


def _target(asked: Asked, wanted: int | str | None) -> int | None:
    """The index of an answer. A name goes before a number."""
    if wanted is None or isinstance(wanted, int):
        return wanted
    names = [str(name) for name in asked.classes or ()]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdigit():
        return int(wanted)
    some = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
    raise OptionError(
        f"--answer {wanted}: no answer of this network; expected one of {some or '0'}.{suggestion(wanted, names)}"
    )


def _of_rows(asked: Asked) -> list[str]:
    """The columns of a table; those of a series have a value at each step."""
    return [name for name, parts in asked.columns.items() if all(axis == 1 for _, axis, _ in parts)]


def _target_name(asked: Asked, index: int) -> str:
    if isinstance(asked.question.network, ImageGenerator):
        return asked.question.network.answer_name
    name = asked.class_name(index)
    return repr(name) if isinstance(asked.raw, list) else name
