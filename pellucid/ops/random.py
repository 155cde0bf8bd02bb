"""Counter-based random bits (Philox): the only source of random numbers, eager and compiled (floor 2).

Element i of call c with seed s is a pure function of (s, c, i): Philox-4x32-10 of Salmon, Moraes, Dror and Shaw,
"Parallel random numbers: as easy as 1, 2, 3" (2011). So a mask can be drawn again
instead of stored, and the order and the number of threads do not matter. The generator that counts the calls is in
`pellucid/random.py`, with the distributions.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.op import Op, SampleInputs
from ..core.value import Shaped, Spec

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(seed: int, call: int, blocks: int) -> np.ndarray:
    """Blocks 0 ... blocks-1 of four 32-bit words each -> (blocks, 4) uint32. Key: the seed; counter: (block, call)."""
    index = np.arange(blocks, dtype=np.uint64)
    call_words = (np.uint64(call & 0xFFFFFFFF), np.uint64(call >> 32 & 0xFFFFFFFF))
    words = [index & LOW, index >> HALF, np.full(blocks, call_words[0]), np.full(blocks, call_words[1])]
    return np.stack(rounds(words, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), axis=1).astype(np.uint32)


def rounds(words: list[np.ndarray], key0: int, key1: int) -> list[np.ndarray]:
    """The ten Philox rounds on four words, each a uint64 array holding 32 bits."""
    a, b, c, d = words
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            right >> HALF ^ b ^ np.uint64(key0), right & LOW,
            left >> HALF ^ d ^ np.uint64(key1), left & LOW,
        )  # fmt: skip
        key0, key1 = key0 + WEYL[0] & 0xFFFFFFFF, key1 + WEYL[1] & 0xFFFFFFFF
    return [a, b, c, d]


class RandomBits(Op):
    """state (2,) int64 = (seed, call) -> `shape` of uint32, every bit 0 or 1 with probability 1/2. No gradient."""

    kind = "random"
    same_dtype = False

    def infer(self, state: Shaped, *, shape: tuple[int, ...]) -> Spec:
        return Spec(shape, np.dtype(np.uint32))

    def forward(self, state: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        count = math.prod(shape)
        return philox(int(state[0]), int(state[1]), -(-count // 4)).reshape(-1)[:count].reshape(shape)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shape in [(), (7,), (0,), (3, 4)]:
            yield [np.array([7, 3])], {"shape": shape}


random_bits = RandomBits("random_bits")
