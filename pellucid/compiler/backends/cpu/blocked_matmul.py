"""Blocked matmul in NumPy, for products without a kernel, such as float64, in a fixed order of sums (floor 4).

BLAS chooses its kernel, and with it the order of a sum, by the shapes of its operands. Blocks of one shape, padded with
zeros, make each element depend on its row and column alone.
"""

from __future__ import annotations

import math

import numpy as np

from ....core.value import Symbol
from .prepare.contractions import labels

BLOCK_SIZE = 32  # rows, and columns, of a block


def blocked_matmul(product: Symbol, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product (matmul or dot_general) of a and b, in blocks of rows of both."""
    sides = labels(product)
    sizes: dict[str | None, int] = {
        k: n for side, x in zip(sides, (a, b), strict=False) for k, n in zip(side, x.shape, strict=True) if k
    }
    summed = [k for k in sides[0] if k and k not in sides[2]]
    shared = [k for k in sides[2] if k in sides[0] and k in sides[1]]
    own = [[k for k in sides[2] if k in side and k not in shared] for side in sides[:2]]
    size = lambda letters: math.prod(sizes[k] for k in letters)
    blocks = [
        _blocks(_ordered(x, side, [*shared, *mine, *summed]).reshape(size(shared), size(mine), size(summed)))
        for x, side, mine in zip((a, b), sides[:2], own, strict=True)
    ]
    # (shared, I, 1, BLOCK, k) @ (shared, 1, J, k, BLOCK) -> (shared, I, J, BLOCK, BLOCK)
    y = np.matmul(blocks[0][:, :, None], blocks[1][:, None].swapaxes(-1, -2))
    y = y.swapaxes(2, 3).reshape(size(shared), y.shape[1] * BLOCK_SIZE, y.shape[2] * BLOCK_SIZE)
    y = y[:, : size(own[0]), : size(own[1])].reshape([sizes[k] for k in (*shared, *own[0], *own[1])])
    return np.ascontiguousarray(_ordered(y, [*shared, *own[0], *own[1]], sides[2]))


def _ordered(x: np.ndarray, letters: object, wanted: object) -> np.ndarray:
    """x with its axes, named by `letters`, in the order `wanted`; those without a letter, of size 1, are left out."""
    named = [k for k in letters if k is not None]  # type: ignore[attr-defined]
    x = x.reshape([n for n, k in zip(x.shape, letters, strict=True) if k is not None])  # type: ignore[call-overload]
    return x.transpose([named.index(k) for k in wanted])  # type: ignore[attr-defined]


def _blocks(x: np.ndarray) -> np.ndarray:
    """x (S, R, K) as (S, I, BLOCK, K), with rows of zeros at the end."""
    count = -(-x.shape[1] // BLOCK_SIZE)
    whole = np.zeros((x.shape[0], count * BLOCK_SIZE, x.shape[2]), x.dtype)
    whole[:, : x.shape[1]] = x
    return whole.reshape(x.shape[0], count, BLOCK_SIZE, x.shape[2])
