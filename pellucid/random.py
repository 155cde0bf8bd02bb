"""Random numbers: the Generator, the stream in use, and distributions (floor 3).

Every number is a function of (seed, call, position): see `ops/random.py`. The state is a Tensor, read and assigned like
any other, so a traced step finds it. Integers, uniforms, masks and permutations have the same bits everywhere;
normals use log and cos and may differ by a few units in the last place between machines.
"""

from __future__ import annotations

import math
import secrets
import threading
from contextvars import ContextVar
from typing import Any

import numpy as np

from .arguments import Sizes, as_dtype, int64, shape_of
from .core.value import DTypeLike, current_tracer, default_dtype
from .creation import tensor
from .errors import DTypeError, OptionError
from .grad_mode import Mode, no_grad
from .ops.elementwise import add, cast, floor_divide
from .ops.random import random_bits
from .tensor import DeviceLike, Tensor, check_device


class Generator:
    """A stream of random numbers: state = (seed, calls so far), an int64 Tensor of shape (2,).

    Threads may draw from one at once: each draw is another call, but which thread gets which call depends on their speed.
    For the same numbers in every run, give each thread a separate Generator.
    """

    def __init__(self, seed: int = 0, device: DeviceLike | None = None) -> None:
        self.state = tensor([_signed(seed), 0], dtype=int64, device=device)
        self.state.lock = threading.RLock()

    def manual_seed(self, seed: int) -> Generator:
        """Start over from `seed`, call 0."""
        with self._locked():
            self.state.assign(np.array([_signed(seed), 0]))
        return self

    def seed(self) -> int:
        """Start over from a seed of the operating system; returns it."""
        fresh = secrets.randbits(48)
        self.manual_seed(fresh)
        return fresh

    def initial_seed(self) -> int:
        """The seed as int64 holds it."""
        return int(self.get_state().array[0])

    def get_state(self) -> Tensor:
        """A copy of the state: int64 (2,)."""
        with self._locked():
            return self.state.clone()

    def set_state(self, state: Tensor) -> None:
        """Continue from `state`. Raises OptionError unless it is int64 (2,)."""
        if not isinstance(state, Tensor) or state.shape != (2,) or state.dtype != int64:
            came = f"{state.shape} {state.dtype}" if isinstance(state, Tensor) else f"a {type(state).__name__}"
            raise OptionError(f"set_rng_state: {came}; expected the (2,) int64 that get_rng_state gave; pass that one")
        with self._locked():
            self.state.assign(state)

    def clone_state(self) -> Generator:
        """An independent Generator with the present state."""
        clone = Generator()
        clone.set_state(self.get_state())
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        return self.clone_state()

    def __reduce__(self) -> tuple[object, tuple[int, ...]]:
        return _restored, tuple(self.get_state().tolist())

    def __repr__(self) -> str:
        seed, calls = self.get_state().tolist()
        return f"Generator(seed={seed}, calls={calls})"

    def bits(self, *size: int) -> Tensor:
        """uint32 numbers of shape `size`, every bit 0 or 1 with probability 1/2; advances the state by one call."""
        with self._locked(), no_grad():
            drawn = random_bits(self.state, shape=size)
            # Not `assign`, which a scan forbids: the counter may advance in its body.
            self.state.rebind(add(self.state, Tensor(np.array([0, 1]))).array)
        return drawn

    def _locked(self) -> threading.RLock:
        """The lock to hold while the state is read and advanced, so that no two draws are of one call.

        Compiled programs that draw from this Generator hold it while they run. A recording holds it to its end, since until
        then the state has no numbers.
        """
        lock = self.state.lock
        assert lock is not None  # made with the state
        active = current_tracer()
        if active is not None:
            active.hold_lock(lock)
        return lock


def _restored(seed: int, calls: int) -> Generator:
    generator = Generator(seed)
    generator.state.assign(np.array([seed, calls]))
    return generator


def _signed(seed: int) -> int:
    """The seed's low 64 bits as int64 holds them."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise OptionError(f"seed: {seed!r}; expected a whole number; pass 0, say")
    low = int(seed) & 0xFFFFFFFFFFFFFFFF
    return low - (1 << 64) if low >= 1 << 63 else low


# ---- the stream of this context ------------------------------------------------------------------------------------------

default_generator = Generator(0)
_current: ContextVar[Generator] = ContextVar("generator", default=default_generator)


class use_generator(Mode):
    """A block, or a decorator, in which everything that draws without `generator=` draws from this Generator.

    So weights, dropout, shuffles and `rand` inside use a separate stream, and the global one does not advance. Another thread
    is not inside: it enters a block itself.
    """

    variable = _current

    def __init__(self, generator: Generator) -> None:
        self.value = stream(generator)

    def copy(self) -> use_generator:
        """Another block with the same Generator."""
        return use_generator(self.value)


def fork_rng() -> use_generator:
    """A block that draws the numbers that would come next; after it the stream continues from before the block."""
    return use_generator(_current.get().clone_state())


def stream(generator: Generator | None = None) -> Generator:
    """`generator`, else the one in use here: of the innermost `use_generator`, or `default_generator`."""
    if generator is None:
        return _current.get()
    if not isinstance(generator, Generator):
        raise OptionError(f"generator: {generator!r:.80}; expected a Generator; write Generator().manual_seed(0), say")
    return generator


def manual_seed(seed: int) -> Generator:
    """Start the stream in use here over from `seed`; the same seed gives the same numbers."""
    return stream().manual_seed(seed)


def seed() -> int:
    """Start the stream in use here over from a seed of the operating system; returns it."""
    return stream().seed()


def initial_seed() -> int:
    """The seed of the stream in use here."""
    return stream().initial_seed()


def get_rng_state() -> Tensor:
    """The state of the stream in use here: int64 (2,), its seed and the calls so far."""
    return stream().get_state()


def set_rng_state(state: Tensor) -> None:
    """Continue the stream in use here from `state`. Raises OptionError unless it is what `get_rng_state` gave."""
    stream().set_state(state)


# ---- distributions -------------------------------------------------------------------------------------------------------


def uniform_from(generator: Generator | None, size: tuple[int, ...], dtype: DTypeLike | None = None) -> Tensor:
    """Uniform in [0, 1): the upper 24 bits of a word for float32, 53 bits of two words for float64."""
    dtype = as_dtype(dtype or default_dtype)
    if dtype.kind != "f":
        raise DTypeError(
            f"random numbers from 0 to 1: {dtype}; expected float32 or float64; draw whole numbers with randint"
        )
    source = stream(generator)
    with no_grad():
        if dtype == np.float64:
            high, low = source.bits(2, *size).unbind(0)
            high, low = cast(floor_divide(high, 32), dtype=dtype), cast(floor_divide(low, 64), dtype=dtype)
            return (high * 67108864.0 + low) * 2.0**-53
        return cast(floor_divide(source.bits(*size), 256), dtype=dtype) * 2.0**-24


def rand(
    *size: Sizes,
    dtype: DTypeLike | None = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
    device: DeviceLike | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    check_device(device)
    result = uniform_from(generator, shape_of(size), dtype)
    return result.requires_grad_() if requires_grad else result


def randn(
    *size: Sizes,
    dtype: DTypeLike | None = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
    device: DeviceLike | None = None,
) -> Tensor:
    """Standard normal numbers (Box and Muller 1958): sqrt(-2 log(1 - u)) cos(2 pi v) for uniform u, v."""
    check_device(device)
    shape = shape_of(size)
    with no_grad():
        u, v = uniform_from(generator, shape, dtype), uniform_from(generator, shape, dtype)
        result = ((1 - u).log() * -2).sqrt() * (v * (2 * math.pi)).cos()
    return result.requires_grad_() if requires_grad else result


def randint(
    low: int,
    high: Any = None,
    size: tuple[int, ...] | list[int] | None = None,
    *,
    dtype: DTypeLike | None = None,
    generator: Generator | None = None,
    device: DeviceLike | None = None,
) -> Tensor:
    """Whole numbers in [low, high), int64: `randint(10, (3,))` or `randint(2, 10, (3,))`; at most 2**31 of them.

    The remainder of a 32-bit word: uneven by at most (high - low) / 2**32.
    """
    check_device(device)
    if size is None or high is None:
        low, high, size = 0, low, high if size is None else size
    if not isinstance(size, tuple | list) or not all(isinstance(n, int | np.integer) for n in (low, high)):
        raise OptionError(
            f"randint: from {low!r} to {high!r}, size {size!r}; expected whole numbers and a tuple; write randint(10, (3,))"
        )
    span = high - low
    if not 0 < span <= 2**31:
        raise OptionError(
            f"randint: from {low} to below {high}; expected 1 to 2**31 numbers between; check low and high"
        )
    with no_grad():
        words = cast(stream(generator).bits(*shape_of(size)), dtype=int64)
        result = words % span + low
    return result if dtype is None else result.to(dtype)


def randperm(n: int, *, generator: Generator | None = None, device: DeviceLike | None = None) -> Tensor:
    """The numbers 0 ... n-1 in random order, int64: the order that sorts n random 62-bit keys."""
    check_device(device)
    shape_of((n,))  # refuses what is no count
    with no_grad():
        high, low = (cast(word, dtype=int64) for word in stream(generator).bits(2, n).unbind(0))
        return (floor_divide(high, 2) * 2147483648 + floor_divide(low, 2)).argsort(0)


def bernoulli(p: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0, for every number of p; in p's dtype."""
    return (uniform_from(generator, p.shape, p.dtype) < p).to(p.dtype)


def keep_mask(size: tuple[int, ...], keep: float, generator: Generator | None = None) -> Tensor:
    """A bool mask, true with probability `keep` to 32 bits: what dropout multiplies by."""
    with no_grad():
        threshold = np.asarray(min(round(keep * 2**32), 2**32 - 1), np.uint32)
        return stream(generator).bits(*size) <= Tensor(threshold)


def multinomial(
    weights: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Positions drawn with probability proportional to `weights` (K,) or (B, K) -> int64 (num_samples,) or (B, num_samples).

    The largest of log(weight) + Gumbel noise (Gumbel 1954; without replacement, Vieira 2014).
    """
    with no_grad():
        shape = (num_samples, *weights.shape) if replacement else weights.shape
        noise = -(-(1 - uniform_from(generator, shape, np.float64)).log()).log()
        keys = weights.to(np.float64).log() + noise
        if not replacement:
            if num_samples > weights.shape[-1]:
                raise OptionError(
                    f"multinomial: {num_samples} of {weights.shape[-1]} without replacement; expected no more than there are; "
                    "pass replacement=True"
                )
            return keys.topk(num_samples, -1).indices
        return keys.argmax(-1).movedim(0, -1)


def rand_like(x: Tensor, **options: Any) -> Tensor:
    """Uniform numbers in [0, 1) in the shape and dtype of x."""
    return rand(*x.shape, dtype=options.pop("dtype", x.dtype), **options)


def randn_like(x: Tensor, **options: Any) -> Tensor:
    """Standard normal numbers in the shape and dtype of x."""
    return randn(*x.shape, dtype=options.pop("dtype", x.dtype), **options)


def _uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Write uniform numbers in [a, b) into this Tensor."""
    return self.write(uniform_from(generator, self.shape, self.dtype) * (b - a) + a)


def _normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Write normal numbers with this mean and standard deviation into this Tensor."""
    return self.write(randn(*self.shape, dtype=self.dtype, generator=generator) * std + mean)


# The two in-place methods that draw random numbers; `tensor/` stands below this file and cannot import it.
Tensor.uniform_ = _uniform_
Tensor.normal_ = _normal_
