"""Shadow stack: a copy of the value stack of a user's frame, as far as its values are known (floor 4).

Before each instruction its handler does to it what the interpreter will do to the real one. The depth of the stack before
each instruction follows from the code, and is corrected before each handler.
"""

from __future__ import annotations

import types

from ...core.value import Symbol, Value
from .closures import Cells, cells_behind
from .foreign import UNKNOWN, ForeignObjects, is_module
from .handlers import HANDLERS, FrameReads, Stack, unknown_instruction
from .instructions import decoded
from .reader import Reader


class ShadowStack:
    """The shadow stack of one frame.

    expected: the code object whose return value is pushed next, if it runs. raised: whether an exception has come since.
    offset, event: of the instruction, and of what the interpreter has told last: it, or its prefix.
    """

    def __init__(self, reader: Reader, frame: types.FrameType, around: dict[types.CodeType, Cells]) -> None:
        code = frame.f_code
        self.reader, self.decoded = reader, decoded(code)
        self.stack: Stack = []
        self.expected: types.CodeType | None = None
        self.offset = self.event = -1
        self.raised = False
        cells = cells_behind(frame, reader, around)
        self.reads = FrameReads(reader, code, cells)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                around[constant] = cells
        _look_at_self(frame, reader.objects)

    def step(self, frame: types.FrameType) -> None:
        """The interpreter is about to run the instruction at `frame.f_lasti`."""
        offset = frame.f_lasti
        instruction = self.decoded.at.get(offset)
        before, self.event = self.event, offset
        if instruction is None or (self.offset == instruction.offset and before < offset):
            return  # done already, at its prefix
        self.offset, stack = instruction.offset, self.stack
        depth = self.decoded.depth.get(instruction.offset, len(stack))
        if self.raised:
            stack[:], self.raised = [UNKNOWN] * depth, False
        elif len(stack) > depth:  # the end of a loop
            del stack[depth:]
        elif len(stack) < depth:
            stack.extend([UNKNOWN] * (depth - len(stack)))
        self.reader.expected = self.reader.calling = None
        handler = HANDLERS.get(instruction.opname, unknown_instruction)
        try:
            handler(self.reads, stack, instruction, frame)
        except IndexError:
            stack.clear()  # put right before the next instruction
        self.expected = self.reader.expected

    def returned(self, code: types.CodeType, value: object) -> None:
        """A function that this frame, or one of its instructions, has called returns `value`."""
        if self.expected is code and self.stack:
            self.stack[-1], self.expected = value, None

    def clear(self) -> None:
        """Drop all values at the end of the frame."""
        self.stack.clear()
        self.reads.arguments.clear()


def _look_at_self(frame: types.FrameType, objects: ForeignObjects) -> None:
    """Note the owner of a method that the library has called. An object that is being made belongs to the step."""
    code = frame.f_code
    if not code.co_argcount:
        return
    owner = frame.f_locals.get(code.co_varnames[0])
    if owner is None or isinstance(owner, Value | Symbol):
        return
    if code.co_name in ("__init__", "__new__") and id(owner) not in objects.foreign:
        objects.own[id(owner)] = owner
    elif is_module(owner):
        objects.is_foreign(owner)
