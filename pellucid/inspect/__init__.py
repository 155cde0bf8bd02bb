"""Inspection of networks: what they read, hold and say; nothing here trains (floor 6)."""

from .attention import attention_maps
from .cache import Cache, patched, run_with_cache
from .curvature import Curvature, curvature
from .entries import Entries, entries
from .filters import first_filters
from .landscape import Landscape, Line, Slice, loss_line, loss_slice
from .question import Question
from .summary import Row, Summary, summary
from .undisturbed import restored, undisturbed

__all__ = [
    "Cache",
    "Curvature",
    "Entries",
    "Landscape",
    "Line",
    "Question",
    "Row",
    "Slice",
    "Summary",
    "attention_maps",
    "curvature",
    "entries",
    "first_filters",
    "loss_line",
    "loss_slice",
    "patched",
    "restored",
    "run_with_cache",
    "summary",
    "undisturbed",
]
