"""Non-finite losses and weights: find the step and the layer where NaN or infinity arose (floor 10).

Checking all weights after each step would cost more than a compiled step itself. So steps run in chunks of some 50 ms, and
a chunk is reported only once its weights are known to be finite. Where they are not, the state from before the chunk is
restored and the same steps run again, same bits, with a check after each; the first that fails is the one. It is replayed
eagerly, and the tape is walked forward, from the oldest operation on, to the first whose output is not finite. Where the
whole forward pass is finite, the first gradient that is not is named instead.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..core.op import Node
from ..core.tape import reachable
from ..errors import NonFiniteError, PellucidError
from ..nn import Parameter
from ..nn.module import path_relative_to
from ..tensor import Tensor
from .learner import Batch, Learner
from .optimizers import OptimizerPhase
from .state import Snapshot

REPORT_EVERY = 0.05  # seconds
# The check at the end of a chunk copies all state. Where it takes long, a chunk is made SHARE times as long as the check,
# but at most LONGEST times what was asked for: Ctrl-C is heard only at its end.
SHARE, LONGEST = 20, 40
MOST_GROWTH = 8.0  # times the steps of the last chunk, at most


@dataclass
class Pace:
    """How long a chunk is: about `seconds`, 0 for one step; `steps` is what the next one gets."""

    seconds: float
    steps: int = 1

    def note(self, steps: int, ran: float, checked: float) -> None:
        """A chunk of so many steps ran, and was checked, in so many seconds."""
        aim = max(self.seconds, min(SHARE * checked, LONGEST * self.seconds))
        self.steps = max(1, int(steps * min(MOST_GROWTH, aim / max(ran, 1e-9))))


def guarded_chunks(learner: Learner, picks: Iterable[np.ndarray], pace: Pace) -> Iterator[None]:
    """Run a step on each of `picks`, the numbers of its examples; yield after each chunk, once all is known to be finite.

    Raises NonFiniteError, with the state from before the bad step restored.
    """
    picks = iter(picks)
    before = learner.state.snapshot()
    while chunk := list(itertools.islice(picks, pace.steps)):
        began = time.perf_counter()
        try:
            is_good = _run_chunk(learner, chunk)
        except PellucidError:  # perhaps of numbers that were not finite any more
            is_good = False
        ran = time.perf_counter()
        if not (is_good and learner.is_finite()):
            raise _first_bad(learner, before, chunk)
        before = learner.state.snapshot()
        pace.note(len(chunk), ran - began, time.perf_counter() - ran)
        yield


def _run_chunk(learner: Learner, chunk: list[np.ndarray]) -> bool:
    """Run a step on each entry of `chunk` and count it; whether all losses were finite, which is known at the end."""
    finite = True
    for size, picks in itertools.groupby(chunk, len):
        values = learner.run_steps(np.stack(list(picks)))
        finite &= bool(np.isfinite(values["loss"]).all())
        names, columns = list(values), [array.tolist() for array in values.values()]
        for row in zip(*columns, strict=True):
            learner.state.progress.add(dict(zip(names, row, strict=True)), size)
    return finite


def _first_bad(learner: Learner, before: Snapshot, chunk: list[np.ndarray]) -> NonFiniteError:
    """The error to raise when the steps of `chunk`, from `before` on, ended in a loss or weight that is not finite.

    A step that raised an error of its own, with numbers that were finite, raises it here again.
    """
    learner.state.restore(before)
    for picked in chunk:
        snapshot = learner.state.snapshot()
        if not (_run_chunk(learner, [picked]) and learner.is_finite()):
            learner.state.restore(snapshot)
            return explain(learner, learner.loader.batch(picked))
    raise AssertionError("a loss or weight that was not finite became so when the same steps ran again")


def explain(learner: Learner, batch: Batch) -> NonFiniteError:
    """The error to raise, for a learner restored to the state before the bad step."""
    at = learner.state.progress
    where = f"step {at.step + 1} (epoch {at.epoch + 1})"
    before = learner.state.snapshot()
    named_inputs = zip(learner.network.input_names, batch, strict=False)  # folds, targets and weights follow
    bad_input = next((name for name, x in named_inputs if x.dtype.kind == "f" and not np.isfinite(x.array).all()), None)
    if bad_input:
        return _error(where, f"the inputs {bad_input!r} of the batch hold NaN or infinity", "clean the data")
    with path_relative_to(learner.network), learner.state.drawing():
        what = next(
            (what for phase in learner.phases if (what := _bad_phase(learner, phase, batch))), "the loss overflowed"
        )
    for p in learner.parameters:
        p.grad = None
    learner.state.restore(before)
    return _error(where, what, f"train with a lower --lr (it was {learner.settings.lr:g})")


def explain_validation(learner: Learner, batch: Batch) -> NonFiniteError:
    """The error for weights that are finite, but give a validation loss that is not."""
    at, network = learner.state.progress, learner.eval_network
    with path_relative_to(network), learner.state.drawing():
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


def _output(node: Node) -> np.ndarray | None:
    """A node's numbers: kept on the tape, or computed again from the inputs it kept."""
    if node.array is not None:
        return node.array
    if node.op.saves_inputs and node.op.name != "random_bits":
        again: np.ndarray = node.op.forward(*[value.array for value in node.inputs], **node.attributes)
        return again
    return None


def _bad_phase(learner: Learner, phase: OptimizerPhase, batch: Batch) -> str | None:
    """What became NaN or infinite in one phase, forward, backward or by its update; None where nothing did."""
    snapshot = learner.state.snapshot()
    loss = phase.phase.training_step(*batch)["loss"]
    what = _bad_layer(loss) or _bad_gradient(learner, phase, loss)
    if what:
        return what
    learner.state.restore(snapshot)  # the same masks once more
    learner.run_phase(phase, batch)
    broken = next((name for name, p in _named(learner, phase) if not np.isfinite(p.array).all()), None)
    return f"the update made {broken.rpartition('.')[0] or broken} NaN or infinite" if broken else None


def _named(learner: Learner, phase: OptimizerPhase) -> list[tuple[str, Parameter]]:
    """The parameters of a phase by their paths in the network."""
    own = {id(p) for p in phase.parameters}
    return [(name, p) for name, p in learner.network.named_parameters() if id(p) in own]


def _bad_gradient(learner: Learner, phase: OptimizerPhase, loss: Tensor) -> str | None:
    """The last layer whose gradient, sent back from `loss`, is not finite."""
    for p in phase.parameters:
        p.grad = None
    loss.backward(inputs=phase.parameters)
    for name, p in reversed(_named(learner, phase)):  # gradients flow from the last layer to the first
        if p.grad is not None and not np.isfinite(p.grad.array).all():
            return f"the gradient of {name} became NaN or infinite"
    return None
