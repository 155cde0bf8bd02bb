"""Guards: how a compiled step stays true to Python's state (floor 4).

    watch.py     while a step is recorded, follows the user's frames, and theirs alone
    followed.py  whose frames these are
    shadow.py    beside each frame a copy of its value stack, as far as it is known
    instructions.py  a code object's instructions, and how deep its stack is before each
    reader.py    what an instruction reads and writes of Python objects that were there before the step
    calls.py     the same of a call
    state.py     the books: what is foreign, what was read, what was written
    chance.py    what is refused: random numbers, time, files, iterators
    places.py    one place of Python's state (an attribute, an item, a cell, a content): read, compare, write back
    guard.py     what has to be as it was for a program to be used again, as one function

`Watch` is used as a context around the function that is recorded. Afterwards `changes` tells what the step has written and
not put back, `guards` what it has read, and `undo` puts back what was written.
"""

from .guard import Guard, checker, costly, failing, seconds
from .state import Change
from .watch import Watch

__all__ = ["Change", "Guard", "Watch", "checker", "costly", "failing", "seconds"]
