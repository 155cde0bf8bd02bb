"""Bytecode: the instructions of a code object, and the depth of the value stack before each (floor 4)."""

from __future__ import annotations

import dis
import functools
import itertools
import types

_LEAVES = {
    "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "INTERPRETER_EXIT",
    "JUMP_BACKWARD_NO_INTERRUPT",
}  # fmt: skip


class Decoded:
    """The instructions of a code object by offset, and the depth of the stack before each."""

    def __init__(self, code: types.CodeType) -> None:
        instructions = list(dis.get_instructions(code))
        self.at = {i.offset: i for i in instructions}
        self.follows = {a.offset: b.offset for a, b in itertools.pairwise(instructions)}
        for i in reversed(instructions):  # a prefix stands for the instruction after it
            if i.opname == "EXTENDED_ARG" and i.offset in self.follows:
                self.at[i.offset] = self.at[self.follows[i.offset]]
        self.depth: dict[int, int] = {}
        self._walk(instructions[0].offset, 0)
        for entry in getattr(dis, "_parse_exception_table", lambda code: [])(code):
            self._walk(entry.target, entry.depth + (2 if entry.lasti else 1))

    def _walk(self, offset: int, depth: int) -> None:
        waiting = [(offset, depth)]
        while waiting:
            at: int | None
            at, depth = waiting.pop()
            while at is not None and at not in self.depth:
                self.depth[at] = depth
                i = self.at[at]
                if i.offset != at:  # a prefix
                    at = self.follows[at]
                    continue
                if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
                    waiting.append((i.argval, depth + effect(i, jump=True)))
                if i.opname in _LEAVES:
                    break
                depth += effect(i, jump=False) + (i.opname == "RETURN_GENERATOR" and effect(i, jump=False) < 1)
                at = self.follows.get(at)


def effect(i: dis.Instruction, jump: bool | None = None) -> int:
    """By how much an instruction changes the depth of the stack."""
    return dis.stack_effect(i.opcode, i.arg if i.opcode >= dis.HAVE_ARGUMENT else None, jump=jump)


@functools.lru_cache(maxsize=4096)
def decoded(code: types.CodeType) -> Decoded:
    return Decoded(code)
