"""A block after which a network must be what it was before, bit by bit."""

from contextlib import contextmanager

import numpy as np

from pellucid.random import get_rng_state


def _state(network):
    values = [*network.named_parameters(), *network.named_buffers()]
    return {
        "numbers": {name: value.detach().numpy().tobytes() for name, value in values},
        "dtypes": {name: str(value.dtype) for name, value in values},
        "trained": {name: value.requires_grad for name, value in values},
        "grads": {
            name: None if value.grad is None else value.grad.numpy().tobytes()
            for name, value in network.named_parameters()
        },
        "modes": [module.training for module in network.modules()],
        "hooks": [(len(m._pre_hooks), len(m._hooks), len(m._backward_hooks)) for m in network.modules()],
        "random": np.asarray(get_rng_state()).tobytes(),
        "numpy": repr(np.random.get_state()),
    }


@contextmanager
def untouched(network):
    """Weights, buffers, modes, hooks, gradients and random streams stay as they are, also where the block raises."""
    before = _state(network)
    try:
        yield
    finally:
        after = _state(network)
        for what, old in before.items():
            assert after[what] == old, f"{what} of {type(network).__name__} changed"
