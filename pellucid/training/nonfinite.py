"""When a loss or weight becomes NaN or infinite: which step did it, and which layer (floor 6).

Looking at all weights after each step would cost more than a compiled step itself. So steps run in stretches of some
50 ms, and nobody sees the end of one before its weights are known to be finite. Where they are not, the state from before
it is put back and the same steps run again, same bits, with a look at the weights after each: the first bad one is the
one. It is then replayed eagerly, and the tape is walked forward, from the oldest operation on, to the first whose output
is not finite. Where the whole forward pass is finite, the first gradient that is not is named instead.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..core.op import Node
from ..core.tape import reachable
from ..errors import NonFiniteError
from ..nn import Parameter
from ..nn.module import seen_from
from ..tensor import Tensor
from .learner import Batch, Learner, OptimizerPhase, Snapshot

STRETCH = 0.05  # seconds
# Where the look at its end, which copies all state, takes long, a stretch is made SHARE times as long as that, but not
# longer than LONGEST times what was asked for: Ctrl-C is heard only at its end.
SHARE, LONGEST = 20, 40


def stretches(learner: Learner, picks: Iterable[np.ndarray], seconds: float = STRETCH) -> Iterator[None]:
    """A step on each of `picks`, the numbers of its examples; a yield after each stretch, when all is known to be finite.

    seconds: about how long a stretch is; 0 makes each step one. Raises NonFiniteError, with the state from before the bad
    step put back.
    """
    before, since = learner.snapshot(), list[np.ndarray]()
    due = time.perf_counter() + seconds
    for picked in picks:
        since.append(picked)
        values = learner.run(picked)
        if not math.isfinite(values["loss"]):
            raise _first_bad(learner, before, since)
        learner.count(values, len(picked))
        began = time.perf_counter()
        if began < due:
            continue
        _look(learner, before, since)
        before, since = learner.snapshot(), []
        cost = time.perf_counter() - began
        yield
        due = time.perf_counter() + max(seconds, min(SHARE * cost, LONGEST * seconds))
    if since:
        _look(learner, before, since)
        yield


def _look(learner: Learner, before: Snapshot, since: list[np.ndarray]) -> None:
    if not learner.is_finite():
        raise _first_bad(learner, before, since)


def _first_bad(learner: Learner, before: Snapshot, since: list[np.ndarray]) -> NonFiniteError:
    """The error to raise when the steps on `since`, taken from `before`, ended in a loss or weight that is not finite."""
    learner.put_back(before)
    for picked in since:
        kept = learner.snapshot()
        values = learner.run(picked)
        if not (math.isfinite(values["loss"]) and learner.is_finite()):
            learner.put_back(kept)
            return explain(learner, learner.loader.batch(picked))
        learner.count(values, len(picked))
    raise AssertionError("a loss or weight that was not finite became so when the same steps ran again")


def explain(learner: Learner, batch: Batch) -> NonFiniteError:
    """The error to raise, for a learner put back to the state before the bad step."""
    at = learner.progress
    where = f"step {at.step + 1} (epoch {at.epoch + 1})"
    before = learner.snapshot()
    named_inputs = zip(learner.network.input_names, batch[:-1], strict=True)
    bad_input = next((name for name, x in named_inputs if x.dtype.kind == "f" and not np.isfinite(x.array).all()), None)
    if bad_input:
        return _error(where, f"the inputs {bad_input!r} of the batch hold NaN or infinity", "clean the data")
    with seen_from(learner.network), learner.drawing():
        what = next(
            (found for move in learner.moves if (found := _bad_move(learner, move, batch))), "the loss overflowed"
        )
    for p in learner.parameters:
        p.grad = None
    learner.put_back(before)
    return _error(where, what, f"train with a lower --lr (it was {learner.settings.lr:g})")


def explain_validation(learner: Learner, batch: Batch) -> NonFiniteError:
    """The error for weights that are finite, but give a validation loss that is not."""
    at, network = learner.progress, learner.judged
    with seen_from(network), learner.drawing():
        what = _bad_layer(network.evaluation_step(*batch)["loss"]) or "the loss became infinite"
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


def _bad_move(learner: Learner, move: OptimizerPhase, batch: Batch) -> str | None:
    """What became NaN or infinite in one turn, forward, backward or by its update; None where nothing did."""
    kept = learner.snapshot()
    loss = move.turn.training_step(*batch)["loss"]
    what = _bad_layer(loss) or _bad_gradient(learner, move, loss)
    if what:
        return what
    learner.put_back(kept)  # the same masks once more
    learner.take(move, batch)
    broken = next((name for name, p in _named(learner, move) if not np.isfinite(p.array).all()), None)
    return f"the update made {broken.rpartition('.')[0] or broken} NaN or infinite" if broken else None


def _named(learner: Learner, move: OptimizerPhase) -> list[tuple[str, Parameter]]:
    """The parameters of a turn by their paths in the network."""
    own = {id(p) for p in move.parameters}
    return [(name, p) for name, p in learner.network.named_parameters() if id(p) in own]


def _bad_gradient(learner: Learner, move: OptimizerPhase, loss: Tensor) -> str | None:
    """The last layer whose gradient, sent back from `loss`, is not finite."""
    for p in move.parameters:
        p.grad = None
    loss.backward(inputs=move.parameters)
    for name, p in reversed(_named(learner, move)):  # gradients flow from the last layer to the first
        if p.grad is not None and not np.isfinite(p.grad.array).all():
            return f"the gradient of {name} became NaN or infinite"
    return None
