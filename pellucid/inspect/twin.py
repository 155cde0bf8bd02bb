"""A network's twin: a copy in float64 that may be written, so that small differences are seen and the original is not touched (floor 6)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import PellucidError
from ..nn import Module
from .question import Question
from .undisturbed import undisturbed

CLOSE = 1e-3  # of an answer: how far the twin's may be from the network's


def twin(question: Question) -> Question:
    """`question` put to a copy of its network in float64 and eval mode, all of whose Parameters require gradients.

    Where there can be none, as for a `forward` that is neither the network nor a method of it, it is `question` itself.
    """
    network = question.network
    try:
        other = copy.deepcopy(network).double().eval()
    except (PellucidError, TypeError):
        return question
    forward = _of_twin(question.forward, network, other)
    losses = _of_twin(question.losses, network, other)
    if forward is None:
        return question
    other.zero_grad()
    other.requires_grad_(True)
    inputs = tuple(value.double() if value.dtype.kind == "f" else value for value in question.inputs)
    target = question.target
    if target is not None and target.dtype.kind == "f":
        target = target.double()
    found = dataclasses.replace(
        question, network=other, inputs=inputs, target=target, forward=forward, losses=losses or question.losses
    )
    return found if _agrees(question, found) else question


def _of_twin(function: Callable[..., Any], network: Module, other: Module) -> Callable[..., Any] | None:
    """What `function` is of the twin; None where it is neither the network nor a method of it."""
    if function is network:
        return other
    if getattr(function, "__self__", None) is network:
        return getattr(other, function.__name__)  # type: ignore[no-any-return]
    return None


def _agrees(question: Question, other: Question) -> bool:
    try:
        with undisturbed(question.network), undisturbed(other.network):
            ours, theirs = question.output().numpy(), other.output().numpy()
    except PellucidError:
        return False
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE)
