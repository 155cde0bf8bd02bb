"""Handlers: what each instruction of a user's frame reads, and what it does to the shadow stack (floor 4).

A handler pops what the interpreter will pop, tells the Reader, and pushes what the interpreter will push, or UNKNOWN. There
is one for each kind of instruction. An unknown instruction, for example of a later Python, is refused.
"""

from __future__ import annotations

import dis
import operator
import sys
import types
from collections.abc import Callable
from typing import Any

from ...core.value import Symbol, Value
from .calls import Calls
from .closures import Cells
from .followed import is_engine
from .foreign import UNKNOWN
from .instructions import effect
from .locations import MISSING, cell_content, in_class
from .reader import Bound, Reader, Super

Stack = list[Any]  # the values of the user's frame, any of which may be UNKNOWN


class FrameReads:
    """What the handlers of one frame know besides its stack.

    cells: behind its free variables. arguments, names: of the next call, and of its keyword arguments.
    """

    def __init__(self, reader: Reader, code: types.CodeType, cells: Cells) -> None:
        self.reader, self.calls = reader, Calls(reader)
        self.code, self.cells = code, cells
        self.arguments: list[Any] = []
        self.names: tuple[str, ...] = ()


Handler = Callable[[FrameReads, Stack, dis.Instruction, types.FrameType], None]
HANDLERS: dict[str, Handler] = {}


def on(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for these instructions, by their names in Python 3.11 to 3.14."""

    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


def unknown_instruction(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    """An unknown instruction: what it reads is not known, so that the step is refused."""
    raise NotImplementedError(f"the instruction {i.opname} of Python {sys.version.split()[0]}")


@on("UNARY_NEGATIVE", "UNARY_POSITIVE", "UNARY_INVERT", "DELETE_NAME", "IMPORT_STAR", "PRINT_EXPR", "CALL_INTRINSIC_2",
    "CHECK_EG_MATCH", "CHECK_EXC_MATCH", "POP_EXCEPT", "PUSH_EXC_INFO", "PREP_RERAISE_STAR", "RAISE_VARARGS", "RERAISE",
    "WITH_EXCEPT_START", "LOAD_SPECIAL", "CLEANUP_THROW", "EXIT_INIT_CHECK", "INTERPRETER_EXIT", "ENTER_EXECUTOR",
    "BEFORE_ASYNC_WITH", "GET_AITER", "GET_ANEXT", "END_ASYNC_FOR", "GET_AWAITABLE", "ASYNC_GEN_WRAP",
    "BUILD_INTERPOLATION", "BUILD_TEMPLATE", "POP_BLOCK")  # fmt: skip
def opaque(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    """An instruction that only reads its operands: all of them are read, and its result is UNKNOWN."""
    after = max(len(stack) + effect(i, jump=False), 0)
    keep = max(min(after, len(stack)) - 1, 0)
    for x in stack[keep:]:
        s.reader.consume(x)
    stack[keep:] = [UNKNOWN] * (after - keep)


def popped(stack: Stack, count: int) -> list[Any]:
    """Pop the last `count` values."""
    taken = stack[len(stack) - count :] if count else []
    del stack[len(stack) - count :]
    return taken


@on("RESUME", "NOP", "CACHE", "JUMP_FORWARD", "JUMP_BACKWARD", "MAKE_CELL", "COPY_FREE_VARS", "JUMP_BACKWARD_NO_INTERRUPT",
    "DELETE_FAST", "EXTENDED_ARG", "SETUP_ANNOTATIONS", "NOT_TAKEN", "LIST_TO_TUPLE", "END_FOR", "RESERVED", "JUMP", "JUMP_NO_INTERRUPT")  # fmt: skip
def nothing(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None: ...


@on("RETURN_GENERATOR", "PUSH_NULL", "LOAD_ASSERTION_ERROR", "LOAD_BUILD_CLASS", "LOAD_COMMON_CONSTANT", "LOAD_LOCALS",
    "LOAD_FAST_AND_CLEAR", "FOR_ITER", "LOAD_CLOSURE")  # fmt: skip
def push(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.append(UNKNOWN)


@on("POP_TOP", "STORE_FAST", "STORE_NAME", "STORE_FAST_MAYBE_NULL", "POP_ITER", "RETURN_VALUE",
    "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_NONE",
    "POP_JUMP_BACKWARD_IF_NOT_NONE", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE")  # fmt: skip
def drop(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.pop()


@on("STORE_FAST_STORE_FAST")
def drop_two(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    del stack[-2:]


@on("YIELD_VALUE", "SEND")
def in_its_place(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack[-1] = UNKNOWN


@on("END_SEND")
def end_send(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    del stack[-2]


@on("LIST_APPEND", "SET_ADD")
def append(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    x, made = stack.pop(), stack[-1 - (i.arg or 0)]
    if isinstance(made, list):
        made.append(x)


@on("MAP_ADD")
def add_to_map(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-(i.arg or 0)] = [key, value, stack[-(i.arg or 0)]]  # what is in it, for whoever reads all of it


@on("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE")
def extend(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    x, at = stack.pop(), -(i.arg or 0)
    s.reader.iterate(x)
    made = stack[at]
    if isinstance(made, list) and isinstance(x, list | tuple):
        made.extend(x)
    elif isinstance(made, dict) and isinstance(x, dict):
        made.update(x)
    else:
        stack[at] = UNKNOWN


@on("COPY")
def copy(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.append(stack[-(i.arg or 0)])


@on("SWAP")
def swap(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    other = -(i.arg or 0)
    stack[-1], stack[other] = stack[other], stack[-1]


@on("LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST")
def constant(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.append(i.argval)


# ---- names


@on("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW",
    "STORE_FAST_LOAD_FAST")  # fmt: skip
def load_fast(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    names = i.argval if isinstance(i.argval, tuple) else (i.argval,)
    if i.opname == "STORE_FAST_LOAD_FAST":
        value = stack.pop()
        stored, loaded = names
        stack.append(value if stored == loaded else frame.f_locals.get(loaded, UNKNOWN))
        return
    local, cells = frame.f_locals, (*s.code.co_cellvars, *s.code.co_freevars)
    stack.extend(
        [UNKNOWN if name in cells and name not in s.code.co_varnames else local.get(name, UNKNOWN) for name in names]
    )


@on("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
def load_deref(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "LOAD_FROM_DICT_OR_DEREF":
        stack.pop()
    stack.append(_variable(s, i.argval, frame))


def _variable(s: FrameReads, name: str, frame: types.FrameType) -> Any:
    """The value of a cell variable."""
    cells = s.cells.get(name)
    if not cells:
        value = frame.f_locals.get(name, UNKNOWN)
        is_lost = cells is None and name in s.code.co_freevars  # the closure was not found
        return s.reader.objects.note(value) if is_lost and value is not UNKNOWN else value
    value = UNKNOWN
    for cell in cells:
        value = cell_content(cell)
        if value is not MISSING and not (isinstance(value, type) and name == "__class__"):
            s.reader.log.guard("cell", cell, name, value)
    return UNKNOWN if value is MISSING else value


@on("STORE_DEREF", "DELETE_DEREF")
def store_deref(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "STORE_DEREF":
        stack.pop()
    for cell in s.cells.get(i.argval, ()):
        s.reader.wrote("cell", cell, i.argval)


@on("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
def load_global(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    name, space = i.argval, frame.f_globals
    with_null = i.opname == "LOAD_GLOBAL" and bool((i.arg or 0) & 1)
    if i.opname == "LOAD_FROM_DICT_OR_GLOBALS":
        stack.pop()
    if i.opname != "LOAD_GLOBAL" and name in frame.f_locals and frame.f_locals is not space:
        value = frame.f_locals[name]
    elif name in space:
        value = space[name]
        if is_engine(s.code.co_filename):
            s.reader.objects.note(value)
        else:
            s.reader.log.guard("item", space, name, value)
    else:
        value = frame.f_builtins.get(name, UNKNOWN)
        s.reader.log.not_global(space, name)
    pair = [value, UNKNOWN] if _NULL_ON_TOP else [UNKNOWN, value]
    stack.extend(pair if with_null else [value])


_NULL_ON_TOP = "CALL_KW" in dis.opmap  # from Python 3.13 on


@on("STORE_GLOBAL", "DELETE_GLOBAL")
def store_global(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "STORE_GLOBAL":
        stack.pop()
    s.reader.wrote("item", frame.f_globals, i.argval)


@on("IMPORT_NAME")
def import_name(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    names, level = stack.pop(), stack.pop()
    stack.append(s.reader.imported(i.argval, names, level, frame.f_globals))


@on("IMPORT_FROM")
def import_from(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.append(s.reader.attribute(stack[-1], i.argval))


# ---- attributes and items


@on("LOAD_ATTR", "LOAD_METHOD")
def load_attribute(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    owner = stack.pop()
    value = s.reader.attribute(owner, i.argval)
    is_method = i.opname == "LOAD_METHOD" or bool((i.arg or 0) & 1 and _METHOD_BIT)
    if is_method and value is UNKNOWN and s.reader.expected is None and isinstance(owner, Value | Symbol | str):
        value = Bound(i.argval, owner)
    stack.extend([value, UNKNOWN] if is_method else [value])


_METHOD_BIT = (
    "LOAD_METHOD" not in dis.opmap or dis.opmap["LOAD_METHOD"] > 255
)  # LOAD_ATTR tells of methods by its lowest bit


@on("LOAD_SUPER_ATTR")
def load_super(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    _, kind, owner = popped(stack, 3)
    known = isinstance(kind, type) and owner is not UNKNOWN
    value = s.reader.attribute(Super(kind, owner), i.argval) if known else s.reader.attribute(UNKNOWN, i.argval)
    stack.extend([value, UNKNOWN] if (i.arg or 0) & 1 else [value])


@on("STORE_ATTR")
def store_attribute(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    owner, _ = stack.pop(), stack.pop()
    s.reader.store_attribute(owner, i.argval)


@on("DELETE_ATTR")
def delete_attribute(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.reader.store_attribute(stack.pop(), i.argval)


@on("BINARY_SUBSCR", "BINARY_SLICE")
def subscript(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    key = _slice(stack) if i.opname == "BINARY_SLICE" else stack.pop()
    owner = stack.pop()
    sequence = isinstance(key, slice) and isinstance(owner, list)
    if sequence:
        s.reader.consume(owner)
    stack.append(UNKNOWN if sequence else s.reader.item(owner, key))


def _slice(stack: Stack) -> Any:
    start, stop = popped(stack, 2)
    return UNKNOWN if start is UNKNOWN or stop is UNKNOWN else slice(start, stop)


@on("BUILD_SLICE")
def build_slice(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    parts = popped(stack, i.arg or 0)
    stack.append(UNKNOWN if any(p is UNKNOWN for p in parts) else slice(*parts))


@on("STORE_SUBSCR", "STORE_SLICE")
def store_item(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    key = _slice(stack) if i.opname == "STORE_SLICE" else stack.pop()
    owner, _ = stack.pop(), stack.pop()
    s.reader.store_item(owner, key)


@on("DELETE_SUBSCR")
def delete_item(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    key, owner = stack.pop(), stack.pop()
    s.reader.store_item(owner, key)


# ---- calls


@on("KW_NAMES")
def keywords(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.names = s.code.co_consts[i.arg or 0]


@on("PRECALL")
def precall(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.arguments = popped(stack, i.arg or 0)


@on("CALL", "CALL_KW")
def call(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "CALL_KW":
        s.names = stack.pop()
    if "PRECALL" not in dis.opmap:
        s.arguments = popped(stack, i.arg or 0)
    second, first = stack.pop(), stack.pop()
    function = (
        first if first is not UNKNOWN else second
    )  # a method and its object; or a function and NULL, either way round
    args, names, s.arguments, s.names = s.arguments, s.names, [], ()
    stack.append(_result(s, function, args, names, frame))


def _result(s: FrameReads, function: object, args: list[Any], names: object, frame: types.FrameType) -> Any:
    if function is super:
        return _super(s, args, frame)
    if function is globals:
        return s.reader.objects.note(frame.f_globals)
    return s.calls.call(function, args, names if isinstance(names, tuple) else ())


def _super(s: FrameReads, args: list[Any], frame: types.FrameType) -> Any:
    local = frame.f_locals
    first = s.code.co_varnames[0] if s.code.co_argcount else ""
    start, owner = args if len(args) == 2 else (local.get("__class__", UNKNOWN), local.get(first, UNKNOWN))
    return Super(start, owner) if isinstance(start, type) and owner is not UNKNOWN else UNKNOWN


@on("CALL_FUNCTION_EX")
def call_with(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    always = "CALL_KW" in dis.opmap and "LOAD_SMALL_INT" in dis.opmap  # of 3.14: NULL where there is none
    more = stack.pop() if always or (i.arg or 0) & 1 else {}
    args, second, first = stack.pop(), stack.pop(), stack.pop()
    for x in (args, more):
        s.reader.iterate(x)
    given = [*(args if isinstance(args, tuple | list) else ()), *(more.values() if isinstance(more, dict) else ())]
    function = first if first is not UNKNOWN else second
    stack.append(_result(s, function, given, (), frame))


@on("CALL_INTRINSIC_1")
def intrinsic(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.reader.consume(stack.pop())
    stack.append(UNKNOWN)


@on("GET_ITER")
def get_iter(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.reader.iterate(stack.pop())
    stack.append(UNKNOWN)


@on("GET_YIELD_FROM_ITER")
def yield_from(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    get_iter(s, stack, i, frame)


@on("BEFORE_WITH")
def before_with(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    manager = stack.pop()
    enter = in_class(type(manager), "__enter__")
    stack.extend([UNKNOWN, s.reader.comes_from(enter) if manager is not UNKNOWN else UNKNOWN])


@on("UNPACK_SEQUENCE", "UNPACK_EX")
def unpack(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    x = stack.pop()
    s.reader.iterate(x)
    count = i.arg or 0
    if i.opname == "UNPACK_SEQUENCE":
        known = isinstance(x, tuple | list) and len(x) == count
        stack.extend(reversed(x) if known else [UNKNOWN] * count)
    else:
        stack.extend([UNKNOWN] * (1 + (count & 0xFF) + (count >> 8)))


# ---- arithmetic, comparisons, conditions

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "%": operator.mod, "//": operator.floordiv,
              "/": operator.truediv}  # fmt: skip


@on("BINARY_OP")
def binary(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.argrepr.startswith("["):  # of 3.14: a[b]
        subscript(s, stack, i, frame)
        return
    b, a = stack.pop(), stack.pop()
    if i.argrepr.endswith("="):
        s.reader.wrote_content(a, i.argrepr)
    s.reader.operand(a, b)
    stack.append(_computed(i.argrepr.rstrip("="), a, b))


def _computed(sign: str, a: object, b: object) -> Any:
    """The result of an operation on plain numbers and strings, which make keys and names."""
    function = _OPERATORS.get(sign)
    if function is None or not (type(a) in (int, float, str) and type(b) in (int, float, str)):
        return UNKNOWN
    if isinstance(a, str) and sign != "+":
        return UNKNOWN
    try:
        return function(a, b)
    except Exception:  # the step meets it as well
        return UNKNOWN


@on("COMPARE_OP", "IS_OP")
def compare(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    b, a = stack.pop(), stack.pop()
    if i.opname == "COMPARE_OP":
        s.reader.operand(a, b)
    stack.append(UNKNOWN)


@on("CONTAINS_OP")
def contains(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    container, x = stack.pop(), stack.pop()
    s.reader.contains(x, container)
    stack.append(UNKNOWN)


@on("POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_TRUE",
    "POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE", "UNARY_NOT", "TO_BOOL", "JUMP_IF_FALSE_OR_POP",
    "JUMP_IF_TRUE_OR_POP")  # fmt: skip
def condition(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    x = stack.pop()
    s.reader.truth(x)
    if i.opname in ("UNARY_NOT", "TO_BOOL"):
        stack.append(UNKNOWN)
    elif i.opname.endswith("OR_POP"):
        stack.append(x)


@on("MATCH_MAPPING", "MATCH_SEQUENCE", "GET_LEN")
def match(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    s.reader.consume(stack[-1])
    stack.append(UNKNOWN)


@on("MATCH_KEYS", "MATCH_CLASS")
def match_parts(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "MATCH_KEYS":
        s.reader.consume(stack[-2])
        stack.append(UNKNOWN)
        return
    subject, kind, names = popped(stack, 3)
    s.reader.matched(subject, kind, names)
    stack.append(UNKNOWN)


# ---- what is made


@on("FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE")
def format_value(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    has_spec = i.opname == "FORMAT_WITH_SPEC" or (i.opname == "FORMAT_VALUE" and (i.arg or 0) & 4)
    if has_spec:
        stack.pop()
    x = stack.pop()
    plain = type(x) in (int, str, float, bool) and (
        i.opname == "FORMAT_SIMPLE" or (i.opname == "FORMAT_VALUE" and not i.arg)
    )
    s.reader.shown(x)
    stack.append(format(x) if plain else UNKNOWN)


@on("BUILD_STRING")
def build_string(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    parts = popped(stack, i.arg or 0)
    stack.append("".join(parts) if all(isinstance(p, str) for p in parts) else UNKNOWN)


@on("BUILD_TUPLE")
def build_tuple(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    stack.append(tuple(popped(stack, i.arg or 0)))


@on("BUILD_LIST", "BUILD_SET")
def build_list(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    """The items, for readers of all of them. A list stands for a set too."""
    stack.append(popped(stack, i.arg or 0))


@on("BUILD_MAP", "BUILD_CONST_KEY_MAP")
def build_map(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    if i.opname == "BUILD_MAP":
        parts = popped(stack, 2 * (i.arg or 0))
        keys, values = parts[::2], parts[1::2]
    else:
        keys, values = stack.pop(), popped(stack, i.arg or 0)
    plain = all(isinstance(key, str | int | float | bytes | bool) for key in keys)
    stack.append(dict(zip(keys, values, strict=True)) if plain else [*keys, *values])


@on("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE")
def make_function(s: FrameReads, stack: Stack, i: dis.Instruction, frame: types.FrameType) -> None:
    popped(stack, 1 - effect(i))
    stack.append(UNKNOWN)
