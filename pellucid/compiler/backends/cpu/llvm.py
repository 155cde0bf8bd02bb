"""LLVM: a builder of vector code on top of llvmlite, and compilation to object code and callable addresses (floor 4).

A register holds a vector of `lanes` float32, integers or booleans. The loops are in `kernels/`; this file knows vectors and
memory, and nothing of networks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, overload

import llvmlite
import llvmlite.binding as binding
import numpy as np
from llvmlite import ir

from .costs import CACHE_LINE
from .target import Target, host

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

binding.initialize_native_target()
binding.initialize_native_asmprinter()

# A value of LLVM's IR, its type, and a function: what emitters take and give.
Value = ir.Value
Type = ir.Type
Function = ir.Function
# A whole number: one that is known now, or an i64.
Integer = int | Value
# The body of a loop: body(i, *carry) gives the next carry. One value stands for a list of one, None for an empty one.
LoopBody = Callable[..., Value | Sequence[Value] | None]

i1, i8, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
f32, f64 = ir.FloatType(), ir.DoubleType()
pointer = ir.PointerType()
void = ir.VoidType()

# Types in memory. A boolean takes a byte in memory and one bit in a register.
MEMORY = {"float32": f32, "float64": f64, "int64": i64, "int32": i32, "uint32": i32, "uint8": i8, "bool": i8}


def float32(number: float) -> float:
    """`number` rounded to float32. LLVM refuses a constant that is not exact."""
    try:
        rounded: float = struct.unpack("f", struct.pack("f", number))[0]
        return rounded
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def mangled(type: Type) -> str:
    """The suffix of an intrinsic's name for a type: `v16f32` for a vector, `i64` for a scalar."""
    if isinstance(type, ir.VectorType):
        return f"v{type.count}{mangled(type.element)}"
    if isinstance(type, ir.IntType):
        return f"i{type.width}"
    return "p0" if isinstance(type, ir.PointerType) else "f32" if isinstance(type, ir.FloatType) else "f64"


class Everywhere(ir.Constant):
    """A constant vector with the same number in every lane, as short text."""

    def __init__(self, scalar: ir.Constant, lanes: int) -> None:
        self.type, self.constant = ir.VectorType(scalar.type, lanes), scalar.constant
        self._text = f"splat ({scalar.type} {scalar.get_reference()})"

    def _get_reference(self) -> str:
        return self._text


class Registers(ir.IRBuilder):
    """llvmlite's builder with vectors of `target.lanes`.

    Scalars of an index computation are i64. A vector's element type follows from its dtype: see MEMORY, and i1 for bool.
    """

    def __init__(self, block: ir.Block, target: Target) -> None:
        super().__init__(block)
        self.target = target
        self.lanes = target.lanes

    # ---- types and constants ----

    def element(self, dtype: DTypeLike) -> Type:
        """The type of one number of `dtype` in a register."""
        return i1 if np.dtype(dtype) == np.bool_ else MEMORY[np.dtype(dtype).name]

    def vector(self, dtype: DTypeLike) -> ir.VectorType:
        return ir.VectorType(self.element(dtype), self.lanes)

    def index(self, number: int) -> Value:
        """An i64 constant."""
        return ir.Constant(i64, int(number))

    def constant(self, number: float, dtype: DTypeLike = np.float32) -> Value:
        """A vector with `number` in every lane."""
        dtype = np.dtype(dtype)
        value = float32(float(number)) if dtype == np.float32 else float(number) if dtype.kind == "f" else int(number)
        return self._everywhere(ir.Constant(self.element(dtype), value))

    def _everywhere(self, scalar: ir.Constant) -> Value:
        """A constant vector with a tenth of the text of one that names each lane."""
        return Everywhere(scalar, self.lanes)

    def bits(self, number: int) -> Value:
        """A vector of i32 with `number` in every lane."""
        return self._everywhere(i32(number))

    def lane_numbers(self, type: Type = i64) -> Value:
        """The vector 0, 1, 2, ..."""
        return ir.Constant(ir.VectorType(type, self.lanes), list(range(self.lanes)))

    # ---- calls ----

    def declare(self, name: str, result: Type, arguments: Sequence[Type]) -> Function:
        declared = self.module.globals.get(name)
        return declared if declared is not None else ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def intrinsic(
        self, name: str, *arguments: Value, result: Type | None = None, types: Sequence[Type] | None = None
    ) -> Value:
        """Call `llvm.<name>` in the variant for the first argument's type (or for `types`)."""
        suffix = "".join("." + mangled(t) for t in (types if types is not None else [arguments[0].type]))
        function = self.declare(f"llvm.{name}{suffix}", result or arguments[0].type, [a.type for a in arguments])
        return self.call(function, list(arguments))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, rounded once where the machine can."""
        return self.intrinsic("fma", a, b, c) if self.target.fma else self.fadd(self.fmul(a, b), c)

    # ---- lanes ----

    def splat(self, scalar: Value) -> Value:
        """The scalar in every lane."""
        kind = ir.VectorType(scalar.type, self.lanes)
        first = self.insert_element(ir.Constant(kind, ir.Undefined), scalar, i32(0))
        return self.shuffle_vector(
            first, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(i32, self.lanes), None)
        )

    def all_lanes(self) -> Value:
        return self._everywhere(i1(1))

    def first_lanes(self, count: Integer) -> Value:
        """The mask of the first `count` lanes (an i64 scalar, or an int)."""
        if isinstance(count, int):
            return ir.Constant(ir.VectorType(i1, self.lanes), [int(lane < count) for lane in range(self.lanes)])
        return self.icmp_signed("<", self.lane_numbers(i32), self.splat(self.trunc(count, i32)))

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        return self.shuffle_vector(a, b, ir.Constant(ir.VectorType(i32, len(lanes)), list(lanes)))

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """Transpose a square of `lanes` vectors in log2(lanes) rounds of swapped halves."""
        n, rows = self.lanes, list(rows)
        distance = n // 2
        while distance:
            low = [j if not j & distance else j - distance + n for j in range(n)]
            high = [j + distance if not j & distance else j + n for j in range(n)]
            for i in range(n):
                if not i & distance:
                    a, b = rows[i], rows[i + distance]
                    rows[i], rows[i + distance] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            distance //= 2
        return rows

    def fold_lanes(self, value: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Combine all lanes into a scalar in a fixed tree of halves, on every machine."""
        width = self.lanes
        while width > 1:
            width //= 2
            order = [(j + width) % self.lanes if j < width else j for j in range(self.lanes)]
            value = combine(value, self.shuffle(value, value, order))
        return self.extract_element(value, i32(0))


class Builder(Registers):
    """The same with memory, addresses in elements, and counted loops: what emitters write a kernel with."""

    # ---- memory ----

    def at(self, base: Value, offset: Integer, dtype: DTypeLike = np.float32) -> Value:
        """The address `offset` elements beyond `base`."""
        if isinstance(offset, int):
            if offset == 0:
                return base
            offset = self.index(offset)
        return self.gep(base, [offset], source_etype=MEMORY[np.dtype(dtype).name])

    def room(self, count: int, dtype: DTypeLike = np.float32) -> Value:
        """Allocate `count` elements on the stack, at the start of a cache line. Call it once, at the start of a function."""
        address = self.alloca(ir.ArrayType(MEMORY[np.dtype(dtype).name], count))
        address.align, address.type = CACHE_LINE, pointer  # llvmlite gives it the type of its elements
        return address

    def load_scalar(self, address: Value, dtype: DTypeLike = np.float32) -> Value:
        memory = MEMORY[np.dtype(dtype).name]
        value = self.load(address, typ=memory, align=np.dtype(dtype).itemsize)
        return self.icmp_unsigned("!=", value, memory(0)) if np.dtype(dtype) == np.bool_ else value

    def store_scalar(self, value: Value, address: Value, dtype: DTypeLike = np.float32) -> None:
        if np.dtype(dtype) == np.bool_:
            value = self.zext(value, i8)
        self.store(value, address, align=np.dtype(dtype).itemsize)

    def load_vector(self, address: Value, dtype: DTypeLike = np.float32, mask: Value | None = None) -> Value:
        """Load `lanes` adjacent elements. Lanes that `mask` leaves out are zero and not read."""
        dtype = np.dtype(dtype)
        memory = ir.VectorType(MEMORY[dtype.name], self.lanes)
        if mask is None:
            value = self.load(address, typ=memory, align=dtype.itemsize)
        else:
            value = self._masked("load", memory, memory, [address, i32(dtype.itemsize), mask, memory(None)])
        return self._into_register(value, dtype)

    def store_vector(
        self, value: Value, address: Value, dtype: DTypeLike = np.float32, mask: Value | None = None
    ) -> None:
        dtype = np.dtype(dtype)
        value = self._into_memory(value, dtype)
        if mask is None:
            self.store(value, address, align=dtype.itemsize)
        else:
            self._masked("store", value.type, void, [value, address, i32(dtype.itemsize), mask])

    def gather(self, base: Value, offsets: Value, dtype: DTypeLike = np.float32, mask: Value | None = None) -> Value:
        """base[offsets] for a vector of i64 offsets, in elements."""
        dtype = np.dtype(dtype)
        memory = ir.VectorType(MEMORY[dtype.name], self.lanes)
        addresses = self._addresses(base, offsets, dtype)
        arguments = [addresses, i32(dtype.itemsize), self.all_lanes() if mask is None else mask, memory(None)]
        name = f"llvm.masked.gather.{mangled(memory)}.v{self.lanes}p0"
        function = self.declare(name, memory, [a.type for a in arguments])
        return self._into_register(self.call(function, arguments), dtype)

    def scatter(
        self, value: Value, base: Value, offsets: Value, dtype: DTypeLike = np.float32, mask: Value | None = None
    ) -> None:
        """base[offsets] = value; of equal offsets the highest lane wins."""
        dtype = np.dtype(dtype)
        value = self._into_memory(value, dtype)
        arguments = [
            value, self._addresses(base, offsets, dtype), i32(dtype.itemsize), self.all_lanes() if mask is None else mask
        ]  # fmt: skip
        function = self.declare(f"llvm.masked.scatter.{mangled(value.type)}.v{self.lanes}p0", void,
                                [a.type for a in arguments])  # fmt: skip
        self.call(function, arguments)

    def _addresses(self, base: Value, offsets: Value, dtype: np.dtype) -> Value:
        assert isinstance(offsets.type, ir.VectorType)
        bytes_ = self.mul(offsets, self._everywhere(ir.Constant(offsets.type.element, dtype.itemsize)))
        start = self.splat(self.ptrtoint(base, i64))
        return self.inttoptr(self.add(start, bytes_), ir.VectorType(pointer, self.lanes))

    def _masked(self, what: str, kind: Type, result: Type, arguments: list[Value]) -> Value:
        function = self.declare(f"llvm.masked.{what}.{mangled(kind)}.p0", result, [a.type for a in arguments])
        return self.call(function, arguments)

    def _into_register(self, value: Value, dtype: np.dtype) -> Value:
        return self.icmp_unsigned("!=", value, ir.Constant(value.type, None)) if dtype == np.bool_ else value

    def _into_memory(self, value: Value, dtype: np.dtype) -> Value:
        return self.zext(value, ir.VectorType(i8, self.lanes)) if dtype == np.bool_ else value

    # ---- control ----

    def loop(
        self, start: Integer, stop: Integer, step: int, body: LoopBody, carry: Sequence[Value] = ()
    ) -> list[Value]:
        """for i in range(start, stop, step): carry = body(i, *carry); gives the last carry. Bounds are ints or i64."""
        if isinstance(start, int) and isinstance(stop, int):
            count = max(0, -(-(stop - start) // step))
            if count <= 1:
                return self._as_list(body(self.index(start), *carry)) if count else list(carry)
        first, last = (self.index(n) if isinstance(n, int) else n for n in (start, stop))
        before, function = self.block, self.function
        head, done = function.append_basic_block("loop"), function.append_basic_block("done")
        is_static = isinstance(start, int) and isinstance(stop, int)
        if is_static:
            self.branch(head)
        else:
            self.cbranch(self.icmp_signed("<", first, last), head, done)
        self.position_at_end(head)
        i = self.phi(i64)
        i.add_incoming(first, before)
        carried = [self.phi(value.type) for value in carry]
        for phi, value in zip(carried, carry, strict=True):
            phi.add_incoming(value, before)
        results = self._as_list(body(i, *carried))
        following = self.add(i, self.index(step), flags=("nsw",))
        end = self.block
        for phi, value in zip([i, *carried], [following, *results], strict=True):
            phi.add_incoming(value, end)
        self.cbranch(self.icmp_signed("<", following, last), head, done)
        self.position_at_end(done)
        if is_static:
            return results
        finals = [self.phi(value.type) for value in carry]
        for final, value, result in zip(finals, carry, results, strict=True):
            final.add_incoming(value, before)
            final.add_incoming(result, end)
        return [*finals]

    @staticmethod
    def _as_list(result: Value | Sequence[Value] | None) -> list[Value]:
        return [] if result is None else [result] if isinstance(result, Value) else list(result)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        with self.if_then(condition):
            yield


def new_module(name: str, target: Target) -> ir.Module:
    module = ir.Module(name)
    module.triple = target.triple
    return module


def new_function(
    module: ir.Module, name: str, arguments: Sequence[Type], target: Target, result: Type = void, *, apart: bool = False
) -> tuple[Function, Builder]:
    """A function and a builder at its start. apart: no two pointers overlap where one of them is written."""
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    function.attributes.add("nounwind")
    if apart:
        for argument in function.args:
            if argument.type == pointer:
                argument.add_attribute("noalias")
    return function, Builder(function.append_basic_block("entry"), target)


def machine(target: Target) -> binding.TargetMachine:
    if not target.triple.startswith(binding.get_default_triple().split("-")[0]):
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
    )


@overload
def compile_module(module: ir.Module, target: Target, *, assembly: Literal[False] = False) -> bytes: ...
@overload
def compile_module(module: ir.Module, target: Target, *, assembly: Literal[True]) -> str: ...
def compile_module(module: ir.Module, target: Target, *, assembly: bool = False) -> bytes | str:
    """A module as object code (bytes), or as assembly text. The text is always verified first."""
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    generator = machine(target)
    options = binding.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = binding.create_pass_builder(generator, options)
    passes.getModulePassManager().run(parsed, passes)
    code: bytes | str = generator.emit_assembly(parsed) if assembly else generator.emit_object(parsed)
    return code


_gone: list[tuple[binding.ResourceTracker, binding.LLJIT]] = []  # engines that nothing uses


def _one_gone() -> tuple[binding.ResourceTracker, binding.LLJIT] | None:
    """One of `_gone`; None where there is none. Another thread may have taken the last."""
    try:
        return _gone.pop()
    except IndexError:
        return None


class Code:
    """Object code in memory, with the addresses of the functions `names`. It stays in memory as long as this object lives.

    JITLink places a program's code and constants in one block: MCJIT places each where there is room, and aborts the process
    where they come to lie more than 2 GB apart.

    To free an engine takes a lock of llvmlite's, which a Ctrl-C in the middle would leave locked. So an engine that is no
    longer wanted is freed when the next one is made: in the thread that compiles, where no Ctrl-C strikes.
    """

    def __init__(self, object_code: bytes, names: Iterable[str]) -> None:
        for tracker, engine in iter(_one_gone, None):
            tracker.close()
            engine.close()
        engine = binding.create_lljit_compiler(machine(host()), use_jit_link=True)
        library = binding.JITLibraryBuilder().add_object_img(object_code).add_current_process()
        for name in names:
            library.export_symbol(name)
        self._tracker, self._engine = library.link(engine, "code"), engine

    def __del__(self) -> None:
        if "_engine" in self.__dict__ and _gone is not None:  # None at interpreter exit
            _gone.append((self._tracker, self._engine))

    def address(self, name: str) -> int:
        address: int = self._tracker[name]
        return address


def versions() -> str:
    """The versions and the target that object code depends on."""
    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, binding.llvm_version_info))}, {host()}"
