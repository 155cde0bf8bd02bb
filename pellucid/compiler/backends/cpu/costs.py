"""Cache sizes and costs: the numbers by which the compiler chooses, of a processor and alike for all (floor 4).

A `Target` has its own `CacheSizes`, `Costs`, `ProductCosts` and `TileSizes`. This file needs no LLVM.
"""

from __future__ import annotations

from dataclasses import dataclass

# Alike for all targets.
CACHE_LINE = 64  # bytes, and those of the widest vector
ENOUGH_UNITS = 16  # units of an axis that keep every thread busy
SMALL_AXIS = 256  # the longest axis along which a gather is replaced by comparisons
UNROLLED_WINDOW = 16  # elements of a pooling window whose argmax is unrolled, at most

# Alike for all targets, since they decide in which order numbers are added up.
LONG_CONTRACTION = 4096  # terms: a longer sum is made in K blocks, and nothing fuses with its kernel
K_BLOCK_TERMS = 512  # terms of a K block, about
LARGE_REDUCTION = 1 << 15  # elements: a longer sum into one number is made in two stages


@dataclass(frozen=True)
class CacheSizes:
    """What stays in which cache of a core, and on the stack."""

    l2: int = 1 << 21  # bytes: panels of a matmul that stay in cache while all rows pass by
    array: int = 1 << 14  # elements: a larger array leaves the core's cache before the next kernel
    row: int = 1 << 13  # elements of a row that stay in cache between passes over it
    stack: int = 1 << 18  # bytes of the stack for what later passes over a row read; it is small in some threads
    conflict_stride: int = 512  # bytes: rows a multiple of this apart fall into few cache sets, so they are padded


@dataclass(frozen=True)
class Costs:
    """What decides how operations are grouped into kernels, and kernels shared among threads."""

    parallel_flops: int = 1 << 15  # operations: a kernel with fewer runs faster on one thread
    parallel_product_flops: int = 1 << 16  # the same for a product
    flop_bytes: int = 2  # bytes moved that take as long as one operation
    parallel_rows: int = 8  # rows of a fused row operation, at least, so that there is work for several threads
    early_free: int = 1 << 20  # bytes: a kernel that frees as much runs as early as it can
    copied_input: int = 1 << 24  # bytes: a larger array, such as a data set, is used where it lies
    rematerialized: int = 32  # operations that one kernel computes again, at most
    small_share: int = 4  # an array this many times smaller than what is computed again costs nothing to read
    contiguous_access: int = 2  # what an operand of a loop gains that is contiguous along the lanes
    strided_access: int = 8  # what it loses where it is not, nor the same for all lanes
    wasted_lanes: int = 2  # what it loses for as many empty lanes as full ones
    pauses: int = 100  # spins before a waiting thread yields the processor: about 5 us
    fma_chains: int = 20  # independent multiply-adds that hide how long one takes


@dataclass(frozen=True)
class ProductCosts:
    """What decides the orientation of a matrix product, in numbers moved: one is a read or a write of a float32."""

    copy: int = 2  # numbers moved per element of a copy
    copy_through_memory: int = 8  # numbers moved per element of a large copy
    large_copy: int = 1 << 20  # elements: a larger copy goes through memory
    across_lanes: int = 4  # numbers moved per element that an epilogue reads or writes across the lanes
    short_rows: int = 4  # numbers moved per element whose epilogue has rows shorter than a vector
    empty_lanes: int = 3  # multiply-adds in empty lanes that cost as much as one number moved
    crossed_lines: int = 16  # multiply-adds whose vectors cross cache lines, as those of overlapping windows, likewise
    full_rows: int = 6  # rows of a tile: one of fewer loads more than it multiplies
    missing_rows: int = 64  # multiply-adds with one row fewer that cost as much as one number moved
    dot_terms: int = 8  # terms of sums along the lanes that cost as much as one number moved
    transposed_terms: int = 6  # terms that are transposed in registers, likewise


@dataclass(frozen=True)
class TileSizes:
    """Of tiles, beside the rows and vectors of a `Target`."""

    unrolled_epilogue: int = 5  # instructions: a longer epilogue is a loop over the rows of a tile
    attention_rows: int = 8  # at most: enough sums in flight, and few of them idle at a ragged end
    attention_queries: int = 16  # of a block, where the lanes allow: more compute what a causal block leaves out
    attention_tiles: int = 16  # tiles of keys in a block
