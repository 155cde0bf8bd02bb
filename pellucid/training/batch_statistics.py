"""Running statistics of batch norm, computed anew before a network is judged where epochs are short (floor 10).

Running means lag some twenty steps behind the weights. Where an epoch has few steps, what is judged is another network than
what has learned. Here they are the mean over training batches with the weights as they are (Wu and Johnson 2021, arXiv
2105.07576), in validation and in what is saved; training goes on with its own.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import numpy as np

from .. import nn
from ..creation import tensor
from ..data.loader import DataLoader
from ..evaluation.compiled import CompiledFunction
from ..grad_mode import no_grad
from ..models.base import Model
from ..models.heads.prediction import PredictionModel

SHORT = 50  # steps of an epoch below which statistics are computed anew
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
MOST_EXAMPLES = 2000  # of training that they are computed from


class BatchStatistics:
    """The running statistics of a network's batch norms. It has none where epochs are long, or the network none.

    frozen: layers whose statistics stay as they are. Tensors are those of the network; a copy of it, in evaluation mode but for its batch norms, moves them.
    """

    def __init__(self, network: Model, loader: DataLoader, eager: bool, frozen: Sequence[nn.Module] = ()) -> None:
        kept = {id(m) for layer in frozen for m in layer.modules()}
        norms = {name: m for name, m in network.named_modules() if isinstance(m, NORMS) and id(m) not in kept}
        judged = isinstance(network, PredictionModel) and len(loader) < SHORT
        self.buffers = [buffer for m in norms.values() for buffer in m.buffers()] if judged else []
        self.loader = loader
        if not self.buffers:
            return
        shared = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        moving = copy.deepcopy(network, shared).eval()
        for name, m in moving.named_modules():
            if name in norms:
                m.train()
                m.momentum = None  # the plain mean over batches
        self.forward = CompiledFunction(moving, eager)
        self.inputs = len(network.input_names)

    @contextlib.contextmanager
    def recomputed(self) -> Iterator[None]:
        """Inside, the running statistics are those of the weights as they are; afterwards those of training again."""
        if not self.buffers:
            yield
            return
        before = [buffer.array.copy() for buffer in self.buffers]
        try:
            self._recompute()
            for buffer, array in zip(self.buffers, before, strict=True):
                if buffer.dtype.kind == "i":  # how many batches training has seen
                    buffer.assign(tensor(array))
            yield
        finally:
            for buffer, array in zip(self.buffers, before, strict=True):
                buffer.assign(tensor(array))

    def _recompute(self) -> None:
        for buffer in self.buffers:
            buffer.assign(tensor(np.zeros(buffer.shape, buffer.dtype)))
        count = len(self.loader.dataset)
        rows = np.linspace(0, count - 1, min(count, MOST_EXAMPLES)).astype(np.int64)
        size = min(self.loader.batch_size, len(rows))
        with no_grad():
            for k in range(len(rows) // size):  # batches of one size, so that one program serves
                self.forward(*self.loader.batch(rows[k * size : (k + 1) * size])[: self.inputs])
