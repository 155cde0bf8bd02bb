"""The pipeline of the CPU backend: its passes by name, in order (floor 4)."""

from __future__ import annotations

from functools import partial

from ....ir.rewrite import Pass
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

# A pass without a wish of its own stands behind "constant folding".
PASSES: dict[str, Pass] = {
    "dead code": dead_code,
    "partial writes": join_partial_writes,
    "constant folding": fold_constants,
    # Argmax and gather as they were traced, before anything moves them.
    "max pooling": lower_max_pooling,
    "gather to one-hot": gather_to_onehot,
    "convolutions": lower_convolutions,
    "pads to concatenate": pads_to_concatenate,
    "simplify": simplify,  # reshapes and other movements; it runs again behind passes that make some
    "masked windows": mask_pooling_windows,
    # Products find their final axes here.
    "transpose matmuls": transpose_matmuls,
    "fold reshapes": fold_reshapes_into_contractions,
    "embedding products": commute_gather_matmul,
    "simplify reshapes": simplify,
    "split reductions": split_large_reductions,
    "common subexpressions": common_subexpressions,
    "simplify again": simplify,
}

# Where the shape of a row alone decides the order of its sums.
BY_ROW: dict[str, Pass] = {
    "convolutions": partial(lower_convolutions, by_row=True),
    "fold reshapes": partial(fold_reshapes_into_contractions, by_row=True),
    "split reductions": partial(split_large_reductions, by_row=True),
}

CPU_PIPELINE = Pipeline(PASSES, BY_ROW, after_hoisting=frozenset({"fold reshapes"}))
