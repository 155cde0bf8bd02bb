"""Counters that tell whether anything changed that may change what a network computes (floor 1)."""

from __future__ import annotations

import threading

# Bumped by whatever may change what a network computes: an attribute set on a Module, an option of an Optimizer. Who
# remembers the two numbers, as a compiled step does, knows when to look again. The first counts changes. The second
# is the exclusive or of a token for each Module in training mode, so it returns when `eval()` is followed by `train()`.
state_version = [0, 0]
_structure_lock = threading.Lock()  # a change that another thread's overwrites would leave old programs in use


def note_change() -> None:
    """Something was set that may change what some network computes."""
    with _structure_lock:
        state_version[0] += 1


def note_switch(token: int) -> None:
    """A Module, of that token, has gone from training to evaluation or back."""
    with _structure_lock:
        state_version[1] ^= token
