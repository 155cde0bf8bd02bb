"""Guards: keep a compiled step true to the Python state that it reads (floor 4).

    monitor.py       follows the user's frames while a step is traced
    followed.py      which code is followed
    shadow_stack.py  a copy of the value stack of each frame, as far as it is known
    handlers.py      what each instruction does to it, and reads
    instructions.py  the bytecode of a code object, and the depth of its stack before each instruction
    closures.py      the cells behind the free variables of a frame
    reader.py        what an instruction reads and writes of Python objects from before the step
    calls.py         the same for calls
    foreign.py       what is from before the step
    access_log.py    what was read of it, and what was written
    impure.py        what is refused: random numbers, time, files, iterators
    locations.py     a location of Python state (attribute, item, cell, content): read, compare, write back
    guard.py         conditions under which a program may be used again, compiled to one function

`StateMonitor` is a context around the traced function. Afterwards `guards` lists what the step has read, `changes` what it
has written and not restored, and `undo` restores it.
"""

from .access_log import Change
from .guard import Guard, check_seconds, checker, failing, most_costly
from .monitor import StateMonitor

__all__ = ["Change", "Guard", "StateMonitor", "check_seconds", "checker", "failing", "most_costly"]
