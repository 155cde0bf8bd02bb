"""The passes of the CPU backend, in order: those for every backend, and those that choose the form its kernels want (floor 4)."""

from __future__ import annotations

from collections.abc import Callable

from ....ir.graph import Graph
from ....passes.partial_writes import partial_writes
from ....passes.pipeline import Pipeline
from ....passes.simplify import (
    common_subexpressions,
    constants,
    dead_code,
    joined_places,
    simplify,
    transposed_products,
)
from .contractions import absorbed_movements, convolutions
from .embedding_products import looked_up
from .max_pooling import extremes, masked_windows
from .one_hot import small_axis_picks
from .reductions import long_sums

PASSES: dict[str, Callable[..., Graph]] = {
    "dead code": dead_code,
    "partial writes": partial_writes,
    "constants": constants,
    "extremes": extremes,
    "small axis picks": small_axis_picks,
    "convolutions": convolutions,
    "joined places": joined_places,
    "simplify": simplify,
    "masked windows": masked_windows,
    "transposed products": transposed_products,
    "absorbed movements": absorbed_movements,
    "lookups": looked_up,
    "simplified movements": simplify,
    "long sums": long_sums,
    "common subexpressions": common_subexpressions,
    "simplify again": simplify,
}

CPU_PIPELINE = Pipeline(
    PASSES, by_row=("convolutions", "absorbed movements", "long sums"), after_hoisting=("absorbed movements",)
)
