"""`logit_lens(network, *inputs)`: what a network would answer after each of its blocks (floor 6).

The logit lens (nostalgebraist 2020): the stream between two blocks is put in place of the last block's output, and what follows, the final norm and the output
layer, reads it. So nothing of the network is written again, and after the last block the lens is the output itself.

Shapes: B batch, T positions, L blocks, V outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OptionError
from ..nn import Module, ModuleList, Sequential
from ..tensor import Tensor
from .attention import attention_maps
from .cache import first_tensor, patched, run_with_cache
from .control import shuffled_weights
from .result import Check, Result, Table
from .undisturbed import undisturbed

START = "before the first block"


@dataclass(frozen=True)
class LogitLens(Result):
    """blocks: names of L + 1 places, the first before all blocks.      kl: from the lens to the answer, nats, mean over positions.

    agreement: share of positions whose likeliest output is already the answer's.      shuffled: `kl` with shuffled weights.
    said: the likeliest output at the last position, by place.      exact: whether the last place gives the output bit by bit.
    """

    blocks: tuple[str, ...]
    kl: np.ndarray
    agreement: np.ndarray
    shuffled: np.ndarray
    said: np.ndarray = field(repr=False)
    exact: bool
    positions: int

    def headline(self) -> str:
        first = int(np.argmax(self.agreement >= 0.5))
        return f"After {self.blocks[first]} the likeliest output is the answer's at {self.agreement[first]:.0%} of {self.positions} positions."

    def tables(self) -> Sequence[Table]:
        head = ("after", "KL to the answer", "same likeliest output", "KL, shuffled weights")
        rows = [
            (name, *map(float, numbers))
            for name, *numbers in zip(self.blocks, self.kl, self.agreement, self.shuffled, strict=True)
        ]
        return [Table("What it would answer after each block", head, rows)]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        gap = f"before the last block KL {self.kl[-2]:.3g}"
        falls = bool(np.all(np.diff(self.kl) <= 0.01 + 0.01 * self.kl[:-1]))
        said = f"{'falls from block to block' if falls else 'does not fall at every block'}, from {self.kl[0]:.3g} nats"
        return [
            Check(
                "lens after the last block",
                "proven",
                f"{'equals' if self.exact else 'is not'} the output bit by bit",
                self.exact,
                gap,
            ),
            Check("KL", "suggestive", said, falls, f"shuffled weights from {self.shuffled[0]:.3g}"),
        ]

    def remarks(self) -> Sequence[str]:
        return (
            "A block may hold what the final norm and output layer cannot read: a large KL does not mean not knowing.",
        )


def logit_lens(
    network: Module, *inputs: Any, blocks: Sequence[str] | None = None, forward: Callable[..., Tensor] | None = None
) -> LogitLens:
    """The answer (B, ..., V) that would follow from the stream after each block, beside the answer itself.

    blocks: the paths of layers that follow one another and whose outputs have one shape; by default those of the ModuleList
    or Sequential that hold the attention. Raises OptionError where there are none.
    """
    paths = list(blocks) if blocks is not None else stream_blocks(network, *inputs)
    call = forward or network
    answers, output = _answers(network, call, inputs, paths)
    with shuffled_weights(network):
        control, _ = _answers(network, call, inputs, paths)
    final = answers[-1]
    return LogitLens(
        blocks=(START, *paths),
        kl=np.array([_kl(final, each) for each in answers]),
        agreement=np.array([float((each.argmax(-1) == final.argmax(-1)).mean()) for each in answers]),
        shuffled=np.array([_kl(control[-1], each) for each in control]),
        said=np.array([int(each.reshape(-1, each.shape[-1])[-1].argmax()) for each in answers]),
        exact=bool(np.array_equal(output, final)),
        positions=int(np.prod(final.shape[:-1])),
    )


def stream_blocks(network: Module, *inputs: Any) -> list[str]:
    """The paths of the blocks that hold the attention layers, one after the other. Raises OptionError where there are none."""
    modules = dict(network.named_modules())
    found: dict[str, None] = {}
    for path in attention_maps(network, *inputs):
        parts = path.split(" (")[0].split(".")
        for end in range(len(parts) - 1, 0, -1):  # the innermost list around the layer, which is a part of its item
            if isinstance(modules.get(".".join(parts[: end - 1])), ModuleList | Sequential) and end < len(parts):
                found[".".join(parts[:end])] = None
                break
    lists = {path.rpartition(".")[0] for path in found}
    if len(lists) != 1:
        raise OptionError(
            f"logit_lens: {type(network).__name__} has {len(lists)} stacks of blocks that attend; expected one nn.ModuleList or "
            "nn.Sequential of blocks; pass blocks="
        )
    return list(found)


def _answers(
    network: Module, call: Callable[..., Tensor], inputs: tuple[Any, ...], paths: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """The log-probabilities that follow from the stream before the first block and after each; the output as it is."""
    starts: list[Tensor] = []
    first = dict(network.named_modules())[paths[0]]

    def keep(_: Module, given: tuple[Any, ...]) -> None:
        value = first_tensor(list(given))
        if value is not None:
            starts.append(value.detach())

    hook = first.register_forward_pre_hook(keep)
    try:
        output, cache = run_with_cache(network, *inputs, layers=paths, forward=call)
    finally:
        hook.remove()
    streams = [starts[0], *(cache[path] for path in paths)]
    answers = []
    with undisturbed(network):
        for stream in streams:
            with patched(network, {paths[-1]: stream}):
                answers.append(call(*inputs).numpy())
    return answers, output.numpy()


def _kl(final: np.ndarray, lens: np.ndarray) -> float:
    """KL(answer || lens) in nats, mean over positions, of logits."""
    p, q = _log_softmax(final), _log_softmax(lens)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    x: np.ndarray = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    x = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return x
