"""When a loss or weight becomes NaN or infinite: which layer did it, and at which step (floor 6).

The step is replayed from the state before it, and the tape is walked forward, from the oldest operation on, to the first
whose output is not finite. Where the whole forward pass is finite, the first gradient that is not is named instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import NonFiniteError
from ..op import Node
from ..tape import reachable
from ..tensor import Tensor
from .learner import Batch, Learner, Step


def explain(learner: Learner, step: Step, batch: Batch) -> NonFiniteError:
    """The error to raise, for a learner put back to the state before the bad step."""
    at = learner.progress
    where = f"step {at.step + 1} (epoch {at.epoch + 1})"
    *inputs, target = batch
    before = learner.snapshot()
    named_inputs = zip(learner.network.order, inputs, strict=True)
    bad_input = next((name for name, x in named_inputs if x.dtype.kind == "f" and not np.isfinite(x.array).all()), None)
    if bad_input:
        return _error(where, f"the inputs {bad_input!r} of the batch hold NaN or infinity", "clean the data")
    loss = learner.network.loss(learner.network(*inputs), target)
    what = _bad_layer(loss) or _bad_gradient(learner, loss)
    for p in learner.parameters:
        p.grad = None
    learner.put_back(before)
    return _error(where, what, f"train with a lower --lr (it was {learner.settings.lr:g})")


def explain_validation(learner: Learner, batch: Batch) -> NonFiniteError:
    """The error for weights that are finite, but give a validation loss that is not."""
    at = learner.progress
    *inputs, target = batch
    what = _bad_layer(learner.network.loss(learner.network(*inputs), target)) or "the loss became infinite"
    fix = f"train with a lower --lr (it was {learner.settings.lr:g})"
    return _error(f"step {at.step} (validation of epoch {at.epoch + 1})", what, fix)


def _bad_layer(loss: Tensor) -> str | None:
    node = first_bad_node(loss)
    return None if node is None else f"{node.origin.path or 'the loss'} gave NaN or infinity (operation {node.op.name})"


def _error(where: str, what: str, fix: str) -> NonFiniteError:
    return NonFiniteError(f"{where}: {what}; expected finite numbers; the last good weights are kept; {fix}")


def first_bad_node(loss: Tensor) -> Node | None:
    """The oldest operation behind `loss` whose output is not finite, so far as the tape holds numbers to tell."""
    if loss.node is None:
        return None
    for node in reversed(reachable([loss.node])):
        output = _output(node)
        if output is not None and not np.isfinite(output).all():
            return node
    return None if np.isfinite(loss.array).all() else loss.node


def _output(node: Node) -> Any:
    """A node's numbers: kept on the tape, or computed again from the inputs it kept."""
    if node.array is not None:
        return node.array
    if node.op.reads_inputs and node.op.name != "bits":
        return node.op.forward(*[value.array for value in node.inputs], **node.attributes)
    return None


def _bad_gradient(learner: Learner, loss: Tensor) -> str:
    for p in learner.parameters:
        p.grad = None
    loss.backward()
    named = [(name, p) for name, p in learner.network.named_parameters() if p.grad is not None]
    for name, p in reversed(named):  # gradients flow from the last layer to the first
        if not np.isfinite(p.grad.array).all():
            return f"the gradient of {name} became NaN or infinite"
    return f"the update made {named[-1][0].rpartition('.')[0]} NaN or infinite" if named else "the update overflowed"
