"""The passes of the CPU backend, in order: those for every backend, and those that choose the form its kernels want (floor 4)."""

from __future__ import annotations

from collections.abc import Callable

from ....ir.graph import Graph
from ....passes.partial_writes import join_partial_writes
from ....passes.pipeline import Pipeline
from ....passes.simplify import (
    common_subexpressions,
    dead_code,
    fold_constants,
    pads_to_concatenate,
    simplify,
    transpose_matmuls,
)
from .contractions import fold_reshapes_into_contractions, lower_convolutions
from .embedding_products import commute_gather_matmul
from .max_pooling import lower_max_pooling, mask_pooling_windows
from .one_hot import gather_to_onehot
from .reductions import split_large_reductions

PASSES: dict[str, Callable[..., Graph]] = {
    "dead code": dead_code,
    "partial writes": join_partial_writes,
    "constants": fold_constants,
    "extremes": lower_max_pooling,
    "small axis picks": gather_to_onehot,
    "convolutions": lower_convolutions,
    "joined places": pads_to_concatenate,
    "simplify": simplify,
    "masked windows": mask_pooling_windows,
    "transposed products": transpose_matmuls,
    "absorbed movements": fold_reshapes_into_contractions,
    "lookups": commute_gather_matmul,
    "simplified movements": simplify,
    "long sums": split_large_reductions,
    "common subexpressions": common_subexpressions,
    "simplify again": simplify,
}

CPU_PIPELINE = Pipeline(
    PASSES, by_row=("convolutions", "absorbed movements", "long sums"), after_hoisting=("absorbed movements",)
)
