"""Version counters of the program's state: compiled steps compare them to see whether they may still be valid (floor 1)."""

from __future__ import annotations

import threading

# Raised by everything that may change what a network computes: an attribute set on a Module, an option of an Optimizer. A
# compiled step that finds both numbers as they were need not check anything else. The first counts changes. The second is the
# exclusive or of a token for each Module in training mode, so it returns when `eval()` is followed by `train()`.
state_version = [0, 0]
_structure_lock = threading.Lock()  # a lost change would leave old programs in use


def note_change() -> None:
    """Count a change that may alter what some network computes."""
    with _structure_lock:
        state_version[0] += 1


def note_switch(token: int) -> None:
    """Note that the Module of `token` has switched between training and evaluation."""
    with _structure_lock:
        state_version[1] ^= token
