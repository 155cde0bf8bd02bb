"""Inspection of networks: what they read, hold and say; nothing here trains (floor 6)."""

from .attention import attention_maps
from .cache import Cache, patched, run_with_cache
from .entries import Entries, entries
from .filters import first_filters
from .influence import TrainingRows, WeightSet, tracin
from .question import Question
from .summary import Row, Summary, summary
from .undisturbed import restored, undisturbed

__all__ = [
    "Cache",
    "Entries",
    "Question",
    "Row",
    "Summary",
    "TrainingRows",
    "WeightSet",
    "attention_maps",
    "entries",
    "first_filters",
    "patched",
    "restored",
    "run_with_cache",
    "summary",
    "tracin",
    "undisturbed",
]
